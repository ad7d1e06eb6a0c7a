"""Writing a model with its sparsified weights as values and positions."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from chts_hf.attached import attached_sparsifier
from chts_hf.checkpoint.config_check import config_checksums
from chts_hf.checkpoint.folder import (
    CONFIG_FILE,
    WEIGHTS_FIELD,
    commit,
    commit_dense,
    staging_folder,
    write_json,
    write_weights,
)
from chts_hf.checkpoint.layout import BITMASK, DENSE, choose_layout, encode_links
from chts_hf.checkpoint.reader import is_sparse, read_config
from chts_hf.checkpoint.section import (
    STREAM_SUFFIX,
    VALUE_DTYPES,
    Layer,
    Section,
    SparseFileError,
)
from chts_hf.checkpoint.tensor_file import DTYPES, Entry, dense_size
from chts_hf.checkpoint.tensors import Tensors, tensors_of
from chts_hf.config import CHTsConfig
from chts_hf.distributed.layout import class_name, refuse_sharded
from chts_hf.targets import find_targets

#: Where ``dense_copy=True`` puts the sparse checkpoint.
SPARSE_FOLDER = "sparse"


@dataclass(frozen=True)
class SparseSizes:
    """What a sparse checkpoint takes, in bytes.

    Attributes:
        sparse_bytes: all its weight files.
        dense_bytes: one plain safetensors file of the same model.
        sparsified_bytes: of the first, what the sparsified weights take (values and positions).
        sparsified_dense_bytes: what they would take dense.
        links: how many sparsified weights are links.
        weights: how many sparsified weights there are.
    """

    sparse_bytes: int
    dense_bytes: int
    sparsified_bytes: int
    sparsified_dense_bytes: int
    links: int
    weights: int

    @property
    def ratio(self) -> float:
        """Sparse over dense, all weights."""
        return self.sparse_bytes / self.dense_bytes

    @property
    def sparsified_ratio(self) -> float:
        """Sparse over dense, sparsified weights alone; 1 if there are none."""
        if not self.sparsified_dense_bytes:
            return 1.0
        return self.sparsified_bytes / self.sparsified_dense_bytes


def save_sparse(
    model: PreTrainedModel,
    folder: str | Path,
    *,
    config: CHTsConfig | None = None,
    masks: Mapping[str, Tensor] | None = None,
    processing_class: Any = None,
    dense_copy: bool = False,
    max_shard_size: int | str = "5GB",
    metadata: Mapping[str, Any] | None = None,
) -> SparseSizes:
    """Write a model so that its sparsified weights take little more than their links.

    ``AutoModelForSeq2SeqLM.from_pretrained(folder)``, or any other Auto class, reads it once
    ``chts_hf`` is imported; see docs/checkpoints.md for the format. Beside the weights it writes
    config.json, the generation config and the tokenizer. Weights that are not sparsified, and those
    that would not get smaller, are written as they are.

    A process killed at any moment leaves the checkpoint that was there, or the new one. Memory
    beside the model's: a few bytes per weight of the largest layer.

    Args:
        model: on any device, in fp32, bf16 or fp16.
        folder: made if it is not there. What is there of an older model is replaced, its sparse
            copy (see ``dense_copy``) too. One save at a time may write into a folder.
        config: what the model was trained with. None: that of its sparsifier, if it has one.
        masks: parameter name → bool tensor, True where there is a link. None: the masks of the
            model's sparsifier; without one, each weight that ``find_targets(model, config)``
            returns has its links where it is not 0.
        processing_class: tokenizer or processor, saved too.
        dense_copy: make ``folder`` a plain dense checkpoint, which transformers reads without
            chts_hf, and put the sparse one into ``folder/sparse``.
        max_shard_size: of one weight file, in bytes or as "5GB".
        metadata: JSON values to keep with the file, such as results.

    Returns:
        The sizes of the sparse checkpoint, beside the dense ones.

    Raises:
        ValueError: a mask is of no parameter, of another shape, or a weight is not 0 where its mask
            has no link; or no weight is a target; or the weights are sharded over processes.
        OSError: it could not be written; a full disk, for example. What was there is intact.

    Example:
        >>> sizes = save_sparse(model, "marian-chts90", processing_class=tokenizer)
        >>> f"{sizes.ratio:.2f} of the dense file"
    """
    from chts_hf.checkpoint.final_save import sparse_saver  # which builds on this module

    refuse_sharded(model)
    trained = attached_sparsifier(model) or sparse_saver(model)
    if trained is not None:
        config = config or trained.config
        shapes = {name: weight.shape for name, weight in model.named_parameters()}
        if masks is None and all(shapes.get(name) == m.shape for name, m in trained.masks.items()):
            masks = trained.masks  # they do not fit where neurons were cut out since
    tensors = tensors_of(model)
    mask_of = nonzero_masks(model, config, tensors) if masks is None else _given_masks(model, masks)
    folder = Path(folder)
    if dense_copy:
        write_dense(model, folder, processing_class, max_shard_size, tensors)
        folder = folder / SPARSE_FOLDER
    return write_sparse(
        model,
        folder,
        mask_of,
        config,
        processing_class,
        max_shard_size,
        dict(metadata or {}),
        tensors,
    )


#: Makes the mask of a parameter when it is needed.
MaskMaker = Callable[[], Tensor]


def write_sparse(
    model: PreTrainedModel,
    folder: Path,
    mask_of: Mapping[str, MaskMaker],
    config: CHTsConfig | None,
    processing_class: Any,
    max_shard_size: int | str,
    metadata: dict[str, Any],
    tensors: Tensors | None = None,
) -> SparseSizes:
    """:func:`save_sparse` with masks, and ``tensors`` if they are given, made one at a time."""
    tensors = tensors or tensors_of(model)
    stored_names = tensors.stored_names
    masks = {stored_names[name]: make for name, make in mask_of.items() if name in stored_names}
    kinds = {stored_names.get(name, name): kind for name, kind in _kinds(model, config).items()}
    layers: dict[str, Layer] = {}
    entries: list[Entry] = []
    for name, entry in tensors.entries.items():
        make_mask = masks.get(name)
        if make_mask is None:
            entries.append(entry)
            continue
        layer, stream_size = _plan_layer(entry, make_mask(), kinds.get(name, "other"))
        layers[name] = layer
        entries += _layer_entries(entry, make_mask, layer, stream_size)

    with staging_folder(folder) as staging:
        written = write_weights(staging, entries, max_shard_size)
        values = _config_values(model)
        section = Section(
            layers=layers,
            checksums=written.checksums,
            method=config.method if config else None,
            config=config.to_dict() if config else None,
            metadata=metadata,
            config_checksums=config_checksums(values),
        )
        _write_settings(model, staging, processing_class)
        extra = {"quantization_config": section.to_dict(), WEIGHTS_FIELD: written.name}
        write_json(staging / CONFIG_FILE, values | extra)
        commit(staging, folder, written)
    _remove_copy(folder)

    parts = section.tensor_names()
    return SparseSizes(
        sparse_bytes=written.size,
        dense_bytes=dense_size({n: entry.stored_as for n, entry in tensors.entries.items()}),
        sparsified_bytes=sum(entry.size for entry in entries if entry.name in parts),
        sparsified_dense_bytes=sum(layer.dense_bytes for layer in layers.values()),
        links=section.links,
        weights=section.weights,
    )


def write_dense(
    model: PreTrainedModel,
    folder: Path,
    processing_class: Any,
    max_shard_size: int | str,
    tensors: Tensors | None = None,
) -> None:
    """Write what transformers' ``save_pretrained`` does, but at no time a mixture of two models."""
    entries = list((tensors or tensors_of(model)).entries.values())
    with staging_folder(folder) as staging:
        written = write_weights(staging, entries, max_shard_size)
        _write_settings(model, staging, processing_class)
        commit_dense(staging, folder, written, _config_values(model))


def _remove_copy(folder: Path) -> None:
    """Remove the sparse copy of an older model, which would be taken for this one's."""
    copy = folder / SPARSE_FOLDER
    try:
        older = is_sparse(read_config(copy))
    except SparseFileError:
        return  # a folder of somebody's own, or none
    if older:
        shutil.rmtree(copy)


# -- which masks ---------------------------------------------------------------------------------


def nonzero_masks(
    model: nn.Module, config: CHTsConfig | None, tensors: Tensors
) -> dict[str, MaskMaker]:
    """The masks of all targets, whose links are what is not 0.

    Args:
        model: that the targets are found in.
        config: which weights are targets.
        tensors: the weights' values.
    """
    if config is not None and config.is_dense:
        return {}
    names = dict.fromkeys(target.parameter_name for target in find_targets(model, config))
    stored = {name: tensors.stored_names[name] for name in names if name in tensors.stored_names}
    return {name: _nonzero(tensors.entries[stored[name]].make) for name in stored}


def nonzero_mask(weight: Tensor) -> MaskMaker:
    """The mask of a weight whose links are what is not 0."""
    return _nonzero(lambda: weight)


def _nonzero(make: Callable[[], Tensor]) -> MaskMaker:
    return lambda: make().detach() != 0


def _given_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, MaskMaker]:
    parameters = dict(model.named_parameters())
    for name, mask in masks.items():
        if name not in parameters:
            raise ValueError(f"masks[{name!r}]: {type(model).__name__} has no such parameter")
        weight = parameters[name].detach()
        if mask.dtype != torch.bool or mask.shape != weight.shape:
            raise ValueError(
                f"masks[{name!r}] must be bool of shape {tuple(weight.shape)}, got {mask.dtype} "
                f"{tuple(mask.shape)}"
            )
        lost = int(torch.count_nonzero((weight != 0) & ~mask.to(weight.device)))
        if lost:
            raise ValueError(
                f"{name} has {lost} weights that are not 0 where its mask has no link; they would "
                "be lost. Save what the masks belong to, or leave masks out"
            )
    return {name: _constant(mask) for name, mask in masks.items()}


def _constant(mask: Tensor) -> MaskMaker:
    return lambda: mask


# -- what is written -----------------------------------------------------------------------------


def _plan_layer(entry: Entry, mask: Tensor, kind: str) -> tuple[Layer, int]:
    """What is written of a layer, and how many bytes its stream of positions has."""
    dtype, size = DTYPES[entry.dtype]
    if dtype not in VALUE_DTYPES:
        raise ValueError(
            f"{entry.name} is {entry.dtype}; sparsified weights are fp32, bf16 or fp16"
        )
    links = int(torch.count_nonzero(mask))
    layout, stream_size = choose_layout(mask, size)
    if layout == DENSE and links < mask.numel() and bool((entry.make()[mask] == 0).any()):
        # Dense, a link of weight 0 would look like none.
        layout, stream_size = BITMASK, -(-mask.numel() // 8)
    return Layer(kind, entry.shape, links, layout, dtype), stream_size


def _layer_entries(
    entry: Entry, make_mask: MaskMaker, layer: Layer, stream_size: int
) -> list[Entry]:
    if layer.layout == DENSE:
        return [entry]

    def values() -> Tensor:
        mask = make_mask()  # first: making it may take the weight's memory once more, for a moment
        weight = entry.make()
        return weight[mask.to(weight.device)]

    # One dimension under the weight's own name: without chts_hf, transformers refuses the shape.
    return [
        Entry(entry.name, entry.dtype, (layer.links,), values),
        Entry(
            entry.name + STREAM_SUFFIX,
            torch.uint8,
            (stream_size,),
            lambda: encode_links(make_mask(), layer.layout),
        ),
    ]


def _kinds(model: nn.Module, config: CHTsConfig | None) -> dict[str, str]:
    """Parameter name → kind, for those that are targets."""
    if config is not None and config.is_dense:
        return {}
    try:
        targets = find_targets(model, config)
    except ValueError:  # the caller's masks are of weights that no rule knows
        return {}
    kinds: dict[str, list[str]] = {}
    for target in targets:
        kinds.setdefault(target.parameter_name, []).append(target.kind)
    return {name: "+".join(dict.fromkeys(found)) for name, found in kinds.items()}


def _write_settings(model: PreTrainedModel, staging: Path, processing_class: Any) -> None:
    if model.can_generate() and model.generation_config is not None:
        model.generation_config.save_pretrained(staging)
    if processing_class is not None:
        processing_class.save_pretrained(staging)


def _config_values(model: PreTrainedModel) -> dict[str, Any]:
    """The config.json that ``save_pretrained`` would write."""
    config = copy.deepcopy(model.config)
    config.dtype = str(model.dtype).removeprefix("torch.")
    config.architectures = [class_name(model)]
    values: dict[str, Any] = json.loads(config.to_json_string(use_diff=True))
    return {n: v for n, v in values.items() if n not in ("quantization_config", WEIGHTS_FIELD)}
