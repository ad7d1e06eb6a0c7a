"""Which models accelerate would tear apart, and that it does not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig

from chts_hf.distributed.shared_weights import (
    SharedWeightsTogether,
    prepare_together,
    shared_weights_together,
    torn_weights,
)
from tests.architectures import ARCHITECTURES
from tests.builders import tiny_marian

UNTIED = {"tie_word_embeddings": False, "share_encoder_decoder_embeddings": False}
SMALL = {
    "vocab_size": 48,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "tie_word_embeddings": True,
}


def _accelerator(fsdp2: bool = True, efficient: bool = False) -> Any:
    """What is asked of one."""
    plugin = SimpleNamespace(cpu_ram_efficient_loading=efficient)
    return SimpleNamespace(
        is_fsdp2=fsdp2, state=SimpleNamespace(fsdp_plugin=plugin), prepare=lambda *given: given
    )


MODELS: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "marian": (tiny_marian, True),
    "bart": (ARCHITECTURES["BART"].build, True),
    "t5": (ARCHITECTURES["T5"].build, True),
    "marian, untied": (lambda: tiny_marian(**UNTIED), False),
    "two ends": (lambda: AutoModelForCausalLM.from_config(LlamaConfig(**SMALL)), False),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_with_more_than_two_ends_name_no_embeddings(name):
    make, shared = MODELS[name]
    model = make()
    head, inside = model.get_output_embeddings(), None
    with suppress(KeyError), shared_weights_together(_accelerator(), model):
        inside = model.get_input_embeddings(), model.get_output_embeddings()
        raise KeyError("what accelerate may raise")
    assert inside is not None
    assert [end is None for end in inside] == [shared, shared]
    assert model.get_output_embeddings() is head
    assert "get_input_embeddings" not in vars(model)


def test_where_accelerate_does_not_shard_nothing_is_done():
    model, accelerator = tiny_marian(), _accelerator(fsdp2=False)
    with shared_weights_together(accelerator, model):
        assert model.get_output_embeddings() is model.lm_head
    before = accelerator.prepare
    prepare_together(accelerator)
    assert accelerator.prepare is before


def test_an_accelerator_that_shards_prepares_models_and_all_else():
    accelerator, model = _accelerator(), tiny_marian()
    prepare_together(accelerator)
    once = accelerator.prepare
    prepare_together(accelerator)
    assert accelerator.prepare is once
    assert isinstance(once, SharedWeightsTogether)
    assert accelerator.prepare(model, "an optimizer") == (model, "an optimizer")
    assert accelerator.prepare("a loader") == ("a loader",)


def test_a_weight_that_is_one_no_more_is_named():
    model = tiny_marian()
    assert torn_weights(model) == []
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    assert torn_weights(model) == ["lm_head.weight"]
    assert torn_weights(nn.Linear(2, 2)) == []
