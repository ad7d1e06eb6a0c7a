"""Counts and structure of masks: clustering, living neurons, hubs."""

from __future__ import annotations

import numpy as np

from chts_hf.analysis.network import Chain, Floats, Mask


def bipartite_clustering(chain: Chain) -> float:
    """Robins and Alexander's clustering (2004): the share of paths of three links that close.

    ``C = 4 · squares / paths of length three``, over the whole layered network.

    Returns:
        In [0, 1]; 0 where there is no path of three links.
    """
    mask = side_by_side(chain)
    if mask.shape[0] > mask.shape[1]:
        mask = mask.T
    linked = mask.astype(np.float32)
    shared = (linked @ linked.T).astype(np.float64)  # exact: whole numbers far below 2^24
    np.fill_diagonal(shared, 0)
    squares = (shared * (shared - 1)).sum() / 4
    rows, columns = mask.sum(axis=1, dtype=np.float64), mask.sum(axis=0, dtype=np.float64)
    paths = float((rows - 1) @ (linked @ (columns - 1))) if mask.any() else 0.0
    return float(4 * squares / paths) if paths > 0 else 0.0


def side_by_side(chain: Chain) -> Mask:
    """The chain as one bipartite mask: neurons of odd levels as rows, of even ones as columns."""
    sizes = chain.sizes
    place = [sum(sizes[level % 2 : level : 2]) for level in range(len(sizes))]
    mask = np.zeros((sum(sizes[1::2]), sum(sizes[::2])), dtype=bool)
    for level, links in enumerate(chain.masks):
        block = links if level % 2 == 0 else links.T
        row, column = (place[level + 1], place[level])[:: 1 if level % 2 == 0 else -1]
        mask[row : row + block.shape[0], column : column + block.shape[1]] = block
    return mask


def alive(chain: Chain) -> list[Mask]:
    """For each level, which neurons have links: on both sides where they have two."""
    marks = []
    for level in range(len(chain.sizes)):
        mark = np.ones(chain.sizes[level], dtype=bool)
        if level > 0:
            mark &= chain.masks[level - 1].any(axis=1)
        if level < len(chain.masks):
            mark &= chain.masks[level].any(axis=0)
        marks.append(mark)
    return marks


def active_neuron_rate(chain: Chain) -> float:
    """ANP: the share of hidden neurons linked on both sides; for one layer, of all its nodes."""
    marks = alive(chain)
    counted = marks[1:-1] or marks
    return float(np.concatenate(counted).mean())


def degree_correlation(chain: Chain) -> float:
    """Spearman's correlation of hidden neurons' links to the layer before and to the one after.

    Positive where the hubs of one layer are hubs of the next. The mean over hidden levels.

    Returns:
        NaN for a single layer, and where all degrees are equal.
    """
    from scipy.stats import rankdata

    found = []
    for before, after in zip(chain.masks, chain.masks[1:], strict=False):
        ranks = [rankdata(before.sum(axis=1)), rankdata(after.sum(axis=0))]
        if all(rank.std() > 0 for rank in ranks):
            found.append(float(np.corrcoef(ranks)[0, 1]))
    return float(np.mean(found)) if found else float("nan")


def hub_paths(chain: Chain, share: float = 0.1) -> float:
    """The share of credit-assignment paths that go through hubs.

    A path leads from an input to an output of the chain, one link per layer; along it an error is
    credited. Hubs are the ``share`` of a hidden level's neurons with the most links. A neuron lies
    on as many paths as lead to it times as many as lead on from it.

    Returns:
        The mean over hidden levels, ``share`` if all neurons were alike; NaN for a single layer, or
        where no path leads through.
    """
    forward: list[Floats] = [np.ones(chain.sizes[0])]
    for mask in chain.masks:
        forward.append(_scaled(mask @ forward[-1]))
    backward: list[Floats] = [np.ones(chain.sizes[-1])]
    for mask in reversed(chain.masks):
        backward.append(_scaled(backward[-1] @ mask))
    backward.reverse()
    found = []
    for level in range(1, len(chain.masks)):
        paths = forward[level] * backward[level]
        degree = chain.masks[level - 1].sum(axis=1) + chain.masks[level].sum(axis=0)
        hubs = np.argsort(-degree, kind="stable")[: max(1, round(share * len(degree)))]
        if paths.sum() > 0:
            found.append(paths[hubs].sum() / paths.sum())
    return float(np.mean(found)) if found else float("nan")


def _scaled(paths: Floats) -> Floats:
    """Only shares matter, and the number of paths through many layers overflows."""
    return paths / max(float(paths.max()), 1.0)
