"""Token batches: bounded, complete, the same after a resume, dealt out to processes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chts_hf.translation.batching import TokenBatchSampler, pair_lengths

LENGTHS = np.random.default_rng(0).integers(2, 60, 500).tolist()


def tokens(batch: list[int], lengths: list[int]) -> int:
    return len(batch) * max(lengths[i] for i in batch)


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=80), st.integers(50, 300), st.integers(0, 9)
)
def test_every_sentence_once_and_no_batch_too_large(
    lengths: list[int], max_tokens: int, epoch: int
) -> None:
    sampler = TokenBatchSampler(lengths, max_tokens)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(tokens(batch, lengths) <= max_tokens for batch in batches)
    assert len(batches) == len(sampler)


def test_batches_are_full_and_of_like_length() -> None:
    batches = list(TokenBatchSampler(LENGTHS, 512))
    assert np.mean([tokens(batch, LENGTHS) for batch in batches]) > 0.9 * 512
    content = sum(LENGTHS) / sum(tokens(batch, LENGTHS) for batch in batches)
    assert content > 0.93  # the rest is padding; batches drawn at random have 0.55 here


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def epoch(number: int, seed: int = 0) -> list[list[int]]:
        sampler = TokenBatchSampler(LENGTHS, 256, seed=seed)
        sampler.set_epoch(number)
        np.random.seed(number)
        return list(sampler)

    assert epoch(1) == epoch(1)
    assert epoch(1) != epoch(2)
    assert epoch(1) != epoch(1, seed=1)
    # Not only the order: which sentences of a length come together changes too.
    assert {frozenset(batch) for batch in epoch(1)} != {frozenset(batch) for batch in epoch(2)}
    assert len(epoch(1)) == len(epoch(2))


def test_batches_are_not_in_order_of_length() -> None:
    first = [LENGTHS[batch[0]] for batch in TokenBatchSampler(LENGTHS, 256)]
    assert first != sorted(first)


@pytest.mark.parametrize("replicas", [2, 3, 8])
def test_processes_share_the_batches(replicas: int) -> None:
    samplers = [
        TokenBatchSampler(LENGTHS, 256, num_replicas=replicas, rank=rank)
        for rank in range(replicas)
    ]
    alone = list(TokenBatchSampler(LENGTHS, 256))
    shares = [list(sampler) for sampler in samplers]
    assert {len(share) for share in shares} == {len(samplers[0])}
    turns = [batch for turn in zip(*shares, strict=True) for batch in turn]
    assert turns[: len(alone)] == alone
    extra = len(turns) - len(alone)
    assert extra < replicas
    assert turns[len(alone) :] == alone[:extra]


def test_fewer_batches_than_processes() -> None:
    shares = [list(TokenBatchSampler([3], 9, num_replicas=4, rank=rank)) for rank in range(4)]
    assert shares == [[[0]]] * 4


def test_length_is_that_of_the_longer_side() -> None:
    rows = {"input_ids": [[1, 2], [1]], "labels": [[1], [1, 2, 3]]}
    assert pair_lengths(rows) == [2, 3]


def test_errors() -> None:
    with pytest.raises(ValueError, match="max_tokens is 8, and sentence 1 alone has 9 tokens"):
        TokenBatchSampler([3, 9, 4], 8)
    with pytest.raises(ValueError, match="no sentences"):
        TokenBatchSampler([], 8)
    with pytest.raises(ValueError, match="rank is 2; it must be in 0 … 1"):
        TokenBatchSampler([3], 8, num_replicas=2, rank=2)
