from __future__ import annotations

import math
from collections import Counter
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from chts_hf.topology import sample_log_weights, sample_without_replacement
from chts_hf.topology.noise import uniform_noise
from chts_hf.topology.sampling import clocks_of, quick_clocks, uniform_subset
from tests.topology.chance import assert_frequencies, subset_probabilities


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn_sets(draw: object, times: int) -> Counter[frozenset[int]]:
    assert callable(draw)
    return Counter(frozenset(draw().tolist()) for _ in range(times))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_draws_follow_successive_sampling(k: int) -> None:
    weights = torch.tensor([[1.0, 4.0], [0.5, 2.0], [7.0, 0.0]])
    generator = seeded(k)
    observed = drawn_sets(lambda: sample_without_replacement(weights, k, generator), 1500)
    assert_frequencies(observed, subset_probabilities(weights.flatten().tolist(), k))


def test_draws_from_log_weights_follow_successive_sampling() -> None:
    weights = [1e-3, 0.5, 2.0, 0.0, 4.0]
    # A common factor that neither float32 nor float64 could hold changes nothing.
    log_weights = torch.tensor(weights, dtype=torch.float64).log() + 5000
    generator = seeded()
    observed = drawn_sets(lambda: sample_log_weights(log_weights, 2, generator), 1500)
    assert_frequencies(observed, subset_probabilities(weights, 2))


def test_the_bound_on_frequencies_refuses_other_distributions() -> None:
    """The three mistakes one would make: the highest, no weights at all, a wrong exponent."""
    weights = torch.tensor([1.0, 2.0, 4.0, 8.0])
    right = subset_probabilities(weights.tolist(), 2)
    generator = seeded()
    wrong = {
        "top": lambda: weights.topk(2).indices,
        "uniform": lambda: torch.randperm(4, generator=generator)[:2],
        "squared": lambda: sample_without_replacement(weights**2, 2, generator),
    }
    for draw in wrong.values():
        with pytest.raises(AssertionError):
            assert_frequencies(drawn_sets(draw, 1500), right)


def test_more_than_the_positive_weights() -> None:
    weights = torch.tensor([0.0, 3.0, 0.0, 1.0, 0.0, 0.0])
    generator = seeded()
    observed = drawn_sets(lambda: sample_without_replacement(weights, 4, generator), 1500)
    # Both positive ones always, and two of the four others, every pair equally likely.
    pairs = [frozenset(p) | {1, 3} for p in ({0, 2}, {0, 4}, {0, 5}, {2, 4}, {2, 5}, {4, 5})]
    assert_frequencies(observed, dict.fromkeys(pairs, 1 / 6))


def test_beyond_two_to_the_24_categories() -> None:
    n = 2**24 + 1
    weights = torch.zeros(n)
    weights[-1] = 1.0
    weights[2**23] = 1.0
    assert set(sample_without_replacement(weights, 2, seeded()).tolist()) == {n - 1, 2**23}
    weights = torch.ones(n)
    weights[n // 2 :] = 3.0
    k = 20_000
    chosen = sample_without_replacement(weights, k, seeded())
    assert chosen.unique().numel() == k
    upper = int((chosen >= n // 2).sum()) / k
    assert abs(upper - 0.75) < 5 * math.sqrt(0.75 * 0.25 / k)
    # and within a half, the positions are those of a uniform draw
    position = float(chosen[chosen < n // 2].double().mean()) / (n // 2)
    assert abs(position - 0.5) < 5 / math.sqrt(12 * k / 4)


def test_vanishing_weights_do_not_win_by_coarse_noise() -> None:
    """With float32 noise about one of these draws in eight would take an item of weight 1e-12."""
    weights = torch.full((2**21,), 1e-12)
    weights[:100] = 1.0
    generator = seeded()
    for _ in range(25):
        assert int(sample_without_replacement(weights, 1, generator)) < 100


@settings(max_examples=60, deadline=None)
@given(
    weights=st.lists(st.sampled_from([0.0, 1e-30, 0.3, 1.0, 1e30]), min_size=1, max_size=40),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_distinct_and_positive_first(weights: list[float], share: float, seed: int) -> None:
    k = round(share * len(weights))
    tensor = torch.tensor(weights)
    chosen = sample_without_replacement(tensor, k, seeded(seed))
    assert chosen.dtype == torch.long
    assert chosen.shape == (k,)
    assert len(set(chosen.tolist())) == k
    positive = int((tensor > 0).sum())
    assert int((tensor[chosen] > 0).sum()) == min(k, positive)
    in_logs = sample_log_weights(tensor.double().log(), k, seeded(seed))
    assert len(set(in_logs.tolist())) == k
    assert int((tensor[in_logs] > 0).sum()) == min(k, positive)


@pytest.mark.parametrize("k", [10, 5_000, 150_000, 299_000])
def test_large_draws_keep_the_right_ones(k: int) -> None:
    """Over many blocks, with pruning in between, the draw is that of a plain sort of all clocks."""
    weights = torch.rand(300_000, generator=seeded(1)).pow(4)
    chosen = sample_without_replacement(weights, k, seeded(2))
    assert chosen.unique().numel() == k
    # Inclusion rises with weight: among the tenth of lowest weight few, among the highest many.
    drawn = torch.zeros(300_000, dtype=torch.float64).index_fill_(0, chosen, 1)
    rates = [float(part.mean()) for part in drawn[weights.argsort()].chunk(10)]
    for rate, target in zip(rates, expected_rates(weights, k), strict=True):
        assert abs(rate - target) < 5 * math.sqrt(target * (1 - target) / 30_000) + 1e-3


def expected_rates(weights: Tensor, k: int) -> list[float]:
    """Mean of ``1 - exp(-w t)`` over tenths of the weights, t such that k ring by then."""
    low, high = -3.0, 30.0  # powers of ten
    for _ in range(50):
        middle = (low + high) / 2
        rung = float((1 - torch.exp(-weights.double() * 10**middle)).sum())
        low, high = (middle, high) if rung < k else (low, middle)
    sorted_weights = weights.sort().values.double()
    return [float((1 - torch.exp(-part * 10**low)).mean()) for part in sorted_weights.chunk(10)]


def test_same_generator_state_same_draw() -> None:
    weights = torch.rand(1000)
    first = sample_without_replacement(weights, 100, seeded(3))
    torch.rand(17)  # the global generator does not matter
    assert torch.equal(first, sample_without_replacement(weights, 100, seeded(3)))
    assert not torch.equal(first, sample_without_replacement(weights, 100, seeded(4)))


def test_without_a_generator_the_global_one_is_used() -> None:
    weights = torch.rand(1000)
    torch.manual_seed(5)
    first = sample_without_replacement(weights, 10)
    torch.manual_seed(5)
    assert torch.equal(first, sample_without_replacement(weights, 10))
    assert not torch.equal(first, sample_without_replacement(weights, 10))


def test_weights_that_require_grad_or_are_no_floats() -> None:
    weights = torch.rand(10, requires_grad=True)
    assert not sample_without_replacement(weights, 3).requires_grad
    assert set(sample_without_replacement(torch.tensor([0, 2, 5]), 2).tolist()) == {1, 2}
    assert sample_without_replacement(torch.tensor([False, True, True]), 1).item() in (1, 2)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf, -math.inf])
def test_bad_weights(bad: float) -> None:
    with pytest.raises(ValueError, match="weights must be finite and not negative"):
        sample_without_replacement(torch.tensor([1.0, bad, 2.0]), 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_bad_log_weights(bad: float) -> None:
    with pytest.raises(ValueError, match="log_weights must be finite or -inf"):
        sample_log_weights(torch.tensor([1.0, bad, 2.0]), 1)


@pytest.mark.parametrize("k", [-1, 4])
def test_impossible_k(k: int) -> None:
    with pytest.raises(ValueError, match=f"k = {k} must lie between 0 and the 3 weights"):
        sample_without_replacement(torch.ones(3), k)
    with pytest.raises(ValueError, match=f"k = {k} must lie between 0 and the 3 log_weights"):
        sample_log_weights(torch.ones(3), k)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_small_uniform_subsets(k: int) -> None:
    cells = torch.tensor([True, False, True, True, True])
    generator = seeded()
    observed = drawn_sets(lambda: uniform_subset(cells, k, generator).nonzero().flatten(), 1500)
    every = {frozenset(p) for p in permutations([0, 2, 3, 4], k)}
    assert_frequencies(observed, {subset: 1 / len(every) for subset in every})


@pytest.mark.parametrize("share", [0.001, 0.06, 0.07, 0.4, 0.97, 1.0])
@pytest.mark.parametrize("density", [0.02, 0.5, 1.0])
def test_large_uniform_subsets(share: float, density: float) -> None:
    """Every way of drawing: by repetition, from numbered candidates, by coins."""
    cells = torch.rand(400, 300, generator=seeded(1)) < density
    available = int(cells.sum())
    k = round(share * available)
    chosen = uniform_subset(cells, k, seeded(2))
    assert int(chosen.sum()) == k
    assert not bool((chosen & ~cells).any())
    quarters = [int(part.sum()) / max(1, k) for part in chosen.chunk(4)]
    expected = [int(part.sum()) / available for part in cells.chunk(4)]
    for quarter, target in zip(quarters, expected, strict=True):
        assert abs(quarter - target) < 5 * math.sqrt(0.25 * 0.75 * (1 - share) / k) + 1e-9


@pytest.mark.parametrize("k", [600, 20_000, 150_000])
def test_clocks_that_are_not_made_would_not_have_won(k: int) -> None:
    """The draw is the one that all clocks would give, from the same noise."""
    weights = torch.rand(300_000).pow(8)
    weights[::7] = 0
    weights[1] = 1e6  # too heavy for draws by inversion
    drawn = sample_without_replacement(weights, k, torch.Generator().manual_seed(3))
    noise = uniform_noise((300_000,), torch.Generator().manual_seed(3))
    keys = clocks_of(noise).double() / weights.double()
    expected = keys.topk(k, largest=False).indices.sort().values
    assert torch.equal(drawn.sort().values, expected)


def test_quick_clocks_are_right_to_a_step_of_their_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = torch.cat([torch.arange(4096), 2**24 - 1 - torch.arange(4096)])
    noise = (steps.double() / 2**24).float()
    monkeypatch.setattr("chts_hf.topology.sampling.uniform_noise", lambda *_: noise.clone())
    clocks = quick_clocks((8192,), None)
    assert bool((clocks > 0).all())
    assert bool(clocks.isfinite().all())
    chances = -torch.expm1(-clocks.double())
    assert float((chances - steps.double() / 2**24).abs().max()) <= 2**-23
