"""Which layers are sparsified, of every architecture, and how they share neurons."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import nn

from chts_hf import CHTsConfig, Sparsifier, find_targets
from chts_hf.targets import find_pairs
from tests.architectures import ARCHITECTURES
from tests.builders import tiny_marian


def _linear_layers(model: nn.Module) -> set[str]:
    return {
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
    }


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture(name):
    """Found right: kinds, pairs, heads, and nothing that must stay dense."""
    architecture = ARCHITECTURES[name]
    torch.manual_seed(0)
    model = architecture.build()
    targets = find_targets(model)
    pairs = find_pairs(targets)
    assert Counter(t.kind for t in targets) == architecture.kinds
    found = {t.parameter_name.removesuffix(".weight") for t in targets}
    assert _linear_layers(model) - found == set(architecture.dense)
    assert len(pairs) == architecture.pairs
    assert sum(pair.neuron_of is not None for pair in pairs) == architecture.grouped
    grouped = ("k", "v") if architecture.grouped else ()
    for target in targets:
        if "attn" in target.kind:
            assert target.heads == (2 if target.role in grouped else 4), target.name


@pytest.mark.parametrize("method", ["chts", "rigl"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_trains(name, method):
    """Three steps with two updates keep every invariant, by topology and by gradient."""
    architecture = ARCHITECTURES[name]
    torch.manual_seed(0)
    model = architecture.build()
    targets = find_targets(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    config = CHTsConfig(method=method, sparsity=0.8, update_interval=1, rewarm_steps=0, t_end=0.7)
    sparsifier = Sparsifier(model, optimizer, config, total_steps=3)
    for _ in range(3):
        model(**architecture.inputs).loss.backward()
        optimizer.step()
        sparsifier.step()
        for target in targets:
            mask = target.view(sparsifier.masks[target.parameter_name])
            assert int(mask.sum()) == round(0.2 * math.prod(target.shape)), target.name
            assert (target.view(target.weight)[~mask] == 0).all()
            if target.weight.grad is not None:
                assert (target.view(target.weight.grad)[~mask] == 0).all()
        optimizer.zero_grad()
    assert sparsifier.updates == 2


def test_grouped_heads_share_the_right_neurons():
    """LLaMA with 4 query heads on 2 key heads of width 4: queries 0 and 1 use key head 0."""
    pairs = find_pairs(find_targets(ARCHITECTURES["LLaMA"].build()))
    neuron_of = next(pair.neuron_of for pair in pairs if pair.second.role == "q")
    assert neuron_of.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7, 4, 5, 6, 7]
    sequential = next(pair for pair in pairs if pair.second.role == "o")
    assert sequential.neuron_of.tolist() == neuron_of.tolist()


def test_fused_projections_are_three_targets_of_one_weight():
    model = ARCHITECTURES["GPT-2"].build()
    targets = {t.kind: t for t in find_targets(model) if t.kind.startswith("self_attn")}
    weight = model.transformer.h[0].attn.c_attn.weight  # (in, 3 · out)
    for index, role in enumerate("qkv"):
        target = targets[f"self_attn.{role}"]
        assert target.weight is weight
        assert target.name == f"transformer.h.0.attn.c_attn.weight[{role}]"
        expected = weight[:, 16 * index : 16 * (index + 1)].T
        assert torch.equal(target.view(weight), expected)


def test_exclude_and_own_targets():
    model = tiny_marian()
    config = CHTsConfig(exclude=[r"decoder", r"fc2$"])
    kinds = {t.kind for t in find_targets(model, config)}
    assert kinds == {"self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "ffn.up"}
    own = CHTsConfig(targets={"wide": r".*\.fc1"})
    assert [t.kind for t in find_targets(model, own)] == ["wide", "wide"]


def test_an_unknown_architecture_by_its_patterns():
    """Kinds with known roles pair up, so percolation works for it too."""
    model = nn.ModuleDict({"expand": nn.Linear(8, 16), "contract": nn.Linear(16, 8)})
    config = CHTsConfig(targets={"ffn.up": "expand", "ffn.down": "contract"})
    targets = find_targets(model, config)
    assert [(p.first.name, p.second.name) for p in find_pairs(targets)] == [
        ("expand.weight", "contract.weight")
    ]


def test_frozen_parameters_are_left_alone():
    model = tiny_marian()
    model.model.encoder.layers[0].fc1.weight.requires_grad_(False)
    before = model.model.encoder.layers[0].fc1.weight.clone()
    sparsifier = Sparsifier(model, None, CHTsConfig(sparsity=0.8), total_steps=200)
    assert "model.encoder.layers.0.fc1.weight" not in sparsifier.masks
    assert torch.equal(model.model.encoder.layers[0].fc1.weight, before)


def test_a_weight_shared_between_layers_is_one_target():
    model = tiny_marian(encoder_layers=2)
    first, second = model.model.encoder.layers
    second.fc1.weight = first.fc1.weight
    names = [t.name for t in find_targets(model)]
    assert names.count("model.encoder.layers.0.fc1.weight") == 1
    assert "model.encoder.layers.1.fc1.weight" not in names


def test_tied_embeddings_stay_dense():
    model = tiny_marian()
    assert model.lm_head.weight is model.model.shared.weight
    Sparsifier(model, None, CHTsConfig(sparsity=0.8), total_steps=200)
    assert (model.lm_head.weight[1:] != 0).all()


def test_adapters_are_no_targets_and_their_base_is_found():
    """PEFT wraps a projection: its weight moves to base_layer, the adapter beside it."""
    model = tiny_marian()
    attention = model.model.encoder.layers[0].self_attn
    wrapped = nn.Module()
    wrapped.base_layer = attention.q_proj
    wrapped.lora_A = nn.ModuleDict({"default": nn.Linear(16, 2, bias=False)})
    wrapped.lora_B = nn.ModuleDict({"default": nn.Linear(2, 16, bias=False)})
    attention.q_proj = wrapped
    names = [t.name for t in find_targets(model)]
    assert "model.encoder.layers.0.self_attn.q_proj.base_layer.weight" in names
    assert not any("lora" in name for name in names)


def test_t5_keeps_wo_in_float32_beside_half_precision():
    model = ARCHITECTURES["T5"].build().to(torch.bfloat16)
    for block in (model.encoder.block[0].layer[1], model.decoder.block[0].layer[2]):
        block.DenseReluDense.wo.float()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    config = CHTsConfig(sparsity=0.8, update_interval=1, rewarm_steps=0)
    sparsifier = Sparsifier(model, optimizer, config, total_steps=4)
    for _ in range(3):
        model(**ARCHITECTURES["T5"].inputs).loss.backward()
        optimizer.step()
        sparsifier.step()
        optimizer.zero_grad()
    dtypes = {t.kind: t.weight.dtype for t in sparsifier.targets}
    assert dtypes["ffn.down"] == torch.float32
    assert dtypes["ffn.up"] == torch.bfloat16
    for target in sparsifier.targets:
        assert (target.weight[~sparsifier.masks[target.name]] == 0).all()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"targets": {"ffn.up": r".*\.expand"}}, r"targets\['ffn.up'\].*expand.*fc1"),
        (
            {"targets": {"head": "lm_head", "ffn.up": r".*fc1"}},
            r"targets\['head'\]: 'lm_head' makes no layer sparse. lm_head is the .* output head",
        ),
        (
            {"targets": {"a": r".*fc1", "b": r".*encoder.*fc1"}},
            r"targets\['b'\].*encoder.*fc1 is one of targets\['a'\] already",
        ),
        ({"targets": {"a": r".*fc1"}, "exclude": ["fc"]}, r"targets\['a'\].*fc1 .*by exclude"),
        ({"exclude": ["lm_hed"]}, "exclude.*'lm_hed'.*fc1"),
        ({"overrides": {"fc3": {"sparsity": 0.5}}}, r"overrides\['fc3'\].*fc1"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused(fields, words):
    """A slip in a name would leave layers dense, or as sparse as the rest, without a word."""
    with pytest.raises(ValueError, match=words):
        find_targets(tiny_marian(), CHTsConfig(**fields))


def test_a_pattern_of_layers_with_shared_weights_says_so():
    model = tiny_marian(encoder_layers=2)
    first, second = model.model.encoder.layers
    patterns = {"a": r".*encoder\.layers\.0\.fc1", "b": r".*encoder\.layers\.1\.fc1"}
    second.fc1.weight.requires_grad_(False)  # to be left alone, whatever names it
    assert [target.kind for target in find_targets(model, CHTsConfig(targets=patterns))] == ["a"]
    second.fc1.weight = first.fc1.weight
    words = r"targets\['b'\].*layers.1.fc1 shares its weight with model.*layers.0.fc1"
    with pytest.raises(ValueError, match=words):
        find_targets(model, CHTsConfig(targets=patterns))


def test_a_model_without_trained_projections_says_why():
    model = tiny_marian()
    model.requires_grad_(False)
    with pytest.raises(ValueError, match=r"no layer .* is a target.*_proj is frozen") as error:
        find_targets(model)
    assert "targets=" not in str(error.value)  # the names are known


def test_a_fused_projection_is_split_only_where_its_parts_are_certain():
    """GPT-2's c_attn is q, k, v; that of GPTBigCode, with one key and value head, is not."""
    layer = nn.Module()
    layer.attn = nn.Module()
    layer.attn.c_attn = nn.Linear(16, 24)
    assert [(t.kind, t.shape) for t in find_targets(layer)] == [("self_attn.fused", (24, 16))]
    layer.attn.c_attn = nn.Linear(16, 48)
    assert [t.role for t in find_targets(layer)] == ["q", "k", "v"]
    model = ARCHITECTURES["Phi-3"].build()
    gate, up = (t for t in find_targets(model) if t.role in ("gate", "up"))
    assert (gate.parameter_name, gate.rows, up.rows) == (up.parameter_name, (0, 32), (32, 64))


def test_names_that_any_two_layers_may_have_tell_a_role_inside_numbered_blocks_alone():
    """The second of a plain network is its output, which is not for rules to make sparse."""
    linears = [nn.Linear(4, 8), nn.Linear(8, 2)]
    plain = nn.ModuleDict(dict(zip(("linear1", "linear2"), linears, strict=True)))
    with pytest.raises(ValueError, match="linear1 has a name that no rule recognises"):
        find_targets(plain)
    blocks = nn.ModuleDict({"layers": nn.ModuleList([plain])})
    assert [target.kind for target in find_targets(blocks)] == ["ffn.up", "ffn.down"]


def test_a_target_is_shown_without_its_numbers():
    shown = repr(find_targets(tiny_marian())[0])
    assert "self_attn" in shown
    assert "tensor" not in shown
