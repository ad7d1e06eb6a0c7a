"""What is cut out was not needed: same outputs, smaller model, ordinary files."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForSeq2SeqLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from chts_hf import find_targets
from chts_hf.inference import (
    Width,
    compact,
    compact_hidden,
    hidden_layers,
    register_sizes,
    to_sparse_inference,
    widths_by_field,
)
from chts_hf.targets import Pair, Target, find_pairs
from tests.architectures import ARCHITECTURES
from tests.builders import tiny_marian
from tests.inference.models import SEQ2SEQ, sentences, sparsify, tiny_t5


def kill(model: nn.Module, every: int = 4) -> None:
    """Empty rows of every first layer and columns of every second; other ones in each layer."""
    for index, target in enumerate(find_targets(model)):
        if target.role in ("up", "gate"):
            target.view(target.weight.data)[index % every :: every] = 0
        elif target.role == "down":
            target.view(target.weight.data)[:, (index + 2) % every :: every] = 0


def logits(model: PreTrainedModel) -> torch.Tensor:
    batch = sentences()
    with torch.no_grad():
        return model(**batch, decoder_input_ids=batch["input_ids"].flip(0)).logits


@pytest.mark.parametrize("activation", ["relu", "gelu", "sigmoid"])
@pytest.mark.parametrize("name", ["marian", "bart"])
def test_dead_neurons_go_and_what_they_said_stays(name, activation, tmp_path):
    model = SEQ2SEQ[name]().eval()
    for module in model.modules():
        if hasattr(module, "activation_fn"):
            module.activation_fn = {
                "relu": nn.ReLU(),
                "gelu": nn.GELU(),
                "sigmoid": nn.Sigmoid(),
            }[activation]
    model.config.activation_function = activation
    sparsify(model, 0.5)
    kill(model)
    want = logits(model)
    same, report = compact(model)
    assert same is model
    torch.testing.assert_close(logits(model), want, rtol=1e-4, atol=1e-5)
    assert set(report.widths.values()) == {Width(32, 16, 16)}
    assert len(report.widths) == 4
    assert model.config.encoder_ffn_dim == model.config.decoder_ffn_dim == 16
    assert report.parameters_after == sum(p.numel() for p in model.parameters())
    # Each of 4 layers lost 16 neurons with 16 links in, a bias, and 16 links out.
    assert report.parameters_before - report.parameters_after == 4 * 16 * 33
    assert f"{report.ratio:.1%}" in str(report)

    model.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    assert torch.equal(logits(loaded), logits(model))
    options = {"num_beams": 2, "do_sample": False, "max_new_tokens": 8}
    assert torch.equal(
        loaded.generate(**sentences(), **options), model.generate(**sentences(), **options)
    )


@pytest.mark.parametrize("name", ["t5", "t5_gated"])
def test_t5_loses_neurons_without_biases(name, tmp_path):
    model = SEQ2SEQ[name]().eval()
    sparsify(model, 0.5)
    kill(model)
    want = logits(model)
    _, report = compact(model)
    torch.testing.assert_close(logits(model), want, rtol=1e-4, atol=1e-5)
    assert all(width.before == 32 for width in report.widths.values())
    assert {width.after for width in report.widths.values()} == {model.config.d_ff}
    assert model.config.d_ff == max(width.alive for width in report.widths.values()) < 20
    assert report.heads == (4, 4)
    model.save_pretrained(tmp_path)
    assert torch.equal(
        logits(AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()), logits(model)
    )


def test_a_stack_is_as_wide_as_its_widest_layer():
    model = tiny_marian(encoder_layers=2).eval()
    encoder = model.model.encoder.layers
    with torch.no_grad():
        encoder[0].fc1.weight[:10] = 0
        encoder[1].fc2.weight[:, 3:9] = 0
        encoder[1].fc1.bias.normal_()
    want = logits(model)
    _, report = compact(model)
    first, second, third = report.widths.values()
    assert (first, second, third) == (Width(32, 22, 26), Width(32, 26, 26), Width(32, 32, 32))
    assert (model.config.encoder_ffn_dim, model.config.decoder_ffn_dim) == (26, 32)
    torch.testing.assert_close(logits(model), want, rtol=1e-5, atol=1e-6)


def test_t5_loses_heads_and_dimensions_of_heads(tmp_path):
    model = tiny_t5().eval()
    attentions = {n: m for n, m in model.named_modules() if hasattr(m, "key_value_proj_dim")}
    with torch.no_grad():
        for index, (name, attention) in enumerate(attentions.items()):
            # Head 1 of every attention by its output, head 2 of the encoder by its values; then
            # one dimension of every head, by another matrix and another place each.
            attention.o.weight[:, 4:8] = 0
            if name.startswith("encoder"):
                attention.v.weight[8:12] = 0
            for head in range(4):
                attention.q.weight[4 * head + index % 4] = 0
                attention.o.weight[:, 4 * head + (index + 1) % 4] = 0
    want = logits(model)
    _, report = compact(model)
    assert report.heads == (4, 3)
    assert report.head_size == (4, 3)
    torch.testing.assert_close(logits(model), want, rtol=1e-4, atol=1e-5)
    assert model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight.shape == (
        model.config.relative_attention_num_buckets,
        3,
    )
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    assert torch.equal(logits(loaded), logits(model))
    options = {"num_beams": 2, "do_sample": False, "max_new_tokens": 8}
    assert torch.equal(
        loaded.generate(**sentences(), **options), model.generate(**sentences(), **options)
    )


def test_heads_of_one_stack_share_relative_positions_so_all_layers_decide():
    model = tiny_t5().eval()
    stack = model.encoder.block
    with torch.no_grad():
        stack[0].layer[0].SelfAttention.v.weight[:4] = 0  # head 0 here,
        stack[1].layer[0].SelfAttention.v.weight[4:8] = 0  # head 1 there
    want = logits(model)
    _, report = compact(model)
    assert report.heads == (4, 4)
    torch.testing.assert_close(logits(model), want, rtol=1e-5, atol=1e-6)


def test_gated_neurons_with_biases_are_cut_only_where_they_are_constant():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=48,
        hidden_size=16,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=4,
        mlp_bias=True,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config).eval()
    mlp = model.model.layers[0].mlp
    with torch.no_grad():
        for layer in (mlp.gate_proj, mlp.up_proj, mlp.down_proj):
            layer.bias.normal_()
        mlp.gate_proj.weight[0] = 0  # a constant gate: the neuron still varies
        mlp.up_proj.weight[1] = 0  # varies with the gate
        mlp.gate_proj.weight[2] = mlp.up_proj.weight[2] = 0  # constant
        mlp.gate_proj.weight[3] = mlp.gate_proj.bias[3] = 0  # zero
        mlp.up_proj.weight[4] = mlp.up_proj.bias[4] = 0  # zero
        ids = sentences()["input_ids"]
        want = model(ids).logits
        _, report = compact(model)
        torch.testing.assert_close(model(ids).logits, want, rtol=1e-5, atol=1e-6)
    assert list(report.widths.values()) == [Width(8, 5, 5)]


class Chain(nn.Module):
    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False))
        self.activation = nn.GELU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)

    def pairs(self) -> list[Pair]:
        targets = []
        for index, layer in enumerate(self.layers):
            name = f"layers.{index}.weight"
            targets.append(Target(name, name, layer.weight, "mlp.up", "layers"))
        return [Pair(a, b, "sequential") for a, b in zip(targets, targets[1:], strict=False)]


def test_in_a_chain_death_spreads_both_ways():
    torch.manual_seed(0)
    model = Chain(6, 5, 4, 3, 2)
    with torch.no_grad():
        model.layers[0].weight[0] = 0  # constant, and all that neuron 1 of the next layer reads
        model.layers[1].weight[1, 1:] = 0
        model.layers[3].weight[:, 2] = 0  # not read, and all that reads neuron 3 before it
        model.layers[2].weight[:2, 3] = 0
        x = torch.randn(7, 6)
        want = model(x)
        seen: dict[str, Any] = {}

        def express(config, needed):
            seen.update(needed)
            return dict(needed)

        widths = compact_hidden(model, hidden_layers(model, model.pairs()), express)
        torch.testing.assert_close(model(x), want, rtol=1e-5, atol=1e-6)
    assert [width.after for width in widths.values()] == [4, 2, 2]
    assert list(seen.values()) == [4, 2, 2]
    assert [(m.in_features, m.out_features) for m in model.layers] == [
        (6, 4),
        (4, 2),
        (2, 2),
        (2, 2),
    ]


def test_without_a_bias_to_say_it_a_constant_stays():
    model = Chain(4, 3, 2)
    model.layers[1].bias = None
    with torch.no_grad():
        model.layers[0].weight[:2] = 0
        model.layers[0].bias.copy_(torch.tensor([1.0, 0.0, 1.0]))
        x = torch.randn(5, 4)
        want = model(x)
        widths = compact_hidden(model, hidden_layers(model, model.pairs()), lambda _, n: dict(n))
        torch.testing.assert_close(model(x), want)
    assert list(widths.values()) == [Width(3, 2, 2)]  # gelu(0) = 0 goes, gelu(1) cannot


def test_a_compacted_model_multiplies_sparsely_too():
    model = SEQ2SEQ["marian"]().eval()
    sparsify(model, 0.8)
    kill(model)
    reference = copy.deepcopy(model)
    model = to_sparse_inference(compact(model)[0])
    torch.testing.assert_close(logits(model), logits(reference), rtol=1e-4, atol=1e-4)


def test_unknown_types_and_widths_that_do_not_fit_are_refused():
    model = tiny_marian()
    model.config.model_type = "martian"
    with pytest.raises(ValueError, match="'martian' cannot be compacted.*marian.*register_sizes"):
        compact(model)
    with pytest.raises(ValueError, match="'t5' has its sizes registered already"):
        register_sizes("t5", widths_by_field(d_ff=""))
    with pytest.raises(ValueError, match=r"no field of MarianConfig is the width of .*encoder"):
        compact_hidden(
            model,
            hidden_layers(model, _pairs(model)),
            widths_by_field(decoder_ffn_dim=r"\.decoder\."),
        )
    with pytest.raises(ValueError, match="cannot have 31 neurons: of its 32, 32 are alive"):
        compact_hidden(
            tiny_marian(),
            hidden_layers(m := tiny_marian(), _pairs(m)),
            lambda _, needed: dict.fromkeys(needed, 31),
        )


def test_neurons_of_a_fused_layer_are_left():
    """Gate and up are rows of one weight, from which one cannot be cut without the other."""
    model = ARCHITECTURES["Phi-3"].build()
    pairs = _pairs(model)
    assert [pair.first.role for pair in pairs] == ["gate", "gate", "up"]
    assert hidden_layers(model, pairs) == []


def _pairs(model: nn.Module) -> list[Pair]:
    return find_pairs(find_targets(model))
