"""How a comparison's methods look, the same in all its pictures."""

from __future__ import annotations

from typing import Any

from chts_hf.compare.spec import Comparison

#: Method → colour: Okabe and Ito's, which people with any kind of colour vision tell apart, strong
#: for CHTs and CHTss, and a few more.
_COLOURS = {
    "dense": "#222222",
    "chtss": "#0072B2",
    "chts": "#D55E00",
    "granet": "#009E73",
    "gmp": "#E69F00",
    "mest": "#8C6BB1",
    "set": "#56B4E9",
    "rigl": "#CC79A7",
    "static": "#7F7F7F",
    "cht": "#A6761D",
}
#: For methods that are not among them.
_SPARE = ("#666633", "#B04A5A", "#17A2A2", "#4D4D9A", "#B8860B", "#5B8C3A")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">", "h", "*")
_DASHES = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (9, 2)))


def base_method(comparison: Comparison, label: str) -> str:
    """The method that a label is, or is a variant of."""
    return str(comparison.methods[label].get("method", label))


def line_styles(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """Give each label the colour, marker, dashes and width of its points and lines.

    Variants of one method have its colour, with a marker and dashes of their own; methods have a
    colour each. What is proposed has wide lines.

    Returns:
        Label → arguments of ``Axes.plot``, no two alike.
    """
    variants: dict[str, list[str]] = {}
    for label in comparison.methods:
        variants.setdefault(base_method(comparison, label), []).append(label)
    unknown = [base for base in variants if base not in _COLOURS]
    spare = {base: _SPARE[number % len(_SPARE)] for number, base in enumerate(unknown)}
    styles: dict[str, dict[str, Any]] = {}
    plain = 0
    for base, labels in variants.items():
        solid = base == "dense" or labels[0] in comparison.proposed
        plain += not solid
        first = 0 if solid else plain
        for number, label in enumerate(labels):
            styles[label] = {
                "color": _COLOURS.get(base) or spare[base],
                "marker": _MARKERS[number % len(_MARKERS)],
                "linestyle": _DASHES[(first + number) % len(_DASHES)],
                "linewidth": 2.2 if label in comparison.proposed else 1.4,
            }
    return {label: styles[label] for label in comparison.methods}


def new_figure(width: float, height: float, title: str) -> Any:
    """Make an empty figure of so many inches, with a title, that no window belongs to."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12, fontweight="bold", x=0.01, ha="left")
    return figure
