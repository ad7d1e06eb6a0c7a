"""Whether config.json still describes the model that was saved: a checksum of each of its fields.

A number of layers that a flipped bit changed gives a model of which some weights are in no file. So
``quantization_config.config_checksums`` has the CRC-32 of every field that config.json had when it
was written, except those below. A field that is added later is nobody's business: a checkpoint may
be given settings. Files written before there were such checksums have none.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chts_hf.checkpoint.section import Section, SparseFileError

#: Fields that say nothing of the model: other checks', or which transformers rewrites at will.
UNCHECKED = frozenset(
    {"quantization_config", "transformers_weights", "transformers_version", "_name_or_path"}
)


def config_checksums(values: Mapping[str, Any]) -> dict[str, int]:
    """Field of a config.json → CRC-32 of its value, as JSON with sorted keys.

    Args:
        values: the JSON values.
    """
    return {name: _crc(value) for name, value in values.items() if name not in UNCHECKED}


def check_config(section: Section, values: Mapping[str, Any], where: str | Path) -> None:
    """Compare a config.json with the checksums of its fields; without any, nothing is compared.

    Args:
        section: of this config.json.
        values: all of its JSON values.
        where: its path, for the message.

    Raises:
        SparseFileError: names the fields that are missing or have another value.
    """
    expected = section.config_checksums or {}
    changed = [
        f"{name} = {_short(values[name])}" if name in values else f"{name}, which is missing"
        for name, value in expected.items()
        if name not in values or _crc(values[name]) != value
    ]
    if changed:
        raise SparseFileError(
            f"{where} is not as it was saved: {', '.join(sorted(changed)[:3])}. Put back what was "
            "there; to change a setting of the model, give it to from_pretrained, or load the "
            "model, set it on model.config and use save_sparse. Whoever edits the file by hand "
            "removes the field from quantization_config.config_checksums as well"
        )


def _crc(value: Any) -> int:
    try:
        return zlib.crc32(json.dumps(value, sort_keys=True).encode())
    except RecursionError as error:
        raise SparseFileError("a field of config.json is nested too deeply") from error


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
