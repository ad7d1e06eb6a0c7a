"""Numbered sets of combinations: how many there are, and the one with a given number.

The grammar has more sentences than could be listed. A :class:`Space` knows their number and builds
any one of them from its index, so that a sentence is drawn evenly by drawing one integer, and a
request for more sentences than exist is refused before any is built.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Space(Generic[T]):
    """``size`` elements; ``at(i)`` builds number i, for i in 0 … size − 1."""

    size: int
    at: Callable[[int], T]


def options(items: Sequence[T]) -> Space[T]:
    """Return the space of the items themselves."""
    return Space(len(items), items.__getitem__)


def product(build: Callable[..., T], *spaces: Space[Any]) -> Space[T]:
    """Return the space of ``build(a, b, …)`` for every a, b, … of the spaces, in mixed radix."""

    def at(index: int) -> T:
        parts = []
        for space in spaces:
            index, digit = divmod(index, space.size)
            parts.append(space.at(digit))
        return build(*parts)

    return Space(prod(space.size for space in spaces), at)


def union(spaces: Sequence[Space[T]]) -> Space[T]:
    """Return the space of all elements of the spaces, one space after the other."""
    ends = list(accumulate(space.size for space in spaces))

    def at(index: int) -> T:
        which = bisect_right(ends, index)
        return spaces[which].at(index - (ends[which - 1] if which else 0))

    return Space(ends[-1] if ends else 0, at)
