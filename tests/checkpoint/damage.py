"""Changing the files of a saved checkpoint, and what its reader says of them."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from chts_hf.checkpoint.reader import check_files, read_config, read_section, weight_files
from tests.checkpoint.sparse_models import UP

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)

#: How long a file is fuzzed.
FUZZ = settings(
    max_examples=150,
    deadline=2000,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def check(folder: Path) -> None:
    values = read_config(folder)
    section = read_section(values, folder)
    check_files(section, weight_files(folder, values))


def weights(folder: Path) -> Path:
    (path,) = folder.glob("*.safetensors")
    return path


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def edit_section(folder: Path, change: Callable[[Any], Any]) -> None:
    edit(folder / "config.json", lambda values: change(values["quantization_config"]))


def edit_layer(folder: Path, **changes: Any) -> None:
    edit_section(folder, lambda s: s["sparsity"]["layers"][UP].update(changes))


def edit_header(path: Path, change: Callable[[str], str]) -> None:
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = change(data[8 : 8 + length].decode()).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data[8 + length :])


def set_in_header(path: Path, name: str, **changes: Any) -> None:
    def change(text: str) -> str:
        header = json.loads(text)
        header[name].update(changes)
        return json.dumps(header)

    edit_header(path, change)


def flip(path: Path, position: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(bytes(data))


def cut(path: Path, by: int) -> None:
    path.write_bytes(path.read_bytes()[:-by])


def twice(text: str) -> str:
    """The JSON object with one of its keys given again."""
    name, value = next(iter(json.loads(text).items()))
    return text.rstrip()[:-1] + f", {json.dumps(name)}: {json.dumps(value)}}}"


def make_old(folder: Path) -> None:
    """As if it was written before fields had checksums."""
    edit_section(folder, lambda section: section.pop("config_checksums"))


def take_out(folder: Path, part: str) -> None:
    """Remove tensors from file and section, which then agree with each other."""
    tensors = {n: t for n, t in load_file(weights(folder)).items() if part not in n}
    save_file(tensors, weights(folder), metadata={"format": "pt"})

    def forget(section: Any) -> None:
        for name in [name for name in section["checksums"] if part in name]:
            del section["checksums"][name]
            layer = section["sparsity"]["layers"].pop(name, None)
            if layer:
                section["sparsity"]["links"] -= layer["links"]
                section["sparsity"]["weights"] -= layer["shape"][0] * layer["shape"][1]

    edit_section(folder, forget)
