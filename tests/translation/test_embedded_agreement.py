"""Agreement in the embedded corpus, against a table written by hand."""

from __future__ import annotations

import re

import pytest

from chts_hf.translation.embedded.inflection import NounPhrase, english, german
from chts_hf.translation.embedded.lexicon import (
    ADJECTIVES,
)
from chts_hf.translation.embedded.nouns import NOUNS
from chts_hf.translation.embedded.words import (
    Noun,
    compound,
)
from tests.translation.embedded_words import (
    noun,
    phrase,
    pronoun,
)

DECLENSION = {
    # form, noun: nominative, accusative, dative
    ("the", "table"): "der alte Tisch, den alten Tisch, dem alten Tisch",
    ("the", "bag"): "die alte Tasche, die alte Tasche, der alten Tasche",
    ("the", "book"): "das alte Buch, das alte Buch, dem alten Buch",
    ("a", "table"): "ein alter Tisch, einen alten Tisch, einem alten Tisch",
    ("a", "bag"): "eine alte Tasche, eine alte Tasche, einer alten Tasche",
    ("a", "book"): "ein altes Buch, ein altes Buch, einem alten Buch",
    ("my", "table"): "mein alter Tisch, meinen alten Tisch, meinem alten Tisch",
    ("my", "bag"): "meine alte Tasche, meine alte Tasche, meiner alten Tasche",
    ("my", "book"): "mein altes Buch, mein altes Buch, meinem alten Buch",
    ("our", "table"): "unser alter Tisch, unseren alten Tisch, unserem alten Tisch",
    ("our", "bag"): "unsere alte Tasche, unsere alte Tasche, unserer alten Tasche",
    ("our", "book"): "unser altes Buch, unser altes Buch, unserem alten Buch",
    ("no", "table"): "kein alter Tisch, keinen alten Tisch, keinem alten Tisch",
    ("no", "bag"): "keine alte Tasche, keine alte Tasche, keiner alten Tasche",
    ("no", "book"): "kein altes Buch, kein altes Buch, keinem alten Buch",
    ("which", "table"): "welcher alte Tisch, welchen alten Tisch, welchem alten Tisch",
    ("which", "bag"): "welche alte Tasche, welche alte Tasche, welcher alten Tasche",
    ("which", "book"): "welches alte Buch, welches alte Buch, welchem alten Buch",
    ("the-plural", "table"): "die alten Tische, die alten Tische, den alten Tischen",
    ("the-plural", "bag"): "die alten Taschen, die alten Taschen, den alten Taschen",
    ("the-plural", "book"): "die alten Bücher, die alten Bücher, den alten Büchern",
    ("the-plural", "car"): "die alten Autos, die alten Autos, den alten Autos",
    ("my-plural", "book"): "meine alten Bücher, meine alten Bücher, meinen alten Büchern",
    ("our-plural", "book"): "unsere alten Bücher, unsere alten Bücher, unseren alten Büchern",
    ("no-plural", "book"): "keine alten Bücher, keine alten Bücher, keinen alten Büchern",
    ("which-plural", "book"): "welche alten Bücher, welche alten Bücher, welchen alten Büchern",
    ("bare-plural", "book"): "alte Bücher, alte Bücher, alten Büchern",
    ("number", "book"): "zwei alte Bücher, zwei alte Bücher, zwei alten Büchern",
}


@pytest.mark.parametrize(("form", "en"), DECLENSION)
def test_articles_adjectives_and_nouns_agree(form: str, en: str) -> None:
    built = phrase(form.replace("our", "my"), en, "old", pick=int(form.startswith("our")))
    declined = [german(built, "nom"), german(built, "acc"), german(built, "dat")]
    assert declined == DECLENSION[form, en].split(", ")


def test_pronouns_have_only_the_cases_the_grammar_uses() -> None:
    assert [german(pronoun("who"), case) for case in ("nom", "acc", "dat")] == ["wer", "wen", "wem"]
    with pytest.raises(ValueError, match="acc"):
        german(pronoun("he"), "acc")


@pytest.mark.parametrize(
    ("word", "expected"),
    [("tired", "die müde Katze"), ("expensive", "die teure Katze"), ("dark", "die dunkle Katze")],
)
def test_adjectives_with_a_stem_of_their_own(word: str, expected: str) -> None:
    assert german(phrase("the", "cat", word), "nom") == expected


@pytest.mark.parametrize(
    ("built", "expected"),
    [
        (phrase("a", "apple"), "an apple"),
        (phrase("a", "apple", "red"), "a red apple"),
        (phrase("a", "table", "old"), "an old table"),
        (phrase("no", "uncle"), "an uncle"),
        (phrase("number", "mouse", "old", pick=10), "twelve old mice"),
        (phrase("bare-plural", "knife"), "knives"),
    ],
)
def test_english_noun_phrases(built: NounPhrase, expected: str) -> None:
    assert english(built) == expected


def test_no_word_begins_with_another_sound_than_letter() -> None:
    words = {one.en.split()[0] for one in (*NOUNS, *ADJECTIVES)}
    assert not {word for word in words if re.match("u(ni|se|sual)|eu|one|hour|hon|heir", word)}


def test_compounds_are_two_words_in_english_and_one_in_german() -> None:
    table = noun("kitchen table")
    assert (table.de, table.de_plural, table.gender) == ("Küchentisch", "Küchentische", "m")
    assert german(phrase("a", "apple cake", "sweet"), "acc") == "einen süßen Apfelkuchen"
    cake = Noun("cake", "cakes", "Kuchen", "Kuchen", "m", "food")
    assert compound("plum", "Pflaumen", cake).de == "Pflaumenkuchen"
    compounds = [one for one in NOUNS if " " in one.en]
    assert len(compounds) >= 30
    assert all(" " not in one.de and one.de[1:].islower() for one in compounds)
