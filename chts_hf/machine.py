"""What a time was measured on, in words that name no particular machine, and a clock for it."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor


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


def settled_time(tensors: Iterable[Tensor]) -> float:
    """The time, in seconds of ``time.perf_counter``, when all that waits on devices is done.

    A CUDA device computes behind the program's back. Without waiting for it, what is measured next
    would be charged with the work that was there before, and its own left to what comes after.

    Args:
        tensors: on the devices to wait for.
    """
    for device in {tensor.device for tensor in tensors if tensor.device.type == "cuda"}:
        torch.cuda.synchronize(device)
    return time.perf_counter()
