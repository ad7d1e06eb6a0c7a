"""Training FLOPs by the density integral: by hand, and against the masks of a real run."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from chts_hf import CHTsConfig, Sparsifier
from chts_hf.compare.flops import densities, relative_training_flops


@pytest.mark.parametrize("method", ["dense", "static", "chts", "chtss", "granet", "mest", "gmp"])
def test_densities_are_those_of_the_masks(method: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 50), nn.ReLU(), nn.Linear(50, 40))
    config = CHTsConfig(
        method=method, sparsity=0.9, update_interval=4, targets={"ffn.up": "0", "ffn.down": "2"}
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparsifier = Sparsifier(model, optimizer, config, total_steps=40)
    seen = []
    for _ in range(40):
        seen.append(1 - sparsifier.stats()["sparsity"])
        model(torch.randn(8, 40)).square().mean().backward()
        optimizer.step()
        sparsifier.step()
        optimizer.zero_grad()
    assert densities(config, 40) == pytest.approx(seen, abs=1e-3)  # links are whole numbers


def test_flops_by_hand() -> None:
    assert relative_training_flops(CHTsConfig(method="dense"), 100) == 1
    assert relative_training_flops(CHTsConfig(method="static", sparsity=0.8), 100) == 0.2
    # RigL needs the dense gradient in the steps before its 7 updates, at 10, 20, … 70 of 100:
    # (93 · 6 · 0.2 + 7 · (4 · 0.2 + 2)) / 600
    rigl = CHTsConfig(method="rigl", sparsity=0.8, update_interval=10)
    assert relative_training_flops(rigl, 100) == pytest.approx(131.2 / 600, abs=1e-6)
    # Two drops of four steps each: 4 · 0.6 + 4 · 0.4 + 4 · 0.2, at the end of the decay at 8 of 12.
    drops = CHTsConfig(
        method="gmp", sparsity=0.8, initial_sparsity=0.4, density_schedule="two_drops",
        update_interval=4, t_end=0.6, decay_end=0.67,
    )  # fmt: skip
    assert relative_training_flops(drops, 12) == pytest.approx(0.4, abs=1e-6)


def test_chtss_and_the_cubic_methods_cost_alike() -> None:
    flops = {
        method: relative_training_flops(CHTsConfig(method=method, sparsity=0.9), 5000)
        for method in ("chtss", "gmp", "granet")
    }
    assert flops["chtss"] == pytest.approx(flops["gmp"], rel=0.01)
    assert flops["chtss"] == pytest.approx(flops["granet"], rel=0.02)


def test_layers_of_their_own_sparsity_have_no_one_density() -> None:
    config = CHTsConfig(overrides={"fc1": {"sparsity": 0.5}})
    with pytest.raises(ValueError, match="fc1.*some layers only"):
        densities(config, 10)
