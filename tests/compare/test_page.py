"""From records in a folder to numbers, tables and pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chts_hf.compare import page
from chts_hf.compare.curves import mean_curve
from chts_hf.compare.record import curves, make_record, read_record, write_record
from chts_hf.compare.spec import read_comparison
from chts_hf.compare.styles import line_styles
from tests.compare.records import comparison, quick, records


def test_a_page_with_its_numbers_and_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = comparison(tmp_path)
    for run, one in records(made, "set_s90_seed1").items():
        write_record(tmp_path / "records", run, one)
    monkeypatch.setattr(page, "compare", quick)
    out = tmp_path / "out"
    summary, section = page.write_comparison(made, tmp_path / "records", out, "there/")
    assert "set at 0.9 (seed 1)" in section
    assert "(there/bleu.svg)" in section
    assert "(there/curves_90.svg)" in section
    assert [run.name for run in summary.missing] == ["set_s90_seed1"]
    for picture in ("bleu.svg", "curves_90.svg"):
        text = (out / picture).read_text()
        assert text.startswith("<?xml")
        assert "#0072b2" in text  # CHTs' line
    numbers = json.loads((out / "summary.json").read_text())
    assert numbers["rows"][0]["label"] == "dense"
    assert numbers["rows"][0]["predict_bleu"] == {"mean": 30.5, "standard_error": 0.5}
    before = (out / "bleu.svg").read_bytes()  # the same numbers give the same files
    page.write_comparison(made, tmp_path / "records", out)
    assert (out / "bleu.svg").read_bytes() == before


def test_time_per_step_is_of_the_steps_since_the_run_went_on(tmp_path: Path) -> None:
    made = comparison(tmp_path)
    run = made.runs()[1]
    results = {
        "seed": run.seed, "target_sparsity": run.sparsity, "chts": run.config.to_dict(),
        "steps": 1000, "commit": "0123", "train_runtime": 20.0,
    }  # fmt: skip
    # 20 s for all of 1000 steps, for the 400 after step 600, and for none.
    for resumed, expected in ((0, 20.0), (600, 50.0), (1000, None)):
        written = make_record(made, run, {**results, "resumed_from_step": resumed}, [])
        assert written["milliseconds_per_step"] == expected
    assert make_record(made, run, results, [])["milliseconds_per_step"] == 20.0


def test_a_record_of_another_recipe_is_refused(tmp_path: Path) -> None:
    made = comparison(tmp_path)
    run = made.runs()[1]
    assert read_record(tmp_path, made, run) is None
    write_record(tmp_path, run, records(made)[run])
    assert read_record(tmp_path, made, run) == json.loads(json.dumps(records(made)[run]))
    other = read_comparison(tmp_path / "compare.yaml", options={"d_model": 32, "data_dir": "x"})
    with pytest.raises(ValueError, match=r"another recipe \(d_model was 16 and is 32\)"):
        read_record(tmp_path, other, run)


def test_runs_of_another_comparison_count_where_they_are_shared(tmp_path: Path) -> None:
    made, run = comparison(tmp_path), comparison(tmp_path).runs()[1]
    write_record(tmp_path / "theirs", run, records(made)[run] | {"seen": "theirs"})
    mine = tmp_path / "mine"
    assert read_record(mine, made, run) is None
    sharing = comparison(tmp_path, setting="mine", shares=["nowhere", "theirs"])
    found = read_record(mine, sharing, run)
    assert found is not None
    assert found["seen"] == "theirs"
    assert list(page.read_records(mine, sharing)) == [run]
    # One that was told otherwise is another run, and none of ours to complain of.
    longer = read_comparison(tmp_path / "compare.yaml", options={"max_steps": 2000})
    assert read_record(mine, longer, run) is None
    assert not page.read_records(mine, longer)
    write_record(mine, run, records(made)[run] | {"seen": "mine"})  # its own come first
    found = read_record(mine, sharing, run)
    assert found is not None
    assert found["seen"] == "mine"


def test_no_two_lines_look_alike() -> None:
    paths = sorted((Path(__file__).parents[2] / "configs").glob("compare_*.yaml"))
    assert len(paths) >= 5
    for path in paths:
        styles = line_styles(read_comparison(path))
        assert len({repr(style) for style in styles.values()}) == len(styles), path.name


def test_curves() -> None:
    log = [
        {"step": 5, "loss": 3.0, "topology/anp": 0.123456789},
        {"step": 5, "eval_loss": 2.0, "eval_bleu": 1.0},
        {"step": 5, "eval_loss": 1.9, "eval_bleu": 1.5},  # with more beams, after training
        {"step": 9, "train_runtime": 1.0},
    ]
    assert curves(log) == {
        "eval_loss": [[5, 2.0]], "eval_bleu": [[5, 1.0]], "loss": [[5, 3.0]], "anp": [[5, 0.12346]],
    }  # fmt: skip
    seeds = [{"curves": {"anp": [[1, 0.2], [2, 0.4]]}}, {"curves": {"anp": [[2, 0.6], [3, 1.0]]}}]
    steps, values = mean_curve(seeds, "anp")
    assert steps == [2]
    assert values == pytest.approx([0.5])
    assert mean_curve(seeds, "loss")[0] == []
