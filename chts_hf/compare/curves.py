"""Curves over the steps of a comparison's runs, means over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from chts_hf.compare.styles import base_method, line_styles, new_figure
from chts_hf.compare.summary import Row, Summary

#: Panels: series of a record → title.
PANELS = {
    "eval_loss": "Validation loss, nats per token",
    "eval_bleu": "Validation BLEU, greedy",
    "sparsity": "Density of the sparsified layers",
    "itop_rate": "ITOP rate: weights ever linked",
    "anp": "Active neurons",
}
#: More rows than these have a row of panels for each method and its variants.
ONE_PANEL = 12
#: Marks on a line.
_MARKS = 5


def mean_curve(records: Sequence[Mapping[str, Any]], name: str) -> tuple[list[int], np.ndarray]:
    """Average a series over seeds, at the steps that all of them have.

    Returns:
        Steps and values; empty if a seed has none.
    """
    series = [dict(map(tuple, record["curves"].get(name, []))) for record in records]
    steps = sorted(set.intersection(*(set(one) for one in series))) if series else []
    return steps, np.array([[one[step] for step in steps] for one in series]).mean(axis=0)


def curves_figure(summary: Summary, sparsity: float) -> Any:
    """Draw what was logged in training, a panel for each of it.

    Up to :data:`ONE_PANEL` rows are in the same panels. More have a row of panels for each method,
    with its variants, and the reference in all of them.

    Args:
        summary: the comparison.
        sparsity: the rows of this sparsity and of dense are shown.

    Returns:
        The figure; each line is labelled with its row's label.
    """
    rows = [row for row in summary.rows if row.sparsity in (0.0, sparsity)]
    place = list(summary.comparison.methods).index
    rows.sort(key=lambda row: place(row.label))
    title = summary.comparison.title or summary.comparison.setting
    title = f"{title}; {sparsity:.0%} sparsity"
    if len(rows) > ONE_PANEL:
        return _many(summary, rows, title)
    return _few(summary, rows, title)


def _few(summary: Summary, rows: Sequence[Row], title: str) -> Any:
    figure = new_figure(12, 6.6, title)
    grid = figure.subplots(2, 3).ravel()
    plain = len({base_method(summary.comparison, row.label) for row in rows}) == len(rows)
    for axes, name in zip(grid, PANELS, strict=False):
        _draw(axes, summary, rows, name, marks=not plain)
        _scale([axes], name)
        axes.set_title(_heading(axes, name))
    for axes in grid[:5]:
        axes.set_xlabel("optimizer step")
        axes.set_xlim(0, 1.02 * summary.comparison.steps)
    _legend(grid[5], summary, rows, marks=not plain, ncols=2)
    return figure


def _many(summary: Summary, rows: Sequence[Row], title: str) -> Any:
    comparison = summary.comparison
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(base_method(comparison, row.label), []).append(row)
    reference = [row for row in rows if row.label == comparison.reference]
    shown = [group for group in groups.values() if group != reference]
    heights = [max(1.7, 0.22 * len(group) + 0.5) for group in shown]
    figure = new_figure(15.5, sum(heights) + 0.8, title)
    grid = figure.subplots(len(shown), 6, squeeze=False, height_ratios=heights,
                           width_ratios=[1, 1, 1, 1, 1, 0.95])  # fmt: skip
    for line, group in zip(grid, shown, strict=True):
        group = [*(row for row in reference if row not in group), *group]
        for axes, name in zip(line, PANELS, strict=False):
            _draw(axes, summary, group, name, marks=True)
        _legend(line[5], summary, group, marks=True, ncols=1)
    for column, name in zip(grid.T, PANELS, strict=False):
        for axes in column[1:]:
            axes.sharey(column[0])
            axes.sharex(column[0])
        for axes in column[:-1]:
            axes.tick_params(labelbottom=False)
        column[-1].set_xlabel("optimizer step")
        column[-1].set_xlim(0, 1.02 * comparison.steps)
        _scale(column, name)
        column[0].set_title(_heading(column[0], name), fontsize=10.5)
    return figure


def _draw(axes: Any, summary: Summary, rows: Sequence[Row], name: str, *, marks: bool) -> None:
    """Draw a series of each row that has it; wide lines lie below, so that none hides another."""
    from matplotlib.ticker import MaxNLocator

    styles = line_styles(summary.comparison)
    for number, row in enumerate(rows):
        steps, values = mean_curve(list(row.records.values()), name)
        if len(steps) == 0:
            continue
        style = styles[row.label]
        every = max(1, math.ceil(len(steps) / _MARKS))
        marked = {"markevery": (number % every, every), "markersize": 4.5} if marks else {
            "marker": ""
        }  # fmt: skip
        axes.plot(steps, 1 - values if name == "sparsity" else values, label=row.label,
                  zorder=4 - style["linewidth"] / 2, **{**style, **marked})  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))


def _scale(panels: Sequence[Any], name: str) -> None:
    """Set the vertical axis that panels of one series have in common."""
    lines = [line.get_ydata() for axes in panels for line in axes.lines]
    if not lines:
        return
    if name in ("sparsity", "itop_rate"):
        panels[0].set_ylim(0, None)
    elif name == "anp":
        # Nearly all neurons are active, so an axis from 0 would show nothing.
        low = max(0.0, math.floor(200 * (min(line.min() for line in lines) - 0.001)) / 200)
        panels[0].set_ylim(low, 1 + 0.03 * (1 - low))
    elif name == "eval_loss":
        # Beside the first losses the last ones would all look the same, most of all in low panels.
        part = 3 if len(panels) == 1 else 2
        begins = [line[len(line) // part] for line in lines if len(line) > 3]
        if begins:
            low, high = min(line[-1] for line in lines), max(begins)
            panels[0].set_ylim(low - 0.08 * (high - low), high)


def _heading(axes: Any, name: str) -> str:
    """A panel's title, which says where a share's axis begins if not at 0."""
    low = axes.get_ylim()[0]
    return f"{PANELS[name]}; axis from {low:g}" if name == "anp" and low else PANELS[name]


def _legend(axes: Any, summary: Summary, rows: Sequence[Row], *, marks: bool, ncols: int) -> None:
    styles = line_styles(summary.comparison)
    axes.axis("off")
    for row in rows:
        style = styles[row.label] | ({"markersize": 4.5} if marks else {"marker": ""})
        axes.plot([], [], label=row.label, **style)
    axes.legend(loc="center left", ncols=ncols, handlelength=3.2, borderaxespad=0,
                labelspacing=0.4 if marks else 0.8)  # fmt: skip
