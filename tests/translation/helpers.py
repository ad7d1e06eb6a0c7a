"""A toy language to translate: each English word is one German word, in reverse order."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import DataCollatorForSeq2Seq, PreTrainedModel

from chts_hf.translation.models import ModelSize, build_model
from chts_hf.translation.tokenizers import TokenizerPair, train_tokenizers
from chts_hf.translation.trainer import TranslationTrainer, TranslationTrainingArguments

_WORDS = {"cat": "Katze", "dog": "Hund", "old": "alt", "big": "groß", "sees": "sieht", "and": "und"}
SIZE = ModelSize(
    d_model=16, encoder_layers=1, decoder_layers=1, attention_heads=2, ffn_dim=32, dropout=0.0
)


def corpus(size: int, seed: int = 0) -> Dataset:
    """Sentences of one to nine words, so of very unequal lengths."""
    rng = random.Random(seed)
    rows = []
    for _ in range(size):
        words = rng.choices(list(_WORDS), k=rng.randint(1, 9))
        german = " ".join(_WORDS[word] for word in reversed(words))
        rows.append({"translation": {"en": " ".join(words), "de": german}})
    return Dataset.from_list(rows)


def pair() -> TokenizerPair:
    return train_tokenizers(corpus(100), "en", "de", 280)


def toy_trainer(
    folder: Path,
    *,
    model: PreTrainedModel | None = None,
    tokenizers: TokenizerPair | None = None,
    train: Dataset | None = None,
    evaluation: Dataset | None = None,
    compute_metrics: Any = None,
    callbacks: Any = None,
    **changes: Any,
) -> Any:
    """A :class:`TranslationTrainer` on the toy language; ``Any`` since tests look inside."""
    tokenizers = tokenizers or pair()
    model = model or build_model("marian", SIZE, tokenizers, max_length=24)
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 4,
        "learning_rate": 1e-2,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "generation_max_length": 24,
        "generation_num_beams": 1,
    }
    train = corpus(32) if train is None else train
    evaluation = corpus(10, seed=1) if evaluation is None else evaluation
    return TranslationTrainer(
        model=model,
        args=TranslationTrainingArguments(**settings | changes),
        tokenizers=tokenizers,
        train_dataset=tokenizers.encode(train, "en", "de"),
        eval_dataset=tokenizers.encode(evaluation, "en", "de"),
        data_collator=DataCollatorForSeq2Seq(tokenizers.source, model=model),
        compute_metrics=compute_metrics,
        callbacks=callbacks,
    )
