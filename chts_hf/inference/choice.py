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
from chts_hf.inference.swapped import SwappedLinear

PRODUCTS = (*KERNELS, "swapped")
"""What a layer can do but be as it is: a sparse kernel, or a dense :class:`SwappedLinear`."""

ROWS = (4, 32)
"""Tokens at once: four beams of one sentence, and of eight."""
_ROUNDS = 15
_CALLS_FOR = 5e-4  # seconds that a timing should last at least, above the clock's own noise
_NEVER_SLOWER = 1.03
_FASTER = 0.95


@dataclass(frozen=True)
class Choice:
    """How a layer will multiply, and why.

    Attributes:
        kernel: one of ``PRODUCTS``, or "dense": as it is.
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
        return Choice("dense", kept, "no other product is faster at every number of rows")
    return Choice(best, kept, f"{1 / means[best]:.1f} times as fast as dense")


def measure(
    weight: Tensor,
    bias: Tensor | None = None,
    rows: Sequence[int] = ROWS,
    kernels: Sequence[str] = PRODUCTS,
) -> Choice:
    """Time the ordinary product of one matrix against others, alternating, and choose.

    Takes less than 0.1 s for a matrix of 512 × 512. The fastest of fifteen timings counts for each,
    because what else a machine does can only add to them.

    Args:
        weight: (out, in), float32 on the CPU.
        bias: (out,) or None.
        rows: numbers of tokens to multiply at once. In generation they are beams × batch.
        kernels: which of ``PRODUCTS`` to try; "native" is left out where it cannot be built.

    Returns:
        See :func:`choose`.
    """
    usable = [name for name in kernels if name != "native" or native_kernel() is not None]
    layers = {name: _layer(name, weight, bias, max(rows)) for name in usable}
    ratios: dict[str, list[float]] = {name: [] for name in usable}
    with torch.no_grad():
        for count in rows:
            x = torch.randn(count, weight.shape[1], generator=torch.Generator().manual_seed(0))
            candidates: dict[str, Callable[[], Tensor]] = {
                "dense": functools.partial(nn.functional.linear, x, weight, bias)
            } | {name: functools.partial(layer, x) for name, layer in layers.items()}
            if count == 1:
                candidates.pop("swapped", None)  # it is the ordinary product then
            times = _times(candidates)
            for name in usable:
                ratios[name].append(times.get(name, times["dense"]) / times["dense"])
    return choose({name: tuple(values) for name, values in ratios.items()})


def _layer(kernel: str, weight: Tensor, bias: Tensor | None, most_rows: int) -> nn.Module:
    if kernel in KERNELS:
        return SparseLinear(weight, bias, kernel)
    return SwappedLinear(weight, bias, most_rows)


def _times(candidates: dict[str, Callable[[], Tensor]]) -> dict[str, float]:
    """The least seconds of each, measured in turns."""
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
    return {name: min(values) for name, values in seconds.items()}
