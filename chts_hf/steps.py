"""Whether the optimizer that trains the weights has made a step, or has one still to come."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from chts_hf.distributed.layout import local
from chts_hf.optimizers import base_optimizer, left_out


class OptimizerSteps:
    """Watches for steps of an optimizer, and for those of others that train the same weights.

    Args:
        given: the optimizer, plain or prepared by accelerate.
        weights: those that are sparsified.
    """

    def __init__(self, given: Optimizer, weights: Iterable[Tensor]) -> None:
        self._accelerate = getattr(given, "gradient_state", None)
        self._optimizer = base_optimizer(given)
        self._weights = {id(weight) for weight in weights}
        self._stepped = False
        self._stranger: str | None = None
        note = weakref.WeakMethod(self._note)  # a hook on all optimizers outlives each of them

        def hook(optimizer: Optimizer, *_: object) -> None:
            if (watching := note()) is not None:
                watching(optimizer)

        self._handle = register_optimizer_step_post_hook(hook)
        weakref.finalize(self, self._handle.remove)

    def taken(self) -> bool:
        """Whether the optimizer has stepped since the last call.

        Raises:
            RuntimeError: it has not, but another one that holds some of the weights has.
        """
        stepped, stranger = self._stepped, self._stranger
        self._stepped, self._stranger = False, None
        if stranger is not None and not stepped:
            raise RuntimeError(
                f"the weights were trained by another optimizer ({stranger}) than the one that the "
                f"Sparsifier was given ({type(self._optimizer).__name__}), which made no step; "
                "make the Sparsifier with the optimizer that trains. To change it in the midst of "
                "a run: state = sparsifier.state_dict(); sparsifier.close(); "
                "Sparsifier(model, new_optimizer, config, total_steps, state)"
            )
        return stepped

    def to_come(self) -> bool:
        """Whether the gradients of a step that was not made stay, for more to be added to them.

        accelerate says so of an optimizer that it prepared. Of another one the gradients do: those
        of a batch that was given up are gone, or all 0, or hold the infinities for which a loss
        scaler skipped the step.
        """
        if self._accelerate is not None:
            return not self._accelerate.sync_gradients
        assert self._optimizer is not None
        gradients = [
            local(weight.grad)
            for group in self._optimizer.param_groups
            for weight in group["params"]
            if weight.grad is not None and weight.grad.layout == torch.strided
        ]
        largest = [float(torch.linalg.vector_norm(x, math.inf)) for x in gradients if x.numel()]
        return all(map(math.isfinite, largest)) and any(largest)

    def remove(self) -> None:
        """Watch no longer."""
        self._handle.remove()

    def _note(self, optimizer: Optimizer) -> None:
        inner = optimizer
        while hasattr(inner, "optimizer"):  # a wrapper, which may leave steps out
            inner = inner.optimizer
        if optimizer is self._optimizer:
            self._stepped = not left_out(optimizer)
        elif inner is not self._optimizer and self._holds_weights(optimizer):
            self._stranger = type(optimizer).__name__

    def _holds_weights(self, optimizer: Optimizer) -> bool:
        held = (id(weight) for group in optimizer.param_groups for weight in group["params"])
        return not self._weights.isdisjoint(held)
