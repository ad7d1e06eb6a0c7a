"""What no rule recognises in a model to be trained: left dense, and said in a warning."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from chts_hf.config import CHTsConfig
from chts_hf.targets import UNNAMED, Target, find_targets, is_linear, sort_layers

_LOGGER = logging.getLogger(__name__)

# What stays dense by its nature, and adapters, which are trained beside what they adapt.
_NO_PROJECTION = re.compile(r"embed|rout|classif|pooler|bias|lora|adapter|norm", re.IGNORECASE)
_SMALL = 0.01  # of the weights of all projections: gates, scores and the like


class Left(NamedTuple):
    """Weights inside repeated blocks that stay dense because no rule recognises their names.

    Attributes:
        layers: name, with ``*`` for numbers → weights of the linear layers of that name.
        parameters: likewise, of parameters that are matrices without a linear layer, such as
            the experts of a mixture in one tensor.
        share: the fraction of the weights of all projections, targets and these, that they are.
    """

    layers: dict[str, int]
    parameters: dict[str, int]
    share: float


def training_targets(model: nn.Module, config: CHTsConfig) -> list[Target]:
    """As :func:`chts_hf.find_targets`, none where all is dense; warns of what it leaves dense.

    Where the user named the layers in ``config.targets``, there is nothing to warn of.
    """
    if config.is_dense:
        return []
    targets = find_targets(model, config)
    if config.targets is None:
        left = left_dense(model, config, targets)
        if left.share:
            _LOGGER.warning("%s", _warning(type(model).__name__, left))
    return targets


def left_dense(model: nn.Module, config: CHTsConfig, targets: Sequence[Target]) -> Left:
    """The matrices of a model's repeated blocks that look like projections and are no targets.

    Args:
        model: that the targets are of.
        config: what it excludes is not reported.
        targets: of ``find_targets(model, config)``.

    Returns:
        Without what is frozen or the output head, and without names that are below one percent
        of all projections.
    """
    _, reasons = sort_layers(model, config)
    layers: dict[str, int] = {}
    parameters: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        module_name = name.rpartition(".")[0]
        module = model.get_submodule(module_name)
        if is_linear(module):
            if reasons.get(module_name) == UNNAMED:
                _count(layers, module_name, parameter)
        elif _is_bare(module) and not any(re.search(p, name) for p in config.exclude):
            _count(parameters, name, parameter)
    sparse = {target.parameter_name: target.weight.numel() for target in targets}
    total = sum((*sparse.values(), *layers.values(), *parameters.values()))
    layers, parameters = (
        {name: weights for name, weights in found.items() if weights >= _SMALL * total}
        for found in (layers, parameters)
    )
    return Left(layers, parameters, sum((*layers.values(), *parameters.values())) / total)


def _is_bare(module: nn.Module) -> bool:
    """Whether a module holds parameters of its own that it multiplies by: no layer of torch's."""
    if isinstance(module, nn.MultiheadAttention):
        return True
    torchs = (c for c in type(module).__mro__ if c.__module__.startswith("torch.nn."))
    return all(c is nn.Module for c in torchs)


def _count(found: dict[str, int], name: str, parameter: nn.Parameter) -> None:
    in_block = any(part.isdigit() for part in name.split(".")[:-1])
    trained = parameter.requires_grad and not _NO_PROJECTION.search(name)
    if in_block and trained and parameter.ndim in (2, 3):
        shown = re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name)
        found[shown] = found.get(shown, 0) + parameter.numel()


def _warning(model: str, left: Left) -> str:
    sentences = [f"{left.share:.0%} of the weights in the blocks of {model} stay dense unasked."]
    if left.layers:
        leaf = next(iter(left.layers)).rpartition(".")[2]
        sentences.append(
            f"No rule recognises {_listed(left.layers)}: to make them sparse, name every layer "
            "that is to be, recognised or not, with "
            f'CHTsConfig(targets={{"ffn.up": r".*\\.{leaf}", …}}).'
        )
    if left.parameters:
        sentences.append(
            f"Parameters that are no linear layers cannot be sparse: {_listed(left.parameters)}."
        )
    sentences.append("With what stays dense in exclude, there is no warning.")
    return " ".join(sentences)


def _listed(names: dict[str, int]) -> str:
    return ", ".join(list(names)[:12]) + (", …" if len(names) > 12 else "")
