"""Working on the rows of a bipartite graph: degrees, choices within each row, coverage."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from chts_hf.topology.noise import uniform_noise
from chts_hf.topology.sampling import uniform_subset
from chts_hf.topology.selection import count, kth_smallest_of_rows

_BLOCK = 1 << 20


def row_blocks(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Yields slices of rows that hold about a million cells each."""
    step = max(1, _BLOCK // max(1, n_columns))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def equal_degrees(n_rows: int, total: int) -> Tensor:
    """Splits ``total`` links over the rows as evenly as can be, larger and smaller ones mixed.

    Returns:
        A LongTensor of shape (n_rows,) that sums to ``total`` and whose entries differ by at
        most 1; so no row is left without links if there are as many links as rows.
    """
    return (torch.arange(n_rows + 1) * total // n_rows).diff()


def uniform_degrees(
    n_rows: int, total: int, most: int, generator: torch.Generator | None
) -> Tensor:
    """Splits ``total`` links over the rows at random, every degree of a range equally likely.

    The range lies symmetrically around the mean ``total / n_rows``, as wide as it can be within
    [1, most], or [0, most] where there are fewer links than rows. Rounding, and the difference
    between what was drawn and ``total``, are settled by single links of random rows.

    Returns:
        A LongTensor of shape (n_rows,) that sums to ``total``.
    """
    least = 1 if total >= n_rows else 0
    mean = total / n_rows
    half = min(mean - least, most - mean)
    noise = uniform_noise((n_rows,), generator).cpu()
    degrees = (mean + half * (2 * noise - 1)).round().long()
    while surplus := int(degrees.sum()) - total:
        free = degrees > least if surplus > 0 else degrees < most
        few = min(abs(surplus), count(free))
        degrees -= uniform_subset(free, few, generator).long() * (1 if surplus > 0 else -1)
    return degrees


def apportion(weights: Tensor, total: int, most: int) -> Tensor:
    """Splits ``total`` links over the rows in proportion to weights, within limits.

    Args:
        weights: Positive, of shape (n_rows,).
        total: How many links, at most ``n_rows * most``.
        most: The limit of each row from above. From below it is 1, or 0 where there are fewer
            links than rows.

    Returns:
        A LongTensor of shape (n_rows,) that sums to ``total``.
    """
    least = 1 if total >= weights.numel() else 0
    weights = weights.double()
    low, high = 0.0, total / float(weights.min()) + 1
    # The factor by which limited shares add up to the total: the sum rises with it.
    for _ in range(100):
        middle = (low + high) / 2
        if float((middle * weights).clamp(least, most).sum()) < total:
            low = middle
        else:
            high = middle
    share = (high * weights).clamp(least, most)
    degrees = share.floor().long()
    missing = total - int(degrees.sum())
    # The largest remainders are rounded up; rounding of the factor may leave one more or less.
    degrees[(share - degrees).argsort(descending=True, stable=True)[: max(0, missing)]] += 1
    while surplus := int(degrees.sum()) - total:
        free = (degrees > least if surplus > 0 else degrees < most).nonzero().squeeze(1)
        degrees[free[: abs(surplus)]] -= 1 if surplus > 0 else -1
    return degrees


def smallest_per_row(keys: Tensor, counts: Tensor) -> Tensor:
    """Marks in each row of ``keys`` as many of its smallest entries as ``counts`` says."""
    threshold = kth_smallest_of_rows(keys, counts.clamp(min=1))[:, None]
    chosen = (keys <= threshold).logical_and_((counts > 0)[:, None])
    # Rows in which several keys equal the threshold; there are next to none.
    for row in (chosen.count_nonzero(dim=1) != counts).nonzero().flatten().tolist():
        chosen[row] = False
        chosen[row, keys[row].argsort(stable=True)[: int(counts[row])]] = True
    return chosen


def cover_columns(mask: Tensor, generator: torch.Generator | None) -> Tensor:
    """Gives every column a link, if there are as many links as columns.

    An empty column gets a link that another column can spare, moved along its row, so the rows'
    degrees stay as they are. The links that move are drawn uniformly from those that can be
    spared.

    Args:
        mask: Bool tensor of shape (rows, columns); changed in place.
        generator: Source of randomness; the default CPU generator if None.

    Returns:
        ``mask``.
    """
    covered = mask.any(dim=0)
    empty = (~covered).nonzero().squeeze(1)
    if not empty.numel() or count(mask) < mask.shape[1]:
        return mask
    spare = mask.clone()
    columns = covered.nonzero().squeeze(1)
    spare[mask[:, columns].byte().argmax(dim=0), columns] = False  # one link that has to stay
    moving = uniform_subset(spare, empty.numel(), generator).nonzero()
    mask[moving[:, 0], moving[:, 1]] = False
    mask[moving[:, 0], empty] = True
    return mask
