"""Which product is faster for a layer: measured, on the machine that will use it."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from chts_hf.inference.linear import KERNELS, SparseLinear
from chts_hf.inference.native import native_kernel

ROWS = (4, 32)
_ROUNDS = 9
_CALLS_FOR = 2e-4  # seconds that a timing should last at least, above the clock's own noise
_NEVER_SLOWER = 1.03
_FASTER = 0.95


@dataclass(frozen=True)
class Choice:
    """How a layer will multiply, and why.

    Attributes:
        kernel: one of ``KERNELS``, or "dense".
        ratios: kernel → time of its product / time of the dense product, for each number of rows.
        reason: in words.
    """

    kernel: str
    ratios: dict[str, tuple[float, ...]]
    reason: str


def choose(ratios: dict[str, Sequence[float]]) -> Choice:
    """Decide by times relative to dense: no row count may be slower, and the whole is faster.

    A kernel is possible if none of its ratios is above 1.03 and their geometric mean is at most
    0.95 (a gain within the noise is none); of the possible ones the smallest mean wins.

    Args:
        ratios: kernel → time / dense time, one for each number of rows measured.

    Returns:
        The choice, "dense" if no kernel is possible.

    Example:
        >>> choose({"torch": (0.5, 0.6), "native": (0.2, 1.1)}).kernel
        'torch'
    """
    kept = {name: tuple(values) for name, values in ratios.items()}
    means = {
        name: statistics.geometric_mean(values)
        for name, values in kept.items()
        if max(values) <= _NEVER_SLOWER
    }
    best = min(means, key=means.__getitem__, default=None)
    if best is None or means[best] > _FASTER:
        return Choice("dense", kept, "no sparse product is faster at every number of rows")
    return Choice(best, kept, f"{1 / means[best]:.1f} times as fast as dense")


def measure(
    weight: Tensor,
    bias: Tensor | None = None,
    rows: Sequence[int] = ROWS,
    kernels: Sequence[str] = KERNELS,
) -> Choice:
    """Time dense against sparse products of one matrix, alternating, and choose.

    Takes about 20 ms for a matrix of 512 × 512. The times are medians, so what else the machine
    does in between matters little; what it does all the time counts for both.

    Args:
        weight: (out, in), float32 on the CPU.
        bias: (out,) or None.
        rows: numbers of tokens to multiply at once. In generation they are beams × batch.
        kernels: which to try; "native" is left out where it cannot be built.

    Returns:
        See :func:`choose`.
    """
    usable = [name for name in kernels if name != "native" or native_kernel() is not None]
    layers = {name: SparseLinear(weight, bias, name) for name in usable}
    ratios: dict[str, list[float]] = {name: [] for name in usable}
    with torch.no_grad():
        for count in rows:
            x = torch.randn(count, weight.shape[1], generator=torch.Generator().manual_seed(0))
            candidates: dict[str, Callable[[], Tensor]] = {
                "dense": functools.partial(nn.functional.linear, x, weight, bias)
            } | {name: functools.partial(layer, x) for name, layer in layers.items()}
            times = _times(candidates)
            for name in usable:
                ratios[name].append(times[name] / times["dense"])
    return choose({name: tuple(values) for name, values in ratios.items()})


def _times(candidates: dict[str, Callable[[], Tensor]]) -> dict[str, float]:
    """The median seconds of each, measured in turns."""
    calls = {}
    for name, call in candidates.items():
        call()
        begin = time.perf_counter()
        call()
        calls[name] = max(1, int(_CALLS_FOR / max(time.perf_counter() - begin, 1e-7)))
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(_ROUNDS):
        for name, call in candidates.items():
            begin = time.perf_counter()
            for _ in range(calls[name]):
                call()
            seconds[name].append((time.perf_counter() - begin) / calls[name])
    return {name: statistics.median(values) for name, values in seconds.items()}
