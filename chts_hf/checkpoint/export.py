"""Whole checkpoint folders from dense to sparse and back."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from transformers import PreTrainedModel

from chts_hf.checkpoint.folder import CONFIG_FILE, WEIGHT_FILES, staging_folder
from chts_hf.checkpoint.load import check_checkpoint, load_exactly, model_class_of
from chts_hf.checkpoint.reader import is_sparse, read_config
from chts_hf.checkpoint.save import SparseSizes, save_sparse, write_dense
from chts_hf.checkpoint.section import SparseFileError
from chts_hf.config import CHTsConfig


def densify(folder: str | Path, out: str | Path, *, max_shard_size: int | str = "5GB") -> None:
    """Write a sparse checkpoint folder as a plain dense one.

    Tokenizer files, the model card and whatever else lies in the folder are copied.

    Args:
        folder: the sparse checkpoint, local.
        out: another folder.
        max_shard_size: of one weight file.

    Raises:
        SparseFileError: the checkpoint is damaged or none.
        ValueError: ``out`` is ``folder``, or the model's class is unknown.
    """
    source, target = _two_folders(folder, out)
    model = load_exactly(check_checkpoint(source), source, "auto")
    write_dense(model, target, None, max_shard_size)
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

    No weight is changed: the links are the weights that are not 0.

    Args:
        folder: the dense checkpoint, local.
        out: another folder.
        config: what it was trained with, and which weights are targets.
        dense_copy: as :func:`save_sparse` has it.
        max_shard_size: of one weight file.

    Returns:
        The sizes.

    Raises:
        SparseFileError: its config.json cannot be read, or it is sparse already.
        ValueError: ``out`` is ``folder``, or the model's class is unknown.
    """
    source, target = _two_folders(folder, out)
    values = read_config(source)
    if is_sparse(values):
        raise SparseFileError(f"{source} is a sparse checkpoint already")
    model: PreTrainedModel = model_class_of(values, source).from_pretrained(source, dtype="auto")
    sizes = save_sparse(
        model, target, config=config, dense_copy=dense_copy, max_shard_size=max_shard_size
    )
    _copy_others(source, target)
    return sizes


def _two_folders(folder: str | Path, out: str | Path) -> tuple[Path, Path]:
    source, target = Path(folder), Path(out)
    if source.resolve() == target.resolve():
        raise ValueError(f"out must be another folder than {source}")
    return source, target


def _copy_others(source: Path, target: Path) -> None:
    """Copy what is neither weights nor settings that were just written."""
    written = {CONFIG_FILE, "generation_config.json"}
    with staging_folder(target) as staging:
        for path in source.iterdir():
            ordinary = path.is_file() and not path.is_symlink()
            if ordinary and path.name not in written and not WEIGHT_FILES.fullmatch(path.name):
                shutil.copy2(path, staging / path.name)
                os.replace(staging / path.name, target / path.name)
