"""Links whose weight is exactly 0, which a loaded model alone does not show.

A dense tensor says where its non-zero weights are, and those are the links, except the few that
have just been regrown with 0. A sparse checkpoint knows them; they are kept here, beside the model,
until a sparsifier with ``init="from_weights"`` takes them up.
"""

from __future__ import annotations

import weakref

import torch
from torch import Tensor, nn

_KNOWN: weakref.WeakKeyDictionary[nn.Module, dict[str, Tensor]] = weakref.WeakKeyDictionary()


def remember_zero_links(model: nn.Module, name: str, indices: Tensor) -> None:
    """Note that a model just loaded has links of weight 0.

    Args:
        model: the model.
        name: the parameter's name.
        indices: flat positions in the parameter, int64.
    """
    if indices.numel():
        _KNOWN.setdefault(model, {})[name] = indices


def known_zero_links(model: nn.Module, name: str) -> Tensor | None:
    """What is known of one weight: its mask is whole, also where the weights are sharded.

    Args:
        model: the model.
        name: the parameter's name.

    Returns:
        Bool tensor of the parameter's shape and on its device, True at links of weight 0; None if
        nothing is known.
    """
    indices = _KNOWN.get(model, {}).get(name)
    return None if indices is None else _mask(model.get_parameter(name), indices)


def forget_zero_links(model: nn.Module) -> None:
    """Know nothing of a model any more, as when training is about to change it."""
    _KNOWN.pop(model, None)


def _mask(parameter: Tensor, indices: Tensor) -> Tensor:
    mask = torch.zeros(parameter.shape, dtype=torch.bool, device=parameter.device)
    mask.view(-1)[indices.to(mask.device)] = True
    return mask
