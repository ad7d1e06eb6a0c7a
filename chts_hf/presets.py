"""Fields that come with the method: what they are, which were changed, what a name promises."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from chts_hf.methods import METHODS

#: So many ingredients of another method are no ablation, but the other method.
_TOO_MANY = 3


def twice_as_dense(sparsity: float) -> float:
    """The sparsity of twice the density, 0 where that is more than all."""
    return max(0.0, 2 * sparsity - 1)


def filled_in(values: Mapping[str, Any]) -> dict[str, Any]:
    """All fields, of which those that are None have what their method says.

    Args:
        values: field of ``CHTsConfig`` → its value; ``method`` is a registered one.
    """
    found = _without_gaps(values, METHODS[values["method"]].ingredients)
    return _without_gaps(found, _following(found))


def _without_gaps(values: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    return {name: usual.get(name) if one is None else one for name, one in values.items()}


def _following(values: Mapping[str, Any]) -> dict[str, Any]:
    """What follows from other fields, which are there, where the method does not say it."""
    found: dict[str, Any] = {}
    if isinstance(values["update_interval"], int):
        found["rewarm_steps"] = values["update_interval"] // 5 * _regrows(values)
    if isinstance(values["sparsity"], (int, float)) and values["density_schedule"] != "constant":
        found["initial_sparsity"] = twice_as_dense(values["sparsity"])
    return found


def _regrows(values: Mapping[str, Any]) -> bool:
    """Whether some layer gets new links; the overrides may not have been checked yet."""
    overrides = values["overrides"]
    layers = overrides.values() if isinstance(overrides, Mapping) else ()
    own = [one.get("regrowth") for one in layers if isinstance(one, Mapping)]
    return any(regrowth not in (None, "none") for regrowth in (values["regrowth"], *own))


def changed(values: Mapping[str, Any], ingredients: Collection[str]) -> dict[str, Any]:
    """The fields without those ingredients that are as their method, or other fields, say.

    Args:
        values: all fields of a configuration, filled in.
        ingredients: the names of those that come with the method.
    """
    preset = METHODS[values["method"]].ingredients
    usual = _following(values) | {n: v for n, v in preset.items() if v is not None}
    return {n: v for n, v in values.items() if n not in ingredients or v != usual.get(n)}


def refuse_false_name(values: Mapping[str, Any]) -> None:
    """Refuse the name of a method for what is another registered method in everything.

    A few ingredients may be another method's: that is an ablation. What a preset leaves open (its
    value is None) says nothing about which method it is.

    Args:
        values: all fields of a configuration, filled in.

    Raises:
        ValueError: names both methods, and the ingredients in which they differ.
    """
    own = METHODS[values["method"]]
    differing = {n: v for n, v in own.ingredients.items() if v is not None and v != values[n]}
    if len(differing) < _TOO_MANY:
        return
    for other in METHODS.values():
        if all(v is None or v == values[n] for n, v in other.ingredients.items()):
            what = ", ".join(f"{n}={values[n]!r} (not {v!r})" for n, v in differing.items())
            raise ValueError(
                f"method={own.name!r} with all ingredients of {other.name!r}: {what}. "
                "dataclasses.replace and to_dict copy what the method had filled in; "
                f"config.replace(method={own.name!r}) changes it too. If {other.name!r} is meant, "
                f"write method={other.name!r}. To go on with a run that was made so: "
                "CHTsConfig.from_saved(fields), which takes a saved configuration as it is"
            )
