"""The embedded corpus: its splits, its phenomena, and what is too much asked."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
from sacrebleu.metrics.bleu import BLEU

from chts_hf.translation.embedded import corpus as corpus_module
from chts_hf.translation.embedded import generate_corpus, unseen_sentences
from chts_hf.translation.embedded.corpus import Corpus, draw_sentences, words_of
from chts_hf.translation.embedded.lexicon import (
    ADVERBS,
    NUMERALS,
)
from chts_hf.translation.embedded.nouns import NOUNS
from chts_hf.translation.embedded.shapes import Shape
from chts_hf.translation.embedded.skeletons import Skeleton, all_skeletons
from chts_hf.translation.embedded.verbs import VERBS
from tests.translation.embedded_words import (
    SIZES,
)


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
