"""A checkpoint's masks are there before the Trainer deletes the one before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from chts_hf import CHTsCallback, CHTsConfig, last_complete_checkpoint
from chts_hf import callback as events
from chts_hf.checkpoint.mask_file import MASK_FILE, load_masks
from tests.builders import tiny_trainer

STEPS = 16


class Killed(Exception):
    """Where a process would be gone."""


class Signal(TrainerCallback):
    """What transformers does of itself where ``enable_jit_checkpoint`` is set."""

    trainer: Any = None

    def _save(self, control) -> None:
        control.should_training_stop = True
        self.trainer._save_checkpoint(self.trainer.model, trial=None)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 10:
            control.should_save = False
            self._save(control)


class EarlySignal(Signal):
    """The same where a step begins: what is there to save is the step before it."""

    def __init__(self, event: str, after: int = 3) -> None:
        self.after = after
        setattr(self, event, self._event)

    def _event(self, args, state, control, **kwargs):
        if state.global_step == self.after:
            self._save(control)


def _run(folder: Path, *callbacks: TrainerCallback, **changes: Any) -> tuple[CHTsCallback, Any]:
    config = CHTsConfig(sparsity=0.8, update_interval=2, rewarm_steps=1, t_end=1.0)
    callback = CHTsCallback(config)
    return callback, tiny_trainer(folder, [callback, *callbacks], steps=STEPS, **changes)


def _best_run(folder: Path) -> tuple[CHTsCallback, Any]:
    """A run that saves whenever the loss is smaller than ever, and keeps that alone."""
    return _run(
        folder,
        eval_strategy="steps",
        eval_steps=3,
        save_strategy="best",
        metric_for_best_model="loss",
        save_total_limit=1,
        load_best_model_at_end=True,
    )


def _assert_same(one: tuple[CHTsCallback, Any], other: tuple[CHTsCallback, Any]) -> None:
    for name, mask in one[0].sparsifier.masks.items():
        assert torch.equal(mask, other[0].sparsifier.masks[name]), name
    for mine, theirs in zip(one[1].model.parameters(), other[1].model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_run_that_saves_its_best_has_a_whole_checkpoint_at_any_moment(tmp_path, monkeypatch):
    """It decides to save after the step's end, and deletes what it had before ``on_save``."""
    whole, trainer = _best_run(tmp_path / "whole")
    trainer.train()
    (kept,) = (tmp_path / "whole").iterdir()
    assert kept.name == f"checkpoint-{trainer.state.best_global_step}"
    best, _ = load_masks(kept)
    for name, mask in whole.sparsifier.masks.items():
        assert torch.equal(mask, best["masks"][name])
        assert (trainer.model.get_parameter(name)[~mask] == 0).all()

    _, dying = _best_run(tmp_path / "killed")
    save_masks, saves = events.save_masks, []

    def second_save(*arguments):
        saves.append(arguments)
        if len(saves) == 2:
            raise Killed
        return save_masks(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(events, "save_masks", second_save)
        with pytest.raises(Killed):
            dying.train()
    (only,) = (tmp_path / "killed").iterdir()
    assert not (only / MASK_FILE).exists()
    assert last_complete_checkpoint(tmp_path / "killed") == str(only)
    again = _best_run(tmp_path / "killed")
    again[1].train(resume_from_checkpoint=str(only))
    _assert_same((whole, trainer), again)


def test_a_checkpoint_made_because_of_a_signal_has_its_masks(tmp_path):
    """That one is made without ``on_save``."""
    whole = _run(tmp_path / "whole")
    whole[1].train()
    ended = Signal()
    settings = {"save_strategy": "steps", "save_steps": 3, "save_total_limit": 2}
    _, ended.trainer = _run(tmp_path / "run", ended, **settings)
    ended.trainer.train()
    last = tmp_path / "run" / "checkpoint-10"
    assert (last / MASK_FILE).exists()
    assert last_complete_checkpoint(tmp_path / "run") == str(last)
    again = _run(tmp_path / "run")
    again[1].train(resume_from_checkpoint=str(last))
    _assert_same(whole, again)


REGULAR = {"save_strategy": "steps", "save_steps": 3, "save_total_limit": 1}


def _times(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.glob("checkpoint-*/*")}


@pytest.mark.parametrize("event", ["on_step_begin", "on_pre_optimizer_step"])
def test_a_signal_right_after_a_save_leaves_the_only_checkpoint_alone(tmp_path, event, monkeypatch):
    """To be killed in a second save of the same step would cost it."""
    whole = _run(tmp_path / "whole")
    whole[1].train()
    early = EarlySignal(event)
    _, early.trainer = _run(tmp_path / "run", early, **REGULAR)
    only = tmp_path / "run" / "checkpoint-3"
    saves, save_model = [], early.trainer.save_model

    def second_save(folder, **options):
        saves.append(folder)
        if len(saves) == 2:
            raise Killed
        save_model(folder, **options)

    monkeypatch.setattr(early.trainer, "save_model", second_save)
    early.trainer.train()
    assert saves[:1] == [str(only)]
    assert last_complete_checkpoint(tmp_path / "run") == str(only)
    again = _run(tmp_path / "run")
    again[1].train(resume_from_checkpoint=str(only))
    _assert_same(whole, again)


def test_a_signal_right_after_resuming_leaves_the_checkpoint_alone(tmp_path):
    for settings in ({}, {"resume_from_checkpoint": str(tmp_path / "checkpoint-3")}):
        early = EarlySignal("on_step_begin")
        _, early.trainer = _run(tmp_path, early)
        before = _times(tmp_path)
        early.trainer.train(**settings)
    assert before
    assert _times(tmp_path) == before


def test_a_signal_replaces_a_checkpoint_that_another_run_left(tmp_path):
    folder, written = tmp_path / "checkpoint-3", []
    for seed in (4, 3):
        early = EarlySignal("on_step_begin")
        _, early.trainer = _run(tmp_path, early, seed=seed)
        early.trainer.train()
        assert last_complete_checkpoint(tmp_path) == str(folder)
        written.append((folder / "model.safetensors").read_bytes())
    assert written[0] != written[1]


def test_an_earlier_replacement_of_the_method_is_kept(tmp_path):
    _, trainer = _run(tmp_path, save_strategy="steps", save_steps=8)
    saves, save = [], trainer._save_checkpoint

    def counted(model, trial):
        saves.append(trainer.state.global_step)
        save(model, trial)

    trainer._save_checkpoint = counted
    for _ in range(2):
        trainer.train()
    assert saves == [8, 16, 8, 16]
    for step in saves:
        assert (tmp_path / f"checkpoint-{step}" / MASK_FILE).exists()


def test_a_model_trained_on_densely_is_saved_without_masks(tmp_path):
    """The Trainer's method stays replaced when the callback is gone."""
    callback, trainer = _run(tmp_path, save_strategy="steps", save_steps=STEPS)
    trainer.train()
    assert (tmp_path / f"checkpoint-{STEPS}" / MASK_FILE).exists()
    trainer.remove_callback(callback)
    trainer.args.max_steps = 2 * STEPS
    trainer.args.output_dir = str(tmp_path / "dense")
    trainer.train()
    (checkpoint, _) = sorted((tmp_path / "dense").iterdir())
    assert not [file.name for file in checkpoint.iterdir() if file.name.startswith(MASK_FILE)]
