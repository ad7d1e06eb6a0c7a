"""Tables of trials: runs that differ from a setting's in one thing, in a folder below its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark_tables import markdown_table

Run = Mapping[str, Any]
#: What trials may differ in, which is a column where they do: title → where a run has it.
VARIED = {
    "seed": ("seed",),
    "learning rate": ("learning_rate",),
    "weight decay": ("weight_decay",),
    "steps": ("steps",),
    "interval": ("chts", "update_interval"),
    "removal": ("chts", "removal_choice"),
}
#: What came out: title, key, digits.
MEASURED = (
    ("accuracy %", "predict_accuracy", 2),
    ("validation accuracy %", "eval_accuracy", 1),
    ("validation loss", "eval_loss", 4),
    ("ANP", "anp", 3),
)


def trial_table(folder: Path) -> str:
    """A row for each trial, and for those runs of the folder above that they are variants of.

    Those have a trial's method, sparsity and seed.

    Raises:
        ValueError: there are no trials in the folder.
    """
    trials = _read(folder)
    if not trials:
        raise ValueError(f"there are no trials in {folder} to fill a table with")
    of_trials = {_kind(run) for run in trials}
    runs = trials + [run for run in _read(folder.parent) if _kind(run) in of_trials]
    varied = {
        title: path
        for title, path in VARIED.items()
        if len({_at(run, path) for run in runs} - {None}) > 1
    }
    measured = [
        column for column in MEASURED if any(run.get(column[1]) is not None for run in runs)
    ]
    titles = ["method", *varied, *(title for title, _, _ in measured)]
    rows = []
    runs.sort(key=lambda run: [run["method"], *(_at(run, path) or 0 for path in varied.values())])
    for run in runs:
        cells = [run["method"], *(_text(_at(run, path)) for path in varied.values())]
        for _, key, digits in measured:
            value = run.get(key)
            cells.append("–" if value is None else f"{value:.{digits}f}")
        rows.append(cells)
    return markdown_table(titles, rows)


def _read(folder: Path) -> list[Run]:
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return [run for run in runs if "eval_loss" in run]


def _kind(run: Run) -> tuple[Any, ...]:
    return run["method"], run["target_sparsity"], run["seed"]


def _at(run: Run, path: tuple[str, ...]) -> Any:
    found: Any = run
    if path[0] == "chts" and run["method"] == "dense":
        return None  # it has such settings, and does nothing with them
    for name in path:
        found = found.get(name) if found is not None else None
    return found


def _text(value: Any) -> str:
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
