"""Whether a saved state belongs to the model it is loaded into."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def check_state(state: Mapping[str, Any], parameters: Mapping[str, nn.Parameter]) -> None:
    """Compare a sparsifier's state with the weights of a model.

    Raises:
        ValueError: it is of other layers, other shapes or other weights.
    """
    missing = sorted(parameters.keys() - state["masks"].keys())
    extra = sorted(state["masks"].keys() - parameters.keys())
    if missing or extra:
        raise ValueError(
            f"the masks are of another model or configuration: missing {missing[:3]}, "
            f"unexpected {extra[:3]}"
        )
    for name, mask in state["masks"].items():
        if mask.shape != parameters[name].shape:
            raise ValueError(
                f"the mask of {name} has shape {tuple(mask.shape)}, the weight "
                f"{tuple(parameters[name].shape)}: the masks are of another model"
            )
        if bool((parameters[name].detach() != 0).cpu().logical_and(~mask.cpu()).any()):
            raise ValueError(
                f"{name} has weights where its mask has no links: the masks are of other weights"
            )
        dtype, value = state["weights"][name]
        mine = fingerprint(parameters[name])
        if mine[0] == dtype and mine[1] != value:
            raise ValueError(
                f"the masks were saved with other weights of {name} than the model has now; load "
                "the weights of the same checkpoint, and make the sparsifier with "
                "Sparsifier(..., state=state), which leaves them as they are"
            )


def fingerprint(weight: Tensor) -> tuple[str, int]:
    """The dtype and the CRC-32 of a weight's bytes; a fingerprint holds within one dtype."""
    data = weight.detach().cpu().contiguous().view(torch.uint8).numpy()
    return str(weight.dtype), zlib.crc32(data.data)
