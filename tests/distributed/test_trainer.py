"""The Trainer on several processes: one decision, and the training of one process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from chts_hf import CHTsCallback, CHTsConfig
from chts_hf import callback as events
from chts_hf.checkpoint import mask_file
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


# -- what goes wrong with the files of one rank stops all -----------------------------------------


def _refuses(*_: Any, **__: Any) -> None:
    raise OSError("No space left on device")


def _file_errors(rank: int, folder: str) -> dict[str, str]:
    """Case → how a run with checkpoints ended on this rank."""
    found = {}
    for case in ("full disk", "full disk before", "unseen best", "no masks"):
        callback = CHTsCallback(CHTsConfig(method="set", sparsity=0.8, update_interval=2))

        class Unseen(TrainerCallback):
            def on_save(self, args, state, control, case=case, **kwargs):
                if case == "unseen best" and args.process_index == 1:
                    state.best_model_checkpoint = None  # as on a machine with its own disk

        save_file, load_masks = mask_file.save_file, events.load_masks
        if case.startswith("full disk") and rank == 0:
            mask_file.save_file = _refuses
        if case == "no masks" and rank == 1:
            events.load_masks = _refuses
        last = f"{folder}/unseen best/checkpoint-4" if case == "no masks" else None
        try:
            trainer = tiny_trainer(
                Path(folder) / ("unseen best" if last else case),
                [callback, Unseen()],
                steps=6,
                ddp_backend="gloo",
                eval_strategy="steps",
                eval_steps=2,
                save_strategy="steps",
                save_steps=2,
                save_total_limit=None if case == "full disk" else 3,
                load_best_model_at_end=case == "unseen best",
            )
            trainer.train(resume_from_checkpoint=last)
            found[case] = "trained"
        except (OSError, RuntimeError) as error:
            found[case] = str(error)
        finally:
            mask_file.save_file, events.load_masks = save_file, load_masks
        torch.distributed.barrier()
    return found


def test_files_that_one_rank_can_not_write_or_read_stop_all(tmp_path):
    first, second = run_ranks(_file_errors, 2, str(tmp_path), timeout=120)
    for case, task in (("full disk", "write the masks of"), ("full disk before", "prepare")):
        assert "could not be written" in first[case]
        assert second[case] == f"rank 0 could not {task} a checkpoint; see its error"
    assert first["unseen best"] == second["unseen best"] == "trained"
    assert first["no masks"] == "rank 1 could not read the masks to go on from; see its error"
    assert second["no masks"] == "No space left on device"
