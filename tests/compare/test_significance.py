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


def test_bleu_is_sacrebleus_also_without_matches() -> None:
    references = ["a b c d e f", "g h i j k"]
    for texts in (
        ["a b x d e", "g h x"],  # no four words in a row, none of three
        ["a x c x e x", "x"],  # single words alone
        ["x y z x y z", "y"],  # none
        ["a b c", "g h"],  # too short for four
        ["", ""],
    ):
        found = significance.bleu_of(significance.sentence_statistics(texts, references))
        expected = BLEU().corpus_score(texts, [references]).score
        assert found == pytest.approx(expected, abs=1e-9), texts


def test_seeds_stand_side_by_side_and_their_bleu_is_the_mean() -> None:
    (first, references), (second, _) = _texts(1, 0.3), _texts(2, 0.4)
    rows = [significance.sentence_statistics(texts, references) for texts in (first, second)]
    both = significance.side_by_side(rows)
    assert both.shape == (100, 20)
    scores = [BLEU().corpus_score(texts, [references]).score for texts in (first, second)]
    assert significance.bleu_of(both) == pytest.approx(sum(scores) / 2, abs=1e-12)
    other = rows[0].copy()
    other[3, 1] += 1
    with pytest.raises(ValueError, match="different test sets"):
        significance.side_by_side([rows[0], other])
    with pytest.raises(ValueError, match="no run"):
        significance.side_by_side([])


def test_one_seeds_length_does_not_make_up_for_anothers_brevity() -> None:
    _, references = _texts(0, 0.0)
    texts = [
        [" ".join(text.split()[:-1]) for text in references],  # one word short
        [f"{text} x" for text in references],  # one word long
    ]
    seeds = [significance.sentence_statistics(those, references) for those in texts]
    apart = [significance.bleu_of(one) for one in seeds]
    result = significance.compare(
        significance.side_by_side(seeds), significance.side_by_side(seeds[::-1])
    )
    assert result.bleu == result.other == pytest.approx(sum(apart) / 2, abs=1e-12)
    # As one text, what is missing in the first would be there in the second.
    assert significance.bleu_of(sum(seeds)) > result.bleu + 1


def test_several_seeds_are_drawn_and_swapped_together() -> None:
    """Both p, from their definitions, of the mean over two seeds."""
    systems = [_texts(seed, noise) for seed, noise in ((1, 0.25), (2, 0.3), (3, 0.28), (4, 0.3))]
    rows = [significance.sentence_statistics(*texts) for texts in systems]
    ours, others = rows[:2], rows[2:]

    def mean_bleu(runs: list[np.ndarray]) -> float:
        return float(np.mean([significance.bleu_of(run) for run in runs]))

    result = significance.compare(
        significance.side_by_side(ours),
        significance.side_by_side(others),
        resamples=200,
        trials=300,
    )
    found = mean_bleu(ours) - mean_bleu(others)
    assert result.difference == pytest.approx(found, abs=1e-12)
    draws = np.random.default_rng(12345).choice(100, size=(200, 100), replace=True)
    resampled = np.array([
        abs(mean_bleu([run[draw] for run in ours]) - mean_bleu([run[draw] for run in others]))
        for draw in draws
    ])  # fmt: skip
    larger = int((resampled - resampled.mean() > abs(found)).sum())
    assert result.p_bootstrap == (larger + 1) / 201
    swaps = np.random.default_rng(12345).integers(2, size=(300, 100), dtype=bool)[:, :, None]
    larger = 0
    for swap in swaps:
        one = [np.where(swap, b, a) for a, b in zip(ours, others, strict=True)]
        two = [np.where(swap, a, b) for a, b in zip(ours, others, strict=True)]
        larger += abs(mean_bleu(one) - mean_bleu(two)) > abs(found)
    assert result.p_randomization == (larger + 1) / 301
    assert 0.01 < result.p_randomization < 1


def test_of_no_difference_the_bootstraps_p_is_0_43() -> None:
    """It counts |d*| - mean |d*| > |d|: of a normal d* about 0, P(|z| > E |z|) = 0.425."""
    (first, references), (second, _) = _texts(1, 0.3), _texts(2, 0.3)
    one = significance.sentence_statistics(first + second, references * 2)
    other = significance.sentence_statistics(second + first, references * 2)
    result = significance.compare(one, other, trials=500)
    assert result.difference == 0
    assert result.p_bootstrap == pytest.approx(0.425, abs=0.05)
    assert result.p_randomization > 0.98


def test_holms_correction_by_hand() -> None:
    assert significance.holm([0.04, 0.01, 0.03]) == [0.06, 0.03, 0.06]
    assert significance.holm([0.5, 0.9]) == [1.0, 1.0]
    assert significance.holm([0.02]) == [0.02]
    assert significance.holm([]) == []


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
    several = significance.side_by_side([statistics, statistics])
    with pytest.raises(ValueError, match="as many seeds of both, not 1 and 2"):
        significance.compare(statistics, several)
    later = several.copy()
    later[3, 11] += 1  # the second seed's
    with pytest.raises(ValueError, match="1 of 100 references .* sentence 4"):
        significance.compare(several, later)
