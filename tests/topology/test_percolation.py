from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from chts_hf.topology import (
    active_neurons_product,
    active_neurons_sequential,
    percolate_product,
    percolate_sequential,
)
from tests.topology import golden


def bools(rows: list[str]) -> Tensor:
    return torch.tensor([[cell == "1" for cell in row] for row in rows])


def test_equal_to_the_reference() -> None:
    vectors = golden.arrays("removal.npz")
    first, second = percolate_sequential(vectors["fc1"], vectors["fc2"])
    assert torch.equal(first, vectors["fc1_after"])
    assert torch.equal(second, vectors["fc2_after"])
    q, k = percolate_product(vectors["q"], vectors["k"])
    assert torch.equal(q, vectors["q_after"])
    assert torch.equal(k, vectors["k_after"])
    # the vectors show something: links were removed on both sides of both pairs
    for before, after in (("fc1", first), ("fc2", second), ("q", q), ("k", k)):
        assert int(vectors[before].sum()) > int(after.sum())


def test_sequential_by_hand() -> None:
    first = bools(["11", "00", "10", "01"])
    second = bools(["1101", "0100"])
    inputs = first.clone(), second.clone()
    new_first, new_second = percolate_sequential(first, second)
    assert torch.equal(new_first, bools(["11", "00", "00", "01"]))
    assert torch.equal(new_second, bools(["1001", "0000"]))
    assert active_neurons_sequential(first, second).tolist() == [True, False, False, True]
    assert torch.equal(first, inputs[0])
    assert torch.equal(second, inputs[1])


def test_product_by_hand() -> None:
    a, b = bools(["11", "00", "10"]), bools(["010", "111", "000"])
    new_a, new_b = percolate_product(a, b)
    assert torch.equal(new_a, bools(["11", "00", "00"]))
    assert torch.equal(new_b, bools(["010", "000", "000"]))
    assert active_neurons_product(a, b).tolist() == [True, False, False]


def test_grouped_sequential() -> None:
    """Two value neurons, each read by two columns of the output projection."""
    neuron_of = torch.tensor([0, 1, 0, 1])
    first = bools(["10", "01"])
    second = bools(["0010"])  # neuron 0 by its second column, neuron 1 by none
    new_first, new_second = percolate_sequential(first, second, neuron_of)
    assert torch.equal(new_first, bools(["10", "00"]))
    assert torch.equal(new_second, second)
    assert active_neurons_sequential(first, second, neuron_of).tolist() == [True, False]
    # an empty row empties all of its columns
    new_first, new_second = percolate_sequential(bools(["00", "01"]), bools(["1111"]), neuron_of)
    assert torch.equal(new_second, bools(["0101"]))


def test_grouped_product() -> None:
    """Four query rows, two to each key row."""
    neuron_of = torch.tensor([0, 0, 1, 1])
    a, b = bools(["1", "0", "0", "0"]), bools(["11", "01"])
    new_a, new_b = percolate_product(a, b, neuron_of)
    assert torch.equal(new_a, a)
    assert torch.equal(new_b, bools(["11", "00"]))  # both queries of the second key are empty
    assert active_neurons_product(a, b, neuron_of).tolist() == [True, False, False, False]
    new_a, _ = percolate_product(bools(["1", "1", "1", "0"]), bools(["00", "01"]), neuron_of)
    assert torch.equal(new_a, bools(["0", "0", "1", "0"]))


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 10),
    copies=st.integers(1, 3),
    density=st.floats(0.02, 0.5),
    seed=st.integers(0, 1000),
)
def test_properties(n: int, copies: int, density: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    neuron_of = torch.randperm(n * copies, generator=generator) % n
    small = torch.rand(n, 7, generator=generator) < density
    large = torch.rand(n * copies, 5, generator=generator) < density

    first, second = percolate_sequential(small, large.T, neuron_of)
    for j in range(n):
        columns = (neuron_of == j).nonzero().flatten()
        alive = bool(small[j].any()) and bool(large[columns].any())
        assert torch.equal(first[j], small[j] & alive)
        assert torch.equal(second[:, columns], large.T[:, columns] & alive)
        assert bool(active_neurons_sequential(small, large.T, neuron_of)[j]) == alive
    again = percolate_sequential(first, second, neuron_of)
    assert torch.equal(again[0], first)
    assert torch.equal(again[1], second)

    a, b = percolate_product(large, small, neuron_of)
    for c in range(n * copies):
        assert torch.equal(a[c], large[c] & small[neuron_of[c]].any())
    for j in range(n):
        assert torch.equal(b[j], small[j] & large[neuron_of == j].any())
    assert torch.equal(active_neurons_product(large, small, neuron_of), a.any(dim=1))
    again = percolate_product(a, b, neuron_of)
    assert torch.equal(again[0], a)
    assert torch.equal(again[1], b)


def test_shapes_that_do_not_fit() -> None:
    ones = torch.ones(3, 4, dtype=torch.bool)
    for function in (percolate_sequential, active_neurons_sequential):
        with pytest.raises(ValueError, match="4 rows or columns .* 3 neurons; pass neuron_of"):
            function(ones, ones)
    for of_product in (percolate_product, active_neurons_product):
        with pytest.raises(ValueError, match="4 rows or columns .* 3 neurons; pass neuron_of"):
            of_product(ones.T, ones)
    with pytest.raises(ValueError, match="neuron_of has shape"):
        percolate_product(ones, ones, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="from 0 to 2"):
        percolate_product(ones, ones, torch.tensor([0, 1, 3]))
