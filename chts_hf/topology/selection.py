"""Choosing the best ``k`` of very many cells with memory in proportion to ``k``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

BLOCK = 1 << 16
"""Cells looked at together: large enough to be fast, small enough to stay in a core's cache."""


def blocks_of(cells: Tensor) -> Iterator[Tensor]:
    """Yields the flat indices of the True cells of ``cells``, ascending, one block at a time."""
    flat = cells.reshape(-1)
    for start in range(0, flat.numel(), BLOCK):
        yield flat[start : start + BLOCK].nonzero().squeeze(1).add_(start)


def k_smallest(blocks: Iterable[tuple[Tensor, Tensor]], k: int) -> tuple[Tensor, Tensor]:
    """Returns the indices and keys of the ``k`` smallest keys of a stream of blocks.

    Once ``k`` keys have been seen, a later key must be under the ``k``-th smallest of them to be
    kept at all, so at most about ``2 k`` candidates are held, however long the stream is.

    Args:
        blocks: Pairs of 1-d tensors (indices, keys), without NaN among the keys.
        k: How many to return, at least 1 and at most the number of keys.

    Returns:
        Two 1-d tensors of length ``k``, in no particular order. Among equal keys any may win.
    """
    indices: list[Tensor] = []
    keys: list[Tensor] = []
    held = 0
    bound: Tensor | None = None
    for block_indices, block_keys in blocks:
        if bound is not None:
            near = block_keys < bound
            block_indices, block_keys = block_indices[near], block_keys[near]
        indices.append(block_indices)
        keys.append(block_keys)
        held += block_indices.numel()
        if held >= 2 * k:
            indices, keys = _prune(indices, keys, k)
            held, bound = k, keys[0].max()
    indices, keys = _prune(indices, keys, k)
    return indices[0], keys[0]


def _prune(indices: list[Tensor], keys: list[Tensor], k: int) -> tuple[list[Tensor], list[Tensor]]:
    all_keys = torch.cat(keys)
    best, where = all_keys.topk(k, largest=False, sorted=False)
    return [torch.cat(indices)[where]], [best]


@torch.no_grad()
def highest(scores: Tensor, cells: Tensor, k: int) -> Tensor:
    """Marks the ``k`` True cells of ``cells`` with the highest scores.

    Args:
        scores: Any shape, without NaN where ``cells`` is True.
        cells: Bool tensor of the same shape: the candidates.
        k: Between 0 and the number of candidates.

    Returns:
        A bool tensor of the same shape with exactly ``k`` True. Of candidates that tie at the
        threshold, those with the lowest flat index are taken, so the answer is the same on every
        device.
    """
    chosen = torch.zeros_like(cells)
    if k == 0:
        return chosen
    flat = scores.reshape(-1)
    _, keys = k_smallest(((index, -flat[index]) for index in blocks_of(cells)), k)
    threshold = -keys.max()
    torch.logical_and(scores > threshold, cells, out=chosen)
    missing = k - int(torch.count_nonzero(chosen))
    chosen_flat = chosen.view(-1)
    for index in blocks_of((scores == threshold) & cells):
        chosen_flat[index[:missing]] = True
        missing -= min(missing, index.numel())
        if missing == 0:
            break
    return chosen
