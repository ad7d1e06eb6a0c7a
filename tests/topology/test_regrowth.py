from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chts_hf.topology import ch_scores, initial_mask, regrow_hard, regrow_random, regrow_soft
from tests.topology.chance import assert_frequencies, subset_probabilities


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    share=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_exactly_so_many_new_links(shape: tuple[int, int], share: float, seed: int) -> None:
    mask = torch.rand(shape, generator=seeded(seed)) < 0.4
    scores = torch.randint(-1, 4, shape, generator=seeded(seed)).float()
    n = round(share * int((~mask).sum()))
    before = mask.clone()
    for new in (
        regrow_soft(scores, mask, n, seeded(seed)),
        regrow_hard(scores, mask, n),
        regrow_random(mask, n, seeded(seed)),
    ):
        assert new.dtype == torch.bool
        assert int(new.sum()) == n
        assert not bool((new & mask).any())
    assert torch.equal(mask, before)


def test_regrow_soft_draws_by_score() -> None:
    # A link's score must not count; scores of zero or less are drawn only when no other is left.
    scores = torch.tensor([[1.0, 100.0, 0.0], [3.0, 6.0, -5.0]])
    mask = torch.tensor([[False, True, False], [False, False, False]])
    generator = seeded()
    observed = Counter(
        frozenset(regrow_soft(scores, mask, 2, generator).flatten().nonzero()[:, 0].tolist())
        for _ in range(1200)
    )
    absent = {0: 0, 1: 3, 2: 4}
    expected = {
        frozenset(absent[i] for i in subset): p
        for subset, p in subset_probabilities([1.0, 3.0, 6.0], 2).items()
    }
    assert_frequencies(observed, expected)
    with pytest.raises(AssertionError):  # as the choice of the highest would give
        assert_frequencies(Counter({frozenset({3, 4}): 1200}), expected)


def test_regrow_soft_beyond_the_positive_scores() -> None:
    scores = torch.tensor([[2.0, 0.0, 9.0], [0.0, -1.0, 0.0]])
    mask = torch.tensor([[False, False, True], [False, False, False]])
    generator = seeded()
    observed = Counter(
        frozenset(regrow_soft(scores, mask, 2, generator).flatten().nonzero()[:, 0].tolist())
        for _ in range(1200)
    )
    assert_frequencies(observed, {frozenset({0, other}): 1 / 4 for other in (1, 3, 4, 5)})


@pytest.mark.parametrize("at_links", [9.0, -1.0, float("nan"), float("-inf")])
def test_regrow_soft_reads_positive_scores_of_absent_links_only(at_links: float) -> None:
    """Also where so few of many are drawn that running sums are used."""
    absent = torch.rand(20, 30, generator=seeded(1))
    absent[::4] = -1.0  # not positive: among the others
    mask = torch.rand(20, 30, generator=seeded(2)) < 0.3
    clean = absent.clamp(min=0).masked_fill(mask, 0)
    scores = absent.masked_fill(mask, at_links)
    expected = regrow_soft(clean, mask, 5, seeded(3))
    assert torch.equal(regrow_soft(scores, mask, 5, seeded(3)), expected)
    assert bool((clean[expected] > 0).all())


def test_regrow_hard_takes_the_highest() -> None:
    scores = torch.tensor([[5.0, 1.0, 9.0], [3.0, 2.0, 3.0]])
    mask = torch.tensor([[False, False, True], [False, False, False]])
    assert regrow_hard(scores, mask, 2).tolist() == [[True, False, False], [True, False, False]]


def test_regrow_hard_draws_among_those_that_tie() -> None:
    scores = torch.tensor([[0.0, 0.0, 7.0], [0.0, 9.0, 2.0]])
    mask = torch.tensor([[False, False, False], [False, True, False]])
    generator = seeded()
    observed = Counter(
        frozenset(regrow_hard(scores, mask, 4, generator).flatten().nonzero()[:, 0].tolist())
        for _ in range(1200)
    )
    # 7 and 2 are always taken, and two of the three of score 0.
    expected = [frozenset({2, 5, *pair}) for pair in ((0, 1), (0, 3), (1, 3))]
    assert_frequencies(observed, dict.fromkeys(expected, 1 / 3))


def test_regrow_random_is_uniform() -> None:
    mask = torch.tensor([[True, False], [False, False]])
    generator = seeded()
    observed = Counter(
        frozenset(regrow_random(mask, 2, generator).flatten().nonzero()[:, 0].tolist())
        for _ in range(1200)
    )
    assert_frequencies(observed, {frozenset(p): 1 / 3 for p in ((1, 2), (1, 3), (2, 3))})


def test_soft_regrowth_of_a_layer_prefers_high_scores_and_is_no_top_k() -> None:
    mask = initial_mask((128, 96), 0.9, generator=seeded())
    scores = ch_scores(mask)
    n = 400
    soft = regrow_soft(scores, mask, n, seeded(1))
    hard = regrow_hard(scores, mask, n)
    mean_of_all = float(scores[~mask].mean())
    assert mean_of_all * 1.2 < float(scores[soft].mean()) < 0.9 * float(scores[hard].mean())
    assert torch.equal(soft, regrow_soft(scores, mask, n, seeded(1)))
    assert not torch.equal(soft, regrow_soft(scores, mask, n, seeded(2)))


def test_layers_that_are_stored_transposed() -> None:
    scores, mask = torch.rand(20, 30), torch.rand(20, 30) < 0.5
    s, m = scores.T.contiguous().T, mask.T.contiguous().T
    assert torch.equal(regrow_hard(s, m, 70), regrow_hard(scores, mask, 70))
    assert torch.equal(regrow_soft(s, m, 70, seeded()), regrow_soft(scores, mask, 70, seeded()))
    for n in (5, 70, int((~mask).sum())):
        assert torch.equal(regrow_random(m, n, seeded()), regrow_random(mask, n, seeded()))


def test_scores_of_links_are_not_read() -> None:
    scores = torch.tensor([[math.nan, 1.0]])
    mask = torch.tensor([[True, False]])
    assert regrow_soft(scores, mask, 1).tolist() == [[False, True]]
    assert regrow_hard(scores, mask, 1).tolist() == [[False, True]]


def test_bad_arguments() -> None:
    mask = torch.tensor([[True, False], [False, False]])
    scores = torch.ones(2, 2)
    for n in (-1, 4):
        with pytest.raises(ValueError, match=f"n = {n} .* 3 absent links"):
            regrow_soft(scores, mask, n)
        with pytest.raises(ValueError, match=f"n = {n} .* 3 absent links"):
            regrow_hard(scores, mask, n)
        with pytest.raises(ValueError, match=f"n = {n} .* 3 absent links"):
            regrow_random(mask, n)
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="scores must be finite.*at an absent link"):
            regrow_soft(scores.masked_fill(~mask, bad), mask, 1)
        with pytest.raises(ValueError, match="scores must be finite.*at an absent link"):
            regrow_hard(scores.masked_fill(~mask, bad), mask, 1)
    with pytest.raises(ValueError, match="shape"):
        regrow_soft(torch.ones(3), mask, 1)
