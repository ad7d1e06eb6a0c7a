"""Encoder-decoder models from scratch: Marian, BART, Pegasus and T5 configurations by size."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    BartConfig,
    GenerationConfig,
    MarianConfig,
    PegasusConfig,
    PreTrainedConfig,
    PreTrainedModel,
    T5Config,
)

from chts_hf.translation.tokenizers import TokenizerPair

ARCHITECTURES = ("marian", "bart", "pegasus", "t5")


@dataclass(frozen=True)
class ModelSize:
    """The sizes of an encoder-decoder Transformer.

    Attributes:
        d_model: width of the residual stream.
        encoder_layers: number of encoder layers.
        decoder_layers: number of decoder layers.
        attention_heads: heads of every attention; they divide ``d_model``.
        ffn_dim: width of the feed-forward layers.
        dropout: on embeddings and sub-layer outputs (and, in T5, on what the next two are of).
        attention_dropout: on attention weights; without effect in T5.
        activation_dropout: behind the feed-forward layers' activation; without effect in T5.
        activation: of the feed-forward layers: ``"relu"``, ``"gelu"``, …; for T5 also
            ``"gated-gelu"`` (T5 v1.1).
        max_positions: longest sequence; without effect in T5, which has no limit.
    """

    d_model: int = 128
    encoder_layers: int = 2
    decoder_layers: int = 2
    attention_heads: int = 4
    ffn_dim: int = 512
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    activation: str = "relu"
    max_positions: int = 512

    def __post_init__(self) -> None:
        for name in (
            "d_model", "encoder_layers", "decoder_layers", "attention_heads", "ffn_dim",
            "max_positions",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.d_model % self.attention_heads:
            raise ValueError(
                f"d_model {self.d_model} is not divisible by attention_heads {self.attention_heads}"
            )
        for name in ("dropout", "attention_dropout", "activation_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be in [0, 1)")


def build_config(architecture: str, size: ModelSize, tokenizers: TokenizerPair) -> PreTrainedConfig:
    """Make the configuration of a model that is to be trained from scratch.

    Marian and BART are the Transformer of Vaswani et al. (2017) with layer norms after the
    residuals (Marian with sinusoidal, BART with learned positions); Pegasus (sinusoidal positions)
    and T5 (relative ones) have them before, which trains faster at these sizes and is what
    OpenNMT's Transformer does. Weights of all but T5 start from N(0, 1/d_model): then token
    embeddings, multiplied by sqrt(d_model), have the scale of the positions added to them, and
    square projections have Glorot's. T5 keeps the initialisation it was published with.

    Args:
        architecture: one of :data:`ARCHITECTURES`.
        size: the sizes.
        tokenizers: of both sides. Two vocabularies need "marian"; target embeddings are then tied
            to the output layer, and source embeddings stand alone.

    Raises:
        ValueError: an unknown architecture, separate vocabularies with one that shares them, or
            a T5 whose decoder is deeper than its encoder.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture is {architecture!r}; it must be one of {ARCHITECTURES}")
    if not tokenizers.joint and architecture != "marian":
        raise ValueError(
            f"architecture {architecture!r} has one embedding for both languages, so it needs a "
            "joint vocabulary; only 'marian' can have one vocabulary for each side"
        )
    if architecture == "t5" and size.decoder_layers > size.encoder_layers:
        # Generation sizes T5's cache by the encoder's layers and fails in the layer after them.
        raise ValueError(
            f"decoder_layers is {size.decoder_layers} and encoder_layers {size.encoder_layers}; "
            "transformers cannot generate from a t5 with more decoder than encoder layers"
        )
    target = tokenizers.target
    ids = {
        "pad_token_id": target.pad_token_id,
        "eos_token_id": target.eos_token_id,
        "bos_token_id": target.bos_token_id,
        "vocab_size": len(tokenizers.source),
        "tie_word_embeddings": True,
    }
    if architecture == "t5":
        return T5Config(
            d_model=size.d_model,
            d_kv=size.d_model // size.attention_heads,
            d_ff=size.ffn_dim,
            num_layers=size.encoder_layers,
            num_decoder_layers=size.decoder_layers,
            num_heads=size.attention_heads,
            dropout_rate=size.dropout,
            feed_forward_proj=size.activation,
            **{"decoder_start_token_id": target.pad_token_id},
            **ids,
        )
    sizes = {
        "d_model": size.d_model,
        "encoder_layers": size.encoder_layers,
        "decoder_layers": size.decoder_layers,
        "encoder_attention_heads": size.attention_heads,
        "decoder_attention_heads": size.attention_heads,
        "encoder_ffn_dim": size.ffn_dim,
        "decoder_ffn_dim": size.ffn_dim,
        "dropout": size.dropout,
        "attention_dropout": size.attention_dropout,
        "activation_dropout": size.activation_dropout,
        "activation_function": size.activation,
        "max_position_embeddings": size.max_positions,
        "scale_embedding": True,
        "init_std": size.d_model**-0.5,
        "forced_eos_token_id": target.eos_token_id,
    }
    if architecture == "bart":
        return BartConfig(decoder_start_token_id=target.eos_token_id, **sizes, **ids)
    if architecture == "pegasus":
        return PegasusConfig(decoder_start_token_id=target.pad_token_id, **sizes, **ids)
    return MarianConfig(
        decoder_vocab_size=len(target),
        share_encoder_decoder_embeddings=tokenizers.joint,
        decoder_start_token_id=target.pad_token_id,
        **sizes,
        **ids,
    )


def build_model(
    architecture: str,
    size: ModelSize,
    tokenizers: TokenizerPair,
    *,
    seed: int = 0,
    max_length: int = 128,
) -> PreTrainedModel:
    """Initialise a model; the same seed gives the same weights, and the global RNG is left alone.

    Args:
        architecture: one of :data:`ARCHITECTURES`.
        size: the sizes.
        tokenizers: of both sides.
        seed: of the initial weights.
        max_length: most tokens of a translation, for the model's generation configuration (which
            transformers would otherwise set to 20).

    Returns:
        A model on the CPU whose generation configuration is complete: special tokens, length,
        and the tokens that are never to be generated (padding, begin, unknown), whose scores
        training says nothing about.
    """
    config = build_config(architecture, size, tokenizers)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForSeq2SeqLM.from_config(config)
    target = tokenizers.target
    model.generation_config = GenerationConfig(
        max_length=max_length,
        pad_token_id=target.pad_token_id,
        eos_token_id=target.eos_token_id,
        bos_token_id=target.bos_token_id,
        decoder_start_token_id=config.decoder_start_token_id,
        forced_eos_token_id=target.eos_token_id,
        suppress_tokens=[target.pad_token_id, target.bos_token_id, target.unk_token_id],
    )
    return model
