"""Clauses of the embedded corpus, against pairs written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from chts_hf.translation.embedded.grammar import (
    Clause,
    Place,
    english_question,
    english_statement,
    german_question,
    german_statement,
    german_subordinate,
)
from chts_hf.translation.embedded.inflection import Nominal
from chts_hf.translation.embedded.lexicon import (
    INTERROGATIVES,
)
from chts_hf.translation.embedded.verbs import BE, WILL
from chts_hf.translation.embedded.words import (
    Verb,
)
from tests.translation.embedded_words import (
    adjective,
    adverb,
    at,
    modal,
    phrase,
    pronoun,
    verb,
)


def clause(subject: str | Nominal, does: str | Verb, **others: Any) -> Clause:
    if isinstance(subject, str):
        subject = phrase("the", subject)
    return Clause(subject, verb(does) if isinstance(does, str) else does, **others)


STATEMENTS = {
    "accusative": (
        clause("man", "see", accusative=phrase("the", "dog", "big")),
        "the man sees the big dog",
        "der Mann sieht den großen Hund",
    ),
    "dative": (
        clause("girl", "help", past=True, dative=phrase("a", "queen", "old")),
        "the girl helped an old queen",
        "das Mädchen hat einer alten Königin geholfen",
    ),
    "both objects": (
        clause(
            "woman",
            verb("give", "ditransitive"),
            dative=phrase("the", "child"),
            accusative=phrase("number", "book", "new", pick=1),
        ),
        "the woman gives the child three new books",
        "die Frau gibt dem Kind drei neue Bücher",
    ),
    "plural dative": (
        clause(pronoun("we"), "thank", dative=phrase("number", "doctor", "tall", pick=3)),
        "we thank five tall doctors",
        "wir danken fünf großen Ärzten",
    ),
    "fronted adverbial": (
        clause(
            "baker",
            "buy",
            past=True,
            accusative=phrase("a", "table"),
            adverb=adverb("past", "yesterday"),
            adverb_first=True,
        ),
        "yesterday the baker bought a table",
        "gestern hat der Bäcker einen Tisch gekauft",
    ),
    "adverbial in the middle": (
        clause(
            "baker",
            "buy",
            past=True,
            accusative=phrase("a", "table"),
            adverb=adverb("past", "two days ago"),
        ),
        "the baker bought a table two days ago",
        "der Bäcker hat vor zwei Tagen einen Tisch gekauft",
    ),
    "modal": (
        clause(
            phrase("my", "aunt"),
            "visit",
            modal=modal("want to"),
            accusative=phrase("the", "doctor"),
            adverb=adverb("modal", "tomorrow"),
        ),
        "my aunt wants to visit the doctor tomorrow",
        "meine Tante will morgen den Arzt besuchen",
    ),
    "future, separable": (
        clause(pronoun("they"), "throw away", modal=WILL, accusative=phrase("the", "shoe", "old")),
        "they will throw away the old shoe",
        "sie werden den alten Schuh wegwerfen",
    ),
    "present, separable": (
        clause("gardener", "pick up", accusative=phrase("my", "sister", pick=1)),
        "the gardener picks up our sister",
        "der Gärtner holt unsere Schwester ab",
    ),
    "perfect, separable, with sein": (
        clause(phrase("the-plural", "child"), "wake up", past=True),
        "the children woke up",
        "die Kinder sind aufgewacht",
    ),
    "separable with a dative": (
        clause(pronoun("she"), "listen to", dative=phrase("the", "nurse", "friendly")),
        "she listens to the friendly nurse",
        "sie hört der freundlichen Krankenschwester zu",
    ),
    "nicht after a definite object": (
        clause("cat", "find", accusative=phrase("the", "mouse"), negated=True),
        "the cat does not find the mouse",
        "die Katze findet die Maus nicht",
    ),
    "nicht before a separable prefix": (
        clause(
            phrase("the-plural", "king"), "open", accusative=phrase("the", "gate"), negated=True
        ),
        "the kings do not open the gate",
        "die Könige machen das Tor nicht auf",
    ),
    "nicht before a participle": (
        clause("cow", "sleep", past=True, negated=True),
        "the cow did not sleep",
        "die Kuh hat nicht geschlafen",
    ),
    "nicht before a place": (
        clause("guest", "work", negated=True, place=at("the", "garden")),
        "the guest does not work in the garden",
        "der Gast arbeitet nicht im Garten",
    ),
    "nicht before a predicate": (
        clause("soup", BE, past=True, predicate=adjective("hot"), negated=True),
        "the soup was not hot",
        "die Suppe war nicht heiß",
    ),
    "kein, masculine": (
        clause("judge", "buy", accusative=phrase("no", "coat", "blue"), negated=True),
        "the judge does not buy a blue coat",
        "der Richter kauft keinen blauen Mantel",
    ),
    "kein, plural": (
        clause("judge", "buy", past=True, accusative=phrase("no-plural", "egg"), negated=True),
        "the judge did not buy any eggs",
        "der Richter hat keine Eier gekauft",
    ),
    "cannot": (
        clause("bird", "come back", modal=modal("can"), negated=True),
        "the bird cannot come back",
        "der Vogel kann nicht zurückkommen",
    ),
    "does not want to": (
        clause(pronoun("he"), "sing", modal=modal("want to"), negated=True),
        "he does not want to sing",
        "er will nicht singen",
    ),
    "place where, dative": (
        clause("girl", "sit", place=at("the", "house", describing="old")),
        "the girl sits in the old house",
        "das Mädchen sitzt im alten Haus",
    ),
    "place where to, accusative": (
        clause("girl", "run", past=True, place=at("the", "house", towards=True)),
        "the girl ran into the house",
        "das Mädchen ist ins Haus gerannt",
    ),
    "place where to, zu": (
        clause("thief", "go", place=at("the", "station", towards=True)),
        "the thief goes to the station",
        "der Dieb geht zum Bahnhof",
    ),
    "where a thing is": (
        clause(
            phrase("the-plural", "key"),
            BE,
            place=Place(phrase("the", "kitchen table"), ("under", "unter")),
        ),
        "the keys are under the kitchen table",
        "die Schlüssel sind unter dem Küchentisch",
    ),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_statements(name: str) -> None:
    built, expected_english, expected_german = STATEMENTS[name]
    assert english_statement(built) == expected_english
    assert german_statement(built) == expected_german


SUBORDINATES = {
    "present": (clause("dog", "see", accusative=phrase("the", "cat")), "der Hund die Katze sieht"),
    "separable": (
        clause("man", "invite", accusative=phrase("my", "son")),
        "der Mann meinen Sohn einlädt",
    ),
    "perfect": (
        clause("child", "follow", past=True, dative=phrase("the-plural", "duck")),
        "das Kind den Enten gefolgt ist",
    ),
    "modal and separable": (
        clause(pronoun("we"), "get up", modal=modal("must"), adverb=adverb("modal", "today")),
        "wir heute aufstehen müssen",
    ),
    "negated": (
        clause(pronoun("they"), "close", accusative=phrase("no", "window"), negated=True),
        "sie kein Fenster zumachen",
    ),
    "to be": (clause("mouse", BE, predicate=adjective("small")), "die Maus klein ist"),
    "to be, future": (
        clause("oven", BE, predicate=adjective("dirty"), modal=WILL, negated=True),
        "der Ofen nicht schmutzig sein wird",
    ),
}


@pytest.mark.parametrize("name", SUBORDINATES)
def test_the_finite_verb_of_a_subordinate_clause_is_last(name: str) -> None:
    built, expected = SUBORDINATES[name]
    assert german_subordinate(built) == expected


def test_an_earlier_clause_takes_the_first_place() -> None:
    built = clause("man", "call", accusative=phrase("the", "doctor"))
    assert german_statement(built, "wenn es regnet,") == "wenn es regnet, ruft der Mann den Arzt an"


QUESTIONS = {
    "yes/no, present": (
        clause("man", "love", accusative=phrase("my", "aunt")),
        "does the man love my aunt",
        "liebt der Mann meine Tante",
    ),
    "yes/no, perfect": (
        clause(phrase("the-plural", "girl"), "fall asleep", past=True),
        "did the girls fall asleep",
        "sind die Mädchen eingeschlafen",
    ),
    "yes/no, modal": (
        clause(pronoun("we"), "bake", modal=modal("can"), accusative=phrase("a", "apple cake")),
        "can we bake an apple cake",
        "können wir einen Apfelkuchen backen",
    ),
    "yes/no, want": (
        clause("pig", "sleep", modal=modal("want to")),
        "does the pig want to sleep",
        "will das Schwein schlafen",
    ),
    "yes/no, to be": (
        clause(phrase("the-plural", "pear"), BE, past=True, predicate=adjective("sweet")),
        "were the pears sweet",
        "waren die Birnen süß",
    ),
    "who": (
        clause(pronoun("who"), "steal", past=True, accusative=phrase("the", "picture")),
        "who stole the picture",
        "wer hat das Bild gestohlen",
    ),
    "whom": (
        clause("queen", "invite", accusative=pronoun("who")),
        "who does the queen invite",
        "wen lädt die Königin ein",
    ),
    "to whom": (
        clause("queen", "help", past=True, dative=pronoun("who")),
        "who did the queen help",
        "wem hat die Königin geholfen",
    ),
    "what": (
        clause(pronoun("he"), "look for", modal=modal("must"), accusative=pronoun("what")),
        "what must he look for",
        "was muss er suchen",
    ),
    "which, subject": (
        clause(phrase("which", "cat", "black"), "sleep", place=at("my", "kitchen")),
        "which black cat sleeps in my kitchen",
        "welche schwarze Katze schläft in meiner Küche",
    ),
    "which, object": (
        clause("waitress", "try on", accusative=phrase("which", "coat")),
        "which coat does the waitress try on",
        "welchen Mantel probiert die Kellnerin an",
    ),
    "how many": (
        clause(pronoun("they"), "need", accusative=phrase("how-many", "plate")),
        "how many plates do they need",
        "wie viele Teller brauchen sie",
    ),
    "why": (
        clause("painter", "cry", past=True, adverb=INTERROGATIVES["why"]),
        "why did the painter cry",
        "warum hat der Maler geweint",
    ),
    "where": (
        clause("spoon", BE, adverb=INTERROGATIVES["where"]),
        "where is the spoon",
        "wo ist der Löffel",
    ),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_questions(name: str) -> None:
    built, expected_english, expected_german = QUESTIONS[name]
    assert english_question(built) == expected_english
    assert german_question(built) == expected_german
