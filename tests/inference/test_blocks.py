"""Links in the order of the compiled product: which group, which segment, and back again."""

from __future__ import annotations

import re

import pytest
import torch

from chts_hf.inference import native
from chts_hf.inference.blocks import COLUMNS, ROWS, from_blocks, to_blocks


@pytest.mark.parametrize("density", [0.0, 0.001, 0.1, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (ROWS, COLUMNS), (ROWS + 1, COLUMNS + 1), (300, 700)])
def test_the_matrix_comes_back(shape, density):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(shape, generator=generator)
    weight *= torch.rand(shape, generator=generator) < density
    blocks = to_blocks(weight)
    assert torch.equal(from_blocks(blocks, shape), weight)
    assert len(blocks.value) == weight.count_nonzero()
    assert blocks.row.dtype == blocks.column.dtype == torch.uint8


def test_groups_are_in_order_and_their_segments_by_size():
    weight = torch.zeros(ROWS + 2, COLUMNS + 3)
    weight[5, :3], weight[7, 9] = 1.0, 2.0  # first group: 3 links and 1
    weight[5, COLUMNS + 1] = 3.0  # to its right
    weight[ROWS + 1, [0, 4]] = 4.0  # below it
    blocks = to_blocks(weight)
    assert blocks.group.tolist() == [0, 2, 3, 4, 4]
    assert blocks.row.tolist() == [7, 5, 5, 1]
    assert blocks.start.tolist() == [0, 1, 4, 5, 7]
    assert blocks.column.tolist() == [9, 0, 1, 2, 1, 0, 4]
    assert blocks.value.tolist() == [2, 1, 1, 1, 3, 4, 4]


def test_the_kernel_has_groups_of_the_same_size():
    defined = dict(re.findall(r"#define (ROWS|COLUMNS) (\d+)", native._SOURCE.read_text()))
    assert defined == {"ROWS": str(ROWS), "COLUMNS": str(COLUMNS)}
