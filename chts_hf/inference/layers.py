"""The linear layers that targets are the weights of."""

from __future__ import annotations

from torch import Tensor, nn

from chts_hf.config import CHTsConfig
from chts_hf.targets import Target, find_targets


def all_targets(model: nn.Module, config: CHTsConfig | None = None) -> list[Target]:
    """As :func:`chts_hf.find_targets`, frozen layers too: they are not trained, but have zeros."""
    frozen = [p for p in model.parameters() if not p.requires_grad and p.is_floating_point()]
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        return find_targets(model, config)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def holders(model: nn.Module, target: Target) -> dict[str, nn.Module]:
    """Name → module of the layers that multiply by a target's parameter; mostly one."""
    return {
        name: module
        for name, module in model.named_modules(remove_duplicate=False)
        if getattr(module, "weight", None) is target.weight
    }


def layer_of(model: nn.Module, target: Target) -> nn.Module:
    """The layer a target is the weight of."""
    return model.get_submodule(target.parameter_name.rpartition(".")[0])


def select(layer: nn.Module, target: Target, kept: Tensor, side: str) -> None:
    """Keep some outputs (rows, with their biases) or inputs (columns) of a layer, in place.

    Args:
        layer: an ``nn.Linear`` or GPT-2's ``Conv1D``.
        target: its target.
        kept: LongTensor of the indices to keep, in their new order.
        side: "out" or "in".
    """
    dim = (0 if side == "out" else 1) ^ target.transposed
    layer.weight = _selected(layer.weight, dim, kept)
    bias = layer.bias
    if side == "out" and isinstance(bias, nn.Parameter):
        layer.bias = _selected(bias, 0, kept)
    plain, conv = ("out_features", "nf") if side == "out" else ("in_features", "nx")
    setattr(layer, conv if target.transposed else plain, len(kept))


def _selected(parameter: Tensor | nn.Module, dim: int, kept: Tensor) -> nn.Parameter:
    assert isinstance(parameter, nn.Parameter)
    values = parameter.detach().index_select(dim, kept.to(parameter.device))
    return nn.Parameter(values, requires_grad=parameter.requires_grad)
