"""Start and end of trained networks: measured from their files, and shown as they were measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("scipy", reason="needs the extra `analysis`")

from benchmarks import topology  # noqa: E402
from chts_hf import CHTsConfig, Sparsifier, save_sparse  # noqa: E402
from chts_hf.analysis.history import HistoryWriter  # noqa: E402
from chts_hf.vision import MLPConfig, MLPForImageClassification  # noqa: E402
from recipes.topology_tables import topology_tables  # noqa: E402

CONFIG = CHTsConfig(method="static", sparsity=0.7, init="er")


@pytest.fixture
def model() -> MLPForImageClassification:
    torch.manual_seed(0)
    return MLPForImageClassification(MLPConfig(image_size=(4, 4), hidden_sizes=[12, 10]))


def _record(folder: Path, frames: dict[int, dict[str, torch.Tensor]]) -> None:
    writer = HistoryWriter(folder, 0)
    layers = {name: {"kind": "x", "shape": list(m.shape)} for name, m in frames[0].items()}
    writer.describe(layers, {"hidden: 0 → 1": list(layers)}, {})
    for step, masks in frames.items():
        writer.frame(step, masks)


def test_a_runs_first_and_last_masks_are_measured(tmp_path: Path, model) -> None:
    sparsifier = Sparsifier(model, None, CONFIG, total_steps=1)
    masks = {name: mask.clone() for name, mask in sparsifier.masks.items()}
    with torch.no_grad():  # a link whose weight is 0 is a link
        name, mask = next(iter(masks.items()))
        model.get_parameter(name).view(-1)[mask.view(-1).nonzero()[0]] = 0.0
    save_sparse(model, tmp_path / "run", config=CONFIG, masks=masks)
    results = {"method": "static", "chts": CONFIG.to_dict(), "predict_accuracy": 9.5, "secret": 1}
    (tmp_path / "run/all_results.json").write_text(json.dumps(results))
    (tmp_path / "run/trainer_state.json").write_text('{"log_history": [{"step": 1}]}')
    rng = np.random.default_rng(0)
    first = {n: torch.from_numpy(rng.random(m.shape) < 0.5) for n, m in masks.items()}
    _record(tmp_path / "start", {0: first, 5: masks})
    words = [str(tmp_path / "run"), "--start", str(tmp_path / "start"), "--title", "t"]
    words += ["--nulls", "2", "--measures", "links", "--json", str(tmp_path / "out/a.json")]
    report = topology.main(words)
    assert json.loads((tmp_path / "out/a.json").read_text()) == json.loads(json.dumps(report))
    assert report["run"].keys() == {"method", "chts", "predict_accuracy"}
    assert str(tmp_path) not in json.dumps(report)
    for end, expected in (("start", first), ("end", masks)):
        (network,) = report[end].values()
        assert network["links"]["value"] == sum(int(m.sum()) for m in expected.values())
    # The same of a folder that has both, and where the weights alone tell.
    (tmp_path / "start/all_results.json").write_text(json.dumps(results))
    chain, other = (
        topology.last_chains(tmp_path / "start")[0],
        topology.last_chains(tmp_path / "run")[0],
    )
    assert chain.sizes == other.sizes == (16, 12, 10)
    for one, two in zip(chain.masks, other.masks, strict=True):
        assert np.array_equal(one, two)
    with pytest.raises(ValueError, match="has no masks of step 0"):
        topology.first_chains(tmp_path / "run")


def _measure(value: float, er: tuple[float, float | None], degrees: tuple[float, float | None]):
    nulls = {
        model: {"mean": mean, "deviation": 1.0, "p": p}
        for model, (mean, p) in (("er", er), ("degrees", degrees))
    }
    return {"value": value, "error": 0.0, "nulls": nulls}


def _network(value: float, p: float, verdict: bool) -> dict[str, Any]:
    law = {"verdict": "a power law is plausible" if verdict else "no power law",
           "exponent": 2.5, "p": 0.25}  # fmt: skip
    return {
        "sizes": [3, 2],
        "modularity": _measure(value, (0.1, 0.05), (0.5, p)),
        "anp": _measure(0.25, (0.75, 0.05), (0.25, None)),
        "power_laws": {"all": law},
        "hyperbolic": {"verdict": verdict, "p_one_sided": p},
    }


def test_every_measure_stands_in_its_column(tmp_path: Path) -> None:
    run = {"method": "chts", "target_sparsity": 0.9, "steps": 7, "predict_bleu": 12.345}
    report = {
        "title": "T", "run": run, "nulls": 19,
        "start": {"a: x": _network(0.125, 0.05, False)},
        "end": {"a: x": _network(0.75, 0.3, True)},
    }  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(report))
    table = topology_tables(tmp_path)
    assert table.startswith("**T**: x; chts, sparsity 0.9, 7 steps, BLEU 12.35\n\n| measure |")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[4:]]
    assert rows == [
        ["anp", "0.25", "0.75", "same", "0.05 ↓ (density)", "0.25", "0.75", "same",
         "0.05 ↓ (density)"],
        ["modularity", "0.125", "0.1", "0.5", "0.05 ↓", "0.75", "0.1", "0.5", "0.3"],
        ["hyperbolic", "no, p = 0.05", "", "", "", "yes, p = 0.3", "", "", ""],
        ["power law, all degrees", "no power law (γ = 2.50, fit's p = 0.25)", "", "", "",
         "a power law is plausible (γ = 2.50, fit's p = 0.25)", "", "", ""],
    ]  # fmt: skip


def test_networks_of_one_kind_are_one_table(tmp_path: Path) -> None:
    ends = {
        "start": {"1: x": _network(0.2, 0.05, False), "2: x": _network(0.4, 0.05, False)},
        "end": {"1: x": _network(0.6, 0.05, True), "2: x": _network(0.3, 0.2, False)},
    }
    report = {"title": "T", "run": {"method": "set"}, "nulls": 19, **ends}
    (tmp_path / "a.json").write_text(json.dumps(report))
    table = topology_tables(tmp_path)
    assert "**T**: 2 networks x, means; set" in table
    assert "| modularity | 0.3 | 0.1 | 0.5 | 0↑ 2↓ of 2 | 0.45 | 0.1 | 0.5 | 1↑ 0↓ of 2 |" in table
    assert "| hyperbolic | 0 of 2 |  |  |  | 1 of 2 |" in table
    with pytest.raises(ValueError, match="no topologies"):
        topology_tables(tmp_path / "none")
