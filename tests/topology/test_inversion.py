from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import pytest
import torch
from torch import Tensor

from chts_hf.topology import sample_without_replacement
from chts_hf.topology.inversion import draw_round
from tests.topology.chance import assert_frequencies, subset_probabilities


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_whole_draws_follow_successive_sampling() -> None:
    """Two of twenty cells: repeats, and rounds that end short of two, are frequent."""
    weights = torch.tensor([9.0, *[1.0] * 10, 4.0, *[0.5] * 6, 0.0, 30.0])
    generator = seeded()
    assert draw_round(weights, 19, 2, generator).numel() > 0
    observed = Counter(
        frozenset(sample_without_replacement(weights, 2, generator).tolist()) for _ in range(6000)
    )
    exact = subset_probabilities(weights.tolist(), 2)
    likely = {subset for subset, p in exact.items() if p > 1e-3}
    rest = frozenset({-1})
    expected = {subset: exact[subset] for subset in likely}
    expected[rest] = 1 - sum(expected.values())
    seen: Counter[frozenset[int]] = Counter()
    for subset, count in observed.items():
        assert subset in exact
        seen[subset if subset in likely else rest] += count
    assert_frequencies(seen, expected)


def test_a_round_keeps_the_first_cells_that_came() -> None:
    """More draws than wanted are made; dropping any but the last would favour light cells."""
    weights = torch.ones(64)
    weights[0] = 64 / 4
    together = Counter(
        frozenset(draw_round(weights, 64, 8, generator).tolist())
        for generator in [seeded(1)]
        for _ in range(4000)
    )
    has_heavy = sum(count for cells, count in together.items() if 0 in cells)
    expected = heavy_is_drawn(16.0, 63, 8)
    assert abs(has_heavy / 4000 - expected) < 5 * math.sqrt(expected * (1 - expected) / 4000)


def heavy_is_drawn(heavy: float, others: int, k: int) -> float:
    """Chance that a cell of the weight is among the first ``k`` beside others of weight 1."""
    missed = 1.0
    for gone in range(k):
        left = others - gone
        missed *= left / (left + heavy)
    return 1 - missed


@pytest.mark.parametrize("shape", [(40, 30), (700, 900)])
def test_large_rounds_are_distinct_positive_and_by_weight(shape: tuple[int, int]) -> None:
    weights = torch.rand(shape, generator=seeded(3)).flatten().pow(3)
    weights[::3] = 0
    k = weights.numel() // 40
    drawn = torch.cat([draw_round(weights, int((weights > 0).sum()), k, seeded(s)) for s in (1, 2)])
    first = draw_round(weights, int((weights > 0).sum()), k, seeded(1))
    assert first.numel() == first.unique().numel() <= k
    assert bool((weights[drawn] > 0).all())
    # With few of many drawn, each cell comes in proportion to its weight.
    heavy = weights > weights.quantile(0.9)
    target = float(weights[heavy].sum() / weights.sum())
    share = float(heavy[drawn].float().mean())
    assert abs(share - target) < 5 * math.sqrt(0.25 / drawn.numel()) + 0.02


@pytest.mark.parametrize(
    ("weights", "k"),
    [
        (torch.ones(80), 11),  # more than an eighth
        (torch.tensor([1e9, *[1.0] * 9999]), 500),  # one cell would fill the draws
        (torch.tensor([1.0, *[1e-20] * (1 << 20)]), 1),  # the light cells would weigh too much
        (torch.full((1000,), 1e-300, dtype=torch.float64), 1),  # no unit is small enough
        (torch.zeros(10), 1),
        (torch.ones(80), 0),
    ],
)
def test_left_to_the_clocks(weights: Tensor, k: int) -> None:
    generator = seeded()
    before = generator.get_state()
    assert draw_round(weights, int((weights > 0).sum()), k, generator).numel() == 0
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("factor", [1e-200, 1e-30, 1e30])
def test_a_common_factor_changes_nothing(factor: float) -> None:
    weights = torch.rand(500, generator=seeded(), dtype=torch.float64) * 2.0 ** round(
        math.log2(factor)
    )
    plain = draw_round(weights / 2.0 ** round(math.log2(factor)), 500, 20, seeded(7))
    assert torch.equal(draw_round(weights, 500, 20, seeded(7)), plain)


def test_every_pair_of_equal_cells_is_as_likely() -> None:
    weights = torch.ones(16)
    generator = seeded(5)
    seen = Counter(frozenset(draw_round(weights, 16, 2, generator).tolist()) for _ in range(6000))
    pairs = {frozenset(pair): 1 / 120 for pair in combinations(range(16), 2)}
    assert_frequencies({s: c for s, c in seen.items() if len(s) == 2}, pairs)
