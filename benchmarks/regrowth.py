#!/usr/bin/env python
"""How much link scores steer soft regrowth: its draw beside a uniform one.

::

    python benchmarks/regrowth.py --json docs/results/benchmark_regrowth.json \
        --checkpoint "CHTs, 90 %" output/run/checkpoint-1200

CHTs and CHTss draw new links with probability proportional to a score. Two numbers say how far that
is from chance: the share of the draw's probability that a uniform draw has too, Σ min(pᵢ, 1/n) over
the n absent links (1 where all scores are equal), and the probability of the tenth of them that
have the highest scores (0.1 there). Of a checkpoint they are means over its layers.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from chts_hf.analysis.checkpoint import load_topology
from chts_hf.topology import ch_scores, initial_mask

SHAPES = ((128, 128), (512, 128), (512, 512), (2048, 512))
DENSITIES = (0.5, 0.1, 0.05, 0.02, 0.01)
KINDS = ("er", "brf")


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--predictor", default="CH2-L3n", help="the link score")
    parser.add_argument(
        "--checkpoint", nargs=2, action="append", default=[], metavar=("NAME", "FOLDER"),
        help="trained masks; may be there several times",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the first masks")
    parser.add_argument("--json", type=Path, help="write the results here too")
    arguments = parser.parse_args(argv)
    generator = torch.Generator().manual_seed(arguments.seed)
    networks = []
    for kind in KINDS:
        for density in DENSITIES:
            for shape in SHAPES:
                mask = initial_mask(shape, 1 - density, kind, generator)
                found = steered(ch_scores(mask, arguments.predictor), mask)
                networks.append({"kind": kind, "density": density, "shape": shape, **found})
    checkpoints = [
        of_checkpoint(name, folder, arguments.predictor) for name, folder in arguments.checkpoint
    ]
    report = {
        "predictor": arguments.predictor, "seed": arguments.seed,
        "networks": networks, "checkpoints": checkpoints,
    }  # fmt: skip
    text = json.dumps(report, indent=1)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n", encoding="utf-8")
    print(text)
    return report


def steered(scores: Tensor, mask: Tensor) -> dict[str, float]:
    """How far a draw by scores is from a uniform one.

    Args:
        scores: (out, in), at least 0; read at absent links. All 0 there is a uniform draw.
        mask: (out, in), True at links.
    """
    absent = scores[~mask].double()
    uniform = 1 / len(absent)
    chance = absent / absent.sum() if absent.any() else torch.full_like(absent, uniform)
    best = chance.sort(descending=True).values[: round(len(absent) / 10)]
    return {
        "as_uniform": chance.clamp(max=uniform).sum().item(),
        "best_tenth": best.sum().item(),
    }


def of_checkpoint(name: str, folder: str, predictor: str) -> dict[str, Any]:
    """The same of trained layers: means, and the lowest and highest."""
    layers = [torch.from_numpy(mask) for mask in load_topology(folder).masks.values()]
    found = [steered(ch_scores(mask, predictor), mask) for mask in layers]
    report: dict[str, Any] = {"name": name, "layers": len(layers)}
    report["density"] = sum(int(m.sum()) for m in layers) / sum(m.numel() for m in layers)
    for key in found[0]:
        values = [one[key] for one in found]
        report[key] = {"mean": mean(values), "low": min(values), "high": max(values)}
    return report


if __name__ == "__main__":
    main()
