"""Beam search that reads the encoding of a sentence once, not once for every beam.

An encoder-decoder model attends from each beam to the encoding of its sentence. transformers'
``generate`` repeats that encoding for every beam, with the keys and values made of it, and after
every token copies all of them once more to put the beams into their new order, though the beams of
a sentence all have the same. Kept once, they take a part of the projections and of the memory that
attention reads, with the beams as so many positions of one query. In a model with sparse layers
that is a large part of what is left to do.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, EncoderDecoderCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

#: The name under which transformers finds :func:`attend`.
SHARED = "chts_shared_encodings"

#: Of all sentences together, and of each head: where products are quicker than fused attention.
_MANY_HEADS, _FEW_QUERIES = 32, 16

#: ``config.model_type`` of the models whose attention takes each side's shape from that side.
MODEL_TYPES = ("bart", "marian", "mbart", "pegasus")


def share_encodings(model: nn.Module) -> bool:
    """Let a model's ``generate`` keep the encoding of a sentence once for all its beams.

    The tokens are the same, scores differ by rounding. It concerns this model alone, is in no file
    that is saved of it, and ends when another attention is chosen (``set_attn_implementation``).

    Args:
        model: left as it is if it is none of :data:`MODEL_TYPES` or its attention not "sdpa".

    Returns:
        Whether encodings will be shared.
    """
    generator: Any = model  # types of transformers know no instance with methods of its own
    config: Any = getattr(generator, "config", None)
    if getattr(config, "model_type", None) not in MODEL_TYPES or not hasattr(model, "generate"):
        return False
    if config._attn_implementation != "sdpa":
        return False
    generator.set_attn_implementation(SHARED)
    # Bound to the instance, so that those of a copy, or of what is unpickled, are bound to that.
    generator._expand_inputs_for_generation = partial(_expand, model)
    generator._reorder_cache = partial(_reorder, model)
    return True


def _expand(self: Any, expand_size: int = 1, **inputs: Any) -> tuple[Any, dict[str, Any]]:
    """As ``generate`` repeats its inputs for the beams, but for what is of the encoder."""
    kept = {}
    if self.config._attn_implementation == SHARED and inputs.get("is_encoder_decoder"):
        inputs["is_encoder_decoder"] = False  # which would have the encoder's output repeated
        names = inputs.keys() & {"encoder_outputs", "attention_mask"}
        kept = {name: inputs.pop(name) for name in names}
    expand = type(self)._expand_inputs_for_generation
    ids, expanded = expand(self, expand_size=expand_size, **inputs)
    return ids, expanded | kept


def _reorder(self: Any, cache: Any, beams: Tensor) -> Any:
    """Put the beams into their new order: those of a sentence have one encoding."""
    shared = self.config._attn_implementation == SHARED and isinstance(cache, EncoderDecoderCache)
    (cache.self_attention_cache if shared else cache).reorder_cache(beams)
    return cache


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Transformers' "sdpa" attention, also from several beams to one encoding.

    Args:
        module: the attention layer.
        query: (sentences · beams, heads, queries, width), the beams of a sentence side by side.
        key: (sentences · beams, heads, keys, width), or (sentences, …) where it is shared.
        value: of the key's shape.
        attention_mask: (as key, 1, queries, keys), or None.
        **options: of transformers' attention functions.

    Returns:
        (sentences · beams, queries, heads, width), and no weights.
    """
    beams, queries = query.shape[0] // key.shape[0], query.shape[2]
    if beams == 1:
        found, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return found, None
    beside = query.unflatten(0, (-1, beams)).transpose(1, 2).flatten(2, 3)
    if attention_mask is not None and queries > 1:
        attention_mask = attention_mask.repeat(1, 1, beams, 1)
    options["is_causal"] = False
    forward = _by_products if _is_small(beside, options) else sdpa_attention_forward
    found, _ = forward(module, beside, key, value, attention_mask, **options)
    return found.unflatten(1, (beams, queries)).flatten(0, 1), None


def _is_small(query: Tensor, options: dict[str, Any]) -> bool:
    """Whether two batched products are quicker than torch's fused attention.

    They are, on a CPU, where the beams of some sentences are at one token each;
    of a single query for each head the fused one is as quick or quicker.
    """
    return (
        query.device.type == "cpu"
        and query.dtype == torch.float32  # half precision is added up in float32 by the fused one
        and not options.get("dropout")
        and query.shape[0] * query.shape[1] >= _MANY_HEADS
        and query.shape[2] <= _FEW_QUERIES
    )


def _by_products(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention as its definition is written, shapes as in :func:`attend`, one encoding each."""
    query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = query @ key.transpose(2, 3)
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill_(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    return (scores.softmax(dim=-1) @ value).transpose(1, 2), None


AttentionInterface.register(SHARED, attend)
AttentionMaskInterface.register(SHARED, sdpa_mask)
