"""A process killed at any point of saving leaves the old checkpoint or the new one."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from chts_hf import save_sparse
from chts_hf.checkpoint.save import write_dense
from tests.checkpoint.sparse_models import sparse_marian

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]


def model(seed: int, **changes: Any) -> Any:
    return sparse_marian(seed=seed, d_model=16, encoder_ffn_dim=32, **changes)


def same(one: Any, other: Any) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(
        torch.equal(tensor, second[name]) for name, tensor in first.items()
    )


def killed_at(step: int, folder: Path, save: Callable[[], Any]) -> bool:
    """Save in a process that dies before its ``step``-th action on files there; False: it lived."""
    child = os.fork()
    if child == 0:
        try:
            _die_at(step, folder)
            save()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def _die_at(step: int, folder: Path) -> None:
    left = step

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in ("open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir") and str(
            arguments[0]
        ).startswith(str(folder)):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


BEFORE: dict[str, Callable[[Any, Path], Any]] = {
    "dense, by transformers": lambda old, folder: old.save_pretrained(folder),
    "dense in shards": lambda old, folder: old.save_pretrained(folder, max_shard_size="10KB"),
    "sparse": lambda old, folder: save_sparse(old, folder),
    "sparse in shards": lambda old, folder: save_sparse(old, folder, max_shard_size="5KB"),
}


@pytest.mark.parametrize(
    "before",
    [pytest.param(name, marks=[pytest.mark.slow] * ("in shards" in name)) for name in BEFORE],
)
def test_a_killed_save_leaves_the_old_or_the_new(tmp_path, before):
    # Of another shape too: no mixture of the two would load.
    old, new = model(0), model(1, encoder_layers=2)
    shards = {"max_shard_size": "5KB"} if before == "sparse" else {}
    BEFORE[before](old, tmp_path)
    seen, step = [], 0
    while killed_at(step, tmp_path, lambda: save_sparse(new, tmp_path, **shards)):
        found = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
        is_old, is_new = same(found, old), same(found, new)
        assert is_old != is_new, step
        seen.append(is_new)
        step += 1
    assert step > 10
    assert seen == sorted(seen), "the new one came and went"
    assert True in seen
    assert False in seen
    assert same(AutoModelForSeq2SeqLM.from_pretrained(tmp_path), new)
    # Nothing is left of the old one, nor of those who died.
    names = {path.name for path in tmp_path.iterdir()}
    assert {name for name in names if not name.startswith("model-")} == {
        "config.json",
        "generation_config.json",
    }
    stems = {name[: len("model-") + 16] for name in names if name.startswith("model-")}
    assert len(stems) == 1


def test_a_killed_first_save_leaves_no_half_checkpoint(tmp_path):
    new, step = model(1), 0
    while killed_at(step, tmp_path, lambda: save_sparse(new, tmp_path)):
        if (tmp_path / "config.json").exists():
            assert same(AutoModelForSeq2SeqLM.from_pretrained(tmp_path), new)
        step += 1
    assert step > 5


DENSE = {
    "one file, of another shape": ("5GB", "5GB", {"encoder_layers": 2}),
    "as many shards, with other settings": ("20KB", "20KB", {"dropout": 0.5}),
    "more shards": ("20KB", "10KB", {"encoder_layers": 2}),
    "shards for one file": ("5GB", "20KB", {"encoder_layers": 2}),
    "one file for shards": ("20KB", "5GB", {"encoder_layers": 2}),
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(name, marks=[pytest.mark.slow] * ("as many" not in name)) for name in DENSE],
)
def test_a_dense_checkpoint_replaces_another_in_one_step(tmp_path, case):
    """What from_pretrained gives is all old or all new: weights, and the config beside them."""
    before, after, changes = DENSE[case]
    old, new = model(0), model(1, **changes)
    old.save_pretrained(tmp_path, max_shard_size=before)
    seen, step = [], 0
    while killed_at(
        step,
        tmp_path,
        lambda: write_dense(new, tmp_path, None, after),
    ):
        found = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
        is_old, is_new = (
            same(found, one) and found.config.dropout == one.config.dropout for one in (old, new)
        )
        assert is_old != is_new, step
        seen.append(is_new)
        step += 1
    assert step > 10
    assert seen == sorted(seen), "the new one came and went"
    assert True in seen
    assert False in seen
    # The names, and the config.json, are those of transformers, and nothing else is left.
    new.save_pretrained(tmp_path / "expected", max_shard_size=after)
    expected = {path.name for path in (tmp_path / "expected").iterdir()}
    assert {path.name for path in tmp_path.iterdir()} - {"expected"} == expected
    config, right = (
        json.loads((place / "config.json").read_text())
        for place in (tmp_path, tmp_path / "expected")
    )
    assert config == right


@pytest.mark.parametrize("before", ["dense, by transformers", "sparse"])
def test_a_dense_copy_without_hard_links_is_the_same(tmp_path, monkeypatch, before):
    def refused(*_: Any) -> None:
        raise OSError("no links here")

    BEFORE[before](model(0), tmp_path)
    monkeypatch.setattr(os, "link", refused)
    new = model(1, encoder_layers=2)
    save_sparse(new, tmp_path, dense_copy=True, max_shard_size="10KB")
    assert same(AutoModelForSeq2SeqLM.from_pretrained(tmp_path), new)
    names = [path.name for path in tmp_path.glob("*.safetensors")]
    assert len(names) > 2
    assert all(re.fullmatch(r"model-\d{5}-of-\d{5}\.safetensors", name) for name in names)
