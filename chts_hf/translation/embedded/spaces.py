"""Sets of combinations too large to list: how many elements there are, and a random one of them.

The grammar has more sentences than could be listed. A :class:`Space` knows their number, so that a
request for more sentences than exist is refused before any is built, and draws one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from random import Random
from typing import Any, Generic, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Space(Generic[T_co]):
    """``size`` elements; ``draw(rng)`` builds one of them, any of them at some time."""

    size: int
    draw: Callable[[Random], T_co]


def options(items: Sequence[T]) -> Space[T]:
    """Return the space of the items themselves, drawn evenly."""
    return Space(len(items), lambda rng: rng.choice(items))


def product(build: Callable[..., T], *spaces: Space[Any]) -> Space[T]:
    """Return the space of ``build(a, b, …)`` for every a, b, … of the spaces, each drawn alone."""
    return Space(
        prod([space.size for space in spaces]),
        lambda rng: build(*[space.draw(rng) for space in spaces]),
    )


def union(spaces: Sequence[Space[T]]) -> Space[T]:
    """Return the space of all elements of disjoint spaces, each space as likely as it is large."""
    sizes = [space.size for space in spaces]
    return Space(sum(sizes), lambda rng: rng.choices(spaces, sizes)[0].draw(rng))


def mixture(spaces: Sequence[Space[T]]) -> Space[T]:
    """Return the space of all elements of disjoint spaces, each space as likely as another."""
    filled = [space for space in spaces if space.size]
    return Space(sum(space.size for space in filled), lambda rng: rng.choice(filled).draw(rng))
