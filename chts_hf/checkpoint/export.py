"""Whole checkpoint folders from dense to sparse and back, a tensor at a time."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from chts_hf.checkpoint.folder import (
    CONFIG_FILE,
    TARGET_FOLDER,
    WEIGHT_FILES,
    WEIGHTS_FIELD,
    staging_folder,
)
from chts_hf.checkpoint.layout import DENSE, decode_links, decode_weight
from chts_hf.checkpoint.load import load_compared, load_exactly, model_class_of
from chts_hf.checkpoint.mask_file import MASK_FILE, MaskFileError, load_masks
from chts_hf.checkpoint.reader import (
    check_contents,
    check_tensors,
    is_sparse,
    read_config,
    read_headers,
    read_section,
    weight_files,
)
from chts_hf.checkpoint.save import (
    SPARSE_FOLDER,
    MaskMaker,
    SparseSizes,
    nonzero_masks,
    write_dense,
    write_sparse,
)
from chts_hf.checkpoint.section import STREAM_SUFFIX, Section, SparseFileError
from chts_hf.checkpoint.skeleton import described, skeleton
from chts_hf.checkpoint.tensor_file import Entry, Stored, read_bytes, read_values
from chts_hf.checkpoint.tensors import Tensors, tensors_of
from chts_hf.config import CHTsConfig

#: Names of the weight files that transformers wrote before it wrote safetensors.
_OLD_WEIGHT_FILES = re.compile(
    r"pytorch_model.*\.bin(\.index\..*json)?|tf_model\.h5|flax_model\.msgpack"
)
#: What the Trainer, and we, write for a training to go on with.
_TRAINING_FILES = re.compile(
    r"(optimizer|scheduler|scaler)\.(pt|bin)|rng_state.*\.pth|training_args\.bin"
    rf"|trainer_state\.json|{re.escape(MASK_FILE)}(\.part)?"
)


def densify(folder: str | Path, out: str | Path, *, max_shard_size: int | str = "5GB") -> None:
    """Write a sparse checkpoint folder as a plain dense one.

    The tokenizers, the model card and whatever other files lie in the folder are copied, but for
    those that a training goes on with. The model is never in memory as a whole, only one of its
    weights.

    Args:
        folder: the sparse checkpoint, local.
        out: another folder.
        max_shard_size: of one weight file.

    Raises:
        SparseFileError: the checkpoint is damaged or none.
        ValueError: ``out`` is ``folder``, or the model's class is unknown.
    """
    source, target = _two_folders(folder, out)
    model, tensors = _open_sparse(source)
    write_dense(model, target, None, max_shard_size, tensors)
    _copy_others(source, target)


def sparsify(
    folder: str | Path,
    out: str | Path,
    *,
    config: CHTsConfig | None = None,
    dense_copy: bool = False,
    max_shard_size: int | str = "5GB",
) -> SparseSizes:
    """Write a dense checkpoint folder whose weights have zeros as a sparse one.

    No weight is changed: the links are the weights that are not 0, and, of a training checkpoint,
    the links of weight 0 that its masks have too. Each tensor keeps its own dtype. What else is in
    the folder is copied as :func:`densify` does. Memory is that of a weight or two, and of a
    training checkpoint's masks, unless the folder holds the model in an older form: in other files
    than safetensors, or under other names than it would have now. transformers then loads the model
    whole, in the one dtype that its config.json names.

    Args:
        folder: the dense checkpoint, local.
        out: another folder.
        config: what it was trained with, and which weights are targets; None: what a training
            checkpoint says.
        dense_copy: as :func:`save_sparse` has it.
        max_shard_size: of one weight file.

    Returns:
        The sizes.

    Raises:
        SparseFileError: its config.json cannot be read, it is sparse already, or weights of the
            model are missing.
        MaskFileError: a training checkpoint's masks are damaged, of another model, or of a method
            that is to be registered first.
        ValueError: ``out`` is ``folder``, or the model's class is unknown.
    """
    source, target = _two_folders(folder, out)
    model, tensors = _open_dense(source)
    trained, its_config = _trained_masks(source)
    config = config or its_config
    masks = nonzero_masks(model, config, tensors)
    masks |= {
        name: _with_links(trained[name], make, source / MASK_FILE, name)
        for name, make in masks.items()
        if name in trained
    }
    written = target
    if dense_copy:
        write_dense(model, target, None, max_shard_size, tensors)
        written = target / SPARSE_FOLDER
    sizes = write_sparse(model, written, masks, config, None, max_shard_size, {}, tensors)
    _copy_others(source, target)
    return sizes


def _open_sparse(folder: Path) -> tuple[PreTrainedModel, Tensors]:
    """A sparse checkpoint that was checked: its model, and its tensors in dense form."""
    values = read_config(folder)
    section = read_section(values, folder)
    stored = read_headers(weight_files(folder, values))
    check_tensors(section, stored)
    model_class = model_class_of(values, folder)
    model, wrong = skeleton(model_class, folder, section, stored)
    if wrong:
        raise SparseFileError(described(wrong, model_class, folder))
    check_contents(section, stored)
    dense = stored.keys() - (section.tensor_names() - section.layers.keys())
    tensors = tensors_of(model)
    if tensors.entries.keys() == dense:
        entries = {name: _dense_entry(name, section, stored) for name in tensors.entries}
        return model, replace(tensors, entries=entries)
    # The class has come to store its weights in another form since.
    model = load_exactly(model_class, folder, "auto")
    return model, tensors_of(model)


def _dense_entry(name: str, section: Section, stored: dict[str, Stored]) -> Entry:
    shape = section.layers[name].shape if name in section.layers else stored[name].shape
    return Entry(name, stored[name].torch_dtype, shape, lambda: _read(name, section, stored))


def _read(name: str, section: Section, stored: dict[str, Stored]) -> Tensor:
    layer = section.layers.get(name)
    if layer is None or layer.layout == DENSE:
        return read_values(stored[name])
    stream = read_bytes(stored[name + STREAM_SUFFIX])
    mask = decode_links(stream, layer.layout, layer.shape, layer.links)
    return decode_weight(read_values(stored[name]), mask)


def _open_dense(folder: Path) -> tuple[PreTrainedModel, Tensors]:
    """A dense checkpoint: its model, and its tensors."""
    values = read_config(folder)
    if is_sparse(values):
        raise SparseFileError(f"{folder} is a sparse checkpoint already")
    model_class = model_class_of(values, folder)
    stored = _dense_tensors(folder, values)
    if stored is not None:
        model, wrong = skeleton(model_class, folder, None, stored)
        _refuse_made_up(wrong, model_class, folder)
        tensors = tensors_of(model)
        if tensors.entries.keys() == stored.keys():
            entries = {name: _stored_entry(name, stored[name]) for name in tensors.entries}
            return model, replace(tensors, entries=entries)
    model, wrong = load_compared(model_class, folder, "auto")
    _refuse_made_up(wrong, model_class, folder)
    return model, tensors_of(model)


def _stored_entry(name: str, tensor: Stored) -> Entry:
    return Entry(name, tensor.torch_dtype, tensor.shape, lambda: read_values(tensor))


def _refuse_made_up(
    wrong: dict[str, list[str]], model_class: type[PreTrainedModel], folder: Path
) -> None:
    """Raise where transformers would initialise weights; those left over it does without."""
    if wrong.keys() - {"unexpected"}:
        raise SparseFileError(described(wrong, model_class, folder))


def _dense_tensors(folder: Path, values: dict[str, Any]) -> dict[str, Stored] | None:
    """The tensors of a dense checkpoint; None if they are not in safetensors files like ours."""
    index = "model.safetensors.index.json"
    if WEIGHTS_FIELD not in values and not (folder / "model.safetensors").is_file():
        values = values | {WEIGHTS_FIELD: index}
    try:
        return read_headers(weight_files(folder, values))
    except SparseFileError:
        return None  # transformers reads more than we do, or says what is wrong


def _trained_masks(folder: Path) -> tuple[dict[str, Tensor], CHTsConfig | None]:
    """Parameter name → mask of a training checkpoint, and its configuration; else nothing."""
    if not (folder / MASK_FILE).is_file():
        return {}, None
    state, config = load_masks(folder)
    return state["masks"], config


def _with_links(trained: Tensor, make_mask: MaskMaker, path: Path, name: str) -> MaskMaker:
    """What makes a mask that has the links of training too, which may be of weight 0."""

    def both() -> Tensor:
        found = make_mask()
        if trained.shape != found.shape:
            raise MaskFileError(
                f"{path} is of another model: {name} has the shape {tuple(found.shape)}, and its "
                f"mask {tuple(trained.shape)}"
            )
        return found | trained.to(found.device)

    return both


def _two_folders(folder: str | Path, out: str | Path) -> tuple[Path, Path]:
    source, target = Path(folder), Path(out)
    if source.resolve() == target.resolve():
        raise ValueError(f"out must be another folder than {source}")
    return source, target


def _copy_others(source: Path, target: Path) -> None:
    """Copy what is neither weights, nor settings that were just written, nor of a training.

    Of folders within, that of the target tokenizer alone: others may be checkpoints.
    """
    written = {CONFIG_FILE, "generation_config.json"}
    left_out = (WEIGHT_FILES, _OLD_WEIGHT_FILES, _TRAINING_FILES)
    with staging_folder(target) as staging:
        for path in [*source.iterdir(), *(source / TARGET_FOLDER).glob("*")]:
            ordinary = path.is_file() and not path.is_symlink()
            unwanted = any(names.fullmatch(path.name) for names in left_out)
            place = path.relative_to(source)
            if ordinary and not unwanted and str(place) not in written:
                (target / place).parent.mkdir(exist_ok=True)
                shutil.copy2(path, staging / path.name)
                os.replace(staging / path.name, target / place)
