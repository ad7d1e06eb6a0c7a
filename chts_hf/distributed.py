"""The one place that knows of ranks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn


def is_distributed() -> bool:
    """Whether several processes train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def average_over_ranks(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its mean over all ranks, in place."""
    if not is_distributed():
        return
    for tensor in tensors:
        dist.all_reduce(tensor)
        tensor.div_(dist.get_world_size())


def check_ranks_agree(masks: Mapping[str, Tensor]) -> None:
    """Stop the run if the masks differ between ranks.

    Each rank sends 8 bytes per layer, a hash of the mask.

    Raises:
        RuntimeError: names the first layer that differs.
    """
    if not is_distributed() or not masks:
        return
    device = next(iter(masks.values())).device
    mine = torch.tensor([_fingerprint(mask) for mask in masks.values()], device=device)
    rank_zero = mine.clone()
    dist.broadcast(rank_zero, src=0)
    differs = (mine != rank_zero).to(torch.int32)
    dist.all_reduce(differs, op=dist.ReduceOp.MAX)
    if differs.any():
        name = list(masks)[int(differs.nonzero()[0])]
        raise RuntimeError(
            f"the masks of {name} differ between ranks; every rank must start from the same "
            "weights, configuration and seed"
        )


def _fingerprint(mask: Tensor) -> int:
    digest = hashlib.blake2b(mask.cpu().numpy().tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


#: Wrappers that hide the module a user means, by class name: what to do instead.
_WRAPPERS = {
    "DistributedDataParallel": "pass the module inside it: accelerator.unwrap_model(model)",
    "DataParallel": "nn.DataParallel is not supported; use DistributedDataParallel (torchrun)",
    "FullyShardedDataParallel": "FSDP1 is not supported; use DistributedDataParallel",
    "DeepSpeedEngine": "DeepSpeed is not supported; use DistributedDataParallel",
    "OptimizedModule": "pass the module that was compiled: accelerator.unwrap_model(model)",
}


def refuse_wrapped(model: nn.Module) -> None:
    """Refuse a model inside a wrapper whose parameter names or storage are not its own.

    Raises:
        ValueError: names the wrapper and what to pass instead.
    """
    name = type(model).__name__
    if name in _WRAPPERS:
        raise ValueError(f"the model is wrapped in {name}: {_WRAPPERS[name]}")
    sharded = next((n for n, p in model.named_parameters() if type(p).__name__ == "DTensor"), None)
    if sharded is not None:
        raise ValueError(
            f"{sharded} is a DTensor: FSDP2 and tensor parallelism are not supported; use "
            "DistributedDataParallel (torchrun, or accelerate launch without FSDP)"
        )
