"""The tables that docs/ shows of what the benchmarks wrote: file name → Markdown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chts_hf.compare.formatting import NONE, markdown_table

Report = dict[str, Any]
RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"


def benchmark_table(name: str) -> str:
    """The table of ``docs/results/{name}.json``; `name` is a key of ``TABLES``."""
    report = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return TABLES[name](report)


def _training(report: Report) -> str:
    limits, training = report["limits"], report["training"]
    rows = [
        ["a step outside updates / a dense step", _two(training["step_ratio"]["median"])],
        [
            f"all updates / the training time, one in {training['updates_share_interval']} steps",
            _two(training["updates_share"]),
        ],
    ]
    bounds = [limits["step"], limits["updates"]]
    for layer in report["layers"]:
        shape = " × ".join(map(str, layer["shape"]))
        times, memory = layer["time_ratio"], layer["memory_ratio"]
        rows += [
            [f"{shape}: an update / the four products", _two(times["update / products"])],
            [f"{shape}: an update / the formula done plainly", _two(times["update / formula"])],
            [f"{shape}: an update / one done plainly", _two(times["update / plain update"])],
            [f"{shape}: memory of an update / the largest product", _two(memory["update"])],
        ]
        bounds += [*[limits["layer_time"]] * 3, limits["layer_memory"]]
    table = [[*row, f"{bound:g}"] for row, bound in zip(rows, bounds, strict=True)]
    return markdown_table(["CH2-L3n at 90 %", "measured", "at most wanted"], table)


def _inference(report: Report) -> str:
    rows = []
    for model in report["models"]:
        for run in model["generation"]:
            ratio = run["speedup"]
            spread = f"({_two(ratio['quartile_low'])} to {_two(ratio['quartile_high'])})"
            rows.append(
                [
                    f"{model['width']}, {model['feed_forward']}",
                    f"{model['sparsity']:.0%}",
                    str(run["batch"]),
                    f"{_two(ratio['median'])} {spread}",
                    f"{model['goal']:g}",
                    _two(run["speedup_over_swapped"]["median"]),
                    _two(run["speedup_if_layers_took_no_time"]),
                    _two(model["memory"]["sparse_over_dense"]),
                ]
            )
    titles = ["width, FFN", "sparsity", "batch", "dense / sparse", "goal", "swapped / sparse"]
    return markdown_table([*titles, "without them", "memory, of dense"], rows)


def _distributed(report: Report) -> str:
    rows = []
    for run in report["results"]:
        several = run["processes"] > 1
        rows.append(
            [
                str(run["processes"]),
                f"{run['gradient_bytes_ratio']:.3f}" if several else "–",
                _two(run["step_ratio"]) if several else "–",
                _two(run["update_seconds"]),
                _two(run["update_blocks_processor_seconds"]),
                _two(run["update_processor_seconds"]),
                f"{run['update_share_of_work']:.3f}",
                f"{run['mask_bytes_sent_per_update'] / 1e6:.2f}",
                f"{run['update_peak_bytes'] / run['largest_layer_bytes']:.1f}",
                f"{run['dense_step_peak_bytes'] / run['largest_layer_bytes']:.1f}",
            ]
        )
    titles = ["processes", "gradient bytes, links / all", "step, links / all", "update, s"]
    titles += ["processor's, own blocks, s", "processor's, all, s", "busiest rank's share"]
    return markdown_table(
        [*titles, "masks sent, MB", "update's memory, layers", "a step's, layers"], rows
    )


def _scaling(report: Report) -> str:
    ranks = report["assumed"]["ranks"]
    interval = report["assumed"]["update_interval"]
    rows = [
        ["sparsified weights", f"{report['sparsified_weights'] / 1e9:.2f} · 10⁹"],
        ["multiplications of a CH2-L3n update", f"{report['multiplications_per_update']:.2e}"],
        [
            "update on one processor like the measured one",
            f"{report['update_seconds_one_host']:.0f} s",
        ],
        ["update on one GPU", f"{report['update_seconds_one_gpu']:.1f} s"],
        [
            f"update shared out over {ranks} GPUs",
            f"{_two(report['update_seconds_shared_over_gpus'])} s",
        ],
        [
            "masks sent per update",
            f"{report['mask_bytes_per_update'] / 1e9:.2f} GB, "
            f"{_two(report['mask_seconds_per_update'])} s",
        ],
        [
            f"updates' share of the training time, one in {interval} steps",
            f"{report['update_share_of_training']:.2%}",
        ],
        [
            "their share of the traffic, with gradients in 16 bits",
            f"{report['mask_bytes_share_of_traffic']:.2%}",
        ],
        ["gradients per step, dense", f"{report['gradient_bytes_per_step'] / 1e9:.2f} GB"],
        [
            "gradients per step, links only (embeddings stay dense)",
            f"{report['gradient_bytes_per_step_links_only'] / 1e9:.2f} GB",
        ],
    ]
    return markdown_table(["7 B weights", "worked out"], rows)


def _analysis(report: Report) -> str:
    columns = report["cpu_seconds"]
    rows = [
        [measure, *(_two(seconds[measure]) for seconds in columns.values())]
        for measure in next(iter(columns.values()))
    ]
    return markdown_table(["CPU seconds", *(f"density {density}" for density in columns)], rows)


def _calibration(report: Report) -> str:
    kinds = report["kinds"].values()
    named = dict.fromkeys(name for kind in kinds for name in kind["rates"])
    networks = [str(max(one["networks"] for one in kind["rates"].values())) for kind in kinds]
    rows = [["null model", *(kind["null_model"] for kind in kinds)], ["networks", *networks]]
    for name in named:
        found = [kind["rates"].get(name) for kind in kinds]
        rows.append([name, *(NONE if one is None else f"{one['rate']:.0%}" for one in found)])
    return markdown_table([f"p ≤ {report['level']:g} in", *report["kinds"]], rows)


def _regrowth(report: Report) -> str:
    shapes = list(dict.fromkeys(" × ".join(map(str, one["shape"])) for one in report["networks"]))
    rows: dict[str, list[str]] = {}
    for one in report["networks"]:
        name = f"{one['kind'].upper()}, {one['density']:.0%}"
        cell = f"{_two(one['as_uniform'])}, {_two(one['best_tenth'])}"
        rows.setdefault(name, []).append(cell)
    first = markdown_table(
        ["first masks, density", *shapes], [[name, *cells] for name, cells in rows.items()]
    )
    trained = []
    for one in report["checkpoints"]:
        cells = [
            f"{_two(one[key]['mean'])} ({_two(one[key]['low'])} to {_two(one[key]['high'])})"
            for key in ("as_uniform", "best_tenth")
        ]
        trained.append([one["name"], f"{one['density']:.1%}", *cells])
    titles = ["trained masks", "density", "as a uniform draw", "to the best tenth"]
    return f"{first}\n\n{markdown_table(titles, trained)}"


def _two(value: float) -> str:
    return f"{value:.2f}"


TABLES: dict[str, Callable[[Report], str]] = {
    "benchmark_training": _training,
    "benchmark_inference": _inference,
    "benchmark_distributed": _distributed,
    "scaling_7b": _scaling,
    "benchmark_analysis": _analysis,
    "benchmark_calibration": _calibration,
    "benchmark_regrowth": _regrowth,
}
"""By the name of the file under docs/results/, which is also that of the mark in a page."""
