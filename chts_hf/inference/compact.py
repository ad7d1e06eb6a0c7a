"""Dead neurons, taken out of a trained model for good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import nn

from chts_hf.config import CHTsConfig
from chts_hf.inference.heads import FAMILY, compact_heads
from chts_hf.inference.hidden import (
    HiddenLayer,
    cut,
    hidden_layers,
    last_hidden_layer,
    silence,
)
from chts_hf.inference.layers import all_targets
from chts_hf.inference.sizes import Express, sizes_of
from chts_hf.targets import find_pairs

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Width:
    """Neurons of a hidden layer.

    Attributes:
        before: as trained.
        alive: those that carry something.
        after: those left; more than are alive where several layers share one width.
    """

    before: int
    alive: int
    after: int


@dataclass(frozen=True)
class CompactReport:
    """What :func:`compact` cut out.

    Attributes:
        parameters_before: all parameters of the model, zeros too.
        parameters_after: those left.
        widths: hidden layer → its neurons.
        heads: (before, after), or None where the architecture cannot express another number.
        head_size: likewise.
    """

    parameters_before: int
    parameters_after: int
    widths: dict[str, Width] = field(default_factory=dict)
    heads: tuple[int, int] | None = None
    head_size: tuple[int, int] | None = None

    @property
    def ratio(self) -> float:
        """Parameters left / parameters before."""
        return self.parameters_after / self.parameters_before

    def __str__(self) -> str:
        lines = [
            f"{self.parameters_before:,} parameters before, {self.parameters_after:,} after "
            f"({self.ratio:.1%})"
        ]
        if self.heads and self.head_size:
            lines.append(
                f"heads {self.heads[0]} -> {self.heads[1]}, "
                f"of {self.head_size[0]} -> {self.head_size[1]} dimensions"
            )
        lines += [
            f"{name}: {width.before} neurons, {width.alive} alive, {width.after} left"
            for name, width in self.widths.items()
        ]
        return "\n".join(lines)


def compact(model: Model, config: CHTsConfig | None = None) -> tuple[Model, CompactReport]:
    """Cut the neurons that carry nothing out of a model, and say how much smaller it got.

    A hidden neuron of a feed-forward layer goes if no link comes in or none leaves it; what it
    says all the same, act(bias), is added to the next layer's bias. In the T5 family dead heads
    and head dimensions go too. The result is an ordinary model of its class with smaller sizes in
    its configuration: it saves and loads as any other, and computes the same to rounding. Sizes
    that the configuration has once for many layers shrink to the largest that is needed.

    The model is changed in place, and an optimizer or :class:`chts_hf.Sparsifier` of it no longer
    fits: train first.

    Args:
        model: a ``PreTrainedModel`` of a type that :func:`register_sizes` knows, dense layers with
            zeros in them (before :func:`to_sparse_inference`).
        config: which layers are targets, as in training; None means ``CHTsConfig()``.

    Returns:
        ``model`` and the report.

    Raises:
        ValueError: the type of the model is not known, or no layer is a target.

    Example:
        >>> model, report = compact(model)  # doctest: +SKIP
        >>> print(report)  # doctest: +SKIP
        >>> model.save_pretrained(folder)  # doctest: +SKIP
    """
    settings: Any = model.config
    express = sizes_of(settings.model_type)
    targets = all_targets(model, config)
    before = _count(model)
    layers = hidden_layers(model, find_pairs(targets)) + last_hidden_layer(model, targets)
    widths = compact_hidden(model, layers, express)
    heads = head_size = None
    if settings.model_type in FAMILY:
        old = (settings.num_heads, settings.d_kv)
        new = compact_heads(model, targets)
        heads, head_size = (old[0], new[0]), (old[1], new[1])
    return model, CompactReport(before, _count(model), widths, heads, head_size)


def compact_hidden(
    model: nn.Module, layers: Sequence[HiddenLayer], express: Express
) -> dict[str, Width]:
    """Cut the dead neurons of hidden layers, whatever model they are of.

    Silencing a neuron takes links from the layers before and behind it, whose neurons may then be
    dead too: it is repeated until nothing changes.

    Args:
        model: changed in place; its ``config`` is what ``express`` gets.
        layers: in the order that the model computes them in.
        express: sets the configuration, see :func:`chts_hf.inference.sizes.widths_by_field`.

    Returns:
        Hidden layer → its neurons.
    """
    alive = {layer.name: silence(model, layer) for layer in layers}
    while True:
        again = {layer.name: silence(model, layer) for layer in layers}
        if all(torch.equal(again[name], alive[name]) for name in alive):
            break
        alive = again
    counts = {name: int(mask.sum()) for name, mask in alive.items()}
    before = {name: len(mask) for name, mask in alive.items()}
    # Parts of a model may have configurations of their own, which say the same.
    configs = {id(c): c for m in model.modules() if (c := getattr(m, "config", None)) is not None}
    after: dict[str, int] = {}
    for settings in configs.values() or (None,):
        after = express(settings, counts)
    for layer in layers:
        cut(model, layer, alive[layer.name], after[layer.name])
    return {name: Width(before[name], counts[name], after[name]) for name in counts}


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
