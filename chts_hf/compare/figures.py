"""A comparison as pictures: BLEU by method and by training FLOPs, and curves over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chts_hf.compare.curves import curves_figure
from chts_hf.compare.formatting import mean_and_error
from chts_hf.compare.labels import Point, label_points
from chts_hf.compare.published import PUBLISHED
from chts_hf.compare.styles import line_styles, new_figure
from chts_hf.compare.summary import Row, Summary

#: More rows than these are numbered, and points have their numbers beside them.
NAMED = 12
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
_REFERENCE_LINE = {"linewidth": 1, "linestyle": (0, (2, 2)), "zorder": 1}


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
    found = [folder / "bleu.svg"]
    with matplotlib.rc_context(_STYLE):
        _save(bleu_figure(summary), found[0])
        for sparsity in _sparsities(summary):
            found.append(folder / f"curves_{100 * sparsity:g}.svg")
            _save(curves_figure(summary, sparsity), found[-1])
    return found


def bleu_figure(summary: Summary) -> Any:
    """For each sparsity, draw BLEU by method at the left and over training FLOPs at the right.

    Returns:
        The figure. A mean with its error is labelled with its row's label, a row's seeds with
        ``"<label>: seeds"``, a published difference with ``"<label>: published"``.
    """
    sparsities = _sparsities(summary) or [0.0]
    groups = [
        sorted(
            (row for row in summary.rows if row.sparsity in (0.0, sparsity)),
            key=lambda row: row.mean("predict_bleu"),
        )
        for sparsity in sparsities
    ]
    heights = [max(1.3 + 0.3 * len(rows), 2.6) for rows in groups]
    title = summary.comparison.title or summary.comparison.setting
    figure = new_figure(11, sum(heights) + 0.4, title)
    grid = figure.subplots(
        len(groups), 2, squeeze=False, width_ratios=[1.35, 1], height_ratios=heights
    )
    points = []
    for axes, rows, sparsity in zip(grid, groups, sparsities, strict=True):
        names = _names(rows)
        _draw_ranking(axes[0], summary, rows, sparsity, names)
        points.append(_draw_flops(axes[1], summary, rows, names))
    for axes, named in zip(grid, points, strict=True):  # when all else is in its place
        if named:
            label_points(axes[1], named)
    return figure


def _sparsities(summary: Summary) -> list[float]:
    return sorted({row.sparsity for row in summary.rows if row.sparsity > 0})


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None}, dpi=130)


def _names(rows: Sequence[Row]) -> dict[str, str]:
    """What stands beside the point of each row: its label, or its place from the top."""
    if len(rows) <= NAMED:
        return {row.label: row.label for row in rows}
    return {row.label: str(len(rows) - place) for place, row in enumerate(rows)}


def _draw_ranking(
    axes: Any, summary: Summary, rows: Sequence[Row], sparsity: float, names: Mapping[str, str]
) -> None:
    styles = line_styles(summary.comparison)
    for place, row in enumerate(rows):
        colour, marker = styles[row.label]["color"], styles[row.label]["marker"]
        values = row.values("predict_bleu")
        mean, error = mean_and_error(values)
        axes.plot(values, [place] * len(values), marker, color=colour, alpha=0.35, markersize=4,
                  label=f"{row.label}: seeds")  # fmt: skip
        axes.errorbar(mean, place, xerr=error, fmt=marker, color=colour, markersize=7, capsize=3,
                      label=row.label)  # fmt: skip
        if row.label == summary.comparison.reference:
            axes.axvline(mean, color=colour, **_REFERENCE_LINE)
    numbered = any(name != label for label, name in names.items())
    ticks = [f"{row.label}  {names[row.label]}" if numbered else row.label for row in rows]
    axes.set_yticks(range(len(rows)), ticks)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(axis="y", visible=False)
    axes.set_title(f"Test BLEU at {sparsity:.0%} sparsity")
    marks = [("o", 4, "a seed", 0.5, "#555555"), ("o", 7, "mean ± s.e.", 1.0, "#555555")]
    if _draw_published(axes, summary, rows):
        marks.append(("D", 6, "published", 1.0, "none"))
    handles = [
        axes.plot([], [], mark, markersize=size, alpha=alpha, label=text, color="#555555",
                  markerfacecolor=face)[0]
        for mark, size, text, alpha, face in marks
    ]  # fmt: skip
    axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(marks),
                fontsize=8.5, handletextpad=0.2, columnspacing=1.0, borderaxespad=0.2)  # fmt: skip


def _draw_published(axes: Any, summary: Summary, rows: Sequence[Row]) -> bool:
    """Draw the published differences from the reference where ours would have them.

    A larger model, trained for longer, is several BLEU above ours whatever the method, so beside
    our numbers its own would only be far away; what its methods differ by can be compared.
    """
    comparison = summary.comparison
    published = PUBLISHED[comparison.published] if comparison.published else None
    reference = next((row for row in rows if row.label == comparison.reference), None)
    if published is None or reference is None:
        return False
    theirs = published.bleu.get((reference.label, reference.sparsity))
    cited = [
        (place, row.label, published.bleu[row.label, row.sparsity][0])
        for place, row in enumerate(rows)
        if row is not reference and (row.label, row.sparsity) in published.bleu
    ]
    if theirs is None or not cited:
        return False
    ours = reference.mean("predict_bleu")
    for place, label, bleu in cited:
        axes.plot(ours + bleu - theirs[0], place, "D", markerfacecolor="none", color="#707070",
                  markersize=6, label=f"{label}: published")  # fmt: skip
    beyond = published.beyond(comparison.recipe)
    axes.set_xlabel(
        f"diamonds: published differences from {reference.label}"
        + (f", of {beyond}" if beyond else ""),
        fontsize=8.5,
    )
    return True


def _draw_flops(
    axes: Any, summary: Summary, rows: Sequence[Row], names: Mapping[str, str]
) -> list[Point]:
    """Draw BLEU over training FLOPs; dense is a line, as its FLOPs, 1, are far to the right.

    Returns:
        The points that need their names.
    """
    from matplotlib.ticker import MaxNLocator

    styles = line_styles(summary.comparison)
    numbered = any(name != label for label, name in names.items())
    points = []
    for row in rows:
        mean, error = mean_and_error(row.values("predict_bleu"))
        colour, marker = styles[row.label]["color"], styles[row.label]["marker"]
        if row.sparsity == 0:
            axes.axhline(mean, color=colour, label=row.label, **_REFERENCE_LINE)
            axes.annotate(row.label, (1, mean), xycoords=("axes fraction", "data"),
                          xytext=(3, 0), textcoords="offset points", va="center",
                          fontsize=8.5, color=colour)  # fmt: skip
            continue
        flops = row.mean("relative_training_flops")
        if numbered:  # so many errors would cover the points; they are in the other panel
            error = None
        axes.errorbar(flops, mean, yerr=error, fmt=marker, color=colour, markersize=6, capsize=2,
                      label=row.label)  # fmt: skip
        points.append(Point(flops, mean, names[row.label], colour))
    axes.set_title("Test BLEU by training FLOPs")
    axes.set_xlabel(
        "training FLOPs of the sparsified layers, dense = 1"
        + ("\nnumbers: the rows at the left" if numbered else "")
    )
    axes.xaxis.set_major_locator(MaxNLocator(5))
    return points
