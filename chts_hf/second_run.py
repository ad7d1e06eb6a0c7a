"""What a ``train()`` begins with on a model that the same callback has trained before."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from chts_hf import topology
from chts_hf.config import CHTsConfig
from chts_hf.distributed.layout import Gathered, local, reshard
from chts_hf.initialise import how_to_exclude, layer_sparsities
from chts_hf.sharded_update import link_counts
from chts_hf.sparsifier import Sparsifier
from chts_hf.targets import Target, find_targets
from chts_hf.topology.selection import count

logger = logging.getLogger(__name__)

_ANEW = "a new CHTsCallback in the place of this one makes new first masks"


def links_to_keep(
    before: Sparsifier | None, model: nn.Module, config: CHTsConfig
) -> Mapping[str, Tensor] | None:
    """The links of the training before, those of value 0 too, for the next one to go on with.

    Every rank must call it.

    Args:
        before: the sparsifier of the training before, closed; None if there was none.
        model: what is to be trained now.
        config: how.

    Returns:
        For ``Sparsifier(..., masks=...)``, of the layers that ``config`` makes sparse; None where
        there are no such links: the first training of this model, or dense training.

    Raises:
        ValueError: a layer was not sparse before, or would never get the sparsity that ``config``
            asks for.
    """
    if before is None or before.model is not model or not before.masks or config.is_dense:
        return None
    reshard(model)
    targets = find_targets(model, config)
    for target in targets:
        if target.parameter_name not in before.masks:
            raise ValueError(
                f"{target.name} was left dense in the training before, so it has no links that a "
                f"second train() could go on with; leave it dense with {how_to_exclude(target)}, "
                f"or: {_ANEW}"
            )
    _check_sparsity(before, targets, config)
    _warn_of_other_weights(before, targets)
    kept = {t.parameter_name: before.masks[t.parameter_name] for t in targets}
    return Gathered(before.layout, kept)


def _check_sparsity(before: Sparsifier, targets: Sequence[Target], config: CHTsConfig) -> None:
    """Whether every layer will have the links that its configuration asks for at the end."""
    links = link_counts(targets, before.masks, before.layout)
    _, final = layer_sparsities(targets, config)
    falls = config.density_schedule != "constant"
    for target in targets:
        size, found = math.prod(target.shape), links[target.name]
        goal = topology.link_count(size, final[target.name])
        if found == goal or (falls and found > goal):
            continue
        if config.for_layer(target.name).init != "from_weights":
            fewer = ', or density_schedule="linear" to let them get fewer' if found > goal else ""
            raise ValueError(
                f"a second train() goes on with the links of the one before, and {target.name} has "
                f"sparsity {1 - found / size:.4g} by them, where the configuration now asks for "
                f'{final[target.name]:.4g}. Say init="from_weights" to keep the links whatever '
                f"their number{fewer}; {_ANEW}"
            )


def _warn_of_other_weights(before: Sparsifier, targets: Sequence[Target]) -> None:
    """Say that weights which training left at 0 came back from elsewhere, and will be 0 again."""
    weights = {t.parameter_name: local(t.weight).detach() for t in targets}
    strays = [
        count((weight != 0) & ~before.masks[name].to(weight.device))
        for name, weight in weights.items()
    ]
    found = sum(before.layout.sums(strays))
    if found:
        logger.warning(
            "the model has other weights than training left it with: %s that were no links are not "
            "0 any more. This train() sets them to 0 again and goes on with the links of the one "
            "before; %s",
            f"{found:,}", _ANEW,
        )  # fmt: skip
