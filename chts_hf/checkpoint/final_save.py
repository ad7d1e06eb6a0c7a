"""``save_pretrained`` of a model that was trained sparsely writes the sparse format.

The Trainer tells a callback when it has saved, not how to save, and gives it no hold on itself.
What every way to a final model goes through (``Trainer.save_model``, ``Trainer.push_to_hub``,
``model.push_to_hub``) is the model's own ``save_pretrained``, so that is what is replaced, on this
one model. The Trainer's ``checkpoint-N`` folders stay dense: a resume and
``load_best_model_at_end`` read them by ``load_state_dict``, which knows no formats.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from chts_hf.checkpoint.complete import is_checkpoint
from chts_hf.checkpoint.save import MaskMaker, nonzero_mask, write_sparse
from chts_hf.checkpoint.tensors import tensors_of
from chts_hf.config import CHTsConfig
from chts_hf.distributed.layout import is_sharded

logger = logging.getLogger(__name__)

#: Values of options of ``save_pretrained`` that ask for nothing.
_NOTHING = (None, False, "")
# Those that are on, or may have any value, and ask for nothing either: transformers' defaults, and
# what it takes without a use for it.
_ON = frozenset({"safe_serialization", "save_original_format", "save_peft_format"})
_UNUSED = frozenset({"save_function"})


class SparseSaver:
    """Takes the place of one model's ``save_pretrained``.

    An object rather than a closure, so that copies of the model made by ``copy.deepcopy`` or pickle
    have one of their own, which saves the copy.

    Args:
        model: whose weights are saved.
        masks: parameter name → mask, changed in place by the sparsifier that owns them.
        config: what the model is trained with.
    """

    def __init__(
        self, model: PreTrainedModel, masks: dict[str, Tensor], config: CHTsConfig
    ) -> None:
        self.model = model
        self.masks = masks
        self.config = config
        self._whole: dict[str, Tensor] | None = None

    @contextmanager
    def gathered(self, masks: dict[str, Tensor]) -> Iterator[None]:
        """Within this, a state dict that is given is the whole model, and these are its masks."""
        self._whole = masks
        try:
            yield
        finally:
            self._whole = None

    def __call__(
        self,
        save_directory: str | os.PathLike[str],
        is_main_process: bool = True,
        state_dict: dict[str, Any] | None = None,
        max_shard_size: int | str = "5GB",
        **options: Any,
    ) -> None:
        """Save the model; what the sparse format has no words for is saved as transformers does."""
        model, folder = self.model, Path(save_directory)
        options = {name: value for name, value in options.items() if _asks(name, value)}
        # A training checkpoint is dense whatever its weights are, so they are not looked at.
        checkpoint = is_checkpoint(folder)
        if is_sharded(model) and not checkpoint and self._whole is None:
            raise ValueError(
                "the model's weights are sharded over processes; trainer.save_model(folder), "
                "called by every process, gathers and saves them"
            )
        # Of a sharded model the first process alone is given the whole, and the others nothing.
        given = state_dict is not None and (self._whole is not None or _is_of(model, state_dict))
        weights: Mapping[str, Tensor] = dict(model.named_parameters())
        if given or self._whole is not None:
            weights = state_dict or {}
        sparse = {} if checkpoint else self._sparse_weights(weights)
        whole = state_dict is None or given
        if not sparse or not whole or options:
            reasons = [*options, *([] if whole else ["a state_dict that is not the model's"])]
            if sparse and reasons and is_main_process:
                logger.warning(
                    "%s is saved densely, because of %s; save_pretrained without them, or "
                    "chts_hf.save_sparse, writes the sparse format", folder, ", ".join(reasons),
                )  # fmt: skip
            type(model).save_pretrained(
                model,
                save_directory,
                is_main_process=is_main_process,
                state_dict=state_dict,
                max_shard_size=max_shard_size,
                **options,
            )
        elif is_main_process:
            tensors = tensors_of(model, state_dict)
            write_sparse(model, folder, sparse, self.config, None, max_shard_size, {}, tensors)

    def _sparse_weights(self, weights: Mapping[str, Tensor]) -> dict[str, MaskMaker]:
        """The weights that were trained sparsely and still are, and what makes their masks."""
        masks = self.masks if self._whole is None else self._whole
        return {
            name: _links(weights[name], mask)
            for name, mask in masks.items()
            if name in weights and bool((weights[name] == 0).any())
        }


def save_sparsely(model: nn.Module, masks: dict[str, Tensor], config: CHTsConfig) -> None:
    """Have ``model.save_pretrained`` write the sparse format outside of checkpoint folders.

    Models that are none of transformers' own, such as PEFT's, are left as they are.
    """
    if isinstance(model, PreTrainedModel) and not getattr(model, "_hf_peft_config_loaded", False):
        model.__dict__["save_pretrained"] = SparseSaver(model, masks, config)


def save_densely(model: nn.Module) -> None:
    """Undo :func:`save_sparsely`, when a model is trained on densely."""
    if sparse_saver(model) is not None:
        del model.__dict__["save_pretrained"]


def sparse_saver(model: nn.Module) -> SparseSaver | None:
    """What knows the masks of a model whose training has ended, if it was a sparse one."""
    saver = vars(model).get("save_pretrained")
    return saver if isinstance(saver, SparseSaver) else None


def _asks(name: str, value: Any) -> bool:
    """Whether an option of ``save_pretrained`` asks for something that the sparse format lacks."""
    return not (name in _UNUSED or value in _NOTHING or (name in _ON and value is True))


def _is_of(model: nn.Module, state_dict: Mapping[str, Any]) -> bool:
    """Whether a state dict is all of a model, as ``accelerator.get_state_dict`` gives it."""
    own = model.state_dict()
    return own.keys() == state_dict.keys() and all(
        isinstance(state_dict[name], Tensor) and state_dict[name].shape == tensor.shape
        for name, tensor in own.items()
    )


def _links(weight: Tensor, mask: Tensor) -> MaskMaker:
    if mask.shape != weight.shape:  # neurons were cut out since
        return nonzero_mask(weight)
    # Whoever trained the model on without its masks must not lose what is new.
    return lambda: mask.to(weight.device) | (weight.detach() != 0)
