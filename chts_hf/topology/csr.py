"""Compressed sparse rows: a matrix as its non-zero values, their columns, and where rows start."""

from __future__ import annotations

import functools
import warnings

import torch
from torch import Tensor


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
    rows, column = weight.nonzero(as_tuple=True)
    if len(rows) > torch.iinfo(torch.int32).max:
        raise ValueError(f"{len(rows)} links are more than 32-bit indices can count")
    start = torch.zeros(weight.shape[0] + 1, dtype=torch.int32)
    start[1:] = torch.bincount(rows, minlength=weight.shape[0]).cumsum(0)
    return start, column, weight[rows, column]


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
