"""A converted model says what the dense one says."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from torch import nn
from transformers import AutoModelForSeq2SeqLM, GPT2Config, GPT2LMHeadModel

from chts_hf import CHTsConfig, find_targets
from chts_hf.inference import Choice, SparseLinear, choice, choose, measure, to_sparse_inference
from tests.builders import tiny_marian
from tests.inference.models import SEQ2SEQ, sentences, sparsify


def always(kernel: str):
    return lambda *_: Choice(kernel, {}, "told so")


def sparse_layers(model: nn.Module) -> dict[str, SparseLinear]:
    return {n: m for n, m in model.named_modules() if isinstance(m, SparseLinear)}


@pytest.mark.parametrize("kernel", ["native", "torch"])
@pytest.mark.parametrize("name", SEQ2SEQ)
def test_generate_gives_the_same_tokens(name, kernel):
    model = SEQ2SEQ[name]().eval()
    sparsify(model)
    targets = find_targets(model)
    dense = copy.deepcopy(model)
    assert to_sparse_inference(model, choose=always(kernel)) is model
    assert len(sparse_layers(model)) == len(targets)
    for beams in (1, 4):
        options = {"num_beams": beams, "do_sample": False, "max_new_tokens": 12}
        options["no_repeat_ngram_size"] = 1  # tied embeddings would repeat one token
        want = dense.generate(**sentences(), **options)
        assert want.unique().numel() > 10, "one token over and over shows nothing"
        assert torch.equal(model.generate(**sentences(), **options), want)


def test_the_same_tokens_for_gpt2_whose_weights_lie_the_other_way_round():
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=48, n_embd=16, n_layer=1, n_head=4, n_positions=32)
    ).eval()
    sparsify(model)
    dense = copy.deepcopy(model)
    to_sparse_inference(model, choose=always("native"))
    assert len(sparse_layers(model)) == 4
    with torch.no_grad():
        ids = sentences()["input_ids"]
        loaded = GPT2LMHeadModel(model.config).eval()
        loaded.load_state_dict(model.state_dict())
        assert torch.equal(loaded(ids).logits, dense(ids).logits)
        torch.testing.assert_close(model(ids).logits, dense(ids).logits, rtol=1e-4, atol=1e-5)


def test_dense_layers_stay_and_their_shapes_are_measured_once():
    model = tiny_marian()
    sparsify(model, 0.9)
    kept = model.model.encoder.layers[0].fc1
    with torch.no_grad():
        kept.weight.fill_(1.0)
    asked = []

    def choice(weight, bias, rows, kernels):
        asked.append((tuple(weight.shape), bias is not None, rows, kernels))
        return Choice("dense" if weight.shape == (16, 32) else "torch", {}, "")

    to_sparse_inference(model, rows=(3,), kernels=("torch",), choose=choice)
    assert model.model.encoder.layers[0].fc1 is kept
    assert isinstance(model.model.decoder.layers[0].fc2, nn.Linear)
    assert model.model.decoder.layers[0].fc1.kernel == "torch"
    assert ((16, 16), True, (3,), ("torch",)) in asked
    # Sparsities that differ by less than a per cent share a measurement.
    assert len(asked) == len(set(asked)) + sum(a[0] == (16, 16) for a in asked) - 1
    assert sum(a[0] == (32, 16) for a in asked) == 1


def test_targets_can_be_chosen_and_frozen_models_are_converted():
    model = tiny_marian().requires_grad_(False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(torch.rand_like(parameter) > 0.9)
    config = CHTsConfig(targets={"ffn.up": r".*\.fc1", "ffn.down": r".*\.fc2"})
    to_sparse_inference(model, config=config, choose=always("torch"))
    assert {name.rpartition(".")[2] for name in sparse_layers(model)} == {"fc1", "fc2"}
    assert len(sparse_layers(model)) == 4
    assert not any(p.requires_grad for p in model.parameters())


def test_a_matrix_of_two_modules_is_replaced_in_both():
    model = nn.Module()
    model.fc1, model.fc2 = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
    model.fc2.weight = model.fc1.weight
    with torch.no_grad():
        model.fc1.weight.mul_(torch.eye(8))
    to_sparse_inference(model, choose=always("torch"))
    assert isinstance(model.fc1, SparseLinear)
    assert model.fc1 is model.fc2


def test_a_converted_model_is_saved_as_the_dense_one_it_was(tmp_path):
    model = SEQ2SEQ["marian"]()
    sparsify(model)
    dense = copy.deepcopy(model).state_dict()
    to_sparse_inference(model, choose=always("native")).save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).state_dict()
    assert loaded.keys() == dense.keys()
    assert all(torch.equal(loaded[name], dense[name]) for name in dense)
    with pytest.raises(ValueError, match="MarianMTModel was converted already"):
        to_sparse_inference(model)


def test_a_model_that_gains_nothing_is_said_to_stay_dense(caplog):
    for kernel, warned in (("dense", True), ("swapped", True), ("torch", False)):
        model = tiny_marian()
        sparsify(model)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "chts_hf.inference.convert"):
            to_sparse_inference(model, choose=always(kernel))
        assert ("so all stay dense" in caplog.text) is warned


def test_half_precision_is_left_as_it_is(caplog):
    model = tiny_marian().bfloat16()
    sparsify(model)
    with caplog.at_level(logging.WARNING, "chts_hf.inference.convert"):
        to_sparse_inference(model)
    assert not sparse_layers(model)
    assert "changed nothing" in caplog.text


@pytest.mark.parametrize(
    ("ratios", "kernel"),
    [
        ({"native": (0.3, 0.5), "torch": (0.4, 0.4)}, "native"),
        ({"native": (0.1, 1.2), "torch": (0.9, 0.8)}, "torch"),  # slower at one row count
        ({"native": (0.99, 0.98)}, "dense"),  # no gain beyond the noise
        ({"native": (0.5, 1.031)}, "dense"),
        ({"native": (0.5, 1.029)}, "native"),
        ({}, "dense"),
    ],
)
def test_the_choice_is_never_slower_than_dense(ratios, kernel):
    assert choose(ratios).kernel == kernel


def test_a_full_matrix_is_measured_to_be_better_dense_and_an_empty_one_sparse():
    weight = torch.randn(512, 512)
    assert measure(weight, None, (32,), ("torch",)).kernel == "dense"
    choice = measure(torch.zeros(1024, 1024), None, (32,))
    assert choice.kernel != "dense"
    assert max(choice.ratios[choice.kernel]) < 0.5


def test_of_one_row_a_swapped_product_is_the_ordinary_one(monkeypatch):
    asked = []

    def times(calls):
        asked.append(set(calls))
        slow = len(asked) == 1  # at one row
        return {name: 1.4 if slow and name == "torch" else 0.5 for name in calls} | {"dense": 1.0}

    monkeypatch.setattr(choice, "_times", times)
    found = measure(torch.eye(8), None, (1, 4, 32), ("torch", "swapped"))
    assert asked == [
        {"dense", "torch"},
        {"dense", "torch", "swapped"},
        {"dense", "torch", "swapped"},
    ]
    assert found.ratios == {"torch": (1.4, 0.5, 0.5), "swapped": (1.0, 0.5, 0.5)}
    assert found.kernel == "swapped"
