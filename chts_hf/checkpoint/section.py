"""What config.json says of a sparse checkpoint, checked field by field when it is read.

The ``quantization_config`` of a sparse checkpoint::

    {
      "quant_method": "chts_hf",
      "format_version": 1,
      "method": "chts", "config": {…CHTsConfig…}, "metadata": {…},
      "sparsity": {
        "links": 90, "weights": 900, "sparsity": 0.9,
        "layers": {"…fc1.weight": {"kind": "ffn.up", "shape": [32, 16], "links": 51,
                                   "layout": "gaps4", "dtype": "F32"}}
      },
      "checksums": {"…fc1.weight": 2774834, "…fc1.weight.links": 901239},
      "config_checksums": {"d_model": 4108050209, …}
    }
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from chts_hf.checkpoint.layout import DENSE, LAYOUTS

QUANT_METHOD = "chts_hf"
FORMAT_VERSION = 1
#: Versions that this chts_hf reads.
READABLE_VERSIONS = (1,)
#: What the name of a weight's stream of positions ends with.
STREAM_SUFFIX = ".links"
#: safetensors' names of the dtypes that values may have → bytes.
VALUE_DTYPES = {"F32": 4, "BF16": 2, "F16": 2}
# Far above any model, far below where products of two such numbers get slow.
_LARGEST = 2**48


class SparseFileError(RuntimeError):
    """A sparse checkpoint is damaged, of a newer format, or does not belong to its model."""


@dataclass(frozen=True)
class Layer:
    """One sparsified weight in a file.

    Attributes:
        kind: "ffn.up", "self_attn.q", …; several with "+" where one weight holds several.
        shape: of the weight.
        links: how many it has.
        layout: how their positions are written, one of ``chts_hf.checkpoint.layout.LAYOUTS``.
        dtype: of the values, by safetensors' name.
    """

    kind: str
    shape: tuple[int, ...]
    links: int
    layout: str
    dtype: str

    @property
    def weights(self) -> int:
        """How many weights there are, links or not."""
        return math.prod(self.shape)

    @property
    def dense_bytes(self) -> int:
        """What the weight takes dense."""
        return self.weights * VALUE_DTYPES[self.dtype]


@dataclass(frozen=True)
class Section:
    """The ``quantization_config`` of a sparse checkpoint.

    Attributes:
        layers: stored name → what it is.
        checksums: name of each tensor in the files → CRC-32 of its bytes.
        method: of the training, None if unknown.
        config: the ``CHTsConfig`` as a dictionary, None if unknown.
        metadata: what the caller of ``save_sparse`` added.
        config_checksums: field of config.json → CRC-32 of its value; None in files written before
            there were any. See ``chts_hf.checkpoint.config_check``.
    """

    layers: dict[str, Layer]
    checksums: dict[str, int]
    method: str | None = None
    config: dict[str, Any] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    config_checksums: dict[str, int] | None = None

    @property
    def links(self) -> int:
        """The links of all sparsified weights."""
        return sum(layer.links for layer in self.layers.values())

    @property
    def weights(self) -> int:
        """The number of sparsified weights, links or not."""
        return sum(layer.weights for layer in self.layers.values())

    @property
    def sparsity(self) -> float:
        """The fraction of the sparsified weights that are no links."""
        return 1 - self.links / self.weights if self.weights else 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON values, in the newest format."""
        settings = self.config_checksums
        return {
            "quant_method": QUANT_METHOD,
            "format_version": FORMAT_VERSION,
            "method": self.method,
            "config": self.config,
            "metadata": self.metadata,
            "sparsity": {
                "links": self.links,
                "weights": self.weights,
                "sparsity": self.sparsity,
                "layers": {
                    name: asdict(layer) | {"shape": list(layer.shape)}
                    for name, layer in self.layers.items()
                },
            },
            "checksums": self.checksums,
        } | ({} if settings is None else {"config_checksums": settings})

    @classmethod
    def from_dict(cls, values: object) -> Section:
        """Read and check a ``quantization_config``.

        Raises:
            SparseFileError: the version is unknown, or a value is missing or cannot be right.
        """
        top = _mapping(values, "quantization_config")
        check_version(top)
        sparsity = _mapping(top.get("sparsity"), "sparsity")
        layers = {
            name: _layer(name, value)
            for name, value in _mapping(sparsity.get("layers"), "sparsity.layers").items()
        }
        checksums = _checksums(top, "checksums")
        method, config = top.get("method"), top.get("config")
        if method is not None and not isinstance(method, str):
            raise SparseFileError(f"method must be a name, found {method!r:.60}")
        section = cls(
            layers=layers,
            checksums=checksums,
            method=method,
            config=None if config is None else dict(_mapping(config, "config")),
            metadata=dict(_mapping(top.get("metadata", {}), "metadata")),
            config_checksums=(
                _checksums(top, "config_checksums") if "config_checksums" in top else None
            ),
        )
        for name in ("links", "weights"):
            said = _count(sparsity.get(name), f"sparsity.{name}")
            if said != getattr(section, name):
                raise SparseFileError(
                    f"sparsity.{name} is {said}, but its layers have {getattr(section, name)}"
                )
        section._check_names()
        return section

    def tensor_names(self) -> set[str]:
        """The tensors that the layers consist of."""
        streams = {n + STREAM_SUFFIX for n, layer in self.layers.items() if layer.layout != DENSE}
        return streams | self.layers.keys()

    def _check_names(self) -> None:
        missing = self.tensor_names() - self.checksums.keys()
        if missing:
            raise SparseFileError(f"no checksum of {', '.join(sorted(missing)[:3])}")
        for name in self.layers:
            if name + STREAM_SUFFIX in self.layers:
                raise SparseFileError(f"{name + STREAM_SUFFIX} is a layer and another's stream")


def check_version(values: Mapping[str, Any]) -> None:
    """Refuse a format that this chts_hf cannot read.

    Raises:
        SparseFileError: names the version.
    """
    method, version = values.get("quant_method"), values.get("format_version")
    if method != QUANT_METHOD:
        raise SparseFileError(f"quant_method is {method!r:.60}, not {QUANT_METHOD!r}")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise SparseFileError(f"format_version must be a whole number, found {version!r:.60}")
    if version not in READABLE_VERSIONS:
        raise SparseFileError(
            f"this checkpoint has format version {version}; this chts_hf reads "
            f"{', '.join(map(str, READABLE_VERSIONS))}. Install a newer chts_hf"
        )


def parse_json(text: str | bytes, what: str) -> Any:
    """Parse JSON from an untrusted file; a key given twice is refused.

    Raises:
        SparseFileError: it is no JSON, too deeply nested, or ambiguous.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) != len(pairs):
            twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
            raise SparseFileError(f"{what} has the key {twice!r:.60} twice")
        return values

    try:
        return json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise SparseFileError(f"{what} is no JSON that can be read: {error!s:.200}") from error


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise SparseFileError(f"{what} must be an object, found {value!r:.60}")
    return value


def _count(value: object, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST:
        raise SparseFileError(f"{what} must be a count, found {value!r:.60}")
    return value


def _checksums(values: Mapping[str, Any], field_name: str) -> dict[str, int]:
    found = _mapping(values.get(field_name), field_name)
    return {name: _count(value, f"{field_name}[{name!r:.120}]") for name, value in found.items()}


def _layer(name: str, value: object) -> Layer:
    fields = _mapping(value, f"layer {name!r:.120}")
    shape = fields.get("shape")
    if not isinstance(shape, (list, tuple)) or not 1 <= len(shape) <= 4:
        raise SparseFileError(f"the shape of {name} must be one to four sizes, found {shape!r:.60}")
    layer = Layer(
        kind=str(fields.get("kind", "other")),
        shape=tuple(_count(size, f"a size in the shape of {name}") for size in shape),
        links=_count(fields.get("links"), f"the links of {name}"),
        layout=str(fields.get("layout")),
        dtype=str(fields.get("dtype")),
    )
    if layer.layout not in LAYOUTS:
        raise SparseFileError(f"{name} has the unknown layout {layer.layout!r:.60}")
    if layer.dtype not in VALUE_DTYPES:
        raise SparseFileError(f"{name} has values of {layer.dtype!r:.60}, not {list(VALUE_DTYPES)}")
    if layer.links > layer.weights:
        raise SparseFileError(f"{name} has {layer.links} links in {layer.shape}: too many")
    return layer
