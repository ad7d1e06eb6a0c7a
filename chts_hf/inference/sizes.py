"""How the configuration of a model type says how wide its hidden layers are."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Express = Callable[[Any, Mapping[str, int]], dict[str, int]]
"""``express(config, needed)``: hidden layer → neurons needed, to hidden layer → neurons it gets.

Never less than needed; the configuration is set to say so.
"""


def widths_by_field(**fields: str) -> Express:
    """For configurations with one width for many layers: each gets the most that one needs.

    Args:
        **fields: name of the configuration's field → regular expression that is searched in the
            names of the layers it is the width of.

    Returns:
        The function to register. It raises ValueError for a layer that no pattern is found in.

    Example:
        >>> express = widths_by_field(d_ff="")
        >>> express(config, {"encoder.0": 5, "encoder.1": 7})  # doctest: +SKIP
        {'encoder.0': 7, 'encoder.1': 7}
    """

    def express(config: Any, needed: Mapping[str, int]) -> dict[str, int]:
        field_of = {}
        for layer in needed:
            field_of[layer] = next((f for f, p in fields.items() if re.search(p, layer)), None)
            if field_of[layer] is None:
                raise ValueError(f"no field of {type(config).__name__} is the width of {layer}")
        widths: dict[str, int] = {}
        for field in fields:
            members = [layer for layer in needed if field_of[layer] == field]
            if members:
                width = max(1, *(needed[layer] for layer in members))
                setattr(config, field, width)
                widths |= dict.fromkeys(members, width)
        return widths

    return express


_SIZES: dict[str, Express] = {}


def register_sizes(model_type: str, express: Express) -> None:
    """Say how configurations of a model type express the widths of hidden layers.

    Args:
        model_type: as ``config.model_type``.
        express: see :func:`widths_by_field`, or a function of your own.

    Raises:
        ValueError: the type is registered already.
    """
    if model_type in _SIZES:
        raise ValueError(f"model type {model_type!r} has its sizes registered already")
    _SIZES[model_type] = express


def sizes_of(model_type: str) -> Express:
    """What was registered for a model type.

    Raises:
        ValueError: nothing was.
    """
    if model_type not in _SIZES:
        raise ValueError(
            f"models of type {model_type!r} cannot be compacted: how their configuration expresses "
            f"sizes is known for {', '.join(sorted(_SIZES))}. See chts_hf.inference.register_sizes"
        )
    return _SIZES[model_type]


for _type in ("bart", "mbart", "marian", "m2m_100", "pegasus", "blenderbot", "plbart", "whisper"):
    register_sizes(
        _type,
        widths_by_field(encoder_ffn_dim=r"(^|\.)encoder\.", decoder_ffn_dim=r"(^|\.)decoder\."),
    )
for _type in ("t5", "mt5", "umt5"):
    register_sizes(_type, widths_by_field(d_ff=""))
for _type in ("bert", "roberta", "llama", "mistral", "qwen2", "vit"):
    register_sizes(_type, widths_by_field(intermediate_size=""))
register_sizes("gpt2", widths_by_field(n_inner=""))
