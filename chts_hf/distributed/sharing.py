"""Who does which part of a topology update, and how its result reaches the others."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from chts_hf.bits import pack_bits, unpack_bits


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
    """Bool tensors as the bytes that are sent, one bit per element, each padded to whole bytes."""
    on_host = masks[0].device.type == "cpu"
    return torch.cat([pack_bits(mask) if on_host else pack_on_device(mask) for mask in masks])


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
        packed = torch.empty(sum(sizes), dtype=torch.uint8, device=device)
    dist.broadcast(packed, src=owner)
    unpack = unpack_bits if device.type == "cpu" else unpack_on_device
    return [unpack(part, shape) for part, shape in zip(packed.split(sizes), shapes, strict=True)]


# The host's packing takes a GPU's masks through the host, which at billions of weights would take
# longer than the update. The bytes are the same.


def pack_on_device(mask: Tensor) -> Tensor:
    """What :func:`chts_hf.bits.pack_bits` makes, without leaving the mask's device."""
    flat = mask.reshape(-1).to(torch.uint8)
    padded = torch.nn.functional.pad(flat, (0, -flat.numel() % 8)).view(-1, 8)
    return padded.mul_(_bit_values(mask.device)).sum(dim=1, dtype=torch.uint8)


def unpack_on_device(packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The inverse of :func:`pack_on_device`."""
    bits = packed[:, None].bitwise_and(_bit_values(packed.device)) != 0
    return bits.view(-1)[: math.prod(shape)].reshape(shape)


def _bit_values(device: torch.device) -> Tensor:
    return torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8, device=device)
