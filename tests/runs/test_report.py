"""The results, the table and the picture."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch
from torch import nn

from chts_hf import CHTsConfig, Sparsifier, find_targets
from chts_hf.runs import report
from chts_hf.runs.plots import _series, plot_run
from chts_hf.translation.models import build_model
from tests.translation.helpers import SIZE, pair

RESULTS = {
    "setting": "demo", "method": "chts", "target_sparsity": 0.9, "dataset": "embedded",
    "languages": "en-de", "seed": 7, "steps": 1500, "predict_bleu": 91.237,
    "predict_chrf": 95.5, "bleu_signature": "nrefs:1|b", "chrf_signature": "nrefs:1|c",
    "eval_loss": 0.12345, "links": 1000, "sparsified_weights": 10000,
    "links_by_kind": {"self_attn.q": {"links": 300, "weights": 3000, "sparsity": 0.9}},
    "total_parameters": 20000, "nonzero_parameters": 5000, "itop_rate": 0.42, "anp": 0.98,
    "train_runtime": 300.04, "topology_runtime": 1.26, "topology_updates": 37,
}  # fmt: skip


def test_parameters_are_counted_once_and_zeros_left_out() -> None:
    first, second = nn.Linear(3, 4), nn.Linear(4, 4, bias=False)
    with torch.no_grad():
        first.weight.fill_(1.0)[0].zero_()
        first.bias.zero_()
        second.weight.fill_(2.0)
    model = nn.Sequential(first, second, second)
    counts = report.parameter_counts(model)
    assert counts == {"total_parameters": 12 + 4 + 16, "nonzero_parameters": 9 + 16}


@pytest.mark.parametrize("method", ["chts", "dense"])
def test_network_results(method: str) -> None:
    model = build_model("marian", SIZE, pair())
    config = CHTsConfig(method=method, sparsity=0.75, update_interval=2)
    targets = find_targets(model, CHTsConfig())
    stats = Sparsifier(model, None, config, total_steps=10).stats()
    results = report.network_results(stats, targets)
    # 3 attentions of four 16x16, two feed-forwards of two 16x32.
    assert results["sparsified_weights"] == 12 * 256 + 4 * 512
    assert results["links"] == (5120 if method == "dense" else 1280)
    assert results["sparsity"] == (0.0 if method == "dense" else 0.75)
    kinds = [f"{block}.{role}" for block in ("self_attn", "cross_attn") for role in "qkvo"]
    assert list(results["links_by_kind"]) == [*kinds, "ffn.up", "ffn.down"]
    for count in ("links", "weights"):
        total = sum(entry[count] for entry in results["links_by_kind"].values())
        assert total == results["links" if count == "links" else "sparsified_weights"]


def test_the_table_says_what_was_measured() -> None:
    table = report.format_table(RESULTS)
    for words in (
        "demo: chts at 90 % sparsity, embedded en-de, 1500 steps, seed 7",
        "91.24  nrefs:1|b",
        "95.50  nrefs:1|c",
        "0.1235  nats per token",
        "1,000        10,000     90.00 %",
        "self_attn.q                  300         3,000     90.00 %",
        "5,000        20,000     75.00 %",
        "0.4200",
        "0.9800",
        "300.0 s",
        "1.3 s  37 updates",
    ):
        assert words in table, words


def test_the_table_leaves_out_what_was_not_measured() -> None:
    few = {key: RESULTS[key] for key in ("setting", "method", "dataset", "languages", "seed")}
    table = report.format_table(few)
    assert "BLEU" not in table
    assert "ITOP" not in table


def test_git_commit(tmp_path: Path) -> None:
    assert report.git_commit(tmp_path) is None

    def git(*words: str) -> str:
        who = ["-c", "user.name=x", "-c", "user.email=x@x"]
        command = ["git", "-C", str(tmp_path), *who, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "x")
    git("tag", "v1")
    head = git("rev-parse", "HEAD")
    assert report.git_commit(tmp_path) == head
    (tmp_path / "a").write_text("2")
    assert report.git_commit(tmp_path) == f"{head}-dirty"


def test_a_step_evaluated_twice_is_drawn_as_it_was_in_training() -> None:
    log = [
        {"step": 1, "eval_bleu": 3.0},
        {"step": 2, "eval_bleu": 5.0},
        {"step": 2, "eval_bleu": 7.0},
    ]
    assert _series([{"loss": 1.0}, *log], "eval_bleu") == ([1, 2], [3.0, 5.0])


@pytest.mark.parametrize("full", [True, False])
def test_the_picture(tmp_path: Path, full: bool) -> None:
    from matplotlib.image import imread

    log = [
        {"step": 1, "loss": 5.0},
        {"step": 2, "eval_loss": 4.0, "eval_bleu": 3.0},
        {"step": 2, "train_runtime": 1.0},
    ]
    before = torch.rand(700, 30) > 0.9
    plot_run(
        tmp_path / "a.png",
        "title",
        log if full else [],
        RESULTS["links_by_kind"],  # type: ignore[arg-type]
        *(("layer", before, before.roll(1)) if full else ()),
    )
    image = imread(tmp_path / "a.png")
    assert image.shape[0] > 500
    pixels = (255 * image[::3, ::3, :3]).round().astype(int).reshape(-1, 3)
    colours = set(map(tuple, pixels.tolist()))
    assert (0, 114, 178) in colours  # links
    assert len(colours) > 20
