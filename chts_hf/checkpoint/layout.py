"""How the positions of a weight's links are written: whichever of four layouts is smallest.

A weight of ``n`` elements, ``k`` of them links, is stored as its ``k`` values in row-major order
and a stream of bytes that says where they belong:

========  =====================================================================  ===============
layout    stream                                                                 bytes
========  =====================================================================  ===============
dense     none; all ``n`` values are stored                                      0
bitmask   one bit per weight, the first in the highest bit                       ``⌈n / 8⌉``
gaps4     per link a 4-bit code: how many weights without a link precede it      ``≈ 0.063 n``
gaps8     the same with 8-bit codes                                              ``≈ k``
========  =====================================================================  ===============

(gaps4: at 90 % sparsity, where the entropy of the positions is ``0.059 n`` bytes.) In a gap stream
the highest code, 15 or 255, says "skip that many weights, no link here", so a gap of any length is
written as some skips and a remainder. gaps4 puts two codes in a byte, the first in the high bits;
an odd last one is filled up with a skip.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chts_hf.bits import pack_bits, unpack_bits

DENSE, BITMASK, GAPS4, GAPS8 = "dense", "bitmask", "gaps4", "gaps8"
LAYOUTS = (DENSE, BITMASK, GAPS4, GAPS8)
_SKIP = {GAPS4: 15, GAPS8: 255}
# Four bits per link are more than one bit per weight from here on.
_GAPS_BELOW = 0.25


def choose_layout(mask: Tensor, element_size: int) -> tuple[str, int]:
    """The layout that takes the fewest bytes for a weight with this mask.

    Args:
        mask: bool, of the weight's shape, True where there is a link.
        element_size: bytes of one value.

    Returns:
        The layout's name and how many bytes its stream has.
    """
    weights, links = mask.numel(), int(torch.count_nonzero(mask))
    streams = {BITMASK: -(-weights // 8)}
    if links < _GAPS_BELOW * weights:
        gaps = _gaps(mask)
        streams |= {layout: _stream_bytes(gaps, layout) for layout in _SKIP}
    layout = min(streams, key=lambda name: streams[name])
    if (weights - links) * element_size <= streams[layout]:
        return DENSE, 0
    return layout, streams[layout]


def encode_links(mask: Tensor, layout: str) -> Tensor:
    """The stream of bytes, uint8, that says where a mask has its links.

    Args:
        mask: bool, any shape.
        layout: "bitmask", "gaps4" or "gaps8".
    """
    if layout == BITMASK:
        return pack_bits(mask)
    gaps: NDArray[np.int64] = _gaps(mask)
    skip = _SKIP[layout]
    last = np.cumsum(gaps // skip + 1) - 1  # the position of each link's own code, behind its skips
    count = int(last[-1]) + 1 if last.size else 0
    codes: NDArray[np.uint8] = np.full(count, skip, dtype=np.uint8)
    codes[last] = (gaps % skip).astype(np.uint8)
    if layout == GAPS4:
        codes = np.pad(codes, (0, codes.size % 2), constant_values=skip)
        codes = codes[0::2] * np.uint8(16) + codes[1::2]
    return torch.from_numpy(codes)


def stream_limit(layout: str, shape: tuple[int, ...], links: int) -> tuple[int, int]:
    """The fewest and the most bytes that a stream can have; needs no memory.

    Args:
        layout: its name.
        shape: the weight's.
        links: how many it has.
    """
    weights = math.prod(shape)
    if layout == DENSE:
        return 0, 0
    if layout == BITMASK:
        return (-(-weights // 8),) * 2
    most = links + weights // _SKIP[layout] + 1
    per_byte = 2 if layout == GAPS4 else 1
    return -(-links // per_byte), -(-most // per_byte)


def check_stream(stream: Tensor, layout: str, shape: tuple[int, ...], links: int) -> None:
    """Whether a stream is one of this many links within this shape.

    Memory is bounded by the stream's own size, whatever the shape says.

    Raises:
        ValueError: the stream's size, its number of links or its last position is wrong.
    """
    fewest, most = stream_limit(layout, shape, links)
    if stream.dtype != torch.uint8 or not fewest <= stream.numel() <= most:
        raise ValueError(
            f"a {layout} stream of {links} links in {tuple(shape)} has {fewest} to {most} bytes, "
            f"found {stream.numel()} elements of {stream.dtype}"
        )
    weights = math.prod(shape)
    data = stream.numpy()
    if layout == BITMASK:
        found = int(_ONES[data].sum())
        if weights % 8 and data[-1] & (0xFF >> weights % 8):
            raise ValueError(f"the bitmask has links beyond its {weights} weights")
    else:
        positions = _positions(data, layout)
        found = positions.size
        if found and int(positions[-1]) >= weights:
            raise ValueError(f"a link at index {int(positions[-1])} of {weights} weights")
    if found != links:
        raise ValueError(f"the stream has {found} links, the header says {links}")


def decode_links(stream: Tensor, layout: str, shape: tuple[int, ...], links: int) -> Tensor:
    """The mask that :func:`encode_links` wrote.

    Args:
        stream: uint8, on the CPU.
        layout: "bitmask", "gaps4" or "gaps8".
        shape: of the weight. The caller knows that the model's own parameter has this shape:
            nothing else bounds what is allocated here.
        links: how many there must be.

    Returns:
        A bool tensor of that shape.

    Raises:
        ValueError: what :func:`check_stream` refuses.
    """
    check_stream(stream, layout, shape, links)
    if layout == BITMASK:
        return unpack_bits(stream, shape)
    mask = np.zeros(math.prod(shape), dtype=bool)
    mask[_positions(stream.numpy(), layout)] = True
    return torch.from_numpy(mask.reshape(shape))


def decode_weight(values: Tensor, mask: Tensor) -> Tensor:
    """Put a weight's values, in row-major order, where its mask has links; 0 elsewhere.

    Raises:
        ValueError: the number of values is not that of the links.
    """
    links = int(torch.count_nonzero(mask))
    if values.shape != (links,):
        raise ValueError(f"{links} links, but values of shape {tuple(values.shape)}")
    weight = torch.zeros(mask.shape, dtype=values.dtype, device="cpu")
    return weight.masked_scatter_(mask, values)


_ONES = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)


def _gaps(mask: Tensor) -> NDArray[np.int64]:
    """How many weights without a link precede each link."""
    positions = np.flatnonzero(mask.detach().cpu().numpy().reshape(-1))
    gaps: NDArray[np.int64] = np.diff(positions, prepend=-1) - 1
    return gaps


def _stream_bytes(gaps: NDArray[np.int64], layout: str) -> int:
    codes = gaps.size + int((gaps // _SKIP[layout]).sum())
    return -(-codes // 2) if layout == GAPS4 else codes


def _positions(data: NDArray[np.uint8], layout: str) -> NDArray[np.int64]:
    """The flat indices of the links of a gap stream, ascending by construction."""
    codes = np.stack((data >> 4, data & 15), axis=1).reshape(-1) if layout == GAPS4 else data
    ends: NDArray[np.int64] = np.cumsum(codes + (codes != _SKIP[layout]), dtype=np.int64)
    positions: NDArray[np.int64] = ends[codes != _SKIP[layout]] - 1
    return positions
