"""The picture of a run: where its links are, how they moved, and what it learned meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Okabe and Ito's colours, which people with any kind of colour vision tell apart.
_BLUE, _ORANGE, _GREEN, _GREY = "#0072B2", "#D55E00", "#009E73", "#8C8C8C"
#: Larger masks are drawn by blocks, so that single links stay visible.
_MOST_CELLS = 256


def plot_run(
    path: str | Path,
    title: str,
    history: Sequence[Mapping[str, float]],
    links_by_kind: Mapping[str, Mapping[str, float]],
    layer: str | None = None,
    before: Tensor | None = None,
    after: Tensor | None = None,
    since: int = 0,
    score: tuple[str, str] = ("eval_bleu", "Greedy BLEU"),
    loss_unit: str = "nats per token",
) -> None:
    """Draw a run into a file: links per layer kind, a mask before and after, loss and score.

    Args:
        path: the picture; its suffix chooses the format.
        title: what stands over it.
        history: ``trainer.state.log_history``.
        links_by_kind: kind → ``links`` and ``weights``; see :meth:`chts_hf.Sparsifier.stats`.
        layer: the name of the layer whose masks are drawn.
        before: its mask at the first step of the run, (out, in); the two panels are left out
            without it.
        after: its mask at the end.
        since: the step of the first one: 0, or where the run was resumed.
        score: the key of the score in the history, and what it is called.
        loss_unit: what the losses are measured in.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    # A figure of its own, not pyplot's: no global state, no display needed.
    figure = Figure(figsize=(13, 8), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=14, fontweight="bold")
    parts: Any = figure.subfigures(2, 1, height_ratios=[1.15, 1])
    top, bottom = parts
    if before is None or after is None:
        _draw_links(top.subplots(), links_by_kind)
    else:
        panels = top.subplots(1, 3, width_ratios=[1.25, 1, 1])
        _draw_links(panels[0], links_by_kind)
        _draw_masks(panels[1], panels[2], layer or "", before, after, since)
    panels = bottom.subplots(1, 2)
    _draw_loss(panels[0], history, loss_unit)
    _draw_score(panels[1], history, *score)
    for axes in panels:
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for part in (top, bottom):
        part.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
    figure.savefig(path, dpi=130)


def _draw_links(axes: Any, links_by_kind: Mapping[str, Mapping[str, float]]) -> None:
    kinds = list(links_by_kind)
    links = [links_by_kind[kind]["links"] for kind in kinds]
    weights = [links_by_kind[kind]["weights"] for kind in kinds]
    places = np.arange(len(kinds))
    axes.barh(places, weights, color="#E4E4E4", label="weights")
    axes.barh(places, links, color=_BLUE, label="links")
    most = max(weights, default=1)
    for place, count, size in zip(places, links, weights, strict=True):
        axes.text(
            size + 0.02 * most, place, f"{count:,} ({count / size:.1%})", va="center", fontsize=8.5
        )
    axes.set_yticks(places, kinds)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.45 * most)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:,.0f} k" if value else "0")
    axes.set_title("Links per kind of projection", loc="left", fontsize=11)
    # Above the bars: beside them it would cover the counts of some models.
    above = {"loc": "lower right", "bbox_to_anchor": (1, 0.985), "ncols": 2}
    axes.legend(frameon=False, fontsize=8.5, **above)
    _plain(axes)


def _draw_masks(
    first: Any, second: Any, layer: str, before: Tensor, after: Tensor, since: int
) -> None:
    kept, new = after & before, after & ~before
    rows, columns = before.shape
    begin = f"mask at step {since}" if since else "first mask"
    then = f"at\nstep {since}" if since else "at\nthe start"
    share = int(kept.sum()) / max(int(before.sum()), 1)
    pictures = (
        (first, [(before, _BLUE)], f"{layer}\n{begin}, {int(before.sum()):,} links"),
        (
            second,
            [(kept, _BLUE), (new, _ORANGE)],
            f"last mask: {share:.0%} of the links were there {then} (blue), the others are "
            "new (orange)",
        ),
    )
    for axes, layers, title in pictures:
        image = np.ones((*_blocks(before).shape, 3))
        for mask, colour in layers:
            density = _blocks(mask)[..., None]
            image = image * (1 - density) + density * np.array(_rgb(colour))
        axes.imshow(image, interpolation="nearest", aspect="auto", extent=(0, columns, rows, 0))
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("input")
        axes.set_ylabel("output")
        axes.tick_params(labelsize=8)


def _draw_loss(axes: Any, history: Sequence[Mapping[str, float]], unit: str) -> None:
    for key, label, style in (
        (
            "loss",
            "training (with label smoothing and dropout, if on)",
            {"color": _GREY, "linewidth": 1.2},
        ),
        ("eval_loss", "validation", {"color": _BLUE, "linewidth": 2, "marker": "o"}),
    ):
        steps, values = _series(history, key)
        if steps:
            axes.plot(steps, values, label=label, markersize=4, **style)
    axes.set_title(f"Loss, {unit}", loc="left", fontsize=11)
    axes.set_xlabel("optimizer step")
    if axes.lines:
        axes.legend(frameon=False, fontsize=8.5)
    axes.grid(axis="y", color="#E8E8E8")
    _plain(axes)


def _draw_score(axes: Any, history: Sequence[Mapping[str, float]], key: str, name: str) -> None:
    steps, values = _series(history, key)
    axes.set_title(f"{name} on validation", loc="left", fontsize=11)
    axes.set_xlabel("optimizer step")
    axes.grid(axis="y", color="#E8E8E8")
    if steps:
        axes.plot(steps, values, color=_GREEN, linewidth=2, marker="o", markersize=4)
        axes.annotate(
            f"{values[-1]:.1f}",
            (steps[-1], values[-1]),
            textcoords="offset points",
            xytext=(0, 7),
            ha="center",
        )
        axes.set_ylim(0, max(1.15 * max(values), 1))
    else:
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes, color=_GREY)
    _plain(axes)


def _series(history: Sequence[Mapping[str, float]], key: str) -> tuple[list[float], list[float]]:
    # The last step may be there twice: evaluated in training and, with more beams, after it. The
    # first is the one that compares with the points before it.
    by_step: dict[float, float] = {}
    for entry in history:
        if key in entry and "step" in entry:
            by_step.setdefault(entry["step"], entry[key])
    return list(by_step), list(by_step.values())


def _blocks(mask: Tensor) -> np.ndarray:
    """Density of a mask over blocks, so that neither side has more than ``_MOST_CELLS`` of them."""
    image = mask.detach().float().cpu()[None, None]
    rows, columns = (min(side, _MOST_CELLS) for side in mask.shape)
    return torch.nn.functional.adaptive_avg_pool2d(image, (rows, columns))[0, 0].numpy()


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))


def _plain(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8.5)
