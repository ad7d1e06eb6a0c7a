"""Training FLOPs by the density integral: by hand, and against the masks of a real run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from chts_hf import CHTsConfig, Sparsifier
from chts_hf.compare.flops import densities, relative_training_flops, scoring_flops


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


def test_removal_by_gradient_needs_that_of_links_only() -> None:
    # MEST: densities 0.4, 0.3 and 0.2 for four steps each, and nothing beside them.
    window: dict[str, Any] = {"sparsity": 0.8, "update_interval": 4, "t_end": 0.67}
    mest = CHTsConfig(method="mest", decay_end=0.67, **window)
    assert mest.initial_sparsity == pytest.approx(0.6)
    assert relative_training_flops(mest, 12) == pytest.approx(0.3, abs=1e-6)
    # GraNet: half way, 0.8 - 0.3 / 2³ = 0.7625, so densities 0.5, 0.2375 and 0.2 for four steps
    # each, with the dense gradient in the last steps at 0.5 and at 0.2375.
    granet = CHTsConfig(method="granet", decay_end=0.67, **window)
    expected = (4 * (0.5 + 0.2375 + 0.2) + (0.5 + 0.7625) * 2 / 6) / 12
    assert relative_training_flops(granet, 12) == pytest.approx(expected, abs=1e-6)
    # MEST with regrowth by gradient pays as RigL does.
    both = CHTsConfig(method="mest", decay_end=0.67, regrowth="gradient", **window)
    paid = 0.3 + (0.6 + 0.7) * 2 / 6 / 12
    assert relative_training_flops(both, 12) == pytest.approx(paid, abs=1e-6)


def _transformer(width: int, ffn: int, layers: int) -> list[tuple[int, int]]:
    """Encoders have one attention, decoders two."""
    one = [(width, width)] * 4 + [(ffn, width), (width, ffn)]
    return layers * (one + [(width, width)] * 4 + one)


def test_scoring_by_hand_and_in_the_documentation() -> None:
    # Updates at 10, 20, … 70 of 100: 7 · 4 · 2 · 3 · 5 / (100 · 6 · 2 · 3 · 32).
    chts = CHTsConfig(method="chts", update_interval=10)
    assert scoring_flops(chts, 100, [(2, 3)], 32) == pytest.approx(7 * 20 / 19200, abs=1e-6)
    assert scoring_flops(chts, 100, [(2, 3)] * 4, 64) == pytest.approx(7 * 20 / 38400, abs=1e-6)
    page = (Path(__file__).parents[2] / "docs" / "comparison.md").read_text(encoding="utf-8")
    for interval, steps, shapes, tokens in (
        (30, 1500, _transformer(128, 512, 2), 1097),
        (100, 5000, _transformer(512, 1024, 6), 949),
    ):
        config = CHTsConfig(method="chts", update_interval=interval)
        assert f"**{scoring_flops(config, steps, shapes, tokens):.4f}**" in page


def test_layers_that_are_regrown_otherwise_have_no_one_cost() -> None:
    config = CHTsConfig(overrides={"fc1": {"regrowth": "gradient"}})
    with pytest.raises(ValueError, match=r"fc1.*the regrowth of some layers only"):
        relative_training_flops(config, 1000)
