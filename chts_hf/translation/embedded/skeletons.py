"""Sentence skeletons: every combination of features the corpus draws from, and their words.

A skeleton says what kind of sentence it is and which features its clauses have; what is left open
are the words. Kinds have weights, so that each phenomenon gets a fair share of the sentences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product as combinations
from math import prod

from chts_hf.translation.embedded.grammar import (
    Clause,
    english_question,
    english_statement,
    german_question,
    german_statement,
    german_subordinate,
    sentence,
)
from chts_hf.translation.embedded.lexicon import PRONOUNS
from chts_hf.translation.embedded.shapes import Shape, clause_count, clauses
from chts_hf.translation.embedded.spaces import Space, product

# Shares of the kinds of sentences, in percent.
KIND_WEIGHTS = {
    "statement": 20,
    "fronted": 16,
    "negated": 14,
    "yes-no": 10,
    "wh": 14,
    "because": 8,
    "because-first": 4,
    "that": 7,
    "when": 3,
    "when-first": 4,
}
# Relative shares of the frames within a kind; a separable verb makes a frame of its own.
FRAME_WEIGHTS = {
    "intransitive": 2,
    "located": 2,
    "directed": 2,
    "transitive": 5,
    "found": 1,
    "dative": 2,
    "ditransitive": 2,
    "be-adjective": 2,
    "be-place": 1,
}
SEPARABLE_WEIGHTS = {"intransitive": 2, "transitive": 4, "dative": 1}

_TENSES = ("present", "habit", "past", "future", "modal")
_ALL_SUBJECTS = ("the", "a", "my", "the-plural", "my-plural", "number", "he", "they")
_KNOWN_SUBJECTS = ("the", "my", "the-plural", "my-plural", "he", "they")
_FEW_SUBJECTS = ("the", "my", "the-plural", "he", "they")

_Forms = Sequence[tuple[str, ...]]
_DIRECT = (("the",), ("a",), ("my",), ("the-plural",), ("bare-plural",), ("number",))
_INDIRECT = (("the",), ("a",), ("my",), ("the-plural",), ("number",))
_OBJECTS: dict[str, _Forms] = {
    "transitive": _DIRECT,
    "found": _DIRECT,
    "dative": _INDIRECT,
    "ditransitive": tuple(
        combinations(("the", "my", "the-plural"), ("the", "a", "bare-plural", "number"))
    ),
}
_FEW_OBJECTS: dict[str, _Forms] = {
    "transitive": (("the",), ("a",), ("number",)),
    "found": (("the",), ("a",)),
    "dative": (("the",), ("my",), ("number",)),
    "ditransitive": tuple(combinations(("the", "my"), ("the", "a"))),
}
# An indefinite object is negated by "kein"; a number would leave open what is denied.
_DENIED_OBJECTS: dict[str, _Forms] = {
    "transitive": (("the",), ("my",), ("the-plural",), ("no",), ("no-plural",)),
    "found": (("the",), ("my",)),
    "dative": (("the",), ("my",), ("the-plural",)),
    "ditransitive": tuple(combinations(("the", "my"), ("the", "no", "no-plural"))),
}
_ASKED_OBJECTS: dict[str, _Forms] = {
    "transitive": (("who",), ("what",), ("which",), ("which-plural",), ("how-many",)),
    "dative": (("who",), ("which",)),
}
_PLACES = {
    "located": ("the", "a", "my"),
    "directed": ("the", "a", "my"),
    "found": ("the", "my"),
    "be-place": ("the", "my"),
}


@dataclass(frozen=True)
class Skeleton:
    """A kind of sentence and the shapes of its clauses, the main clause first."""

    kind: str
    shapes: tuple[Shape, ...]

    @property
    def bucket(self) -> tuple[str, str, bool]:
        """Kind of sentence, and the frame and separability of its last clause."""
        return self.kind, self.shapes[-1].frame, self.shapes[-1].separable

    @property
    def size(self) -> int:
        """Number of ways to fill the skeleton with words."""
        return prod(map(clause_count, self.shapes))

    def fillings(self) -> Space[tuple[Clause, ...]]:
        """Return all ways to fill the skeleton with words."""
        return product(lambda *filled: filled, *map(clauses, self.shapes))


def _expand(
    frames: Sequence[str],
    subjects: Sequence[str],
    tenses: Sequence[str] = _TENSES,
    adverbs: Sequence[str] = ("",),
    objects: dict[str, _Forms] = _OBJECTS,
    roles: Sequence[str] = ("", "subject", "object", "place"),
    negated: bool = False,
) -> Iterator[Shape]:
    """Yield the sensible shapes with any combination of the given features."""
    for frame, adverb in combinations(frames, adverbs):
        for tense, subject, complement, place, role, separable in combinations(
            tenses,
            subjects,
            objects.get(frame, ((),)),
            ("",) if adverb == "where" else _PLACES.get(frame, ("",)),
            roles,
            (False, True) if frame in SEPARABLE_WEIGHTS else (False,),
        ):
            shape = Shape(
                frame, tense, subject, complement, place, role, adverb, separable, negated
            )
            if _sensible(shape):
                yield shape


def _sensible(shape: Shape) -> bool:
    """Whether the features go together; whether there are words for them is another question."""
    described = {"subject": shape.subject, "object": shape.objects and shape.objects[-1]}
    if described.get(shape.described, "the") in (*PRONOUNS, ()):
        return False
    if shape.described == "place" and not shape.place:
        return False
    timed = shape.adverb in ("front", "middle")
    # A habit says how often, unless it is a whole clause that says when; and it is not denied,
    # because it would be unclear what is.
    if timed and shape.tense == "present" or shape.negated and shape.tense == "habit":
        return False
    if shape.tense == "habit" and not timed:
        return False
    if shape.frame.startswith("be-"):
        # "A soup is hot", "Three soups must be hot", "Every day the soup is hot" are no news.
        if shape.subject == "a" or shape.tense in ("modal", "habit"):
            return False
        if shape.frame == "be-adjective" and (shape.described or shape.subject == "number"):
            return False
    # German would rather put the adverb between the two objects.
    return not (shape.frame == "ditransitive" and shape.adverb == "middle")


_SIMPLE = tuple(FRAME_WEIGHTS)
_VERBAL = ("intransitive", "located", "directed", "transitive", "dative")


def _questions() -> Iterator[Shape]:
    """Yield the shapes of questions that begin with an interrogative."""
    askers = ("who", "which", "which-plural")
    yield from _expand((*_VERBAL, "be-adjective"), askers, objects=_FEW_OBJECTS)
    yield from _expand(("transitive", "dative"), _FEW_SUBJECTS, objects=_ASKED_OBJECTS)
    yield from _expand(_VERBAL, _FEW_SUBJECTS, adverbs=("why", "when"), objects=_FEW_OBJECTS)
    yield from _expand(
        ("located", "found", "be-place"), _FEW_SUBJECTS, adverbs=("where",), objects=_FEW_OBJECTS
    )


def _subordinate() -> list[Shape]:
    """Return the shapes of what is known, said, or a reason."""
    frames = ("intransitive", "located", "transitive", "dative", "ditransitive", "be-adjective")
    roles = ("", "object")
    shapes = _expand(frames, _FEW_SUBJECTS, _TENSES, ("", "middle"), _FEW_OBJECTS, roles)
    denied = _expand(frames, _FEW_SUBJECTS, _TENSES, ("",), _DENIED_OBJECTS, roles, negated=True)
    return [*shapes, *denied]


def _main_and_subordinate() -> Iterator[Skeleton]:
    subordinate = _subordinate()
    few = ("the", "my", "he")
    feeling = list(_expand(("mood",), _FEW_SUBJECTS, ("present",), roles=("",)))
    speaking = list(_expand(("speech",), _FEW_SUBJECTS, ("present",), roles=("",)))
    present = _expand(_VERBAL, few, ("present",), objects=_FEW_OBJECTS, roles=("",))
    habits = [replace(shape, tense="habit") for shape in present]
    for main, other in combinations(feeling, subordinate):
        yield Skeleton("because", (main, other))
        yield Skeleton("because-first", (main, other))
    for main, other in combinations(speaking, subordinate):
        yield Skeleton("that", (main, other))
    for main, other in combinations(habits, habits):
        yield Skeleton("when", (main, other))
        yield Skeleton("when-first", (main, other))


@cache
def all_skeletons() -> tuple[Skeleton, ...]:
    """Return every skeleton of the grammar, in a fixed order."""
    timed = ("", "middle")
    simple = {
        "statement": _expand(_SIMPLE, _ALL_SUBJECTS, adverbs=timed),
        "fronted": _expand(_SIMPLE, _ALL_SUBJECTS, adverbs=("front",)),
        "negated": _expand(
            _SIMPLE, _KNOWN_SUBJECTS, adverbs=("", "front"), objects=_DENIED_OBJECTS, negated=True
        ),
        "yes-no": _expand(_SIMPLE, _KNOWN_SUBJECTS, adverbs=timed),
        "wh": _questions(),
    }
    skeletons = [Skeleton(kind, (shape,)) for kind, shapes in simple.items() for shape in shapes]
    return (*skeletons, *_main_and_subordinate())


def render(kind: str, filled: Sequence[Clause]) -> tuple[str, str]:
    """Return the English and the German sentence of a skeleton's kind with the given clauses."""
    main, *others = filled
    if kind in ("yes-no", "wh"):
        return sentence(english_question(main), "?"), sentence(german_question(main), "?")
    if not others:
        return sentence(english_statement(main)), sentence(german_statement(main))
    english_word, german_word = {
        "because": ("because", "weil"),
        "that": ("that", "dass"),
        "when": ("when", "wenn"),
    }[kind.removesuffix("-first")]
    english_part = f"{english_word} {english_statement(others[0])}"
    german_part = f"{german_word} {german_subordinate(others[0])},"
    if kind.endswith("-first"):
        return (
            sentence(f"{english_part}, {english_statement(main)}"),
            sentence(german_statement(main, front=german_part)),
        )
    return (
        sentence(f"{english_statement(main)} {english_part}"),
        sentence(f"{german_statement(main)}, {german_part[:-1]}"),
    )
