"""The Trainer with FSDP2: sharded by accelerate, and otherwise the training of one process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import AutoModelForSeq2SeqLM, TrainerCallback

from chts_hf import CHTsCallback, CHTsConfig, last_complete_checkpoint
from chts_hf.analysis.history import read_history
from chts_hf.analysis.logger import TopologyLogger
from chts_hf.checkpoint.gathered_save import whole_weights
from chts_hf.checkpoint.inspection import inspect_file
from chts_hf.checkpoint.mask_file import load_masks
from chts_hf.distributed.layout import is_sharded
from chts_hf.runs.recipe import MaskSnapshot
from chts_hf.runs.report import parameter_counts
from chts_hf.state import whole_masks
from chts_hf.translation.loss import TokenLoss
from tests.builders import tiny_marian, tiny_trainer
from tests.distributed.sharding import have_accelerate_shard_on_cpus
from tests.processes import run_ranks

pytestmark = pytest.mark.distributed

UNTIED = {"tie_word_embeddings": False, "share_encoder_decoder_embeddings": False}
BATCH = 4  # over all processes


def _trainer(
    folder: str, method: str = "chts", tied: bool = True, kind: str | None = None, **changes: Any
) -> tuple[Any, CHTsCallback]:
    """A Trainer on any number of processes, sharded if they are several.

    Args:
        folder: its output.
        method: of sparse training.
        tied: whether all embeddings of the model are one.
        kind: of checkpoints with FSDP.
        **changes: of the Trainer's arguments.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    settings: dict[str, Any] = {}
    if world > 1:
        have_accelerate_shard_on_cpus()
        sharding = {"version": 2, "state_dict_type": kind or "FULL_STATE_DICT"}
        settings = {"ddp_backend": "gloo", "fsdp": True, "fsdp_config": sharding}
    callback = CHTsCallback(CHTsConfig(method=method, sparsity=0.8, update_interval=2))
    settings |= {
        "steps": 8,
        "per_device_train_batch_size": BATCH // world,
        "train_sampling_strategy": "sequential",
        "compute_loss_func": TokenLoss(),
    }
    model = tiny_marian(**({} if tied else UNTIED))
    return tiny_trainer(Path(folder), [callback], model, **settings | changes), callback


def _found(trainer: Any, callback: CHTsCallback) -> dict[str, Any]:
    """What a run came to; weights and masks on the first process only."""
    sparsifier = callback.sparsifier
    assert sparsifier is not None
    return {
        "world": trainer.args.world_size,
        "sharded": is_sharded(trainer.model),
        "updates": sparsifier.updates,
        "sparsity": sparsifier.stats()["sparsity"],
        "masks": whole_masks(sparsifier.layout, sparsifier.masks),
        "weights": {n: w.detach().clone() for n, w in whole_weights(trainer.model).items()},
        "log": [entry for entry in trainer.state.log_history if "eval_loss" in entry],
    }


def _first(ranks: list[Any]) -> dict[str, Any]:
    for rank in ranks:
        assert isinstance(rank, dict), rank
        assert rank["world"] == len(ranks)
        assert rank["sharded"]
    return ranks[0]


def _assert_same(one: dict[str, Any], other: dict[str, Any], **tolerance: float) -> None:
    assert one["updates"] == other["updates"]
    for name, mask in one["masks"].items():
        assert int(mask.sum()) == round(0.2 * mask.numel()), name
        assert torch.equal(mask, other["masks"][name]), name
    for name, weight in one["weights"].items():
        torch.testing.assert_close(
            other["weights"][name], weight, **tolerance or {"rtol": 0, "atol": 0}
        )


# -- training -------------------------------------------------------------------------------------


def _train(rank: int, folder: str, method: str, tied: bool) -> dict[str, Any]:
    trainer, callback = _trainer(
        folder,
        method,
        tied,
        gradient_accumulation_steps=2,
        per_device_train_batch_size=BATCH // int(os.environ.get("WORLD_SIZE", "1")) // 2,
        optim="sgd",
        max_grad_norm=0.5,
        eval_strategy="steps",
        eval_steps=3,
        per_device_eval_batch_size=1,
        predict_with_generate=True,
        generation_max_length=12,
    )

    class Zeros(TrainerCallback):
        def on_step_end(self, args, state, control, model, **kwargs):
            for name, weight in model.named_parameters():
                mask = callback.sparsifier.masks.get(name)
                if mask is not None:
                    here = weight.to_local() if isinstance(weight, DTensor) else weight
                    assert (here.detach()[~mask] == 0).all(), name

    trainer.add_callback(Zeros())
    trainer.train()
    return _found(trainer, callback)


@pytest.mark.parametrize(
    ("method", "tied"), [("chts", True), pytest.param("rigl", False, marks=pytest.mark.slow)]
)
def test_two_processes_with_shards_are_one_process(tmp_path, method, tied):
    """Gradients are clipped and accumulated, and evaluations translate in the midst of it."""
    one = _train(0, str(tmp_path / "one"), method, tied)
    two = _first(run_ranks(_train, 2, str(tmp_path / "two"), method, tied))
    assert one["updates"] == 3
    _assert_same(one, two, rtol=1e-4, atol=1e-6)
    assert [entry["step"] for entry in two["log"]] == [3, 6, 8]
    for entry, other in zip(one["log"], two["log"], strict=True):
        assert entry["topology/sparsity"] == other["topology/sparsity"]


# -- checkpoints ----------------------------------------------------------------------------------


def _save_and_resume(rank: int, folder: str, tied: bool, kind: str) -> dict[str, Any]:
    settings = {"save_strategy": "steps", "save_steps": 3, "save_total_limit": 3}
    trainer, callback = _trainer(f"{folder}/run", tied=tied, kind=kind, **settings)
    trainer.train()
    trainer.save_model(f"{folder}/model")
    if rank == 0:
        with pytest.raises(ValueError, match=r"sharded over processes; trainer.save_model"):
            trainer.model.save_pretrained(f"{folder}/lone")
    whole = _found(trainer, callback)
    trainer, callback = _trainer(f"{folder}/run", tied=tied, kind=kind)
    trainer.train(resume_from_checkpoint=f"{folder}/run/checkpoint-3")
    return whole | {"again": _found(trainer, callback)}


def _resume(rank: int, folder: str, kind: str) -> dict[str, Any]:
    trainer, callback = _trainer(f"{folder}/run", kind=kind)
    trainer.train(resume_from_checkpoint=f"{folder}/run/checkpoint-3")
    return _found(trainer, callback)


@pytest.mark.parametrize(
    ("kind", "tied"),
    [pytest.param("FULL_STATE_DICT", False, marks=pytest.mark.slow), ("SHARDED_STATE_DICT", True)],
)
def test_a_checkpoint_and_a_final_model(tmp_path, kind, tied):
    found = _first(run_ranks(_save_and_resume, 2, str(tmp_path), tied, kind))
    _assert_same(found, found["again"])

    masks, _ = load_masks(tmp_path / "run" / "checkpoint-3")
    assert masks["step_count"] == 3
    assert masks["masks"].keys() == found["masks"].keys()
    assert not all(torch.equal(m, found["masks"][n]) for n, m in masks["masks"].items())

    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model")
    assert type(model).__name__ == "MarianMTModel"
    links = sum(int(mask.sum()) for mask in found["masks"].values())
    assert inspect_file(tmp_path / "model").sizes.links == links
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, found["weights"][name]), name

    last = tmp_path / "run" / "checkpoint-8"
    assert last_complete_checkpoint(tmp_path / "run") == str(last)
    for name in ("pytorch_model_fsdp", "optimizer"):
        part = last / f"{name}.bin" if "FULL" in kind else last / f"{name}_0" / ".metadata"
        kept = part.read_bytes()
        part.write_bytes(b"")
        assert last_complete_checkpoint(tmp_path / "run") == str(tmp_path / "run" / "checkpoint-6")
        part.write_bytes(kept)
    assert last_complete_checkpoint(tmp_path / "run") == str(last)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["FULL_STATE_DICT", "SHARDED_STATE_DICT"])
def test_more_processes_go_on_from_a_checkpoint(tmp_path, kind):
    found = _first(run_ranks(_save_and_resume, 2, str(tmp_path), True, kind))
    more = _first(run_ranks(_resume, 4, str(tmp_path), kind))
    _assert_same(found, more, rtol=1e-3, atol=1e-5)


# -- what else a run may ask for ------------------------------------------------------------------


def _whole_run(rank: int, folder: str) -> dict[str, Any]:
    """Evaluations that end at unequal steps, the best checkpoint, a record, a second training."""
    trainer, callback = _trainer(
        folder,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        greater_is_better=True,  # so that the best one is not the last
        predict_with_generate=True,
        generation_max_length=12,
    )
    snapshot = MaskSnapshot(callback)
    trainer.add_callback(snapshot)
    TopologyLogger(callback, frames=3).attach(trainer)
    # Translations of the second process end at once.
    trainer.model.final_logits_bias[0, trainer.model.config.eos_token_id] += 1000.0 * rank
    trainer.train()
    best = _found(trainer, callback)
    saved = str(trainer.state.best_model_checkpoint)
    best |= {"best": saved, "saved": load_masks(saved)[0]["masks"]}
    best |= {"layer": snapshot.layer, "kept": snapshot.after()}
    best["counts"] = parameter_counts(trainer.model)
    trainer.args.load_best_model_at_end = False
    trainer.evaluate()
    trainer.train()
    return best | {"again": _found(trainer, callback)}


@pytest.mark.slow
def test_a_run_with_all_that_a_trainer_does(tmp_path):
    ranks = run_ranks(_whole_run, 2, str(tmp_path), timeout=120)
    found = _first(ranks)
    assert found["best"].endswith("checkpoint-2")
    for name, mask in found["saved"].items():
        assert torch.equal(mask, found["masks"][name]), name
        assert not found["weights"][name][~mask].any(), name
    for rank in ranks:
        assert torch.equal(rank["kept"], found["masks"][found["layer"]])
        assert rank["counts"] == found["counts"]
    zeros = sum(int((~mask).sum()) for mask in found["saved"].values())
    counts = found["counts"]
    assert counts["total_parameters"] - counts["nonzero_parameters"] >= zeros
    history = read_history(tmp_path)
    assert history is not None
    assert set(history.frames) == {0, 4, 6}
    for name, mask in history.masks(0).items():
        assert mask.sum() == round(0.2 * mask.size), name
    again = found["again"]
    for name, mask in again["masks"].items():
        assert int(mask.sum()) == int(found["masks"][name].sum()), name
        assert not again["weights"][name][~mask].any(), name


def _loaded_by_one(rank: int, folder: str) -> dict[str, Any]:
    """As from_pretrained leaves it with cpu_ram_efficient_loading: weights on the first alone."""
    trainer, callback = _trainer(folder)
    trainer.accelerator.state.fsdp_plugin.cpu_ram_efficient_loading = True
    model = trainer.model
    if rank > 0:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(float("nan"))
        positions = model.model.encoder.embed_positions
        positions.weight = nn.Parameter(positions.weight.to("meta"), requires_grad=False)
    trainer.train()
    return _found(trainer, callback)


def _late(rank: int, folder: str) -> str:
    trainer, callback = _trainer(folder)
    first = trainer.accelerator.prepare._prepare
    trainer.accelerator.prepare = first  # as if the callback had not been there
    try:
        trainer.train()
    except ValueError as error:
        return str(error)
    return "trained"


def _efficient_and_late(rank: int, folder: str) -> dict[str, Any]:
    return _loaded_by_one(rank, folder) | {"late": _late(rank, folder)}


@pytest.mark.slow
def test_weights_that_the_first_process_alone_has_read(tmp_path):
    whole, callback = _trainer(str(tmp_path / "one"))
    whole.train()
    ranks = run_ranks(_efficient_and_late, 2, str(tmp_path))
    _assert_same(_found(whole, callback) | {"world": 2}, _first(ranks), rtol=1e-3, atol=1e-5)
    for rank in ranks:
        assert "should be one with another weight" in rank["late"]
