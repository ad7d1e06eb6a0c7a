"""The registry of methods: each is data, a set of values for the fields of ``CHTsConfig``.

Adding a method is one call of :func:`register_method`; nothing else in the package knows a method
by its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Method:
    """A named preset.

    Attributes:
        name: what users write as ``CHTsConfig(method=name)``.
        summary: one line that says what it does.
        source: where it was published.
        ingredients: field of ``CHTsConfig`` → its value unless the user gives another.
    """

    name: str
    summary: str
    source: str
    ingredients: Mapping[str, Any]


_METHODS: dict[str, Method] = {}

#: Name → :class:`Method`. Read-only; :func:`register_method` adds to it.
METHODS: Mapping[str, Method] = MappingProxyType(_METHODS)

#: What a method has unless it says otherwise: one random mask that never changes.
_PLAIN: dict[str, Any] = {
    "init": "er",
    "distribution": "uniform",
    "removal": "none",
    "removal_choice": "hard",
    "zeta_schedule": "cosine",
    "regrowth": "none",
    "regrowth_choice": "soft",
    "regrow_init": "zero",
    "percolation": False,
    "density_schedule": "constant",
    "decay_end": 0.75,
    "pruning": "magnitude",
}


def register_method(
    name: str, *, summary: str = "", source: str = "", **ingredients: Any
) -> Method:
    """Make ``CHTsConfig(method=name)`` mean this set of ingredients.

    Args:
        name: the method's name; it must be new.
        summary: one line that says what the method does.
        source: where it was published.
        **ingredients: values for fields of ``CHTsConfig``; what is left out is as in "static".

    Returns:
        The registered method.

    Raises:
        ValueError: the name is taken, or the ingredients do not fit together (a configuration is
            built to find out, so that a mistake shows here and not in somebody's training run).

    Example:
        >>> register_method(
        ...     "set_soft", removal="magnitude", removal_choice="soft", regrowth="random"
        ... )
    """
    from chts_hf.config import CHTsConfig  # reads this registry, so not at import time

    if name in _METHODS:
        raise ValueError(f"method {name!r} is registered already; choose another name")
    allowed = CHTsConfig.ingredients()
    for ingredient in ingredients:
        if ingredient not in allowed:
            close = get_close_matches(ingredient, allowed, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                f"method {name!r}: {ingredient!r} is no ingredient, which are "
                f"{', '.join(allowed)}{hint}"
            )
    method = _register(name, summary, source, **ingredients)
    try:
        CHTsConfig.from_dict({"method": name})
    except ValueError as error:
        del _METHODS[name]
        raise ValueError(f"method {name!r}: {error}") from error
    return method


def _register(name: str, summary: str, source: str, **ingredients: Any) -> Method:
    _METHODS[name] = Method(name, summary, source, MappingProxyType(_PLAIN | ingredients))
    return _METHODS[name]


_CHT = {
    "init": "brf",
    "removal": "magnitude",
    "removal_choice": "soft",
    "regrowth": "CH2-L3n",
    "regrow_init": "history",
    "percolation": True,
}
_CHTS_PAPER = "Zhang et al., NeurIPS 2025 (arXiv 2501.19107)"

_register("dense", "all links, no masks: training as it is without this package", "", init="full")
_register("static", "one random mask that never changes", "")
_register(
    "set",
    "removes the smallest weights and regrows at random",
    "Mocanu et al., Nature Communications 2018",
    removal="magnitude",
    zeta_schedule="constant",
    regrowth="random",
)
_register(
    "rigl",
    "removes the smallest weights and regrows where the dense gradient is largest",
    "Evci et al., ICML 2020",
    removal="magnitude",
    regrowth="gradient",
    regrowth_choice="hard",
)
_register(
    "chts",
    "removes softly by magnitude and regrows softly where the topology alone predicts links",
    _CHTS_PAPER,
    **_CHT,
)
_register(
    "chtss",
    "CHTs while a sigmoid lowers the density from 50 %, pruning by relative importance",
    _CHTS_PAPER,
    **_CHT,
    density_schedule="sigmoid",
    initial_sparsity=0.5,
    decay_end=0.375,  # half the cubic methods' window: the same density integral, so the same FLOPs
    pruning="relative_importance",
)
_register(
    "cht",
    "the original, rigid rule: path-based CH3, the highest scores, layers that rest early",
    "Zhang et al., ICLR 2024",
    **_CHT
    | {
        "removal_choice": "hard",
        "regrowth": "CH3-L3p",
        "regrowth_choice": "hard",
        "regrow_init": "zero",
        "zeta_schedule": "constant",
        "early_stop_overlap": 0.9,
    },
)
_register(
    "mest",
    "EM&S: removes by weight and gradient, regrows at random, from twice the final density",
    "Yuan et al., NeurIPS 2021",
    removal="mest",
    regrowth="random",
    density_schedule="two_drops",
)
_register(
    "gmp",
    "gradual magnitude pruning: a cubic fall of the density, no regrowth",
    "Zhu and Gupta, 2017",
    density_schedule="cubic",
    initial_sparsity=0.5,
)
_register(
    "granet",
    "the same fall of the density with RigL's removal and regrowth",
    "Liu et al., NeurIPS 2021",
    removal="magnitude",
    regrowth="gradient",
    regrowth_choice="hard",
    density_schedule="cubic",
    initial_sparsity=0.5,
)


def method_table(names: Iterable[str]) -> str:
    """A Markdown table: a row for each method, a column for each ingredient.

    Args:
        names: the methods, keys of :data:`METHODS`.

    Raises:
        KeyError: there is no such method.
    """
    titles = {
        "init": "first masks",
        "removal": "removal",
        "regrowth": "regrowth",
        "zeta_schedule": "ζ",
        "regrow_init": "new weight",
        "percolation": "percolation",
        "density_schedule": "density",
    }
    lines = [
        f"| method | {' | '.join(titles.values())} | source |",
        f"|{' --- |' * (len(titles) + 2)}",
    ]
    for name in names:
        method = METHODS[name]
        cells = [_cell(method.ingredients, field) for field in titles]
        lines.append(f"| `{name}` | {' | '.join(cells)} | {method.source or '–'} |")
    return "\n".join(lines)


def _cell(ingredients: Mapping[str, Any], field: str) -> str:
    value = ingredients[field]
    if field in ("zeta_schedule", "regrow_init") and ingredients["regrowth"] == "none":
        return "–"
    if value == "none" or value is False:
        return "–"
    if value is True:
        return "yes"
    if field in ("removal", "regrowth") and value != "random":
        text = f"{value}, {ingredients[field + '_choice']}"
        stop = ingredients.get("early_stop_overlap")
        return text + (f", rests at {stop:.0%} overlap" if stop and field == "regrowth" else "")
    if field == "density_schedule" and value != "constant":
        start = ingredients.get("initial_sparsity")
        begin = "twice the final density" if start is None else f"sparsity {start:g}"
        window = f"{value} from {begin} to {ingredients['decay_end']:g} of the steps"
        return f"{window}, by {ingredients['pruning']}"
    return str(value)
