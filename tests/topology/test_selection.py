from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from chts_hf.topology.selection import (
    highest,
    k_smallest,
    kth_smallest_of_rows,
    kth_smallest_on_device,
    require_finite,
)


def _of(keys: Tensor) -> Callable[[slice, Tensor, Tensor | None], tuple[Tensor, Tensor]]:
    """What gives every key of a block, whatever the bound."""

    def keys_of(block: slice, cells: Tensor, bound: Tensor | None) -> tuple[Tensor, Tensor]:
        index = cells.nonzero().flatten()
        return index, keys[block][index]

    return keys_of


@pytest.mark.parametrize("k", [1, 100, 98_000, 199_999])
def test_k_smallest_of_many_blocks(k: int) -> None:
    keys = torch.rand(400_000, dtype=torch.float64)
    cells = torch.arange(400_000) % 2 == 1
    chosen = k_smallest(_of(keys), cells, k)
    expected = keys.masked_fill(~cells, math.inf).topk(k, largest=False).indices.sort().values
    assert torch.equal(chosen, expected)


def test_k_smallest_takes_the_first_of_equal_keys() -> None:
    keys = torch.zeros(200_000)
    keys[:1000] = math.inf
    every = torch.ones(200_000, dtype=torch.bool)
    chosen = k_smallest(_of(keys), every, 50_000)
    assert torch.equal(chosen, torch.arange(1000, 51_000))


def test_k_smallest_with_infinite_and_meaningless_keys() -> None:
    keys = torch.tensor([math.nan, 3.0, math.inf, math.inf, 1.0])
    cells = torch.tensor([False, True, True, True, True])
    assert k_smallest(_of(keys), cells, 3).tolist() == [1, 2, 4]


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.sampled_from([-1.0, 0.0, 0.5, 0.5, 2.0]), min_size=1, max_size=30),
    seed=st.integers(0, 1000),
    share=st.floats(0, 1),
)
def test_highest_is_a_stable_sort(scores: list[float], seed: int, share: float) -> None:
    values = torch.tensor(scores)
    cells = torch.rand(len(scores), generator=torch.Generator().manual_seed(seed)) < 0.7
    k = round(share * int(cells.sum()))
    candidates = cells.nonzero().flatten().tolist()
    best = sorted(candidates, key=lambda i: (-scores[i], i))[:k]
    assert highest(values, cells, k).nonzero().flatten().tolist() == sorted(best)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_highest_in_other_precisions(dtype: torch.dtype) -> None:
    scores = torch.tensor([[0.5, 3.0], [1.0, 2.0]], dtype=dtype)
    every = torch.ones(2, 2, dtype=torch.bool)
    assert highest(scores, every, 2).tolist() == [[False, True], [False, True]]
    assert scores.tolist() == [[0.5, 3.0], [1.0, 2.0]]  # read, not reordered


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
@pytest.mark.parametrize("k", [1, 2, 7, 500, 999, 1000])
def test_a_deterministic_run_finds_the_same_kth_value(monkeypatch, dtype: torch.dtype, k: int):
    """Many values are equal, and CUDA's kthvalue is refused there by many versions of PyTorch."""
    values = torch.arange(1000).mul(7919).remainder(1000).div(3, rounding_mode="floor").to(dtype)
    if dtype != torch.int64:
        values[::100] = math.inf
    expected = kth_smallest_on_device(values.clone(), k)
    assert expected == values.sort().values[k - 1]

    def refused(*_: object) -> None:
        raise RuntimeError("kthvalue CUDA does not have a deterministic implementation")

    monkeypatch.setattr(Tensor, "kthvalue", refused)
    with pytest.raises(RuntimeError, match="deterministic"):
        kth_smallest_on_device(values.clone(), k)
    torch.use_deterministic_algorithms(True)
    try:
        found = kth_smallest_on_device(values.clone(), k)
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(found, expected)


def test_require_finite_reads_the_named_cells_only() -> None:
    scores = torch.tensor([1.0, math.nan])
    require_finite(scores, torch.tensor([True, False]), "a link")
    with pytest.raises(ValueError, match="there is nan at a link"):
        require_finite(scores, torch.tensor([True, True]), "a link")
    with pytest.raises(ValueError, match="scores have shape"):
        require_finite(scores, torch.ones(3, dtype=torch.bool), "a link")


@pytest.mark.parametrize(
    "counts", [[3, 4, 4, 3], [1, 1, 1, 1], [2, 1, 1, 2], [1, 9, 4, 2], [9, 9, 9, 9], [1, 2, 2, 1]]
)
def test_the_right_one_of_each_row(counts: list[int]) -> None:
    values = torch.rand(4, 9, generator=torch.Generator().manual_seed(1))
    found = kth_smallest_of_rows(values, torch.tensor(counts))
    expected = [row.sort().values[k - 1] for row, k in zip(values, counts, strict=True)]
    assert found.tolist() == [float(value) for value in expected]
