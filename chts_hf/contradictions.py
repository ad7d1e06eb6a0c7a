"""Fields of a configuration that are right alone and cannot be together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from chts_hf.methods import METHODS
from chts_hf.topology import initial_mask

if TYPE_CHECKING:
    from chts_hf.config import CHTsConfig

#: Initial topologies that need no tensor, so that their options can be tried at once.
_MADE_OF_NOTHING = ("er", "bsw", "brf", "bsf")


def check_init_options(config: CHTsConfig) -> None:
    """Try the options on a toy layer; of those there are for topologies made of nothing."""
    try:
        json.dumps(config.init_options)
    except TypeError as error:
        raise ValueError(
            f"init_options must hold numbers, texts and lists of them: {error}. The "
            'correlation for init="csti" is given to Sparsifier or CHTsCallback instead'
        ) from None
    if config.init not in _MADE_OF_NOTHING:
        return
    generator = torch.Generator().manual_seed(0)
    try:
        initial_mask((4, 4), 0.5, config.init, generator, **config.init_options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"init_options={config.init_options!r}: {error}") from None


def refuse_idle_options(config: CHTsConfig) -> None:
    """Refuse options of first masks that take none: of a layer's own weights, or without zeros.

    Raises:
        ValueError: names the first masks and the options.
    """
    layers = {f"overrides[{name!r}]: ": config.for_layer(name, exact=True)
              for name in config.overrides}  # fmt: skip
    for where, layer in {"": config, **layers}.items():
        if layer.init_options and layer.init not in _MADE_OF_NOTHING and not config.is_dense:
            raise ValueError(
                f"{where}init_options={layer.init_options!r} has no effect, as init="
                f"{layer.init!r} takes none; give init_options={{}} with it"
            )


def check_together(config: CHTsConfig) -> None:
    """Refuse ingredients of which one would undo another.

    Raises:
        ValueError: names both fields, their values, and what to change.
    """
    decays = config.density_schedule != "constant"
    replaces = config.removal != "none"
    if replaces != (config.regrowth != "none"):
        raise ValueError(
            f"removal={config.removal!r} with regrowth={config.regrowth!r}: the number of links "
            'would not follow the schedule; set both, or both to "none"'
        )
    if config.percolation and config.regrowth == "none":
        raise ValueError(
            'percolation=True with regrowth="none": nothing would replace the links it '
            "removes; set percolation=False"
        )
    if config.regrowth == "random" and config.regrowth_choice == "hard":
        raise ValueError('regrowth_choice="hard" with regrowth="random": random has no highest')
    if config.init == "full" and replaces and not decays:
        raise ValueError(
            f'init="full" with method={config.method!r}: a layer without zeros has no link to '
            'regrow; use method="dense", or a density_schedule that lowers the density'
        )
    if config.init == "full" and decays and config.initial_sparsity != 0:
        raise ValueError(
            f'init="full" starts at sparsity 0, but initial_sparsity={config.initial_sparsity}'
        )
    if decays and config.initial_sparsity is not None and config.initial_sparsity > config.sparsity:
        raise ValueError(
            f"initial_sparsity={config.initial_sparsity} is above sparsity={config.sparsity}; "
            f"the density_schedule {config.density_schedule!r} only removes links"
        )
    if config.rewarm_steps > config.update_interval:
        raise ValueError(
            f"rewarm_steps={config.rewarm_steps} is longer than update_interval="
            f"{config.update_interval}: the learning rate would never reach its value"
        )


def refuse_idle_density(given: Mapping[str, Any], config: CHTsConfig) -> None:
    """Refuse to be told how the density falls where the method keeps it.

    Where ``density_schedule`` is written out, as in the file of every run, that says enough.

    Args:
        given: the fields before they were filled in.
        config: the configuration made of them.

    Raises:
        ValueError: names the field that has no effect, and its value.
    """
    if given["density_schedule"] is not None or config.density_schedule != "constant":
        return
    if config.is_dense:  # told what the others of a sweep are told, as with its sparsity
        return
    why = f"has no effect, as method={config.method!r} keeps its density"
    preset = METHODS[config.method].ingredients
    for name in idle_density(config.method):
        if given[name] is not None and given[name] != preset.get(name):
            raise ValueError(
                f"{name}={given[name]!r} {why}; leave it out (None in replace, null in YAML and on "
                "the command line), or choose a density_schedule"
            )
    for pattern, changes in config.overrides.items():
        if changes.get("initial_sparsity") is not None:
            raise ValueError(
                f"overrides[{pattern!r}]: initial_sparsity={changes['initial_sparsity']!r} {why}; "
                "give overrides without it, or choose a density_schedule"
            )


def idle_density(method: str) -> tuple[str, ...]:
    """The fields that say how the density falls, where the method by itself keeps it."""
    keeps = method in METHODS and METHODS[method].ingredients["density_schedule"] == "constant"
    return ("initial_sparsity", "decay_end") if keeps else ()
