"""Clause shapes: the grammatical features of a clause without its words, and the words that fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

from chts_hf.translation.embedded.grammar import Clause, Place
from chts_hf.translation.embedded.inflection import Nominal, NounPhrase
from chts_hf.translation.embedded.lexicon import (
    ADJECTIVES,
    ADVERBS,
    FORMS,
    INTERROGATIVES,
    MOODS,
    POSITIONS,
    PRONOUNS,
)
from chts_hf.translation.embedded.nouns import LOCATIONS, NOUNS
from chts_hf.translation.embedded.spaces import Space, mixture, options, product, union
from chts_hf.translation.embedded.verbs import BE, MODALS, VERBS, WILL
from chts_hf.translation.embedded.words import Adjective, Adverb, Modal, Noun, Verb

# Who is found where: farm animals stay out of the castle.
_SETTINGS = (("person pet", ("indoor", "outdoor")), ("farm prey", ("outdoor",)))
_INDOORS = "person pet goods portable"
_NOBODY: Space[Any] = options(())
_NOTHING: Space[Any] = options((None,))


@dataclass(frozen=True)
class Shape:
    """The features of a clause.

    Attributes:
        frame: the verb's complements: ``intransitive``, ``located`` (a place), ``directed`` (a
            place gone to), ``transitive``, ``found`` (object and place), ``dative``,
            ``ditransitive``, ``be-adjective``, ``be-place``, ``mood`` (a feeling) or ``speech``
            (another clause follows).
        tense: ``present``, ``habit`` (the present of what recurs), ``past``, ``future`` or
            ``modal``.
        subject: form of the subject, a key of ``lexicon.FORMS`` or ``lexicon.PRONOUNS``.
        objects: forms of the objects, the dative before the accusative.
        place: form of the noun phrase of place, or "" for none.
        described: which of ``subject``, ``object`` (the last one) and ``place`` has an adjective,
            or "" for none.
        adverb: ``front`` or ``middle`` for one of time, ``why``, ``when`` or ``where``, or "".
        separable: whether the German verb is separable.
        negated: whether the clause is negated.
    """

    frame: str
    tense: str
    subject: str
    objects: tuple[str, ...] = ()
    place: str = ""
    described: str = ""
    adverb: str = ""
    separable: bool = False
    negated: bool = False


def clauses(shape: Shape) -> Space[Clause]:
    """Return all clauses of a shape; it may be empty.

    Raises:
        ValueError: if the shape's frame is unknown.
    """
    # What tense, adverb and negation leave open is the same for many shapes.
    essence = replace(
        shape,
        tense="modal" if shape.tense == "modal" else "present",
        adverb="middle" if _timed(shape) else "",
        negated=False,
    )

    def build(clause: Clause, adverb: Adverb | None, modal: Modal | None) -> Clause:
        return replace(
            clause,
            past=shape.tense == "past",
            modal=modal,
            adverb=adverb,
            adverb_first=shape.adverb == "front",
            negated=shape.negated,
        )

    return product(build, _timeless(essence), _adverbs(shape), _modals(shape))


@cache
def clause_count(shape: Shape) -> int:
    """Return the number of clauses of a shape."""
    return clauses(shape).size


def _timed(shape: Shape) -> bool:
    """Whether the shape names a point in time, which states do not have."""
    return shape.adverb in ("front", "middle", "when") or shape.tense in ("habit", "future")


@cache
def _timeless(shape: Shape) -> Space[Clause]:
    """Return the clauses of a shape without their tense, modal, adverb and negation."""
    subject = partial(_nominals, form=shape.subject, described=shape.described == "subject")
    if shape.frame in ("be-adjective", "mood"):
        felt = shape.frame == "mood"
        spaces = [
            _combine(BE, subject(one.kinds), predicate=options((one,)))
            for one in (MOODS if felt else ADJECTIVES)
            if one.passing or not shape.adverb
        ]
        if felt:
            shown = [verb for verb in VERBS if verb.en in ("laugh", "cry")]
            spaces += [_combine(verb, subject(verb.subject)) for verb in shown]
    elif shape.frame == "be-place":
        if shape.place:
            thing = _combine(BE, subject("pet portable"), place=_positions(shape))
            spaces = [_located(shape, BE, "person pet"), thing]
        else:
            spaces = [_combine(BE, subject("person pet portable"))]
    elif shape.frame in _FRAMES:
        spaces = [_with_verb(shape, verb) for verb in _verbs(shape)]
    else:
        raise ValueError(f"frame={shape.frame!r}: it must be one of {sorted(FRAMES)}")
    return mixture(spaces)  # Rare verbs and adjectives get as many sentences as others.


# Frames of ordinary verbs: the frames their verbs have in the lexicon.
_FRAMES = {
    "intransitive": ("intransitive",),
    "located": ("intransitive", "located"),
    "directed": ("directed",),
    "transitive": ("transitive",),
    "found": ("transitive",),
    "dative": ("dative",),
    "ditransitive": ("ditransitive",),
    "speech": ("speech",),
}
FRAMES = (*_FRAMES, "be-adjective", "be-place", "mood")


def _verbs(shape: Shape) -> list[Verb]:
    return [
        verb
        for verb in VERBS
        if verb.frame in _FRAMES[shape.frame]
        and bool(verb.prefix) == shape.separable
        and (verb.placed or shape.frame not in ("located", "found"))
        and (verb.controlled or shape.tense != "modal")
        and not (verb.stative and shape.adverb)
    ]


def _with_verb(shape: Shape, verb: Verb) -> Space[Clause]:
    last = shape.described == "object"
    roles: dict[str, Space[Any]] = {}
    if verb.dative:
        roles["dative"] = _nominals(verb.dative, shape.objects[0], last and not verb.accusative)
    if verb.accusative:
        among = _INDOORS if shape.frame == "found" else ""
        roles["accusative"] = _nominals(verb.accusative, shape.objects[-1], last, among)
    if shape.place:
        return _located(shape, verb, verb.subject, **roles)
    subject = _nominals(verb.subject, shape.subject, shape.described == "subject")
    return _combine(verb, subject, **roles)


def _located(shape: Shape, verb: Verb, kinds: str, **roles: Space[Any]) -> Space[Clause]:
    """Return the clauses with a phrase of place that suits the subject."""
    towards, spaces = shape.frame == "directed", []
    for among, settings in _SETTINGS:
        subject = _nominals(kinds, shape.subject, shape.described == "subject", among)
        place = _places(settings, shape.place, shape.described == "place", towards)
        spaces.append(_combine(verb, subject, place=place, **roles))
    return union(spaces)


def _combine(
    verb: Verb,
    subject: Space[Nominal],
    dative: Space[Nominal] = _NOTHING,
    accusative: Space[Nominal] = _NOTHING,
    place: Space[Place] = _NOTHING,
    predicate: Space[Adjective] = _NOTHING,
) -> Space[Clause]:
    """Return the clauses with every combination of the given parts."""

    def build(
        nominative: Nominal,
        indirect: Nominal | None,
        direct: Nominal | None,
        location: Place | None,
        adjective: Adjective | None,
    ) -> Clause:
        return Clause(
            nominative,
            verb,
            dative=indirect,
            accusative=direct,
            place=location,
            predicate=adjective,
        )

    return product(build, subject, dative, accusative, place, predicate)


def _adverbs(shape: Shape) -> Space[Adverb | None]:
    if not shape.adverb:
        return _NOTHING
    if shape.adverb in INTERROGATIVES:
        return options((INTERROGATIVES[shape.adverb],))
    return options(ADVERBS[shape.tense])


def _modals(shape: Shape) -> Space[Modal | None]:
    if shape.tense == "future":
        return options((WILL,))
    if shape.tense == "modal":
        return options([one for one in MODALS if one.negatable or not shape.negated])
    return _NOTHING


def _owner_suits(noun: Noun, form: str) -> bool:
    return noun.owned != ("never" if form in ("my", "my-plural") else "must")


@cache
def _adjectives(noun: Noun) -> list[Adjective]:
    return [one for one in ADJECTIVES if noun.is_any(one.kinds)]


def _phrases(nouns: Sequence[Noun], form: str, described: bool) -> Space[NounPhrase]:
    """Return the noun phrases of a form with one of the nouns, described by an adjective or not."""
    determiners, plural = FORMS[form]
    heads: list[tuple[Noun, Adjective | None]] = []
    for noun in nouns:
        if _owner_suits(noun, form):
            heads += [(noun, one) for one in (_adjectives(noun) if described else [None])]
    return product(
        lambda determiner, head: NounPhrase(head[0], determiner, plural, head[1]),
        options(determiners),
        options(heads),
    )


@cache
def _nominals(kinds: str, form: str, described: bool = False, among: str = "") -> Space[Nominal]:
    """Return the phrases or pronouns of a form, for nouns of ``kinds`` (and ``among``)."""
    if form in PRONOUNS:
        personal = not {"person", "adult"}.isdisjoint(kinds.split())
        if among and "person" not in among.split():
            personal = False
        suits = not personal if form == "what" else personal and not described
        return options(PRONOUNS[form]) if suits else _NOBODY
    nouns = [noun for noun in NOUNS if noun.is_any(kinds) and (not among or noun.is_any(among))]
    return _phrases(nouns, form, described)


@cache
def _places(settings: tuple[str, ...], form: str, described: bool, towards: bool) -> Space[Place]:
    """Return the phrases of place; ``towards``: of a place gone to."""
    spaces = []
    for location in LOCATIONS:
        if location.setting in settings:
            build = partial(Place, prepositions=location.at, case="dat")
            if towards:
                build = partial(Place, prepositions=location.to[:2], case=location.to[2])
            spaces.append(product(build, _phrases([location.noun], form, described)))
    return union(spaces)


def _positions(shape: Shape) -> Space[Place]:
    """Return the phrases of place that say where a thing lies."""
    surfaces = [noun for noun in NOUNS if noun.is_any("surface")]
    phrases = _phrases(surfaces, shape.place, shape.described == "place")
    return product(Place, phrases, options(POSITIONS))
