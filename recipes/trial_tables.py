"""Tables of trials: runs that differ from a setting's in few things, in a folder below its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from chts_hf.compare.formatting import markdown_table, mean_text

Run = Mapping[str, Any]


def _initial_topology(run: Run) -> str:
    """The kind of the first links, and behind it other kinds that some layers have."""
    chts = run["chts"]
    others = {fields.get("init", chts["init"]) for fields in chts["overrides"].values()}
    return ", ".join([chts["init"], *sorted(others - {chts["init"]})])


#: What a method's trials may differ in, a column where they do: title → how a run is asked for it.
VARIED: dict[str, Callable[[Run], Any]] = {
    "sparsity asked": lambda run: run["target_sparsity"],
    "learning rate": lambda run: run.get("learning_rate"),
    "weight decay": lambda run: run.get("weight_decay"),
    "steps": lambda run: run.get("steps"),
    "initial topology": _initial_topology,
    "interval": lambda run: run["chts"]["update_interval"],
    "ζ": lambda run: run["chts"]["zeta"],
    "removal choice": lambda run: run["chts"]["removal_choice"],
    "percolation": lambda run: "yes" if run["chts"]["percolation"] else "no",
    "regrowth": lambda run: run["chts"]["regrowth"],
    "regrowth choice": lambda run: run["chts"]["regrowth_choice"],
}
#: Those of them that a dense run has settings for, too, and does nothing with.
OF_SPARSE = set(VARIED) - {"learning rate", "weight decay", "steps"}
#: What came out: title, key, digits.
MEASURED = (
    ("accuracy %", "predict_accuracy", 2),
    ("validation accuracy %", "eval_accuracy", 1),
    ("validation loss", "eval_loss", 4),
    ("ANP", "anp", 3),
)


def trial_table(folder: Path) -> str:
    """A row for each trial, and for those runs of the folder above that they are variants of.

    Those have a trial's method, sparsity and seed. Runs that differ in their seed alone are a row.

    Raises:
        ValueError: there are no trials in the folder, or two of a seed that no column tells apart.
    """
    trials = _read(folder)
    if not trials:
        raise ValueError(f"there are no trials in {folder} to fill a table with")
    of_trials = {_kind(run) for run in trials}
    runs = trials + [run for run in _read(folder.parent) if _kind(run) in of_trials]
    # What one method's runs differ in: that methods are made of different things, their names say.
    methods = {run["method"] for run in runs}
    varied = [
        title
        for title in VARIED
        if any(
            len({_setting(run, title) for run in runs if run["method"] == method}) > 1
            for method in methods
        )
    ]
    measured = [
        column for column in MEASURED if any(run.get(column[1]) is not None for run in runs)
    ]
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        key = (run["method"], *(_setting(run, title) for title in varied))
        groups.setdefault(key, []).append(run)
    for key, group in groups.items():
        if len({run["seed"] for run in group}) < len(group):
            raise ValueError(f"runs of {key} in {folder} differ in what no column of theirs says")
    several = any(len(group) > 1 for group in groups.values())
    titles = ["method", *varied, *(title for title, _, _ in measured), *["seeds"] * several]
    rows = []
    for key in sorted(groups, key=lambda key: [(value is not None, value) for value in key[1:]]):
        group = groups[key]
        cells = [key[0], *map(_text, key[1:])]
        cells += [mean_text([run.get(k) for run in group], digits) for _, k, digits in measured]
        cells += [", ".join(str(run["seed"]) for run in group)] * several
        rows.append(cells)
    rows.sort(key=lambda row: row[0])
    return markdown_table(titles, rows)


def _read(folder: Path) -> list[Run]:
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return [run for run in runs if "eval_loss" in run]


def _kind(run: Run) -> tuple[Any, ...]:
    return run["method"], run["target_sparsity"], run["seed"]


def _setting(run: Run, title: str) -> Any:
    return None if run["method"] == "dense" and title in OF_SPARSE else VARIED[title](run)


def _text(value: Any) -> str:
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
