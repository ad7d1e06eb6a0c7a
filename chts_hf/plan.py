"""When topology updates happen, and what each one aims at: schedules with a run's length put in."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, replace

from chts_hf.config import CHTsConfig
from chts_hf.topology import link_count, schedules


@dataclass(frozen=True)
class Plan:
    """The schedules of one run.

    Args:
        config: the run's configuration.
        total_steps: optimizer steps of the whole run.

    Raises:
        ValueError: the topology is to change, but the run is too short for a single update.
    """

    config: CHTsConfig
    total_steps: int

    def __post_init__(self) -> None:
        if self.total_steps < 1:
            raise ValueError(f"total_steps must be at least 1, got {self.total_steps}")
        interval = self.config.update_interval
        if not self.config.changes_topology or interval <= self.last_step:
            return
        raise ValueError(
            f"update_interval={interval} never fires: topology updates end at step "
            f"{self.last_step} (t_end={self.config.t_end} of {self.total_steps} steps). "
            f"Choose an update_interval of at most {max(self.last_step, 1)}, or train longer"
        )

    @property
    def replace_end(self) -> int:
        """The step at which links stop being replaced."""
        return int(self.config.t_end * self.total_steps)

    @property
    def decay_end(self) -> int:
        """The step at which the density has fallen to its final value; 0 if it never falls.

        It is moved to the run's last possible update where it would lie behind that.
        """
        if self.config.density_schedule == "constant":
            return 0
        return min(int(self.config.decay_end * self.total_steps), self._last_multiple)

    @property
    def _last_multiple(self) -> int:
        """The last step of the run at which an update can fall; 0 if there is none."""
        return self.total_steps // self.config.update_interval * self.config.update_interval

    @property
    def fallen(self) -> int:
        """The step of the update with which the density reaches its final value; 0 if it is that.

        It does so even where the fall ends between two updates.
        """
        interval = self.config.update_interval
        return -(-self.decay_end // interval) * interval

    @property
    def last_step(self) -> int:
        """The last step at which an update can happen."""
        return max(self.replace_end, self.fallen)

    @property
    def last_update(self) -> int:
        """The step of the last update; 0 if there is none."""
        interval = self.config.update_interval
        return self.last_step // interval * interval if self.config.changes_topology else 0

    def steps_for_an_update_after(self, step: int) -> int:
        """How many steps a run with this configuration must have to be updated after ``step``."""
        interval = self.config.update_interval
        # With so many, an update comes at the first multiple of the interval, if not before.
        share = max(self.config.t_end, self.config.decay_end)
        enough = math.ceil((step + interval) / share) + 1
        totals = range(self.total_steps, max(enough, self.total_steps) + 1)
        longer = bisect_right(totals, step, key=lambda n: replace(self, total_steps=n).last_update)
        return totals[longer]

    def is_update(self, step: int) -> bool:
        """Whether the topology changes right after optimizer step ``step`` (counted from 1)."""
        due = step > 0 and step % self.config.update_interval == 0
        return self.config.changes_topology and due and step <= self.last_step

    def zeta(self, step: int) -> float:
        """The fraction of links to replace at this step."""
        if step > self.replace_end:
            return 0.0
        if self.config.zeta_schedule == "constant":
            return self.config.zeta
        return schedules.cosine(step, self.replace_end, self.config.zeta)

    def delta(self, step: int) -> float:
        """The δ of soft removal at this step."""
        return schedules.linear(
            step, self.replace_end, self.config.delta_start, self.config.delta_end
        )

    def sparsity(self, step: int, initial: float, final: float) -> float:
        """The sparsity of a layer at this step, on its way from ``initial`` to ``final``."""
        shape = self.config.density_schedule
        if shape == "constant" or initial >= final:
            return final
        progress = step / max(self.decay_end, 1)
        if shape == "sigmoid":
            return schedules.sigmoid_sparsity(progress, initial, final, self.config.decay_steepness)
        if shape == "cubic":
            return schedules.cubic_sparsity(progress, initial, final)
        if shape == "linear":
            return schedules.linear_sparsity(progress, initial, final)
        return schedules.two_drops_sparsity(progress, initial, final)

    def links(self, step: int, size: int, initial: float, final: float) -> int:
        """The number of links of a layer of ``size`` weights at this step; see :meth:`sparsity`."""
        return link_count(size, self.sparsity(step, initial, final))

    def lr_factor(self, steps_since_update: int | None) -> float:
        """What the learning rate is multiplied with, given the steps since links were regrown.

        ``min(1, n / rewarm_steps)`` with n = 1 for the first step after the update. The published
        form, ``min(1, (t mod interval) / rewarm_steps)``, also skips the step of the update
        itself, and goes on after the last update; neither gains anything.
        """
        warm = self.config.rewarm_steps
        if steps_since_update is None or warm == 0:
            return 1.0
        return min(1.0, steps_since_update / warm)


class EndedPlan(Plan):
    """The plan of a run whose last step was made: links only go, until the density is final."""

    def zeta(self, step: int) -> float:
        """No link is replaced any more."""
        return 0.0

    def sparsity(self, step: int, initial: float, final: float) -> float:
        """The sparsity of a layer at the end of the density's fall."""
        return final
