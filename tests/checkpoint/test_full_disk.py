"""A disk that is full while a checkpoint is saved: the old one stays, and nothing else does."""

from __future__ import annotations

import builtins
import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from chts_hf import load_sparse, save_sparse
from tests.checkpoint.sparse_models import assert_same_weights, sparse_marian


class Disk:
    """Room for so many bytes, which files that are opened for writing in a folder use up."""

    def __init__(self, folder: Path, room: int) -> None:
        self.folder, self.room, self.open = folder, room, builtins.open

    def __call__(self, path: Any, mode: str = "r", *more: Any, **options: Any) -> Any:
        file = self.open(path, mode, *more, **options)
        if "w" not in mode or not str(path).startswith(str(self.folder)):
            return file
        write = file.write

        def limited(data: Any) -> int:
            self.room -= len(data)
            if self.room < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return int(write(data))

        return _Limited(file, limited)


class _Limited:
    def __init__(self, file: Any, write: Any) -> None:
        self.file, self.write = file, write

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> _Limited:
        self.file.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.file.__exit__(*error)


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("shards", ["5GB", "10KB"])
@pytest.mark.parametrize("dense_copy", [False, True])
def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch, shards, dense_copy):
    old, new = sparse_marian(seed=0), sparse_marian(seed=1, encoder_layers=2)
    save_sparse(old, tmp_path)
    before = contents(tmp_path)
    monkeypatch.setattr(builtins, "open", Disk(tmp_path, 30_000))  # less than the weights
    with pytest.raises(
        OSError, match=r"failed \(.*No space left on device\); no checkpoint"
    ) as caught:
        save_sparse(new, tmp_path, max_shard_size=shards, dense_copy=dense_copy)
    monkeypatch.undo()
    assert caught.value.errno == errno.ENOSPC
    assert str(tmp_path) in str(caught.value)
    assert contents(tmp_path) == before
    assert_same_weights(old, load_sparse(tmp_path))
    # With room again, the next one is saved.
    save_sparse(new, tmp_path, max_shard_size=shards)
    assert_same_weights(new, load_sparse(tmp_path))
