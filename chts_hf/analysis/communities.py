"""Communities of layered networks, by Barber's bipartite modularity."""

from __future__ import annotations

import numpy as np

from chts_hf.analysis.network import Floats, Ints, Sparse


def find_communities(matrix: Sparse, side: Ints, seed: int, rounds: int = 2) -> Ints:
    """Communities that maximise bipartite modularity, by the Leiden algorithm (Traag et al. 2019).

    Args:
        matrix: symmetric adjacency matrix of a bipartite network. Layers that follow each other
            are one: even levels on one side, odd ones on the other.
        side: 0 or 1 for every node.
        seed: of the algorithm's draws.
        rounds: how often the algorithm goes over the network.

    Returns:
        The community of every node, the largest being 0. A node without links is alone.
    """
    import igraph
    import leidenalg

    i, j = matrix.tocoo().coords
    graph = igraph.Graph(n=matrix.shape[0], edges=np.stack([i, j], axis=1)[i < j])
    # Barber's null model, as Leiden with node sizes: both sides together, less each side alone.
    parts = leidenalg.CPMVertexPartition.Bipartite(
        graph,
        resolution_parameter_01=1 / max(graph.ecount(), 1),
        types=side.tolist(),
        degree_as_node_size=True,
    )
    optimiser = leidenalg.Optimiser()
    optimiser.set_rng_seed(seed)
    optimiser.optimise_partition_multiplex(
        list(parts), layer_weights=[1, -1, -1], n_iterations=rounds
    )
    found = np.asarray(parts[0].membership)
    order = np.argsort(-np.bincount(found), kind="stable")
    names = np.empty_like(order)
    names[order] = np.arange(len(order))
    return names[found]


def bipartite_modularity(matrix: Sparse, side: Ints, communities: Ints) -> float:
    """Barber's modularity ``Q = 1/m Σ_ij (A_ij - d_i d_j / m) δ(c_i, c_j)`` (Barber 2007).

    The sum goes over nodes i of one side and j of the other; m is the number of links.

    Returns:
        At most 1; 0 for one community of all, and for a network without links.
    """
    degree: Floats = np.asarray(matrix.sum(axis=0), dtype=np.float64).ravel()
    links = degree.sum() / 2
    if links == 0:
        return 0.0
    i, j = matrix.tocoo().coords
    inside = np.count_nonzero(communities[i] == communities[j]) / 2
    one, other = (
        np.bincount(communities, weights=degree * (side == s), minlength=communities.max() + 1)
        for s in (0, 1)
    )
    return float(inside / links - (one @ other) / links**2)
