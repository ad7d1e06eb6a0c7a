"""Which checkpoint of a run is whole, after a process died at any moment.

The Trainer writes a checkpoint's files one after the other, ``trainer_state.json`` last, and then
may delete an older checkpoint; ``chts_masks.safetensors`` comes after that, when all ranks have
written theirs, whole or not at all. So a folder that has it, and whose files fit it, is complete.
"""

from __future__ import annotations

import json
import logging
import os
import re
import zipfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from chts_hf.checkpoint.mask_file import (
    MASK_FILE,
    PART_FILE,
    MaskFileError,
    UnregisteredMethodError,
    load_masks,
)
from chts_hf.state import fingerprint

logger = logging.getLogger(__name__)

_NAME = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")
_STATE = "trainer_state.json"
#: What accelerate calls the parts of a checkpoint with FSDP: NAME.bin, or a folder NAME_0.
SHARDED = ("pytorch_model_fsdp", "optimizer")
# What a file that says something else than it should may end in, whatever reads it.
_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError, RuntimeError)


def last_complete_checkpoint(folder: str | Path, *, sparse: bool = True) -> str | None:
    """The newest checkpoint of a run that is whole; newer ones are passed over with a warning.

    Use it where ``get_last_checkpoint`` of transformers, or ``resume_from_checkpoint=True``, would
    take the newest folder whatever is in it.

    Args:
        folder: the run's ``output_dir``; it need not exist.
        sparse: whether a checkpoint must have masks; false for ``method="dense"``.

    Returns:
        The checkpoint's folder, or None if no whole one is there.

    Raises:
        chts_hf.MaskFileError: there is none but of a method that is not registered, so that nobody
            begins anew beside checkpoints that only look broken.

    Example:
        >>> trainer.train(resume_from_checkpoint=last_complete_checkpoint(args.output_dir))
    """
    path = Path(folder)
    if not path.is_dir():
        return None
    found = [(int(m[1]), p) for p in path.iterdir() if (m := _NAME.fullmatch(p.name))]
    unregistered: UnregisteredMethodError | None = None
    for step, checkpoint in sorted(found, reverse=True):
        try:
            problem = problem_with(checkpoint, step, sparse)
        except UnregisteredMethodError as error:
            problem, unregistered = str(error), error
        if problem is None:
            return str(checkpoint)
        logger.warning("passed over %s, which is not complete: %s", checkpoint, problem)
    if unregistered is not None:
        raise unregistered
    return None


def problem_with(checkpoint: Path, step: int, sparse: bool) -> str | None:
    """What is wrong with the checkpoint of a step; None if nothing is, and it can be resumed.

    Raises:
        UnregisteredMethodError: it may be whole, but its masks are of a method unknown here.
    """
    try:
        state = json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
        if state["global_step"] != step:
            return f"{_STATE} is of step {state['global_step']}"
        tensors = [
            file
            for file in checkpoint.glob("*.safetensors")
            if file.name not in (MASK_FILE, PART_FILE)
        ]
        sharded = _is_sharded(checkpoint)
        if not tensors and not sharded:
            return "it has no weights"
        for index in checkpoint.glob("*.safetensors.index.json"):
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            if missing := shards - {file.name for file in tensors}:
                return f"{min(missing)} is missing"
        for file in tensors:
            with safe_open(file, framework="pt"):
                pass  # its header says how long it must be
        if sharded:
            for name in SHARDED:
                if not _is_whole(checkpoint, name):
                    return f"{name} is missing or cut off"
        elif not zipfile.is_zipfile(checkpoint / "optimizer.pt"):
            return "optimizer.pt is missing or cut off"
        if not zipfile.is_zipfile(checkpoint / "scheduler.pt"):
            return "scheduler.pt is missing or cut off"
        return _problem_with_masks(checkpoint, step, tensors) if sparse else None
    except UnregisteredMethodError:
        raise
    except (OSError, SafetensorError, *_DAMAGE) as error:
        return str(error) or type(error).__name__


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder has the name of one that the Trainer resumes from."""
    return _NAME.fullmatch(folder.name) is not None


def _is_sharded(checkpoint: Path) -> bool:
    """Whether the Trainer wrote a checkpoint with FSDP, in one file for all or in one for each."""
    return any(checkpoint.glob(f"{SHARDED[0]}*"))


def _is_whole(checkpoint: Path, name: str) -> bool:
    # Of a folder with a file from each process, .metadata is written last, when all are there.
    metadata = checkpoint / f"{name}_0" / ".metadata"
    if metadata.is_file():
        return metadata.stat().st_size > 0
    return zipfile.is_zipfile(checkpoint / f"{name}.bin")


def _problem_with_masks(checkpoint: Path, step: int, tensors: list[Path]) -> str | None:
    if (checkpoint / MASK_FILE).exists():
        return _problem_with_mask_file(checkpoint, MASK_FILE, step, tensors)
    # (Looked for again: another rank may have given the masks their name since.)
    if not (checkpoint / PART_FILE).exists() and not (checkpoint / MASK_FILE).exists():
        return f"{MASK_FILE} is missing"
    # The process died after the Trainer's last file and before the masks got their name.
    problem = _problem_with_mask_file(checkpoint, PART_FILE, step, tensors)
    try:
        if problem is None:
            os.replace(checkpoint / PART_FILE, checkpoint / MASK_FILE)
    except FileNotFoundError:
        pass
    # All ranks look for it at once, and one of them is the first.
    return None if (checkpoint / MASK_FILE).exists() else problem


def _problem_with_mask_file(
    checkpoint: Path, name: str, step: int, tensors: list[Path]
) -> str | None:
    try:
        state, _ = load_masks(checkpoint, name)
    except UnregisteredMethodError:
        raise
    except MaskFileError as error:
        return str(error)
    if state["step_count"] > step:  # fewer there may be: a loss scaler skips some
        return f"{name} is of optimizer step {state['step_count']}"
    for file in tensors:
        with safe_open(file, framework="pt") as opened:
            for parameter in state["weights"].keys() & set(opened.keys()):
                if not _fits(opened.get_tensor(parameter), state["weights"][parameter]):
                    return f"{name} is of other weights of {parameter}"
    return _problem_with_ranks(checkpoint, state["world_size"])


def _problem_with_ranks(checkpoint: Path, world_size: int) -> str | None:
    for rank in range(world_size):
        name = f"rng_state_{rank}.pth" if world_size > 1 else "rng_state.pth"
        if not zipfile.is_zipfile(checkpoint / name):
            return f"{name} is missing or cut off"
    return None


def _fits(weight: Any, saved: Any) -> bool:
    dtype, value = fingerprint(weight)
    return bool(dtype != saved[0] or value == saved[1])
