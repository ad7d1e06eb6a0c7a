"""How long translations are: BLEU alone hides whether a system stops too soon or never."""

from __future__ import annotations

import numpy as np

#: A translation of more words than so many times its reference's is counted as a loop.
LOOP = 2


def length_ratio(statistics: np.ndarray) -> float:
    """Words of all translations over words of all references.

    Args:
        statistics: (sentences, 10), of :func:`~chts_hf.compare.significance.sentence_statistics`.

    Example:
        >>> length_ratio(sentence_statistics(["a b", "c"], ["a b", "c d"]))
        0.75
    """
    return float(statistics[:, 0].sum() / statistics[:, 1].sum())


def loop_percent(statistics: np.ndarray) -> float:
    """Per cent of the sentences whose translation is more than twice as long as its reference.

    So long are those that repeat themselves; the counts show their length, not their words.

    Args:
        statistics: as for :func:`length_ratio`.
    """
    return float(100 * np.mean(statistics[:, 0] > LOOP * statistics[:, 1]))
