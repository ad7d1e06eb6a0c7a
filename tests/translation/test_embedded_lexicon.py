"""The words of the embedded corpus, and how they are combined."""

from __future__ import annotations

import re
from collections import Counter
from random import Random

import pytest

from chts_hf.translation.embedded.inflection import english
from chts_hf.translation.embedded.lexicon import (
    ADJECTIVES,
    ADVERBS,
    NUMERALS,
)
from chts_hf.translation.embedded.nouns import LOCATIONS, NOUNS
from chts_hf.translation.embedded.shapes import Shape, clauses
from chts_hf.translation.embedded.spaces import mixture, options, product, union
from chts_hf.translation.embedded.verbs import VERBS


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
