"""The one place where a sparsity becomes a number of links."""

from __future__ import annotations


def link_count(numel: int, sparsity: float) -> int:
    """Returns ``round((1 - sparsity) * numel)``, the links of a layer of that sparsity.

    Args:
        numel: The number of weights of the layer.
        sparsity: The share of weights that are no links, in [0, 1].

    Raises:
        ValueError: If the sparsity lies outside [0, 1].
    """
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparsity = {sparsity} must lie between 0 and 1")
    return round((1 - sparsity) * numel)
