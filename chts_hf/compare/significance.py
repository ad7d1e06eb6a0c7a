"""Whether one method's BLEU differs from another's: paired tests on sentence statistics.

BLEU is computed from sums, over sentences, of ten counts: the translation's and the reference's
lengths, and for n = 1 … 4 the matching n-grams and all n-grams. These counts are kept with a run in
place of its translations, and the two paired tests of sacreBLEU are made on them. What is tested is
what tables show, the mean over seeds of BLEU, for which sacreBLEU has no code; of one seed the
results are its own.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from sacrebleu.metrics.bleu import BLEU

_ORDERS = 4
_COUNTS = 2 + 2 * _ORDERS
#: Resamples of the bootstrap, and trials of the randomisation.
RESAMPLES, TRIALS = 1000, 10000
#: Of the random draws; sacreBLEU's own default.
SEED = 12345
#: Differences of less than this many BLEU are equal: sums of the same counts, rounded otherwise.
_TIE = 1e-9
#: So many trials at a time, to bound the memory.
_CHUNK = 1000


@dataclass(frozen=True)
class Paired:
    """How a system's BLEU compares with another's.

    Attributes:
        bleu: of the system, mean over seeds.
        other: of the system that it is compared with, likewise.
        p_bootstrap: p of the paired bootstrap (Koehn, 2004).
        p_randomization: p of the two-sided paired approximate randomisation (Riezler & Maxwell,
            2005).
    """

    bleu: float
    other: float
    p_bootstrap: float
    p_randomization: float

    @property
    def difference(self) -> float:
        """BLEU of the system minus BLEU of the other."""
        return self.bleu - self.other


def sentence_statistics(
    translations: Sequence[str], references: Sequence[str], tokenize: str = "13a"
) -> np.ndarray:
    """Count what BLEU needs of each sentence.

    Args:
        translations: plain text.
        references: one for each.
        tokenize: sacreBLEU's tokenizer.

    Returns:
        (sentences, 10) integers: translation length, reference length, matching n-grams for
        n = 1 … 4, n-grams for n = 1 … 4.
    """
    if len(translations) != len(references):
        raise ValueError(f"{len(translations)} translations and {len(references)} references")
    rows = BLEU(tokenize=tokenize)._extract_corpus_statistics(
        list(translations), [list(references)]
    )
    return np.asarray(rows, dtype=np.int64)


def bleu_of(statistics: np.ndarray) -> float:
    """Compute the corpus BLEU, in [0, 100], of sentences' statistics; with seeds, their mean."""
    return float(_mean_bleu(statistics.sum(axis=0)))


def encode_statistics(statistics: np.ndarray) -> str:
    """Write statistics as text, some five bytes for a sentence.

    Lengths and matches are packed as 16-bit numbers; the number of n-grams follows from the length.
    """
    if statistics.max(initial=0) >= 2**16:
        raise ValueError(f"a sentence has {statistics.max()} words; at most {2**16 - 1} fit")
    packed = statistics[:, : 2 + _ORDERS].T.astype("<u2").tobytes()
    return base64.b64encode(zlib.compress(packed, 9)).decode("ascii")


def decode_statistics(text: str) -> np.ndarray:
    """Read what :func:`encode_statistics` wrote."""
    packed = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<u2")
    known = packed.reshape(2 + _ORDERS, -1).T.astype(np.int64)
    totals = [np.maximum(known[:, 0] - order, 0) for order in range(_ORDERS)]
    statistics: np.ndarray = np.column_stack([known, *totals])
    return statistics


def side_by_side(runs: Sequence[np.ndarray]) -> np.ndarray:
    """Put the statistics of several seeds beside each other, a row for each sentence.

    A test that draws or swaps rows does so for all seeds together, as it must: translations of one
    sentence under several seeds are not independent.

    Args:
        runs: for each seed (sentences, 10), of :func:`sentence_statistics`.

    Returns:
        (sentences, seeds * 10).

    Raises:
        ValueError: no runs, or runs of different test sets.
    """
    if not runs:
        raise ValueError("there is no run to test")
    for run in runs[1:]:
        _check_references(runs[0], run)
    return np.concatenate(runs, axis=1)


def compare(
    system: np.ndarray, other: np.ndarray, *, resamples: int = RESAMPLES, trials: int = TRIALS
) -> Paired:
    r"""Test a system against another, sentence by sentence, with the two paired tests of sacreBLEU.

    The statistic is the difference of the systems' mean BLEU over S seeds,

    .. math:: d = \frac{1}{S} \sum_{s=1}^{S} \left(\mathrm{BLEU}(A_s) - \mathrm{BLEU}(B_s)\right)

    with the same sentences drawn, or swapped between A and B, in every seed at once. Adding the
    seeds' counts up before BLEU would be another statistic: one seed's overlong translations would
    then make up for the brevity of another's.

    Both draw from a fixed seed, sacreBLEU's, so the same statistics give the same p.
    They say how likely such a difference is where the *sentences* are the only chance; that another
    seed may give another model is not in them, only in the standard error over seeds.

    The randomisation's p is two-sided: the share of trials with a larger absolute difference than
    the one found. The bootstrap's is that of sacreBLEU's statistic, the share of resamples with
    ``|d*| - mean |d*| > |d|``. For a normal d* that is 2 (1 - Φ(√(2/π))), some 0.425, where d = 0,
    and half a two-sided p where d is large, so **judge by the randomisation**.

    Both count only what is *larger*, so that systems that are all but the same, where trials tie,
    would get the smallest p there is. Therefore a p is 1 for systems with the same statistics, and
    the randomisation's is at least 2^(1-k) where they differ in k sentences: of the 2^k ways to
    swap these, all and none give the difference that was found.

    Args:
        system: (sentences, seeds * 10), of :func:`sentence_statistics` or :func:`side_by_side`.
        other: likewise, of the same sentences and as many seeds.
        resamples: of the bootstrap.
        trials: of the randomisation.

    Raises:
        ValueError: the two are of different test sets, or of unlike numbers of seeds.

    Example:
        >>> left, right = side_by_side([a0, a1]), side_by_side([b0, b1])
        >>> compare(left, right).difference == bleu_of(left) - bleu_of(right)
        True
    """
    _check_references(system, other)
    found = Paired(bleu_of(system), bleu_of(other), p_bootstrap=1.0, p_randomization=1.0)
    unequal = int((system != other).any(axis=1).sum())
    if not unequal:
        return found
    larger = abs(found.difference) + _TIE
    drawn = _resampled_differences(system, other, resamples)
    swapped = _swapped_differences(system, other, trials)
    return replace(
        found,
        p_bootstrap=_share(drawn - drawn.mean() > larger),
        p_randomization=max(_share(swapped > larger), 2.0 ** (1 - unequal)),
    )


def holm(p: Sequence[float]) -> list[float]:
    """Correct the p of several tests for their number (Holm, 1979).

    The k-th smallest of m is multiplied by ``m - k + 1``, is no less than those before it and at
    most 1. Where those below a level are taken to differ, one or more of them being so by chance
    has a probability below that level, however the tests depend on each other.

    Example:
        >>> holm([0.04, 0.01, 0.03])  # 1 * 0.04, 3 * 0.01, 2 * 0.03
        [0.06, 0.03, 0.06]
    """
    found, least = [0.0] * len(p), 0.0
    for place, index in enumerate(sorted(range(len(p)), key=lambda one: p[one])):
        least = max(least, min(1.0, (len(p) - place) * p[index]))
        found[index] = least
    return found


def _check_references(system: np.ndarray, other: np.ndarray) -> None:
    """Refuse statistics of different test sets, by the lengths of their references."""
    if len(system) != len(other):
        raise ValueError(
            f"the systems were scored on different test sets: of {len(system)} sentences and of "
            f"{len(other)}"
        )
    if system.shape != other.shape:
        seeds = [one.shape[1] / _COUNTS for one in (system, other)]
        raise ValueError(f"a test needs as many seeds of both, not {seeds[0]:g} and {seeds[1]:g}")
    before, now = system[:, 1::_COUNTS], other[:, 1::_COUNTS]
    unequal = np.flatnonzero((before != now).any(axis=1))
    if len(unequal):
        first = int(unequal[0])
        raise ValueError(
            f"the systems were scored on different test sets: {len(unequal)} of {len(system)} "
            f"references differ in length, the first at sentence {first + 1}, of "
            f"{before[first, 0]} and of {now[first, 0]} words"
        )


def _resampled_differences(system: np.ndarray, other: np.ndarray, resamples: int) -> np.ndarray:
    """``|d*|`` of corpora of as many sentences, drawn with replacement: (resamples,)."""
    sentences = len(system)
    draws = np.random.default_rng(SEED).choice(sentences, size=(resamples, sentences), replace=True)
    times = np.stack([np.bincount(draw, minlength=sentences) for draw in draws])
    found: np.ndarray = np.abs(_mean_bleu(_sums(times, system)) - _mean_bleu(_sums(times, other)))
    return found


def _swapped_differences(system: np.ndarray, other: np.ndarray, trials: int) -> np.ndarray:
    """``|d*|`` where each sentence is swapped between the systems, or not: (trials,)."""
    swaps = np.random.default_rng(SEED).integers(2, size=(trials, len(system)), dtype=bool)
    found = []
    for start in range(0, trials, _CHUNK):
        moved = _sums(swaps[start : start + _CHUNK], other - system)
        ours, theirs = system.sum(axis=0) + moved, other.sum(axis=0) - moved
        found.append(np.abs(_mean_bleu(ours) - _mean_bleu(theirs)))
    return np.concatenate(found)


def _sums(times: np.ndarray, statistics: np.ndarray) -> np.ndarray:
    """Add up the rows, each as often as said: (samples, sentences) → (samples, counts).

    As floating-point numbers, for which there are fast products; they are exact up to 2^53.
    """
    sums: np.ndarray = times.astype(np.float64) @ statistics.astype(np.float64)
    return sums


def _share(larger: np.ndarray) -> float:
    """The p of a test: the share of samples that are larger, with what was found as one of them."""
    return float(larger.sum() + 1) / (len(larger) + 1)


def _mean_bleu(sums: np.ndarray) -> np.ndarray:
    """BLEU of summed counts as sacreBLEU computes it (smoothing "exp"), its mean over seeds.

    Args:
        sums: (..., seeds * 10).

    Returns:
        (...), in [0, 100].
    """
    counts = sums.reshape(*sums.shape[:-1], -1, _COUNTS)
    length, reference = counts[..., 0], counts[..., 1]
    matches, ngrams = counts[..., 2 : 2 + _ORDERS], counts[..., 2 + _ORDERS :]
    # The k-th order without a match counts 2^-k of one (Chen and Cherry 2014, their third).
    unmatched = (matches == 0) & (ngrams > 0)
    smooth = np.where(unmatched, 0.5 ** unmatched.cumsum(axis=-1), matches)
    some = (matches > 0).any(axis=-1) & (ngrams > 0).all(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.exp(np.log(smooth / ngrams).mean(axis=-1))
        brevity = np.minimum(1.0, np.exp(1.0 - reference / length))
    mean: np.ndarray = np.where(some, 100.0 * brevity * precision, 0.0).mean(axis=-1)
    return mean
