"""How transformers reads a sparse checkpoint: a quantizer that unpacks while weights are loaded.

Importing this module registers it, after which ``from_pretrained`` of any Auto class gives an
ordinary model with dense tensors, zeros where there is no link.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import (
    ConversionOps,
    WeightConverter,
    WeightRenaming,
    rename_source_key,
)
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from chts_hf.checkpoint.config_check import check_config
from chts_hf.checkpoint.folder import CONFIG_FILE, WEIGHTS_FIELD
from chts_hf.checkpoint.layout import DENSE, decode_links, decode_weight
from chts_hf.checkpoint.reader import check_files, check_inside, listed, read_config
from chts_hf.checkpoint.section import (
    QUANT_METHOD,
    STREAM_SUFFIX,
    Layer,
    Section,
    SparseFileError,
)
from chts_hf.zero_links import remember_zero_links


@register_quantization_config(QUANT_METHOD)
class SparseConfig(QuantizationConfigMixin):
    """The ``quantization_config`` of a sparse checkpoint, as transformers wants to hold it.

    Args:
        values: the section of config.json.

    Raises:
        SparseFileError: it cannot be right, or is of a newer format.
    """

    quant_method: Any = QUANT_METHOD
    dequantize = True  # what is loaded is an ordinary model

    def __init__(self, **values: Any) -> None:
        self.section = Section.from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return self.section.to_dict()


class Unpack(ConversionOps):
    """Makes one weight of its values and its stream of positions.

    Args:
        name: what it is called in the file.
        layer: what it is.
    """

    def __init__(self, name: str, layer: Layer) -> None:
        self.name = name
        self.layer = layer

    def convert(
        self,
        input_dict: dict[str, Any],
        source_patterns: list[str],
        target_patterns: list[str],
        *,
        full_layer_name: str = "",
        model: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The dense weight, in the dtype and on the device its values came in."""
        stream, values = (_only(input_dict.get(pattern)) for pattern in source_patterns)
        if stream is None or values is None:
            raise SparseFileError(f"{self.name} came without its values or its positions")
        layer = self.layer
        mask = decode_links(stream.cpu(), layer.layout, layer.shape, layer.links)
        weight = decode_weight(values.cpu(), mask)
        _remember(model, full_layer_name, weight, mask)
        return {full_layer_name: weight.to(values.device)}


def _only(collected: Any) -> Tensor | None:
    found = collected[0] if isinstance(collected, list) and len(collected) == 1 else collected
    return found if isinstance(found, Tensor) else None


def _remember(model: Any, name: str, weight: Tensor, mask: Tensor) -> None:
    """Note the links of weight 0; the weight itself shows all others."""
    zero = (weight == 0) & mask
    remember_zero_links(model, name, zero.reshape(-1).nonzero().reshape(-1))


@register_quantizer(QUANT_METHOD)
class SparseQuantizer(HfQuantizer):
    """Checks a sparse checkpoint before anything is allocated, then has its weights unpacked."""

    requires_calibration = True  # it reads what was saved; it does not sparsify a dense model

    def _process_model_before_weight_loading(
        self, model: PreTrainedModel, checkpoint_files: Any = None, **kwargs: Any
    ) -> None:
        files = checkpoint_files or []
        check_inside(files, str(model.config.name_or_path))
        if files and (config := Path(files[0]).with_name(CONFIG_FILE)).is_file():
            check_config(self._section, read_config(config.parent), config)
        check_files(self._section, files)

    def update_weight_conversions(self, weight_conversions: Any, model: Any) -> list[Any]:
        """One converter for each layer, before those that the model brings."""
        renamings = [entry for entry in weight_conversions if isinstance(entry, WeightRenaming)]
        expected = model.state_dict()
        self._stored_for = {
            rename_source_key(name, renamings, [], model.base_model_prefix, expected)[0]
            for name in self._section.checksums
        }
        converters = []
        for name, layer in self._section.layers.items():
            inside, _ = rename_source_key(name, renamings, [], model.base_model_prefix, expected)
            if inside in expected and tuple(expected[inside].shape) != layer.shape:
                raise SparseFileError(
                    f"{name} has shape {layer.shape} in the file, but {type(model).__name__} has "
                    f"{tuple(expected[inside].shape)}"
                )
            if layer.layout != DENSE:
                target, stream = (
                    rename_source_key(key, renamings, [])[0] for key in (name, name + STREAM_SUFFIX)
                )
                sources = [f"^{re.escape(key)}$" for key in (stream, target)]
                converters.append(WeightConverter(sources, [target], [Unpack(name, layer)]))
        return [*converters, *weight_conversions]

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **kwargs: Any) -> Any:
        self._refuse_random_weights(model)
        parameters: dict[str, Tensor] = dict(model.named_parameters())
        for name, layer in self._section.layers.items():
            weight = parameters.get(name)
            if layer.layout == DENSE and layer.links == layer.weights and weight is not None:
                _remember(model, name, weight.detach(), torch.ones_like(weight, dtype=torch.bool))
        # From here on it is a model like any other: nothing of how it was stored is saved again.
        used = getattr(model, "_weight_conversions", None) or []
        own = [entry for entry in used if not _is_ours(entry)]
        model.__dict__["_weight_conversions"] = own  # a plain attribute, as transformers sets it
        if hasattr(model.config, WEIGHTS_FIELD):
            delattr(model.config, WEIGHTS_FIELD)
        return model

    def _refuse_random_weights(self, model: PreTrainedModel) -> None:
        """What transformers made up for a model of the class that was saved.

        Another class may have a head of its own, which it has to make up.
        """
        if type(model).__name__ not in (model.config.architectures or ()):
            return
        optional = [re.compile(name) for name in model._keys_to_ignore_on_load_missing or ()]
        missing = [
            name
            for name, parameter in model.named_parameters()
            # The mark of what came from a file or is tied to it; "meta" was put on a disk.
            if not getattr(parameter, "_is_hf_initialized", False)
            and not parameter.is_meta
            # Stored, but of another shape: the caller said ignore_mismatched_sizes=True.
            and name not in self._stored_for
            and not any(pattern.search(name) for pattern in optional)
        ]
        if missing:
            raise SparseFileError(
                f"the checkpoint has no weights for {listed(missing)} of {type(model).__name__}, "
                f"which its {CONFIG_FILE} describes"
            )

    def is_serializable(self) -> bool:
        """What is loaded is saved as any model is."""
        return True

    @property
    def is_trainable(self) -> bool:
        """What is loaded can be trained."""
        return True

    @property
    def _section(self) -> Section:
        config: Any = self.quantization_config
        section: Section = config.section
        return section


def _is_ours(entry: Any) -> bool:
    return any(isinstance(operation, Unpack) for operation in getattr(entry, "operations", ()))
