"""What is in a sparse checkpoint, and whether it is sound, without reading it into a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError

from chts_hf.checkpoint.folder import CONFIG_FILE
from chts_hf.checkpoint.layout import DENSE
from chts_hf.checkpoint.load import model_class_of
from chts_hf.checkpoint.reader import (
    check_layer_stream,
    check_tensors,
    read_config,
    read_headers,
    read_section,
    weight_files,
)
from chts_hf.checkpoint.save import SparseSizes
from chts_hf.checkpoint.section import FORMAT_VERSION, STREAM_SUFFIX, Section, SparseFileError
from chts_hf.checkpoint.skeleton import described, skeleton
from chts_hf.checkpoint.tensor_file import Stored, checksum, dense_size, is_finite, read_values

# What comes of settings that are no model's. transformers checks types with huggingface_hub's
# dataclasses and raises ValueError, OSError (a file in the folder is no configuration) or
# RuntimeError (shapes that do not fit); the classes compute with whatever has the right type, and
# stumble over missing fields, values that are no key or no attribute, sizes of 0 or too large.
_WRONG_SETTINGS = (
    StrictDataclassError,
    ValueError,
    OSError,
    RuntimeError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    AssertionError,
)


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
        name: "config", "headers", "model", "checksums", "links" or "finite".
        passed: whether it is as it should be; None if that could not be looked at.
        detail: what was found, for people.
    """

    name: str
    passed: bool | None
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
        """Whether no check failed."""
        return not any(check.passed is False for check in self.checks)


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
    """Check a sparse checkpoint: its description, checksums, links and values.

    The names and shapes in the files are compared with those of the model that config.json
    describes, built without memory for its weights; a class that no Auto class of transformers
    knows, or that needs a package that is not there, is left out. Nothing is raised for a damaged
    file; memory is that of one layer.

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

    checks.append(_check_model(folder, values, section, stored))
    checks.append(
        _check(
            "checksums",
            section.checksums,
            lambda name: checksum(stored[name]) != section.checksums[name],
            f"{len(stored)} tensors as they were saved",
        )
    )
    checks.append(_check_links(section, stored))
    checks.append(
        _check(
            "finite",
            stored,
            lambda name: not is_finite(stored[name]),
            "no weight is infinite or NaN",
        )
    )
    return Verification(str(folder), tuple(checks))


def _check_links(section: Section, stored: dict[str, Stored]) -> Check:
    zeros = 0

    def are_wrong(name: str) -> bool:
        nonlocal zeros
        layer = section.layers[name]
        found = int(torch.count_nonzero(read_values(stored[name])))
        zeros += layer.links - found
        if layer.layout != DENSE:
            check_layer_stream(name, layer, stored[name + STREAM_SUFFIX])
            return False
        # Dense, what is 0 is no link, unless all are links.
        return layer.links < layer.weights and found != layer.links

    check = _check("links", section.layers, are_wrong, "")
    detail = f"{section.links} links of {section.weights} weights in place; {zeros} have weight 0"
    return Check("links", check.passed, detail if check.passed else check.detail)


def _check_model(
    folder: Path, values: dict[str, Any], section: Section, stored: dict[str, Stored]
) -> Check:
    try:
        model_class = model_class_of(values, folder)
    except (ValueError, ImportError) as error:
        return Check("model", None, f"not checked which weights there must be: {error}")
    try:
        _, wrong = skeleton(model_class, folder, section, stored)
    except ImportError as error:  # of a package that the model needs: the file may be sound
        return Check("model", None, f"not checked which weights there must be: {error}")
    except _WRONG_SETTINGS as error:
        said = f"{folder / CONFIG_FILE} describes no {model_class.__name__}: {error}"
        return Check("model", False, said)
    if wrong:
        return Check("model", False, described(wrong, model_class, folder))
    return Check("model", True, f"all weights of a {model_class.__name__}, and no others")


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


def _check(
    name: str, tensors: Iterable[str], is_wrong: Callable[[str], bool | None], right: str
) -> Check:
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
