"""Tables of topologies: first and last masks of trained networks, each beside random networks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from chts_hf.compare.formatting import markdown_table

Network = dict[str, Any]
MEASURES = (
    "anp",
    "clustering",
    "path_length",
    "small_world",
    "modularity",
    "degree_correlation",
    "hub_paths",
    "greedy_routability",
    "angular_separation",
)
LEVEL = 0.05
#: What a run is known by beside its title → how it is written.
SAID = {
    "method": "{}",
    "target_sparsity": "sparsity {:g}",
    "steps": "{} steps",
    "predict_accuracy": "accuracy {:.2f} %",
    "predict_bleu": "BLEU {:.2f}",
}


def topology_tables(folder: Path) -> str:
    """A table for each run that ``benchmarks/topology.py`` measured and each kind of network in it.

    Raises:
        ValueError: there is none in the folder.
    """
    parts = []
    for path in sorted(folder.glob("*.json")):
        report = json.loads(path.read_text(encoding="utf-8"))
        said = [
            text.format(report["run"][key]) for key, text in SAID.items() if key in report["run"]
        ]
        for kind, names in _kinds(report["end"]).items():
            what = f"{len(names)} networks {kind}, means" if len(names) > 1 else kind
            parts.append(f"**{report['title']}**: {what}; {', '.join(said)}")
            parts.append(
                _table(*([report[end][name] for name in names] for end in ("start", "end")))
            )
    if not parts:
        raise ValueError(f"no topologies in {folder}; benchmarks/topology.py writes them")
    return "\n\n".join(parts)


def _kinds(networks: dict[str, Network]) -> dict[str, list[str]]:
    """What networks of one kind are called → their names: ``fc1 → fc2`` of several layers."""
    kinds: dict[str, list[str]] = {}
    for name in networks:
        kinds.setdefault(name.rpartition(": ")[2], []).append(name)
    return kinds


def _table(start: Sequence[Network], end: Sequence[Network]) -> str:
    rows = [
        [name, *_cells(start, name), *_cells(end, name)]
        for name in MEASURES
        if any(name in network for network in (*start, *end))
    ]
    for title, of in (("hyperbolic", _hyperbolic), ("power law, all degrees", _power_law)):
        rows.append([title, of(start), "", "", "", of(end), "", "", ""])
    beside = ["same density", "same degrees", "p"]
    return markdown_table(["measure", "start", *beside, "end", *beside], rows)


def _cells(networks: Sequence[Network], name: str) -> list[str]:
    """The mean of a measure, those of its null models, and how many networks lie beside them."""
    found = [network[name] for network in networks if name in network]
    if not found:
        return ["–"] * 4
    cells = [_number([one["value"] for one in found])]
    for model in ("er", "degrees"):
        beside = [one["nulls"][model]["mean"] for one in found if model in one["nulls"]]
        # What follows from the degrees is the same in networks that have them.
        same = all(one["nulls"].get(model, {}).get("p") is None for one in found)
        cells.append("–" if not beside else "same" if same else _number(beside))
    tested = "er" if cells[2] == "same" else "degrees"
    tests = [
        (beside["p"], one["value"] > beside["mean"])
        for one in found
        if (beside := one["nulls"].get(tested)) and beside["p"] is not None
    ]
    return [*cells, _level(tests) + (" (density)" if tests and tested == "er" else "")]


def _number(values: Sequence[float]) -> str:
    return f"{mean(values):.3g}"


def _level(tests: Sequence[tuple[float, bool]]) -> str:
    """The p of one network and, where it is small, to which side; of several, how many to each."""
    above = [up for p, up in tests if p <= LEVEL + 1e-12]
    if len(tests) > 1:
        return f"{sum(above)}↑ {len(above) - sum(above)}↓ of {len(tests)}"
    side = f" {'↑' if above[0] else '↓'}" if above else ""
    return f"{tests[0][0]:.2g}{side}" if tests else "–"


def _hyperbolic(networks: Sequence[Network]) -> str:
    found = [network["hyperbolic"] for network in networks if network["hyperbolic"]]
    if len(found) == 1:
        verdict = "yes" if found[0]["verdict"] else "no"
        return f"{verdict}, p = {found[0]['p_one_sided']:.2g}"
    return f"{sum(one['verdict'] for one in found)} of {len(found)}" if found else "–"


def _power_law(networks: Sequence[Network]) -> str:
    laws = [network["power_laws"]["all"] for network in networks]
    plausible = sum(law is not None and law["verdict"].startswith("a power law") for law in laws)
    if len(laws) > 1:
        return f"plausible in {plausible} of {len(laws)}"
    if laws[0] is None:
        return "nothing to fit"
    return f"{laws[0]['verdict']} (γ = {laws[0]['exponent']:.2f}, fit's p = {laws[0]['p']:.2g})"
