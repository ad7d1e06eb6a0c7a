"""What the links of a layer have been through: how many ever were, how many came back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
        removed: links that the last recorded update removed.
        returned: those of them that it regrew at once.
        returned_at_random: how many uniform regrowth would have brought back.
    """

    weights: int
    links: int
    ever: int | None = None
    removed: int | None = None
    returned: int | None = None
    returned_at_random: float | None = None

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
