"""The model that a checkpoint describes, without memory for its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel
from transformers.utils import logging

from chts_hf.checkpoint.folder import CONFIG_FILE, WEIGHTS_FIELD
from chts_hf.checkpoint.reader import listed
from chts_hf.checkpoint.section import Section
from chts_hf.checkpoint.tensor_file import Stored


def skeleton(
    model_class: type[PreTrainedModel],
    folder: Path,
    section: Section | None,
    stored: Mapping[str, Stored],
) -> tuple[PreTrainedModel, dict[str, list[str]]]:
    """Load a checkpoint with tensors that have shapes and dtypes but no values (device "meta").

    transformers finds out, as in any loading, which tensor is which weight, what is tied, and what
    a class does without; no tensor is read.

    Args:
        model_class: what to build.
        folder: where its config.json and generation config are.
        section: of a sparse checkpoint; None: the checkpoint is dense.
        stored: all tensors of its files.

    Returns:
        The model in evaluation mode, and what :func:`disagreement` says of the files.
    """
    layers = section.layers if section else {}
    parts = section.tensor_names() - layers.keys() if section else set()
    state = {
        name: torch.empty(
            layers[name].shape if name in layers else tensor.shape,
            dtype=tensor.torch_dtype,
            device="meta",
        )
        for name, tensor in stored.items()
        if name not in parts
    }
    config: Any = model_class.config_class
    config = config.from_pretrained(folder)
    for field in ("quantization_config", WEIGHTS_FIELD):
        if hasattr(config, field):
            delattr(config, field)
    model: PreTrainedModel
    found: dict[str, Any]
    with _quiet():
        model, found = model_class.from_pretrained(  # type: ignore[misc]  # a pair, which it hides
            None,
            config=config,
            state_dict=state,
            dtype="auto",
            device_map={"": "meta"},
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # for disagreement to name
        )
    if model.can_generate():
        model.generation_config = _generation_config(folder)
    return model, disagreement(found)


def disagreement(found: Mapping[str, Any]) -> dict[str, list[str]]:
    """What ``output_loading_info=True`` of ``from_pretrained`` says is not as it should be.

    Returns:
        "missing", "of another shape" and "unexpected" → names of weights; those with any.
    """
    wrong = {
        "missing": list(found["missing_keys"]),
        "of another shape": [name for name, *_ in found["mismatched_keys"]],
        "unexpected": list(found["unexpected_keys"]),
    }
    return {what: names for what, names in wrong.items() if names}


def described(
    wrong: Mapping[str, list[str]], model_class: type[PreTrainedModel], folder: Path
) -> str:
    """A disagreement in words."""
    said = "; ".join(f"{what}: {listed(names)}" for what, names in wrong.items())
    return (
        f"{folder} does not hold the weights of the {model_class.__name__} that its {CONFIG_FILE} "
        f"describes: {said}"
    )


def _generation_config(folder: Path) -> GenerationConfig:
    """As ``from_pretrained`` of a folder finds it."""
    try:
        return GenerationConfig.from_pretrained(folder)
    except OSError:  # there is none
        return GenerationConfig.from_pretrained(
            folder, config_file_name=CONFIG_FILE, _from_model_config=True
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """What transformers would warn of is returned, and nothing is loaded that takes time."""
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
