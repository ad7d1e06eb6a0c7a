"""Exact probabilities of small draws, and a bound on how far frequencies may stray from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import permutations


def subset_probabilities(weights: list[float], k: int) -> dict[frozenset[int], float]:
    """Probability of each set of ``k`` indices under successive sampling without replacement.

    The sum, over all orders, of the product of ``weight / what is left``.
    """
    probabilities: dict[frozenset[int], float] = {}
    for order in permutations(range(len(weights)), k):
        left, probability = sum(weights), 1.0
        for index in order:
            probability *= weights[index] / left
            left -= weights[index]
        subset = frozenset(order)
        probabilities[subset] = probabilities.get(subset, 0.0) + probability
    return {subset: p for subset, p in probabilities.items() if p > 0}


def assert_frequencies(
    observed: Mapping[frozenset[int], int], expected: Mapping[frozenset[int], float]
) -> None:
    """Fails where counts are unlikely (about 1 in 10,000) to come from the probabilities.

    Pearson's chi-square; its 0.9999 quantile by Wilson and Hilferty's approximation.
    """
    assert math.isclose(sum(expected.values()), 1)
    impossible = {subset: count for subset, count in observed.items() if subset not in expected}
    assert not impossible
    draws = sum(observed.values())
    distance = sum(
        (observed.get(subset, 0) - draws * p) ** 2 / (draws * p) for subset, p in expected.items()
    )
    freedom = len(expected) - 1
    if freedom == 0:
        return
    spread = 2 / (9 * freedom)
    bound = freedom * (1 - spread + 3.719 * math.sqrt(spread)) ** 3
    assert distance < bound, f"chi-square {distance:.1f} with {freedom} degrees, bound {bound:.1f}"
