"""The layers of a checkpoint, from its mask file alone: no weights, no model class."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from chts_hf.analysis.links import LinkHistory
from chts_hf.analysis.network import Chain, Mask, chains_of, layer_masks
from chts_hf.checkpoint.mask_file import load_masks
from chts_hf.config import CHTsConfig
from chts_hf.targets import Target, find_pairs, sort_layers

# What GPT-2 and its kin store as Conv1D, whose weight is (in, out).
_CONV1D_LEAVES = ("c_attn", "c_fc", "c_proj", "q_attn")


class Topology(NamedTuple):
    """What the mask file of a checkpoint tells.

    Attributes:
        masks: layer → (out, in) mask, in the model's order.
        chains: those that the layers form (:func:`chains_of`).
        links: layer → what its links have been through.
    """

    masks: dict[str, Mask]
    chains: list[Chain]
    links: dict[str, LinkHistory]


def load_topology(folder: str | Path) -> Topology:
    """Read the mask file of a checkpoint folder.

    Args:
        folder: holds ``chts_masks.safetensors``; ``config.json`` is read for the number of heads.

    Raises:
        chts_hf.MaskFileError: the mask file is missing or damaged.
    """
    state, config = load_masks(folder)
    targets = targets_of(state["masks"], config, Path(folder) / "config.json")
    masks, ever = (layer_masks(targets, state[key]) for key in ("masks", "ever"))
    links = {name: LinkHistory.of_checkpoint(mask, ever[name]) for name, mask in masks.items()}
    return Topology(masks, chains_of(targets, find_pairs(targets), masks), links)


def load_network(folder: str | Path) -> tuple[dict[str, Mask], list[Chain]]:
    """Masks and chains of :func:`load_topology`."""
    found = load_topology(folder)
    return found.masks, found.chains


def targets_of(
    masks: dict[str, torch.Tensor], config: CHTsConfig, model_config: Path | None = None
) -> list[Target]:
    """The targets that masks belong to, found on a skeleton of empty layers of the same names.

    Args:
        masks: parameter name → mask of the parameter's shape.
        config: says which layers are targets, as it did in training.
        model_config: the model's ``config.json``, for the number of attention heads.
    """
    skeleton = nn.Module()
    if model_config is not None and model_config.is_file():
        values = json.loads(model_config.read_text(encoding="utf-8"))
        skeleton.config = SimpleNamespace(**values)  # type: ignore[assignment]
    with torch.device("meta"):
        for name, mask in masks.items():
            path = name.removesuffix(".weight").split(".")
            parent: Any = skeleton
            for part in path[:-1]:
                if part not in dict(parent.named_children()):
                    parent.add_module(part, nn.Module())
                parent = getattr(parent, part)
            rows, columns = mask.shape
            transposed = path[-1] in _CONV1D_LEAVES
            layer = Conv1D(columns, rows) if transposed else nn.Linear(columns, rows, bias=False)
            parent.add_module(path[-1], layer)
    # Not find_targets: the skeleton has no layers that exclude could take out.
    return sort_layers(skeleton, config)[0]
