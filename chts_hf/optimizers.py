"""What the engine does with an optimizer: find it, and clear its state where links changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from chts_hf.distributed.layout import local

#: Why DeepSpeed is refused, and what to do.
DEEPSPEED = (
    "DeepSpeed is not supported: it trains its own copies of the weights, which masks do not "
    "reach; use DistributedDataParallel (torchrun, or accelerate launch without DeepSpeed)"
)


def base_optimizer(optimizer: torch.optim.Optimizer | None) -> torch.optim.Optimizer | None:
    """The PyTorch optimizer inside the wrappers of accelerate.

    Raises:
        TypeError: there is none inside.
        ValueError: it is DeepSpeed's, which trains copies of the weights that no mask reaches.
    """
    inner = optimizer
    while inner is not None and hasattr(inner, "optimizer"):
        if type(inner).__name__.startswith("DeepSpeed"):
            raise ValueError(DEEPSPEED)
        inner = inner.optimizer
    if inner is not None and not isinstance(inner, torch.optim.Optimizer):
        raise TypeError(f"expected a torch.optim.Optimizer, got {type(inner).__name__}")
    return inner


def check_trains(optimizer: torch.optim.Optimizer | None, weights: Iterable[Tensor]) -> None:
    """Refuse an optimizer that was made for another model.

    Raises:
        ValueError: it holds none of the weights.
    """
    if optimizer is None:
        return
    held = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
    wanted = {id(weight) for weight in weights}
    if wanted and not held & wanted:
        raise ValueError(
            "the optimizer trains none of the weights to sparsify; make it from the parameters of "
            "this model, after fully_shard where that is used"
        )


def is_accumulating(optimizer: torch.optim.Optimizer | None) -> bool:
    """Whether accelerate left the optimizer's step out because the batch is not complete."""
    state = getattr(optimizer, "gradient_state", None)
    return state is not None and not state.sync_gradients


def left_out(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a fused optimizer, which is called at an overflow too, did nothing because of one."""
    overflow = getattr(optimizer, "found_inf", None)
    return overflow is not None and bool(overflow)


def keep_state(
    optimizer: torch.optim.Optimizer | None,
    parameter: nn.Parameter,
    kept: Tensor,
    view: Callable[[Tensor], Tensor] = lambda tensor: tensor,
) -> None:
    """Set every per-weight state of ``parameter`` to 0 where ``kept`` is false, in place.

    Per-weight states are the floating-point tensors of the parameter's shape (momentum, second
    moments). Factored states, as Adafactor keeps per row and column, describe no single weight.

    Args:
        optimizer: None does nothing.
        parameter: whose state.
        kept: bool, of the shape of ``view(parameter)``; of a sharded parameter, this rank's part.
        view: the part of a tensor of the parameter's shape that ``kept`` describes.
    """
    if optimizer is None:
        return
    for value in optimizer.state.get(parameter, {}).values():
        if torch.is_tensor(value) and value.is_floating_point() and value.shape == parameter.shape:
            view(local(value)).mul_(kept)
