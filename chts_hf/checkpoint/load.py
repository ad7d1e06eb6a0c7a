"""Reading a sparse checkpoint back into a model."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from transformers import CONFIG_MAPPING, PreTrainedModel
from transformers.models.auto import modeling_auto
from transformers.utils import cached_file

from chts_hf.checkpoint.folder import CONFIG_FILE
from chts_hf.checkpoint.reader import (
    check_tensors,
    read_config,
    read_headers,
    read_section,
    weight_files,
    weights_name,
)
from chts_hf.checkpoint.section import Section, SparseFileError
from chts_hf.checkpoint.skeleton import described, disagreement
from chts_hf.config import CHTsConfig

BACKENDS = ("dense", "csr")
# Model type → the module of ours that registers its classes, loaded when a file asks for them.
_REGISTERED_BY = {"mlp": "chts_hf.vision"}


def load_sparse(
    folder_or_hub_id: str | Path,
    *,
    backend: str = "dense",
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    subfolder: str = "",
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
) -> PreTrainedModel:
    """Load a model that :func:`chts_hf.save_sparse` wrote, of whatever class it was.

    Args:
        folder_or_hub_id: a folder, or a repository on the Hub.
        backend: "dense": an ordinary model, its zeros where it has no links, that can be trained on
            (``CHTsConfig(init="from_weights")`` goes on with the same masks). "csr": a model for
            inference on the CPU whose products skip the zeros, of the layers it was trained with.
        dtype: of the weights; None: that of the file.
        device: where the model goes; None: the CPU.
        subfolder: of the repository; ``"sparse"`` where it was saved with ``dense_copy=True``.
        revision: of the repository on the Hub.
        token: for a private repository.
        cache_dir: where downloads are kept.

    Returns:
        The model, in evaluation mode.

    Raises:
        SparseFileError: the checkpoint is none, is damaged, or of a newer format.
        ValueError: the backend is unknown, or no Auto class of transformers knows the model's.
        OSError: there is neither such a folder nor such a repository.

    Example:
        >>> model = load_sparse("output/demo")
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    hub: dict[str, Any] = {
        name: value
        for name, value in (("revision", revision), ("token", token), ("cache_dir", cache_dir))
        if value is not None
    }
    folder = _local_folder(folder_or_hub_id, subfolder, hub)
    model_class, section = check_checkpoint(folder)
    model = load_exactly(model_class, folder, dtype or "auto")
    if backend == "csr":
        from chts_hf.inference import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
            to_sparse_inference,
        )

        config = CHTsConfig.from_saved(section.config) if section.config else None
        model = to_sparse_inference(model, config=config)
    if device is not None:
        model.to(device)  # type: ignore[arg-type]
    return model


def check_checkpoint(folder: Path) -> tuple[type[PreTrainedModel], Section]:
    """Check the description and the headers of a sparse checkpoint in a local folder.

    transformers opens the files before it asks our quantizer, which checks their contents.

    Returns:
        The class of its model, and its description.

    Raises:
        SparseFileError: what is wrong with it.
        ValueError: no Auto class of transformers knows the class.
    """
    values = read_config(folder)
    section = read_section(values, folder)
    check_tensors(section, read_headers(weight_files(folder, values)))
    return model_class_of(values, folder), section


def load_exactly(
    model_class: type[PreTrainedModel], folder: Path, dtype: torch.dtype | str
) -> PreTrainedModel:
    """``from_pretrained`` that gives no model unless each weight comes from the files.

    Raises:
        SparseFileError: names what is missing, has another shape, or is left over.
    """
    model, wrong = load_compared(model_class, folder, dtype)
    if wrong:
        raise SparseFileError(described(wrong, model_class, folder))
    return model


def load_compared(
    model_class: type[PreTrainedModel], folder: Path, dtype: torch.dtype | str
) -> tuple[PreTrainedModel, dict[str, list[str]]]:
    """``from_pretrained``, and what :func:`disagreement` says of the files."""
    model: PreTrainedModel
    found: dict[str, Any]
    model, found = model_class.from_pretrained(  # type: ignore[misc]  # a pair, which it hides
        folder,
        dtype=dtype,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # for disagreement to name
    )
    return model, disagreement(found)


def model_class_of(values: dict[str, Any], folder: Path) -> type[PreTrainedModel]:
    """The class that a config.json names.

    Raises:
        ValueError: it is none of transformers', nor registered with one of its Auto classes.
        ImportError: a package that the class needs is not installed.
    """
    names = values.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    found = getattr(transformers, name, None) if isinstance(name, str) else None
    if not (isinstance(found, type) and issubclass(found, PreTrainedModel)):
        found = _registered_class(name, values.get("model_type"))
    if found is None:
        raise ValueError(
            f"{folder / CONFIG_FILE} says architectures={names!r:.120}, no model class of "
            "transformers, nor one that is registered with its Auto classes; load it with "
            "from_pretrained of the class it is"
        )
    return found


def _registered_class(name: Any, model_type: Any) -> type[PreTrainedModel] | None:
    """The class of that name that an Auto class has for a model type."""
    if not isinstance(model_type, str):
        return None
    if model_type in _REGISTERED_BY:
        import_module(_REGISTERED_BY[model_type])
    if model_type not in CONFIG_MAPPING:
        return None
    config_class = CONFIG_MAPPING[model_type]
    for mapping in modeling_auto.__all__:
        if mapping.endswith("_MAPPING"):
            found = getattr(modeling_auto, mapping).get(config_class, ())
            for model_class in found if isinstance(found, tuple) else (found,):
                if model_class.__name__ == name:
                    return cast(type[PreTrainedModel], model_class)
    return None


def _local_folder(source: str | Path, subfolder: str, hub: dict[str, Any]) -> Path:
    """The folder itself, or the one in the cache that a repository was downloaded to."""
    local = Path(source)
    if local.is_dir():
        return local / subfolder
    try:
        config = cached_file(str(source), CONFIG_FILE, subfolder=subfolder, **hub)
    except OSError as error:
        raise OSError(
            f"there is no folder {str(source)!r} here, nor could it be had from the Hub: {error}"
        ) from error
    assert config is not None  # or it has raised
    folder = Path(config).parent
    values = read_config(folder)
    read_section(values, folder)  # before anything big is downloaded
    for name in (weights_name(folder, values), "generation_config.json"):
        _download(source, name, subfolder, hub)
    for path in weight_files(folder, values):
        _download(source, path.name, subfolder, hub)
    return folder


def _download(source: str | Path, name: str, subfolder: str, hub: dict[str, Any]) -> None:
    cached_file(
        str(source),
        name,
        subfolder=subfolder,
        _raise_exceptions_for_missing_entries=False,
        **hub,
    )
