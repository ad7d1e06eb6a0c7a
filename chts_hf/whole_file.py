"""Files that are there whole or not at all, wherever a process is stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a name to write a file under; it gets its own name when it is complete.

    Until then, and after an error, what was there under its own name stays. What a killed process
    leaves is called ``NAME.part``.

    Args:
        path: the file's own name.

    Example:
        >>> with whole_file(path) as part:
        ...     part.write_text("all of it")
    """
    part = path.with_name(path.name + ".part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
