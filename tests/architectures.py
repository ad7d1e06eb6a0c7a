"""One tiny randomly initialised model of every architecture that targets must be right for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers as hf
from torch import nn

VOCABULARY = 48
WIDTH = 16
IDS = torch.arange(3, 19).reshape(2, 8)

_TOKENS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1, "decoder_start_token_id": 0}
_BART: dict[str, Any] = {
    "d_model": WIDTH,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    **_TOKENS,
}
_T5: dict[str, Any] = {
    "d_model": WIDTH,
    "d_kv": 4,
    "d_ff": 32,
    "num_layers": 1,
    "num_decoder_layers": 1,
    "num_heads": 4,
    "vocab_size": VOCABULARY,
    "decoder_start_token_id": 0,
}
_BERT: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 32,
}
_GPT2: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "n_embd": WIDTH,
    "n_layer": 1,
    "n_head": 4,
    "n_positions": 32,
    "bos_token_id": 2,
    "eos_token_id": 1,
}
_GROUPED: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    **_BERT,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 1,
}

# Kinds of one encoder layer and one decoder layer, and of a layer without cross-attention.
_ATTENTION = {"q": 1, "k": 1, "v": 1, "o": 1}
SEQ2SEQ = {f"self_attn.{r}": 2 for r in _ATTENTION} | {f"cross_attn.{r}": 1 for r in _ATTENTION}
PLAIN_FFN = {"ffn.up": 2, "ffn.down": 2}
GATED_FFN = PLAIN_FFN | {"ffn.gate": 2}
ONE_LAYER = {f"self_attn.{r}": 1 for r in _ATTENTION} | {"ffn.up": 1, "ffn.down": 1}
FUSED = {"self_attn.fused": 1, "self_attn.o": 1, "ffn.up": 1, "ffn.down": 1}


@dataclass(frozen=True)
class Architecture:
    """A model and what must be found in it.

    Attributes:
        build: makes the model.
        kinds: how many targets of each kind.
        dense: the linear layers that are no target.
        pairs: how many pairs of targets share neurons.
        grouped: how many of those pair grouped heads.
        inputs: what a forward pass with a loss takes.
    """

    build: Callable[[], nn.Module]
    kinds: dict[str, int]
    dense: tuple[str, ...]
    pairs: int
    grouped: int = 0
    inputs: dict[str, Any] = field(default_factory=lambda: {"input_ids": IDS, "labels": IDS})


def _bart_like(model: str, config: str, **changes: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        settings = {"vocab_size": VOCABULARY, "max_position_embeddings": 32, **_BART, **changes}
        settings = {name: value for name, value in settings.items() if value is not _LEFT_OUT}
        return getattr(hf, model)(getattr(hf, config)(**settings))

    return build


_LEFT_OUT = object()


def _t5_like(model: str, config: str, **changes: Any) -> Callable[[], nn.Module]:
    return lambda: getattr(hf, model)(getattr(hf, config)(**_T5, **changes))


def _prophetnet() -> nn.Module:
    return hf.ProphetNetForConditionalGeneration(
        hf.ProphetNetConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            num_encoder_layers=1,
            num_decoder_layers=1,
            num_encoder_attention_heads=4,
            num_decoder_attention_heads=4,
            max_position_embeddings=32,
            **_TOKENS,
        )
    )


def _bert_gpt2() -> nn.Module:
    parts = hf.EncoderDecoderConfig.from_encoder_decoder_configs(
        hf.BertConfig(vocab_size=VOCABULARY, **_BERT), hf.GPT2Config(**_GPT2)
    )
    parts.decoder_start_token_id, parts.pad_token_id = 0, 0
    return hf.EncoderDecoderModel(config=parts)


def _t5_gemma() -> nn.Module:
    encoder = hf.T5GemmaModuleConfig(**_GROUPED)
    decoder = hf.T5GemmaModuleConfig(**_GROUPED, cross_attention_hidden_size=WIDTH)
    return hf.T5GemmaForConditionalGeneration(
        hf.T5GemmaConfig(encoder=encoder, decoder=decoder, vocab_size=VOCABULARY)
    )


def _seamless() -> nn.Module:
    settings = {name: value for name, value in _BART.items() if name != "d_model"}
    return hf.SeamlessM4TForTextToText(
        hf.SeamlessM4TConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            max_position_embeddings=32,
            speech_encoder_layers=1,
            t2u_encoder_layers=1,
            t2u_decoder_layers=1,
            **settings,
        )
    )


def _causal(name: str) -> Callable[[], nn.Module]:
    return lambda: getattr(hf, f"{name}ForCausalLM")(getattr(hf, f"{name}Config")(**_GROUPED))


ARCHITECTURES = {
    "T5": Architecture(
        _t5_like("T5ForConditionalGeneration", "T5Config"), SEQ2SEQ | PLAIN_FFN, ("lm_head",), 8
    ),
    "T5 v1.1": Architecture(
        _t5_like(
            "T5ForConditionalGeneration",
            "T5Config",
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
        ),
        SEQ2SEQ | GATED_FFN,
        ("lm_head",),
        12,
    ),
    "mT5": Architecture(
        _t5_like("MT5ForConditionalGeneration", "MT5Config"), SEQ2SEQ | GATED_FFN, ("lm_head",), 12
    ),
    "UMT5": Architecture(
        _t5_like("UMT5ForConditionalGeneration", "UMT5Config"),
        SEQ2SEQ | GATED_FFN,
        ("lm_head",),
        12,
    ),
    "LongT5": Architecture(
        _t5_like("LongT5ForConditionalGeneration", "LongT5Config"),
        SEQ2SEQ | PLAIN_FFN,
        ("lm_head",),
        8,
    ),
    "SwitchTransformers": Architecture(
        _t5_like(
            "SwitchTransformersForConditionalGeneration",
            "SwitchTransformersConfig",
            num_sparse_encoder_layers=1,
            num_sparse_decoder_layers=1,
            num_experts=2,
        ),
        SEQ2SEQ | {"ffn.up": 4, "ffn.down": 4},
        (
            "encoder.block.0.layer.1.mlp.router.classifier",
            "decoder.block.0.layer.2.mlp.router.classifier",
            "lm_head",
        ),
        10,
    ),
    "BART": Architecture(
        _bart_like("BartForConditionalGeneration", "BartConfig"),
        SEQ2SEQ | PLAIN_FFN,
        ("lm_head",),
        8,
    ),
    "mBART": Architecture(
        _bart_like("MBartForConditionalGeneration", "MBartConfig"),
        SEQ2SEQ | PLAIN_FFN,
        ("lm_head",),
        8,
    ),
    "Marian": Architecture(
        _bart_like("MarianMTModel", "MarianConfig"), SEQ2SEQ | PLAIN_FFN, ("lm_head",), 8
    ),
    "M2M100": Architecture(
        _bart_like("M2M100ForConditionalGeneration", "M2M100Config"),
        SEQ2SEQ | PLAIN_FFN,
        ("lm_head",),
        8,
    ),
    "Pegasus": Architecture(
        _bart_like("PegasusForConditionalGeneration", "PegasusConfig"),
        SEQ2SEQ | PLAIN_FFN,
        ("lm_head",),
        8,
    ),
    "Blenderbot": Architecture(
        _bart_like("BlenderbotForConditionalGeneration", "BlenderbotConfig"),
        SEQ2SEQ | PLAIN_FFN,
        ("lm_head",),
        8,
    ),
    "PLBart": Architecture(
        _bart_like("PLBartForConditionalGeneration", "PLBartConfig"),
        SEQ2SEQ | PLAIN_FFN,
        ("lm_head",),
        8,
    ),
    "FSMT": Architecture(
        _bart_like(
            "FSMTForConditionalGeneration",
            "FSMTConfig",
            vocab_size=_LEFT_OUT,
            langs=["en", "de"],
            src_vocab_size=VOCABULARY,
            tgt_vocab_size=VOCABULARY,
        ),
        SEQ2SEQ | PLAIN_FFN,
        ("model.decoder.output_projection",),
        8,
    ),
    "BigBirdPegasus": Architecture(
        _bart_like(
            "BigBirdPegasusForConditionalGeneration",
            "BigBirdPegasusConfig",
            attention_type="original_full",
        ),
        SEQ2SEQ | PLAIN_FFN,
        ("lm_head",),
        8,
    ),
    # Local and global projections feed one output, so which of its columns are dead is not told
    # by either alone: v and o of the encoder stay unpaired.
    "LED": Architecture(
        _bart_like(
            "LEDForConditionalGeneration",
            "LEDConfig",
            max_position_embeddings=_LEFT_OUT,
            attention_window=4,
            max_encoder_position_embeddings=32,
            max_decoder_position_embeddings=32,
        ),
        SEQ2SEQ | PLAIN_FFN | {f"self_attn.{r}": 3 for r in "qkv"},
        ("lm_head",),
        8,
    ),
    "Whisper": Architecture(
        _bart_like(
            "WhisperForConditionalGeneration",
            "WhisperConfig",
            max_position_embeddings=_LEFT_OUT,
            num_mel_bins=8,
            max_source_positions=16,
            max_target_positions=16,
            suppress_tokens=None,
            begin_suppress_tokens=None,
        ),
        SEQ2SEQ | PLAIN_FFN,
        ("proj_out",),
        8,
        inputs={"input_features": torch.linspace(-1, 1, 512).reshape(2, 8, 32), "labels": IDS},
    ),
    "ProphetNet": Architecture(
        _prophetnet,
        SEQ2SEQ | PLAIN_FFN,
        ("prophetnet.decoder.layers.0.self_attn.relative_pos_embeddings", "lm_head"),
        8,
    ),
    "T5Gemma": Architecture(_t5_gemma, SEQ2SEQ | GATED_FFN, ("lm_head.out_proj",), 12, grouped=6),
    "SeamlessM4T text": Architecture(_seamless, SEQ2SEQ | PLAIN_FFN, ("lm_head",), 8),
    "BERT + GPT-2": Architecture(
        _bert_gpt2, SEQ2SEQ | PLAIN_FFN, ("encoder.pooler.dense", "decoder.lm_head"), 8
    ),
    "LLaMA": Architecture(
        _causal("Llama"), ONE_LAYER | {"ffn.gate": 1}, ("lm_head",), 5, grouped=2
    ),
    "Qwen2": Architecture(
        _causal("Qwen2"), ONE_LAYER | {"ffn.gate": 1}, ("lm_head",), 5, grouped=2
    ),
    # One matrix for q, k and v, whose layout is not certain, and one for gate and up.
    "Phi-3": Architecture(_causal("Phi3"), FUSED | {"ffn.gate": 1}, ("lm_head",), 3),
    "GLM": Architecture(_causal("Glm"), ONE_LAYER | {"ffn.gate": 1}, ("lm_head",), 5, grouped=2),
    "GPT-J": Architecture(
        lambda: hf.GPTJForCausalLM(hf.GPTJConfig(**_GPT2, rotary_dim=4)), ONE_LAYER, ("lm_head",), 3
    ),
    # Its c_attn has one key and one value head beside four query heads.
    "GPTBigCode": Architecture(
        lambda: hf.GPTBigCodeForCausalLM(hf.GPTBigCodeConfig(**_GPT2)), FUSED, ("lm_head",), 1
    ),
    "GPT-NeoX": Architecture(
        lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(vocab_size=VOCABULARY, **_BERT)),
        FUSED,
        ("lm_head",),
        1,
    ),
    "ALBERT": Architecture(
        lambda: hf.AlbertForMaskedLM(
            hf.AlbertConfig(vocab_size=VOCABULARY, embedding_size=WIDTH, **_BERT)
        ),
        ONE_LAYER,
        (
            "albert.encoder.embedding_hidden_mapping_in",
            "predictions.dense",
            "predictions.decoder",
        ),
        3,
    ),
    "GPT-2": Architecture(
        lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**_GPT2)), ONE_LAYER, ("lm_head",), 3
    ),
    "BERT": Architecture(
        lambda: hf.BertForMaskedLM(hf.BertConfig(vocab_size=VOCABULARY, **_BERT)),
        ONE_LAYER,
        ("cls.predictions.transform.dense", "cls.predictions.decoder"),
        3,
    ),
    "ViT": Architecture(
        lambda: hf.ViTForImageClassification(
            hf.ViTConfig(**_BERT, image_size=8, patch_size=4, num_labels=3)
        ),
        ONE_LAYER,
        ("classifier",),
        3,
        inputs={
            "pixel_values": torch.linspace(-1, 1, 384).reshape(2, 3, 8, 8),
            "labels": torch.tensor([0, 2]),
        },
    ),
}
