"""What the pictures of a comparison show, read from what was drawn."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text

from chts_hf.compare.curves import PANELS, curves_figure
from chts_hf.compare.figures import bleu_figure, draw_comparison
from chts_hf.compare.labels import spread
from chts_hf.compare.published import PUBLISHED
from chts_hf.compare.spec import Comparison, read_comparison
from chts_hf.compare.styles import base_method, line_styles
from chts_hf.compare.summary import Summary, summarise
from tests.compare.records import QUALITY, comparison, quick, record, records

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("compare_*.yaml"))
BASES = ("chtss", "granet", "gmp", "mest", "chts", "set", "rigl", "cht")
SERIES = {
    "eval_loss": [[10, 4.0], [20, 3.0], [30, 2.5], [40, 2.0]],
    "eval_bleu": [[10, 1.0], [40, 9.0]],
    "sparsity": [[5, 0.5], [25, 0.7], [40, 0.9]],
    "itop_rate": [[5, 0.2], [40, 0.6]],
    "anp": [[5, 1.0], [40, 0.981]],
}


def drawn(axes: Any, label: str) -> tuple[list[float], list[float]]:
    """The data of what has a label: a line, or the points of an error bar."""
    lines = {line.get_label(): line for line in axes.lines}
    for bar in axes.containers:
        lines[bar.get_label()] = bar.lines[0]
    x, y = lines[label].get_data()
    return list(x), list(y)


def labels(axes: Any) -> list[str]:
    """The labels of all that has one."""
    found = [artist.get_label() for artist in (*axes.lines, *axes.containers)]
    return [label for label in found if not label.startswith("_")]


def many(folder: Path, variants: int) -> Comparison:
    """Dense, and methods with so many variants each."""
    methods: list[Any] = ["dense"]
    for number, base in itertools.product(range(variants), BASES):
        methods.append(
            {f"{base}_{number}": {"method": base, "rewarm_steps": number}} if number else base
        )
    return comparison(folder, methods=methods, seeds=[0])


def many_summary(folder: Path, variants: int) -> Summary:
    """A comparison of them in which many points meet."""
    made = many(folder, variants)
    found = {}
    for number, run in enumerate(made.runs()):
        known = replace(run, label="set")
        bleu = 28.0 if run.is_dense else 25.0 + 0.003 * number
        curves = {name: [[s, v + 1e-3 * number] for s, v in c] for name, c in SERIES.items()}
        found[run] = record(made, known) | {
            "label": run.label, "predict_bleu": bleu, "curves": curves, "recipe": {},
            "sparsity": run.sparsity, "target_sparsity": run.sparsity,
        }  # fmt: skip
    return summarise(made, found, quick)


def test_the_ranking_shows_each_rows_mean_error_and_seeds(tmp_path: Path) -> None:
    made = comparison(tmp_path)
    axes = bleu_figure(summarise(made, records(made), quick)).axes[0]
    # (The records' BLEU is QUALITY's of seed 0, and 1 more of seed 1.)
    order = sorted(QUALITY, key=lambda label: QUALITY[label][1])
    assert [text.get_text() for text in axes.get_yticklabels()] == order
    for place, label in enumerate(order):
        bleu = QUALITY[label][1]
        assert drawn(axes, label) == ([bleu + 0.5], [place])
        assert drawn(axes, f"{label}: seeds") == ([bleu, bleu + 1], [place, place])
    (bar,) = [one for one in axes.containers if one.get_label() == "granet"]
    ends = bar.lines[2][0].get_segments()[0][:, 0]
    assert ends == pytest.approx([30.5, 31.5])  # ± s / √2, with s = 1 / √2
    assert axes.get_title() == "Test BLEU at 90% sparsity"


def test_the_other_panel_shows_bleu_over_training_flops(tmp_path: Path) -> None:
    made = comparison(tmp_path)
    summary = summarise(made, records(made), quick)
    axes = bleu_figure(summary).axes[1]
    flops = {row.label: row.mean("relative_training_flops") for row in summary.rows}
    assert len(set(flops.values())) > 2
    for label, (_, bleu) in QUALITY.items():
        x, y = drawn(axes, label)
        if label == "dense":
            assert (x, y) == ([0, 1], [30.5, 30.5])  # a line from side to side
        else:
            assert (x, y) == ([flops[label]], [bleu + 0.5])
    names = {text.get_text(): text for text in axes.texts}
    assert names.keys() == QUALITY.keys()
    for label in QUALITY.keys() - {"dense"}:
        assert names[label].xy == (flops[label], QUALITY[label][1] + 0.5)


@pytest.mark.parametrize("variants", [1, 4])
def test_names_of_points_lie_apart_inside_the_axes(tmp_path: Path, variants: int) -> None:
    summary = many_summary(tmp_path, variants)
    rows = len(summary.rows)
    assert rows == 1 + 8 * variants
    figure = bleu_figure(summary)
    figure.draw_without_rendering()
    left, right = figure.axes
    named = [text for text in right.texts if text.get_text() != "dense"]
    ranked = [text.get_text().split() for text in left.get_yticklabels()]
    if variants == 1:
        assert sorted(text.get_text() for text in named) == sorted(BASES)
    else:  # numbers, and the other panel says whose they are
        assert ranked[-1] == ["dense", "1"]
        numbers = {number: label for label, number in ranked}
        for text in named:
            assert drawn(right, numbers[text.get_text()])[1] == [text.xy[1]]
        assert len(named) == rows - 1
        assert "numbers: the rows at the left" in right.get_xlabel()
    frame = right.get_window_extent()
    boxes = [Text.get_window_extent(text) for text in named]  # without its line
    for box in boxes:
        assert frame.x0 <= box.x0
        assert box.x1 <= frame.x1
        assert frame.y0 - 1 <= box.y0
        assert box.y1 <= frame.y1 + 1
    for one, other in itertools.combinations(boxes, 2):
        apart = (
            one.x1 <= other.x0 or other.x1 <= one.x0
            or one.y1 <= other.y0 + 1 or other.y1 <= one.y0 + 1
        )  # fmt: skip
        assert apart


def test_heights_move_no_more_than_they_must() -> None:
    assert spread([1, 5, 9], 2, 0, 10).tolist() == [1, 5, 9]
    assert spread([4, 4, 4], 2, 0, 10).tolist() == [2, 4, 6]  # up and down
    assert spread([9, 9, 9], 2, 0, 10).tolist() == [6, 8, 10]
    assert spread([0, 0], 2, 0, 10).tolist() == [0, 2]
    assert spread([5] * 6, 2, 0, 5).tolist() == [0, 1, 2, 3, 4, 5]  # as far apart as there is room
    assert np.diff(spread([1, 1.5, 2, 7, 7], 1, 0, 10)).min() >= 1 - 1e-9
    assert spread([3], 2, 0, 10).tolist() == [3]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_variants_have_their_methods_colour_and_a_look_of_their_own(path: Path) -> None:
    made = read_comparison(path)
    styles = line_styles(made)
    assert list(styles) == list(made.methods)
    for one, other in itertools.combinations(styles, 2):
        same = base_method(made, one) == base_method(made, other)
        assert (styles[one]["color"] == styles[other]["color"]) == same
        if same:
            assert styles[one]["marker"] != styles[other]["marker"]
    # A method has one colour in all comparisons.
    assert (
        styles[made.reference]["color"]
        == {"dense": "#222222", "chtss": "#0072B2"}[base_method(made, made.reference)]
    )


def test_points_and_lines_of_a_row_look_alike(tmp_path: Path) -> None:
    summary = many_summary(tmp_path, 2)
    styles = line_styles(summary.comparison)
    left, right = bleu_figure(summary).axes
    panels = curves_figure(summary, 0.9).axes
    for label in ("gmp", "gmp_1", "chtss_1"):
        looks = [bar.lines[0] for axes in (left, right) for bar in axes.containers
                 if bar.get_label() == label]  # fmt: skip
        assert len(looks) == 2
        lines = [line for axes in panels for line in axes.lines if line.get_label() == label]
        assert len(lines) == len(PANELS) + 1  # and in the legend
        for look in [*looks, *lines]:
            assert look.get_color() == styles[label]["color"]
            assert look.get_marker() == styles[label]["marker"]


def with_curves(made: Comparison) -> Summary:
    """Two seeds, the second 0.1 above the first."""
    found = {}
    for run in made.runs():
        series = {name: [[s, v + 0.1 * run.seed] for s, v in c] for name, c in SERIES.items()}
        if run.is_dense:
            series = {name: series[name] for name in ("eval_loss", "eval_bleu")}
        found[run] = record(made, run, curves=series)
    return summarise(made, found, quick)


def test_curves_are_means_of_the_series_their_panels_name(tmp_path: Path) -> None:
    figure = curves_figure(with_curves(comparison(tmp_path)), 0.9)
    panels = dict(zip(PANELS, figure.axes, strict=False))
    for name, axes in panels.items():
        assert PANELS[name] in axes.get_title()
        steps, values = zip(*SERIES[name], strict=True)
        x, y = drawn(axes, "chts")
        assert x == list(steps)
        means = np.array(values) + 0.05
        assert y == pytest.approx(1 - means if name == "sparsity" else means)
        assert ("dense" in labels(axes)) == (name in ("eval_loss", "eval_bleu"))
    assert panels["sparsity"].get_ylim()[0] == 0
    assert panels["itop_rate"].get_ylim()[0] == 0
    assert set(labels(figure.axes[5])) == set(QUALITY)  # the legend


def test_an_axis_that_does_not_begin_at_0_says_so(tmp_path: Path) -> None:
    made = comparison(tmp_path, seeds=[0])
    axes = dict(zip(PANELS, curves_figure(with_curves(made), 0.9).axes, strict=False))["anp"]
    low, high = axes.get_ylim()
    assert low == 0.98
    assert high > 1
    assert "axis from 0.98" in axes.get_title()


@pytest.mark.parametrize("many", [False, True])
def test_a_panel_has_one_title_in_the_pictures_style(tmp_path: Path, monkeypatch, many) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("chts_hf.compare.figures._save", lambda figure, path: drawn.append(figure))
    summary = many_summary(tmp_path, 4) if many else with_curves(comparison(tmp_path, seeds=[0]))
    draw_comparison(tmp_path, summary)
    titled = [
        [axes.get_title(loc=loc) for loc in ("left", "center", "right") if axes.get_title(loc=loc)]
        for figure in drawn
        for axes in figure.axes
    ]
    assert ["Active neurons; axis from 0.98"] in titled
    assert all(len(titles) <= 1 for titles in titled)


def test_many_rows_have_panels_for_each_method(tmp_path: Path) -> None:
    summary = many_summary(tmp_path, 4)
    figure = curves_figure(summary, 0.9)
    assert len(figure.axes) == 6 * len(BASES)
    for number, base in enumerate(BASES):
        *panels, legend = figure.axes[6 * number : 6 * number + 6]
        wanted = ["dense", base, *(f"{base}_{variant}" for variant in (1, 2, 3))]
        assert labels(legend) == wanted
        for name, axes in zip(PANELS, panels, strict=True):
            assert labels(axes) == wanted
            assert axes.get_ylim() == figure.axes[list(PANELS).index(name)].get_ylim()
        _, y = drawn(panels[2], f"{base}_3")
        row = next(row for row in summary.rows if row.label == f"{base}_3")
        series = row.records[0]["curves"]["sparsity"]
        assert y == pytest.approx([1 - value for _, value in series])


def test_published_numbers_are_differences_from_the_reference(tmp_path: Path) -> None:
    made = comparison(
        tmp_path, published="multi30k", options={"d_model": 128}, methods=["dense", "chtss", "set"]
    )
    axes = bleu_figure(summarise(made, records(made), quick)).axes[0]
    # Ours: dense 30.5 on average. Theirs: dense 31.38, CHTss 32.86, SET 29.73 at 90 %.
    order = [text.get_text() for text in axes.get_yticklabels()]
    assert drawn(axes, "chtss: published") == (
        [pytest.approx(30.5 + 32.86 - 31.38)], [order.index("chtss")]
    )  # fmt: skip
    assert drawn(axes, "set: published")[0] == [pytest.approx(30.5 + 29.73 - 31.38)]
    assert "dense: published" not in labels(axes)
    assert axes.get_xlabel() == (
        "diamonds: published differences from dense, of a larger model and longer training"
    )
    assert PUBLISHED["multi30k"].beyond({"d_model": 512, "max_steps": 5000}) == ""
    # Without a reference there is nothing to take a difference from.
    without = {run: one for run, one in records(made).items() if not run.is_dense}
    axes = bleu_figure(summarise(made, without, quick)).axes[0]
    assert not [label for label in labels(axes) if label.endswith("published")]
    assert axes.get_xlabel() == ""
