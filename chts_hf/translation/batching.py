"""Batches of sentences of like length: with a bounded number of tokens, or of sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from datasets import Dataset
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import LengthGroupedSampler

from chts_hf.seeding import generator_for


class SeededLengthSampler(LengthGroupedSampler):
    """The Trainer's ``group_by_length``, in an order that depends on (seed, epoch) alone.

    The Trainer's own takes its order from the global random state, which is another one where a run
    is resumed in a later epoch, and on other ranks.

    Args:
        sampler: the Trainer's.
        seed: of the order.
    """

    def __init__(self, sampler: LengthGroupedSampler, seed: int) -> None:
        super().__init__(sampler.batch_size, lengths=sampler.lengths)
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """Give the places of the sentences, those of a batch side by side."""
        self.generator = generator_for(self.seed, self.epoch, "", "batches")
        return super().__iter__()  # type: ignore[no-any-return]


class TokenBatchSampler(Sampler[list[int]]):
    """Batches of sentences of like length, each of at most ``max_tokens`` tokens.

    Tokens are counted *with padding, on the longer side*: a batch holds ``n`` pairs as long as
    ``n · max(length) ≤ max_tokens``, where the length of a pair is that of its longer side. This
    is what the token batches of OpenNMT and of Zhang et al. (NeurIPS 2025) count.

    Each epoch sorts the pairs by length, pairs of one length in random order, cuts the row into
    batches and shuffles the batches. Where the cuts fall depends on the lengths alone, so every
    epoch has the same number of batches and the Trainer can count its steps. The order depends on
    (seed, epoch) alone, so a resumed run sees the batches that a run never stopped would see.

    Several processes take turns: of the shuffled batches, process ``rank`` takes numbers ``rank``,
    ``rank + num_replicas``, …; the first batches are used twice where the number does not divide.

    Args:
        lengths: tokens of each pair, on its longer side.
        max_tokens: tokens in a batch, padding included.
        seed: of the order.
        num_replicas: number of processes.
        rank: which of them this is.

    Raises:
        ValueError: no pairs, a pair longer than ``max_tokens``, or ``rank`` is not one of
            ``num_replicas`` processes.

    Example:
        >>> sampler = TokenBatchSampler([3, 9, 4, 8], max_tokens=18)
        >>> sorted(sorted(batch) for batch in sampler)
        [[0, 2], [1, 3]]
    """

    def __init__(
        self,
        lengths: Sequence[int],
        max_tokens: int,
        *,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        self.lengths = np.asarray(lengths, dtype=np.int64)
        if self.lengths.size == 0:
            raise ValueError("there are no sentences to make batches of")
        if not 0 <= rank < num_replicas:
            raise ValueError(f"rank is {rank}; it must be in 0 … {num_replicas - 1}")
        longest = int(self.lengths.argmax())
        if self.lengths[longest] > max_tokens:
            raise ValueError(
                f"max_tokens is {max_tokens}, and sentence {longest} alone has "
                f"{self.lengths[longest]} tokens; raise it, or cut sentences to fewer tokens"
            )
        self.max_tokens, self.seed, self.epoch = max_tokens, seed, 0
        self.num_replicas, self.rank = num_replicas, rank
        self._cuts = _cut(np.sort(self.lengths), max_tokens)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of batches of this process in an epoch, the same in each."""
        return -(-(len(self._cuts) + 1) // self.num_replicas)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the indices of each batch of this process."""
        rng = np.random.default_rng((self.seed, self.epoch))
        shuffled = rng.permutation(self.lengths.size)
        row = shuffled[np.argsort(self.lengths[shuffled], kind="stable")]
        batches = np.split(row, self._cuts)
        order = rng.permutation(len(batches))
        mine = np.resize(order, len(self) * self.num_replicas)[self.rank :: self.num_replicas]
        for number in mine:
            yield batches[number].tolist()


def pair_lengths(encoded: Dataset) -> list[int]:
    """Measure the tokens on the longer side of each pair of a tokenized data set."""
    return [
        max(len(source), len(target))
        for source, target in zip(encoded["input_ids"], encoded["labels"], strict=True)
    ]


def _cut(ascending: np.ndarray, max_tokens: int) -> list[int]:
    """Where to cut an ascending row of lengths so that no part is over the bound."""
    cuts, start = [], 0
    for place, length in enumerate(ascending.tolist()):
        if (place + 1 - start) * length > max_tokens:
            cuts.append(place)
            start = place
    return cuts
