"""Names beside the points of a picture, moved apart where they would overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

#: Pixels between a point and its name, and the size of the names.
_GAP, _FONT = 9.0, 8.5


class Point(NamedTuple):
    """A point and its name.

    Attributes:
        x: where it is.
        y: likewise.
        text: its name.
        color: of the name.
    """

    x: float
    y: float
    text: str
    color: str


def spread(wanted: Sequence[float], apart: float, low: float, high: float) -> np.ndarray:
    """Move heights as little as can be, in squares, so that they are apart and within limits.

    With gᵢ = i · apart, heights yᵢ in rising order are apart where yᵢ − gᵢ rises. The nearest
    rising sequence is that of isotonic regression, max over a ≤ i of min over b ≥ i of the mean of
    wanted − g from a to b, and the nearest within limits is the same one, cut off at these.

    Args:
        wanted: heights, rising.
        apart: least distance of two that follow one another; less where there is no room for it.
        low: the least height.
        high: the greatest one.

    Example:
        >>> spread([1.0, 1.0, 9.5], apart=2.0, low=0.5, high=9.0)
        array([0.5, 2.5, 9. ])
    """
    n = len(wanted)
    grid = min(apart, (high - low) / max(n - 1, 1)) * np.arange(n)
    free = np.asarray(wanted) - grid
    sums = np.concatenate([[0.0], np.cumsum(free)])
    rising = [
        max(min((sums[b] - sums[a]) / (b - a) for b in range(i + 1, n + 1)) for a in range(i + 1))
        for i in range(n)
    ]
    moved: np.ndarray = np.clip(rising, low, high - (grid[-1] if n else 0.0)) + grid
    return moved


def label_points(axes: Any, points: Sequence[Point]) -> None:
    """Write points' names at their right, in columns, none over another and none outside.

    The horizontal axis is widened for them. The figure is laid out as it is now, so all that is
    outside the axes must be there before.

    Args:
        axes: where the points are.
        points: all of them.
    """
    axes.figure.draw_without_rendering()
    texts = [
        axes.annotate(point.text, (point.x, point.y), va="center", fontsize=_FONT,
                      color=point.color,
                      arrowprops={"arrowstyle": "-", "color": "#BBBBBB", "linewidth": 0.7,
                                  "shrinkA": 0, "shrinkB": 3})
        for point in points
    ]  # fmt: skip
    boxes = [text.get_window_extent() for text in texts]
    widest, height = max(box.width for box in boxes), max(box.height for box in boxes)
    _widen(axes, points, widest)
    frame = axes.get_window_extent()
    places = axes.transData.transform([(point.x, point.y) for point in points])
    for column in _columns(places[:, 0], widest):
        column = sorted(column, key=lambda i: (places[i, 1], places[i, 0]))
        x = max(places[i, 0] for i in column) + _GAP
        heights = spread([places[i, 1] for i in column], height,
                         frame.y0 + height / 2, frame.y1 - height / 2)  # fmt: skip
        for i, y in zip(column, heights, strict=True):
            texts[i].set_position(axes.transData.inverted().transform((x, y)))


def _widen(axes: Any, points: Sequence[Point], width: float) -> None:
    """Leave room for names of so many pixels behind the points at the right."""
    low, high = min(point.x for point in points), max(point.x for point in points)
    span = max(high - low, 0.02)
    whole = axes.get_window_extent().width
    left = 0.05 * whole
    scale = span / max(whole - left - width - 2 * _GAP, 0.3 * whole)
    axes.set_xlim(low - left * scale, low - left * scale + whole * scale)


def _columns(places: np.ndarray, width: float) -> list[list[int]]:
    """Group points whose names, at the right of them, would meet the next ones."""
    found: list[list[int]] = []
    for i in np.argsort(places, kind="stable"):
        if found and places[i] - places[found[-1][-1]] < width + 2 * _GAP:
            found[-1].append(int(i))
        else:
            found.append([int(i)])
    return found
