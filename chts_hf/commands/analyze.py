"""``chts-hf analyze``."""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from chts_hf.analysis.degrees import PowerLaw, fit_power_law, level_degrees
from chts_hf.analysis.links import LinkHistory
from chts_hf.analysis.measures import MEASURES, Row, analyse
from chts_hf.analysis.network import Chain
from chts_hf.checkpoint.mask_file import MASK_FILE
from chts_hf.commands.base import CommandError, Commands, add_command, from_zero, pattern, positive


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
        "out. Two small tables follow: which levels' degrees a power law describes (with the "
        "measure exponent), and what became of the links of each layer.",
        examples=[
            "chts-hf analyze output/demo",
            "chts-hf analyze output/run/checkpoint-500 --layers --only 'fc1' --json",
            "chts-hf analyze output/run/checkpoint-500 --measures clustering path_length",
        ],
    )
    parser.add_argument("folder", metavar="FOLDER", help="a run's output folder or a checkpoint")
    parser.add_argument("--layers", action="store_true", help="each layer, instead of chains")
    parser.add_argument(
        "--only", type=pattern, metavar="PATTERN", help="those whose name the pattern finds"
    )
    parser.add_argument(
        "--measures", nargs="+", choices=list(MEASURES), default=list(MEASURES), metavar="NAME",
        help=f"of: {', '.join(MEASURES)} (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--nulls", type=positive, default=19, metavar="N", help="random networks each (default: 19)"
    )
    parser.add_argument("--seed", type=from_zero, default=0, help="of random choices (default: 0)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_run)


@dataclass(frozen=True)
class Analysis:
    """What the command finds out about one network.

    Attributes:
        rows: the measures.
        laws: level → the power law of its degrees, None where there is nothing to fit.
        links: layer → what its links have been through.
    """

    rows: list[Row]
    laws: Mapping[str, PowerLaw | None]
    links: Mapping[str, LinkHistory]


def _run(arguments: argparse.Namespace) -> int:
    networks, links = _networks(arguments.folder, arguments.layers, arguments.only)
    found = {
        chain.name: Analysis(
            analyse(chain, arguments.measures, arguments.nulls, arguments.seed),
            power_laws(chain, arguments.seed) if "exponent" in arguments.measures else {},
            {layer: links[layer] for layer in chain.layers if layer in links},
        )
        for chain in networks
    }
    if arguments.json:
        print(json.dumps({name: as_json(one) for name, one in found.items()}, indent=2))
    else:
        print("\n\n".join(as_text(name, one) for name, one in found.items()))
    return 0


def _networks(
    folder: str, layers: bool, only: re.Pattern[str] | None
) -> tuple[list[Chain], dict[str, LinkHistory]]:
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
    chosen = [n for n in networks if only is None or only.search(n.name)]
    if only is not None and not chosen:
        names = ", ".join(network.name for network in networks)
        raise ValueError(f"--only {only.pattern!r} finds none of {names}")
    return chosen, run.links()


def power_laws(chain: Chain, seed: int) -> dict[str, PowerLaw | None]:
    """Level → the power law of its degrees."""
    rng = np.random.default_rng([seed, 9])
    return {level: fit_power_law(k, rng) for level, k in level_degrees(chain).items()}


def as_json(found: Analysis) -> dict[str, Any]:
    """Measure → value, error and null models; beside them "power_laws" and "link_history".

    A null model's "p" counts both directions for every measure. Where the table shows another, it
    stands beside it, as "p_one_sided".
    """
    measures = {
        row.measure: {
            "value": row.value,
            "error": row.error,
            "nulls": {
                model: {k: v for k, v in asdict(comparison).items() if k != "values"}
                | ({"p_one_sided": _p(row, model)} if row.one_sided else {})
                for model, comparison in row.nulls.items()
            },
        }
        for row in found.rows
    }
    laws = {level: law and _law_as_json(law) for level, law in found.laws.items()}
    links = {
        layer: asdict(one)
        | {
            "itop_rate": one.itop_rate,
            "overlap": one.overlap,
            "overlap_at_random": one.overlap_at_random,
        }
        for layer, one in found.links.items()
    }
    return {**measures, "power_laws": laws, "link_history": links}


def _law_as_json(law: PowerLaw) -> dict[str, Any]:
    values = asdict(law) | {"verdict": law.verdict}
    # JSON has no NaN.
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}


def as_text(name: str, found: Analysis) -> str:
    """The tables of one network."""
    tables = [_measures(found.rows)]
    if found.laws:
        tables.append(_laws(found.laws))
    if found.links:
        tables.append(_links(found.links))
    return "\n\n".join([f"{name}\n{tables[0]}", *tables[1:]])


def _measures(rows: Sequence[Row]) -> str:
    cells = [["measure", "value", "same density", "p", "same degrees", "p"]]
    for row in rows:
        error = f" ± {row.error:.2g}" if row.error else ""
        shown = [row.measure, f"{_number(row.value)}{error}"]
        for model in ("er", "degrees"):
            shown += _shown(row, model)
        cells.append(shown)
    return _table(cells)


def _laws(laws: Mapping[str, PowerLaw | None]) -> str:
    cells = [["degrees of", "exponent", "from k", "neurons", "fit's p", ""]]
    for level, law in laws.items():
        if law is None:
            cells.append([level, "–", "–", "–", "–", "nothing to fit"])
            continue
        exponent = f"{law.exponent:.3g} ± {law.error:.2g}"
        cells.append([level, exponent, str(law.k_min), str(law.tail), f"{law.p:.2g}", law.verdict])
    return _table(cells)


def _links(links: Mapping[str, LinkHistory]) -> str:
    titles = ["links of", "weights", "links", "ever (ITOP)", "at step", "removed", "came back"]
    cells = [[*titles, "at random"]]
    for layer, one in links.items():
        step, removed = ("–" if n is None else f"{n:,}" for n in (one.step, one.removed))
        shares = (one.itop_rate, one.overlap, one.overlap_at_random)
        itop, back, random = ("–" if share is None else f"{share:.2%}" for share in shares)
        counts = [f"{one.weights:,}", f"{one.links:,}", itop, step, removed]
        cells.append([layer, *counts, back, random])
    return _table(cells)


def _table(cells: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)


def _shown(row: Row, model: str) -> list[str]:
    comparison = row.nulls.get(model)
    if comparison is None:
        return ["–", "–"]
    p = _p(row, model)
    if p is None:
        return [_number(comparison.mean), "same"]
    side = ", one-sided" if row.one_sided else ""
    return [f"{_number(comparison.mean)} ± {comparison.deviation:.2g}", f"{p:.2g}{side}"]


def _p(row: Row, model: str) -> float | None:
    """The p to show; None where all networks are alike."""
    return None if row.nulls[model].p is None else row.p(model)


def _number(value: float) -> str:
    """Whole numbers, such as counts of links, with all their digits."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"
