"""Counts of links and living neurons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from chts_hf import topology
from chts_hf.targets import Pair, Target


def network_stats(
    targets: Sequence[Target],
    pairs: Sequence[Pair],
    masks: Mapping[str, Tensor],
    ever: Mapping[str, Tensor],
) -> dict[str, Any]:
    """Links, sparsity, ITOP rate and active neurons of the sparsified layers.

    Args:
        targets: the layers.
        pairs: which of them share neurons.
        masks: parameter name → links.
        ever: parameter name → the weights that ever were links.

    Returns:
        See :meth:`chts_hf.Sparsifier.stats`. Without targets all rates are those of a dense model,
        and without pairs (of fused projections, or kinds of the user's own) ``anp`` is: no neuron
        is known that could be dead.
    """
    by_kind: dict[str, dict[str, Any]] = {}
    for target in targets:
        mask = target.view(masks[target.parameter_name])
        entry = by_kind.setdefault(target.kind, {"links": 0, "weights": 0})
        entry["links"] += int(mask.sum())
        entry["weights"] += mask.numel()
    for entry in by_kind.values():
        entry["sparsity"] = 1 - entry["links"] / entry["weights"]
    links = sum(entry["links"] for entry in by_kind.values())
    weights = sum(entry["weights"] for entry in by_kind.values())
    return {
        "links": links,
        "weights": weights,
        "sparsity": 1 - links / weights if weights else 0.0,
        "by_kind": by_kind,
        "itop_rate": sum(int(e.sum()) for e in ever.values()) / weights if weights else 1.0,
        "anp": _active_neuron_rate(targets, pairs, masks),
    }


def _active_neuron_rate(
    targets: Sequence[Target], pairs: Sequence[Pair], masks: Mapping[str, Tensor]
) -> float:
    active = neurons = 0
    # The last hidden layer of an MLP feeds a dense layer: its neurons need links on one side only.
    followed = {pair.first.name for pair in pairs}
    for target in targets:
        if target.role == "hidden" and target.name not in followed:
            active += int(target.view(masks[target.parameter_name]).any(dim=1).sum())
            neurons += target.shape[0]
    for pair in pairs:
        first = pair.first.view(masks[pair.first.parameter_name])
        second = pair.second.view(masks[pair.second.parameter_name])
        neuron_of = None if pair.neuron_of is None else pair.neuron_of.to(first.device)
        if pair.relation == "sequential":
            alive = topology.active_neurons_sequential(first, second, neuron_of)
        else:
            alive = topology.active_neurons_product(second, first, neuron_of)
        active += int(alive.sum())
        neurons += alive.numel()
    return active / neurons if neurons else 1.0
