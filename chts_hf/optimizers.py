"""What the engine does with an optimizer: find it, and clear its state where links changed."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import cache

import torch
from torch import Tensor, nn

from chts_hf.distributed.layout import local

logger = logging.getLogger(__name__)

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


def loss_scaler(
    optimizer: torch.optim.Optimizer | None, needed: bool
) -> torch.amp.GradScaler | None:
    """The loss scaler in an optimizer that accelerate prepared; None if there is none.

    Args:
        optimizer: as it was given, plain or prepared.
        needed: whether the size of gradients counts, and not their order alone.

    Raises:
        ValueError: it is needed, and accelerate trains in fp16, but did not prepare the optimizer.
    """
    prepared = hasattr(optimizer, "gradient_state")
    if needed and optimizer is not None and not prepared and _accelerate_scales_losses():
        raise ValueError(
            "accelerate multiplies the loss in fp16, and removal='mest' must know by how much: "
            "make the Sparsifier with the optimizer that accelerator.prepare returned, or with "
            "scaler=accelerator.scaler. Where accelerate does not train this model, pass its "
            "scaler, or torch.amp.GradScaler(enabled=False)"
        )
    return getattr(optimizer, "scaler", None)


def _accelerate_scales_losses() -> bool:
    from accelerate.state import AcceleratorState, is_initialized  # not every loop has it

    return is_initialized() and bool(AcceleratorState().mixed_precision == "fp16")


def left_out(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a fused optimizer, which is called at an overflow too, did nothing because of one."""
    overflow = getattr(optimizer, "found_inf", None)
    return overflow is not None and bool(overflow)


def clear_states(
    optimizer: torch.optim.Optimizer | None, parameter: nn.Parameter, gone: Tensor
) -> None:
    """Set every per-weight state of ``parameter`` to 0 where ``gone`` is true, in place.

    Args:
        optimizer: None does nothing.
        parameter: whose state.
        gone: bool, of the parameter's shape; of a sharded parameter, of this rank's part.
    """
    states = per_weight_states(optimizer, parameter)
    # Paged optimizers have theirs on the host. All are moved before the first is changed.
    places = [gone.to(values.device) for values, _ in states]
    for (values, zero), place in zip(states, places, strict=True):
        values.masked_fill_(place, zero)


def per_weight_states(
    optimizer: torch.optim.Optimizer | None, parameter: nn.Parameter
) -> list[tuple[Tensor, float]]:
    """The states of an optimizer that say something about each weight of a parameter.

    They are the tensors of the parameter's shape (momentum, second moments), or of several of it
    (AdEMAMix). In 8 bits they are codes, whose meaning stands in a table in which 0 is exact
    (Dettmers et al. 2022): ``state1`` and ``qmap1`` of bitsandbytes, ``codes`` and ``qmap`` of
    torchao; or they are floats of one byte, in which 0 is the byte 0. Factored states, as Adafactor
    keeps per row and column, describe no single weight. Of states in any other form, such as 4
    bits, a warning says once that links can not be cleared.

    Returns:
        Pairs of a tensor, of the shape of what this rank holds of the parameter and in the state's
        own memory, and the value in it that stands for 0. Floats of one byte are given as bytes.
    """
    if optimizer is None:
        return []
    state = optimizer.state.get(parameter, {})
    shape = local(parameter).shape
    found: list[tuple[Tensor, float]] = []
    for name, value in state.items():
        if not torch.is_tensor(value) or name in _TABLES:
            continue
        held = local(value)
        stored = getattr(held, "codes", held)
        table = getattr(held, "qmap", state.get(_TABLE_OF.get(name)))
        if stored.is_floating_point() and stored.element_size() == 1:
            stored = stored.view(torch.uint8)  # PyTorch fills no float8
            zero: float | None = 0.0
        else:
            zero = _zero(stored, table)
        if zero is None or stored.shape[-len(shape) :] != shape:
            if _is_per_weight(held, local(parameter)):
                _warn_of_state(type(optimizer).__name__, name)
            continue
        several = stored.view(-1, *shape) if stored.ndim > len(shape) else stored[None]
        found += [(values, zero) for values in several.unbind()]
    return found


#: Where bitsandbytes keeps what its codes mean, and all that it keeps beside them.
_TABLE_OF = {"state1": "qmap1", "state2": "qmap2"}
_TABLES = ("qmap1", "qmap2", "absmax1", "absmax2", "max1", "max2", "new_max1", "new_max2")


def _zero(stored: Tensor, table: Tensor | None) -> float | None:
    """The value that stands for 0 among those stored; None if there is none."""
    if stored.is_floating_point():
        return 0.0
    if table is None or stored.dtype != torch.uint8:
        return None
    places = (table == 0).nonzero()
    return float(places[0]) if places.numel() else None


def _is_per_weight(value: Tensor, parameter: Tensor) -> bool:
    """Whether a state is large enough to say something of each weight, if in 4 bits only."""
    packed = not value.is_floating_point()
    return value.ndim > 0 and value.numel() * (1 + packed) >= parameter.numel()


@cache
def _warn_of_state(optimizer: str, name: str) -> None:
    logger.warning(
        "%s keeps its %r in a form in which single weights can not be set to 0, so a link that "
        "regrows starts with what stood in its place before. Masks and weights are right all the "
        "same. Full precision and the 8 bits of bitsandbytes and torchao are cleared exactly",
        optimizer, name,
    )  # fmt: skip
