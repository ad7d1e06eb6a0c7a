"""The comparison recipe from end to end, at a size that says nothing of quality."""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from chts_hf.compare.record import write_record
from chts_hf.compare.runner import Job, State
from chts_hf.compare.spec import Comparison, Run
from chts_hf.runs.resume import STOPPED
from recipes import compare
from tests.compare.records import record
from tests.recipes.test_translation import CHTS, TINY

SMALL = {
    **TINY, "dataset_name": "embedded", "embedded_train": 80, "embedded_validation": 6,
    "embedded_test": 7, "max_steps": 90, "save_strategy": "steps", "save_steps": 30,
    "save_total_limit": 1, "eval_strategy": "steps", "eval_steps": 30, "logging_steps": 2,
}  # fmt: skip


def write_config(folder: Path, **changes: object) -> list[str]:
    (folder / "recipe.yaml").write_text(json.dumps({**SMALL, **changes, "chts": CHTS}))
    path = folder / "comparison.yaml"
    path.write_text(
        json.dumps(
            {"setting": "tiny", "recipe": "recipe.yaml", "methods": ["dense", "chts", "rigl"],
             "proposed": ["chts"], "sparsities": [0.75], "seeds": [0]}
        )
    )  # fmt: skip
    return [str(path), "--results_dir", str(folder / "results"), "--output_dir",
            str(folder / "out"), "--jobs", "1", "--methods", "dense", "chts"]  # fmt: skip


def interrupt_at(step: int, batches: Path) -> threading.Event:
    """Send ourselves SIGTERM when a run has come so far, unless the event is set before."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            if compare.steps_done(batches) >= step:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    threading.Thread(target=watch, daemon=True).start()
    return over


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.timeout(1500)
def test_a_comparison_that_is_stopped_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = write_config(tmp_path)
    dense, chts = tmp_path / "out" / "dense_seed0", tmp_path / "out" / "chts_s75_seed0"
    over = interrupt_at(5, chts / "batches.txt")
    code = compare.main(words)
    over.set()
    said = capsys.readouterr().out
    assert code == STOPPED, said
    assert "stopped by SIGTERM; 1 of 2 runs are finished" in said
    results = tmp_path / "results"
    assert [path.name for path in results.iterdir()] == ["dense_seed0.json"]
    # The page is of the run that had ended.
    page = tmp_path / "out" / "comparison.md"
    assert "Missing, 2 of 3 runs:** chts at 0.75 (seed 0); rigl" in page.read_text()
    assert not list(dense.glob("checkpoint-*"))
    assert len(list(chts.glob("checkpoint-*"))) == 1

    assert compare.main(words) == 0
    said = capsys.readouterr().out
    assert "2 of 2 runs are finished, 1 of them in these" in said
    assert "Missing, 1 of 3 runs:** rigl at 0.75 (seed 0)" in said
    records = {path.stem: json.loads(path.read_text()) for path in results.iterdir()}
    first, second = records["dense_seed0"], records["chts_s75_seed0"]
    assert 5 <= second["resumed_from_step"] < 90
    for name in ("batches", "initial_weights"):
        assert first[name] == second[name] is not None
    assert second["sparsity"] == pytest.approx(0.75)
    assert [step for step, _ in second["curves"]["eval_loss"]] == [30, 60, 90]
    assert len(second["curves"]["anp"]) >= 30
    assert second["relative_training_flops"] == 0.25
    assert (tmp_path / "out" / "curves_75.svg").is_file()
    assert not list(chts.glob("*.safetensors"))


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.timeout(1500)
def test_a_run_that_fails_is_reported_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = write_config(tmp_path, val_max_target_length=600)  # more than the model's positions
    assert compare.main([*words[:-2], "dense"]) == 1
    shown = capsys.readouterr()
    assert "dense_seed0 failed: exit code 2" in shown.err
    assert "the model has 512 positions" in shown.err
    assert "0 of 1 runs are finished" in shown.out


def finish_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first job have ended, and then have us told to stop."""

    def keep(of: Comparison, run: Run, folder: Path, results: Path, commit: str | None) -> None:
        write_record(results, run, record(of, run))

    def run_jobs(
        jobs: list[Job],
        finish: Callable[[Job], None],
        watch: Callable[[State], None],
        **told: object,
    ) -> State:
        state = State(jobs[1:])
        finish(jobs[0])
        state.finished.append(jobs[0].name)
        watch(state)
        os.kill(os.getpid(), signal.SIGTERM)
        return state

    monkeypatch.setattr(compare, "keep_results", keep)
    monkeypatch.setattr(compare, "run_jobs", run_jobs)


def test_a_stop_leaves_the_page_of_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = write_config(tmp_path)
    finish_the_first(monkeypatch)
    assert compare.main([*words, "--commit", "unknown"]) == STOPPED
    out = tmp_path / "out"
    assert "1 of 2 runs are finished" in capsys.readouterr().out
    text = (out / "comparison.md").read_text()
    assert "| dense | 0 | 30.00 |" in text
    assert "Missing, 2 of 3 runs:** chts at 0.75 (seed 0); rigl" in text
    assert {"bleu.svg", "summary.json"} <= {path.name for path in out.iterdir()}
    assert not list(out.glob(".page_*"))


def test_a_page_that_cannot_be_made_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = write_config(tmp_path)
    out = tmp_path / "out"
    assert compare.main([*words, "--report"]) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert "No run of" in before["comparison.md"].decode()

    def half(comparison: Comparison, records: Path, folder: Path) -> None:
        (folder / "summary.json").write_text("{")
        raise KeyboardInterrupt

    monkeypatch.setattr(compare, "write_comparison", half)
    with pytest.raises(KeyboardInterrupt):
        compare.main([*words, "--report"])
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_what_is_there_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = write_config(tmp_path)
    assert compare.main([*words, "--list"]) == 0
    assert capsys.readouterr().out.split("\n")[:2] == [
        "dense_seed0                             to do",
        "chts_s75_seed0                          to do",
    ]


def test_what_was_made_with_another_recipe_is_shown_and_not_run_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = write_config(tmp_path)
    _, made = compare.read_command_line([*words, "--d_model", "32"])
    for run in made.select(["dense"]):
        write_record(tmp_path / "results", run, record(made, run))
    why = "made with another recipe (d_model was 32 and is 16)"
    assert compare.main([*words, "--list"]) == 0
    dense, chts, *_ = capsys.readouterr().out.split("\n")
    assert dense.endswith(f"dense_seed0.json, {why}")
    assert chts.endswith("to do")
    assert compare.main([*words, "--report"]) == 0
    assert f"\nM{why[1:]}: dense_seed0.\n" in capsys.readouterr().out
    assert "| dense | 0 | 30.00 |" in (tmp_path / "out" / "comparison.md").read_text()
    with pytest.raises(ValueError, match=r"dense_seed0.json was made with another recipe"):
        compare.main(words)


def test_records_of_the_same_sentences_count_wherever_these_were(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = write_config(tmp_path)
    files = tmp_path / "files.yaml"
    files.write_text("dataset_name: ''\ntest_file: test.jsonl")
    _, made = compare.read_command_line([words[0], str(files), *words[1:]])
    for run in made.runs():
        digests = {"train": "aa", "test": "bb"}
        write_record(tmp_path / "results", run, record(made, run, corpus=digests))
    assert compare.main([*words, "--report"]) == 0
    said = capsys.readouterr().out
    assert "Missing" not in said
    assert "another recipe" not in said
    moved = "dataset_name was '' and is 'embedded'; test_file was 'test.jsonl' and is None"
    assert f"elsewhere than it would be now ({moved})" in said
    assert compare.main([*words, "--list"]) == 0
    assert f"dense_seed0.json, its data was elsewhere ({moved})\n" in capsys.readouterr().out
    assert compare.main([*words, "--commit", "unknown"]) == 0  # nothing is left to run
    assert "2 of 2 runs are finished, 0 of them" in capsys.readouterr().out
    assert compare.main([words[0], str(files), *words[1:], "--report"]) == 0
    assert "elsewhere" not in capsys.readouterr().out


def test_a_mistake_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = write_config(tmp_path)
    for wrong, message in (
        (["nowhere.yaml"], "error: configuration file 'nowhere.yaml' does not exist\n"),
        ([*words, "--seeds", "7"], "error: no run of methods ['dense', 'chts'], "),
        ([*words, "--max_step", "3"], "error: unknown key 'max_step' in "),
        ([*words, "--d_model", "many"], "error: argument --d_model"),
    ):
        monkeypatch.setattr(sys, "argv", ["compare.py", *wrong])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(compare.__file__, run_name="__main__")
        assert end.value.code == 2
        assert capsys.readouterr().err.startswith(message)
    # What the command itself returns is the exit code.
    monkeypatch.setattr(sys, "argv", ["compare.py", *words, "--list"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(compare.__file__, run_name="__main__")
    assert end.value.code == 0


def test_where_there_is_no_git_the_commit_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = write_config(tmp_path)
    started: list[str] = []

    def run_jobs(jobs: list[Job], **told: object) -> State:
        started.extend(job.name for job in jobs)
        return State([])

    monkeypatch.setattr(compare, "git_commit", lambda folder: None)
    monkeypatch.setattr(compare, "run_jobs", run_jobs)
    with pytest.raises(ValueError, match=r"no git here .* --commit HASH, or --commit unknown"):
        compare.main(words)
    assert started == []
    assert compare.main([*words, "--commit", "unknown"]) == 0
    assert started == ["dense_seed0", "chts_s75_seed0"]


def test_options_are_passed_on_to_every_run(tmp_path: Path) -> None:
    words = write_config(tmp_path)
    options, made = compare.read_command_line(
        [*words, "--max_steps", "9", "--chts.zeta=0.1", "--dataset_name", "", "--fp16", "true"]
    )
    assert options.jobs == 1
    arguments = made.arguments(made.runs()[1])
    assert (arguments["max_steps"], arguments["fp16"]) == (9, True)
    assert arguments["dataset_name"] == ""
    assert arguments["chts"]["zeta"] == 0.1
    assert made.source == "comparison.yaml"
    for wrong, message in (
        (["--max_steps"], "cannot read '--max_steps'"),
        (["--jobs", "0"], "--jobs is 0"),
        (["--time_limit", "0.5"], "leaves no time beside the 60 seconds of --grace and the 30 "),
    ):
        with pytest.raises(ValueError, match=message):
            compare.read_command_line([*words, *wrong])


def test_the_step_is_read_from_the_log_of_batches(tmp_path: Path) -> None:
    path = tmp_path / "batches.txt"
    assert compare.steps_done(path) == 0
    path.write_text("1 00ff\n2 00fe\n30 0")
    assert compare.steps_done(path) == 2
    assert os.path.exists(path)
