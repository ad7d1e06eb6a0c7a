"""The first masks of a model's layers, and how sparse each of them is to be."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from chts_hf import topology
from chts_hf.config import CHTsConfig
from chts_hf.seeding import generator_for
from chts_hf.targets import Target

_LOGGER = logging.getLogger(__name__)


def layer_sparsities(
    targets: Sequence[Target], config: CHTsConfig
) -> tuple[dict[str, float], dict[str, float]]:
    """Each layer's sparsity at the start and at the end of the density schedule.

    Args:
        targets: the layers.
        config: the run's configuration, with its distribution and overrides.

    Returns:
        Two dictionaries, target name → sparsity.
    """
    final = _distribute(targets, config, "sparsity")
    if config.density_schedule == "constant":
        return dict(final), final
    return _distribute(targets, config, "initial_sparsity"), final


def _distribute(targets: Sequence[Target], config: CHTsConfig, field: str) -> dict[str, float]:
    values = {t.name: getattr(config.for_layer(t.name), field) for t in targets}
    if config.distribution == "erk":
        # Layers with a sparsity of their own keep it; the others share the overall one.
        fixed = [p for p, changes in config.overrides.items() if field in changes]
        shared = [t for t in targets if not any(re.search(p, t.name) for p in fixed)]
        densities = topology.erk_densities([t.shape for t in shared], getattr(config, field))
        values |= {t.name: 1 - d for t, d in zip(shared, densities, strict=True)}
    return values


def initial_mask(
    target: Target,
    config: CHTsConfig,
    initial: float,
    final: float,
    correlation: Tensor | None = None,
    zero_links: Tensor | None = None,
) -> Tensor:
    """One layer's first mask, of shape (out, in) on the weight's device.

    Args:
        target: the layer.
        config: its own configuration, overrides applied.
        initial: its sparsity now.
        final: its sparsity when training ends.
        correlation: of the layer's inputs, for ``init="csti"``.
        zero_links: links whose weight is 0, of the parameter's shape, for ``init="from_weights"``.

    Raises:
        ValueError: no link would be left at the end, or there is no correlation for "csti".
    """
    weight = target.view(target.weight.detach())
    if config.init == "from_weights":
        links = weight != 0
        return links if zero_links is None else links | target.view(zero_links)
    if topology.link_count(weight.numel(), final) == 0:
        raise ValueError(
            f"sparsity={final} would remove every link of {target.name} {tuple(weight.shape)}; "
            "choose a lower sparsity, or keep this layer dense with "
            f"exclude=[{target.parameter_name.removesuffix('.weight')!r}]"
        )
    if initial == 0:
        return torch.ones_like(weight, dtype=torch.bool)
    options = dict(config.init_options)
    if config.init in ("magnitude", "relative_importance"):
        options["weight"] = weight
    if config.init == "csti":
        if correlation is None:
            raise ValueError(
                f'{target.name} starts from init="csti", which needs the correlations of its '
                "inputs over the training data: Sparsifier(..., correlation=tensor), or "
                "CHTsCallback(config, correlation=tensor)"
            )
        options["correlation"] = correlation
    generator = generator_for(config.seed, 0, target.name)
    try:
        mask = topology.initial_mask(target.shape, initial, config.init, generator, **options)
    except ValueError as error:
        raise ValueError(f"{target.name}, init={config.init!r}: {error}") from None
    return mask.to(weight.device)


def given_mask(target: Target, mask: Tensor) -> Tensor:
    """One layer's part of a mask that the caller gives for its parameter.

    Raises:
        ValueError: it is not of the parameter's shape.
    """
    if mask.shape != target.weight.shape:
        raise ValueError(
            f"masks[{target.parameter_name!r}] must be of shape {tuple(target.weight.shape)}, got "
            f"{tuple(mask.shape)}; where weights are sharded, every rank is given whole masks"
        )
    return target.view(mask)


def sparsities_from_weights(mask: Tensor, config: CHTsConfig, final: float) -> tuple[float, float]:
    """Start and end of a layer that begins with the links it came with.

    Where the density is constant it stays what it is; where it falls, it falls from there, and a
    layer that is sparser already keeps its links.
    """
    sparsity = 1 - int(mask.sum()) / mask.numel()
    if config.density_schedule == "constant":
        return sparsity, sparsity
    return sparsity, max(sparsity, final)


def rescale(target: Target, mask: Tensor) -> None:
    """Multiply a layer so that its links have ``std = sqrt(2 / (density · fan_in))``, in place."""
    weight = target.view(target.weight.data)
    goal = (2 * mask.numel() / (int(mask.sum()) * mask.shape[1])) ** 0.5
    weight.mul_(goal / weight[mask].square().mean().sqrt().clamp_min(1e-12))


def lost_links(target: Target, mask: Tensor) -> int:
    """How many links of a layer that is sparse already a first mask does not have.

    Args:
        target: the layer.
        mask: of its shape (out, in).

    Returns:
        The number of weights that are not 0 and will be; 0 for a layer most of whose are not 0.
    """
    links = target.view(target.weight.detach()) != 0
    if 2 * int(links.sum()) > links.numel():
        return 0
    return int((links & ~mask).sum())


def warn_of_lost_links(lost: int) -> None:
    """Say that a model was sparse, and that new masks take so many of its links."""
    if lost:
        _LOGGER.warning(
            "the model is sparse already, and new first masks set %s of its links to 0; "
            'CHTsConfig(init="from_weights") goes on with the links it has',
            f"{lost:,}",
        )
