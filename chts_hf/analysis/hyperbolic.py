"""How well a network fits its place in the hyperbolic disk: routing by distance, angular order."""

from __future__ import annotations

import numpy as np

from chts_hf.analysis.embedding import Embedding, hyperbolic_distance
from chts_hf.analysis.network import Floats, Ints
from chts_hf.analysis.paths import distances


def greedy_routability(embedding: Embedding, targets: Ints) -> Floats:
    """The GR-score, per target (Boguñá et al. 2010; Muscoloni et al. 2017).

    A packet goes from node to node, each time to the neighbour that is nearest to its target in
    the disk, and is lost when it comes back to where it was. ``GR = mean of sp(s, t) / hops(s, t)``
    over all sources s, with 0 for lost packets and sp the length of the shortest path. 1: knowing
    only places in the disk, everything finds its shortest way.

    Args:
        embedding: the network in the disk.
        targets: numbers of nodes within ``embedding.nodes``.

    Returns:
        The mean over all sources, for each target; in [0, 1].
    """
    blocks = np.array_split(targets, max(1, -(-len(targets) // _BLOCK)))
    return np.concatenate([_routed(embedding, block) for block in blocks])


#: Targets that are routed to at once: it bounds the memory.
_BLOCK = 128


def _routed(embedding: Embedding, targets: Ints) -> Floats:
    nodes, following = embedding.matrix.shape[0], _next_hops(embedding, targets)
    shortest = distances(embedding.matrix, targets).T
    score = np.zeros(following.shape)
    # Packets on their way: the target's number, where each started, and where it is.
    number, source = np.nonzero(np.arange(nodes) != targets[:, None])
    place, hops = source, 0
    while len(place):
        step, hops = following[number, place], hops + 1
        arrived = step == targets[number]
        score[number[arrived], source[arrived]] = shortest[number[arrived], source[arrived]] / hops
        lost = following[number, step] == place
        going = ~(arrived | lost)
        number, source, place = number[going], source[going], step[going]
    found: Floats = score.sum(axis=1) / (nodes - 1)
    return found


def _next_hops(embedding: Embedding, targets: Ints) -> Ints:
    """For each target (row) and node (column), the neighbour that is nearest to the target."""
    matrix = embedding.matrix
    nodes, starts = matrix.shape[0], matrix.indptr[:-1]
    to_target = hyperbolic_distance(embedding, np.arange(nodes), targets[:, None])
    # Arrived, also where another node lies at the same place.
    to_target[np.arange(len(targets)), targets] = -1
    following = np.empty((len(targets), nodes), dtype=np.int64)
    links, own = np.arange(matrix.nnz), np.repeat(np.arange(nodes), np.diff(matrix.indptr))
    for number, distance in enumerate(to_target):
        at_neighbour = distance[matrix.indices]
        nearest = np.minimum.reduceat(at_neighbour, starts)
        # Of several nearest ones the first; each row has at least one.
        first = np.where(at_neighbour == nearest[own], links, matrix.nnz)
        following[number] = matrix.indices[np.minimum.reduceat(first, starts)]
    return following


def angular_separation(
    angle: Floats, communities: Ints, rng: np.random.Generator, shuffles: int = 200
) -> float:
    """Angular separation index of communities (Muscoloni and Cannistraci 2019).

    A community's mistakes are the nodes of others within its arc, i.e. between its members, the
    widest gap left out. ``ASI = max(0, 1 - mistakes / worst)``, summed over communities, where the
    worst is the largest sum among random permutations of the nodes. Communities of one node do not
    count.

    Args:
        angle: the nodes' angles.
        communities: the community of each.
        rng: draws the permutations.
        shuffles: how many.

    Returns:
        1 for communities in sectors of their own, about 0 for mixed ones.
    """
    rank = np.empty(len(angle), dtype=np.int64)
    rank[np.argsort(angle, kind="stable")] = np.arange(len(angle))
    worst = max(_mistakes(rng.permutation(rank), communities) for _ in range(shuffles))
    return max(0.0, 1 - _mistakes(rank, communities) / worst) if worst else 0.0


def _mistakes(rank: Ints, communities: Ints) -> int:
    """Nodes of other communities within the arcs, over all communities."""
    nodes = len(rank)
    order = np.lexsort((rank, communities))
    labels, places = communities[order], rank[order]
    starts = np.flatnonzero(np.append(True, labels[1:] != labels[:-1]))
    ends = np.append(starts[1:], nodes) - 1
    gaps = np.diff(places, append=0) - 1
    gaps[ends] = nodes - places[ends] + places[starts] - 1  # around the circle
    inside = np.add.reduceat(gaps, starts) - np.maximum.reduceat(gaps, starts)
    return int(inside[starts != ends].sum())
