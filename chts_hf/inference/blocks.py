"""The links of a matrix in the order in which the compiled product reads them.

Compressed sparse rows have each link read its input from anywhere in a row of x, which is more than
a core's nearest cache holds. Here a matrix is cut into groups of 128 rows and 256 columns, whose
inputs it does hold. A group's segments, the links of one row in it, are sorted by their number, so
that a processor foresees where each one ends; and a column within a group needs one byte, not two.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from chts_hf.topology.csr import pattern

ROWS, COLUMNS = 128, 256
"""Of a group; as in ``sparse_linear.c``. Both are at most what a byte can count."""


class Blocks(NamedTuple):
    """A matrix's links, group by group: rows of groups from the top, each from the left.

    Attributes:
        group: int32 (groups + 1,): the segments of group g are ``group[g]`` to ``group[g + 1]``.
        start: int32 (segments + 1,): the links of segment s are ``start[s]`` to ``start[s + 1]``.
        row: uint8 (segments,): a segment's row, counted from its group's first.
        column: uint8 (links,): a link's column, counted from its group's first.
        value: (links,), none of them 0.
    """

    group: Tensor
    start: Tensor
    row: Tensor
    column: Tensor
    value: Tensor


def to_blocks(weight: Tensor) -> Blocks:
    """Order the non-zero entries of a matrix.

    Args:
        weight: of shape (out, in).

    Raises:
        ValueError: more than 2³¹ - 1 entries.

    Example:
        >>> blocks = to_blocks(torch.tensor([[1.0, 2.0], [0.0, 0.0], [0.0, 3.0]]))
        >>> blocks.row.tolist(), blocks.start.tolist(), blocks.value.tolist()
        ([2, 0], [0, 1, 3], [3.0, 1.0, 2.0])
    """
    start, column, place = pattern(weight.bool())
    out, width = weight.shape
    across = -(-width // COLUMNS)
    row = torch.arange(out).repeat_interleave(start.diff())
    group = row // ROWS * across + column // COLUMNS
    in_group = row % ROWS
    # Links of a segment are neighbours already where rows are read from left to right.
    segment, of_link, size = torch.unique(
        group * ROWS + in_group, return_inverse=True, return_counts=True
    )
    order = torch.argsort(segment // ROWS * (COLUMNS + 1) + size, stable=True)
    place_of = torch.empty_like(order)
    place_of[order] = torch.arange(len(order))
    links = torch.argsort(place_of[of_link], stable=True)
    groups = -(-out // ROWS) * across
    return Blocks(
        group=_starts(torch.bincount(segment // ROWS, minlength=groups)),
        start=_starts(size[order]),
        row=(segment[order] % ROWS).to(torch.uint8),
        column=(column[links] % COLUMNS).to(torch.uint8),
        value=weight.reshape(-1).index_select(0, place[links]),
    )


def from_blocks(blocks: Blocks, shape: tuple[int, int]) -> Tensor:
    """The matrix, of shape (out, in), that :func:`to_blocks` was given."""
    dense = blocks.value.new_zeros(shape)
    across = -(-shape[1] // COLUMNS)
    group = torch.arange(len(blocks.group) - 1).repeat_interleave(blocks.group.diff())
    row = group // across * ROWS + blocks.row
    size = blocks.start.diff()
    column = (group % across * COLUMNS).repeat_interleave(size) + blocks.column
    dense[row.repeat_interleave(size), column] = blocks.value
    return dense


def _starts(counts: Tensor) -> Tensor:
    return torch.nn.functional.pad(counts.cumsum(0), (1, 0)).to(torch.int32)
