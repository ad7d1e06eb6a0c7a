"""Noun phrases in both languages: German articles, adjective endings and cases; English "an".

The rule behind the German tables: the ending that shows gender, number and case stands once. If
the determiner carries it, the adjective takes a weak ending; if not, the adjective carries it.
"""

from __future__ import annotations

from dataclasses import dataclass

from chts_hf.translation.embedded.words import Adjective, Case, Determiner, Noun, Pronoun

_STRONG: dict[Case, dict[str, str]] = {
    "nom": {"m": "er", "f": "e", "n": "es", "plural": "e"},
    "acc": {"m": "en", "f": "e", "n": "es", "plural": "e"},
    "dat": {"m": "em", "f": "er", "n": "em", "plural": "en"},
}
_DEFINITE = {"er": "der", "e": "die", "es": "das", "en": "den", "em": "dem"}
_WEAK_E = {("nom", "m"), ("nom", "f"), ("nom", "n"), ("acc", "f"), ("acc", "n")}
_EIN_WITHOUT_ENDING = {("nom", "m"), ("nom", "n"), ("acc", "n")}


@dataclass(frozen=True)
class NounPhrase:
    """Determiner, adjective and noun, in the singular or the plural."""

    noun: Noun
    determiner: Determiner
    plural: bool = False
    adjective: Adjective | None = None

    @property
    def asks(self) -> bool:
        """Whether the phrase is interrogative and so opens its sentence."""
        return self.determiner.asks


# What can be a subject or an object.
Nominal = NounPhrase | Pronoun


def determiner_ending(determiner: Determiner, gender: str, case: Case) -> str:
    """Return the ending the determiner shows; ``gender`` is m, f, n or ``plural``."""
    if determiner.inflection == "none":
        return ""
    if determiner.inflection == "ein" and (case, gender) in _EIN_WITHOUT_ENDING:
        return ""
    return _STRONG[case][gender]


def determiner_german(determiner: Determiner, gender: str, case: Case) -> str:
    """Return the German determiner; ``gender`` is m, f, n or ``plural``.

    Example:
        >>> determiner_german(Determiner("a", "ein", "ein"), "m", "dat")
        'einem'
    """
    ending = determiner_ending(determiner, gender, case)
    if determiner.inflection == "definite":
        return _DEFINITE[ending]
    return determiner.de + ending


def adjective_ending(determiner: Determiner, gender: str, case: Case) -> str:
    """Return the ending of an adjective after the determiner; ``gender`` as above."""
    if not determiner_ending(determiner, gender, case):
        return _STRONG[case][gender]
    return "e" if (case, gender) in _WEAK_E else "en"


def _noun_german(noun: Noun, plural: bool, case: Case) -> str:
    if not plural:
        return noun.de
    dative = case == "dat" and not noun.de_plural.endswith(("n", "s"))
    return noun.de_plural + ("n" if dative else "")


def german(phrase: Nominal, case: Case) -> str:
    """Return the German phrase in the given case.

    Raises:
        ValueError: if the phrase is a pronoun that the grammar does not use in that case.
    """
    if isinstance(phrase, Pronoun):
        form: str = getattr(phrase, case)
        if not form:
            raise ValueError(f"case={case!r}: the pronoun {phrase.en!r} has no such form here")
        return form
    gender = "plural" if phrase.plural else phrase.noun.gender
    words = [determiner_german(phrase.determiner, gender, case)]
    if phrase.adjective:
        stem = phrase.adjective.stem or phrase.adjective.de
        words.append(stem + adjective_ending(phrase.determiner, gender, case))
    words.append(_noun_german(phrase.noun, phrase.plural, case))
    return join(*words)


def english(phrase: Nominal) -> str:
    """Return the English phrase; no case is visible in those the grammar uses."""
    if isinstance(phrase, Pronoun):
        return phrase.en
    noun = phrase.noun.en_plural if phrase.plural else phrase.noun.en
    tail = join(phrase.adjective.en if phrase.adjective else "", noun)
    determiner = phrase.determiner.en
    # The lexicon has no word whose first sound and first letter disagree (a test watches it).
    if determiner == "a" and tail[0] in "aeiou":
        determiner = "an"
    return join(determiner, tail)


def join(*words: str) -> str:
    """Join the words that are not empty by single spaces."""
    return " ".join(word for word in words if word)
