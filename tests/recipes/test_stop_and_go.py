"""A run that is stopped at a step goes on as if it never had been."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, TrainerCallback

from chts_hf.runs.resume import STOPPED
from recipes import translation
from tests.recipes.test_translation import config, write_parallel


def _options(folder: Path, **changes: Any) -> list[str]:
    files = write_parallel(folder)
    changes = {"dropout": 0.2, "do_eval": False, **files, **changes}
    path = config(folder, {"method": "chtss"}, **changes)
    return [path, "--resume_from_checkpoint", "true"]


def test_a_signal_stops_after_a_step_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With the best checkpoint tested, as in the paper's setting; it is not the last one.
    options = _options(tmp_path, save_strategy="steps", eval_strategy="steps", save_steps=4,
                       eval_steps=4, save_total_limit=2, load_best_model_at_end=True,
                       metric_for_best_model="loss", greater_is_better=False)  # fmt: skip
    whole = translation.main([*options, "--output_dir", str(tmp_path / "whole")])

    class Interrupt(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 4:  # in the fifth step
                os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    trainer_class = translation.TranslationTrainer
    with monkeypatch.context() as patched:

        def interrupted(**kwargs: Any) -> Any:
            kwargs["callbacks"].append(Interrupt())
            return trainer_class(**kwargs)

        patched.setattr(translation, "TranslationTrainer", interrupted)
        with pytest.raises(SystemExit) as stopped:
            translation.main(options)
    assert stopped.value.code == STOPPED
    assert signal.getsignal(signal.SIGTERM) == before
    out = tmp_path / "out"
    assert sorted(path.name for path in out.glob("checkpoint-*")) == [
        "checkpoint-4",
        "checkpoint-5",
    ]
    assert not (out / "all_results.json").exists()

    results = translation.main(options)
    assert results["resumed_from_step"] == 5
    # The same batches, the same weights, the same translations.
    assert results["batches"] == whole["batches"] is not None
    assert results["initial_weights"] == whole["initial_weights"]
    assert results["bleu_statistics"] == whole["bleu_statistics"]
    other = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "whole").state_dict()
    for name, weight in AutoModelForSeq2SeqLM.from_pretrained(out).state_dict().items():
        assert torch.equal(weight, other[name]), name


@pytest.mark.parametrize("stopped_at", [3, 7])  # in the first epoch and in the second, of 5 steps
def test_batches_of_like_lengths_are_the_same_after_a_resume(
    tmp_path: Path, stopped_at: int
) -> None:
    options = _options(tmp_path, do_predict=False, max_steps=12, save_strategy="steps",
                       save_steps=100, train_sampling_strategy="group_by_length")  # fmt: skip
    whole = translation.main([*options, "--output_dir", str(tmp_path / "whole")])
    part = [*options, "--save_steps", str(stopped_at)]
    translation.main(part)
    for checkpoint in (tmp_path / "out").glob("checkpoint-*"):
        if checkpoint.name != f"checkpoint-{stopped_at}":
            shutil.rmtree(checkpoint)
    results = translation.main(part)
    assert results["resumed_from_step"] == stopped_at
    assert results["batches"] == whole["batches"] is not None
    steps = (tmp_path / "whole" / "batches.txt").read_text().split()[1::2]
    assert set(steps[:5]) != set(steps[5:10])  # another order in another epoch


def test_a_run_that_was_stopped_behind_its_last_step_is_scored_as_it_is(tmp_path: Path) -> None:
    options = [*_options(tmp_path), "--save_strategy", "steps", "--save_steps", "4"]
    first = translation.main(options)
    again = translation.main(options)
    assert again["resumed_from_step"] == again["steps"] == 8
    for name in ("batches", "bleu_statistics", "links", "itop_rate"):
        assert again[name] == first[name], name


@pytest.mark.parametrize(
    "batches", [{"train_sampling_strategy": "group_by_length"}, {"max_tokens_per_batch": 100}]
)
def test_all_methods_see_the_same_batches_and_begin_from_the_same_weights(
    tmp_path: Path, batches: dict[str, Any]
) -> None:
    files = write_parallel(tmp_path)

    def run(method: str, seed: int) -> tuple[str, str]:
        folder = tmp_path / f"{method}{seed}"
        folder.mkdir()
        results = translation.main(
            [config(folder, {"method": method}, **files, **batches, seed=seed, do_predict=False,
                    do_eval=False, max_steps=4)]
        )  # fmt: skip
        return results["batches"], results["initial_weights"]

    dense = run("dense", 3)
    # A method that draws much and one that draws nothing leave the data's generator alone alike.
    assert run("chts", 3) == dense
    other = run("static", 4)
    assert other[0] != dense[0]
    assert other[1] != dense[1]
