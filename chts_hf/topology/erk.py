"""Erdos-Renyi-Kernel densities: how one overall sparsity is spread over layers of many shapes."""

from __future__ import annotations

from collections.abc import Sequence


def erk_densities(shapes: Sequence[tuple[int, int]], sparsity: float) -> list[float]:
    """Densities in proportion to ``(in + out) / (in * out)``, capped at 1 (Evci et al., 2020).

    Small layers become denser than large ones. What a capped layer cannot take is spread over the
    others, so that the links of all layers together are those of the uniform density.

    Args:
        shapes: (out, in) of each layer.
        sparsity: Overall share of weights that are no links, in [0, 1).

    Returns:
        One density in [0, 1] per layer, in order; their mean weighted by the layers' sizes is
        ``1 - sparsity``.

    Example:
        >>> [round(density, 3) for density in erk_densities([(100, 100), (100, 400)], 0.9)]
        [0.222, 0.069]
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity = {sparsity} must lie in [0, 1)")
    sizes = [n_out * n_in for n_out, n_in in shapes]
    raw = [(n_out + n_in) / (n_out * n_in) for n_out, n_in in shapes]
    free = set(range(len(raw)))
    while free:
        wanted = (1 - sparsity) * sum(sizes) - sum(
            size for i, size in enumerate(sizes) if i not in free
        )
        scale = wanted / sum(raw[i] * sizes[i] for i in free)
        full = {i for i in free if scale * raw[i] >= 1}
        if not full:
            return [scale * raw[i] if i in free else 1.0 for i in range(len(raw))]
        free -= full
    return [1.0] * len(raw)
