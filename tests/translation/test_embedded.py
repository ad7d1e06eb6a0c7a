"""The embedded corpus: its German and English, its splits, its phenomena."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sacrebleu.metrics.bleu import BLEU

from chts_hf.translation.embedded import corpus as corpus_module
from chts_hf.translation.embedded import generate_corpus, unseen_sentences
from chts_hf.translation.embedded.corpus import Corpus, draw_sentences, words_of
from chts_hf.translation.embedded.grammar import (
    Clause,
    Place,
    english_question,
    english_statement,
    german_question,
    german_statement,
    german_subordinate,
)
from chts_hf.translation.embedded.inflection import Nominal, NounPhrase, english, german
from chts_hf.translation.embedded.lexicon import (
    ADJECTIVES,
    ADVERBS,
    FORMS,
    INTERROGATIVES,
    NUMERALS,
    PRONOUNS,
)
from chts_hf.translation.embedded.nouns import LOCATIONS, NOUNS
from chts_hf.translation.embedded.shapes import Shape, clauses
from chts_hf.translation.embedded.skeletons import Skeleton, all_skeletons
from chts_hf.translation.embedded.spaces import mixture, options, product, union
from chts_hf.translation.embedded.verbs import BE, MODALS, VERBS, WILL
from chts_hf.translation.embedded.words import (
    Adjective,
    Adverb,
    Modal,
    Noun,
    Pronoun,
    Verb,
    compound,
)

SIZES: dict[str, Any] = {"train": 3000, "validation": 250, "test": 250}


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return generate_corpus(seed=0, **SIZES)


@pytest.fixture(scope="module")
def plenty() -> list[dict[str, str]]:
    """Enough sentences for every word and every oddity to show itself."""
    return generate_corpus(seed=3, train=6000, validation=0, test=0)["train"]


# --- Looking words up ------------------------------------------------------------------------
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


# --- Agreement, against a table written by hand ----------------------------------------------
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


# --- Clauses, against pairs written by hand --------------------------------------------------
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


# --- The lexicon -----------------------------------------------------------------------------
def test_dictionary_forms_are_consistent() -> None:
    meanings: dict[str, str] = {}
    for one in NOUNS:
        assert one.de[0].isupper()
        assert one.de_plural[0].isupper()
        assert meanings.setdefault(one.en, one.de) == one.de
    for done in VERBS:
        assert done.en_past not in (done.en, done.en_third)
        assert done.de.endswith("n")
        assert done.de_third[-1] in "tß"
        assert done.participle[-1] in "tn"
    assert [one.en for one in NUMERALS][::5] == ["two", "seven", "twelve"]


def test_every_noun_adjective_and_verb_is_used(plenty: list[dict[str, str]]) -> None:
    text = " ".join(pair["en"] for pair in plenty).lower()
    words = [one.en for one in (*NOUNS, *ADJECTIVES)]
    words += [one.en for one in NUMERALS] + [one.en for one in VERBS]
    assert [word for word in words if not re.search(rf"\b{word}", text)] == []


TIMES = "|".join(one.en.lower() for group in ADVERBS.values() for one in group)
FEELINGS = "loves|loved|needs?|needed|trusts?|trusted|lives?|lived"
NONSENSE = {
    "no owner": r"\b(the|an?|two|which) (\w+ )?(brother|sister|son|daughter|uncle|aunt)s?\b",
    "owned people": r"\b(my|our) (old |tall |sad )?(king|man|doctor|thief|child|castle|forest)\b",
    "must not": r"\bmust not\b|^must .* not ",
    "uncontrollable": r"\b(can|must|should|wants? to) (lose|forget|need|love|hear|see|find|wake)\b",
    "a state at a time": rf"\b({FEELINGS})\b.* ({TIMES})|^({TIMES}).* ({FEELINGS})\b",
    "a property at a time": rf"^({TIMES}).* (was|were) (not )?(tall|old|young|big|small|clever)\b",
    "a farm in the house": r"\b(cow|pig|horse|donkey)s? .*(kitchen|room|cellar|church|school)\b",
    "where, and there": r"^where .* (in|on|under|behind|next to|by) (the|an?|my|our)\b",
    "a and plural": r"\ban? ([a-z]+ )?(men|women|children|mice|knives|books|keys)\b",
}


@pytest.mark.parametrize("name", NONSENSE)
def test_what_makes_no_sense_is_not_said(plenty: list[dict[str, str]], name: str) -> None:
    clauses_alone = (
        pair["en"].lower()
        for pair in plenty
        if not re.search(r"\b(because|that|when)\b", pair["en"], re.I)
    )
    assert [text for text in clauses_alone if re.search(NONSENSE[name], text)] == []


def test_no_noun_comes_twice_in_a_sentence(plenty: list[dict[str, str]]) -> None:
    names: dict[str, str] = {}
    for one in (*NOUNS, *(place.noun for place in LOCATIONS)):
        names |= dict.fromkeys((one.de, one.de_plural, one.de_plural + "n"), one.en)
    for pair in plenty:
        found = [names[word] for word in re.findall(r"\w+", pair["de"]) if word in names]
        assert len(set(found)) == len(found), pair["de"]


def test_she_is_never_the_girl(plenty: list[dict[str, str]]) -> None:
    """German "Mädchen" and "Kind" are neuter, so that "sie" after them could be taken amiss."""
    for pair in plenty:
        if re.search(r"\b(weil|dass|wenn)\b", pair["de"], re.I) and re.search(
            r"\b(Mädchen|Kind|Kinder|Kindern)\b", pair["de"]
        ):
            assert not re.search(r"\b(he|she)\b", pair["en"], re.I), pair["en"]


def test_words_are_chosen_by_their_kinds() -> None:
    space = clauses(Shape("transitive", "present", "the", ("a",)))
    rng = Random(0)
    drawn = [space.draw(rng) for _ in range(3000)]
    eaten = {english(one.accusative) for one in drawn if one.verb.en == "eat" and one.accusative}
    assert "an apple" in eaten
    assert "a table" not in eaten
    assert {english(one.subject) for one in drawn if one.verb.en == "chase"} == {
        "the dog",
        "the cat",
    }
    with pytest.raises(ValueError, match="frame='passive'"):
        clauses(Shape("passive", "present", "the"))


# --- Sets of combinations --------------------------------------------------------------------
def test_spaces_count_and_draw_every_combination() -> None:
    pairs = product(lambda a, b: a + b, options("abc"), options("xy"))
    everything = union([pairs, options(()), options(("z",))])
    assert everything.size == 7
    rng = Random(0)
    drawn = Counter(everything.draw(rng) for _ in range(7000))
    assert sorted(drawn) == ["ax", "ay", "bx", "by", "cx", "cy", "z"]
    # Even draws: each 1000 times with a standard deviation of 30.
    assert all(800 < count < 1200 for count in drawn.values())


def test_a_mixture_draws_its_spaces_evenly() -> None:
    mixed = mixture([options("abcdef"), options(()), options(("z",))])
    assert mixed.size == 7
    rng = Random(0)
    drawn = Counter(mixed.draw(rng) for _ in range(2000))
    assert set(drawn) == set("abcdefz")
    assert 850 < drawn["z"] < 1150


# --- The corpus ------------------------------------------------------------------------------
def test_copying_the_source_is_no_translation(corpus: Corpus) -> None:
    sources, references = ([pair[side] for pair in corpus["test"]] for side in ("en", "de"))
    assert BLEU().corpus_score(sources, [references]).score < 5
    assert BLEU().corpus_score(references, [references]).score == pytest.approx(100)


@pytest.mark.parametrize("disjoint_skeletons", [False, True])
def test_splits_are_disjoint_and_share_their_words(disjoint_skeletons: bool) -> None:
    drawn = generate_corpus(seed=1, disjoint_skeletons=disjoint_skeletons, **SIZES)
    assert {name: len(split) for name, split in drawn.items()} == SIZES
    for side in ("en", "de"):
        texts = [pair[side] for split in drawn.values() for pair in split]
        assert len(set(texts)) == len(texts)
    for name in ("validation", "test"):
        assert words_of(drawn[name]) <= words_of(drawn["train"])


def test_skeletons_are_disjoint_where_asked() -> None:
    splits = draw_sentences(1, SIZES, disjoint_skeletons=True)
    skeletons = {name: {one.skeleton for one in split} for name, split in splits.items()}
    for first, second in combinations(skeletons.values(), 2):
        assert not first & second
    # Without the option they are shared, and held-out skeletons are of every kind all the same.
    shared = draw_sentences(1, SIZES, disjoint_skeletons=False)
    assert {one.skeleton for one in shared["train"]} & {one.skeleton for one in shared["test"]}
    kinds = {one.kind for one in all_skeletons()}
    assert {one.kind for one in skeletons["test"]} == kinds


def test_a_skeleton_is_what_is_left_without_the_words() -> None:
    found: dict[Skeleton, set[str]] = {}
    for one in draw_sentences(0, {"train": 1500}, disjoint_skeletons=False)["train"]:
        found.setdefault(one.skeleton, set()).add(one.en)
    assert len(found) > 500
    # "They laughed." and "We cried." are two sentences of one skeleton.
    assert max(map(len, found.values())) > 2
    assert len(set(all_skeletons())) == len(all_skeletons())


def test_the_same_seed_gives_the_same_corpus_in_another_process(corpus: Corpus) -> None:
    package = Path(corpus_module.__file__).parents[2]
    # The parent packages are replaced by bare ones, which saves the time of importing torch.
    program = (
        "import json, sys, types\n"
        f"for name, path in [('chts_hf', {str(package)!r}),"
        f" ('chts_hf.translation', {str(package / 'translation')!r})]:\n"
        "    sys.modules[name] = types.ModuleType(name)\n"
        "    sys.modules[name].__path__ = [path]\n"
        "from chts_hf.translation.embedded import generate_corpus\n"
        f"print(json.dumps(generate_corpus(seed=0, **{SIZES!r})))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    printed = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert json.loads(printed) == corpus
    assert generate_corpus(seed=1, **SIZES) != corpus


def test_english_determines_german(corpus: Corpus, plenty: list[dict[str, str]]) -> None:
    meanings: dict[str, str] = {}
    for pair in (*corpus["train"], *plenty):
        assert meanings.setdefault(pair["en"], pair["de"]) == pair["de"]


def test_sentences_are_well_formed_and_short(corpus: Corpus) -> None:
    for pair in (pair for split in corpus.values() for pair in split):
        assert pair["en"][-1] == pair["de"][-1]
        for text in pair.values():
            assert re.fullmatch(r"[A-ZÄÖÜ][\wäöüß]*(,? [\wäöüß]+)*[.?]", text), text
            assert 2 <= len(text.split()) <= 20


PREFIXES = {one.prefix for one in VERBS if one.prefix}
SEPARABLE = {
    one.prefix + form
    for one in VERBS
    if one.prefix
    for form in (one.de, one.de_third, one.participle)
}
COMPOUNDS = {
    form for one in NOUNS if " " in one.en for form in (one.de, one.de_plural, one.de_plural + "n")
}
ADVERBIALS = tuple(one.de.capitalize() for group in ADVERBS.values() for one in group)
PARTICIPLES = {one.prefix + one.participle for one in VERBS}
INFINITIVES = {one.prefix + one.de for one in VERBS} | {"sein"}

ASKING = re.compile(r"(Wer|Wen|Wem|Was|Welche[rsnm]?|Wie|Wann|Warum|Wo)\b")


def _has(words: set[str]) -> Callable[[str], bool]:
    return lambda text: not words.isdisjoint(re.findall(r"\w+", text))


def _last(words: set[str]) -> Callable[[str], bool]:
    return lambda text: re.findall(r"\w+", text)[-1] in words


PHENOMENA: dict[str, tuple[float, Callable[[str], bool]]] = {
    "verb second after an adverbial": (0.10, lambda text: text.startswith(ADVERBIALS)),
    "verb last": (0.20, lambda text: bool(re.search(r"\b(weil|dass|wenn) ", text, re.I))),
    "clause first": (0.05, lambda text: bool(re.match("(Weil|Wenn) .*, ", text))),
    "separable verb": (0.15, lambda text: _has(SEPARABLE)(text) or _last(PREFIXES)(text)),
    "prefix at the end": (0.03, _last(PREFIXES)),
    "perfect": (0.12, _last(PARTICIPLES)),
    "infinitive at the end": (0.15, _last(INFINITIVES)),
    "compound": (0.12, _has(COMPOUNDS)),
    "nicht": (0.08, _has({"nicht"})),
    "kein": (0.02, _has({"kein", "keine", "keinen"})),
    "yes/no question": (0.07, lambda text: text[-1] == "?" and not ASKING.match(text)),
    "question word": (0.08, lambda text: text[-1] == "?" and bool(ASKING.match(text))),
    "number": (0.08, _has({form for one in NUMERALS for form in (one.de, one.de.capitalize())})),
    "dative article": (0.10, _has({"dem", "einem", "einer", "meinem", "meiner", "im", "zum"})),
    "masculine accusative": (0.05, _has({"einen", "meinen", "unseren", "keinen"})),
    "ein": (0.10, _has({"ein", "eine", "einen", "einem", "einer", "Ein", "Eine"})),
}


@pytest.mark.parametrize("name", PHENOMENA)
def test_each_phenomenon_has_its_share(corpus: Corpus, name: str) -> None:
    share, shows = PHENOMENA[name]
    texts = [pair["de"] for pair in corpus["train"]]
    assert share < sum(map(shows, texts)) / len(texts) < 0.6


# --- Too much asked --------------------------------------------------------------------------
def test_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match="validation=-1"):
        generate_corpus(train=10, validation=-1)
    with pytest.raises(ValueError, match=r"=10000000000800: the grammar has at most \d+"):
        generate_corpus(train=10**13)
    with pytest.raises(ValueError, match="test=1000000000000: the grammar has at most"):
        generate_corpus(train=10, test=10**12, disjoint_skeletons=True)


def test_all_sentences_can_be_drawn_and_not_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    skeleton = Skeleton("statement", (Shape("intransitive", "past", "they"),))
    size = skeleton.fillings().size
    monkeypatch.setattr(corpus_module, "all_skeletons", lambda: (skeleton,))
    monkeypatch.setattr(corpus_module, "_PATIENCE", 500)
    every = generate_corpus(train=size, validation=0, test=0)["train"]
    assert len({pair["en"] for pair in every}) == size
    with pytest.raises(ValueError, match=f"at most {size} "):
        generate_corpus(train=size + 1, validation=0, test=0)
    # Words of validation are limited to those of train, so that it ends before the grammar does.
    with pytest.raises(ValueError, match="validation=5: only"):
        generate_corpus(train=1, validation=5, test=0)


def test_unseen_sentences_are_new_and_of_known_words(corpus: Corpus) -> None:
    unseen = unseen_sentences(corpus, n=50)
    texts = {text for split in corpus.values() for pair in split for text in pair.values()}
    assert len({pair["en"] for pair in unseen}) == 50
    assert not texts & {text for pair in unseen for text in pair.values()}
    assert words_of(unseen) <= words_of(corpus["train"])
    assert unseen_sentences(corpus, n=50) == unseen
    assert unseen_sentences(corpus, n=50, seed=1) != unseen


def test_unseen_sentences_avoid_the_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    skeleton = Skeleton("statement", (Shape("intransitive", "past", "they"),))
    monkeypatch.setattr(corpus_module, "all_skeletons", lambda: (skeleton,))
    monkeypatch.setattr(corpus_module, "_PATIENCE", 500)
    every = generate_corpus(train=skeleton.fillings().size, validation=0, test=0)
    with pytest.raises(ValueError, match="n=1: only 0"):
        unseen_sentences(every, n=1)
