"""Corpora that several test files look at, generated once."""

from __future__ import annotations

import pytest

from chts_hf.translation.embedded import generate_corpus
from chts_hf.translation.embedded.corpus import Corpus
from tests.translation.embedded_words import SIZES


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    return generate_corpus(seed=0, **SIZES)


@pytest.fixture(scope="session")
def plenty() -> list[dict[str, str]]:
    """Enough sentences for every word and every oddity to show itself."""
    return generate_corpus(seed=3, train=6000, validation=0, test=0)["train"]
