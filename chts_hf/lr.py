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
    them, those that compute a rate from the last one included. After a step that failed it is put
    back before the next one, unless something has set another rate since.

    Args:
        optimizer: the PyTorch optimizer.
        factor: called before each step; 1 leaves everything untouched.
    """

    def __init__(self, optimizer: Optimizer, factor: Callable[[], float]) -> None:
        self._factor = factor
        self._optimizer = optimizer
        self._changed: list[tuple[Any, Any]] = []  # each group's rate before and during the step
        self._handles = [
            optimizer.register_step_pre_hook(self._apply),
            optimizer.register_step_post_hook(self._restore),
        ]

    def _apply(self, optimizer: Optimizer, *_: object) -> None:
        self._restore_after_failure()
        factor = self._factor()
        if factor == 1.0:
            return
        for group in optimizer.param_groups:
            rate = group["lr"]
            if rate is not None:  # Adafactor may choose its own
                group["lr"] = rate * factor
            self._changed.append((rate, group["lr"]))

    def _restore(self, optimizer: Optimizer, *_: object) -> None:
        for group, (before, _) in zip(optimizer.param_groups, self._changed, strict=False):
            group["lr"] = before
        self._changed = []

    def _restore_after_failure(self) -> None:
        """Do what the end of the last step did not come to; what was set since then stays."""
        for group, (before, during) in zip(
            self._optimizer.param_groups, self._changed, strict=False
        ):
            if group["lr"] is during:
                group["lr"] = before
        self._changed = []

    def remove(self) -> None:
        """Take the hooks off the optimizer, and put its rates back if a step failed."""
        for handle in self._handles:
            handle.remove()
        self._restore_after_failure()


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
