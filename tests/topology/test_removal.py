from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from chts_hf.topology import keep_hard, keep_soft, mest_score, relative_importance
from tests.topology import golden
from tests.topology.chance import assert_frequencies, subset_probabilities


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_relative_importance_equals_the_reference() -> None:
    vectors = golden.arrays("removal.npz")
    torch.testing.assert_close(
        relative_importance(vectors["weight"]), vectors["relative_importance"], rtol=1e-6, atol=0
    )


def test_relative_importance_by_hand() -> None:
    weight = torch.tensor([[3.0, 0.0, 0.0], [-1.0, 0.0, 2.0]])
    expected = torch.tensor([[3 / 4 + 1, 0, 0], [1 / 4 + 1 / 3, 0, 1 + 2 / 3]])
    torch.testing.assert_close(relative_importance(weight, eps=0.0).nan_to_num(), expected)
    assert not relative_importance(weight)[:, 1].any()  # an empty column divides by eps, not by 0
    assert weight.tolist() == [[3.0, 0.0, 0.0], [-1.0, 0.0, 2.0]]


def test_relative_importance_of_half_precision_sums_in_float32() -> None:
    weight = torch.full((1, 5000), 0.5, dtype=torch.bfloat16)
    scores = relative_importance(weight)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, torch.full((1, 5000), 1 + 1 / 5000), rtol=1e-4, atol=0)


def test_mest_score() -> None:
    weight, grad = torch.tensor([[-2.0, 0.0]]), torch.tensor([[10.0, -5.0]])
    torch.testing.assert_close(mest_score(weight, grad), torch.tensor([[2.1, 0.05]]))
    torch.testing.assert_close(mest_score(weight, grad, 1.0), torch.tensor([[12.0, 5.0]]))
    assert weight.tolist() == [[-2.0, 0.0]]
    with pytest.raises(ValueError, match=r"grad has shape \(2,\)"):
        mest_score(weight, torch.ones(2))


def test_keep_hard_keeps_the_highest() -> None:
    scores = torch.tensor([[5.0, 1.0, 9.0], [3.0, 2.0, 4.0]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    assert keep_hard(scores, mask, 2).tolist() == [[True, False, False], [False, False, True]]
    assert torch.equal(keep_hard(scores, mask, 5), mask)
    assert not keep_hard(scores, mask, 0).any()


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    share=st.floats(0, 1),
    delta=st.floats(0, 0.99),
    seed=st.integers(0, 1000),
)
def test_exactly_so_many_links_stay(
    shape: tuple[int, int], share: float, delta: float, seed: int
) -> None:
    mask = torch.rand(shape, generator=seeded(seed)) < 0.5
    # a few levels, so that there are ties, and zeros
    scores = torch.randint(0, 4, shape, generator=seeded(seed)).float()
    n_keep = round(share * int(mask.sum()))
    before = mask.clone()
    for kept in (
        keep_hard(scores, mask, n_keep),
        keep_soft(scores, mask, n_keep, delta, seeded(seed)),
    ):
        assert kept.dtype == torch.bool
        assert int(kept.sum()) == n_keep
        assert not bool((kept & ~mask).any())
    assert torch.equal(mask, before)


@pytest.mark.parametrize("delta", [0.0, 0.5, 0.75])
def test_keep_soft_draws_by_the_power_of_the_score(delta: float) -> None:
    scores = torch.tensor([[0.3, 9.0], [1.0, 0.5], [0.7, 9.0]])
    mask = torch.tensor([[True, False], [True, True], [True, False]])
    links = [0, 2, 3, 4]
    power = delta / (1 - delta)
    weights = [float(scores.flatten()[i]) ** power for i in links]
    expected = {
        frozenset(links[i] for i in subset): p
        for subset, p in subset_probabilities(weights, 2).items()
    }
    observed = kept_sets(scores, mask, 2, delta)
    assert_frequencies(observed, expected)
    # what the neighbouring exponent would give is refused
    other = [w**2 if delta else float(s) for w, s in zip(weights, scores[mask], strict=True)]
    wrong = {
        frozenset(links[i] for i in subset): p
        for subset, p in subset_probabilities(other, 2).items()
    }
    with pytest.raises(AssertionError):
        assert_frequencies(observed, wrong)


def kept_sets(scores: Tensor, mask: Tensor, n_keep: int, delta: float) -> Counter[frozenset[int]]:
    generator = seeded()
    return Counter(
        frozenset(
            keep_soft(scores, mask, n_keep, delta, generator).flatten().nonzero()[:, 0].tolist()
        )
        for _ in range(1200)
    )


def test_keep_soft_near_one_keeps_the_highest_without_overflow() -> None:
    scores = torch.tensor([[1e-30, 1e-29], [1e30, 2e30]])
    mask = torch.ones(2, 2, dtype=torch.bool)
    for seed in range(20):
        kept = keep_soft(scores, mask, 2, 0.999, seeded(seed))
        assert kept.tolist() == [[False, False], [True, True]]
        assert keep_soft(scores, mask, 3, 0.999, seeded(seed))[0].tolist() == [False, True]


@pytest.mark.parametrize("delta", [0.0, 0.5, 0.9])
def test_links_of_score_zero_stay_last(delta: float) -> None:
    scores = torch.tensor([[0.0, 1e-20, 0.0, 1.0]])
    mask = torch.ones(1, 4, dtype=torch.bool)
    for seed in range(20):
        assert keep_soft(scores, mask, 2, delta, seeded(seed)).tolist() == [
            [False, True, False, True]
        ]
        assert int(keep_soft(scores, mask, 3, delta, seeded(seed)).sum()) == 3


def test_layers_that_are_stored_transposed() -> None:
    scores, mask = torch.rand(20, 30), torch.rand(20, 30) < 0.5
    kept = keep_hard(scores.T.contiguous().T, mask.T.contiguous().T, 70)
    assert torch.equal(kept, keep_hard(scores, mask, 70))
    kept = keep_soft(scores.T.contiguous().T, mask.T.contiguous().T, 70, 0.6, seeded())
    assert torch.equal(kept, keep_soft(scores, mask, 70, 0.6, seeded()))


@pytest.mark.parametrize("n_keep", [40, 300])
def test_scores_of_the_links_alone_are_enough(n_keep: int) -> None:
    mask = torch.rand(20, 40, generator=seeded(1)) < 0.5
    scores = torch.rand(20, 40, generator=seeded(2))
    expected = keep_soft(scores, mask, n_keep, 0.7, seeded())
    of_links = scores[mask].double()
    assert torch.equal(keep_soft(of_links, mask, n_keep, 0.7, seeded()), expected)
    assert torch.equal(of_links, scores[mask].double())  # nothing is written into what is given
    with pytest.raises(ValueError, match="scores have shape"):
        keep_soft(scores[mask][1:], mask, n_keep, 0.7)


def test_keep_soft_is_reproducible_and_random() -> None:
    scores, mask = torch.rand(30, 30), torch.rand(30, 30) < 0.5
    first = keep_soft(scores, mask, 50, 0.5, seeded(1))
    assert torch.equal(first, keep_soft(scores, mask, 50, 0.5, seeded(1)))
    assert not torch.equal(first, keep_soft(scores, mask, 50, 0.5, seeded(2)))


def test_scores_outside_the_mask_are_not_read() -> None:
    scores = torch.tensor([[1.0, math.nan, -3.0]])
    mask = torch.tensor([[True, False, False]])
    assert torch.equal(keep_hard(scores, mask, 1), mask)
    assert torch.equal(keep_soft(scores, mask, 1, 0.5), mask)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_broken_scores(bad: float) -> None:
    scores, mask = torch.tensor([[1.0, bad]]), torch.ones(1, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match="scores must be finite.*at a link"):
        keep_hard(scores, mask, 1)
    with pytest.raises(ValueError, match="scores must be finite.*at a link"):
        keep_soft(scores, mask, 1, 0.5)


def test_bad_arguments() -> None:
    scores, mask = torch.ones(2, 2), torch.ones(2, 2, dtype=torch.bool)
    for n_keep in (-1, 5):
        with pytest.raises(ValueError, match=f"n_keep = {n_keep} .* 4 links"):
            keep_hard(scores, mask, n_keep)
        with pytest.raises(ValueError, match=f"n_keep = {n_keep} .* 4 links"):
            keep_soft(scores, mask, n_keep, 0.5)
    for delta in (-0.1, 1.0):
        with pytest.raises(ValueError, match=f"delta = {delta}"):
            keep_soft(scores, mask, 1, delta)
    with pytest.raises(ValueError, match="must not be negative"):
        keep_soft(-scores, mask, 1, 0.5)
    with pytest.raises(ValueError, match="shape"):
        keep_hard(torch.ones(3), mask, 1)
