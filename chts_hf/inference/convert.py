"""A trained sparse model → the same model, multiplying sparsely."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from chts_hf.config import CHTsConfig
from chts_hf.inference.beams import share_encodings
from chts_hf.inference.choice import PRODUCTS, ROWS, Choice, measure
from chts_hf.inference.layers import all_targets, holders
from chts_hf.inference.linear import SparseLinear
from chts_hf.inference.swapped import SwappedLinear
from chts_hf.targets import Target

Model = TypeVar("Model", bound=nn.Module)
_LOGGER = logging.getLogger(__name__)


def to_sparse_inference(
    model: Model,
    *,
    config: CHTsConfig | None = None,
    rows: Sequence[int] = ROWS,
    min_sparsity: float = 0.5,
    kernels: Sequence[str] = PRODUCTS,
    choose: Callable[..., Choice] = measure,
) -> Model:
    """Replace a model's sparse layers by ones that skip the zeros, where that is faster.

    Each target of :func:`chts_hf.find_targets` with enough zeros is timed, dense against sparse,
    on this machine with the threads torch has now; layers of one shape and sparsity (to 1 %) share
    a timing. So are the linear layers that stay dense, the output head above all, in the two orders
    of the factors (:class:`SwappedLinear`). Beams share their sentence's encoding
    (:func:`share_encodings`). Layers that nothing makes faster stay as they are, so
    that the model is not slower than before. The model is changed in place, layer by layer, so that
    the dense and the sparse weights are never both in memory as a whole; it is put into ``eval()``.

    ``generate`` gives the same tokens as before: the outputs differ by the rounding of another
    order of summation. The sparse layers cannot be trained; ``save_pretrained`` writes the dense
    model that it was. It works on the CPU in float32: a model elsewhere, or in half precision, is
    returned as it is, with a warning.

    Args:
        model: any module that targets are found in.
        config: which layers are targets, as in training; None means ``CHTsConfig()``.
        rows: numbers of tokens the choice is made for: beams × batch in generation.
        min_sparsity: a layer with a smaller part of zeros stays dense without a measurement.
        kernels: what may be chosen: "native" and "torch", which are the sparse products of
            :class:`SparseLinear`, and "swapped". The last alone makes dense models faster.
        choose: called with ``(weight, bias, rows, kernels)``; gives the :class:`Choice`.

    Returns:
        ``model``.

    Raises:
        ValueError: the model was converted before, no layer is a target, or an unknown kernel.

    Example:
        >>> from transformers import AutoModelForSeq2SeqLM
        >>> model = AutoModelForSeq2SeqLM.from_pretrained(folder)  # doctest: +SKIP
        >>> model = to_sparse_inference(model)  # doctest: +SKIP
        >>> model.generate(**batch, num_beams=4)  # doctest: +SKIP
    """
    if any(isinstance(module, (SparseLinear, SwappedLinear)) for module in model.modules()):
        raise ValueError(
            f"this {type(model).__name__} was converted already; load the model again to choose "
            "anew"
        )
    if unknown := set(kernels) - set(PRODUCTS):
        raise ValueError(f"unknown kernels {sorted(unknown)}; known are {', '.join(PRODUCTS)}")
    model.eval()
    targets = all_targets(model, config)
    parameters = {target.parameter_name: target for target in targets}
    choices: dict[tuple[object, ...], Choice] = {}
    counts: dict[str, int] = {}
    for target in parameters.values():
        kernel = _convert(model, target, choices, min_sparsity, rows, kernels, choose)
        counts[kernel] = counts.get(kernel, 0) + 1
    shown = ", ".join(f"{count} {kernel}" for kernel, count in sorted(counts.items()))
    _LOGGER.info("products of the %d target layers: %s", len(parameters), shown)
    if counts.keys() <= {"dense", "swapped"} and set(kernels) != {"swapped"}:
        _LOGGER.warning(
            "no target layer is faster with sparse products on this machine (%d threads), so all "
            "stay dense; small layers, or few zeros, gain nothing",
            torch.get_num_threads(),
        )
    if set(counts) == {"unsupported"}:
        _LOGGER.warning(
            "to_sparse_inference changed nothing: the layers are not float32 on the CPU, where the "
            "sparse products are; load the model with dtype=torch.float32 and without a device map"
        )
    if "swapped" in kernels:
        _swap_dense(model, [target.weight for target in targets], rows, choose)
    share_encodings(model)
    return model


def _swap_dense(
    model: nn.Module,
    decided: Sequence[Tensor],
    rows: Sequence[int],
    choose: Callable[..., Choice],
) -> None:
    """Swap the factors of the linear layers that nothing was decided about, where it is faster."""
    known = {id(weight) for weight in decided}
    choices: dict[tuple[object, ...], Choice] = {}
    made: dict[int, SwappedLinear] = {}
    for name, layer in list(model.named_modules(remove_duplicate=False)):
        if type(layer) is not nn.Linear or id(layer.weight) in known:
            continue
        weight = layer.weight.detach()
        if weight.dtype != torch.float32 or weight.device.type != "cpu":
            continue
        bias = None if layer.bias is None else layer.bias.detach()
        key = (tuple(weight.shape), bias is None)
        if key not in choices:
            choices[key] = choose(weight, bias, rows, ("swapped",))
        if choices[key].kernel == "swapped":
            if id(layer) not in made:
                made[id(layer)] = SwappedLinear(layer.weight, layer.bias, max(rows)).eval()
            _replace(model, name, made[id(layer)])


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, layer)


def _convert(
    model: nn.Module,
    target: Target,
    choices: dict[tuple[object, ...], Choice],
    min_sparsity: float,
    rows: Sequence[int],
    kernels: Sequence[str],
    choose: Callable[..., Choice],
) -> str:
    """Replace the modules that hold a target's parameter; says by which product."""
    parameter = target.weight
    if parameter.dtype != torch.float32 or parameter.device.type != "cpu":
        return "unsupported"
    weight: Tensor = parameter.detach()
    weight = weight.T if target.transposed else weight
    sparsity = 1 - weight.count_nonzero().item() / max(weight.numel(), 1)
    layers = holders(model, target)
    if sparsity < min_sparsity:
        kernels = [kernel for kernel in kernels if kernel == "swapped"]
    if not all(type(layer) is nn.Linear for layer in layers.values()):
        kernels = [kernel for kernel in kernels if kernel != "swapped"]
    if not kernels:
        return "dense"
    biases = {id(layer.bias): layer.bias for layer in layers.values()}
    if len(biases) > 1:  # one matrix under two biases: no model of transformers has it
        return "dense"
    bias = next(iter(biases.values()))
    assert bias is None or isinstance(bias, Tensor)
    key = (tuple(weight.shape), round(sparsity, 2), bias is None, tuple(kernels))
    if key not in choices:
        choices[key] = choose(weight, bias, rows, kernels)
    choice = choices[key]
    if choice.kernel == "dense":
        return "dense"
    replacement: nn.Module
    if choice.kernel == "swapped":
        replacement = SwappedLinear(parameter, bias, max(rows)).eval()
    else:
        replacement = SparseLinear(weight, bias, choice.kernel, transposed=target.transposed).eval()
    for name in layers:
        _replace(model, name, replacement)
    return choice.kernel
