"""Which batches a run was trained on, in one number for each step."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# Odd constants of splitmix64, as signed numbers; products wrap around at 2^64 on any device.
_PLACE, _VALUE = -7046029254386353131, -4658895280553007687


def batch_number(inputs: Mapping[str, Any]) -> Tensor:
    """Hash a batch to one integer, on the device it is on and without waiting for it.

    Args:
        inputs: ``input_ids`` and ``labels``, integer tensors of any shape.

    Returns:
        An int64 scalar. It depends on the values and their places, not on the device.
    """
    flat = torch.cat([inputs["input_ids"].flatten(), inputs["labels"].flatten()]).long()
    places = torch.arange(1, flat.numel() + 1, device=flat.device)
    return ((flat + 1) * (places * _PLACE).bitwise_xor(_VALUE)).sum()


class BatchLog:
    """Keeps a number for every optimizer step in a file, so that runs can be compared.

    A line is ``step number``. Numbers wait on their device until :meth:`flush`, which appends
    them; a step that is done again after a resume is there twice.

    Args:
        path: the file; it is gone on with if it exists.

    Example:
        >>> log = BatchLog("output/batches.txt")
        >>> log.add(1, {"input_ids": ids, "labels": labels})
        >>> log.flush()
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._waiting: list[tuple[int, Tensor]] = []

    def add(self, step: int, inputs: Mapping[str, Any]) -> None:
        """Note a batch of an optimizer step, counted from 1; a step may have several."""
        self._waiting.append((step, batch_number(inputs)))

    def flush(self) -> None:
        """Write what waits."""
        if not self._waiting:
            return
        numbers = torch.stack([number for _, number in self._waiting]).tolist()
        by_step: dict[int, int] = {}
        for (step, _), number in zip(self._waiting, numbers, strict=True):
            by_step[step] = by_step.get(step, 0) * 31 + number
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(f"{step} {n & (2**64 - 1):016x}\n" for step, n in by_step.items())
        self._waiting = []

    def clear(self) -> None:
        """Forget an earlier run's steps."""
        self._waiting = []
        self.path.unlink(missing_ok=True)


def batches_digest(path: str | Path, steps: int) -> str | None:
    """Sum a run's batches up in one word, the same for runs that saw the same in the same order.

    A step that was done again after a resume counts once if it saw the same batch again. If it saw
    another, both count, so the run differs from all that were resumed exactly or never stopped.

    Args:
        path: a :class:`BatchLog`'s file.
        steps: the run's optimizer steps.

    Returns:
        16 hexadecimal digits; None if the file is not there or lacks a step, as when a run went on
        in another folder.
    """
    path = Path(path)
    if not path.is_file():
        return None
    seen: dict[int, dict[str, None]] = {}
    # A run that was killed may have left half a line.
    for step, number in re.findall(r"^(\d+) ([0-9a-f]{16})$", path.read_text(), re.M):
        seen.setdefault(int(step), {})[number] = None
    if any(step not in seen for step in range(1, steps + 1)):
        return None
    row = "\n".join(" ".join(seen[step]) for step in range(1, steps + 1))
    return hashlib.sha256(row.encode()).hexdigest()[:16]
