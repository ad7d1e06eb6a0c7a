"""The file beside a training checkpoint's weights that holds the sparsifier's state.

A safetensors file: ``mask/NAME`` and ``ever/NAME`` as packed bits, ``history/NAME`` as the values
of the weights that once were links and are none now, and a JSON header with shapes, checksums, the
configuration, the counters and a checksum of all these. Nothing in it is pickled.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from chts_hf.bits import pack_bits, unpack_bits
from chts_hf.checkpoint.mask_header import CHECKSUM, check_header, header_checksum
from chts_hf.checkpoint.section import SparseFileError, parse_json
from chts_hf.config import CHTsConfig
from chts_hf.methods import METHODS

#: The file's name in a checkpoint folder.
MASK_FILE = "chts_masks.safetensors"
#: Its name until it is complete.
PART_FILE = MASK_FILE + ".part"
FORMAT_VERSION = 1
_HEADER = "chts_hf"
_COUNTERS = (
    "weights",
    "step_count",
    "updates",
    "topology_runtime",
    "regrown_at",
    "resting",
    "initial",
    "final",
)
# What a value that is none ends in, where only its use can tell: that of the configuration.
_DAMAGE = (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError)


class MaskFileError(RuntimeError):
    """A mask file is missing, damaged, or does not belong to the run."""


class UnregisteredMethodError(MaskFileError):
    """A mask file is of a method that this process does not know; nothing is wrong with it."""


def save_masks(folder: str | Path, state: dict[str, Any], config: CHTsConfig) -> Path:
    """Write a :meth:`chts_hf.Sparsifier.state_dict` into a checkpoint folder.

    The file appears whole or not at all; what was there before stays until it does.

    Args:
        folder: an existing folder.
        state: the sparsifier's state.
        config: what it ran with.

    Returns:
        The file's path.

    Raises:
        OSError: it could not be written; a full disk, for example.
        ValueError: the state has no masks, as on all processes but the first under FSDP2.
    """
    path = Path(folder) / MASK_FILE
    os.replace(stage_masks(folder, state, config), path)
    return path


def stage_masks(folder: str | Path, state: dict[str, Any], config: CHTsConfig) -> Path:
    """Write the file under its name for files that are not complete; see :func:`save_masks`."""
    if not state["masks"] and not config.is_dense:
        raise ValueError(
            "the state has no masks; where weights are sharded, the first process alone has them, "
            "and it alone saves: if torch.distributed.get_rank() == 0: save_masks(...)"
        )
    tensors: dict[str, Tensor] = {}
    for name, mask in state["masks"].items():
        tensors[f"mask/{name}"] = pack_bits(mask)
        tensors[f"ever/{name}"] = pack_bits(state["ever"][name])
        if name in state["history"]:
            past = state["ever"][name] & ~mask
            tensors[f"history/{name}"] = state["history"][name][past].contiguous().cpu()
    header = {
        "format_version": FORMAT_VERSION,
        "config": config.to_dict(),
        "shapes": {name: list(mask.shape) for name, mask in state["masks"].items()},
        "checksums": {name: _checksum(tensor) for name, tensor in tensors.items()},
        **{name: state[name] for name in _COUNTERS},
        "world_size": state.get("world_size", 1),
    }
    header[CHECKSUM] = header_checksum(header)
    part = Path(folder) / PART_FILE
    try:
        save_file(tensors, part, metadata={_HEADER: json.dumps(header)})
    except (OSError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        raise OSError(
            f"{part} could not be written ({error}); the checkpoints before it are intact"
        ) from error
    return part


def load_masks(folder: str | Path, name: str = MASK_FILE) -> tuple[dict[str, Any], CHTsConfig]:
    """Read what :func:`save_masks` wrote.

    Args:
        folder: the checkpoint folder.
        name: the file's name in it.

    Returns:
        The state for :meth:`chts_hf.Sparsifier.load_state_dict`, and the configuration it ran with.

    Raises:
        MaskFileError: the file is missing, damaged, or of a newer format.
        UnregisteredMethodError: it is of a method that is to be registered first.
    """
    path = Path(folder) / name
    if not path.is_file():
        raise MaskFileError(
            f"{path} is missing, so the masks of this checkpoint are lost and an exact resume is "
            "not possible; chts_hf.last_complete_checkpoint(output_dir) finds one with them. To "
            'go on from its weights alone, start a new run with init="from_weights", or with '
            'init="magnitude" where they are dense'
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = parse_json((file.metadata() or {})[_HEADER], "its header")
            version = header["format_version"]
            if version != FORMAT_VERSION:
                raise MaskFileError(
                    f"{path} has format version {version}; this chts_hf reads {FORMAT_VERSION}. "
                    "Install a newer chts_hf"
                )
            check_header(header)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        _check_tensors(header, tensors)
        damaged = {n for n, value in header["checksums"].items() if _checksum(tensors[n]) != value}
        if damaged:
            raise MaskFileError(
                f"{path} is damaged: checksums differ for {', '.join(sorted(damaged)[:3])}"
            )
        _refuse_unregistered(path, header["config"].get("method"))
        config = CHTsConfig.from_saved(header["config"])
        return _state(header, config, tensors), config
    except (SafetensorError, SparseFileError, OSError, *_DAMAGE) as error:
        raise MaskFileError(
            f"{path} is damaged ({error}); resume from an earlier checkpoint"
        ) from error


def _refuse_unregistered(path: Path, method: object) -> None:
    if isinstance(method, str) and method not in METHODS:
        raise UnregisteredMethodError(
            f"{path} is of a run with method={method!r}, which is not registered here; call "
            f"chts_hf.register_method({method!r}, ...) first, as that run did"
        )


def _check_tensors(header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Whether there are the tensors that the header speaks of, each a row of what it should be.

    Raises:
        ValueError: names the one that is wrong.
    """
    wanted = {f"{kind}/{name}" for kind in ("mask", "ever") for name in header["shapes"]}
    possible = wanted | {f"history/{name}" for name in header["shapes"]}
    wrong = (tensors.keys() ^ header["checksums"].keys()) | (wanted - tensors.keys())
    for name, tensor in tensors.items():
        bits = not name.startswith("history/")
        right = tensor.dtype == torch.uint8 if bits else tensor.is_floating_point()
        if name not in possible or not right or tensor.ndim != 1:
            wrong.add(name)
    if wrong:
        raise ValueError(f"its tensors are not those of its header: {min(wrong)!r:.120}")


def _state(
    header: dict[str, Any], config: CHTsConfig, tensors: dict[str, Tensor]
) -> dict[str, Any]:
    state: dict[str, Any] = {"masks": {}, "ever": {}, "history": {}}
    for name, shape in header["shapes"].items():
        mask = unpack_bits(tensors[f"mask/{name}"], tuple(shape))
        ever = unpack_bits(tensors[f"ever/{name}"], tuple(shape))
        state["masks"][name], state["ever"][name] = mask, ever
        values = tensors.get(f"history/{name}")
        if values is not None:
            past = (ever & ~mask).flatten()
            if values.numel() != int(past.sum()):
                raise ValueError(
                    f"{name} has {int(past.sum())} past links, but {values.numel()} values of them"
                )
            history = torch.zeros(math.prod(shape), dtype=values.dtype)
            history[past] = values
            state["history"][name] = history.reshape(shape)
    return (
        state
        | {name: header[name] for name in _COUNTERS}
        | {"config": config.to_dict(), "world_size": header.get("world_size", 1)}
    )


def _checksum(tensor: Tensor) -> int:
    return zlib.crc32(tensor.contiguous().view(torch.uint8).numpy().tobytes())


@contextmanager
def named_mask_file(folder: Path, advice: str = "") -> Iterator[None]:
    """Have what is refused of a folder's masks say which file they came from.

    Args:
        folder: the checkpoint.
        advice: what to say at the end of each error of masks that are read or taken up.
    """
    try:
        yield
    except MaskFileError as error:
        raise type(error)(f"{error}{advice}") from error
    except ValueError as error:
        raise MaskFileError(f"{folder / MASK_FILE}: {error}{advice}") from error
