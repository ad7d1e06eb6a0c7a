"""Learning rates: the Noam schedule, and a factor on top of whatever schedule there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class LearningRateFactor:
    """Multiplies the learning rate during each optimizer step, and only then.

    Just before a step every group's rate is multiplied with ``factor()``, and right after it is
    put back. Schedulers and loggers therefore never see the factor, so it composes with any of
    them, those that compute a rate from the last one included.

    Args:
        optimizer: the PyTorch optimizer.
        factor: called before each step; 1 leaves everything untouched.
    """

    def __init__(self, optimizer: Optimizer, factor: Callable[[], float]) -> None:
        self._factor = factor
        self._saved: list[Any] | None = None
        self._handles = [
            optimizer.register_step_pre_hook(self._apply),
            optimizer.register_step_post_hook(self._restore),
        ]

    def _apply(self, optimizer: Optimizer, *_: object) -> None:
        factor = self._factor()
        if factor == 1.0:
            return
        self._saved = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            if group["lr"] is not None:  # Adafactor may choose its own
                group["lr"] = group["lr"] * factor

    def _restore(self, optimizer: Optimizer, *_: object) -> None:
        if self._saved is None:
            return
        for group, rate in zip(optimizer.param_groups, self._saved, strict=True):
            group["lr"] = rate
        self._saved = None

    def remove(self) -> None:
        """Take the hooks off the optimizer."""
        for handle in self._handles:
            handle.remove()


def noam_schedule(
    optimizer: Optimizer, d_model: int, warmup_steps: int, factor: float = 1.0
) -> LambdaLR:
    """The schedule of Vaswani et al. 2017 (§5.3).

    ``lr(t) = factor · d_model^(-1/2) · min(t^(-1/2), t · warmup_steps^(-3/2))``, t from 1.

    Args:
        optimizer: its groups' rates are *replaced* by the schedule.
        d_model: the model's width.
        warmup_steps: steps until the rate is highest.
        factor: scales the whole curve.

    Raises:
        ValueError: ``d_model`` or ``warmup_steps`` is below 1.
    """
    if d_model < 1 or warmup_steps < 1:
        raise ValueError(
            f"noam needs d_model and warmup_steps of at least 1, got {d_model} and {warmup_steps}"
        )
    for group in optimizer.param_groups:
        group["lr"] = 1.0
        group.pop("initial_lr", None)

    def rate(step: int) -> float:
        step = step + 1
        return float(factor * d_model**-0.5 * min(step**-0.5, step * warmup_steps**-1.5))

    return LambdaLR(optimizer, rate)
