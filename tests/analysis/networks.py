"""Networks whose geometry is known, for tests."""

from __future__ import annotations

import numpy as np
import torch

from chts_hf.analysis.network import Chain, Mask
from chts_hf.topology.ring import brf


def hyperbolic_mask(
    shape: tuple[int, int], links: int, seed: int, gamma: float = 2.5, temperature: float = 0.1
) -> tuple[Mask, np.ndarray]:
    """A bipartite network grown in the hyperbolic disk, as popularity × similarity draws it.

    Both sides lie at uniform angles and at the radii of a power law; links appear with probability
    ``1 / (1 + exp((distance - R) / 2T))``, with R such that so many are expected.

    Returns:
        The mask, and the angles: columns first, then rows.
    """
    rng = np.random.default_rng(seed)
    beta = 1 / (gamma - 1)
    angle = [rng.uniform(0, 2 * np.pi, size) for size in shape]
    radius = [2 * beta * np.log(np.arange(1, n + 1)) + 2 * (1 - beta) * np.log(n) for n in shape]
    radius = [rng.permutation(r) for r in radius]
    half = np.sin((angle[0][:, None] - angle[1]) / 2) ** 2
    r, s = radius[0][:, None], radius[1]
    distance = np.arccosh(np.maximum(np.cosh(r - s) + 2 * np.sinh(r) * np.sinh(s) * half, 1))
    low, high = 0.0, 60.0
    for _ in range(50):
        middle = (low + high) / 2
        p = 1 / (1 + np.exp((distance - middle) / (2 * temperature)))
        low, high = (middle, high) if p.sum() < links else (low, middle)
    return rng.random(shape) < p, np.concatenate([angle[1], angle[0]])


def ring_mask(shape: tuple[int, int], links: int, r: float, seed: int = 0) -> Mask:
    """Links near the diagonal of a ring, r of the randomness."""
    return brf(shape, links, torch.Generator().manual_seed(seed), r=r).numpy()


def two_blocks() -> Mask:
    """Two complete bipartite graphs of 2 × 2."""
    return np.kron(np.eye(2), np.ones((2, 2))).astype(bool)


def small_chain(seed: int = 0) -> Chain:
    """Inputs, hidden neurons and outputs of a small random network."""
    rng = np.random.default_rng(seed)
    return Chain(
        "f: up → down", ("f.up", "f.down"), (rng.random((24, 12)) < 0.3, rng.random((12, 24)) < 0.3)
    )
