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
    matrix = embedding.matrix
    nodes, columns = matrix.shape[0], np.arange(len(targets))
    to_target = hyperbolic_distance(embedding, np.arange(nodes)[:, None], targets[None])
    to_target[targets, columns] = -1  # arrived, also where another node lies at the same place
    following = np.empty((nodes, len(targets)), dtype=np.int64)
    for column in columns:
        at_neighbour = to_target[matrix.indices, column]
        nearest = np.minimum.reduceat(at_neighbour, matrix.indptr[:-1])
        is_nearest = at_neighbour == np.repeat(nearest, np.diff(matrix.indptr))
        # Of several nearest ones the first; each row has at least one.
        first = np.maximum.reduceat(
            is_nearest * np.arange(len(is_nearest), 0, -1), matrix.indptr[:-1]
        )
        following[:, column] = matrix.indices[len(is_nearest) - first]
    following[targets, columns] = targets
    place = np.repeat(np.arange(nodes)[:, None], len(targets), axis=1)
    hops = np.zeros_like(place)
    on_its_way = place != targets
    while on_its_way.any():
        step = following[place, columns]
        back = following[step, columns] == place
        lost = on_its_way & back & (step != targets)
        hops += on_its_way
        place = np.where(on_its_way, step, place)
        on_its_way &= (place != targets) & ~lost
    arrived = place == targets
    shortest = distances(matrix, targets)
    score = np.where(arrived, shortest / np.maximum(hops, 1), 0.0)
    return score.sum(axis=0) / (nodes - 1)


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
