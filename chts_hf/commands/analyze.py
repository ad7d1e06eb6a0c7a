"""``chts-hf analyze``."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from chts_hf.analysis.measures import MEASURES, Comparison, Row, analyse
from chts_hf.analysis.network import Chain
from chts_hf.checkpoint.mask_file import MASK_FILE
from chts_hf.commands.base import CommandError, Commands, add_command, positive


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "analyze",
        summary="what the network of a checkpoint has become, beside random ones",
        description="Measure the masks of a checkpoint, or the last ones of a run: chains of "
        "layers (up → down, v → o, the hidden layers of an MLP) as networks, or each layer by "
        "itself. Every number stands beside the same measure of random networks with as many links "
        "(er) and with the same degrees (degrees), with p, the share of networks at least as far "
        "out.",
        examples=[
            "chts-hf analyze output/demo",
            "chts-hf analyze output/run/checkpoint-500 --layers --only 'fc1' --json",
            "chts-hf analyze output/run/checkpoint-500 --measures clustering path_length",
        ],
    )
    parser.add_argument("folder", metavar="FOLDER", help="a run's output folder or a checkpoint")
    parser.add_argument("--layers", action="store_true", help="each layer, instead of chains")
    parser.add_argument("--only", metavar="PATTERN", help="those whose name the pattern finds")
    parser.add_argument(
        "--measures", nargs="+", choices=list(MEASURES), default=list(MEASURES), metavar="NAME",
        help=f"of: {', '.join(MEASURES)} (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--nulls", type=positive, default=19, metavar="N", help="random networks each (default: 19)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of random choices (default: 0)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    networks = _networks(arguments.folder, arguments.layers, arguments.only)
    found = {
        chain.name: analyse(chain, arguments.measures, arguments.nulls, arguments.seed)
        for chain in networks
    }
    if arguments.json:
        print(json.dumps(as_json(found), indent=2))
    else:
        print("\n\n".join(as_text(name, rows) for name, rows in found.items()))
    return 0


def _networks(folder: str, layers: bool, only: str | None) -> list[Chain]:
    from chts_hf.analysis.network import single_layer
    from chts_hf.analysis.report import read_run

    run = read_run(folder)
    if not run.frames:
        raise CommandError(
            f"{folder!r} holds no masks: no topology/, no checkpoint-N with a {MASK_FILE}, none "
            "itself. A run keeps them with --save_strategy steps, or --record_topology"
        )
    last = run.frames[-1]
    singles = [single_layer(name, mask) for name, mask in run.masks(last).items()]
    networks = singles if layers else run.networks(last)
    chosen = [n for n in networks if only is None or re.search(only, n.name)]
    if not chosen:
        raise ValueError(
            f"--only {only!r} finds none of {', '.join(network.name for network in networks)}"
        )
    return chosen


def as_json(found: dict[str, list[Row]]) -> dict[str, Any]:
    """Network → measure → value, error and null models."""
    return {
        name: {
            row.measure: {
                "value": row.value,
                "error": row.error,
                "nulls": {
                    model: {k: v for k, v in asdict(comparison).items() if k != "values"}
                    for model, comparison in row.nulls.items()
                },
            }
            for row in rows
        }
        for name, rows in found.items()
    }


def as_text(name: str, rows: Sequence[Row]) -> str:
    """A table of one network."""
    cells = [["measure", "value", "same density", "p", "same degrees", "p"]]
    for row in rows:
        error = f" ± {row.error:.2g}" if row.error else ""
        shown = [row.measure, f"{row.value:.4g}{error}"]
        for model in ("er", "degrees"):
            shown += _shown(row.nulls.get(model))
        cells.append(shown)
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
    return "\n".join([name, *(line.rstrip() for line in lines)])


def _shown(comparison: Comparison | None) -> list[str]:
    if comparison is None:
        return ["–", "–"]
    if comparison.p is None:
        return [f"{comparison.mean:.4g}", "same"]
    return [f"{comparison.mean:.4g} ± {comparison.deviation:.2g}", f"{comparison.p:.2g}"]
