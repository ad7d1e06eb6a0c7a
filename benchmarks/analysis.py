#!/usr/bin/env python
"""What each measure costs on a 2048 × 512 layer, in seconds of processor time.

::

    python benchmarks/analysis.py --json docs/results/benchmark_analysis.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chts_hf.analysis import MEASURES, Network, erdos_renyi, rewire, single_layer
from chts_hf.machine import machine_kind
from chts_hf.topology.ring import brf

SHAPE = (2048, 512)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the measures on a 2048 x 512 layer.")
    parser.add_argument("--density", type=float, nargs="+", default=[0.01, 0.1])
    parser.add_argument("--json", type=Path, help="write the results here too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    analyse_small()  # imports and caches are not what is timed
    seconds = {str(density): time_layer(density) for density in arguments.density}
    results = {"shape": SHAPE, "machine": machine_kind(), "threads": 1, "cpu_seconds": seconds}
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(results))


def table(results: dict[str, Any]) -> str:
    """The results as a Markdown table."""
    columns = results["cpu_seconds"]
    lines = [
        "| CPU seconds | " + " | ".join(f"density {name}" for name in columns) + " |",
        "| --- |" + " --- |" * len(columns),
    ]
    for step in next(iter(columns.values())):
        cells = " | ".join(f"{times[step]:.2f}" for times in columns.values())
        lines.append(f"| {step} | {cells} |")
    return "\n".join(lines)


def analyse_small() -> None:
    """Measure a layer too small to matter, once."""
    network = Network(single_layer("small", np.random.default_rng(0).random((24, 24)) < 0.3), 0)
    for measure in MEASURES.values():
        measure.function(network)


def time_layer(density: float) -> dict[str, float]:
    """Step → seconds, for a BRF mask; what measures share is a step of its own before them."""
    links = round(density * SHAPE[0] * SHAPE[1])
    mask = brf(SHAPE, links, torch.Generator().manual_seed(0), r=0.25).numpy()
    rng = np.random.default_rng(0)
    network = Network(single_layer("layer", mask), 0)
    steps: dict[str, Callable[[], object]] = {
        "null model: er": lambda: erdos_renyi(mask, rng),
        "null model: degrees": lambda: rewire(mask, rng),
        "communities": lambda: network.communities,
        "embedding": lambda: network.embedding,
    }
    for name, measure in MEASURES.items():
        if name not in ("links", "density", "degree_correlation", "hub_paths"):
            steps[name] = lambda measure=measure: measure.function(network)  # type: ignore[misc]
    times = {}
    for name, step in steps.items():
        started = time.process_time()
        step()
        times[name] = round(time.process_time() - started, 3)
    return times


if __name__ == "__main__":
    main()
