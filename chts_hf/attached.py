"""Which sparsifier holds a model now, so that a second one is refused instead of fighting it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from chts_hf.sparsifier import Sparsifier

_ATTACHED: weakref.WeakKeyDictionary[nn.Module, Sparsifier] = weakref.WeakKeyDictionary()


def attached_sparsifier(model: nn.Module) -> Sparsifier | None:
    """The sparsifier that holds this model now, if one does."""
    return _ATTACHED.get(model)


def refuse_attached(model: nn.Module) -> None:
    """Refuse to make a second sparsifier for a model.

    Raises:
        ValueError: the model has one.
    """
    if model in _ATTACHED:
        raise ValueError(
            "this model has a sparsifier already; call its close() first, and add the callback "
            "to a Trainer only once"
        )


def attach(model: nn.Module, sparsifier: Sparsifier) -> None:
    """Note that a sparsifier holds a model from now on."""
    _ATTACHED[model] = sparsifier


def detach(model: nn.Module) -> None:
    """Note that no sparsifier holds a model any more."""
    _ATTACHED.pop(model, None)
