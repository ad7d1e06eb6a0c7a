"""Looking words of the embedded corpus up, for the tests of its grammar."""

from __future__ import annotations

from typing import Any

from chts_hf.translation.embedded.grammar import (
    Place,
)
from chts_hf.translation.embedded.inflection import NounPhrase
from chts_hf.translation.embedded.lexicon import (
    ADJECTIVES,
    ADVERBS,
    FORMS,
    PRONOUNS,
)
from chts_hf.translation.embedded.nouns import LOCATIONS, NOUNS
from chts_hf.translation.embedded.verbs import MODALS, VERBS
from chts_hf.translation.embedded.words import (
    Adjective,
    Adverb,
    Modal,
    Noun,
    Pronoun,
    Verb,
)

#: Sentences of each split in the corpus that most tests look at.
SIZES: dict[str, Any] = {"train": 3000, "validation": 250, "test": 250}


def noun(en: str) -> Noun:
    return next(one for one in (*NOUNS, *(place.noun for place in LOCATIONS)) if one.en == en)


def adjective(en: str) -> Adjective:
    return next(one for one in ADJECTIVES if one.en == en)


def verb(en: str, frame: str = "") -> Verb:
    base, _, particle = en.partition(" ")
    return next(
        one
        for one in VERBS
        if (one.en, one.particle) == (base, particle) and one.frame == (frame or one.frame)
    )


def modal(en: str) -> Modal:
    return next(one for one in MODALS if one.en == en)


def phrase(form: str, en: str, describing: str = "", pick: int = 0) -> NounPhrase:
    determiners, plural = FORMS[form]
    described = adjective(describing) if describing else None
    return NounPhrase(noun(en), determiners[pick], plural, described)


def pronoun(en: str) -> Pronoun:
    return next(one for group in PRONOUNS.values() for one in group if one.en == en)


def at(form: str, en: str, towards: bool = False, describing: str = "") -> Place:
    place = next(one for one in LOCATIONS if one.noun.en == en)
    built = phrase(form, en, describing)
    return Place(built, place.to[:2], place.to[2]) if towards else Place(built, place.at)


def adverb(tense: str, en: str) -> Adverb:
    return next(one for one in ADVERBS[tense] if one.en == en)
