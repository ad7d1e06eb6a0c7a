"""Whether the JSON header of a mask file is one, before anything of it is used."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any

#: The field that has the checksum of all others.
CHECKSUM = "header_checksum"

#: Far above any run, far below what would take long to count.
_LARGEST = 2**48
_MOST_RANKS = 2**20
_ROUNDING = 1e-6  # of a sparsity that was computed


def check_header(header: Any) -> None:
    """Check the type and range of every field but ``config``, which ``CHTsConfig`` checks.

    A header has a checksum too, but for those that were written before there was one.

    Args:
        header: the JSON value.

    Raises:
        ValueError: names the field, or says that the header is not the one that was written.
    """
    if not isinstance(header, dict):
        raise ValueError(f"its header is no object: {header!r:.60}")
    if CHECKSUM in header and header[CHECKSUM] != header_checksum(header):
        raise ValueError(
            f"its header is not as it was written: the checksum would be {header_checksum(header)},"
            f" and {CHECKSUM} says {header[CHECKSUM]!r:.60}"
        )
    for name, (is_right, right) in _FIELDS.items():
        if name not in header:
            raise ValueError(f"its header has no {name}")
        if not is_right(header[name]):
            raise ValueError(f"{name} must be {right}, found {header[name]!r:.60}")
    if not _is_count(header.get("world_size", 1), 1, _MOST_RANKS):
        raise ValueError(f"world_size must be a count, found {header['world_size']!r:.60}")
    if header["weights"].keys() != header["shapes"].keys():
        raise ValueError("weights and shapes are of other layers")


def header_checksum(header: Mapping[str, Any]) -> int:
    """The CRC-32 of all fields but the checksum itself, as JSON in the order they have.

    It is the same of what is written and of what is read back: JSON keeps the order, and each
    number as it is.
    """
    fields = {name: value for name, value in header.items() if name != CHECKSUM}
    return zlib.crc32(json.dumps(fields).encode())


def _is_count(value: Any, least: int = 0, most: int = _LARGEST) -> bool:
    return type(value) is int and least <= value <= most


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= _LARGEST  # NaN is not


def _is_shape(value: Any) -> bool:
    sizes = isinstance(value, list) and len(value) <= 16 and all(map(_is_count, value))
    return sizes and math.prod(value) <= _LARGEST


def _is_fingerprint(value: Any) -> bool:
    pair = isinstance(value, list) and len(value) == 2
    return pair and isinstance(value[0], str) and _is_count(value[1])


def _all(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Mapping) and all(map(is_right, value.values()))


def _is_fraction(value: Any) -> bool:
    return type(value) in (int, float) and -_ROUNDING <= value <= 1 + _ROUNDING


_FRACTIONS = _all(_is_fraction), "fractions by name"
_COUNT = _is_count, "a count"
_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "config": (lambda value: isinstance(value, dict), "an object"),
    "shapes": (_all(_is_shape), "shapes by name"),
    "checksums": (_all(_is_count), "counts by name"),
    "weights": (_all(_is_fingerprint), "dtypes and checksums by name"),
    "step_count": _COUNT,
    "updates": _COUNT,
    "topology_runtime": (_is_number, "seconds"),
    "regrown_at": (lambda value: value is None or _is_count(value), "a count or null"),
    "resting": (
        lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
        "a list of names",
    ),
    "initial": _FRACTIONS,
    "final": _FRACTIONS,
}
