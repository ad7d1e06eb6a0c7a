"""A run ends as sparse as was asked for, or says that it did not, and why."""

from __future__ import annotations

import logging

import pytest
import torch
from transformers import EarlyStoppingCallback, TrainerCallback

from chts_hf import CHTsCallback, CHTsConfig, MaskFileError, Sparsifier
from chts_hf.plan import Plan
from tests.builders import tiny_marian, tiny_trainer

WARNING = "training ended with sparsity"
FALLING = ["gmp", "chtss", "mest", "granet"]
BEST_IS_FIRST = {
    "eval_strategy": "steps",
    "eval_steps": 4,
    "save_strategy": "steps",
    "save_steps": 4,
    "load_best_model_at_end": True,
    "metric_for_best_model": "loss",
    "greater_is_better": True,
}


def _config(method: str = "gmp", **changes) -> CHTsConfig:
    settings = {"sparsity": 0.8, "update_interval": 4, "rewarm_steps": 0}
    return CHTsConfig(method=method, **settings | changes)


class Stop(TrainerCallback):
    """Ends training at a step, as an interruption would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.step


class Skip(TrainerCallback):
    """Leaves the optimizer's steps from one on out, as a loss scaler does at infinities."""

    def __init__(self, first: int, number: int = 1) -> None:
        self.skipped = range(first, first + number)

    def on_pre_optimizer_step(self, args, state, control, *, optimizer, **kwargs):
        if state.global_step + 1 in self.skipped:
            optimizer.step = lambda *_, **__: None

    def on_optimizer_step(self, args, state, control, *, optimizer, **kwargs):
        vars(optimizer).pop("step", None)


def _run(folder, config, extra=(), steps=40, resume=None, **changes):
    callback = CHTsCallback(config)
    settings = {"save_strategy": "steps", "save_steps": 10, "logging_steps": 1} | changes
    trainer = tiny_trainer(folder, [callback, *extra], steps=steps, **settings)
    trainer.train(resume_from_checkpoint=resume)
    return trainer, callback.sparsifier


def _is_as_asked(sparsifier) -> bool:
    return sparsifier.stats()["sparsity"] == pytest.approx(0.8, abs=2e-3)


# -- fewer steps on a resume -----------------------------------------------------------------


@pytest.mark.parametrize("method", FALLING)
def test_a_resume_that_leaves_no_update_for_the_fall_is_refused(tmp_path, method):
    """The density of 40 steps has not fallen at step 10, and 11 steps have no update after it."""
    _run(tmp_path, _config(method), [Stop(10)])
    with pytest.raises(
        MaskFileError, match=r"goes on from step 10, .* yet to go.* Train for "
    ) as e:
        _run(tmp_path, _config(method), resume=True, steps=11)
    assert "the last topology update of a run of 11 steps is that of step 8" in str(e.value)
    needed = int(str(e.value).partition("Train for ")[2].split()[0])
    with pytest.raises(MaskFileError):
        _run(tmp_path, _config(method), resume=True, steps=needed - 1)
    _, sparsifier = _run(tmp_path, _config(method), resume=True, steps=needed)
    assert _is_as_asked(sparsifier)


def test_a_resume_with_fewer_steps_is_free_where_nothing_is_left_to_fall(tmp_path):
    _run(tmp_path, _config("gmp", decay_end=0.2), [Stop(10)])
    _, sparsifier = _run(tmp_path, _config("gmp", decay_end=0.2), resume=True, steps=12)
    assert _is_as_asked(sparsifier)
    _run(tmp_path / "chts", _config("chts"), [Stop(10)])
    _, sparsifier = _run(tmp_path / "chts", _config("chts"), resume=True, steps=12)
    assert _is_as_asked(sparsifier)


def test_a_best_checkpoint_from_before_the_fall_is_no_resume(tmp_path, caplog):
    """It comes back, though by the fewer steps of the resumed run no update is after it."""
    config = _config(decay_end=0.5, t_end=0.1)
    changes = BEST_IS_FIRST | {"save_steps": 20, "eval_steps": 20}
    _run(tmp_path, config, [Stop(40)], steps=52, **changes)
    trainer, sparsifier = _run(tmp_path, config, resume=True, steps=41, **changes)
    assert trainer.state.best_global_step == sparsifier.plan.last_update == 20
    assert not _is_as_asked(sparsifier)
    assert WARNING in caplog.text


@pytest.mark.parametrize("method", [*FALLING, "chts"])
@pytest.mark.parametrize("interval", [1, 3, 10])
@pytest.mark.parametrize("decay_end", [0.1, 0.75, 1.0])
def test_the_number_of_steps_that_leaves_an_update(method, interval, decay_end):
    changes = {} if method == "chts" else {"decay_end": decay_end}
    config = _config(method, update_interval=interval, **changes)
    for step in (20, 29, 30, 57):
        found = Plan(config, 20).steps_for_an_update_after(step)
        needed = next(n for n in range(20, 9999) if Plan(config, n).last_update > step)
        assert found == needed
        last = max(s for s in range(found + 1) if Plan(config, found).is_update(s))
        assert last == Plan(config, found).last_update


# -- skipped steps ---------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Seems like .optimizer.step")  # see Skip
@pytest.mark.parametrize("method", FALLING)
@pytest.mark.parametrize("first", [3, 40])
def test_a_skipped_step_does_not_keep_the_density_from_its_end(tmp_path, caplog, method, first):
    config = _config(method, decay_end=1.0)
    trainer, sparsifier = _run(tmp_path, config, [Skip(first)], save_steps=20)
    assert sparsifier.step_count == 39
    assert _is_as_asked(sparsifier)
    assert "39 of the run's 40 steps count" in caplog.text
    assert WARNING not in caplog.text
    last = [log for log in trainer.state.log_history if "topology/sparsity" in log][-1]
    assert last["topology/sparsity"] == pytest.approx(0.8, abs=2e-3)
    weights = dict(trainer.model.named_parameters())
    for name, mask in sparsifier.masks.items():
        assert not weights[name][~mask].any()
    _, again = _run(tmp_path, config, resume=True, steps=60)
    assert _is_as_asked(again)


@pytest.mark.filterwarnings("ignore:Seems like .optimizer.step")
def test_steps_that_are_skipped_in_good_time_change_nothing(tmp_path, caplog):
    _, sparsifier = _run(tmp_path, _config("gmp"), [Skip(5, number=3)])
    assert sparsifier.step_count == 37
    assert _is_as_asked(sparsifier)
    assert not [r for r in caplog.records if r.name.startswith("chts_hf")]


def test_finish_in_a_loop_of_ones_own():
    torch.manual_seed(0)
    model = tiny_marian()
    optimizer = torch.optim.AdamW(model.parameters())
    sparsifier = Sparsifier(model, optimizer, _config("mest", decay_end=1.0), total_steps=20)
    for _ in range(18):
        sum((p * p).sum() for p in model.parameters()).backward()
        optimizer.step()
        sparsifier.step()
        optimizer.zero_grad()
    before = {name: mask.clone() for name, mask in sparsifier.masks.items()}
    assert not _is_as_asked(sparsifier)
    sparsifier.finish()
    assert _is_as_asked(sparsifier)
    for name, mask in sparsifier.masks.items():
        assert not (mask & ~before[name]).any(), "links may only go"
    updates = sparsifier.updates
    sparsifier.finish()
    assert sparsifier.updates == updates


# -- the best checkpoint ---------------------------------------------------------------------


def test_a_best_checkpoint_that_is_too_dense_is_warned_of(tmp_path, caplog):
    trainer, sparsifier = _run(tmp_path, _config("gmp"), **BEST_IS_FIRST)
    best = trainer.state.best_model_checkpoint
    assert not _is_as_asked(sparsifier)
    (text,) = [r.getMessage() for r in caplog.records if WARNING in r.getMessage()]
    assert f"{sparsifier.stats()['sparsity']:.4f}, where 0.8" in text
    assert f"the best checkpoint, {best}, is from before" in text
    assert "best_model_from_step=32" in text  # the first update after 0.75 of 40 steps


@pytest.mark.parametrize("method", ["chts", "static", "dense"])
def test_a_best_checkpoint_of_a_constant_density_is_as_asked(tmp_path, caplog, method):
    _run(tmp_path, _config(method), steps=12, **BEST_IS_FIRST)
    assert WARNING not in caplog.text


# -- runs that ended before their time -------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, BEST_IS_FIRST])
def test_an_interrupted_run_is_not_warned_of(tmp_path, caplog, changes):
    with caplog.at_level(logging.WARNING):
        _, sparsifier = _run(tmp_path, _config("gmp"), [Stop(12)], **changes)
    assert not _is_as_asked(sparsifier)
    assert WARNING not in caplog.text


def test_early_stopping_is_an_end(tmp_path, caplog):
    trainer, sparsifier = _run(
        tmp_path, _config("gmp"), [EarlyStoppingCallback(2)], **BEST_IS_FIRST
    )
    assert trainer.state.global_step < 32
    assert not _is_as_asked(sparsifier)
    assert f"early stopping ended it at step {trainer.state.global_step}, before" in caplog.text
