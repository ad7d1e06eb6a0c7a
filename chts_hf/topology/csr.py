"""Compressed sparse rows: a matrix as its non-zero values, their columns, and where rows start."""

from __future__ import annotations

import functools
import warnings

import torch
from torch import Tensor

from chts_hf.topology.selection import indices_of


def to_csr(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The non-zero entries of a matrix, row by row.

    Args:
        weight: of shape (out, in).

    Returns:
        ``start`` int32 (out + 1,): the entries of row r are those from ``start[r]`` up to
        ``start[r + 1]``; ``column`` int64 (links,), rising within a row; ``value`` (links,).

    Raises:
        ValueError: more than 2³¹ - 1 entries.

    Example:
        >>> start, column, value = to_csr(torch.tensor([[0.0, 2.0], [0.0, 0.0], [3.0, 4.0]]))
        >>> start.tolist(), column.tolist(), value.tolist()
        ([0, 1, 1, 3], [1, 0, 1], [2.0, 3.0, 4.0])
    """
    start, column, place = pattern(weight.bool())
    return start, column, weight.reshape(-1).index_select(0, place)


def pattern(mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where the True cells of a mask are, row by row: :func:`to_csr` without the values.

    Args:
        mask: bool, of shape (out, in).

    Returns:
        ``start`` and ``column`` as of :func:`to_csr`; ``place`` int64 (links,): flat indices.

    Raises:
        ValueError: more than 2³¹ - 1 entries.
    """
    place = indices_of(mask)
    if len(place) > torch.iinfo(torch.int32).max:
        raise ValueError(f"{len(place)} links are more than 32-bit indices can count")
    rows, columns = mask.shape
    row_starts = torch.arange(rows + 1, device=place.device) * columns
    return torch.searchsorted(place, row_starts, out_int32=True), place % columns, place


def csr_matrix(start: Tensor, column: Tensor, value: Tensor, shape: tuple[int, int]) -> Tensor:
    """The three arrays as torch's own sparse matrix; nothing is copied, nothing checked."""
    _warn_now()
    return torch.sparse_csr_tensor(start, column, value, shape, check_invariants=False)


@functools.cache
def _warn_now() -> None:
    """Torch says once in each process that its sparse matrices are in beta; here, to nobody."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        empty = torch.zeros(0, dtype=torch.int32)
        torch.sparse_csr_tensor(
            torch.zeros(2, dtype=torch.int32),
            empty,
            torch.zeros(0),
            (1, 1),
            check_invariants=False,
        )
