from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chts_hf.topology import erk_densities


@settings(max_examples=150, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 3000)), min_size=1, max_size=12),
    sparsity=st.floats(0, 0.999),
)
def test_overall_density_and_proportions(shapes: list[tuple[int, int]], sparsity: float) -> None:
    densities = erk_densities(shapes, sparsity)
    sizes = [n_out * n_in for n_out, n_in in shapes]
    links = sum(d * size for d, size in zip(densities, sizes, strict=True))
    assert links == pytest.approx((1 - sparsity) * sum(sizes))
    assert all(0 < density <= 1 for density in densities)
    # Below the cap densities are in proportion, and none at the cap would be below it.
    scales = [
        density * n_out * n_in / (n_out + n_in)
        for density, (n_out, n_in) in zip(densities, shapes, strict=True)
    ]
    free = [s for s, density in zip(scales, densities, strict=True) if density < 1]
    if free:
        assert max(free) == pytest.approx(min(free))
        assert all(s <= max(free) * (1 + 1e-9) for s in scales)


@settings(max_examples=100, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 3000)), min_size=1, max_size=12),
    start=st.floats(0, 0.999),
    end=st.floats(0, 0.999),
)
def test_no_layer_gets_denser_while_the_whole_gets_sparser(
    shapes: list[tuple[int, int]], start: float, end: float
) -> None:
    before, after = (erk_densities(shapes, s) for s in sorted((start, end)))
    assert all(b >= a - 1e-12 for b, a in zip(before, after, strict=True))


def test_by_hand() -> None:
    # In proportion, the small layer would have 198 links for its 100 cells: it is full.
    assert erk_densities([(10, 10), (1000, 1000)], 0.98) == pytest.approx(
        [1.0, (0.02 * 1_000_100 - 100) / 1_000_000]
    )
    assert erk_densities([(64, 64), (64, 64)], 0.9) == pytest.approx([0.1, 0.1])
    assert erk_densities([(5, 7), (9, 2)], 0.0) == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("sparsity", [-0.1, 1.0])
def test_bad_sparsity(sparsity: float) -> None:
    with pytest.raises(ValueError, match="sparsity"):
        erk_densities([(4, 4)], sparsity)
