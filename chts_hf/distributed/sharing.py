"""Who does which part of a topology update, and how its result reaches the others."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from chts_hf.checkpoint.bits import pack_bits, unpack_bits


def assign(costs: Sequence[float], ranks: int) -> list[int]:
    """Deal pieces of work out to ranks: the longest first, each to whom has least so far.

    The busiest rank has at most 4/3 of the least possible (Graham 1969).

    Args:
        costs: of each piece.
        ranks: how many ranks there are.

    Returns:
        The rank of each piece; the same on every rank.

    Example:
        >>> assign([3, 1, 1, 1], 2)
        [0, 1, 1, 1]
    """
    load = [(0.0, rank) for rank in range(ranks)]
    owners = [0] * len(costs)
    for piece in sorted(range(len(costs)), key=lambda i: -costs[i]):
        busy, rank = heapq.heappop(load)
        owners[piece] = rank
        heapq.heappush(load, (busy + costs[piece], rank))
    return owners


def update_cost(shape: tuple[int, int]) -> float:
    """What the update of an (out, in) layer costs, up to a factor: ``out · in · (out + in)``.

    That is the number of multiplications in the products of CH link prediction, by far the longest
    part of an update that has it.
    """
    out_features, in_features = shape
    return float(out_features * in_features * (out_features + in_features))


def pack(masks: Sequence[Tensor]) -> Tensor:
    """Bool tensors as the bytes that are sent, on the host: one bit per element."""
    return torch.cat([pack_bits(mask) for mask in masks])


def share(
    packed: Tensor | None, shapes: Sequence[tuple[int, int]], owner: int, device: torch.device
) -> list[Tensor]:
    """Send one rank's masks to all ranks.

    Args:
        packed: what :func:`pack` made; on rank ``owner`` only.
        shapes: of the masks.
        owner: the rank that has them.
        device: where the masks are wanted.

    Returns:
        The masks, on every rank.
    """
    sizes = [-(-rows * columns // 8) for rows, columns in shapes]
    if packed is None:
        packed = torch.empty(sum(sizes), dtype=torch.uint8)
    packed = packed.to(device)
    dist.broadcast(packed, src=owner)
    parts = packed.cpu().split(sizes)
    return [unpack_bits(part, shape).to(device) for part, shape in zip(parts, shapes, strict=True)]
