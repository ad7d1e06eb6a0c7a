"""Layered networks drawn in the hyperbolic disk: what the test of hyperbolicity must recognise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chts_hf.analysis.embedding import distance_in_disk, popularity_radii
from chts_hf.analysis.network import Chain, Floats, Mask


def hyperbolic_network(
    sizes: Sequence[int],
    links: int,
    rng: np.random.Generator,
    gamma: float = 2.5,
    temperature: float = 0.1,
) -> tuple[Chain, Floats]:
    """Draw a layered network by popularity and similarity (Papadopoulos et al. 2012).

    The neurons of every level lie at uniform angles (similarity) and at radii whose degrees follow
    a power law (popularity). Two neurons of levels that follow each other are linked with the
    probability ``1 / (1 + exp((x - R) / 2T))``, x their hyperbolic distance, with R such that
    ``links`` are expected: Krioukov et al. 2010, between levels only, as in the bipartite models of
    Serrano et al. 2012.

    Args:
        sizes: neurons of each level, inputs first.
        links: of each layer, expected.
        rng: source of randomness.
        gamma: exponent of the power law.
        temperature: T in (0, 1); near 0 distance decides, near 1 hardly.

    Returns:
        The network, and the angles of its neurons, level after level.

    Example:
        >>> chain, angles = hyperbolic_network((64, 64, 64), 410, np.random.default_rng(0))
    """
    angles = [rng.uniform(0, 2 * np.pi, size) for size in sizes]
    radii = [rng.permutation(popularity_radii(np.arange(1.0, n + 1), gamma)) for n in sizes]
    masks = []
    for level in range(len(sizes) - 1):
        distance = distance_in_disk(
            radii[level + 1][:, None],
            radii[level],
            angles[level + 1][:, None] - angles[level],
        )
        masks.append(_linked(distance, links, temperature, rng))
    names = tuple(f"layer {i}" for i in range(len(masks)))
    return Chain("drawn in the disk", names, tuple(masks)), np.concatenate(angles)


def _linked(distance: Floats, links: int, temperature: float, rng: np.random.Generator) -> Mask:
    low, high = 0.0, 2 * float(distance.max())
    for _ in range(50):
        middle = (low + high) / 2
        share = 1 / (1 + np.exp((distance - middle) / (2 * temperature)))
        low, high = (middle, high) if share.sum() < links else (low, middle)
    drawn: Mask = rng.random(distance.shape) < share
    return drawn
