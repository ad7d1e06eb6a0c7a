"""The layers of a checkpoint, from its mask file alone: no weights, no model class."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from chts_hf.analysis.links import LinkHistory
from chts_hf.analysis.network import Chain, Mask, chains_of, layer_masks, single_layer
from chts_hf.checkpoint.mask_file import load_masks
from chts_hf.config import CHTsConfig
from chts_hf.targets import Target, find_pairs, find_targets

# What GPT-2 and its kin store as Conv1D, whose weight is (in, out).
_CONV1D_LEAVES = ("c_attn", "c_fc", "c_proj", "q_attn")


def load_network(folder: str | Path) -> tuple[dict[str, Mask], list[Chain]]:
    """The masks of a checkpoint folder by layer, and the chains that its layers form.

    Args:
        folder: holds ``chts_masks.safetensors``; ``config.json`` is read for the number of heads.

    Returns:
        Layer → (out, in) mask, in the model's order; the chains (:func:`chains_of`).

    Raises:
        chts_hf.MaskFileError: the mask file is missing or damaged.
    """
    state, config = load_masks(folder)
    targets = targets_of(state["masks"], config, Path(folder) / "config.json")
    masks = layer_masks(targets, state["masks"])
    return masks, chains_of(targets, find_pairs(targets), masks)


def load_links(folder: str | Path) -> dict[str, LinkHistory]:
    """Layer → what its links have been through, as far as a checkpoint folder's mask file knows.

    Raises:
        chts_hf.MaskFileError: the mask file is missing or damaged.
    """
    state, config = load_masks(folder)
    targets = targets_of(state["masks"], config)
    masks, ever = (layer_masks(targets, state[key]) for key in ("masks", "ever"))
    return {name: LinkHistory.of_checkpoint(mask, ever[name]) for name, mask in masks.items()}


def networks_of(masks: dict[str, Mask], chains: list[Chain]) -> list[Chain]:
    """The chains, then each layer by itself."""
    return chains + [single_layer(name, mask) for name, mask in masks.items()]


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
    return find_targets(skeleton, config)
