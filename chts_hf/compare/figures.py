"""A comparison as pictures: BLEU by method and by training FLOPs, and curves over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chts_hf.compare.published import PUBLISHED
from chts_hf.compare.spec import Comparison
from chts_hf.compare.summary import Row, Summary, mean_and_error

# Okabe and Ito's colours, which people with any kind of colour vision tell apart, strong for what
# is proposed, with markers where there is more of it than colours; baselines differ in dashes too.
_STRONG = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_MARKERS = ("", "o", "s", "^")
_BASELINES = ("#E69F00", "#56B4E9", "#8C6BB1", "#7F7F7F", "#A6761D", "#666633", "#B04A5A")
_DASHES = ((0, (4, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (9, 2)))
_REFERENCE = "#222222"
_STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#E8E8E8",
    "axes.axisbelow": True,
    "font.size": 9.5,
    "legend.frameon": False,
    "svg.hashsalt": "chts_hf",  # the same numbers give the same file
}
#: Panels of the curves: series of a record → title.
_PANELS = {
    "eval_loss": "Validation loss, nats per token",
    "eval_bleu": "Validation BLEU, greedy",
    "sparsity": "Density of the sparsified layers",
    "itop_rate": "ITOP rate: weights ever linked",
    "anp": "Active neurons",
}


def draw_comparison(folder: Path, summary: Summary) -> list[Path]:
    """Draw a comparison's pictures into a folder.

    Args:
        folder: where to write ``bleu.svg`` and ``curves_<sparsity>.svg``.
        summary: the comparison; without a finished run nothing is drawn.

    Returns:
        The files.
    """
    import matplotlib

    if not summary.rows:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    styles = line_styles(summary.comparison)
    found = [folder / "bleu.svg"]
    with matplotlib.rc_context(_STYLE):
        _draw_bleu(found[0], summary, styles)
        for sparsity in _sparsities(summary):
            found.append(folder / f"curves_{100 * sparsity:g}.svg")
            _draw_curves(found[-1], summary, sparsity, styles)
    return found


def mean_curve(records: Sequence[Mapping[str, Any]], name: str) -> tuple[list[int], np.ndarray]:
    """Average a series over seeds, at the steps that all of them have.

    Returns:
        Steps and values; empty if a seed has none.
    """
    series = [dict(map(tuple, record["curves"].get(name, []))) for record in records]
    steps = sorted(set.intersection(*(set(one) for one in series))) if series else []
    return steps, np.array([[one[step] for step in steps] for one in series]).mean(axis=0)


def _sparsities(summary: Summary) -> list[float]:
    return sorted({row.sparsity for row in summary.rows if row.sparsity > 0})


def line_styles(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """Label → colour, dashes, markers and width of its line, no two alike."""
    styles: dict[str, dict[str, Any]] = {}
    strong = plain = 0
    for label in comparison.methods:
        if label == comparison.reference:
            styles[label] = {"color": _REFERENCE, "linewidth": 1.8}
        elif label in comparison.proposed:
            styles[label] = {
                "color": _STRONG[strong % len(_STRONG)],
                "marker": _MARKERS[strong // len(_STRONG) % len(_MARKERS)],
                "markersize": 4,
                "linewidth": 2.4,
            }
            strong += 1
        else:
            styles[label] = {
                "color": _BASELINES[plain % len(_BASELINES)],
                "linestyle": _DASHES[plain % len(_DASHES)],
                "linewidth": 1.4,
            }
            plain += 1
    return styles


def _figure(width: float, height: float, title: str) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12, fontweight="bold", x=0.01, ha="left")
    return figure


def _save(figure: Any, path: Path) -> None:
    dated = {"Date": None} if path.suffix == ".svg" else {}
    figure.savefig(path, metadata=dated, dpi=130)


def _draw_bleu(path: Path, summary: Summary, styles: Mapping[str, Mapping[str, Any]]) -> None:
    """For each sparsity, BLEU by method at the left and over training FLOPs at the right."""
    sparsities = _sparsities(summary) or [0.0]
    most = max(sum(row.sparsity in (0.0, s) for row in summary.rows) for s in sparsities)
    height = (1.3 + 0.33 * most) * len(sparsities) + 0.4
    figure = _figure(11, max(height, 3.6), summary.comparison.title or summary.comparison.setting)
    grid = figure.subplots(len(sparsities), 2, squeeze=False, width_ratios=[1.35, 1])
    for axes, sparsity in zip(grid, sparsities, strict=True):
        rows = [row for row in summary.rows if row.sparsity in (0.0, sparsity)]
        _draw_ranking(axes[0], summary, rows, sparsity, styles)
        _draw_flops(axes[1], summary, rows, styles)
    _save(figure, path)


def _draw_ranking(
    axes: Any, summary: Summary, rows: Sequence[Row], sparsity: float, styles: Mapping[str, Any]
) -> None:
    rows = sorted(rows, key=lambda row: row.mean("predict_bleu"))
    name = summary.comparison.published
    published = PUBLISHED[name].bleu if name else {}
    for place, row in enumerate(rows):
        colour = styles[row.label]["color"]
        values = row.values("predict_bleu")
        mean, error = mean_and_error(values)
        axes.plot(values, [place] * len(values), "o", color=colour, alpha=0.35, markersize=4)
        axes.errorbar(mean, place, xerr=error, fmt="o", color=colour, markersize=7, capsize=3)
        if row.label == summary.comparison.reference:
            axes.axvline(mean, color=colour, linewidth=1, linestyle=(0, (2, 2)), zorder=1)
        cited = published.get((row.label, row.sparsity))
        if cited:
            axes.plot(cited[0], place, "D", markerfacecolor="none", color="#8C8C8C", markersize=6)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(axis="y", visible=False)
    axes.set_title(f"Test BLEU at {sparsity:.0%} sparsity")
    marks = [("o", 4, "a seed", 0.5, "#555555"), ("o", 7, "mean ± s.e.", 1.0, "#555555")]
    if published:
        marks.append(("D", 6, "published", 1.0, "none"))
    for mark, size, text, alpha, face in marks:
        axes.plot([], [], mark, markersize=size, alpha=alpha, label=text, color="#555555",
                  markerfacecolor=face)  # fmt: skip
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(marks), fontsize=8.5,
                handletextpad=0.2, columnspacing=1.0, borderaxespad=0.2)  # fmt: skip


def _draw_flops(
    axes: Any, summary: Summary, rows: Sequence[Row], styles: Mapping[str, Any]
) -> None:
    """BLEU over training FLOPs; dense is a line, as its FLOPs, 1, are far to the right."""
    points = []
    for row in rows:
        mean, error = mean_and_error(row.values("predict_bleu"))
        colour = styles[row.label]["color"]
        if row.sparsity == 0:
            axes.axhline(mean, color=colour, linewidth=1, linestyle=(0, (2, 2)), zorder=1)
            axes.annotate(row.label, (1, mean), xycoords=("axes fraction", "data"),
                          ha="right", va="bottom", fontsize=8.5, color=colour)  # fmt: skip
            continue
        flops = row.mean("relative_training_flops")
        axes.errorbar(flops, mean, yerr=error, fmt="o", color=colour, markersize=6, capsize=2)
        points.append((flops, mean, row.label, colour))
    axes.set_title("Test BLEU by training FLOPs")
    axes.set_xlabel("training FLOPs of the sparsified layers, dense = 1")
    if not points:
        return
    low, high = min(p[0] for p in points), max(p[0] for p in points)
    axes.set_xlim(low - 0.1 * (high - low + 0.02), high + 0.45 * (high - low + 0.02))
    _label_points(axes, points)


def _label_points(axes: Any, points: Sequence[tuple[float, float, str, str]]) -> None:
    """Write the points' names at their right, moved apart where they would overlap."""
    bottom, top = axes.get_ylim()
    step, shift = 0.062 * (top - bottom), 0.035 * np.ptp(axes.get_xlim())
    placed: list[tuple[float, float]] = []
    for x, y, text, colour in sorted(points, key=lambda point: point[1]):
        near = [height for other, height in placed if abs(other - x) < 8 * shift]
        height = max([y, *(one + step for one in near)])
        placed.append((x, height))
        axes.annotate(text, (x, y), xytext=(x + shift, height), va="center", fontsize=8.5,
                      color=colour,
                      arrowprops={"arrowstyle": "-", "color": "#CCCCCC", "linewidth": 0.7}
                      if height != y else None)  # fmt: skip


def _draw_curves(
    path: Path, summary: Summary, sparsity: float, styles: Mapping[str, Mapping[str, Any]]
) -> None:
    """Means over seeds of what was logged in training, a panel for each."""
    from matplotlib.ticker import MaxNLocator

    title = summary.comparison.title or summary.comparison.setting
    figure = _figure(12, 6.6, f"{title}; {sparsity:.0%} sparsity")
    grid = figure.subplots(2, 3).ravel()
    rows = [row for row in summary.rows if row.sparsity in (0.0, sparsity)]
    for axes, (name, heading) in zip(grid, _PANELS.items(), strict=False):
        for row in rows:
            steps, values = mean_curve(list(row.records.values()), name)
            if len(steps) == 0:
                continue
            shown = 1 - values if name == "sparsity" else values
            strong = styles[row.label]["linewidth"] > 2
            axes.plot(steps, shown, **styles[row.label], zorder=3 if strong else 2)
        axes.set_title(heading)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if name in ("sparsity", "itop_rate"):
            axes.set_ylim(0, None)
        if name == "eval_loss":
            _leave_out_the_start(axes)
    for axes in grid[2:5]:
        axes.set_xlabel("optimizer step")
    legend = grid[len(_PANELS)]
    legend.axis("off")
    for label in (
        label for label in summary.comparison.methods if label in {r.label for r in rows}
    ):
        legend.plot([], [], label=label, **styles[label])
    legend.legend(loc="center left", ncols=2, handlelength=3.2, labelspacing=0.8)
    _save(figure, path)


def _leave_out_the_start(axes: Any) -> None:
    """Cut the axis above the first losses, beside which the last ones would all look the same."""
    ends = [line.get_ydata()[-1] for line in axes.lines if len(line.get_ydata())]
    halves = [line.get_ydata()[len(line.get_ydata()) // 3] for line in axes.lines
              if len(line.get_ydata()) > 3]  # fmt: skip
    if halves:
        low, high = min(ends), max(halves)
        axes.set_ylim(low - 0.08 * (high - low), high)
