"""``chts-hf inspect``."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from chts_hf.checkpoint.inspection import FileReport, inspect_file
from chts_hf.commands.base import Commands, add_command, model_folder

_TITLES = ("layer", "kind", "shape", "links", "sparsity", "layout", "dtype", "bytes", "of dense")


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "inspect",
        summary="what a sparse checkpoint is made of",
        description="Print a table of the sparsified layers and of their kinds, the sizes of the "
        "files beside dense ones, and what the model was trained with. Reads headers alone.",
        examples=["chts-hf inspect output/demo", "chts-hf inspect output/demo --json | jq .kinds"],
    )
    parser.add_argument("folder", metavar="FOLDER", help="of a sparse checkpoint")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    report = inspect_file(model_folder(arguments.folder))
    if arguments.json:
        print(json.dumps(as_json(report), indent=2))
    else:
        print(as_text(report))
    return 0


def by_kind(report: FileReport) -> dict[str, dict[str, Any]]:
    """Kind of layer → its links, weights, sparsity and bytes, sparse and dense."""
    kinds: dict[str, dict[str, Any]] = {}
    for layer in report.layers:
        entry = kinds.setdefault(
            layer.kind, {"layers": 0, "links": 0, "weights": 0, "bytes": 0, "dense_bytes": 0}
        )
        entry["layers"] += 1
        entry["links"] += layer.links
        entry["weights"] += math.prod(layer.shape)
        entry["bytes"] += layer.bytes
        entry["dense_bytes"] += layer.dense_bytes
    for entry in kinds.values():
        entry["sparsity"] = 1 - entry["links"] / entry["weights"]
    return kinds


def as_json(report: FileReport) -> dict[str, Any]:
    """The report as JSON values, with what is computed from it."""
    ratios = {"ratio": report.sizes.ratio, "sparsified_ratio": report.sizes.sparsified_ratio}
    return asdict(report) | {
        "sparsity": report.sparsity,
        "sizes": asdict(report.sizes) | ratios,
        "kinds": by_kind(report),
    }


def as_text(report: FileReport) -> str:
    """The report as tables for people."""
    sizes = report.sizes
    layers = [
        (
            layer.name,
            layer.kind,
            " x ".join(map(str, layer.shape)),
            f"{layer.links:,}",
            _percent(layer.sparsity),
            layer.layout,
            layer.dtype,
            f"{layer.bytes:,}",
            _percent(layer.bytes / layer.dense_bytes),
        )
        for layer in report.layers
    ]
    kinds = [
        (
            f"{entry['layers']} layers" if entry["layers"] > 1 else "1 layer",
            kind,
            "",
            f"{entry['links']:,}",
            _percent(entry["sparsity"]),
            "",
            "",
            f"{entry['bytes']:,}",
            _percent(entry["bytes"] / entry["dense_bytes"]),
        )
        for kind, entry in by_kind(report).items()
    ]
    total = (
        "all sparsified",
        "",
        "",
        f"{sizes.links:,}",
        _percent(report.sparsity),
        "",
        "",
        f"{sizes.sparsified_bytes:,}",
        _percent(sizes.sparsified_ratio),
    )
    lines = [
        f"{report.architecture or 'a model'} in {report.folder}, format {report.format_version}, "
        f"trained by {report.method or 'an unknown method'}",
        f"weight files: {', '.join(report.files)}: {sizes.sparse_bytes:,} bytes, dense "
        f"{sizes.dense_bytes:,} ({_percent(sizes.ratio)} of dense)",
        "",
        *_columns([_TITLES], layers, kinds, [total]),
    ]
    if report.config is not None:
        said = {n: value for n, value in report.config.items() if value not in (None, [], {})}
        settings = ", ".join(f"{name} {value}" for name, value in said.items())
        lines += ["", f"settings: {settings}"]
    if report.metadata:
        lines += ["", f"kept with it: {json.dumps(report.metadata)}"]
    return "\n".join(lines)


def _columns(*groups: Sequence[Sequence[str]]) -> list[str]:
    """Rows with their cells below each other, numbers to the right, a rule between groups."""
    rows = [row for group in groups for row in group]
    widths = [max(len(row[place]) for row in rows) for place in range(len(_TITLES))]
    right = {_TITLES.index(title) for title in ("links", "sparsity", "bytes", "of dense")}
    lines: list[str] = []
    for group in groups:
        if lines:
            lines.append("-" * (sum(widths) + 2 * (len(widths) - 1)))
        for row in group:
            cells = [
                cell.rjust(width) if place in right else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  ".join(cells).rstrip())
    return lines


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
