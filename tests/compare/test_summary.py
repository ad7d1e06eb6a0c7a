"""Means, the choice of the best baseline, and what a table says of what is not there."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from chts_hf.compare.formatting import mean_and_error
from chts_hf.compare.numbers import summary_data
from chts_hf.compare.significance import Paired, compare, decode_statistics, encode_statistics
from chts_hf.compare.summary import Row, best_baseline, summarise
from chts_hf.compare.tables import comparison_section
from tests.compare.records import QUALITY, comparison, quick, record, records


def test_mean_and_standard_error_by_hand() -> None:
    assert mean_and_error([20.0, 21.0, 25.0]) == (22.0, pytest.approx(math.sqrt(7 / 3)))
    assert mean_and_error([4.0]) == (4.0, None)
    assert math.isnan(mean_and_error([])[0])


def test_the_best_baseline_is_chosen_on_validation(tmp_path: Path) -> None:
    made = comparison(tmp_path)
    summary = summarise(made, records(made), quick)
    rows = {row.label: row for row in summary.rows}
    assert [row.label for row in summary.rows] == [
        "dense", "chtss", "granet", "chts", "rigl", "set",
    ]  # fmt: skip
    # GraNet has the best loss of all baselines; CHTs costs as much as RigL and SET, and of those
    # RigL has the better loss, though SET has the better BLEU.
    assert rows["chts"].tests["steps"].against == "granet"
    assert rows["chts"].tests["flops"].against == "rigl"
    assert rows["chtss"].tests["flops"].against == "granet"
    assert rows["rigl"].tests["flops"].against == "set"
    assert rows["chts"].tests["reference"].against == "dense"
    assert rows["dense"].tests == {}


def test_the_best_baseline_is_of_the_same_sparsity(tmp_path: Path) -> None:
    made = comparison(tmp_path, sparsities=[0.8, 0.9])
    # At 0.8 SET has the lowest loss of all.
    easy = {run: {"eval_loss": 1.0} for run in made.runs() if run.name.startswith("set_s80")}
    there = {run: record(made, run, **easy.get(run, {})) for run in made.runs()}
    rows = {(r.label, r.sparsity): r for r in summarise(made, there, quick).rows}
    assert rows["chts", 0.8].tests["steps"].against == "set"
    assert rows["chts", 0.9].tests["steps"].against == "granet"


def test_equal_flops_are_those_within_a_tenth(tmp_path: Path) -> None:
    made = comparison(tmp_path)

    def row(label: str, flops: float, loss: float) -> Row:
        return Row(label, 0.9, {0: {"relative_training_flops": flops, "eval_loss": loss}})

    like = row("chts", 0.2, 2.0)
    for near, far in ((0.218, 0.222), (0.182, 0.178)):  # 9 % and 11 % off
        rows = [like, row("set", near, 1.9), row("rigl", far, 1.8)]
        for equal, label in (("flops", "set"), ("steps", "rigl")):
            best = best_baseline(made, rows, like, equal)
            assert best is not None
            assert best.label == label
        assert best_baseline(made, rows[::2], like, "flops") is None


def test_a_model_that_is_too_dense_is_no_best_baseline(tmp_path: Path) -> None:
    made = comparison(tmp_path)
    there = records(made)
    for missed, best in ((0.004, "granet"), (0.006, "rigl")):
        for run, one in there.items():
            if run.label == "granet":
                one["sparsity"] = 0.9 - missed
        summary = summarise(made, there, quick)
        rows = {row.label: row for row in summary.rows}
        assert rows["chts"].tests["steps"].against == best
        flagged = [row["label"] for row in summary_data(summary)["rows"] if row["ended_too_dense"]]
        assert flagged == (["granet"] if best == "rigl" else [])
        assert rows["granet"].tests["steps"].against == "rigl"  # it is compared with others


def test_tests_of_fewer_seeds_say_so(tmp_path: Path) -> None:
    made = comparison(tmp_path, seeds=[0, 1, 2])
    assert "; seed" not in comparison_section(summarise(made, records(made), quick))
    partial = summarise(made, records(made, "chts_s90_seed1", "dense_seed1"), quick)
    page = comparison_section(partial)
    bleu, loss = (part for part in page.split("\n\n") if "− dense" in part)
    rows = {line.split(" | ")[0]: line for line in bleu.splitlines()}
    assert rows["| chtss"].split(" | ")[2].endswith("(<0.001, 0.250; seeds 0, 2)")
    # Both have the same two: that is what their columns say too.
    assert rows["| chts"].split(" | ")[2].endswith("(<0.001, 0.250)")
    assert "+0.1000 ± 0.0000 (seeds 0, 2)" in loss
    one = summarise(made, records(made, "dense_seed1", "dense_seed2"), quick)
    assert "(<0.001, 0.250; seed 0)" in comparison_section(one)


def test_methods_are_compared_seed_by_seed(tmp_path: Path) -> None:
    made = comparison(tmp_path, seeds=[0, 1, 2])
    there = records(made, "dense_seed2")
    for run, one in there.items():
        # Dense is 1.5, 1.7; CHTs 1.8, 2.3, 9: by 0.3 and 0.6 higher, 0.45 ± 0.15.
        one["eval_loss"] += {"dense": (0, 0.2), "chts": (0, 0.5, 7.2)}.get(run.label, (0, 0, 0))[
            run.seed
        ]
        # CHTs' BLEU is 2 below dense, and 1 above: 1.5 is the error of that difference.
        one["predict_bleu"] += 3 if run.name == "chts_s90_seed1" else 0
    summary = summarise(made, there, quick)
    page = comparison_section(summary)
    assert "| validation loss of …, seed by seed | sparsity asked | − dense | " in page
    assert "| chts | 0.9 | +0.4500 ± 0.1500 (seeds 0, 1) | " in page
    assert "| +0.1500 ± 0.0000 granet |" in page  # RigL's
    assert " ± 1.50 (<0.001, 0.250; seeds 0, 1) |" in page
    found = {row["label"]: row for row in summary_data(summary)["rows"]}["chts"]["tests"]
    assert found["reference"]["seeds"] == [0, 1]
    assert found["reference"]["bleu_difference"] == {
        "mean": -0.5, "standard_error": pytest.approx(1.5),
    }  # fmt: skip
    assert found["reference"]["eval_loss_difference"] == {
        "mean": pytest.approx(0.45), "standard_error": pytest.approx(0.15),
    }  # fmt: skip
    alone = summarise(made, records(made, "dense_seed1", "dense_seed2"), quick)
    assert "| +0.3000 (seed 0) | " in comparison_section(alone)


def test_what_stays_below_the_level_after_correction_is_marked(tmp_path: Path) -> None:
    made = comparison(tmp_path)
    p = iter([0.011, 0.012, 0.02, 0.2, 0.3])  # five rows against dense: 0.055 and more

    def test(system: np.ndarray, other: np.ndarray) -> Paired:
        return Paired(30.0, 29.0, 0.001, next(p))

    only = {run: one for run, one in records(made).items() if run.label in ("dense", "chts")}
    summary = summarise(made, only, lambda *_: Paired(30.0, 29.0, 0.001, 0.04))
    assert summary.rows[1].tests["reference"].p_holm == 0.04
    page = comparison_section(summary)
    assert "| +1.00 ± 0.00† (0.001, 0.040) |" in page
    assert "after Holm's correction" in page
    without = comparison(tmp_path, proposed=list(QUALITY)[1:])  # no baseline, one column
    summary = summarise(without, records(without), test)
    corrected = [row.tests["reference"].p_holm for row in summary.rows[1:]]
    assert corrected == pytest.approx([0.055, 0.055, 0.06, 0.4, 0.4])
    assert "†" not in comparison_section(summary)


def test_a_page_says_which_checkpoint_was_tested_on_what(tmp_path: Path) -> None:
    made = comparison(
        tmp_path, options={"load_best_model_at_end": True, "test_file": "test_2016.{lang}"}
    )
    page = comparison_section(summarise(made, records(made), quick))
    assert "Test: best checkpoint on validation, on `test_2016.{lang}`. BLEU" in page
    bounded = {"load_best_model_at_end": True, "best_model_from_step": 40}
    made = comparison(tmp_path, options=bounded)
    page = comparison_section(summarise(made, records(made), quick))
    assert "Test: best checkpoint on validation from step 40 on, on the test part" in page


def test_while_runs_are_missing_the_best_is_of_the_seeds_shared_with_the_row(
    tmp_path: Path,
) -> None:
    made = comparison(tmp_path, seeds=[0, 1, 2])

    def row(label: str, losses: dict[int, float]) -> Row:
        records = {
            seed: {"eval_loss": loss, "relative_training_flops": 0.1, "sparsity": 0.9}
            for seed, loss in losses.items()
        }
        return Row(label, 0.9, records)

    # RigL has all seeds; over CHTs' two, GraNet and SET are better, whose third is not there or
    # far off.
    like = row("chts", {0: 1.0, 1: 1.0})
    rigl = row("rigl", {0: 0.9, 1: 0.9, 2: 0.1})
    granet = row("granet", {0: 0.6, 1: 0.8})
    one = row("set", {0: 0.2, 2: 0.1})
    for rows, label in (
        ([rigl, granet, one], "granet"),
        ([rigl, one], "rigl"),  # the only one with both seeds
        ([one], "set"),  # none has both, and this one has one
    ):
        for equal in ("steps", "flops"):
            best = best_baseline(made, [like, *rows], like, equal)
            assert best is not None
            assert best.label == label
    assert best_baseline(made, [rigl, row("set", {0: 0.1})], row("chts", {3: 1.0}), "steps") is None
    # Of several that share as many, each is judged by those it shares.
    apart = [row("rigl", {0: 0.5, 2: 9.0}), row("set", {1: 0.4, 3: 9.0}), row("granet", {2: 0.1})]
    best = best_baseline(made, apart, like, "steps")
    assert best is not None
    assert best.label == "set"


def test_a_page_with_missing_runs_says_how_the_best_baseline_was_chosen(tmp_path: Path) -> None:
    made = comparison(tmp_path)
    summary = summarise(made, records(made, "granet_s90_seed1"), quick)
    rows = {row.label: row for row in summary.rows}
    assert rows["chts"].tests["steps"].against == "rigl"  # GraNet has one of its two seeds
    # A test takes the seeds that both have.
    assert rows["granet"].tests["reference"].seeds == (0,)
    assert rows["chts"].tests["reference"].seeds == (0, 1)
    rule = "over the seeds that it shares with the row, among those that share all"
    assert rule in comparison_section(summary)
    assert rule not in comparison_section(summarise(made, records(made), quick))


def test_a_partial_table_says_what_is_missing(tmp_path: Path) -> None:
    made = comparison(tmp_path)
    there = records(made, "set_s90_seed0", "set_s90_seed1", "chts_s90_seed1", "dense_seed1")
    summary = summarise(made, there, quick)
    page = comparison_section(summary)
    missing = "dense (seed 1); chts at 0.9 (seed 1); set at 0.9 (seeds 0, 1)"
    assert f"**Missing, 4 of 12 runs:** {missing}." in page
    assert "| chts | 0.9 | 28.00 | 48.00 | 0.889 | 0.0 | 1.8000 | 0.100 | 0 |" in page
    assert "| chtss | 0.9 | 31.50 ± 0.50 |" in page
    assert "| set |" not in page
    assert summary_data(summary)["missing"] == [
        "set_s90_seed0", "dense_seed1", "chts_s90_seed1", "set_s90_seed1",
    ]  # fmt: skip
    assert "Missing" not in comparison_section(summarise(made, records(made), quick))
    nothing = comparison_section(summarise(made, {}, quick))
    assert "No run of" in nothing
    assert "Missing, 12 of 12 runs" in nothing


def test_tables_show_tests_and_what_was_published(tmp_path: Path) -> None:
    made = comparison(tmp_path, published="multi30k")
    there = records(made)
    for run, one in there.items():
        if run.label == "chtss":
            one["sparsity"] = 0.7  # the best checkpoint is from before the end of the decay
    page = comparison_section(summarise(made, there, quick), ["made_up/bleu.svg"])
    assert "| 31.50 ± 0.50* | 51.00 ± 0.00 | 0.889 ± 0.000 | 0.0 ± 0.0 | 1.6000 ± 0.0000* |" in page
    assert "| 32.86 ± 0.16 | 0, 1 |" in page
    assert "cited, not measured here" in page
    assert "− best baseline, equal FLOPs" in page
    assert "granet (<0.001, 0.250)" in page
    assert "| 0.7000 ± 0.0000* |" in page
    assert "before the density had fallen" in page
    assert "| chtss* | 0.9 | +" in page
    assert "| 125.0 ± 0.0 | 1,234 | 0123456789 |" in page
    assert "![Test BLEU by method](made_up/bleu.svg)" in page


def test_runs_that_are_no_fair_comparison_are_named(tmp_path: Path) -> None:
    made = comparison(tmp_path)
    there = records(made)
    assert summarise(made, there, quick).unlike == []
    run = made.runs()[2]
    for changes, message in (
        ({"batches": "other"}, "runs of seed 0 trained on different batches: dense_seed0, "),
        ({"dataset": "other"}, "runs of seed 0 are of different data: dense_seed0, "),
        ({"languages": "en-fr"}, "runs of seed 0 translate different languages: dense_seed0, "),
        ({"initial_weights": "other"}, "runs of seed 0 began from different weights"),
        ({"bleu_signature": "nrefs:2"}, "runs of seed 0 were scored differently: dense_seed0, "),
        ({"recipe": {**made.identity(run), "d_model": 9}}, "d_model was 16 and is 9"),
        (
            {"recipe": {**made.identity(run), "chts": {**run.chts, "zeta": 0.4}}},
            f"{run.name} was sparsified otherwise than dense_seed0: zeta=0.4",
        ),
    ):
        summary = summarise(made, {**there, run: record(made, run, **changes)}, quick)
        assert len(summary.unlike) == 1
        assert message in summary.unlike[0]
        assert f"**Not comparable:** {summary.unlike[0]}." in comparison_section(summary)
    first = made.runs()[0]
    other = {"recipe": {**made.identity(first), "chts": {**first.chts, "zeta": 0.4}}}
    assert summarise(made, {**there, first: record(made, first, **other)}, quick).unlike
    # What all were given alike is no difference.
    alike = {
        one: record(made, one, recipe={**made.identity(one), "chts": {**one.chts, "zeta": 0.4}})
        for one in made.runs()
    }
    assert summarise(made, alike, quick).unlike == []
    # A run that went on in another folder does not know all of its batches.
    silent = {**there, run: record(made, run, batches=None)}
    summary = summarise(made, silent, quick)
    assert summary.unlike == []
    assert summary.unknown == [f"batches unknown of {run.name}"]
    page = comparison_section(summary)
    assert f"**Perhaps not comparable:** batches unknown of {run.name}." in page
    assert "unknown" not in comparison_section(summarise(made, there, quick))


def test_rows_name_their_machine_and_configuration_where_they_differ(tmp_path: Path) -> None:
    made = comparison(tmp_path)
    there = records(made)
    page = comparison_section(summarise(made, there, quick))
    assert f"`{made.source}`: words en-de, 1000 steps, beam 2; a box. Test: " in page
    assert "Test: last checkpoint, on the test part of the data. BLEU `nrefs:1`." in page
    assert "| non-zero parameters | commit |\n" in page
    there[made.runs()[1]] |= {"machine": "another", "config": "other.yaml"}  # CHTs, seed 0
    page = comparison_section(summarise(made, there, quick))
    assert "| non-zero parameters | commit | machine | config |\n" in page
    assert f"| 0123456789 | another, a box | other.yaml, {made.source} |" in page
    assert f"| 0123456789 | a box | {made.source} |" in page


def test_records_of_other_references_are_refused(tmp_path: Path) -> None:
    made = comparison(tmp_path, methods=["dense", "chts"], seeds=[0], proposed=[])
    there = records(made)
    other = decode_statistics(there[made.runs()[1]]["bleu_statistics"])
    other[:, 1] += 1
    there[made.runs()[1]]["bleu_statistics"] = encode_statistics(other)
    with pytest.raises(ValueError, match=r"chts and dense at 0.9, seeds .*different test sets"):
        summarise(made, there, compare)
