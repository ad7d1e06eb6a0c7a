"""The tensors of a model by the names they are stored under, each made when its turn comes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.modeling_utils import remove_tied_weights_from_state_dict

from chts_hf.checkpoint.tensor_file import DTYPES, Entry


@dataclass(frozen=True)
class Tensors:
    """What a model consists of.

    Attributes:
        entries: stored name → tensor, tied ones once.
        stored_names: parameter name → stored name; parameters that are stored in another form than
            the model holds them in are left out.
    """

    entries: dict[str, Entry]
    stored_names: dict[str, str]


def tensors_of(model: PreTrainedModel, weights: Mapping[str, Tensor] | None = None) -> Tensors:
    """The tensors of a model, by the names that ``save_pretrained`` would give them.

    Args:
        model: the model; on the "meta" device the names alone mean something.
        weights: its state dict, if not what it holds itself, as where it is sharded. Shared weights
            are one tensor.

    Raises:
        ValueError: a tensor has a dtype that no checkpoint holds.
    """
    # The parameters themselves: what is on "meta" has no address to recognise it by.
    found = model.state_dict(keep_vars=True) if weights is None else weights
    state = {name: tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}
    places = {name: _place(state[name]) for name, _ in model.named_parameters() if name in state}
    for name in getattr(model, "_keys_to_ignore_on_save", None) or ():
        state.pop(name, None)
    state = remove_tied_weights_from_state_dict(state, model)
    state = revert_weight_conversion(model, state)
    names = {_place(tensor): name for name, tensor in state.items()}
    return Tensors(
        {name: _entry(name, tensor) for name, tensor in state.items()},
        {name: names[place] for name, place in places.items() if place in names},
    )


def _place(tensor: Tensor) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    address = id(tensor) if tensor.is_meta else tensor.data_ptr()
    return address, tuple(tensor.shape), tuple(tensor.stride())


def _entry(name: str, tensor: Tensor) -> Entry:
    if tensor.dtype not in DTYPES:
        raise ValueError(f"{name} is {tensor.dtype}; a checkpoint holds {list(DTYPES)}")
    kept = tensor.detach()
    return Entry(name, tensor.dtype, tuple(tensor.shape), lambda: kept)
