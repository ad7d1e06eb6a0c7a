"""A repository on the Hub is loaded by its name; here it lies in the cache already."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from transformers import AutoModelForSeq2SeqLM

from chts_hf import SparseFileError, load_sparse, save_sparse
from tests.checkpoint.sparse_models import assert_same_weights, sparse_marian

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def cached_repository(cache: Path, name: str) -> Path:
    """The folder of a repository's only commit in a cache."""
    root = cache / f"models--{name.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    return root / "snapshots" / COMMIT


def into_blobs(snapshot: Path) -> None:
    """Put the files where the cache has them: links to blobs in another folder."""
    blobs = snapshot.parents[1] / "blobs"
    blobs.mkdir()
    for number, path in enumerate(p for p in snapshot.rglob("*") if p.is_file()):
        path.rename(blobs / f"{number:040x}")
        path.symlink_to(os.path.relpath(blobs / f"{number:040x}", path.parent))


@pytest.mark.parametrize("shards", [{}, {"max_shard_size": "5KB"}], ids=["one file", "shards"])
def test_a_repository_is_loaded_by_its_name(tmp_path, shards):
    model = sparse_marian()
    snapshot = cached_repository(tmp_path, "me/translator")
    save_sparse(model, snapshot, **shards)
    into_blobs(snapshot)
    for load in (load_sparse, AutoModelForSeq2SeqLM.from_pretrained):
        assert_same_weights(model, load("me/translator", cache_dir=tmp_path))


def test_a_repository_with_a_dense_copy_has_the_sparse_one_in_its_subfolder(tmp_path):
    model = sparse_marian()
    snapshot = cached_repository(tmp_path, "me/translator")
    save_sparse(model, snapshot, dense_copy=True)
    into_blobs(snapshot)
    loaded = load_sparse("me/translator", cache_dir=tmp_path, subfolder="sparse")
    assert_same_weights(model, loaded)
    with pytest.raises(SparseFileError, match='subfolder="sparse"'):
        load_sparse("me/translator", cache_dir=tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(OSError, match=r"there is no folder '.*nowhere' here, nor could it be had"):
        load_sparse(tmp_path / "nowhere")
