"""What a number was measured on, in words that name no particular machine."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch


def machine_kind() -> str:
    """The kind of this machine: GPUs if there are any, else the processor, and its cores.

    Example:
        >>> machine_kind()  # doctest: +SKIP
        '2 cores of AMD EPYC'
    """
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    return f"{os.cpu_count()} cores of {processor}"
