"""A chain of layers as one bipartite network, with what its measures share computed once."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from chts_hf.analysis.communities import find_communities
from chts_hf.analysis.embedding import NODES_NEEDED, Embedding, coalescent_embedding
from chts_hf.analysis.network import (
    Chain,
    Floats,
    Ints,
    Sparse,
    adjacency,
    largest_component,
)


class Network:
    """What the measures are taken of.

    Args:
        chain: the layers.
        seed: of all random choices (samples, landmarks, communities): one seed, one result.

    Example:
        >>> network = Network(single_layer("fc", mask), seed=0)
        >>> MEASURES["clustering"].function(network)
    """

    def __init__(self, chain: Chain, seed: int) -> None:
        self.chain = chain
        self.seed = seed

    def generator(self, purpose: int) -> np.random.Generator:
        """A generator of its own for each purpose, whatever is measured before."""
        return np.random.default_rng([self.seed, purpose])

    @cached_property
    def matrix(self) -> Sparse:
        """The symmetric adjacency matrix."""
        return adjacency(self.chain)

    @cached_property
    def degree(self) -> Floats:
        """Links per node."""
        return np.asarray(self.matrix.sum(axis=0), dtype=np.float64).ravel()

    @cached_property
    def communities(self) -> Ints:
        """The community of every node; see :func:`find_communities`."""
        return find_communities(self.matrix, self.chain.levels % 2, self.seed)

    @cached_property
    def embedding(self) -> Embedding | None:
        """The network in the hyperbolic disk; None where no component is large enough for it."""
        if len(largest_component(self.matrix)) < NODES_NEEDED:
            return None
        return coalescent_embedding(self.matrix, self.generator(1))
