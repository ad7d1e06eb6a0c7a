"""One topology update of the layers of one block: prune, remove, percolate, regrow.

Everything here is a function of masks, weights and gradients given; nothing is kept and nothing
given is changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from chts_hf import topology
from chts_hf.config import CHTsConfig
from chts_hf.seeding import generator_for
from chts_hf.targets import Pair, Target
from chts_hf.topology.selection import all_finite, count, indices_of, joined


@dataclass(frozen=True)
class LayerInput:
    """What an update needs to know of one layer. All tensors are (out, in).

    Attributes:
        target: the layer.
        config: its configuration, overrides applied.
        mask: its links.
        weight: its weights.
        gradient: its dense gradient, where the method asks for one.
        links: how many links it must have after the update.
        zeta: the fraction of them to replace.
        delta: the δ of soft removal.
        heads: the number of row blocks that choose for themselves; 1 for the whole layer.
        resting: whether its links only go as the density falls: none is replaced or percolated.
    """

    target: Target
    config: CHTsConfig
    mask: Tensor
    weight: Tensor
    gradient: Tensor | None
    links: int
    zeta: float
    delta: float
    heads: int = 1
    resting: bool = False


@dataclass(frozen=True)
class LayerOutput:
    """The result for one layer: the links that stayed, and all links after regrowth."""

    kept: Tensor
    mask: Tensor


def update_block(
    layers: Sequence[LayerInput], pairs: Sequence[Pair], seed: int, update: int
) -> list[LayerOutput]:
    """Update layers that percolation ties together.

    Weights and gradients must be finite: see :func:`check_finite`.

    Args:
        layers: the block's layers.
        pairs: the pairs among them.
        seed: the run's seed.
        update: the number of this update.

    Returns:
        One result per layer, with exactly ``links`` links each.
    """
    pruned = [_prune(layer) for layer in layers]
    kept = [_remove(layer, mask, seed, update) for layer, mask in zip(layers, pruned, strict=True)]
    if pairs:
        kept = _percolate(layers, kept, pairs)
    return [
        LayerOutput(kept=mask, mask=_regrow(layer, before, mask, seed, update))
        for layer, before, mask in zip(layers, pruned, kept, strict=True)
    ]


def _prune(layer: LayerInput) -> Tensor:
    """Bring the layer down to its scheduled number of links."""
    mask = layer.mask.contiguous()  # a view of a transposed parameter is not
    if count(mask) <= layer.links:
        return mask
    return topology.keep_hard(_score(layer, layer.config.pruning), mask, layer.links)


def _remove(layer: LayerInput, mask: Tensor, seed: int, update: int) -> Tensor:
    """Remove the fraction ζ of the links."""
    full = layer.links == mask.numel()  # there is nowhere to regrow
    if layer.config.removal == "none" or layer.zeta == 0 or full:
        return mask
    hard = layer.config.removal_choice == "hard"
    # A soft choice needs the magnitudes of links only, which is less memory than those of all.
    lean = layer.config.removal == "magnitude" and not hard
    scores = layer.weight.detach() if lean else _score(layer, layer.config.removal)
    generator = generator_for(seed, update, layer.target.name, "removal")
    kept = []
    for rows in _row_blocks(layer):
        part, on_part = mask[rows], scores[rows]
        links = count(part)
        n_keep = links - round(layer.zeta * links)
        if hard:
            kept.append(topology.keep_hard(on_part, part, n_keep))
            continue
        if lean:
            on_part = on_part.reshape(-1).index_select(0, indices_of(part)).abs()
        kept.append(topology.keep_soft(on_part, part, n_keep, layer.delta, generator))
    return joined(kept)


def _percolate(
    layers: Sequence[LayerInput], masks: list[Tensor], pairs: Sequence[Pair]
) -> list[Tensor]:
    """Walk along the pairs until nothing changes.

    The pairs' order makes one pass enough, but for chains: there a neuron that dies takes others
    with it on both sides.
    """
    while True:
        walked = _walk_once(layers, masks, pairs)
        if all(torch.equal(before, after) for before, after in zip(masks, walked, strict=True)):
            return walked
        masks = walked


def _walk_once(
    layers: Sequence[LayerInput], masks: list[Tensor], pairs: Sequence[Pair]
) -> list[Tensor]:
    index = {layer.target.name: i for i, layer in enumerate(layers)}
    masks = list(masks)
    for pair in pairs:
        first, second = index[pair.first.name], index[pair.second.name]
        neuron_of = pair.neuron_of
        if neuron_of is not None:
            neuron_of = neuron_of.to(masks[first].device)
        if pair.relation == "sequential":
            masks[first], masks[second] = topology.percolate_sequential(
                masks[first], masks[second], neuron_of
            )
        else:
            masks[second], masks[first] = topology.percolate_product(
                masks[second], masks[first], neuron_of
            )
    return masks


def _regrow(layer: LayerInput, before: Tensor, kept: Tensor, seed: int, update: int) -> Tensor:
    """Add links until the layer has as many as before removal and percolation."""
    generator = generator_for(seed, update, layer.target.name, "regrowth")
    grown = []
    for rows in _row_blocks(layer):
        # Whole layers aim at their scheduled number; heads keep the numbers they had.
        goal = layer.links if layer.heads == 1 else count(before[rows])
        part = kept[rows]
        missing = goal - count(part)
        grown.append(part | _new_links(layer, rows, part, missing, generator))
    return joined(grown)


def _new_links(
    layer: LayerInput, rows: slice, part: Tensor, missing: int, generator: torch.Generator
) -> Tensor:
    """Choose the links that a layer's rows, of which ``part`` was kept, get in addition."""
    config = layer.config
    if missing == 0:
        return torch.zeros_like(part)
    if config.regrowth == "random":
        return topology.regrow_random(part, missing, generator)
    if config.regrowth == "gradient":
        assert layer.gradient is not None  # the sparsifier gathers it for such a config
        scores = layer.gradient[rows].abs().masked_fill(part, 0)
    else:
        scores = topology.ch_scores(part, config.regrowth)
    if config.regrowth_choice == "hard":
        return topology.regrow_hard(scores, part, missing, generator)
    return topology.regrow_soft(scores, part, missing, generator)


def _row_blocks(layer: LayerInput) -> list[slice]:
    size, rest = divmod(layer.mask.shape[0], layer.heads)
    if rest:
        raise ValueError(
            f"per_head: the {layer.mask.shape[0]} rows of {layer.target.name} do not divide into "
            f"{layer.heads} heads; set per_head=False for it by overrides"
        )
    return [slice(i * size, (i + 1) * size) for i in range(layer.heads)]


def _score(layer: LayerInput, name: str) -> Tensor:
    weight = layer.weight.detach().float()
    if name == "relative_importance":
        return topology.relative_importance(weight)
    if name == "mest":
        assert layer.gradient is not None  # the sparsifier gathers it for such a config
        return topology.mest_score(weight, layer.gradient.float())
    return weight.abs()


def check_finite(layers: Sequence[LayerInput]) -> None:
    """Stop before an update that NaN or infinite values would spoil.

    Raises:
        RuntimeError: names the first such layer.
    """
    for layer in layers:
        for what, tensor in (("weights", layer.weight), ("gradient", layer.gradient)):
            if tensor is not None and not all_finite(tensor):
                raise RuntimeError(
                    f"{layer.target.name}: its {what} hold NaN or infinite values, so no topology "
                    "update can be made, and nothing was changed; resume from the last checkpoint "
                    "with a lower learning rate"
                )
