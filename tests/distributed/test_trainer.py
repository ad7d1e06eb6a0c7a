"""The Trainer on several processes: one decision, and the training of one process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from chts_hf import CHTsCallback, CHTsConfig
from chts_hf.distributed.exchange import register_sparse_exchange
from chts_hf.translation.loss import TokenLoss
from tests.builders import tiny_trainer
from tests.processes import run_ranks

pytestmark = pytest.mark.distributed


def _train(
    rank: int, folder: str, method: str, exchange: bool = False, drift: bool = False
) -> dict[str, Any]:
    """Nine steps of two micro-batches; the global batch is the same for any number of ranks."""
    callback = CHTsCallback(CHTsConfig(method=method, sparsity=0.9, update_interval=3))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    sent: dict[str, Any] = {}

    class Extra(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            if exchange:
                sent["exchange"] = register_sparse_exchange(
                    trainer.model_wrapped, callback.sparsifier
                )

        def on_step_begin(self, args, state, control, **kwargs):
            if drift and state.global_step == 2 and args.process_index == 1:
                mask = callback.sparsifier.masks["model.decoder.layers.0.fc1.weight"]
                mask[0] = ~mask[0]

    settings = {"ddp_backend": "gloo"} if world > 1 else {}
    trainer = tiny_trainer(
        Path(folder),
        [callback, Extra()],
        steps=12,
        per_device_train_batch_size=4 // world,
        gradient_accumulation_steps=2,
        train_sampling_strategy="sequential",
        compute_loss_func=TokenLoss(),
        optim="sgd",
        max_grad_norm=0.5,
        **settings,
    )
    trainer.train()
    assert callback.sparsifier is not None
    counts = sent.get("exchange")
    return {
        "world": trainer.args.world_size,
        "updates": callback.sparsifier.updates,
        "masks": {n: m.clone() for n, m in callback.sparsifier.masks.items()},
        "weights": {n: p.detach().clone() for n, p in trainer.model.named_parameters()},
        "bytes": counts and (counts.sent_bytes, counts.dense_bytes),
    }


def _assert_one(one: dict[str, Any], ranks: list[Any]) -> None:
    for rank in ranks:
        assert isinstance(rank, dict), rank
        assert rank["world"] == len(ranks)
        assert rank["updates"] == one["updates"] == 3
        for name, mask in one["masks"].items():
            assert torch.equal(rank["masks"][name], mask), name
        for name, weight in one["weights"].items():
            assert torch.equal(rank["weights"][name], ranks[0]["weights"][name]), name
            torch.testing.assert_close(rank["weights"][name], weight, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "exchange"),
    [("chts", False), ("rigl", True), pytest.param("chts", True, marks=pytest.mark.slow)],
)
def test_two_processes_are_one_with_twice_the_batch(tmp_path, method, exchange):
    """RigL's included, whose gradients are then those of the whole batch over both ranks."""
    one = _train(0, str(tmp_path / "one"), method)
    ranks = run_ranks(_train, 2, str(tmp_path / "two"), method, exchange)
    _assert_one(one, ranks)
    if exchange:
        sent, dense = ranks[0]["bytes"]
        assert sent <= 0.12 * dense


@pytest.mark.slow
def test_four_processes_are_one_with_four_times_the_batch(tmp_path):
    one = _train(0, str(tmp_path / "one"), "chts")
    _assert_one(one, run_ranks(_train, 4, str(tmp_path / "four"), "chts", True))


def test_masks_that_differ_stop_the_run(tmp_path):
    for error in run_ranks(_train, 2, str(tmp_path), "set", False, True):
        assert "the masks of model.decoder.layers.0.fc1.weight differ between ranks" in error
