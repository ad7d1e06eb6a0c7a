"""What the links of a layer have been through: how many ever were, how many came back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chts_hf.analysis.network import Mask


@dataclass(frozen=True)
class LinkHistory:
    """The links of one layer over a run. A number that was not recorded is None.

    Attributes:
        weights: places for links.
        links: links now.
        ever: places that ever were a link.
        removed: links that the last recorded update to remove any removed: those near the end of a
            run remove none.
        returned: those of them that it regrew at once.
        returned_at_random: how many uniform regrowth would have brought back.
        step: the training step of that update; None where no link was ever removed.
    """

    weights: int
    links: int
    ever: int | None = None
    removed: int | None = None
    returned: int | None = None
    returned_at_random: float | None = None
    step: int | None = None

    @classmethod
    def of_checkpoint(cls, mask: Mask, ever: Mask) -> LinkHistory:
        """From a mask file, which knows nothing of single updates."""
        return cls(mask.size, int(np.count_nonzero(mask)), int(np.count_nonzero(ever)))

    @classmethod
    def of_record(cls, shape: Sequence[int], counts: Mapping[str, Any]) -> LinkHistory:
        """From a layer's counts in a record of :class:`chts_hf.analysis.TopologyLogger`.

        Args:
            shape: (out, in).
            counts: of the record; "ever" is missing in runs recorded by older versions.
        """
        return cls(
            int(np.prod(shape)),
            counts["links"],
            counts.get("ever"),
            counts["removed"],
            counts["overlap"],
            counts["expected_overlap"],
        )

    @classmethod
    def of_records(
        cls, shape: Sequence[int], name: str, records: Sequence[Mapping[str, Any]]
    ) -> LinkHistory:
        """From all records of a run.

        Args:
            shape: (out, in).
            name: of the layer.
            records: of :class:`chts_hf.analysis.TopologyLogger`, at least one.
        """
        now = cls.of_record(shape, records[-1]["layers"][name])
        for record in reversed(records):
            counts = record["layers"][name]
            if counts["removed"]:
                then = cls.of_record(shape, counts)
                return replace(then, links=now.links, ever=now.ever, step=record["step"])
        return now

    @property
    def itop_rate(self) -> float | None:
        """``ever / weights`` (Liu et al. 2021)."""
        return None if self.ever is None else self.ever / self.weights

    @property
    def overlap(self) -> float | None:
        """``returned / removed``; None where nothing was removed.

        Near 1 the topology stands still: an epitopological local minimum (Zhang et al. 2024).
        """
        return self.returned / self.removed if self.removed and self.returned is not None else None

    @property
    def overlap_at_random(self) -> float | None:
        """The overlap that uniform regrowth would have."""
        random = self.returned_at_random
        return random / self.removed if self.removed and random is not None else None


def returned_at_random(weights: int, links: int, removed: int, regrown: int) -> float:
    """How many of the links that an update removes uniform regrowth would bring back.

    The removed links are all among the absent places, each of which is drawn with the same
    probability, ``regrown / absent``.

    Args:
        weights: the layer's places for links.
        links: after the update.
        removed: links that the update removed, those that a falling density costs among them.
        regrown: links that it then added.
    """
    return removed * regrown / max(_absent(weights, links, regrown), 1)


def _absent(weights: int, links: int, regrown: int) -> int:
    """The places that an update could regrow its links on: what was no link when all had gone."""
    return weights - links + regrown


def itop_at_random(
    records: Sequence[Mapping[str, Any]], weights: Mapping[str, int]
) -> list[float] | None:
    """The ITOP rate that regrowth at random would have reached, the updates' numbers given.

    Of a layer's W places E ever were a link. The r links that an update regrows, to n links in all,
    would fall on the ``W - n + r`` absent places alike, so that ``r (W - E) / (W - n + r)`` of them
    are expected on places that never were one.

    Args:
        records: of every update, from the first masks on.
        weights: layer → its places for links.

    Returns:
        One per record; None where an update, or the first masks, were not recorded.
    """
    if [record["update"] for record in records] != list(range(len(records))) or not records:
        return None
    ever = {name: float(counts["links"]) for name, counts in records[0]["layers"].items()}
    rates = []
    for record in records:
        for name, counts in record["layers"].items():
            regrown = counts["regrown"]
            absent = max(_absent(weights[name], counts["links"], regrown), 1)
            ever[name] += regrown * (weights[name] - ever[name]) / absent
        rates.append(sum(ever.values()) / sum(weights.values()))
    return rates
