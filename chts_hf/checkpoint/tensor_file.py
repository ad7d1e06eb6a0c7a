"""safetensors files, written tensor by tensor and read with suspicion.

The format: eight bytes, little-endian, the length of a JSON header; the header, name → dtype, shape
and the two offsets of its bytes in what follows; the tensors' bytes, without gaps. The safetensors
library writes it from tensors that are all in memory; here each is made when its turn comes.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from chts_hf.checkpoint.section import SparseFileError, parse_json

#: torch's dtypes → safetensors' names and bytes.
DTYPES: dict[torch.dtype, tuple[str, int]] = {
    torch.float64: ("F64", 8),
    torch.float32: ("F32", 4),
    torch.float16: ("F16", 2),
    torch.bfloat16: ("BF16", 2),
    torch.int64: ("I64", 8),
    torch.int32: ("I32", 4),
    torch.int16: ("I16", 2),
    torch.int8: ("I8", 1),
    torch.uint8: ("U8", 1),
    torch.bool: ("BOOL", 1),
}
_SIZES = dict(DTYPES.values())
_TORCH_DTYPES = {name: dtype for dtype, (name, _) in DTYPES.items()}
_LONGEST_HEADER = 100_000_000  # the safetensors library's own limit
_CHUNK = 1 << 22


@dataclass(frozen=True)
class Entry:
    """A tensor to be written.

    Attributes:
        name: in the file.
        dtype: its dtype.
        shape: its shape.
        make: makes the tensor, anew at each call; one that is written is gone then.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    make: Callable[[], Tensor]

    @property
    def size(self) -> int:
        """Bytes."""
        return DTYPES[self.dtype][1] * math.prod(self.shape)

    @property
    def stored_as(self) -> tuple[str, tuple[int, ...]]:
        """Name of the dtype in safetensors, and the shape."""
        return DTYPES[self.dtype][0], self.shape


@dataclass(frozen=True)
class Stored:
    """A tensor in a file.

    Attributes:
        path: the file.
        dtype: safetensors' name of it.
        shape: its shape.
        start: where its bytes begin in the file.
        size: how many there are.
    """

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of that name."""
        return _TORCH_DTYPES[self.dtype]


def header_bytes(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> bytes:
    """The start of a file of these tensors, whose bytes follow in this order.

    Args:
        tensors: name → safetensors' name of the dtype, and shape.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (dtype, shape) in tensors.items():
        end = offset + _SIZES[dtype] * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def dense_size(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> int:
    """The bytes of one file of these tensors, its header included."""
    ordered = sorted(tensors.items(), key=lambda item: (-_SIZES[item[1][0]], item[0]))
    data = sum(_SIZES[dtype] * math.prod(shape) for _, (dtype, shape) in ordered)
    return len(header_bytes(dict(ordered))) + data


def aligned(entries: Sequence[Entry]) -> list[Entry]:
    """The order in which every tensor's bytes are aligned: that of the safetensors library."""
    return sorted(entries, key=lambda entry: (-DTYPES[entry.dtype][1], entry.name))


def write_file(path: Path, entries: Sequence[Entry]) -> dict[str, int]:
    """Write a file, holding one tensor at a time in memory; on return it is on the disk.

    Args:
        path: the file, overwritten if it is there.
        entries: what is written, in the order it is.

    Returns:
        Name → CRC-32 of its bytes.
    """
    checksums: dict[str, int] = {}
    with open(path, "wb") as file:
        file.write(header_bytes({entry.name: entry.stored_as for entry in entries}))
        for entry in entries:
            checksums[entry.name] = _write_entry(file, entry)
        file.flush()
        os.fsync(file.fileno())
    return checksums


def _write_entry(file: BinaryIO, entry: Entry) -> int:
    """Write one tensor, which is gone when this returns; its CRC-32."""
    tensor = entry.make()
    if tensor.dtype != entry.dtype or tuple(tensor.shape) != entry.shape:
        raise RuntimeError(
            f"{entry.name} changed while it was saved: {entry.dtype} {entry.shape} became "
            f"{tensor.dtype} {tuple(tensor.shape)}"
        )
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    data = flat.view(torch.uint8).numpy().data if flat.numel() else b""
    file.write(data)
    return zlib.crc32(data)


def read_header(path: Path) -> dict[str, Stored]:
    """The tensors of a file, with everything the header says checked against the file's size.

    Raises:
        SparseFileError: the file is missing, truncated, or its header cannot be right.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or not 2 <= length <= min(_LONGEST_HEADER, size - 8):
                raise SparseFileError(
                    f"{path} is truncated or no safetensors file: it has {size} bytes, its header "
                    f"would have {length}"
                )
            text = file.read(length)
    except OSError as error:
        raise SparseFileError(f"{path} cannot be read: {error}") from error
    header = parse_json(text, f"the header of {path}")
    if not isinstance(header, dict):
        raise SparseFileError(f"the header of {path} is no object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise SparseFileError(f"{path}: __metadata__ must be texts by name: {metadata!r:.120}")
    begin, end, stored = 8 + length, 0, {}
    for name, value in sorted(header.items(), key=lambda item: _offsets(path, *item)):
        start, stop = _offsets(path, name, value)
        dtype, shape = value.get("dtype"), value.get("shape")
        if not isinstance(dtype, str) or dtype not in _SIZES:
            raise SparseFileError(f"{path}: {name!r:.120} has the unknown dtype {dtype!r:.60}")
        if (
            not isinstance(shape, list)
            or len(shape) > 16
            or not all(type(n) is int and 0 <= n <= size for n in shape)
        ):
            raise SparseFileError(f"{path}: {name!r:.120} cannot have the shape {shape!r:.60}")
        if start != end or stop - start != _SIZES[dtype] * math.prod(shape):
            raise SparseFileError(
                f"{path}: {name!r:.120}, {dtype} {shape}, cannot lie at bytes {start} to {stop}"
            )
        end = stop
        stored[name] = Stored(path, dtype, tuple(shape), begin + start, stop - start)
    if begin + end != size:
        raise SparseFileError(
            f"{path} is truncated or damaged: its header describes {begin + end} bytes, it has "
            f"{size}"
        )
    try:
        with safe_open(path, framework="pt"):
            pass  # the library that will read it has its own idea of JSON
    except (SafetensorError, OSError) as error:
        raise SparseFileError(f"{path} cannot be read: {error}") from error
    return stored


def checksum(tensor: Stored) -> int:
    """The CRC-32 of a stored tensor's bytes."""
    value = 0
    for chunk in _chunks(tensor):
        value = zlib.crc32(chunk, value)
    return value


def read_bytes(tensor: Stored) -> Tensor:
    """A stored tensor's bytes, as a uint8 tensor."""
    data = np.empty(tensor.size, dtype=np.uint8)
    with open(tensor.path, "rb") as file:
        file.seek(tensor.start)
        if file.readinto(data.data) != tensor.size:
            raise SparseFileError(f"{tensor.path} became shorter while it was read")
    return torch.from_numpy(data)


def read_values(tensor: Stored) -> Tensor:
    """A stored tensor, in its dtype and shape."""
    if not tensor.size:  # torch gives no view of nothing in another dtype
        return torch.empty(tensor.shape, dtype=tensor.torch_dtype)
    return read_bytes(tensor).view(tensor.torch_dtype).reshape(tensor.shape)


def is_finite(tensor: Stored) -> bool:
    """Whether no number of a stored tensor is infinite or NaN; memory is that of a piece of it."""
    if not tensor.torch_dtype.is_floating_point:
        return True
    return all(
        bool(torch.isfinite(torch.frombuffer(bytearray(chunk), dtype=tensor.torch_dtype)).all())
        for chunk in _chunks(tensor)
    )


def _chunks(tensor: Stored) -> Iterator[bytes]:
    with open(tensor.path, "rb") as file:
        file.seek(tensor.start)
        left = tensor.size
        while left:
            chunk = file.read(min(left, _CHUNK))
            if not chunk:
                raise SparseFileError(f"{tensor.path} became shorter while it was read")
            left -= len(chunk)
            yield chunk


def _offsets(path: Path, name: str, value: object) -> tuple[int, int]:
    offsets = value.get("data_offsets") if isinstance(value, dict) else None
    if (
        not isinstance(offsets, list)
        or len(offsets) != 2
        or not all(type(n) is int for n in offsets)
        or not 0 <= offsets[0] <= offsets[1]
    ):
        raise SparseFileError(f"{path}: {name!r:.120} has no offsets: {value!r:.120}")
    return offsets[0], offsets[1]
