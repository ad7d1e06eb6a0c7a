"""Uniform random numbers, drawn where the generator lives."""

from __future__ import annotations

import torch
from torch import Tensor


def noise_device(generator: torch.Generator | None) -> torch.device:
    """Returns where random numbers are drawn: on the generator's device, the CPU for None."""
    return torch.device("cpu") if generator is None else generator.device


def uniform_noise(
    size: tuple[int, ...],
    generator: torch.Generator | None,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Returns numbers in [0, 1), on the generator's own device."""
    return torch.rand(size, dtype=dtype, generator=generator, device=noise_device(generator))
