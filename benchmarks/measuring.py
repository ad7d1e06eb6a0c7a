"""What several benchmarks measure with: seconds, their quartiles, and the peak of memory."""

from __future__ import annotations

import os
import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode


def seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def summary(values: Sequence[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(values, n=4)
    return {"median": median, "quartile_low": low, "quartile_high": high, "count": len(values)}


def peak_memory(function: Callable[[], object]) -> int:
    """At most so many bytes were held at once for `function` on the CPU, its result included.

    What torch's allocator holds, which the profiler tells with times, and what Python's holds,
    NumPy's arrays among it, which is looked at before and after every operation of torch: its
    highest between two looks counts together with torch's highest between them.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else the profiler announces every start
    activities = [torch.profiler.ProfilerActivity.CPU]
    profiled = torch.profiler.profile(activities=activities, profile_memory=True)
    with profiled as profiler, _PythonPeaks() as python:
        result = function()
    del result
    assert profiler.profiler is not None
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes = [(e.start_ns(), e.nbytes()) for e in sorted(events, key=lambda e: e.start_ns())]
    held = peak = done = 0
    for moment, of_python in python.seen():
        highest = held
        while done < len(changes) and changes[done][0] <= moment:
            held += changes[done][1]
            highest = max(highest, held)
            done += 1
        peak = max(peak, highest + of_python)
    return peak


class _PythonPeaks(TorchDispatchMode):
    """What Python holds, looked at before and after every operation of torch."""

    def __init__(self) -> None:
        super().__init__()
        # Made before it is counted, so that looking takes no memory that counts.
        self._rows = np.zeros((1 << 17, 2), dtype=np.int64)
        self._looks = 0

    def __enter__(self) -> _PythonPeaks:
        tracemalloc.start()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._look()
        tracemalloc.stop()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self._look()
        result = func(*args, **(kwargs or {}))
        self._look()
        return result

    def _look(self) -> None:
        self._rows[self._looks] = time.time_ns(), tracemalloc.get_traced_memory()[1]
        self._looks += 1
        tracemalloc.reset_peak()

    def seen(self) -> list[list[int]]:
        """Moments (nanoseconds of the epoch), each with the highest since the one before."""
        seen: list[list[int]] = self._rows[: self._looks].tolist()
        return seen
