"""Hooks that keep the gradients of absent links at zero, and gather them when an update asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from chts_hf.distributed.layout import local


def as_factor(mask: Tensor) -> Tensor:
    """A bool mask as the bytes 0 and 1 it consists of, to multiply by; shares its memory.

    On a CPU a product with int8 is vectorised; one with bool is not and takes more than twice the
    time.
    """
    return mask.view(torch.int8)


def gradient_or_zero(gradients: Mapping[str, Tensor], name: str, weight: Tensor) -> Tensor:
    """What this process holds of a weight's gradient, as :meth:`GradientMasks.take` gave them.

    A weight that its batch did not reach (an expert, a dropped layer) has gradient 0, and every
    rank must bring the same tensors.
    """
    found = gradients.get(name)
    return torch.zeros_like(local(weight)) if found is None else found


class GradientMasks:
    """Masks each gradient as it is accumulated, before clipping and reduction can see it.

    A post-accumulate hook works in place on ``parameter.grad``, so it costs one pass over the
    weights per backward and no memory. Under DDP it runs before the bucket is reduced; under FSDP2
    after that, on this rank's shard of the gradient, averaged over the ranks.

    While ``collect`` is true the hooks also keep the dense gradient: the sum over the micro-batches
    of this process, without the factor of a loss scaler. This costs one more tensor per parameter
    until :meth:`take` is called.

    Args:
        parameters: name → parameter.
        masks: name → mask, changed in place by whoever owns them.
        scaler: the loss scaler, if there is one.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        masks: Mapping[str, Tensor],
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self.collect = False
        self._scaler = scaler
        self._scale = 1.0
        self._dense: dict[str, Tensor] = {}
        self._parameters = parameters
        self._masks = masks
        self._handles: list[RemovableHandle] = []

    def attach(self) -> None:
        """Put the hooks on the parameters."""
        self._handles = [
            parameter.register_post_accumulate_grad_hook(self._hook(name))
            for name, parameter in self._parameters.items()
        ]

    def _hook(self, name: str) -> Callable[[Tensor], None]:
        def mask_gradient(parameter: Tensor) -> None:
            if parameter.grad is None:
                return
            gradient = local(parameter.grad)
            mask = self._masks[name]
            if self.collect:
                self._add(name, gradient, mask)
            gradient.mul_(as_factor(mask))

        return mask_gradient

    @torch.no_grad()
    def _add(self, name: str, gradient: Tensor, mask: Tensor) -> None:
        # On links `gradient` holds the sum over all micro-batches so far; elsewhere it holds this
        # micro-batch alone, because the earlier ones were masked away.
        if not self._dense and self._scaler is not None:
            self._scale = self._scaler.get_scale()  # it may change with the step
        before = self._dense.get(name)
        if before is None:
            self._dense[name] = gradient.detach().clone()
        else:
            before.mul_(~mask).add_(gradient)

    @torch.no_grad()
    def take(self) -> dict[str, Tensor]:
        """The dense gradients gathered since the last call; gives up their memory here."""
        dense, self._dense = self._dense, {}
        if self._scale != 1:
            torch._foreach_div_(list(dense.values()), self._scale)
            self._scale = 1.0
        return dense

    def remove(self) -> None:
        """Take the hooks off the parameters."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
