"""Shortest paths, counted in links."""

from __future__ import annotations

import numpy as np

from chts_hf.analysis.network import Floats, Ints, Sparse


def sample_nodes(nodes: int, most: int, rng: np.random.Generator) -> Ints:
    """All nodes, or ``most`` of them drawn without replacement; ascending."""
    return np.sort(rng.permutation(nodes)[:most])


def mean_and_error(values: Floats, population: int) -> tuple[float, float]:
    """Mean of a sample and its standard error, 0 where the sample is the whole population."""
    if len(values) < 2:
        return float(values.mean()) if len(values) else float("nan"), 0.0
    correction = max(0.0, 1 - len(values) / population)
    error = float(np.sqrt(values.var(ddof=1) / len(values) * correction))
    return float(values.mean()), error


def distances(matrix: Sparse, sources: Ints) -> Ints:
    """Links on the shortest path from each source to every node; -1 where there is none.

    Breadth first, for all sources at once: one sparse product per step.

    Returns:
        (nodes, sources).
    """
    found = np.full((matrix.shape[0], len(sources)), -1, dtype=np.int64)
    front = np.zeros(found.shape, dtype=np.float32)
    front[sources, np.arange(len(sources))] = 1
    links = matrix.astype(np.float32)
    step = 0
    while front.any():
        found[front > 0] = step
        step += 1
        front = ((links @ front > 0) & (found < 0)).astype(np.float32)
    return found


def path_lengths(matrix: Sparse, sources: Ints) -> Floats:
    """Mean shortest-path length from each source to the nodes it reaches, itself left out.

    The mean over sources is the characteristic path length (Watts and Strogatz 1998).

    Returns:
        One per source that reaches another node.
    """
    means = []
    for block in np.array_split(sources, max(1, len(sources) // 256)):
        steps = distances(matrix, block)
        reached = (steps > 0).sum(axis=0)
        total = np.where(steps > 0, steps, 0).sum(axis=0)
        means.append(total[reached > 0] / reached[reached > 0])
    return np.concatenate(means)
