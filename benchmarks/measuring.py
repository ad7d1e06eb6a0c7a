"""What several benchmarks measure with: seconds, their quartiles, and the peak of memory."""

from __future__ import annotations

import os
import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence

import torch


def seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def summary(values: Sequence[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(values, n=4)
    return {"median": median, "quartile_low": low, "quartile_high": high, "count": len(values)}


def peak_memory(function: Callable[[], object]) -> int:
    """At most so many bytes were held at once for `function` on the CPU, its result included.

    The sum of two peaks, which may have come at different times: of torch's allocator and of NumPy,
    whose arrays torch does not see. For them `function` is called twice.
    """
    tracemalloc.start()
    function()
    of_numpy = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else the profiler announces every start
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        result = function()
    del result
    assert profiler.profiler is not None
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak + of_numpy
