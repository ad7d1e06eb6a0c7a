"""Weighted draws without replacement from few random numbers: the inverse of the running sum.

A uniform number times the sum of all weights falls into one cell's stretch of the running sum, with
probability proportional to that cell's weight. Passing over cells that come again leaves successive
draws without replacement. They take one random number each, where exponential clocks
(:mod:`chts_hf.topology.sampling`) take one per cell, so this is the quicker way to draw a small
share of many cells, none of which outweighs the others so much that most draws would repeat it.

Weights are rounded up to whole multiples of a unit, which shifts chances by less than 2**-16, and
added as integers. So neither the order of summation nor the device changes what is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from chts_hf.topology.noise import noise_device, uniform_noise
from chts_hf.topology.selection import block_size, kth_smallest, sorted_values

_LARGEST_SHARE = 1 / 8  # of all cells; most of a larger draw would be repeats
_MOST_REPEATS = 64  # how often the heaviest cell may be expected to come in a round of draws
_LEAST_UNITS = 1 << 16  # of a cell on average; rounding adds less than one to each


def draw_round(weights: Tensor, positive: int, k: int, generator: torch.Generator | None) -> Tensor:
    """Makes somewhat more than ``k`` draws, and returns the different cells among the first ones.

    Args:
        weights: Flat, finite and not negative. Cells of weight 0 are never drawn.
        positive: How many weights are positive.
        k: How many cells are wanted.
        generator: Source of randomness; the default CPU generator if None.

    Returns:
        LongTensor of flat indices: of the first ``k`` different cells drawn, or of all where there
        were fewer, in no particular order. Empty, with no random number used, where exponential
        clocks would do better.
    """
    nothing = torch.empty(0, dtype=torch.long, device=weights.device)
    n = weights.numel()
    if not 0 < k <= _LARGEST_SHARE * positive:
        return nothing
    heaviest = float(weights.max())
    # n weights up to a power of 2 that is above the heaviest add up to 2**52 units at most.
    units = 2.0 ** min(52 - _log2_above(n) - _log2_above(heaviest), 1000)
    blocks = weights.split(block_size(weights))
    ends = torch.stack([_in_units(block, units).sum() for block in blocks]).cumsum(0)
    total = int(ends[-1])
    if total < n * _LEAST_UNITS or k * heaviest * units > _MOST_REPEATS * total:
        return nothing

    m = k + k // 8 + 16
    points = uniform_noise((m,), generator).to(weights.device).mul_(total).long()
    points = sorted_values(points.clamp_(max=total - 1))
    # Which draw was the first, which the second: they are alike, so any order is as likely.
    order = torch.randperm(m, generator=generator, device=noise_device(generator))
    # Draws of one cell lie side by side, and it came at the first of their places in the order.
    different: Tensor
    different, run = torch.unique_consecutive(
        _cells_of(points, blocks, ends, units), return_inverse=True
    )
    if different.numel() <= k:
        return different
    came = torch.full_like(different, m).scatter_reduce_(0, run, order.to(run.device), "amin")
    return different[came <= kth_smallest(came.clone(), k)]


def _cells_of(points: Tensor, blocks: Sequence[Tensor], ends: Tensor, units: float) -> Tensor:
    """Returns the cells whose stretches of the running sum the ascending points lie in."""
    found = torch.empty_like(points)
    first = 0
    for i, last in enumerate(torch.searchsorted(points, ends).tolist()):
        if last > first:
            sums = _in_units(blocks[i], units).cumsum_(0)
            within = points[first:last] - (ends[i] - sums[-1])
            found[first:last] = torch.searchsorted(sums, within, right=True)
            found[first:last] += i * blocks[0].numel()
            first = last
            del sums  # before those of the next block
    return found


def _in_units(weights: Tensor, units: float) -> Tensor:
    # From 2**52 to 2**53 a float64 has no binary places, and its lower 52 bits count the ones: the
    # whole numbers below 2**52 become integers in place.
    whole = weights.to(torch.float64, copy=True).mul_(units).ceil_().add_(2.0**52)
    return whole.view(torch.int64).bitwise_and_(2**52 - 1)


def _log2_above(value: float) -> int:
    """Returns the smallest e with ``value <= 2**e``, or one more."""
    return math.frexp(value)[1]
