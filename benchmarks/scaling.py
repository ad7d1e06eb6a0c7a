"""Work out a 7 B model on 64 GPUs from unit costs that were measured.

    python benchmarks/scaling.py

Reads the seconds that the update of single layers takes from docs/results/benchmark_training.json
and the seconds of comparing masks from docs/results/benchmark_distributed.json, counts work, bytes
and memory of the model exactly, and deals the blocks out to the ranks by the package's own
function. What was not measured is an option with its default in the output: the GPU's speed, the
network's, and the length of a training step.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chts_hf.distributed.sharing import assign, update_cost

RESULTS = Path(__file__).resolve().parent.parent / "docs/results"
OUTPUT = RESULTS / "scaling_7b.json"

# LLaMA-7B: 32 layers of width 4096, feed-forward 11008, vocabulary 32000.
WIDTH, FEED_FORWARD, LAYERS, VOCABULARY = 4096, 11008, 32, 32_000
SQUARE, UP, DOWN = (WIDTH, WIDTH), (FEED_FORWARD, WIDTH), (WIDTH, FEED_FORWARD)
BLOCKS = [(SQUARE, SQUARE), (SQUARE, SQUARE), (UP, UP, DOWN)] * LAYERS  # q-k, v-o, feed-forward
# Per side one product for the shared neighbours, of which symmetry saves half, and one for the
# scores. One of the rows' side has out·out·in multiplications, each with an addition.
FLOPS_PER_COST = 3


def seconds_per_cost() -> tuple[float, list[float]]:
    """Return the seconds per out·in·(out + in) of the largest measured layer, and all of them."""
    report = json.loads((RESULTS / "benchmark_training.json").read_text(encoding="utf-8"))
    measured = [
        (update_cost(tuple(layer["shape"])), layer["seconds"]["update"]["median"])
        for layer in report["layers"]
    ]
    return max(measured)[1] / max(measured)[0], [seconds / cost for cost, seconds in measured]


def seconds_per_checked_weight() -> float:
    report = json.loads((RESULTS / "benchmark_distributed.json").read_text(encoding="utf-8"))
    alone = next(r for r in report["results"] if r["processes"] == 2)
    return float(alone["check_seconds"] / alone["sparsified_weights"])


def estimate(arguments: argparse.Namespace) -> dict[str, Any]:
    costs = [sum(map(update_cost, shapes)) for shapes in BLOCKS]
    weights = sum(rows * columns for shapes in BLOCKS for rows, columns in shapes)
    dense = 2 * VOCABULARY * WIDTH
    links = round(weights * (1 - arguments.sparsity))
    unit, units = seconds_per_cost()
    host_total = unit * sum(costs)
    gpu_total = FLOPS_PER_COST * sum(costs) / (arguments.gpu_teraflops * 1e12)

    def busiest(ranks: int) -> float:
        owners = assign(costs, ranks)
        load = [0.0] * ranks
        for owner, cost in zip(owners, costs, strict=True):
            load[owner] += cost
        return max(load) / sum(costs)

    share = busiest(arguments.ranks)
    mask_bytes = 2 * weights // 8
    gradient_bytes = arguments.gradient_bytes
    network = arguments.network_gigabytes * 1e9
    between = arguments.update_interval * arguments.step_seconds
    update = gpu_total * share + mask_bytes / network
    return {
        "assumed": {
            name: getattr(arguments, name)
            for name in (
                *("ranks", "sparsity", "update_interval", "step_seconds"),
                *("gpu_teraflops", "network_gigabytes", "gradient_bytes"),
            )
        },
        "measured": {
            "host_seconds_per_cost": unit,
            "host_seconds_per_cost_of_each_layer": units,
            "host_seconds_per_checked_weight": seconds_per_checked_weight(),
        },
        "sparsified_weights": weights,
        "other_weights": dense,
        "multiplications_per_update": FLOPS_PER_COST / 2 * sum(costs),
        "update_seconds_one_host": host_total,
        "update_seconds_shared_over_hosts": host_total * share,
        "update_seconds_one_gpu": gpu_total,
        "update_seconds_shared_over_gpus": gpu_total * share,
        "busiest_rank_share": share,
        "busiest_rank_share_by_ranks": {n: busiest(n) for n in (8, 16, 32, 48, 64, 96, 128)},
        "mask_bytes_per_update": mask_bytes,
        "mask_seconds_per_update": mask_bytes / network,
        "update_share_of_training": update / (update + between),
        "mask_bytes_share_of_traffic": mask_bytes
        / (arguments.update_interval * gradient_bytes * (weights + dense)),
        "gradient_bytes_per_step": gradient_bytes * (weights + dense),
        "gradient_bytes_per_step_links_only": gradient_bytes * (links + dense),
        "memory_bytes": {
            "weights_gradients_adam_fp32": 16 * (weights + dense),
            "masks_and_ever": 2 * weights,
            "history_fp32": 4 * weights,
            "places_of_links_for_the_sparse_exchange": 8 * links,
        },
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Estimate a 7 B model on many GPUs.")
    parser.add_argument("--ranks", type=int, default=64)
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--update_interval", type=int, default=100)
    parser.add_argument("--step_seconds", type=float, default=6.0, help="of one optimizer step")
    parser.add_argument("--gpu_teraflops", type=float, default=20.0, help="sustained in fp32")
    parser.add_argument("--network_gigabytes", type=float, default=10.0, help="per second and rank")
    parser.add_argument("--gradient_bytes", type=int, default=2, help="per value on the wire")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args(argv)
    result = estimate(arguments)
    for name, value in result.items():
        print(f"{name}: {json.dumps(value)}")
    arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written to {arguments.output}")


if __name__ == "__main__":
    main()
