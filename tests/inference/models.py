"""Tiny encoder-decoders with zeros in them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from chts_hf import find_targets
from tests.builders import VOCABULARY, tiny_marian


def tiny_t5(**changes: object) -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    settings = {
        "d_model": 16,
        "d_kv": 4,
        "d_ff": 32,
        "num_layers": 2,
        "num_heads": 4,
        "vocab_size": VOCABULARY,
        "decoder_start_token_id": 0,
        # The usual scale makes so small a model repeat one token whatever it multiplies.
        "initializer_factor": 2.0,
    }
    return T5ForConditionalGeneration(T5Config(**settings | changes))


def tiny_bart(**changes: object) -> BartForConditionalGeneration:
    torch.manual_seed(0)
    settings = tiny_marian(encoder_layers=2, decoder_layers=2).config.to_dict() | {"init_std": 0.3}
    names = ("vocab_size", "d_model", "init_std", "max_position_embeddings", "dropout")
    tokens = ("pad_token_id", "eos_token_id", "bos_token_id", "decoder_start_token_id")
    sides = [
        f"{side}_{name}"
        for side in ("encoder", "decoder")
        for name in ("layers", "attention_heads", "ffn_dim")
    ]
    kept = {name: settings[name] for name in (*names, *tokens, *sides)}
    return BartForConditionalGeneration(
        BartConfig(**kept | {"forced_eos_token_id": None} | changes)
    )


SEQ2SEQ: dict[str, Callable[[], PreTrainedModel]] = {
    "marian": lambda: tiny_marian(init_std=0.3, encoder_layers=2, decoder_layers=2),
    "bart": tiny_bart,
    "t5": tiny_t5,
    "t5_gated": lambda: tiny_t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
}


def sparsify(model: nn.Module, sparsity: float = 0.8, seed: int = 0) -> None:
    """Put zeros at random places of the target layers; biases become unequal to zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for target in find_targets(model):
            shape = target.weight.shape
            target.weight.mul_(torch.rand(shape, generator=generator) >= sparsity)
        for name, parameter in model.named_parameters():
            if name.endswith(".bias"):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def sentences() -> dict[str, torch.Tensor]:
    """A padded batch of two."""
    ids = torch.tensor([[5, 9, 17, 33, 8, 40, 1], [12, 7, 21, 1, 0, 0, 0]])
    return {"input_ids": ids, "attention_mask": ids.ne(0).long()}
