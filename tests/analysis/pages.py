"""Read what a report shows: charts by their axes, tables by their cells."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from html.parser import HTMLParser

import numpy as np

from chts_hf.analysis.measures import Row
from chts_hf.analysis.report.svg import with_error


def section(page: str, title: str) -> str:
    """The HTML of the section with this heading."""
    (found,) = (part for part in page.split("<section>")[1:] if f"<h2>{title}</h2>" in part)
    return found.split("</section>")[0]


def figures(html: str) -> dict[str, str]:
    """Caption → SVG."""
    pattern = r"<figure><figcaption>(.*?)</figcaption>(<svg.*?</svg>)</figure>"
    return dict(re.findall(pattern, html, re.S))


def numbers(tag: str, *names: str) -> list[float]:
    """Numeric attributes of a tag."""
    return [float(re.search(rf'[ "]{name}="(-?[\d.]+)"', tag)[1]) for name in names]


def tags(svg: str, name: str, of_class: str = "") -> list[str]:
    return [t for t in re.findall(rf"<{name} [^>]*>", svg) if of_class in t]


def read_chart(svg: str, log: bool = False) -> dict[str, list[tuple[float, float]]]:
    """Label → its points in the axes' units, found by the legend's colour and style."""
    legend = re.findall(
        r'<(line|circle) class="((?:line )?(?:stroke|fill)-\w+(?: dashed)?)"[^>]*/>'
        r'<text x="[\d.]+" y="[\d.]+">(.*?)</text>',
        svg,
    )
    across, up = _axis(svg, "mid small", "x", log), _axis(svg, "end small", "y", log)
    found = {}
    for kind, style, label in legend:
        if kind == "circle":
            marks = [numbers(t, "cx", "cy") for t in tags(svg, "circle", f'"{style}"')]
            marks = marks[:-1]  # the legend's own
        else:
            lines = tags(svg, "polyline", f'"{style}"')
            text = re.search(r'points="(.*?)"', lines[0])[1] if lines else ""
            marks = [[float(v) for v in pair.split(",")] for pair in text.split()]
        found[label] = [(across(x), up(y)) for x, y in marks]
    return found


def _axis(svg: str, style: str, name: str, log: bool) -> Callable[[float], float]:
    """From places to values, by the labels of two ticks."""
    ticks = []
    for place, text in re.findall(
        rf'<text class="{style}"[^>]* {name}="([\d.]+)"[^>]*>(.*?)<', svg
    ):
        if name == "x" or text[:1].isdigit():
            value = float(re.sub(r"[\u202f%,]", "", text)) / (100 if "%" in text else 1)
            ticks.append((float(place) - (4 if name == "y" else 0), value))
    (p, v), (q, w) = ticks[0], ticks[-1]
    assert v < w
    assert (p < q) == (name == "x")  # larger values to the right, and further up
    if log:
        v, w = np.log(v), np.log(w)
    return lambda place: float(
        np.exp(v + (place - p) / (q - p) * (w - v)) if log else v + (place - p) / (q - p) * (w - v)
    )


def read_table(html: str, name: str) -> list[list[str]]:
    """The rows of a table's cells, small print after a bar; bold cells end with a star."""
    (table,) = re.findall(rf"<table class='{name}'>(.*?)</table>", html, re.S)
    reader = _Cells()
    reader.feed(table)
    return [row for row in reader.rows if row]


def decode(frame: str, layer: dict) -> np.ndarray:
    """A mask from its frame, as the page's script reads it."""
    raw = np.frombuffer(base64.b64decode(frame), np.uint8)
    shape = layer["rows"], layer["columns"]
    if layer["coding"] == "bits":
        return np.unpackbits(raw)[: shape[0] * shape[1]].reshape(shape).astype(bool)
    found, at = np.zeros(shape[0] * shape[1], dtype=bool), -1
    for gap in raw.tolist():
        at += 255 if gap == 255 else gap + 1
        if gap != 255:
            found[at] = True
    return found.reshape(shape)


def beside(row: Row, model: str) -> str:
    """What the table shows of a null model: mean ± deviation."""
    return with_error(row.nulls[model].mean, row.nulls[model].deviation)


class _Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.bold = False

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.bold = dict(attrs).get("class") == "far"
        elif tag == "small":
            self.rows[-1][-1] += "|"

    def handle_endtag(self, tag):
        if tag == "td" and self.bold:
            self.rows[-1][-1] += "*"
            self.bold = False

    def handle_data(self, data):
        self.rows[-1][-1] += data
