"""Translating sentences with a saved model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from chts_hf.translation.tokenizers import TokenizerPair


@torch.inference_mode()
def translate(
    model: PreTrainedModel,
    tokenizers: TokenizerPair,
    sentences: Sequence[str],
    *,
    num_beams: int = 4,
    max_length: int | None = None,
    batch_size: int = 32,
    source_prefix: str = "",
) -> list[str]:
    """Translate sentences by beam search.

    Args:
        model: an encoder-decoder model, on any device.
        tokenizers: its tokenizers.
        sentences: what to translate. Sentences longer than the model's positions are cut.
        num_beams: beams; 1 is greedy search.
        max_length: most tokens of a translation, the start token included; what the model's
            generation configuration says if not given.
        batch_size: sentences translated at once, those of like length together.
        source_prefix: written before each sentence, as T5 models want.

    Returns:
        One translation for each sentence, in their order.

    Example:
        >>> tokenizers = TokenizerPair.load("output/demo")
        >>> model = AutoModelForSeq2SeqLM.from_pretrained("output/demo")
        >>> translate(model, tokenizers, ["The cat sleeps."])
    """
    limits = {} if max_length is None else {"max_length": max_length}
    positions = getattr(model.config, "max_position_embeddings", None)
    cut = {"truncation": True, "max_length": positions} if positions else {}
    encoded = [tokenizers.source(source_prefix + sentence, **cut) for sentence in sentences]
    by_length = sorted(range(len(sentences)), key=lambda i: len(encoded[i]["input_ids"]))
    translations = [""] * len(sentences)
    generate: Any = model.generate
    was_training = model.training
    model.eval()
    for start in range(0, len(by_length), batch_size):
        chosen = by_length[start : start + batch_size]
        batch = tokenizers.source.pad(
            {key: [encoded[i][key] for i in chosen] for key in ("input_ids", "attention_mask")},
            return_tensors="pt",
        ).to(model.device)
        output = generate(**batch, num_beams=num_beams, **limits)
        for i, text in zip(chosen, tokenizers.decode(output.tolist()), strict=True):
            translations[i] = text
    model.train(was_training)
    return translations
