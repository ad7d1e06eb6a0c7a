"""Models that accelerate does not shard as they are, sharded by accelerate.

FSDP2 wants all modules that share a weight in one of its groups. accelerate makes groups of the
layers, and one of the input embedding and the output head, and leaves the rest to the model's own.
So it tears a weight apart that others have too, such as the embeddings of an encoder and of a
decoder: the copies would be trained apart from each other, and torch 2.13 refuses the first step.
In the model's own group such a weight stays one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from chts_hf.distributed.layout import is_sharded, reshard

#: Methods of a model that tell accelerate what to make a group of.
_NAMING = ("get_input_embeddings", "get_output_embeddings")


@contextmanager
def shared_weights_together(accelerator: Any, model: nn.Module) -> Iterator[None]:
    """Have ``accelerator.prepare(model, optimizer)`` shard a model without tearing weights apart.

    Inside, a model in which more modules than the input embedding and the output head share a
    weight names no embeddings, so accelerate makes no group of them. Where that is not so, and
    where accelerate does not shard by FSDP2, nothing is done.

    With ``cpu_ram_efficient_loading`` the first process alone has read the weights. accelerate
    sends them to the others, but can not where a model has such weights, or buffers that are saved
    (``final_logits_bias`` of BART and Marian); there they are sent here, one after the other,
    before the model is sharded.

    Args:
        accelerator: accelerate's ``Accelerator``.
        model: whole, on each process; of one that is sharded already nothing is done.

    Example:
        >>> with shared_weights_together(accelerator, model):
        ...     model, optimizer = accelerator.prepare(model, optimizer)
    """
    if not getattr(accelerator, "is_fsdp2", False) or is_sharded(model):
        yield
        return
    plugin = accelerator.state.fsdp_plugin
    torn, efficient = _would_be_torn(model), plugin.cpu_ram_efficient_loading
    sends = efficient and (torn or _has_saved_buffers(model))
    if sends:
        _send_weights(model, accelerator.device)
        plugin.cpu_ram_efficient_loading = False
    for name in _NAMING if torn else ():
        setattr(model, name, _nothing)
    try:
        yield
    finally:
        plugin.cpu_ram_efficient_loading = efficient
        for name in _NAMING if torn else ():
            delattr(model, name)


class SharedWeightsTogether:
    """In place of an accelerator's ``prepare``: the same, within :func:`shared_weights_together`.

    Args:
        accelerator: whose method is called.
    """

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator
        self._prepare: Callable[..., Any] = accelerator.prepare

    def __call__(self, *objects: Any, **options: Any) -> Any:
        """Prepare what is given."""
        model = next((x for x in objects if isinstance(x, nn.Module)), None)
        if model is not None:
            reshard(model)  # of a model that was trained before, accelerate wants the shards
        together = shared_weights_together(self._accelerator, model) if model else nullcontext()
        with together:
            return self._prepare(*objects, **options)


def prepare_together(accelerator: Any) -> None:
    """Have an accelerator that shards keep shared weights together whenever it prepares a model."""
    shards = getattr(accelerator, "is_fsdp2", False)
    if shards and not isinstance(accelerator.prepare, SharedWeightsTogether):
        accelerator.prepare = SharedWeightsTogether(accelerator)


def torn_weights(model: nn.Module) -> list[str]:
    """Parameters of a transformers model that should be one with another, and are not any more."""
    tied: dict[str, str] = getattr(model, "all_tied_weights_keys", None) or {}
    found = dict(model.named_parameters(remove_duplicate=False))
    return [name for name, source in tied.items() if found.get(name) is not found.get(source)]


def _would_be_torn(model: nn.Module) -> bool:
    """Whether a weight is shared by a module that accelerate has in no group of its own."""
    ends = [getattr(model, name, _nothing)() for name in _NAMING]
    holders: dict[nn.Parameter, list[nn.Module]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            holders.setdefault(parameter, []).append(module)
    return any(
        len(modules) > 1 and any(all(module is not end for end in ends) for module in modules)
        for modules in holders.values()
    )


def _has_saved_buffers(model: nn.Module) -> bool:
    return bool(model.state_dict().keys() & {name for name, _ in model.named_buffers()})


@torch.no_grad()
def _send_weights(model: nn.Module, device: torch.device) -> None:
    """Give every process the first one's weights and buffers."""
    for tensor in [*model.parameters(), *model.buffers()]:
        missing = tensor.is_meta  # what no file holds has no memory where none was read
        sent = torch.empty_like(tensor, device=device) if missing else tensor.detach().to(device)
        dist.broadcast(sent, src=0)
        if not missing:
            tensor.copy_(sent)
            continue
        here = sent.cpu()
        if isinstance(tensor, nn.Parameter):
            here = nn.Parameter(here, requires_grad=tensor.requires_grad)
        torch.utils.swap_tensors(tensor, here)  # others, such as an optimizer, have this object


def _nothing() -> None:
    return None
