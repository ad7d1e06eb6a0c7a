"""Whether the density has fallen to its end, and what is said of a run in which it does not."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

from chts_hf.plan import Plan
from chts_hf.targets import Target
from chts_hf.topology import link_count

logger = logging.getLogger(__name__)


def excess_links(
    targets: Sequence[Target], links: Mapping[str, int], final: Mapping[str, float]
) -> int:
    """How many links all layers together have beyond those of their final sparsities.

    Args:
        targets: the layers.
        links: target name → how many it has.
        final: target name → its sparsity at the end of the density's fall.
    """
    ends = {t.name: link_count(math.prod(t.shape), final[t.name]) for t in targets}
    return sum(max(links[name] - end, 0) for name, end in ends.items())


def check_steps_left(plan: Plan, step: int, excess: int) -> None:
    """Refuse to go on where no update is left in which the density could fall to its end.

    Args:
        plan: of the run that goes on.
        step: the one that it goes on from.
        excess: how many links there are too many for the end of the fall.

    Raises:
        ValueError: names both steps, and a number of steps that would do.
    """
    if excess == 0 or plan.config.density_schedule == "constant" or step < plan.last_update:
        return
    raise ValueError(
        f"the run goes on from step {step}, where {excess:,} links have yet to go until sparsity "
        f"{plan.config.sparsity:g} is reached, but the last topology update of a run of "
        f"{plan.total_steps} steps is that of step {plan.last_update}, so it would end too dense. "
        f"Train for {plan.steps_for_an_update_after(step)} steps or more (total_steps; in a "
        "Trainer max_steps or num_train_epochs), or start a new run from these weights: with "
        'init="from_weights" their density falls on within its own steps'
    )


def warn_of_late_fall(plan: Plan, step: int, excess: int) -> None:
    """Say that links go after the last step, because others were skipped.

    Args:
        plan: of the run that has ended.
        step: how many of its steps counted.
        excess: how many links go.
    """
    logger.warning(
        "%d of the run's %d steps count; the optimizer skipped the others, so the topology update "
        "of step %d, with which the density reaches its end, never came. The %s links that it "
        "takes went after the last step, and nothing was trained without them. An earlier "
        "decay_end (it is %g) leaves room for skipped steps",
        step, plan.total_steps, plan.fallen, f"{excess:,}", plan.config.decay_end,
    )  # fmt: skip
