"""Bool tensors as packed bits, eight to a byte."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def pack_bits(mask: Tensor) -> Tensor:
    """A bool tensor of n elements → uint8 of ⌈n/8⌉ bytes, row-major, first element highest bit."""
    return torch.from_numpy(np.packbits(mask.cpu().numpy(), axis=None))


def unpack_bits(packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The inverse of :func:`pack_bits`.

    Raises:
        ValueError: the number of bytes does not fit the shape.
    """
    count = math.prod(shape)
    if packed.dtype != torch.uint8 or packed.numel() != -(-count // 8):
        raise ValueError(
            f"expected {-(-count // 8)} bytes of mask for shape {tuple(shape)}, found "
            f"{packed.numel()} elements of {packed.dtype}"
        )
    bits = np.unpackbits(packed.numpy(), count=count).astype(bool)
    return torch.from_numpy(bits.reshape(shape))
