"""A layer's new links, written into the model: mask, values, optimizer state."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from chts_hf.distributed.layout import Whole, local
from chts_hf.optimizers import per_weight_states
from chts_hf.targets import Target
from chts_hf.topology.selection import count
from chts_hf.update import LayerInput, LayerOutput


def write_links(
    target: Target,
    result: LayerOutput,
    mask: Tensor,
    ever: Tensor,
    history: Tensor | None,
    optimizer: torch.optim.Optimizer | None,
) -> None:
    """Give a layer its links of after an update, in place, wholly or, without memory, not at all.

    A link that is new gets the value it had when it was last a link, or 0 without a history. What
    is new or gone gets a gradient and optimizer states of 0.

    Args:
        target: the layer.
        result: what the update made of it.
        mask: the parameter's mask.
        ever: which of the parameter's weights ever were links.
        history: the parameter's last values of links that are gone; None: they are forgotten.
        optimizer: the PyTorch optimizer; None if there is none.
    """
    links, seen = target.view(mask), target.view(ever)
    weight = target.view(local(target.weight).data)
    cleared = [
        (target.view(values), zero) for values, zero in per_weight_states(optimizer, target.weight)
    ]
    if target.weight.grad is not None:
        cleared.append((target.view(local(target.weight.grad)), 0.0))
    dropped = ~result.kept
    # Paged optimizers have their states on the host.
    places = [dropped.to(values.device) for values, _ in cleared]
    if history is not None:
        past = target.view(history)
        gone, new = links & dropped, result.mask & dropped
    # From here on everything is in place and of one dtype, so that it needs no memory.
    if history is not None:
        torch.where(gone, weight, past, out=past)
    weight.masked_fill_(dropped, 0)
    if history is not None:
        torch.where(new, past, weight, out=weight)
    for (values, zero), place in zip(cleared, places, strict=True):
        values.masked_fill_(place, zero)
    links.copy_(result.mask)
    seen.logical_or_(result.mask)


@dataclass(frozen=True)
class Turnover:
    """How many links of a layer changed in an update.

    Attributes:
        removed: links that were removed.
        regrown: links that were added.
        returned: links that were both; ``returned / removed`` is the overlap that tells an
            epitopological local minimum (Zhang et al., ICLR 2024).
    """

    removed: int
    regrown: int
    returned: int


def turnover(layer: LayerInput, result: LayerOutput, layout: Whole) -> Turnover:
    """Count what an update changed; where ranks have parts of the layer, in all of them."""
    removed, regrown = layer.mask & ~result.kept, result.mask & ~result.kept
    removed_regrown = (removed, regrown, removed & regrown)
    return Turnover(*layout.sums([count(links) for links in removed_regrown]))


def comes_to_rest(layer: LayerInput, change: Turnover) -> bool:
    """Whether so many removed links came back that the layer's topology is to rest for good.

    That is a fraction of at least ``early_stop_overlap`` of them (Zhang et al., ICLR 2024).
    """
    threshold = layer.config.early_stop_overlap
    if threshold is None or not change.removed:
        return False
    return change.returned / change.removed >= threshold
