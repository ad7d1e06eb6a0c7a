"""A factor on the learning rate holds during a step and is gone after it, failed or not."""

from __future__ import annotations

import pytest
import torch
from torch.optim import SGD

from chts_hf.lr import LearningRateFactor


@pytest.fixture
def optimizer() -> SGD:
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    for weight in weights:
        weight.grad = torch.ones(1)
    return SGD([{"params": weights[:1], "lr": 1.0}, {"params": weights[1:], "lr": 2.0}])


def fail() -> float:
    raise RuntimeError("out of memory")


def rates(optimizer: SGD) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


def test_it_is_there_in_the_step_alone(optimizer: SGD) -> None:
    LearningRateFactor(optimizer, lambda: 0.1)
    optimizer.step()
    moved = [group["params"][0].item() for group in optimizer.param_groups]
    assert moved == pytest.approx([-0.1, -0.2])
    assert rates(optimizer) == [1.0, 2.0]


def test_a_step_that_failed_does_not_lower_the_next_ones_rate(optimizer: SGD) -> None:
    seen = []
    LearningRateFactor(optimizer, lambda: 0.1)
    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step(fail)
    optimizer.step(lambda: seen.append(rates(optimizer)) or 0.0)
    assert seen == [pytest.approx([0.1, 0.2])]
    assert rates(optimizer) == [1.0, 2.0]


def test_what_is_set_after_a_step_that_failed_stays(optimizer: SGD) -> None:
    factors = iter((0.1, 1.0))
    LearningRateFactor(optimizer, lambda: next(factors))
    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step(fail)
    optimizer.param_groups[0]["lr"] = 0.5  # by a schedule, say
    optimizer.step()
    assert rates(optimizer) == [0.5, 2.0]


def test_removing_it_gives_the_rates_back(optimizer: SGD) -> None:
    factor = LearningRateFactor(optimizer, lambda: 0.1)
    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step(fail)
    factor.remove()
    assert rates(optimizer) == [1.0, 2.0]
