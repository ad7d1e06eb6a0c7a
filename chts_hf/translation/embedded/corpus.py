"""Draw a corpus from the grammar: unique pairs, in disjoint splits, the same for the same seed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from chts_hf.translation.embedded.grammar import Clause
from chts_hf.translation.embedded.inflection import NounPhrase
from chts_hf.translation.embedded.skeletons import (
    FRAME_WEIGHTS,
    KIND_WEIGHTS,
    SEPARABLE_WEIGHTS,
    Skeleton,
    all_skeletons,
    render,
)
from chts_hf.translation.embedded.words import Pronoun

Pair = dict[str, str]
Corpus = dict[str, list[Pair]]
_Bucket = tuple[str, str, bool]

# With disjoint skeletons, the share of them that validation and test get each, of every bucket.
_HELD_OUT = 0.1
# Draws in a row without a usable sentence after which none is believed to be left.
_PATIENCE = 20_000


@dataclass(frozen=True)
class Sentence:
    """A sentence in both languages and the skeleton it was made from."""

    skeleton: Skeleton
    en: str
    de: str

    @property
    def pair(self) -> Pair:
        """The texts alone."""
        return {"en": self.en, "de": self.de}


def generate_corpus(
    seed: int = 0,
    train: int = 12_000,
    validation: int = 400,
    test: int = 400,
    disjoint_skeletons: bool = False,
) -> Corpus:
    """Draw an English–German corpus from the embedded grammar.

    The splits share no English and no German sentence, and every word of validation and test (in
    the same spelling, capitals included) is in train. The same arguments give the same corpus on
    every machine.

    Args:
        seed: seed of every choice.
        train: number of pairs in train.
        validation: number of pairs in validation.
        test: number of pairs in test.
        disjoint_skeletons: also give each split its own sentence skeletons (kind of sentence, and
            for each clause its verb's complements, tense, negation, forms of the noun phrases and
            place of adjective and adverb), so that test asks for new combinations of features.

    Returns:
        ``{"train": [{"en": …, "de": …}, …], "validation": […], "test": […]}``.

    Raises:
        ValueError: if a size is negative, if more sentences are asked for than the grammar has,
            or if train is too small to hold the words of validation and test.

    Example:
        >>> corpus = generate_corpus(seed=0, train=1000, validation=10, test=10)
        >>> sorted(corpus["test"][0])
        ['de', 'en']
    """
    sizes = {"train": train, "validation": validation, "test": test}
    sentences = draw_sentences(seed, sizes, disjoint_skeletons)
    return {name: [one.pair for one in split] for name, split in sentences.items()}


def unseen_sentences(corpus: Mapping[str, Sequence[Pair]], n: int = 3, seed: int = 0) -> list[Pair]:
    """Draw sentences that are in no split of a corpus, but whose words are all in its train split.

    Args:
        corpus: what :func:`generate_corpus` returned.
        n: number of pairs.
        seed: seed of the choice.

    Returns:
        ``n`` pairs as in the corpus.

    Raises:
        ValueError: if there are not ``n`` such sentences.

    Example:
        >>> corpus = generate_corpus(seed=0, train=1000, validation=10, test=10)
        >>> len(unseen_sentences(corpus, n=3))
        3
    """
    taken = {text for split in corpus.values() for pair in split for text in pair.values()}
    source = _Source(all_skeletons(), Random(f"unseen {seed}"))
    return [one.pair for one in _take(source, n, "n", taken, words_of(corpus["train"]))]


def words_of(pairs: Sequence[Pair]) -> set[str]:
    """Return the words of both languages in the pairs, as they are spelt, without punctuation."""
    return {word for pair in pairs for text in pair.values() for word in re.findall(r"\w+", text)}


def draw_sentences(
    seed: int, sizes: Mapping[str, int], disjoint_skeletons: bool
) -> dict[str, list[Sentence]]:
    """Draw the splits named in ``sizes``, the first of which sets the words of the others.

    See :func:`generate_corpus`, which is this with only the texts kept.
    """
    for name, size in sizes.items():
        if size < 0:
            raise ValueError(f"{name}={size}: the number of pairs must be 0 or more")
    rng = Random(seed)
    if disjoint_skeletons:
        pools = _deal(all_skeletons(), list(sizes), rng)
        for name, size in sizes.items():
            _require(pools[name], size, name)
        sources = {name: _Source(pool, rng) for name, pool in pools.items()}
    else:
        _require(all_skeletons(), sum(sizes.values()), " + ".join(sizes))
        sources = dict.fromkeys(sizes, _Source(all_skeletons(), rng))
    splits: dict[str, list[Sentence]] = {}
    taken: set[str] = set()
    vocabulary: set[str] | None = None
    for name, size in sizes.items():
        splits[name] = _take(sources[name], size, name, taken, vocabulary)
        if vocabulary is None:
            vocabulary = words_of([one.pair for one in splits[name]])
    return splits


class _Source:
    """Draws sentences from skeletons: first the kind, then the frame, by their weights."""

    def __init__(self, skeletons: Sequence[Skeleton], rng: Random) -> None:
        self.rng = rng
        buckets = _buckets(skeletons)
        self.buckets = list(buckets.values())
        self.weights = _weights(buckets)

    def draw(self) -> Sentence | None:
        """Return a sentence, or None if the draw made no good one."""
        (bucket,) = self.rng.choices(self.buckets, self.weights)
        skeleton = self.rng.choice(bucket)
        fillings = skeleton.fillings()
        if not fillings.size:
            return None
        filled = fillings.draw(self.rng)
        if not _reads_well(filled):
            return None
        return Sentence(skeleton, *render(skeleton.kind, filled))


def _buckets(skeletons: Sequence[Skeleton]) -> dict[_Bucket, list[Skeleton]]:
    buckets: dict[_Bucket, list[Skeleton]] = {}
    for skeleton in skeletons:
        buckets.setdefault(skeleton.bucket, []).append(skeleton)
    return buckets


def _weights(buckets: Iterable[_Bucket]) -> list[float]:
    """Return each bucket's share: its kind's, divided among the frames that the kind has."""
    totals: dict[str, int] = {}
    relative: list[tuple[str, int]] = []
    for kind, frame, separable in buckets:
        weight = (SEPARABLE_WEIGHTS if separable else FRAME_WEIGHTS)[frame]
        totals[kind] = totals.get(kind, 0) + weight
        relative.append((kind, weight))
    return [KIND_WEIGHTS[kind] * weight / totals[kind] for kind, weight in relative]


def _reads_well(filled: Sequence[Clause]) -> bool:
    """Whether no noun comes twice, and no "she" could be taken for "das Mädchen"."""
    phrases = [
        phrase
        for clause in filled
        for phrase in (
            clause.subject,
            clause.dative,
            clause.accusative,
            clause.place and clause.place.phrase,
        )
    ]
    nouns = [phrase.noun for phrase in phrases if isinstance(phrase, NounPhrase)]
    if len(set(nouns)) < len(nouns):
        return False
    pronoun = any(isinstance(one, Pronoun) and not one.plural and not one.asks for one in phrases)
    return not (
        len(filled) > 1 and pronoun and any(n.gender == "n" and n.is_any("person") for n in nouns)
    )


def _take(
    source: _Source, size: int, name: str, taken: set[str], vocabulary: set[str] | None
) -> list[Sentence]:
    """Draw ``size`` new sentences with words of the vocabulary; add their texts to ``taken``."""
    found: list[Sentence] = []
    failures = 0
    while len(found) < size:
        one = source.draw()
        if (
            one is not None
            and taken.isdisjoint(one.pair.values())
            and (vocabulary is None or words_of([one.pair]) <= vocabulary)
        ):
            found.append(one)
            taken.update(one.pair.values())
            failures = 0
            continue
        failures += 1
        if failures == _PATIENCE:
            raise ValueError(
                f"{name}={size}: only {len(found)} such sentences were found; ask for fewer, or "
                "for a larger train, whose words the other splits are limited to"
            )
    return found


def _deal(
    skeletons: Sequence[Skeleton], names: Sequence[str], rng: Random
) -> dict[str, list[Skeleton]]:
    """Deal every bucket out: a share to each split but the first, which gets the rest."""
    pools: dict[str, list[Skeleton]] = {name: [] for name in names}
    for bucket in _buckets(skeletons).values():
        rng.shuffle(bucket)
        share = max(1, round(_HELD_OUT * len(bucket)))
        for name in names[1:]:
            pools[name] += bucket[:share]
            bucket = bucket[share:]
        pools[names[0]] += bucket
    return pools


def _require(skeletons: Sequence[Skeleton], count: int, name: str) -> None:
    """Raise ValueError if the skeletons have fewer than ``count`` sentences."""
    available = 0
    for skeleton in skeletons:
        if available >= count:
            return
        available += skeleton.size
    if available < count:
        raise ValueError(
            f"{name}={count}: the grammar has at most {available} such sentences; ask for fewer"
        )
