"""The kinds of words of the embedded corpus: what each entry of its lexicon must say."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

Gender = Literal["m", "f", "n"]
Case = Literal["nom", "acc", "dat"]


@cache
def _kind_set(kinds: str) -> frozenset[str]:
    return frozenset(kinds.split())


class _Kinds:
    """Words that carry a space-separated list of semantic kinds."""

    kinds: str

    def is_any(self, kinds: str) -> bool:
        """Whether the word is of at least one of the space-separated ``kinds``."""
        return not _kind_set(self.kinds).isdisjoint(_kind_set(kinds))


@dataclass(frozen=True)
class Noun(_Kinds):
    """A noun in both languages.

    Attributes:
        en: English singular; two words for a compound.
        en_plural: English plural.
        de: German nominative singular, which is also its accusative and dative (no weak nouns).
        de_plural: German nominative plural.
        gender: grammatical gender of the German noun.
        kinds: space-separated semantic kinds; verbs and adjectives select by them.
        owned: whether it may, must or must never stand after "my" and "our". Kinship needs an
            owner ("my uncle", not "an uncle"), and "my king" would say something odd.
    """

    en: str
    en_plural: str
    de: str
    de_plural: str
    gender: Gender
    kinds: str
    owned: Literal["may", "must", "never"] = "may"


@dataclass(frozen=True)
class Adjective(_Kinds):
    """An adjective.

    Attributes:
        en: English form.
        de: German form without an ending.
        kinds: space-separated kinds of nouns it describes.
        stem: what German endings are added to, where it is not ``de``.
        passing: True for a state that comes and goes ("tired"): it can be so next week.
    """

    en: str
    de: str
    kinds: str
    stem: str = ""
    passing: bool = False


@dataclass(frozen=True)
class Verb:
    """A verb in the third person, in both languages.

    Attributes:
        en: English base form, without its particle.
        en_third: English third person singular, present.
        en_past: English simple past; it differs from ``en``, so that tense is always visible.
        de: German infinitive without its separable prefix; also the present plural.
        de_third: German third person singular, present, without its separable prefix.
        participle: German past participle without its separable prefix.
        frame: what it takes beside its subject: ``intransitive``, ``located`` (place needed),
            ``directed``, ``transitive``, ``dative``, ``ditransitive`` or ``speech`` (a clause).
        subject: kinds of nouns that can be its subject.
        accusative: kinds of nouns that can be its direct object.
        dative: kinds of nouns that can be its dative object.
        particle: English particle or preposition after the verb ("look *for*").
        prefix: German separable prefix ("*auf*machen").
        auxiliary: third person singular of the perfect's auxiliary, ``hat`` or ``ist``.
        placed: whether a place where it happens may be added.
        controlled: False for what cannot be wanted or ordered ("lose", "need").
        stative: True for what has no point in time ("love"): no adverb of time with it.
    """

    en: str
    en_third: str
    en_past: str
    de: str
    de_third: str
    participle: str
    frame: str
    subject: str
    accusative: str = ""
    dative: str = ""
    particle: str = ""
    prefix: str = ""
    auxiliary: Literal["hat", "ist"] = "hat"
    placed: bool = False
    controlled: bool = True
    stative: bool = False


@dataclass(frozen=True)
class Modal:
    """A verb that takes an infinitive, German future "werden" included.

    Attributes:
        en: English form with a plural subject.
        en_third: English form with a singular subject.
        de: German third person singular.
        de_plural: German plural.
        supported: True where English asks and negates with "do" ("want to").
        negatable: False where word for word negation changes the meaning ("must not" is
            "darf nicht", not "muss nicht").
    """

    en: str
    en_third: str
    de: str
    de_plural: str
    supported: bool = False
    negatable: bool = True


@dataclass(frozen=True)
class Determiner:
    """What opens a noun phrase.

    Attributes:
        en: English word; "a" becomes "an" before a vowel. "" for none.
        de: German word, or its stem where it is inflected. "" for none.
        inflection: ``definite`` (der, die, das), ``der`` (endings of the definite article, as
            "welcher"), ``ein`` (the same but for three forms without an ending, as "kein"),
            or ``none`` (numerals and no determiner).
        asks: True for interrogatives, which open their sentence.
    """

    en: str
    de: str
    inflection: Literal["definite", "der", "ein", "none"]
    asks: bool = False


@dataclass(frozen=True)
class Pronoun:
    """A pronoun; ``de`` maps the cases it is used in to its forms."""

    en: str
    nom: str = ""
    acc: str = ""
    dat: str = ""
    plural: bool = False
    asks: bool = False


@dataclass(frozen=True)
class Adverb:
    """An adverbial of one word or a fixed phrase.

    Attributes:
        en: English form.
        de: German form.
        asks: True for interrogatives, which open their sentence.
    """

    en: str
    de: str
    asks: bool = False


@dataclass(frozen=True)
class Location:
    """A noun of place with its prepositions.

    Attributes:
        noun: the place.
        setting: ``indoor`` or ``outdoor``.
        at: English and German preposition for being there; German takes the dative.
        to: English and German preposition and German case for going there.
    """

    noun: Noun
    setting: str
    at: tuple[str, str]
    to: tuple[str, str, Case]


def compound(modifier: str, german: str, head: Noun, kinds: str = "") -> Noun:
    """Join a modifier to a head noun: two words in English, one in German.

    Gender and plural are the head's. ``german`` is the modifier with its linking element
    ("Küchen"); the head loses its capital letter. ``kinds`` replaces the head's kinds if given.

    Example:
        >>> table = Noun("table", "tables", "Tisch", "Tische", "m", "goods")
        >>> compound("kitchen", "Küchen", table).de_plural
        'Küchentische'
    """
    return Noun(
        f"{modifier} {head.en}",
        f"{modifier} {head.en_plural}",
        german + head.de.lower(),
        german + head.de_plural.lower(),
        head.gender,
        kinds or head.kinds,
        head.owned,
    )
