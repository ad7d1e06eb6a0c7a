"""Networks whose geometry is known, for tests."""

from __future__ import annotations

import numpy as np
import torch

from chts_hf.analysis.hyperbolic_model import hyperbolic_network
from chts_hf.analysis.network import Chain, Mask
from chts_hf.topology.ring import brf


def hyperbolic_mask(shape: tuple[int, int], links: int, seed: int) -> tuple[Mask, np.ndarray]:
    """A layer drawn in the hyperbolic disk, and the angles: columns first, then rows."""
    chain, angles = hyperbolic_network(shape[::-1], links, np.random.default_rng(seed))
    return chain.masks[0], angles


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
