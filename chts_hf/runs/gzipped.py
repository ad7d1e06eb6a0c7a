"""Data files that are compressed with gzip."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path


def unzipped(data: bytes, path: Path) -> bytes:
    """What a file that is compressed with gzip has in it.

    Args:
        data: the file's bytes.
        path: its name, for the message.

    Raises:
        ValueError: it is cut off, damaged, or no gzip file.
    """
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"data file {str(path)!r} is not a readable gzip file: {error}") from error
