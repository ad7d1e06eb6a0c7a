"""Translating with a saved model."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoModelForSeq2SeqLM

from chts_hf.translation.inference import translate
from chts_hf.translation.models import build_model
from chts_hf.translation.tokenizers import TokenizerPair
from tests.translation.helpers import SIZE, corpus, pair, toy_trainer


def test_a_trained_model_translates_after_a_round_trip(tmp_path: Path) -> None:
    trainer = toy_trainer(
        tmp_path,
        train=corpus(200),
        max_steps=150,
        per_device_train_batch_size=32,
        lr_scheduler_type="cosine",
    )
    trainer.train()
    trainer.save_model()
    tokenizers = TokenizerPair.load(tmp_path)
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    rows = [row["translation"] for row in corpus(200) if len(row["translation"]["en"].split()) < 3]
    sentences = [row["en"] for row in rows][:12]
    translations = translate(model, tokenizers, sentences, num_beams=2, batch_size=5)
    before = translate(trainer.model, trainer.tokenizers, sentences, num_beams=2)
    assert translations == before
    right = sum(t == row["de"] for t, row in zip(translations, rows, strict=False))
    assert right >= 6, list(zip(sentences, translations, strict=True))


def test_neither_batch_nor_order_changes_a_translation() -> None:
    tokenizers = pair()
    model = build_model("marian", SIZE, tokenizers, max_length=12).train()
    sentences = [row["translation"]["en"] for row in corpus(7)] + [""]
    one_by_one = translate(model, tokenizers, sentences, num_beams=2, batch_size=1)
    assert translate(model, tokenizers, sentences, num_beams=2, batch_size=3) == one_by_one
    assert translate(model, tokenizers, sentences[::-1], num_beams=2) == one_by_one[::-1]
    assert model.training  # as it was before
    short = translate(model, tokenizers, sentences[:1], num_beams=2, max_length=4)
    assert len(short[0]) < len(one_by_one[0])


def test_a_sentence_beyond_the_positions_is_cut() -> None:
    tokenizers = pair()
    model = build_model("marian", SIZE, tokenizers, max_length=5)
    assert len(translate(model, tokenizers, ["cat " * 2000], num_beams=1)) == 1
