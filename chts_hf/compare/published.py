"""Published numbers to stand beside measured ones: cited, never measured here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SOURCE = "Zhang et al., NeurIPS 2025 (arXiv 2501.19107)"
_RECIPE = {"d_model": 512, "max_steps": 5000}


@dataclass(frozen=True)
class Published:
    """A table of test BLEU.

    Attributes:
        source: where it was published.
        bleu: (label, sparsity) → BLEU and its standard error over 3 seeds, where it is given;
            dense is at sparsity 0.
        recipe: what its runs were told, of what makes a model larger or its training longer.
    """

    source: str
    bleu: dict[tuple[str, float], tuple[float, float | None]]
    recipe: Mapping[str, int]

    def beyond(self, recipe: Mapping[str, Any]) -> str:
        """Say in what its runs go beyond those of a recipe; nothing if they do not.

        Example:
            >>> PUBLISHED["multi30k"].beyond({"d_model": 128, "max_steps": 1500})
            'a larger model and longer training'
        """
        larger = {"d_model": "a larger model", "max_steps": "longer training"}
        found = [text for name, text in larger.items() if self.recipe[name] > recipe.get(name, 0)]
        return " and ".join(found)


def _by_sparsity(
    rows: dict[str, tuple[float, float]],
) -> dict[tuple[str, float], tuple[float, float | None]]:
    return {
        (label, sparsity): (bleu, None)
        for label, pair in rows.items()
        for sparsity, bleu in zip((0.95, 0.9), pair, strict=True)
    }


#: What ``published:`` in a comparison's file may name.
PUBLISHED: dict[str, Published] = {
    "multi30k": Published(
        recipe=_RECIPE,
        source=f"{_SOURCE}, Table 2: Multi30k en-de, mean of 3 seeds",
        bleu=_by_sparsity(
            {
                "set": (28.99, 29.73),
                "rigl": (29.94, 30.26),
                "cht": (27.79, 28.38),
                "mest": (28.89, 30.04),
                "gmp": (30.51, 30.49),
                "granet": (31.31, 31.62),
            }
        )
        | {
            ("dense", 0.0): (31.38, 0.38),
            ("chts", 0.95): (28.94, 0.57),
            ("chts", 0.9): (29.81, 0.37),
            ("chtss", 0.95): (32.03, 0.29),
            ("chtss", 0.9): (32.86, 0.16),
        },
    ),
    "ablation": Published(
        recipe=_RECIPE,
        source=f"{_SOURCE}, ablation: Multi30k en-de at 90 %",
        bleu={
            ("chtss", 0.9): (32.79, None),
            ("no_soft_sampling", 0.9): (28.92, None),
            ("chts", 0.9): (30.35, None),  # without decay
            ("path_based", 0.9): (32.68, None),
        },
    ),
}
