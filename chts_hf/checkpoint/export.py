"""Whole checkpoint folders: dense ↔ sparse, what is in one, and whether it is sound."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from chts_hf.checkpoint.folder import CONFIG_FILE, WEIGHT_FILES, staging_folder
from chts_hf.checkpoint.layout import DENSE
from chts_hf.checkpoint.load import check_checkpoint, model_class_of
from chts_hf.checkpoint.reader import (
    check_layer_stream,
    check_tensors,
    is_sparse,
    read_config,
    read_headers,
    read_section,
    weight_files,
)
from chts_hf.checkpoint.save import SPARSE_FOLDER, SparseSizes, save_sparse, write_dense
from chts_hf.checkpoint.section import (
    FORMAT_VERSION,
    STREAM_SUFFIX,
    Section,
    SparseFileError,
)
from chts_hf.checkpoint.tensor_file import Stored, checksum, dense_size, read_values
from chts_hf.config import CHTsConfig


@dataclass(frozen=True)
class LayerReport:
    """One sparsified weight.

    Attributes:
        name: in the file.
        kind: "ffn.up", "self_attn.q", ….
        shape: of the weight.
        links: how many it has.
        sparsity: the fraction of its weights that are no links.
        layout: how positions are written: "dense", "bitmask", "gaps4", "gaps8".
        dtype: of the values: "F32", "BF16", "F16".
        bytes: values and positions.
        dense_bytes: what the weight takes dense.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    links: int
    sparsity: float
    layout: str
    dtype: str
    bytes: int
    dense_bytes: int


@dataclass(frozen=True)
class FileReport:
    """A sparse checkpoint.

    Attributes:
        folder: where it is.
        format_version: of the file.
        architecture: the model's class, "" if the file does not say.
        method: of the training, None if unknown.
        config: the ``CHTsConfig`` as a dictionary, None if unknown.
        metadata: what was kept with it.
        files: names of the weight files.
        sizes: bytes and links, as ``save_sparse`` returns them.
        layers: the sparsified weights, in the file's order.
    """

    folder: str
    format_version: int
    architecture: str
    method: str | None
    config: dict[str, Any] | None
    metadata: dict[str, Any]
    files: tuple[str, ...]
    sizes: SparseSizes
    layers: tuple[LayerReport, ...]

    @property
    def sparsity(self) -> float:
        """The fraction of the sparsified weights that are no links."""
        return 1 - self.sizes.links / self.sizes.weights if self.sizes.weights else 0.0


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: "config", "headers", "checksums", "links", "zeros" or "finite".
        passed: whether it is as it should be.
        detail: what was found, for people.
    """

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Verification:
    """What :func:`verify` found.

    Attributes:
        folder: what was looked at.
        checks: in the order they were made; the first two, if they fail, leave out the others.
    """

    folder: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether all checks passed."""
        return all(check.passed for check in self.checks)


def inspect_file(folder: str | Path) -> FileReport:
    """What a sparse checkpoint is made of; reads headers alone.

    Raises:
        SparseFileError: it is no sparse checkpoint, of a newer format, or its headers are wrong.
    """
    folder = Path(folder)
    values = read_config(folder)
    section = read_section(values, folder)
    files = weight_files(folder, values)
    stored = read_headers(files)
    check_tensors(section, stored)
    names = values.get("architectures")
    layers = tuple(_layer_report(name, section, stored) for name in section.layers)
    dense = {
        name: (tensor.dtype, section.layers[name].shape if name in section.layers else tensor.shape)
        for name, tensor in stored.items()
        if name in section.layers or name not in section.tensor_names()
    }
    return FileReport(
        folder=str(folder),
        format_version=values["quantization_config"].get("format_version", FORMAT_VERSION),
        architecture=str(names[0]) if isinstance(names, list) and names else "",
        method=section.method,
        config=section.config,
        metadata=section.metadata,
        files=tuple(path.name for path in files),
        sizes=SparseSizes(
            sparse_bytes=sum(path.stat().st_size for path in files),
            dense_bytes=dense_size(dense),
            sparsified_bytes=sum(layer.bytes for layer in layers),
            sparsified_dense_bytes=sum(layer.dense_bytes for layer in layers),
            links=section.links,
            weights=section.weights,
        ),
        layers=layers,
    )


def verify(folder: str | Path) -> Verification:
    """Check a sparse checkpoint: its description, checksums, links, zeros and values.

    Nothing is raised for a damaged file; memory is that of one layer.

    Args:
        folder: a local folder.

    Example:
        >>> verify("output/demo").passed
        True
    """
    folder = Path(folder)
    checks: list[Check] = []
    try:
        values = read_config(folder)
        section = read_section(values, folder)
        checks.append(Check("config", True, f"{len(section.layers)} sparsified weights"))
    except SparseFileError as error:
        return Verification(str(folder), (Check("config", False, str(error)),))
    try:
        stored = read_headers(weight_files(folder, values))
        check_tensors(section, stored)
        checks.append(Check("headers", True, f"{len(stored)} tensors"))
    except SparseFileError as error:
        return Verification(str(folder), (*checks, Check("headers", False, str(error))))

    layers = {n: la for n, la in section.layers.items() if la.layout != DENSE}
    links = sum(layer.links for layer in layers.values())
    checks.append(
        _check(
            "checksums",
            section.checksums,
            lambda name: checksum(stored[name]) != section.checksums[name],
            f"{len(stored)} tensors as they were saved",
        )
    )
    checks.append(
        _check(
            "links",
            layers,
            lambda name: check_layer_stream(name, layers[name], stored[name + STREAM_SUFFIX]),
            f"{links} links counted and in place",
        )
    )
    zeros = 0

    def wrong_zeros(name: str) -> bool:
        nonlocal zeros
        layer = section.layers[name]
        found = int(torch.count_nonzero(read_values(stored[name])))
        zeros += layer.links - found
        sparse_in_dense = layer.layout == DENSE and layer.links < layer.weights
        return found != layer.links if sparse_in_dense else found > layer.links

    check = _check("zeros", section.layers, wrong_zeros, "")
    detail = f"{section.weights - section.links} weights are no links; {zeros} links have weight 0"
    checks.append(Check("zeros", check.passed, check.detail if not check.passed else detail))
    checks.append(
        _check(
            "finite",
            section.layers,
            lambda name: not bool(torch.isfinite(read_values(stored[name])).all()),
            "no weight is infinite or NaN",
        )
    )
    return Verification(str(folder), tuple(checks))


def densify(folder: str | Path, out: str | Path, *, max_shard_size: int | str = "5GB") -> None:
    """Write a sparse checkpoint folder as a plain dense one.

    Tokenizer files, the model card and whatever else lies in the folder are copied.

    Args:
        folder: the sparse checkpoint, local.
        out: another folder.
        max_shard_size: of one weight file.

    Raises:
        SparseFileError: the checkpoint is damaged or none.
        ValueError: ``out`` is ``folder``, or the model's class is unknown.
    """
    source, target = _two_folders(folder, out)
    model: PreTrainedModel = check_checkpoint(source).from_pretrained(source, dtype="auto")
    write_dense(model, target, None, max_shard_size)
    _copy_others(source, target)


def sparsify(
    folder: str | Path,
    out: str | Path,
    *,
    config: CHTsConfig | None = None,
    dense_copy: bool = False,
    max_shard_size: int | str = "5GB",
) -> SparseSizes:
    """Write a dense checkpoint folder whose weights have zeros as a sparse one.

    No weight is changed: the links are the weights that are not 0.

    Args:
        folder: the dense checkpoint, local.
        out: another folder.
        config: what it was trained with, and which weights are targets.
        dense_copy: as :func:`save_sparse` has it.
        max_shard_size: of one weight file.

    Returns:
        The sizes.

    Raises:
        SparseFileError: its config.json cannot be read, or it is sparse already.
        ValueError: ``out`` is ``folder``, or the model's class is unknown.
    """
    source, target = _two_folders(folder, out)
    values = read_config(source)
    if is_sparse(values):
        raise SparseFileError(f"{source} is a sparse checkpoint already")
    model: PreTrainedModel = model_class_of(values, source).from_pretrained(source, dtype="auto")
    sizes = save_sparse(
        model, target, config=config, dense_copy=dense_copy, max_shard_size=max_shard_size
    )
    _copy_others(source, target)
    return sizes


def _layer_report(name: str, section: Section, stored: dict[str, Stored]) -> LayerReport:
    layer = section.layers[name]
    stream = stored.get(name + STREAM_SUFFIX) if layer.layout != DENSE else None
    return LayerReport(
        name=name,
        kind=layer.kind,
        shape=layer.shape,
        links=layer.links,
        sparsity=1 - layer.links / layer.weights if layer.weights else 0.0,
        layout=layer.layout,
        dtype=layer.dtype,
        bytes=stored[name].size + (stream.size if stream else 0),
        dense_bytes=layer.dense_bytes,
    )


def _check(name: str, tensors: Any, is_wrong: Callable[[str], bool | None], right: str) -> Check:
    """Look at every tensor and list the first few that are wrong."""
    wrong = []
    for tensor in tensors:
        try:
            if is_wrong(tensor):
                wrong.append(tensor)
        except SparseFileError as error:
            wrong.append(str(error))
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return Check(name, not wrong, f"{', '.join(wrong[:3])}{more}" if wrong else right)


def _two_folders(folder: str | Path, out: str | Path) -> tuple[Path, Path]:
    source, target = Path(folder), Path(out)
    if source.resolve() == target.resolve():
        raise ValueError(f"out must be another folder than {source}")
    return source, target


def _copy_others(source: Path, target: Path) -> None:
    """Copy what is neither weights nor settings that were just written."""
    written = {CONFIG_FILE, "generation_config.json"}
    with staging_folder(target) as staging:
        for path in source.iterdir():
            ordinary = path.is_file() and not path.is_symlink()
            if ordinary and path.name not in written and not WEIGHT_FILES.fullmatch(path.name):
                shutil.copy2(path, staging / path.name)
                os.replace(staging / path.name, target / path.name)
