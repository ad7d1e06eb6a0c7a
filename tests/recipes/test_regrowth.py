"""How far a draw by scores is from a uniform one: by hand, and of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import regrowth
from chts_hf import CHTsConfig, Sparsifier
from chts_hf.checkpoint.mask_file import save_masks
from chts_hf.vision import MLPConfig, MLPForImageClassification
from recipes.benchmark_tables import TABLES

ABSENT = torch.zeros(4, 5, dtype=torch.bool)


@pytest.mark.parametrize("score", [3.0, 0.0])
def test_equal_scores_are_chance(score: float) -> None:
    found = regrowth.steered(torch.full((4, 5), score), ABSENT)
    assert found == pytest.approx({"as_uniform": 1.0, "best_tenth": 0.1})


def test_scores_are_read_at_absent_links_alone() -> None:
    scores = torch.tensor([[6.0, 1.0, 1.0, 0.0], [99.0, 0.0, 0.0, 0.0]])
    mask = torch.tensor([[False] * 4, [True, False, False, False]])
    # Of seven places three have 6/8, 1/8 and 1/8; one place in seven is the best tenth, rounded.
    found = regrowth.steered(scores, mask)
    assert found == pytest.approx({"as_uniform": 1 / 7 + 2 / 8, "best_tenth": 6 / 8})


def test_a_checkpoint_and_first_masks_become_a_table(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(regrowth, "SHAPES", ((20, 30), (30, 20)))
    config = CHTsConfig(sparsity=0.8)
    torch.manual_seed(0)
    model = MLPForImageClassification(MLPConfig(image_size=(6, 6), hidden_sizes=[30, 20]))
    sparsifier = Sparsifier(model, None, config, total_steps=1000)
    save_masks(tmp_path, sparsifier.state_dict(), config)
    (tmp_path / "config.json").write_text("{}")
    written = tmp_path / "out.json"
    report = regrowth.main(["--checkpoint", "MLP", str(tmp_path), "--json", str(written)])
    assert json.loads(written.read_text()) == json.loads(json.dumps(report))
    (trained,) = report["checkpoints"]
    assert trained["layers"] == 2
    assert trained["density"] == pytest.approx(0.2, abs=0.001)
    for of in (trained["as_uniform"], trained["best_tenth"]):
        assert 0 < of["low"] <= of["mean"] <= of["high"] < 1
    # A ring's links have their paths near it, and random ones everywhere.
    sparse = {one["kind"]: one for one in report["networks"] if one["density"] == 0.1}
    assert sparse["brf"]["as_uniform"] < sparse["er"]["as_uniform"]
    lines = TABLES["benchmark_regrowth"](report).splitlines()
    assert lines[0] == "| first masks, density | 20 × 30 | 30 × 20 |"
    first = report["networks"][0]
    assert lines[2].startswith(
        f"| ER, 50% | {first['as_uniform']:.2f}, {first['best_tenth']:.2f} |"
    )
    assert lines[-1].startswith(f"| MLP | 20.0% | {trained['as_uniform']['mean']:.2f} (")
