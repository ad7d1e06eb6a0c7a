"""Whether the files of a sparse checkpoint are what its config.json says, before they are used."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from chts_hf.checkpoint.config_check import check_config
from chts_hf.checkpoint.folder import CONFIG_FILE, WEIGHTS_FIELD
from chts_hf.checkpoint.layout import DENSE, check_stream, stream_limit
from chts_hf.checkpoint.section import (
    STREAM_SUFFIX,
    Layer,
    Section,
    SparseFileError,
    parse_json,
)
from chts_hf.checkpoint.tensor_file import Stored, checksum, read_bytes, read_header


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a folder.

    Raises:
        SparseFileError: it is missing or no JSON object.
    """
    path = folder / CONFIG_FILE
    try:
        values = parse_json(path.read_bytes(), str(path))
    except OSError as error:
        raise SparseFileError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise SparseFileError(f"{path} is no object")
    return values


def is_sparse(values: Mapping[str, Any]) -> bool:
    """Whether a config.json is that of a sparse checkpoint, readable or not."""
    section = values.get("quantization_config")
    return isinstance(section, Mapping) and section.get("quant_method") == "chts_hf"


def read_section(values: Mapping[str, Any], where: Path) -> Section:
    """The section of a config.json, whose other fields are compared with it.

    Raises:
        SparseFileError: there is none, it cannot be right, or other fields are not as they were.
    """
    if not is_sparse(values):
        raise SparseFileError(
            f"{where} is no sparse checkpoint: its {CONFIG_FILE} has no quantization_config of "
            "chts_hf. If it was saved with dense_copy=True, the sparse one is in its subfolder: "
            'subfolder="sparse". A training checkpoint stays dense: chts-hf export makes one of it'
        )
    try:
        section = Section.from_dict(values["quantization_config"])
    except SparseFileError as error:
        raise SparseFileError(f"{where / CONFIG_FILE}: {error}") from error
    check_config(section, values, where / CONFIG_FILE)
    return section


def weights_name(folder: Path, values: Mapping[str, Any]) -> str:
    """The weight file, or its index, that a config.json names.

    Raises:
        SparseFileError: it is no plain file name.
    """
    return _file_name(values.get(WEIGHTS_FIELD, "model.safetensors"), folder / CONFIG_FILE)


def weight_files(folder: Path, values: Mapping[str, Any]) -> list[Path]:
    """The weight files that a config.json refers to, none of them outside the folder.

    Raises:
        SparseFileError: a name is no plain file name, or the index cannot be right.
    """
    name = weights_name(folder, values)
    if not name.endswith(".index.json"):
        return [folder / name]
    path = folder / name
    try:
        index = parse_json(path.read_bytes(), str(path))
    except OSError as error:
        raise SparseFileError(f"{path} cannot be read: {error}") from error
    parts = index if isinstance(index, dict) else {}
    weight_map = parts.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or "metadata" not in parts:
        raise SparseFileError(f"{path} has no metadata or no weight_map")
    names = dict.fromkeys(_file_name(value, path) for value in weight_map.values())
    return [folder / name for name in names]


def check_inside(files: Sequence[str | Path], source: str | Path) -> None:
    """Refuse weight files that an index took from elsewhere.

    Args:
        files: their paths.
        source: the folder that was asked for, or a repository, whose files lie in one folder.

    Raises:
        SparseFileError: names the first that lies outside.
    """
    paths = [Path(os.path.abspath(file)) for file in files]  # without "..", links as they are
    for path in paths:
        away = Path(source).is_dir() and Path(os.path.abspath(source)) not in path.parents
        if away or path.parent != paths[0].parent:
            raise SparseFileError(f"{path} is outside the folder of the checkpoint {source}")


def read_headers(files: Iterable[str | Path]) -> dict[str, Stored]:
    """All tensors of some files.

    Raises:
        SparseFileError: a file is damaged, or two have the same tensor.
    """
    stored: dict[str, Stored] = {}
    for file in files:
        for name, tensor in read_header(Path(file)).items():
            if name in stored:
                raise SparseFileError(f"{name} is in {stored[name].path} and in {file}")
            stored[name] = tensor
    return stored


def check_tensors(section: Section, stored: Mapping[str, Stored]) -> None:
    """Compare the headers of the files with the section; reads no tensor.

    Raises:
        SparseFileError: a tensor is missing, unexpected, or has another dtype or shape.
    """
    missing = sorted(section.checksums.keys() - stored.keys())
    extra = sorted(stored.keys() - section.checksums.keys())
    if missing or extra:
        raise SparseFileError(
            f"the weight files are not those that {CONFIG_FILE} describes: missing {missing[:3]}, "
            f"unexpected {extra[:3]}"
        )
    for name, layer in section.layers.items():
        values = stored[name]
        shape = layer.shape if layer.layout == DENSE else (layer.links,)
        if values.dtype != layer.dtype or values.shape != shape:
            raise SparseFileError(
                f"{name} should be {layer.dtype} {shape}, its file has {values.dtype} "
                f"{values.shape}"
            )
        if layer.layout != DENSE:
            stream = stored[name + STREAM_SUFFIX]
            fewest, most = stream_limit(layer.layout, layer.shape, layer.links)
            if stream.dtype != "U8" or len(stream.shape) != 1 or not fewest <= stream.size <= most:
                raise SparseFileError(
                    f"{name + STREAM_SUFFIX} should be {fewest} to {most} bytes, its file has "
                    f"{stream.dtype} {stream.shape}"
                )


def listed(names: Iterable[str]) -> str:
    """The first three of some names, sorted, and how many more there are."""
    ordered = sorted(names)
    more = f" and {len(ordered) - 3} more" if len(ordered) > 3 else ""
    return f"{', '.join(ordered[:3])}{more}"


def check_contents(section: Section, stored: Mapping[str, Stored]) -> None:
    """Compare checksums, and count and place the links of every layer.

    Memory is that of one layer's positions; no weight is built.

    Raises:
        SparseFileError: names the tensor that is damaged.
    """
    for name, expected in section.checksums.items():
        if checksum(stored[name]) != expected:
            raise SparseFileError(f"{stored[name].path} is damaged: the checksum of {name} differs")
    for name, layer in section.layers.items():
        if layer.layout != DENSE:
            check_layer_stream(name, layer, stored[name + STREAM_SUFFIX])


def check_layer_stream(name: str, layer: Layer, stream: Stored) -> None:
    """Count and place the links of one layer.

    Raises:
        SparseFileError: the count differs, or a link lies outside the weight.
    """
    try:
        check_stream(read_bytes(stream), layer.layout, layer.shape, layer.links)
    except ValueError as error:
        raise SparseFileError(f"{stream.path}: {name}: {error}") from error


def check_files(section: Section, files: Sequence[str | Path]) -> None:
    """Headers and contents of the files that are about to be loaded.

    Raises:
        SparseFileError: what is wrong, and where.
    """
    stored = read_headers(files)
    check_tensors(section, stored)
    check_contents(section, stored)


def _file_name(value: object, where: Path) -> str:
    if (
        not isinstance(value, str)
        or Path(value).name != value
        or "\\" in value
        or not value.isprintable()  # neither "\0" nor half a character, which no file system takes
        or not value.endswith((".safetensors", ".safetensors.index.json"))
    ):
        raise SparseFileError(f"{where} refers to {value!r:.120}, which is no file of its folder")
    return value
