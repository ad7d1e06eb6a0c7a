"""Tiny models with zeros, and comparing them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from chts_hf import find_targets
from tests.builders import tiny_marian

#: One of its sparsified weights.
UP = "model.encoder.layers.0.fc1.weight"


def sparse_marian(sparsity: float = 0.9, **changes: Any) -> Any:
    """A tiny Marian model whose targets have that many zeros, at random."""
    return prune(tiny_marian(**{"d_model": 32, "encoder_ffn_dim": 64} | changes), sparsity)


def prune(model: nn.Module, sparsity: float = 0.9) -> Any:
    """Set a fraction of each target's weights to 0."""
    generator = torch.Generator().manual_seed(1)
    for weight in {t.parameter_name: t.weight for t in find_targets(model)}.values():
        keep = torch.rand(weight.shape, generator=generator) >= sparsity
        weight.data.mul_(keep)
    return model


def nonzero(model: nn.Module) -> dict[str, Tensor]:
    """The masks that the zeros of a model are."""
    return {t.parameter_name: t.weight.detach() != 0 for t in find_targets(model)}


def assert_same_weights(model: nn.Module, other: nn.Module) -> None:
    """Every tensor of one is, bit for bit, that of the other."""
    expected, found = model.state_dict(), other.state_dict()
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(_bits(found[name]), _bits(tensor)), name


def _bits(tensor: Tensor) -> Tensor:
    tensor = tensor.clone().contiguous()
    if tensor.is_floating_point():
        tensor[tensor == 0] = 0  # a zero that was multiplied away may have kept a sign
    return tensor.reshape(-1).view(torch.uint8)
