"""The first masks of a model's layers, and how sparse each of them is to be."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence

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

    With ERK, layers that overrides give a sparsity of their own, at the start or at the end, keep
    theirs at both; the others share the overall ones. So no layer starts sparser than it ends.

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
        own = {"sparsity", "initial_sparsity"}
        fixed = [p for p, changes in config.overrides.items() if own & changes.keys()]
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
    _refuse_empty(target, weight.numel(), final)
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


def with_history(targets: Sequence[Target], config: CHTsConfig) -> set[str]:
    """The parameters' names of the layers whose new links start from values they once had."""
    if config.regrow_init != "history":
        return set()
    return {t.parameter_name for t in targets if config.for_layer(t.name).regrowth != "none"}


def check_given(
    masks: Mapping[str, Tensor] | None,
    wanted: Mapping[str, object],
    correlation: Tensor | None,
    layers: Iterable[CHTsConfig],
) -> None:
    """Refuse masks of other layers, and correlations that nobody asked for.

    Args:
        masks: the first links that the caller gives; None: they are made.
        wanted: parameter name → anything, of the sparsified weights.
        correlation: what the caller gives for ``init="csti"``.
        layers: the configuration of each layer.

    Raises:
        ValueError: names what is missing and what is too much.
    """
    if masks is not None and masks.keys() != wanted.keys():
        missing = sorted(wanted.keys() - masks.keys())
        unknown = sorted(masks.keys() - wanted.keys())
        raise ValueError(
            "masks must hold one mask for each sparsified parameter (see chts_hf.find_targets): "
            f"missing {missing[:3]}, unexpected {unknown[:3]}"
        )
    if correlation is not None and all(layer.init != "csti" for layer in layers):
        raise ValueError(
            'correlation was given, but no layer has init="csti"; leave it out, or name the layers '
            'that are to start from it: overrides={pattern: {"init": "csti"}}'
        )


def given_mask(target: Target, mask: Tensor) -> Tensor:
    """One layer's part of a mask that the caller gives for its parameter.

    Raises:
        ValueError: it is not bool, or not of the parameter's shape.
    """
    if mask.shape != target.weight.shape or mask.dtype != torch.bool:
        raise ValueError(
            f"masks[{target.parameter_name!r}] must be bool and of shape "
            f"{tuple(target.weight.shape)}, got {mask.dtype} and {tuple(mask.shape)}; where "
            "weights are sharded, every rank is given whole masks"
        )
    return target.view(mask)


def sparsities_from_links(
    target: Target, mask: Tensor, config: CHTsConfig, final: float
) -> tuple[float, float]:
    """Start and end of a layer that begins with the links it came with, or was given.

    Where the density is constant it stays what it is; where it falls, it falls from there, and a
    layer that is sparser already keeps its links.

    Args:
        target: the layer.
        mask: its links.
        config: its configuration.
        final: the sparsity that this asks for at the end.

    Raises:
        ValueError: it has no link, or would have none at the end.
    """
    links = int(mask.sum())
    if links == 0:
        raise ValueError(
            f"{target.name} {tuple(mask.shape)} would begin without any link: all of its weights, "
            f"or of its mask in masks, are 0. Keep it dense with {how_to_exclude(target)}, or have "
            'its first links drawn with overrides={pattern: {"init": "er"}}'
        )
    sparsity = 1 - links / mask.numel()
    if config.density_schedule == "constant":
        return sparsity, sparsity
    _refuse_empty(target, mask.numel(), final)
    return sparsity, max(sparsity, final)


def _refuse_empty(target: Target, size: int, final: float) -> None:
    if topology.link_count(size, final) == 0:
        raise ValueError(
            f"sparsity={final} would remove every link of {target.name} {target.shape}; "
            f"choose a lower sparsity, or keep this layer dense with {how_to_exclude(target)}"
        )


def how_to_exclude(target: Target) -> str:
    """What to say in a configuration so that a layer stays dense."""
    return f"exclude=[{target.parameter_name.removesuffix('.weight')!r}]"


def check_kept_sparsity(
    targets: Sequence[Target], asked: Mapping[str, float], kept: Mapping[str, float]
) -> None:
    """Compare the sparsity at the end with what was asked for, where layers keep their links.

    A model that is sparser than asked for is nobody's mistake: its links are what it came with.

    Args:
        targets: the layers.
        asked: target name → the sparsity that the configuration asks for at the end.
        kept: target name → what it will be.

    Raises:
        ValueError: not one layer that is to be sparse would be.
    """
    sizes = {t.name: math.prod(t.shape) for t in targets if asked[t.name] > 0}
    wanted = sum(size * asked[name] for name, size in sizes.items())
    found = sum(size * kept[name] for name, size in sizes.items())
    if wanted - found <= len(sizes):  # each layer's links are a whole number
        return
    if all(kept[name] == 0 for name in sizes):
        raise ValueError(
            'no layer has a zero, and each would keep all its links, as init="from_weights" and '
            f"masks=... ask for: training would be dense, where sparsity {_mean(wanted, sizes)} is "
            'asked for. init="magnitude" prunes a dense model, and a density_schedule lets its '
            "density fall; sparsity=0 trains it densely"
        )
    _LOGGER.warning(
        "the layers keep the links they come with, so the sparsity is and stays %s, not %s as the "
        'configuration asks for; init="magnitude" prunes to that at once, and a density_schedule '
        "lets the density fall to it",
        _mean(found, sizes), _mean(wanted, sizes),
    )  # fmt: skip


def _mean(zeros: float, sizes: Mapping[str, int]) -> str:
    return f"{zeros / sum(sizes.values()):.4g}"


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
