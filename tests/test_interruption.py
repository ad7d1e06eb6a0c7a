"""Killed at any moment, a run goes on from its last whole checkpoint as if nothing had been."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import random
import resource
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from chts_hf import (
    CHTsCallback,
    CHTsConfig,
    MaskFileError,
    Sparsifier,
    last_complete_checkpoint,
    shared_update,
)
from chts_hf import callback as events
from chts_hf.checkpoint import mask_file
from chts_hf.checkpoint.mask_file import MASK_FILE, PART_FILE
from tests.builders import tiny_marian, tiny_trainer
from tests.processes import run_ranks

STEPS = 16
SETTINGS: dict[str, Any] = {
    "steps": STEPS,
    "save_strategy": "steps",
    "save_steps": 3,
    "save_total_limit": 2,
}


def _config() -> CHTsConfig:
    return CHTsConfig(sparsity=0.8, update_interval=2, rewarm_steps=1, t_end=1.0)


class Die(TrainerCallback):
    """Ends the process without a word, at a moment of one step."""

    def __init__(self, moment: str, step: int) -> None:
        self.moment, self.step, self.now = moment, step, 0

    def on_step_begin(self, args, state, control, **kwargs):
        self.now = state.global_step + 1
        if self.moment == "step" and self.now == self.step:
            os.kill(os.getpid(), signal.SIGKILL)

    def at(self, *_: object, **__: object) -> None:
        if self.now >= self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def _dying(function: Any, die: Die, *, after: bool = False) -> Any:
    def dying(*arguments: Any, **named: Any) -> Any:
        if not after:
            die.at()
        result = function(*arguments, **named)
        die.at()
        return result

    return dying


def _half_written(die: Die) -> Any:
    """torch.save that dies when half of the file is there."""
    save = torch.save

    def dying(state: Any, path: Any, **named: Any) -> None:
        save(state, path, **named)
        if die.now >= die.step and Path(path).name == "optimizer.pt":
            os.truncate(path, Path(path).stat().st_size // 2)
            die.at()

    return dying


def _run(
    rank: int, folder: str, moment: str = "", step: int = 0, after: float | None = None
) -> dict[str, Any]:
    """Train on from what there is, and die as told: at a moment, or after some seconds."""
    logging.getLogger("chts_hf").setLevel(logging.ERROR)
    # Ranks must find the same checkpoint, so nobody may write before all have looked.
    checkpoint = last_complete_checkpoint(folder)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
    die = Die(moment, step)
    callback = CHTsCallback(_config())
    batch = 4 // int(os.environ.get("WORLD_SIZE", "1"))
    backend = {} if batch == 4 else {"ddp_backend": "gloo"}
    trainer = tiny_trainer(
        Path(folder),
        [callback, die],
        per_device_train_batch_size=batch,
        **SETTINGS | backend,
    )
    if moment == "update":
        shared_update.update_block = _dying(shared_update.update_block, die)
    elif moment == "model":
        trainer.save_model = _dying(trainer.save_model, die, after=True)
    elif moment == "optimizer":
        torch.save = _half_written(die)
    elif moment == "masks":
        mask_file.save_file = _dying(mask_file.save_file, die, after=True)
    elif moment == "rename":
        events.save_masks = _dying(events.save_masks, die)
    if after is not None:
        delay = after

        def later() -> None:
            time.sleep(delay)
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=later, daemon=True).start()
    trainer.train(resume_from_checkpoint=checkpoint)
    assert callback.sparsifier is not None
    return {
        "resumed": checkpoint,
        "masks": {n: m.clone() for n, m in callback.sparsifier.masks.items()},
        "weights": {n: p.detach().clone() for n, p in trainer.model.named_parameters()},
        "stats": callback.sparsifier.stats()["itop_rate"],
    }


def _in_a_process(folder: Path, *arguments: Any) -> int | None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["chts_hf", "tests.builders", "tests.processes"])
    process = context.Process(target=_run, args=(0, str(folder), *arguments), daemon=True)
    process.start()
    process.join(200)
    code = process.exitcode
    process.kill()
    return code


def _assert_same(whole: dict[str, Any], resumed: dict[str, Any]) -> None:
    for what in ("masks", "weights"):
        for name, tensor in whole[what].items():
            assert torch.equal(tensor, resumed[what][name]), (what, name)
    assert whole["stats"] == resumed["stats"]


def test_killed_three_times_and_resumed(tmp_path):
    """In an update, between the model's file and the others, and before the masks' name."""
    whole = _run(0, str(tmp_path / "whole"))
    folder = tmp_path / "killed"
    for moment, step in (("update", 5), ("model", 9), ("rename", 12)):
        assert _in_a_process(folder, moment, step) == -signal.SIGKILL
    assert not (folder / "checkpoint-12" / MASK_FILE).exists()
    resumed = _run(0, str(folder))
    # The Trainer had deleted older ones already; the masks were put down before that.
    assert resumed["resumed"] == str(folder / "checkpoint-12")
    _assert_same(whole, resumed)


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.timeout(2400)
def test_killed_twenty_times_with_two_processes(tmp_path):
    """Both processes die, one of them at a chosen or a random moment."""
    (whole, _) = run_ranks(_run, 2, str(tmp_path / "whole"))
    assert isinstance(whole, dict), whole
    choice = random.Random(0)
    moments = ["step", "update", "model", "optimizer", "masks", "rename", "time"]
    folder, killed, resumed_from = tmp_path / "killed", 0, set()
    while killed < 20:
        moment = moments[killed % len(moments)]
        step = choice.randint(2, STEPS - 2)
        after = choice.uniform(0.5, 6.0) if moment == "time" else None
        results = run_ranks(_run, 2, str(folder), moment, step, after, timeout=90)
        if isinstance(results[0], dict) and isinstance(results[1], dict):
            _assert_same(whole, results[0])  # it had come too far to be killed
            shutil.rmtree(folder)
            continue
        killed += 1
        resumed_from.add(last_complete_checkpoint(folder))
    results = run_ranks(_run, 2, str(folder))
    for result in results:
        assert isinstance(result, dict), result
        _assert_same(whole, result)
    assert len(resumed_from) > 2


# -- which checkpoints count -----------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    _run(0, str(folder))
    assert sorted(p.name for p in folder.iterdir()) == ["checkpoint-15", "checkpoint-16"]
    return folder


def _cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 50)


@pytest.mark.parametrize(
    ("name", "damage", "word"),
    [
        (MASK_FILE, Path.unlink, "is missing"),
        (MASK_FILE, _cut, "damaged"),
        ("model.safetensors", _cut, ""),
        ("model.safetensors", Path.unlink, "no weights"),
        ("optimizer.pt", _cut, "optimizer.pt is missing or cut off"),
        ("rng_state.pth", Path.unlink, "rng_state.pth is missing"),
        ("trainer_state.json", _cut, ""),
        ("trainer_state.json", Path.unlink, "trainer_state.json"),
    ],
)
def test_half_written_checkpoints_are_passed_over(finished, tmp_path, caplog, name, damage, word):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    assert last_complete_checkpoint(folder) == str(folder / "checkpoint-16")
    damage(folder / "checkpoint-16" / name)
    with caplog.at_level(logging.WARNING, logger="chts_hf"):
        assert last_complete_checkpoint(folder) == str(folder / "checkpoint-15")
    (record,) = caplog.records
    assert "checkpoint-16, which is not complete" in record.getMessage()
    assert word in record.getMessage()


def test_masks_of_other_weights_do_not_make_a_checkpoint(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    shutil.copy(folder / "checkpoint-15" / MASK_FILE, folder / "checkpoint-16" / MASK_FILE)
    assert last_complete_checkpoint(folder) == str(folder / "checkpoint-15")


def test_masks_that_had_not_got_their_name_are_found(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    last = folder / "checkpoint-16"
    (last / MASK_FILE).rename(last / PART_FILE)
    assert last_complete_checkpoint(folder) == str(last)
    assert (last / MASK_FILE).exists()


def test_another_rank_may_give_the_masks_their_name_at_any_moment(finished, tmp_path, monkeypatch):
    """Ranks that took different checkpoints would not train the same model."""
    exists = Path.exists
    for looks in range(1, 4):
        folder = tmp_path / f"run-{looks}"
        shutil.copytree(finished, folder)
        last = folder / "checkpoint-16"
        (last / MASK_FILE).rename(last / PART_FILE)
        seen = []

        def look(path, *, last=last, seen=seen, looks=looks):
            found = exists(path)
            if path.parent == last and path.name in (MASK_FILE, PART_FILE):
                seen.append(path.name)
                if len(seen) == looks and exists(last / PART_FILE):
                    (last / PART_FILE).rename(last / MASK_FILE)
            return found

        monkeypatch.setattr(Path, "exists", look)
        assert last_complete_checkpoint(folder) == str(last), looks
        assert len(seen) >= looks


def test_a_dense_run_has_no_masks(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    for file in folder.glob(f"*/{MASK_FILE}"):
        file.unlink()
    assert last_complete_checkpoint(folder) is None
    assert last_complete_checkpoint(folder, sparse=False) == str(folder / "checkpoint-16")
    assert last_complete_checkpoint(tmp_path / "nothing") is None


def test_a_checkpoint_of_two_ranks_needs_both_random_states(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    last = folder / "checkpoint-16"
    state, config = mask_file.load_masks(last)
    mask_file.save_masks(last, state | {"world_size": 2}, config)
    assert last_complete_checkpoint(folder) == str(folder / "checkpoint-15")
    for rank in range(2):
        shutil.copy(last / "rng_state.pth", last / f"rng_state_{rank}.pth")
    assert last_complete_checkpoint(folder) == str(last)


# -- a full disk, and another configuration --------------------------------------------------


def test_a_full_disk_leaves_the_old_file_as_it_was(tmp_path):
    sparsifier = Sparsifier(tiny_marian(), None, _config(), 20)
    file = mask_file.save_masks(tmp_path, sparsifier.state_dict(), _config())
    before = file.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(OSError, match=r"could not be written .* checkpoints before it are"):
            mask_file.save_masks(tmp_path, sparsifier.state_dict(), _config())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [MASK_FILE]


def test_learning_rate_and_interval_may_change_on_a_resume(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    config = CHTsConfig(sparsity=0.8, update_interval=4, rewarm_steps=1, t_end=1.0)
    callback = CHTsCallback(config)
    settings = SETTINGS | {"steps": 24, "learning_rate": 1e-3, "save_strategy": "no"}
    trainer = tiny_trainer(folder, [callback], **settings)
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(folder))
    assert callback.sparsifier.updates == 8 + 2
    assert trainer.state.global_step == 24


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": {"ffn.up": r".*\.fc1"}}, r"targets was None and is \{'ffn.up'"),
        ({"sparsity": 0.5}, "sparsity was 0.8 and is 0.5"),
        ({"sparsity": 0.9}, "sparsity was 0.8 and is 0.9"),
    ],
)
def test_targets_and_sparsity_may_not(finished, tmp_path, changes, message):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    values = _config().to_dict() | changes
    trainer = tiny_trainer(folder, [CHTsCallback(CHTsConfig.from_dict(values))], **SETTINGS)
    with pytest.raises(MaskFileError, match=message):
        trainer.train(resume_from_checkpoint=last_complete_checkpoint(folder))
    state = json.loads((folder / "checkpoint-16" / "trainer_state.json").read_text())
    assert state["global_step"] == 16


def test_a_state_without_the_values_of_past_links():
    first = Sparsifier(model := tiny_marian(), None, CHTsConfig(regrow_init="history"), 1000)
    state = first.state_dict()
    first.close()
    state["history"].popitem()
    with pytest.raises(ValueError, match=r"no values of past links of model\..* regrow_init"):
        Sparsifier(model, None, CHTsConfig(regrow_init="history"), 1000, state=state)
