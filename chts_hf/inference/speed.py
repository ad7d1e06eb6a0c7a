"""How fast a sparse model generates, beside the same weights multiplied densely."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from chts_hf.config import CHTsConfig
from chts_hf.inference.convert import to_sparse_inference
from chts_hf.inference.linear import SparseLinear
from chts_hf.machine import machine_kind


@dataclass(frozen=True)
class GenerationSpeed:
    """What :func:`generation_speed` measured.

    Attributes:
        dense_seconds: median time of a call of ``generate`` with dense products.
        sparse_seconds: the same with sparse ones.
        ratio: the median of dense / sparse, pair by pair; above 1 sparse is faster. With no sparse
            layer it compares the model with itself, or with dense layers whose factors are swapped.
        same_tokens: whether both gave the same tokens.
        sparse_layers: how many layers multiply sparsely, because that was found to be faster.
        sentences: rows of the batch.
        num_beams: beams of the search.
        machine: the kind of machine, and the number of threads.
    """

    dense_seconds: float
    sparse_seconds: float
    ratio: float
    same_tokens: bool
    sparse_layers: int
    sentences: int
    num_beams: int
    machine: str

    def __str__(self) -> str:
        """All of it in one line, without a ratio where nothing multiplies sparsely."""
        row = self.card_row()
        return f"{row['name']}: {row['value']} ({row['machine']})"

    def card_row(self) -> dict[str, str]:
        """The row of the model card's table of speeds: name, value, machine."""
        same = "the same tokens" if self.same_tokens else "not all tokens the same"
        value = f"{self.dense_seconds:.2f} s; no layer is faster with sparse products here"
        if self.sparse_layers:
            value = (
                f"{self.sparse_seconds:.2f} s with sparse products in {self.sparse_layers} layers, "
                f"{self.dense_seconds:.2f} s with dense ones: {self.ratio:.2f} times as fast, "
                f"{same}"
            )
        return {
            "name": f"generation, {self.sentences} sentences at once, beam {self.num_beams}",
            "value": value,
            "machine": self.machine,
        }


def generation_speed(
    model: PreTrainedModel,
    inputs: Mapping[str, Tensor],
    *,
    config: CHTsConfig | None = None,
    repeats: int = 3,
    **search: Any,
) -> GenerationSpeed:
    """Time ``generate`` with dense and with sparse products, in turn, on the CPU in float32.

    Both are made from copies of the model, which needs memory for two more of it, and are run once
    before they are timed. Pairs alternate in order, so that a machine that slows down for a while
    slows both.

    Args:
        model: a sparsely trained model as it is loaded, on any device; left as it is. One that
            accelerate or FSDP prepared is to be loaded again.
        inputs: a tokenized batch, ``input_ids`` of shape (sentences, tokens) and the rest.
        config: which layers are targets, as in training; None means ``CHTsConfig()``.
        repeats: how many pairs are timed.
        **search: further arguments of ``generate``, ``num_beams`` and ``max_length`` for instance.

    Returns:
        The medians, with the machine they were measured on.

    Raises:
        ValueError: fewer than one repeat, or the model has no target layers.

    Example:
        >>> speed = generation_speed(model, tokenizer(["A man."], return_tensors="pt"))
        >>> print(speed)  # doctest: +SKIP
        generation, 1 sentences at once, beam 4: ... times as fast, the same tokens (...)
    """
    if repeats < 1:
        raise ValueError(f"repeats = {repeats} must be at least 1")
    dense: Any = copy.deepcopy(model)
    dense = dense.to(device="cpu", dtype=torch.float32).eval()
    sparse = to_sparse_inference(copy.deepcopy(dense), config=config)
    inputs = {name: tensor.cpu() for name, tensor in inputs.items()}

    def timed(which: Any) -> tuple[float, Tensor]:
        started = time.perf_counter()
        with torch.autocast("cpu", enabled=False):
            tokens = which.generate(**inputs, **search, return_dict_in_generate=False)
        return time.perf_counter() - started, tokens

    same = torch.equal(timed(dense)[1], timed(sparse)[1])
    seconds: dict[str, list[float]] = {"dense": [], "sparse": []}
    models = {"dense": dense, "sparse": sparse}
    for pair in range(repeats):
        for name in sorted(models, reverse=pair % 2 == 1):
            seconds[name].append(timed(models[name])[0])
    threads = torch.get_num_threads()
    return GenerationSpeed(
        dense_seconds=statistics.median(seconds["dense"]),
        sparse_seconds=statistics.median(seconds["sparse"]),
        ratio=statistics.median(
            a / b for a, b in zip(seconds["dense"], seconds["sparse"], strict=True)
        ),
        same_tokens=same,
        sparse_layers=sum(isinstance(module, SparseLinear) for module in sparse.modules()),
        sentences=len(next(iter(inputs.values()))),
        num_beams=search.get("num_beams") or getattr(model.generation_config, "num_beams", 0) or 1,
        machine=f"{machine_kind()}, {threads} thread{'s' * (threads != 1)}",
    )
