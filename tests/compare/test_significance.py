"""Paired tests on sentence statistics: hand-checked, and sacreBLEU's own on text."""

from __future__ import annotations

import random

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import PairedTest

from chts_hf.compare import significance


def _texts(seed: int, noise: float) -> tuple[list[str], list[str]]:
    """Translations of a hundred sentences, some of whose words are wrong, and the references."""
    rng, words = random.Random(0), ["a", "b", "c", "d", "e", "f", "g"]
    references = [" ".join(rng.choices(words, k=rng.randint(4, 12))) for _ in range(100)]
    rng = random.Random(seed)
    wrong = [[w if rng.random() > noise else "x" for w in text.split()] for text in references]
    return [" ".join(text) for text in wrong], references


def test_statistics_by_hand() -> None:
    # a b, b c match as pairs and a b c as a triple; the fourth word does not match.
    (row,) = significance.sentence_statistics(["a b c x"], ["a b c d e"]).tolist()
    assert row == [4, 5, 3, 2, 1, 0, 4, 3, 2, 1]
    with pytest.raises(ValueError, match="1 translations and 2 references"):
        significance.sentence_statistics(["a"], ["a", "b"])


def test_statistics_as_text() -> None:
    short = [(["a", "", "a b c"], ["a b", "c", "a b c d e f"]), _texts(1, 0.3)]
    for translations, references in short:
        statistics = significance.sentence_statistics(translations, references)
        text = significance.encode_statistics(statistics)
        assert (significance.decode_statistics(text) == statistics).all()
        expected = BLEU().corpus_score(translations, [references]).score
        assert significance.bleu_of(statistics) == pytest.approx(expected, abs=1e-12)
    assert len(text) < 600
    with pytest.raises(ValueError, match="70000 words"):
        significance.encode_statistics(np.full((1, 10), 70000))


def test_a_pool_is_all_seeds_as_one_text() -> None:
    (first, references), (second, _) = _texts(1, 0.3), _texts(2, 0.4)
    rows = [significance.sentence_statistics(texts, references) for texts in (first, second)]
    expected = BLEU().corpus_score(first + second, [references + references]).score
    assert significance.bleu_of(significance.pool(rows)) == pytest.approx(expected, abs=1e-12)
    other = rows[0].copy()
    other[3, 1] += 1
    with pytest.raises(ValueError, match="different test sets"):
        significance.pool([rows[0], other])
    with pytest.raises(ValueError, match="no run"):
        significance.pool([])


def test_the_tests_are_sacrebleus() -> None:
    (system, references), (other, _) = _texts(1, 0.25), _texts(2, 0.3)
    result = significance.compare(
        significance.sentence_statistics(system, references),
        significance.sentence_statistics(other, references),
        resamples=200,
        trials=300,
    )
    named = [("other", other), ("system", system)]
    for kind, samples, p in (
        ("bs", 200, result.p_bootstrap),
        ("ar", 300, result.p_randomization),
    ):
        test = PairedTest(named, {"BLEU": BLEU()}, [references], kind, samples)
        expected = test()[1]["BLEU"][1]
        assert not isinstance(expected, str)
        assert p == expected.p_value
        assert result.bleu == expected.score
    assert 0.01 < result.p_randomization < 1
    assert result.difference == result.bleu - result.other


def test_a_system_against_itself_and_against_a_far_worse_one() -> None:
    system, references = _texts(1, 0.1)
    statistics = significance.sentence_statistics(system, references)
    same = significance.compare(statistics, statistics, resamples=50, trials=50)
    assert same.difference == 0
    assert same.bleu == same.other == significance.bleu_of(statistics)
    assert same.p_bootstrap == same.p_randomization == 1
    worse, _ = _texts(2, 0.6)
    far = significance.compare(
        statistics, significance.sentence_statistics(worse, references), resamples=99, trials=99
    )
    assert far.difference > 20
    assert far.p_bootstrap == far.p_randomization == 1 / 100


def test_systems_that_are_all_but_the_same_do_not_differ() -> None:
    system, references = _texts(1, 0.2)
    statistics = significance.sentence_statistics(system, references)
    for k, p in ((1, 1.0), (2, 0.5), (4, 0.125)):
        # k sentences were perfect in the other system. Of the 2^k ways to swap them just two, all
        # and none, give a difference as large as the one that was found.
        other = statistics.copy()
        wrong = np.flatnonzero(statistics[:, 2] < statistics[:, 0])[:k]
        other[wrong] = significance.sentence_statistics(
            [references[i] for i in wrong], [references[i] for i in wrong]
        )
        result = significance.compare(other, statistics, resamples=20, trials=200)
        assert result.difference > 0
        assert result.p_randomization == p


def test_other_references_are_refused() -> None:
    system, references = _texts(1, 0.1)
    statistics = significance.sentence_statistics(system, references)
    other = statistics.copy()
    other[[3, 7], 1] += 2
    words = statistics[3, 1]
    with pytest.raises(
        ValueError, match=f"2 of 100 references .* sentence 4, of {words} and of {words + 2} words"
    ):
        significance.compare(statistics, other)
    with pytest.raises(ValueError, match="100 sentences and of 99"):
        significance.compare(statistics, statistics[:-1])
