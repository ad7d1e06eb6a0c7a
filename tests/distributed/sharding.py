"""Models sharded by FSDP2 on the CPU, and batches for them."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from torch import nn
from torch.distributed.fsdp import fully_shard


def shard(model: nn.Module, layers: bool = True, **options: Any) -> nn.Module:
    """Shard a transformer over all processes, each of its layers as a unit or all as one."""
    options.setdefault("mesh", dist.init_device_mesh("cpu", (dist.get_world_size(),)))
    if layers:
        for stack in [m for m in model.modules() if isinstance(m, nn.ModuleList)]:
            for layer in stack:
                fully_shard(layer, **options)
    return fully_shard(model, **options)


def batch(index: int) -> dict[str, torch.Tensor]:
    """One of up to six different batches."""
    ids = torch.arange(3 + 6 * index, 11 + 6 * index).reshape(1, 8)
    return {"input_ids": ids, "labels": ids + 1}


def have_accelerate_shard_on_cpus() -> None:
    """Have accelerate make FSDP2 of an FSDP configuration on CPUs, as it does on GPUs.

    It shards where it finds several GPUs, and only looks at their number; elsewhere it takes DDP
    without a word. Everything after that decision is as on GPUs.
    """
    begin = AcceleratorState.__init__

    def as_on_gpus(self: AcceleratorState, *args: Any, **kwargs: Any) -> None:
        found = PartialState._shared_state
        if found.get("distributed_type") == DistributedType.MULTI_CPU:
            found["distributed_type"] = DistributedType.MULTI_GPU
        begin(self, *args, **kwargs)

    if begin.__name__ != as_on_gpus.__name__:
        AcceleratorState.__init__ = as_on_gpus
