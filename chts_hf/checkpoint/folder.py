"""A checkpoint folder that changes from its old state to its new one in a single step.

Everything is written in a staging folder inside and put on the disk. Then the weight files move to
names made from their contents, which nothing refers to yet; then tokenizer and generation settings
are replaced, file by file; then config.json is replaced, which names the weight files
(``transformers_weights``) and describes them: that is the step. What the old one named goes last.

A dense checkpoint should have the names that every tool looks for, such as ``model.safetensors``.
It takes that step, and then a second one: the files get these names too, which the config.json of
the moment does not refer to, and it is replaced by one that does.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from huggingface_hub import split_state_dict_into_shards_factory

from chts_hf.checkpoint.tensor_file import Entry, aligned, write_file

CONFIG_FILE = "config.json"
#: The folder, beside the model, of a target tokenizer that is not the source's.
TARGET_FOLDER = "target_tokenizer"
#: The field of config.json that names the weight file or its index; transformers reads it.
WEIGHTS_FIELD = "transformers_weights"
# An underscore: the Trainer does not upload such files.
_STAGING = "_saving-"
_PLAIN = "model"
#: Names of weight files, ours and transformers'.
WEIGHT_FILES = re.compile(r"model(-[0-9a-f]{16})?(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")


@dataclass(frozen=True)
class Written:
    """Weight files in a staging folder.

    Attributes:
        name: what config.json has to say.
        names: all files.
        checksums: tensor → CRC-32.
        size: bytes of the tensor files, headers included.
    """

    name: str
    names: tuple[str, ...]
    checksums: dict[str, int]
    size: int


@contextmanager
def staging_folder(folder: Path) -> Iterator[Path]:
    """A new folder inside ``folder``; those of processes that were killed are removed.

    Raises:
        OSError: what was done with it failed; of a full disk, for example.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{_STAGING}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=_STAGING) as staging:
        try:
            yield Path(staging)
        except OSError as error:
            said = f"saving in {folder} failed ({error}); no checkpoint there is damaged"
            raise (OSError(error.errno, said) if error.errno else OSError(said)) from error


def write_weights(staging: Path, entries: Sequence[Entry], max_shard_size: int | str) -> Written:
    """Write tensors into one file, or into several with an index, named after their contents.

    Args:
        staging: where.
        entries: the tensors.
        max_shard_size: of a file, in bytes or as "5GB".
    """
    by_name = {entry.name: entry for entry in entries}
    split = split_state_dict_into_shards_factory(
        by_name,
        get_storage_size=lambda entry: entry.size,
        filename_pattern="shard{suffix}.safetensors",
        max_shard_size=max_shard_size,
    )
    checksums: dict[str, int] = {}
    digest = blake2b(digest_size=8)
    for shard, names in split.filename_to_tensors.items():
        ordered = aligned([by_name[name] for name in names])
        found = write_file(staging / shard, ordered)
        described = [(entry.name, *entry.stored_as, found[entry.name]) for entry in ordered]
        digest.update(repr(described).encode())
        checksums |= found
    stem = f"{_PLAIN}-{digest.hexdigest()}"
    renamed = {shard: shard.replace("shard", stem, 1) for shard in split.filename_to_tensors}
    size = 0
    for shard, name in renamed.items():
        size += (staging / shard).stat().st_size
        (staging / shard).rename(staging / name)
    if not split.is_sharded:
        (name,) = renamed.values()
        return Written(name, (name,), checksums, size)
    index = {
        "metadata": {"total_size": sum(entry.size for entry in entries)},
        "weight_map": {n: renamed[shard] for n, shard in split.tensor_to_filename.items()},
    }
    name = f"{stem}.safetensors.index.json"
    write_json(staging / name, index)
    return Written(name, (*renamed.values(), name), checksums, size)


def commit(staging: Path, folder: Path, weights: Written) -> None:
    """Move everything from the staging folder to its place, config.json last."""
    others = [
        path.relative_to(staging)
        for path in sorted(staging.rglob("*"))
        if path.is_file() and path.name not in (*weights.names, CONFIG_FILE)
    ]
    for name in [*map(Path, weights.names), *others, Path(CONFIG_FILE)]:
        if name == Path(CONFIG_FILE):
            _sync_folder(folder)  # what it refers to must be there before it is
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        _sync_file(staging / name)
        os.replace(staging / name, target)
    _sync_folder(folder)
    for path in folder.iterdir():
        if WEIGHT_FILES.fullmatch(path.name) and path.name not in weights.names:
            path.unlink()


def commit_dense(staging: Path, folder: Path, weights: Written, config: Mapping[str, Any]) -> None:
    """Move everything from the staging folder to its place, in the end under the plain names.

    A process killed in between leaves a config.json that has a ``transformers_weights``.

    Args:
        staging: where the weights and settings are, without a config.json.
        folder: their place.
        weights: as :func:`write_weights` returned them.
        config: the values of config.json.
    """
    write_json(staging / CONFIG_FILE, {**config, WEIGHTS_FIELD: weights.name})
    commit(staging, folder, weights)
    plain = {name: re.sub(rf"^{_PLAIN}-[0-9a-f]{{16}}", _PLAIN, name) for name in weights.names}
    for name, short in plain.items():
        if name == weights.name and name.endswith(".json"):
            index = json.loads((folder / name).read_text(encoding="utf-8"))
            index["weight_map"] = {n: plain[shard] for n, shard in index["weight_map"].items()}
            write_json(staging / short, index)
        else:
            _link(folder / name, staging / short)
    write_json(staging / CONFIG_FILE, config)
    commit(staging, folder, replace(weights, name=plain[weights.name], names=tuple(plain.values())))


def write_json(path: Path, value: Any) -> None:
    """Write JSON as transformers does."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _link(path: Path, other: Path) -> None:
    """Give a file a second name; a copy where the disk knows no such thing."""
    try:
        os.link(path, other)
    except OSError:
        shutil.copyfile(path, other)


def _sync_file(path: Path) -> None:
    with open(path, "r+b") as file:  # Windows puts on the disk only what may be written to
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # folders cannot be opened elsewhere
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
