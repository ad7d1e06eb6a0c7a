"""Whether one method's BLEU differs from another's: paired tests on sentence statistics.

BLEU is computed from sums, over sentences, of ten counts: the translation's and the reference's
lengths, and for n = 1 … 4 the matching n-grams and all n-grams. These counts are kept with a run in
place of its translations, and sacreBLEU's tests are made on them.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import PairedTest

_ORDERS = 4


@dataclass(frozen=True)
class Paired:
    """How a system's BLEU compares with another's.

    Attributes:
        bleu: of the system.
        other: of the system that it is compared with.
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
    """Compute the corpus BLEU, in [0, 100], of sentences' statistics."""
    return float(BLEU()._compute_score_from_stats(statistics.sum(axis=0).tolist()).score)


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


def pool(runs: Sequence[np.ndarray]) -> np.ndarray:
    """Add the statistics of several seeds up, sentence by sentence.

    Its BLEU is that of all seeds' translations as one text. A test that draws or swaps sentences
    of the sum does so for all seeds together, as it must: translations of one sentence under
    several seeds are not independent.

    Raises:
        ValueError: no runs, or runs of different test sets.
    """
    if not runs:
        raise ValueError("there is no run to add up")
    for run in runs[1:]:
        _check_references(runs[0], run)
    total: np.ndarray = np.sum(runs, axis=0)
    return total


def compare(
    system: np.ndarray, other: np.ndarray, *, resamples: int = 1000, trials: int = 10000
) -> Paired:
    """Test a system against another, sentence by sentence, with sacreBLEU's two paired tests.

    Both are seeded (``SACREBLEU_SEED``, 12345 unless set), so the same statistics give the same p.
    They say how likely such a difference is where the *sentences* are the only chance; that another
    seed may give another model is not in them, only in the standard error over seeds.

    The bootstrap's p is that of sacreBLEU's mean-centred statistic: the share of resamples whose
    absolute difference exceeds the resamples' mean by more than the difference on the whole test
    set. The randomisation's is the share of trials with a larger difference than the one found.
    Both count only what is *larger*, so that systems that are all but the same, where trials tie,
    would get the smallest p there is. Therefore a p is 1 for systems with the same statistics, and
    the randomisation's is at least 2^(1-k) where they differ in k sentences: of the 2^k ways to
    swap these, all and none give the difference that was found.

    Args:
        system: (sentences, 10), of :func:`sentence_statistics` or :func:`pool`.
        other: likewise, of the same sentences.
        resamples: of the bootstrap.
        trials: of the randomisation.

    Raises:
        ValueError: the two are of different test sets.
    """
    _check_references(system, other)
    unequal = int((system != other).any(axis=1).sum())
    if not unequal:
        return Paired(bleu_of(system), bleu_of(other), p_bootstrap=1.0, p_randomization=1.0)
    results: dict[str, Any] = {}
    for kind, samples in (("bs", resamples), ("ar", trials)):
        # The first is sacreBLEU's "baseline". Its tests ask the metric for a system's statistics
        # and look at nothing else of it, so statistics can stand in for translations.
        test = PairedTest(
            [("other", other.tolist()), ("system", system.tolist())],
            {"BLEU": _GivenStatistics()},
            references=None,
            test_type=kind,
            n_samples=samples,
        )
        results[kind] = test()[1]["BLEU"]
    before, after = results["ar"]
    return Paired(
        bleu=after.score,
        other=before.score,
        p_bootstrap=results["bs"][1].p_value,
        p_randomization=max(after.p_value, 2.0 ** (1 - unequal)),
    )


def _check_references(system: np.ndarray, other: np.ndarray) -> None:
    """Refuse statistics of different test sets, by the lengths of their references."""
    if system.shape != other.shape:
        raise ValueError(
            f"the systems were scored on different test sets: of {len(system)} sentences and of "
            f"{len(other)}"
        )
    unequal = np.flatnonzero(system[:, 1] != other[:, 1])
    if len(unequal):
        first = int(unequal[0])
        raise ValueError(
            f"the systems were scored on different test sets: {len(unequal)} of {len(system)} "
            f"references differ in length, the first at sentence {first + 1}, of "
            f"{system[first, 1]} and of {other[first, 1]} words"
        )


class _GivenStatistics(BLEU):
    """BLEU of sentences whose statistics are given in place of their text."""

    def _extract_corpus_statistics(self, hypotheses: Any, references: Any) -> Any:
        return hypotheses

    def get_signature(self) -> Any:
        self.num_refs = 1
        return super().get_signature()
