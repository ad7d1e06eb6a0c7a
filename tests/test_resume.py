"""A run that was stopped and resumed is the run that was never stopped."""

from __future__ import annotations

import shutil

import pytest
import torch
from transformers import TrainerCallback

from chts_hf import CHTsCallback, CHTsConfig, MaskFileError
from chts_hf.checkpoint.mask_file import MASK_FILE, load_masks
from tests.builders import tiny_trainer

INTERVAL = 4


class Stop(TrainerCallback):
    """Ends training at a step, as a user's interruption after a save would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.step


def _config(method: str = "chts") -> CHTsConfig:
    return CHTsConfig(method=method, sparsity=0.8, update_interval=INTERVAL, rewarm_steps=2)


def _run(folder, method="chts", extra=(), resume=None, **changes):
    callback = CHTsCallback(_config(method))
    stop = next((e.step for e in extra if isinstance(e, Stop)), 20)
    settings = {"steps": 20, "save_strategy": "steps", "save_steps": stop} | changes
    trainer = tiny_trainer(folder, [callback, *extra], **settings)
    trainer.train(resume_from_checkpoint=resume)
    return trainer, callback.sparsifier


def _assert_same(a, b):
    (trainer_a, sparse_a), (trainer_b, sparse_b) = a, b
    for name, mask in sparse_a.masks.items():
        assert torch.equal(mask, sparse_b.masks[name]), name
    for (name, p), q in zip(
        trainer_a.model.named_parameters(), trainer_b.model.parameters(), strict=True
    ):
        assert torch.equal(p, q), name
    assert sparse_a.state_dict()["updates"] == sparse_b.state_dict()["updates"]
    assert sparse_a.stats()["itop_rate"] == sparse_b.stats()["itop_rate"]


def test_a_configuration_with_tuples_is_resumed(tmp_path):
    for resume, steps in ((None, 8), (True, 12)):
        callback = CHTsCallback(CHTsConfig(update_interval=INTERVAL, exclude=("decoder",)))
        trainer = tiny_trainer(
            tmp_path, [callback], steps=steps, save_strategy="steps", save_steps=8
        )
        trainer.train(resume_from_checkpoint=resume)
    assert trainer.state.global_step == 12
    assert not any("decoder" in name for name in callback.sparsifier.masks)


@pytest.mark.parametrize("method", ["chts", "rigl", "set"])
@pytest.mark.parametrize("stop", [INTERVAL, 2 * INTERVAL + 1, 2 * INTERVAL + 3])
def test_resume_is_exact(tmp_path, method, stop):
    """At an update, during the learning rate's re-warm, and one step before an update."""
    whole = _run(tmp_path / "whole", method)
    _run(tmp_path / "parts", method, [Stop(stop)])
    assert [f.name for f in (tmp_path / "parts").iterdir()] == [f"checkpoint-{stop}"]
    torch.manual_seed(1234)  # the resumed process has another global state
    torch.rand(17)
    resumed = _run(tmp_path / "parts", method, resume=True)
    _assert_same(whole, resumed)


def test_resume_is_exact_with_accumulation_and_scheduler(tmp_path):
    changes = {"gradient_accumulation_steps": 2, "lr_scheduler_type": "cosine", "warmup_steps": 3}
    whole = _run(tmp_path / "whole", "rigl", **changes)
    _run(tmp_path / "parts", "rigl", [Stop(6)], **changes)
    _assert_same(whole, _run(tmp_path / "parts", "rigl", resume=True, **changes))


def test_resume_from_a_folder_elsewhere(tmp_path):
    whole = _run(tmp_path / "whole", save_steps=10)
    elsewhere = tmp_path / "moved"
    shutil.copytree(tmp_path / "whole" / "checkpoint-10", elsewhere)
    with pytest.raises(MaskFileError, match="resume_from_checkpoint=folder"):
        _run(tmp_path / "new", resume=str(elsewhere))
    callback = CHTsCallback(_config(), resume_from_checkpoint=elsewhere)
    trainer = tiny_trainer(tmp_path / "new", [callback], steps=20)
    trainer.train(resume_from_checkpoint=str(elsewhere))
    _assert_same(whole, (trainer, callback.sparsifier))


def test_a_folder_elsewhere_beside_a_checkpoint_of_that_step(tmp_path):
    """The masks of output_dir are not those of the weights; what to do is said, and does it."""
    whole = _run(tmp_path / "a", save_steps=10)
    other = CHTsConfig(method="chts", sparsity=0.7, update_interval=INTERVAL, seed=5)
    settings = {"steps": 20, "save_strategy": "steps", "save_steps": 10, "learning_rate": 2e-2}
    tiny_trainer(tmp_path / "b", [CHTsCallback(other)], **settings).train()
    elsewhere = str(tmp_path / "a" / "checkpoint-10")
    with pytest.raises(MaskFileError, match="were saved with other weights") as refused:
        _run(tmp_path / "b", resume=elsewhere)
    assert f"looked for in {tmp_path / 'b' / 'checkpoint-10'}" in str(refused.value)
    assert "CHTsCallback(config, resume_from_checkpoint=folder)" in str(refused.value)
    assert "another configuration" not in str(refused.value)
    callback = CHTsCallback(_config(), resume_from_checkpoint=elsewhere)
    trainer = tiny_trainer(tmp_path / "b", [callback], steps=20)
    trainer.train(resume_from_checkpoint=elsewhere)
    _assert_same(whole, (trainer, callback.sparsifier))


def test_a_bad_file_in_output_dir_may_not_be_the_one_that_was_meant(tmp_path):
    _run(tmp_path, extra=[Stop(6)])
    (tmp_path / "checkpoint-6" / MASK_FILE).unlink()
    with pytest.raises(MaskFileError, match=r"is missing.* resume_from_checkpoint=folder"):
        _run(tmp_path, resume=True)
    named = CHTsCallback(_config(), resume_from_checkpoint=tmp_path / "checkpoint-6")
    with pytest.raises(MaskFileError, match="is missing") as refused:
        tiny_trainer(tmp_path, [named], steps=20).train(resume_from_checkpoint=True)
    assert "looked for" not in str(refused.value)


def test_best_model_comes_back_with_its_masks(tmp_path):
    changes = {
        "eval_strategy": "steps",
        "eval_steps": 5,
        "save_steps": 5,
        "load_best_model_at_end": True,
        "metric_for_best_model": "loss",
        "greater_is_better": True,  # so the best model is an early one
    }
    trainer, sparsifier = _run(tmp_path, **changes)
    best = int(trainer.state.best_model_checkpoint.rpartition("-")[2])
    assert best <= 10, "the test needs an early best model"
    state, _ = load_masks(trainer.state.best_model_checkpoint)
    last, _ = load_masks(tmp_path / "checkpoint-20")
    assert any(not torch.equal(state["masks"][n], last["masks"][n]) for n in state["masks"])
    parameters = dict(trainer.model.named_parameters())
    for name, mask in sparsifier.masks.items():
        assert torch.equal(mask, state["masks"][name])
        assert (parameters[name][~mask] == 0).all()


def test_best_model_after_a_resume_is_that_of_the_whole_run(tmp_path):
    changes = {
        "eval_strategy": "steps",
        "eval_steps": 3,
        "save_steps": 3,
        "load_best_model_at_end": True,
    }
    whole = _run(tmp_path / "whole", **changes)
    _run(tmp_path / "parts", extra=[Stop(9)], **changes)
    _assert_same(whole, _run(tmp_path / "parts", resume=True, **changes))


def _missing(file):
    file.unlink()


def _truncated(file):
    file.write_bytes(file.read_bytes()[:-40])


def _flipped(file):
    data = bytearray(file.read_bytes())
    data[-3] ^= 4
    file.write_bytes(data)


def _empty(file):
    file.write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "word"),
    [(_missing, "is missing"), (_truncated, "damaged"), (_flipped, "damaged"), (_empty, "damaged")],
)
def test_a_bad_mask_file_stops_the_resume(tmp_path, damage, word):
    _run(tmp_path, extra=[Stop(6)])
    damage(tmp_path / "checkpoint-6" / MASK_FILE)
    with pytest.raises(MaskFileError, match=word):
        _run(tmp_path, resume=True)


def test_another_configuration_is_refused_and_shown(tmp_path):
    _run(tmp_path, extra=[Stop(6)])
    config = CHTsConfig(method="chts", sparsity=0.7, update_interval=2, regrowth="random")
    trainer = tiny_trainer(tmp_path, [CHTsCallback(config)], steps=20)
    with pytest.raises(MaskFileError, match=r"sparsity was 0\.8 and is 0\.7; regrowth was 'CH2"):
        trainer.train(resume_from_checkpoint=True)


def test_masks_of_another_run_stop_the_resume(tmp_path):
    _run(tmp_path / "a", extra=[Stop(6)])
    other = CHTsCallback(_config())
    changes = {"save_strategy": "steps", "save_steps": 6, "learning_rate": 2e-2}
    tiny_trainer(tmp_path / "b", [other, Stop(6)], steps=20, **changes).train()
    shutil.copy(
        tmp_path / "b" / "checkpoint-6" / MASK_FILE, tmp_path / "a" / "checkpoint-6" / MASK_FILE
    )
    with pytest.raises(MaskFileError, match="saved with other weights"):
        _run(tmp_path / "a", resume=True)


def test_one_seed_gives_one_result_whatever_used_random_numbers(tmp_path):
    class Noise(TrainerCallback):
        def on_optimizer_step(self, args, state, control, **kwargs):
            torch.rand(state.global_step + 1)

    quiet = _run(tmp_path / "a")
    noisy = _run(tmp_path / "b", extra=[Noise()])
    for name, mask in quiet[1].masks.items():
        assert torch.equal(mask, noisy[1].masks[name])


def test_another_seed_gives_other_masks(tmp_path):
    a = _run(tmp_path / "a")[1]
    callback = CHTsCallback(CHTsConfig(sparsity=0.8, update_interval=INTERVAL, seed=1))
    tiny_trainer(tmp_path / "b", [callback], steps=20).train()
    assert any(not torch.equal(a.masks[n], m) for n, m in callback.sparsifier.masks.items())
