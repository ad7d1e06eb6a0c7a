"""A warning names what a training run leaves dense because no rule recognises it."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from chts_hf import CHTsConfig, Sparsifier
from tests.architectures import ARCHITECTURES


class _Block(nn.Module):
    """Attention that is recognised, and a feed-forward layer that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn = nn.ModuleDict({f"{role}_proj": nn.Linear(16, 16) for role in "qkvo"})
        self.expand, self.contract = nn.Linear(16, 32), nn.Linear(32, 16)
        self.router = nn.Linear(16, 16)


def _warnings(caplog, model: nn.Module, **fields) -> list[str]:
    with caplog.at_level(logging.WARNING, logger="chts_hf"):
        Sparsifier(model, None, CHTsConfig(sparsity=0.5, **fields), total_steps=1000)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_is_recognised_is_no_reason_to_warn(name, caplog):
    torch.manual_seed(0)
    assert _warnings(caplog, ARCHITECTURES[name].build()) == []


def test_layers_that_no_rule_knows_are_named_with_their_share(caplog):
    (message,) = _warnings(caplog, nn.ModuleDict({"layers": nn.ModuleList([_Block(), _Block()])}))
    assert "50% of the weights" in message  # 2 * 16 * 32 beside 4 * 16 * 16
    assert "layers.*.expand, layers.*.contract:" in message
    assert r'targets={"ffn.up": r".*\.expand"' in message
    assert "exclude" in message
    assert "router" not in message


@pytest.mark.parametrize(
    "fields",
    [
        {"exclude": ["expand", "contract"]},
        {"targets": {"self_attn.q": r".*q_proj"}},
        {"method": "dense"},
    ],
)
def test_what_the_user_decided_is_no_reason_to_warn(fields, caplog):
    model = nn.ModuleDict({"layers": nn.ModuleList([_Block(), _Block()])})
    assert _warnings(caplog, model, **fields) == []


def test_frozen_layers_and_those_outside_of_blocks_are_no_reason_to_warn(caplog):
    model = nn.ModuleDict({"layers": nn.ModuleList([_Block()]), "summary": nn.Linear(16, 64)})
    for layer in (model["layers"][0].expand, model["layers"][0].contract):
        layer.requires_grad_(False)
    assert _warnings(caplog, model) == []


def test_matrices_that_are_no_layers_are_named_and_can_be_excluded(caplog):
    """Torch's attention holds q, k and v in a parameter of its own: 3 * 3 * 256 of 5120."""
    model = nn.Transformer(16, 4, 1, 1, 32)
    sparsifier = Sparsifier(model, None, CHTsConfig(sparsity=0.5), total_steps=1000)
    assert sparsifier.stats()["weights"] == 3 * 16 * 16 + 4 * 16 * 32
    (message,) = (record.getMessage() for record in caplog.records)
    assert "45% of the weights" in message
    assert "no linear layers cannot be sparse: encoder.layers.*.self_attn.in_proj_weight" in message
    caplog.clear()
    assert _warnings(caplog, nn.Transformer(16, 4, 1, 1, 32), exclude=["in_proj_weight"]) == []
