"""Dense layers whose factors are swapped say the same, and stay the layers they were."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers import AutoModelForSeq2SeqLM

from chts_hf.inference import Choice, SwappedLinear, measure, to_sparse_inference
from tests.builders import tiny_marian
from tests.inference.models import sentences, sparsify


def swap(*_: object) -> Choice:
    return Choice("swapped", {}, "told so")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 7), (4, 7), (2, 3, 7), (9, 7), (0, 7), (7,)])
def test_it_is_a_linear_layer(shape, bias):
    layer = nn.Linear(7, 5, bias=bias)
    x = torch.randn(shape)
    got = SwappedLinear(layer.weight, layer.bias, most_rows=8)(x)
    assert got.shape == (*shape[:-1], 5)
    assert got.is_contiguous()
    torch.testing.assert_close(got, layer(x))


def test_only_few_rows_are_swapped(monkeypatch):
    layer = SwappedLinear(nn.Parameter(torch.randn(5, 7)), None, most_rows=8)
    ordinary = []
    linear = nn.functional.linear

    def noted(x, *rest):
        ordinary.append(len(x))
        return linear(x, *rest)

    monkeypatch.setattr(nn.functional, "linear", noted)
    for rows in (1, 2, 8, 9):
        layer(torch.randn(rows, 7))
    assert ordinary == [1, 9]


def test_parameters_stay_tied_and_trainable():
    model = tiny_marian()
    head = model.lm_head.weight
    to_sparse_inference(model, choose=swap)
    assert isinstance(model.lm_head, SwappedLinear)
    assert model.lm_head.weight is head is model.get_input_embeddings().weight
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    assert all(isinstance(m, SwappedLinear) for m in linear)
    assert not any(m.training for m in linear)
    x = torch.randn(3, 16)
    model.model.encoder.layers[0].fc1(x).sum().backward()
    want = x.sum(0).expand(32, 16)
    torch.testing.assert_close(model.model.encoder.layers[0].fc1.weight.grad, want)


def test_the_same_tokens_and_the_same_files(tmp_path):
    model = tiny_marian().eval()
    sparsify(model)
    dense = copy.deepcopy(model)
    to_sparse_inference(model, choose=swap)
    options = {"num_beams": 4, "max_new_tokens": 12, "no_repeat_ngram_size": 1}
    want = dense.generate(**sentences(), **options)
    assert want.unique().numel() > 10
    assert torch.equal(model.generate(**sentences(), **options), want)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in dense.state_dict().items())


def test_only_what_is_asked_for_is_swapped():
    model = tiny_marian()
    sparsify(model)
    to_sparse_inference(model, kernels=("torch",), choose=swap_or_torch)
    assert type(model.lm_head) is nn.Linear
    model = tiny_marian()
    sparsify(model)
    asked = []
    to_sparse_inference(model, choose=lambda *a: asked.append(a[3]) or swap_or_torch(*a))
    assert isinstance(model.lm_head, SwappedLinear)
    assert ("swapped",) in asked
    with pytest.raises(ValueError, match="was converted already"):
        to_sparse_inference(model)


def test_an_unknown_kernel_is_refused():
    with pytest.raises(
        ValueError, match=r"unknown kernels \['swaped'\]; known are native, torch, sw"
    ):
        to_sparse_inference(tiny_marian(), kernels=("swaped",))


def swap_or_torch(weight, bias, rows, kernels):
    return Choice("torch" if "torch" in kernels else "swapped", {}, "")


def test_it_is_among_what_is_measured():
    choice = measure(torch.randn(64, 64), torch.randn(64), (4,), ("swapped",))
    assert set(choice.ratios) == {"swapped"}
    assert choice.kernel in ("swapped", "dense")
