"""Choosing the best ``k`` of very many cells, fast and with little memory.

On the CPU order statistics come from NumPy, whose partition and sort are several times as fast as
:func:`torch.topk` on many values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

#: Bytes of memory for what is computed for one block of cells where blocks are as large as can be.
DEVICE_BLOCK_BYTES = 1 << 28
_BYTES_PER_CELL = 32  # some four float64 at once


def on_cpu(cells: Tensor) -> bool:
    """Whether these are on a CPU, with its caches, and NumPy beside it."""
    return cells.device.type == "cpu"


def block_size(cells: Tensor) -> int:
    """Returns how many of the cells of a tensor to look at together, at least 1.

    On a CPU about a sixteenth of them, so that what is computed for a block hardly counts beside
    what is kept for all cells; but enough to be fast, and no more than fit a core's cache by and
    large. Elsewhere each operation takes microseconds to start, whatever its size: there it is all
    of them, up to what fits :data:`DEVICE_BLOCK_BYTES`.
    """
    if not on_cpu(cells):
        return DEVICE_BLOCK_BYTES // _BYTES_PER_CELL
    return min(max(cells.numel() // 16, 1 << 15), 1 << 20)


def count(cells: Tensor) -> int:
    """Returns how many entries are True, or not 0."""
    if on_cpu(cells) and cells.dtype == torch.bool:
        return int(np.count_nonzero(cells.numpy()))
    return int(torch.count_nonzero(cells))


def indices_of(cells: Tensor) -> Tensor:
    """Returns the flat indices of the True cells of ``cells``, ascending."""
    flat = cells.reshape(-1)
    if not on_cpu(flat):
        return flat.nonzero().squeeze(1)
    return torch.from_numpy(np.flatnonzero(flat.numpy()))


def blocks_of(cells: Tensor) -> Iterator[Tensor]:
    """Yields the flat indices of the True cells of ``cells``, ascending, one block at a time."""
    flat = cells.reshape(-1)
    step = block_size(flat)
    for start in range(0, flat.numel(), step):
        yield indices_of(flat[start : start + step]).add_(start)


def sorted_values(values: Tensor) -> Tensor:
    """Returns a 1-d tensor in ascending order; it may be reordered in place."""
    if not on_cpu(values):
        return values.sort().values
    values.numpy().sort()
    return values


def kth_smallest(values: Tensor, k: int) -> Tensor:
    """Returns the ``k``-th smallest (from 1) of a 1-d tensor, which may be reordered in place."""
    if not on_cpu(values):
        return kth_smallest_on_device(values, k)
    values.numpy().partition(k - 1)
    return values[k - 1]


def kth_smallest_on_device(values: Tensor, k: int) -> Tensor:
    """As :func:`kth_smallest`, without leaving the values' device.

    Of equal values any is the ``k``-th, so the answer is one. CUDA's ``kthvalue`` has it sooner
    than a sort, but is refused by many versions of PyTorch where deterministic algorithms are
    asked for, since the place that it returns as well is not.
    """
    if torch.are_deterministic_algorithms_enabled():
        return values.sort().values[k - 1]
    return values.kthvalue(k).values


def kth_smallest_of_rows(values: Tensor, counts: Tensor) -> Tensor:
    """Returns of each row of a matrix the smallest entry, the second, …: the one ``counts`` says.

    Args:
        values: Shape (rows, columns).
        counts: Shape (rows,), each between 1 and the number of columns.

    Returns:
        Shape (rows,).
    """
    if not on_cpu(values):
        return _pick(values.sort(dim=1).values, counts)
    most = int(counts.max())
    if most > 1 and most - int(counts.min()) <= 1:
        # Degrees that are equal but for one.
        parted = _smallest_first(values, most)
        return torch.where(counts == most, parted[:, most - 1], parted[:, : most - 1].amax(dim=1))
    # A partition takes a quarter of the time of a sort, and leaves only its first part to sort; so
    # the many rows of small degree are not sorted as far as the few of large degree.
    found = values.new_empty(counts.shape)
    small = 4 * counts <= values.shape[1]
    for part in (small, ~small):
        if part.any():
            few = int(counts[part].max())
            first = np.sort(_smallest_first(values[part], few)[:, :few].numpy(), axis=1)
            found[part] = _pick(torch.from_numpy(first), counts[part])
    return found


def _smallest_first(values: Tensor, k: int) -> Tensor:
    """Returns the rows of a matrix, reordered to begin with their ``k`` smallest, the last last."""
    return torch.from_numpy(np.partition(values.numpy(), k - 1, axis=1))


def _pick(ordered: Tensor, counts: Tensor) -> Tensor:
    return ordered.gather(1, (counts - 1)[:, None]).squeeze(1)


def k_smallest(
    keys_of: Callable[[slice, Tensor, Tensor | None], tuple[Tensor, Tensor]],
    cells: Tensor,
    k: int,
) -> Tensor:
    """Returns the flat indices of the True cells of ``cells`` with the ``k`` smallest keys.

    Keys are asked for one block of cells at a time. Once ``k`` have been seen, a later one must be
    under the ``k``-th smallest of them to be kept at all, so only about ``2 k`` candidates and one
    block are held, however many cells there are; and keys that can be seen to be larger need not
    be made.

    Args:
        keys_of: From a slice of flat indices (the slices ascend), the cells within it, and a bound
            or None, to the places in the slice of the cells that may have a key under the bound,
            ascending, and their keys.
        cells: Bool tensor of any shape.
        k: At least 1 and at most the number of True cells.

    Returns:
        LongTensor of shape (k,), ascending. Of equal keys the first ones win.
    """
    flat = cells.reshape(-1)
    step = block_size(flat)
    indices: list[Tensor] = []
    keys: list[Tensor] = []
    held = 0
    bound: Tensor | None = None
    for start in range(0, flat.numel(), step):
        block = slice(start, min(start + step, flat.numel()))
        index, block_keys = keys_of(block, flat[block], bound)
        if bound is not None:
            near = indices_of(block_keys < bound)
            index, block_keys = index.index_select(0, near), block_keys.index_select(0, near)
        keys.append(block_keys)
        indices.append(index.add_(start))
        held += index.numel()
        if held >= 2 * k:
            chosen, bound = _within(joined(keys), k)
            indices = [joined(indices).index_select(0, chosen)]
            keys = [joined(keys).index_select(0, chosen)]
            held = k
    if held == k:
        return joined(indices)
    return joined(indices).index_select(0, _within(joined(keys), k)[0])


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Returns the tensors end to end; a single one as it is, not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _within(keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Returns the places of the ``k`` smallest keys, ascending, and the largest key among them."""
    bound = kth_smallest(keys.clone(), k)
    best = keys < bound
    ties = indices_of(keys == bound)
    best[ties[: k - count(best)]] = True
    return indices_of(best), bound


def all_finite(values: Tensor) -> bool:
    """Whether no entry is nan or infinite; a single pass that keeps nothing."""
    # (Both bounds are fetched at once: a device is waited for each time.)
    return values.numel() == 0 or all(map(math.isfinite, torch.stack(values.aminmax()).tolist()))


def require_finite(scores: Tensor, cells: Tensor, where: str) -> None:
    """Raises a ValueError if a score is nan or infinite at a True cell of ``cells``."""
    if scores.shape != cells.shape:
        raise ValueError(f"scores have shape {tuple(scores.shape)}, the mask {tuple(cells.shape)}")
    if all_finite(scores):
        return
    flat, wanted = scores.reshape(-1), cells.reshape(-1)
    step = block_size(flat)
    for start in range(0, flat.numel(), step):
        block = slice(start, start + step)
        for bound in torch.aminmax(flat[block].masked_fill(~wanted[block], 0)):
            if not math.isfinite(bound):
                raise ValueError(f"scores must be finite, and there is {float(bound)} at {where}")


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
    chosen, ties, missing = above_threshold(scores, cells, k)
    flat = chosen.view(-1)
    for index in blocks_of(ties):
        if missing == 0:
            break
        flat[index[:missing]] = True
        missing -= min(missing, index.numel())
    return chosen


@torch.no_grad()
def above_threshold(scores: Tensor, cells: Tensor, k: int) -> tuple[Tensor, Tensor, int]:
    """Marks the True cells of ``cells`` with more than the ``k``-th highest score, and with that.

    Args:
        scores: Any shape, without NaN where ``cells`` is True.
        cells: Bool tensor of the same shape: the candidates.
        k: Between 0 and the number of candidates.

    Returns:
        Bool tensors of the same shape, of the cells above that score and of those that have it,
        and how many of the latter make up ``k`` with the former.
    """
    chosen = torch.zeros(cells.shape, dtype=torch.bool, device=cells.device)
    if k == 0:
        return chosen, chosen, 0
    n = count(cells)
    flat = scores.reshape(-1)
    dtype = torch.promote_types(flat.dtype, torch.float32)
    if n == flat.numel():
        candidates = flat.to(dtype, copy=True)
    else:
        candidates = torch.empty(n, dtype=dtype, device=flat.device)
        done = 0
        for index in blocks_of(cells):
            candidates[done : done + index.numel()] = flat.index_select(0, index)
            done += index.numel()
    threshold = kth_smallest(candidates, n - k + 1)
    del candidates
    torch.logical_and(scores > threshold, cells, out=chosen)
    return chosen, (scores == threshold).logical_and_(cells), k - count(chosen)
