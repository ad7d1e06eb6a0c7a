"""The masks that training starts from, by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from chts_hf.topology.counts import link_count
from chts_hf.topology.given import csti, magnitude, relative_importance
from chts_hf.topology.noise import noise_device
from chts_hf.topology.ring import brf, bsw
from chts_hf.topology.sampling import uniform_subset
from chts_hf.topology.scale_free import bsf


def er(shape: tuple[int, int], n_links: int, generator: torch.Generator | None = None) -> Tensor:
    """Erdos-Renyi: every set of ``n_links`` links is equally likely.

    Nothing is repaired: a node may be left without links.

    Args:
        shape: (out, in).
        n_links: How many links.
        generator: Source of randomness; the default CPU generator if None.

    Returns:
        Bool mask of the shape with exactly ``n_links`` links.
    """
    every = torch.ones(shape, dtype=torch.bool, device=noise_device(generator))
    return uniform_subset(every, n_links, generator)


INITIAL_TOPOLOGIES: dict[str, Callable[..., Tensor]] = {
    "er": er,
    "bsw": bsw,
    "brf": brf,
    "bsf": bsf,
    "csti": csti,
    "magnitude": magnitude,
    "relative_importance": relative_importance,
}
"""From name to ``f(shape, n_links, generator, **options)``, which gives a bool mask of the shape
(out, in) with exactly ``n_links`` links."""


@torch.no_grad()
def initial_mask(
    shape: tuple[int, int],
    sparsity: float,
    kind: str = "brf",
    generator: torch.Generator | None = None,
    **options: Any,
) -> Tensor:
    """Makes the mask a layer starts with.

    Args:
        shape: (out, in), both at least 1.
        sparsity: The share of weights that are no links, in [0, 1).
        kind: A key of :data:`INITIAL_TOPOLOGIES`: "er" (uniform), "bsw" (small world), "brf"
            (receptive field), "bsf" (scale-free), "csti" (correlated inputs), "magnitude" or
            "relative_importance" (of given weights).
        generator: Source of randomness; the default CPU generator if None. The mask lies on its
            device; a mask made from a tensor lies where the tensor does.
        **options: Of that kind; see the functions in :data:`INITIAL_TOPOLOGIES`. An unknown one
            is refused.

    Returns:
        Bool mask of the shape, True at links, of which there are exactly
        ``round((1 - sparsity) * out * in)``.

    Raises:
        ValueError: If the kind or an option is unknown, an option is missing, or a value is out
            of range.

    Example:
        >>> mask = initial_mask((512, 2048), 0.9, "brf", torch.Generator().manual_seed(0), r=0.1)
        >>> int(mask.sum())
        104858
    """
    if kind not in INITIAL_TOPOLOGIES:
        known = ", ".join(INITIAL_TOPOLOGIES)
        raise ValueError(f"unknown initial topology {kind!r}; known are {known}")
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"shape = {tuple(shape)} must be (out, in), both at least 1")
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity = {sparsity} must lie in [0, 1)")
    n_out, n_in = (int(side) for side in shape)
    make = INITIAL_TOPOLOGIES[kind]
    _check_options(kind, make, options)
    return make((n_out, n_in), link_count(n_out * n_in, sparsity), generator, **options)


def _check_options(kind: str, make: Callable[..., Tensor], options: dict[str, Any]) -> None:
    allowed = {
        name: option.default is inspect.Parameter.empty
        for name, option in inspect.signature(make).parameters.items()
        if option.kind is inspect.Parameter.KEYWORD_ONLY
    }
    takes = f"initial topology {kind!r} takes " + (", ".join(allowed) or "no options")
    for name in options:
        if name not in allowed:
            raise ValueError(f"unknown option {name!r}: {takes}")
    for name, needed in allowed.items():
        if needed and name not in options:
            raise ValueError(f"option {name!r} is missing: {takes}")
