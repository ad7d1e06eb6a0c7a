"""Who trains together, whether all agree, and failing together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

_CHUNK = 1 << 20  # 8-byte words hashed at a time
_FACTORS = (0x1E3779B97F4A7C15, 0x3F58476D1CE4E5B9, 0x14D049BB133111EB)  # any odd numbers


def is_distributed() -> bool:
    """Whether several processes train together."""
    return world_size() > 1


def world_size() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process among them."""
    return dist.get_rank() if is_distributed() else 0


def mean_at(tensor: Tensor, owner: int) -> None:
    """Replace ``tensor`` on rank ``owner`` by its mean over all ranks; elsewhere it is spoilt."""
    if not is_distributed():
        return
    dist.reduce(tensor, dst=owner)
    if rank() == owner:
        tensor.div_(world_size())


@contextmanager
def failing_together(
    device: torch.device | None = None, task: str = "make its part of the topology update"
) -> Iterator[None]:
    """Have an error of one rank raised on every rank, so that none waits for it forever.

    All ranks must enter and leave the block; no rank may communicate within it.

    Args:
        device: where tensors to be sent must be; None: it is found.
        task: what a rank with an error could not do, for the message of the others.

    Raises:
        RuntimeError: on the ranks that had no error themselves.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    if is_distributed():
        failed = torch.tensor([-1 if failure is None else rank()], device=device or _home())
        dist.all_reduce(failed, op=dist.ReduceOp.MAX)
        if failure is None and int(failed) >= 0:
            raise RuntimeError(f"rank {int(failed)} could not {task}; see its error")
    if failure is not None:
        raise failure


def check_ranks_agree(masks: Mapping[str, Tensor], device: torch.device | None = None) -> None:
    """Stop the run if the masks, or the layers they are of, differ between ranks.

    Each rank sends 16 bytes per layer. Every rank must call this.

    Args:
        masks: layer → mask.
        device: where tensors to be sent must be if there are no masks; None: it is found.

    Raises:
        RuntimeError: names the first layer that differs.
    """
    if not is_distributed():
        return
    device = next((mask.device for mask in masks.values()), device or _home())
    check_fingerprints({name: fingerprint(mask) for name, mask in masks.items()}, device)


def check_fingerprints(fingerprints: Mapping[str, Tensor], device: torch.device) -> None:
    """Stop the run if fingerprints, or the layers they are of, differ between ranks.

    Args:
        fingerprints: layer → what :func:`fingerprint` made of its mask.
        device: where tensors to be sent must be.

    Raises:
        RuntimeError: names the first layer that differs.
    """
    check_same_layers(list(fingerprints), device)
    if not fingerprints or not is_distributed():
        return
    differing = _differing(torch.stack(list(fingerprints.values())))
    if differing.any():
        name = list(fingerprints)[int(differing.nonzero()[0])]
        raise RuntimeError(
            f"the masks of {name} differ between ranks; every rank must start from the same "
            "weights, configuration and seed"
        )


def check_same_layers(names: Sequence[str], device: torch.device) -> None:
    """Stop the run if the ranks have not the same layers to sparsify.

    Raises:
        RuntimeError: they have not.
    """
    if not is_distributed():
        return
    digest = hashlib.blake2b("\0".join(names).encode(), digest_size=8).digest()
    layers = torch.tensor([int.from_bytes(digest, "little", signed=True)], device=device)
    if _differing(layers).any():
        raise RuntimeError(
            f"the ranks have not the same layers to sparsify; rank {rank()} has {len(names)}. "
            "Every rank must have the same whole model and configuration; where a pipeline or "
            "tensor parallelism splits the model over the ranks, use DistributedDataParallel, or "
            "FSDP2's fully_shard(model), instead"
        )


def same_everywhere(number: int, device: torch.device | None = None) -> bool:
    """Whether all ranks call with the same number; the same answer on every rank.

    Args:
        number: what is compared.
        device: where tensors to be sent must be; None: it is found.
    """
    if not is_distributed():
        return True
    return not bool(_differing(torch.tensor([number], device=device or _home())).any())


def _home() -> torch.device:
    """A device whose tensors can be sent.

    With NCCL that is the process's current GPU, which is the right one only after
    ``torch.cuda.set_device``; so who knows a tensor of the model gives its device instead.
    """
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


def _differing(values: Tensor) -> Tensor:
    """Which of the integers are not the same on all ranks; one exchange."""
    extremes = torch.stack([values, ~values])  # the most of ~x is ~ the least of x
    dist.all_reduce(extremes, op=dist.ReduceOp.MAX)
    return extremes[0] != ~extremes[1]


@torch.no_grad()
def fingerprint(mask: Tensor) -> Tensor:
    """A 64-bit hash of a mask, made on its own device.

    Eight elements make a word. Each word, with its position added, goes through a mix like that of
    splitmix64 (Steele et al. 2014), and the results are added up modulo 2^64, so two different
    masks have the same hash with a probability of about 2^-63.

    Args:
        mask: bool, of any shape.

    Returns:
        An int64 scalar tensor.
    """
    flat = mask.contiguous().view(-1).view(torch.uint8)
    total = torch.zeros((), dtype=torch.int64, device=mask.device)
    for start in range(0, flat.numel(), 8 * _CHUNK):
        part = flat[start : start + 8 * _CHUNK]
        if part.numel() % 8 or part.storage_offset() % 8:
            part = torch.nn.functional.pad(part, (0, -part.numel() % 8))
        words = part.view(torch.int64)
        mixed = torch.arange(words.numel(), device=mask.device).add_(start // 8 + 1)
        mixed.mul_(_FACTORS[0]).add_(words)
        for factor in _FACTORS[1:]:
            mixed ^= mixed >> 32
            mixed.mul_(factor)
        mixed ^= mixed >> 32
        total += mixed.sum()
    return total
