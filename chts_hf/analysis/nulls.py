"""Networks to compare with: the same number of links, or the same degrees, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from chts_hf.analysis.network import Chain, Mask

Generator = np.random.Generator


def erdos_renyi(mask: Mask, rng: Generator) -> Mask:
    """A mask of the same shape and number of links, the links drawn uniformly."""
    links = int(np.count_nonzero(mask))
    drawn = np.zeros(mask.size, dtype=bool)
    drawn[rng.choice(mask.size, size=links, replace=False, shuffle=False)] = True
    return drawn.reshape(mask.shape)


def rewire(mask: Mask, rng: Generator, trades: int = 16) -> Mask:
    """A mask with the same degrees on both sides, otherwise uniformly random.

    Global curveball trades (Strona et al. 2014; Carstens et al. 2018): in each, all rows are paired
    at random, and the columns that only one row of a pair has are dealt out anew between the two,
    as many to each as before. The chain of trades is symmetric and reaches every bipartite graph of
    these degrees, so that it tends to the uniform distribution over them.

    Args:
        mask: (out, in).
        rng: source of randomness.
        trades: global trades; each moves about half of the links that may move.

    Returns:
        A new mask.

    Raises:
        ValueError: ``trades`` is below 1.
    """
    if trades < 1:
        raise ValueError(f"trades = {trades} must be at least 1")
    if mask.shape[0] > mask.shape[1]:
        # Fewer, longer rows mix faster; the degrees of both sides are kept either way.
        return np.ascontiguousarray(rewire(mask.T, rng, trades).T)
    rows, columns = np.nonzero(mask)
    n_rows, n_columns = mask.shape
    for _ in range(trades):
        # The pair that each row belongs to; with an odd number, one row sits out alone.
        order = rng.permutation(n_rows)
        pair_of = np.empty(n_rows, dtype=np.int64)
        pair_of[order] = np.arange(n_rows) // 2
        first_row = order[::2]
        second_row = np.append(order[1::2], order[-1:])[: len(first_row)]
        cell = pair_of[rows] * n_columns + columns
        both = np.bincount(cell, minlength=len(first_row) * n_columns)[cell] == 2
        moving = np.flatnonzero(~both)
        pair = pair_of[rows[moving]]
        # Shuffle the single columns within each pair, and give the first row its number of them.
        shuffled = moving[np.lexsort((rng.random(len(moving)), pair))]
        pair = pair_of[rows[shuffled]]
        mine = np.bincount(pair[rows[shuffled] == first_row[pair]], minlength=len(first_row))
        starts = np.searchsorted(pair, np.arange(len(first_row)))
        place = np.arange(len(pair)) - starts[pair]
        rows[shuffled] = np.where(place < mine[pair], first_row[pair], second_row[pair])
    rewired = np.zeros(mask.shape, dtype=bool)
    rewired[rows, columns] = True
    return rewired


#: Name → null model of one mask. "er" keeps the number of links, "degrees" both degree sequences.
NULL_MODELS: dict[str, Callable[[Mask, Generator], Mask]] = {"er": erdos_renyi, "degrees": rewire}


def null_chain(chain: Chain, model: str, rng: Generator) -> Chain:
    """A chain whose layers are each drawn from a null model.

    Raises:
        ValueError: there is no such null model.
    """
    if model not in NULL_MODELS:
        raise ValueError(f"no null model {model!r}; there are {', '.join(NULL_MODELS)}")
    draw = NULL_MODELS[model]
    return Chain(chain.name, chain.layers, tuple(draw(mask, rng) for mask in chain.masks))
