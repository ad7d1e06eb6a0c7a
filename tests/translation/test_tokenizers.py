"""Trained tokenizers: what they keep of a text, and that a folder gives them back."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from chts_hf.translation.tokenizers import (
    SPECIAL_TOKENS,
    TokenizerPair,
    train_tokenizer,
    train_tokenizers,
)

ENGLISH = [f"The {word} number {i} sees a house." for i in range(20) for word in ("man", "dog")]
NOUNS = ("Mann", "Hund")
GERMAN = [f"Der {word} Nummer {i} sieht ein Häuschen." for i in range(20) for word in NOUNS]
CORPUS = Dataset.from_list(
    [{"translation": {"en": en, "de": de}} for en, de in zip(ENGLISH, GERMAN, strict=True)]
)
TOKENIZER = train_tokenizer(ENGLISH + GERMAN, 320)


def test_special_tokens_and_size() -> None:
    assert [TOKENIZER.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3]
    names = (TOKENIZER.pad_token, TOKENIZER.eos_token, TOKENIZER.unk_token, TOKENIZER.bos_token)
    assert names == SPECIAL_TOKENS
    assert len(TOKENIZER) == 320
    assert len(train_tokenizer(["a b"], 5000)) < 5000  # no more pieces than the text has


def test_each_text_ends_in_one_end_token_even_when_cut() -> None:
    ids = TOKENIZER("The man sees", max_length=3, truncation=True)["input_ids"]
    assert len(ids) == 3
    assert ids[-1] == TOKENIZER.eos_token_id
    assert ids.count(TOKENIZER.eos_token_id) == 1


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30))
def test_any_text_comes_back(text: str) -> None:
    ids = TOKENIZER(text)["input_ids"]
    assert TOKENIZER.unk_token_id not in ids
    decoded = str(TOKENIZER.decode(ids, skip_special_tokens=True))
    assert decoded.strip() == unicodedata.normalize("NFC", text).strip()


def test_special_tokens_in_a_text_are_text() -> None:
    text = "a </s> b <pad> c"
    ids = TOKENIZER(text)["input_ids"]
    assert ids.count(TOKENIZER.eos_token_id) == 1
    assert TOKENIZER.pad_token_id not in ids
    assert str(TOKENIZER.decode(ids, skip_special_tokens=True)).strip() == text


def test_training_is_deterministic() -> None:
    # Hash maps of the trainer are seeded anew each time; ties must not follow their order.
    for _ in range(5):
        assert train_tokenizer(ENGLISH + GERMAN, 320).get_vocab() == TOKENIZER.get_vocab()


@pytest.mark.parametrize("joint", [True, False])
def test_one_folder_gives_both_sides_back(tmp_path: Path, joint: bool) -> None:
    pair = train_tokenizers(CORPUS, "en", "de", 300, joint)
    assert pair.joint is joint
    pair.save(tmp_path)
    loaded = TokenizerPair.load(tmp_path)
    assert loaded.joint is joint
    for before, after in ((pair.source, loaded.source), (pair.target, loaded.target)):
        assert after.get_vocab() == before.get_vocab()
        for text in ("Der Mann sieht </s> ☃.", ENGLISH[3]):
            assert after(text)["input_ids"] == before(text)["input_ids"]
        assert after.pad_token_id == before.pad_token_id
    assert loaded.source.get_vocab() == AutoTokenizer.from_pretrained(str(tmp_path)).get_vocab()
    assert (pair.source.get_vocab() == pair.target.get_vocab()) is joint


def test_encode_and_decode_a_corpus() -> None:
    pair = train_tokenizers(CORPUS, "en", "de", 300, joint=False)
    encoded = pair.encode(
        CORPUS, "en", "de", source_prefix="go: ", max_source_length=6, max_target_length=64
    )
    assert sorted(encoded.column_names) == ["attention_mask", "input_ids", "labels"]
    row = encoded[0]
    assert row["input_ids"] == pair.source("go: " + ENGLISH[0])["input_ids"][:5] + [1]
    assert row["labels"] == pair.target(GERMAN[0])["input_ids"]
    # What generation gives: a start token, the sentence, and what fills up the row.
    assert pair.decode([[0, *row["labels"], 0, -100, -100]]) == [GERMAN[0]]


def test_errors() -> None:
    with pytest.raises(ValueError, match="vocab_size is 100.*at least 260"):
        train_tokenizer(ENGLISH, 100)
    with pytest.raises(ValueError, match="no sentences"):
        train_tokenizer([], 300)
