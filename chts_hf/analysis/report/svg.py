"""Charts as SVG text. Colours are CSS classes, so that one picture serves light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

#: Series colours (``--c0`` …), after Okabe and Ito's, which any colour vision tells apart.
COLOURS = 7


@dataclass(frozen=True)
class Series:
    """One line or cloud of a chart.

    Attributes:
        label: what it is.
        x: where.
        y: how much; NaN is left out.
        colour: 0 to 6, or None for grey.
        style: "line" (with points where they are few), "smooth" (without), "dashed", "points".
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int | None = 0
    style: str = "line"


@dataclass(frozen=True)
class Axis:
    """One direction of a chart.

    Attributes:
        label: what is measured, with its unit.
        log: logarithmic.
        low: the smallest value shown, what lies below is left out; None: of the data.
        high: the largest, likewise; None: of the data.
        percent: whether 0.5 is written 50 %.
    """

    label: str
    log: bool = False
    low: float | None = None
    high: float | None = None
    percent: bool = False


def chart(
    series: Sequence[Series], x: Axis, y: Axis, alt: str, size: tuple[int, int] = (520, 300)
) -> str:
    """A chart of lines and points with axes and a legend.

    Args:
        series: what to draw.
        x: the horizontal axis.
        y: the vertical axis.
        alt: what a person who doesn't see it should know.
        size: in CSS pixels; it scales with the page.
    """
    width, height = size
    rows = _legend_rows([s.label for s in series], width - 80)
    left, right, top, bottom = 66, 14, 10 + 18 * len(rows), 44
    points = [_shown(s, x, y) for s in series]
    sx = _Scale(x, [v for xs, _ in points for v in xs], left, width - right)
    sy = _Scale(y, [v for _, ys in points for v in ys], height - bottom, top)
    parts = [*_axes(sx, sy, x, y, (left, right, top, bottom), size)]
    for one, (xs, ys) in zip(series, points, strict=True):
        places = [(sx(a), sy(b)) for a, b in zip(xs, ys, strict=True)]
        parts.append(_draw(one, places, list(zip(xs, ys, strict=True))))
    for row, labels in enumerate(rows):
        for index, offset in labels:
            parts.append(_legend_entry(series[index], left + offset, 12 + 18 * row))
    return wrap("".join(parts), size, alt)


def wrap(body: str, size: tuple[int, int], alt: str, kind: str = "chart") -> str:
    """An SVG element around what was drawn."""
    return (
        f'<svg class="{kind}" viewBox="0 0 {size[0]} {size[1]}" role="img" '
        f'aria-label="{escape(alt)}" xmlns="http://www.w3.org/2000/svg">{body}</svg>'
    )


def bars(
    rows: Sequence[tuple[str, float, float]], labels: tuple[str, str], alt: str, width: int = 900
) -> str:
    """Pairs of horizontal bars, one pair per row; values in [0, 1].

    Args:
        rows: (name, first value, second value).
        labels: what the two are.
        alt: as in :func:`chart`.
        width: in CSS pixels.
    """
    step, top = 22, 30
    left = min(330, 30 + 7 * max((len(name) for name, *_ in rows), default=0))
    span = width - left - 120
    parts = []
    for i, label in enumerate(labels):
        key = Series(label, [], [], (None, 0)[i], "bar")
        parts.append(_legend_entry(key, left + 170 * i, 12))
    for row, (name, before, after) in enumerate(rows):
        y = top + step * row
        parts.append(f'<text x="{left - 10}" y="{y + 11}" class="end small">{escape(name)}</text>')
        for i, value in enumerate((before, after)):
            parts.append(
                f'<rect x="{left}" y="{y + 8 * i}" width="{span * value:.1f}" height="6" '
                f'class="fill-{("grey", "0")[i]}"><title>{escape(labels[i])}: {value:.1%}</title>'
                "</rect>"
            )
        parts.append(
            f'<text x="{left + span + 8}" y="{y + 11}" class="small">'
            f"{before:.1%} → {after:.1%}</text>"
        )
    return wrap("".join(parts), (width, top + step * len(rows) + 6), alt)


def number(value: float) -> str:
    """A number as short as it can be understood."""
    if not math.isfinite(value):
        return "–"
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}".replace(",", "\u202f")
    return f"{value:.3g}"


def with_error(value: float, error: float) -> str:
    """A number ± its error, both to the second digit of the error."""
    if not (math.isfinite(value) and math.isfinite(error) and error > 0):
        return number(value)
    digits = min(max(0, 1 - math.floor(math.log10(error))), 6)
    return f"{value:.{digits}f} ± {error:.{digits}f}"


class _Scale:
    def __init__(self, axis: Axis, values: Sequence[float], start: float, end: float) -> None:
        low = axis.low if axis.low is not None else min(values, default=0)
        high = axis.high if axis.high is not None else max(values, default=1)
        if axis.log:
            low = max(low, 1e-12)
            high = max(high, low * 4)
        elif high <= low:
            high = low + (abs(low) or 1)
        self.axis, self.low, self.high = axis, low, high
        self.start, self.end = start, end
        ticks = self.ticks()
        apart = ticks[1] - ticks[0] if len(ticks) > 1 else 0
        if axis.high is None and not axis.log and ticks and ticks[-1] < high:
            self.high = ticks[-1] + apart
        if axis.low is None and not axis.log and ticks and ticks[0] > low:
            self.low = ticks[0] - apart

    def __call__(self, value: float) -> float:
        if self.axis.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        if self.axis.log:
            exponents = range(math.ceil(math.log10(self.low) - 1e-9), 20)
            decades = [10.0**e for e in exponents if 10.0**e <= self.high * (1 + 1e-9)]
            if len(decades) > 2:
                return decades
            fine = [m * 10.0**e for e in range(-12, 12) for m in (1, 2, 5)]
            return [t for t in fine if self.low * (1 - 1e-9) <= t <= self.high * (1 + 1e-9)]
        rough = (self.high - self.low) / 5
        unit = 10 ** math.floor(math.log10(rough))
        step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _axes(
    sx: _Scale,
    sy: _Scale,
    x: Axis,
    y: Axis,
    margin: tuple[int, int, int, int],
    size: tuple[int, int],
) -> Iterable[str]:
    left, right, top, bottom = margin
    width, height = size
    floor = height - bottom
    for tick in sy.ticks():
        at = sy(tick)
        yield f'<line class="grid" x1="{left}" x2="{width - right}" y1="{at:.1f}" y2="{at:.1f}"/>'
        yield f'<text class="end small" x="{left - 6}" y="{at + 4:.1f}">{_tick(tick, y)}</text>'
    for tick in sx.ticks():
        at = sx(tick)
        yield f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{floor}" y2="{floor + 4}"/>'
        yield f'<text class="mid small" x="{at:.1f}" y="{floor + 17}">{_tick(tick, x)}</text>'
    yield f'<line class="axis" x1="{left}" x2="{width - right}" y1="{floor}" y2="{floor}"/>'
    middle = (left + width - right) / 2
    yield f'<text class="mid" x="{middle}" y="{height - 6}">{escape(x.label)}</text>'
    across = (top + floor) / 2
    turned = f'transform="translate(13 {across}) rotate(-90)"'
    yield f'<text class="mid" {turned}>{escape(y.label)}</text>'


def _tick(value: float, axis: Axis) -> str:
    return f"{100 * value:.3g}\u202f%" if axis.percent else number(round(value, 10))


def _shown(series: Series, x: Axis, y: Axis) -> tuple[list[float], list[float]]:
    places = zip(series.x, series.y, strict=True)
    kept = [(a, b) for a, b in places if _within(a, x) and _within(b, y)]
    return [a for a, _ in kept], [b for _, b in kept]


def _within(value: float, axis: Axis) -> bool:
    return (
        math.isfinite(value)
        and (value > 0 or not axis.log)
        and (axis.low is None or value >= axis.low)
        and (axis.high is None or value <= axis.high)
    )


def _draw(
    series: Series, places: Sequence[tuple[float, float]], values: Sequence[tuple[float, float]]
) -> str:
    name = "grey" if series.colour is None else str(series.colour)
    parts = []
    if series.style != "points" and len(places) > 1:
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        dashed = " dashed" if series.style == "dashed" else ""
        parts.append(f'<polyline class="line stroke-{name}{dashed}" points="{path}"/>')
    if series.style == "points" or (series.style != "smooth" and len(places) < 25):
        radius = 2.6 if series.style != "dashed" else 0
        for (a, b), (x, y) in zip(places, values, strict=True):
            parts.append(
                f'<circle class="fill-{name}" cx="{a:.1f}" cy="{b:.1f}" r="{radius}">'
                f"<title>{escape(series.label)}: {number(y)} at {number(x)}</title></circle>"
            )
    return "".join(parts)


def _legend_rows(labels: Sequence[str], width: int) -> list[list[tuple[int, int]]]:
    rows: list[list[tuple[int, int]]] = [[]]
    used = 0
    for index, label in enumerate(labels):
        needed = 44 + round(7.2 * len(label))
        if used and used + needed > width:
            rows.append([])
            used = 0
        rows[-1].append((index, used))
        used += needed
    return rows


def _legend_entry(series: Series, x: float, y: float) -> str:
    name = "grey" if series.colour is None else str(series.colour)
    if series.style == "points":
        key = f'<circle class="fill-{name}" cx="{x + 9}" cy="{y - 4}" r="3.5"/>'
    elif series.style == "bar":
        key = f'<rect class="fill-{name}" x="{x}" y="{y - 8}" width="18" height="7"/>'
    else:
        dashed = " dashed" if series.style == "dashed" else ""
        key = (
            f'<line class="line stroke-{name}{dashed}" x1="{x}" x2="{x + 18}" '
            f'y1="{y - 4}" y2="{y - 4}"/>'
        )
    return f'{key}<text x="{x + 23}" y="{y}">{escape(series.label)}</text>'
