"""Whether the runs of a comparison had the same data, batches, first weights and score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chts_hf.compare.spec import Run, differing


def unlike(records: Mapping[Run, Mapping[str, Any]]) -> list[str]:
    """Say where runs of one seed differ in what must be the same: data, batches, weights, score."""
    found = []
    names = {
        "dataset": "are of different data",
        "languages": "translate different languages",
        "batches": "trained on different batches",
        "initial_weights": "began from different weights",
        "bleu_signature": "were scored differently",
    }
    for name, what in names.items():
        for seed in sorted({run.seed for run in records}):
            groups: dict[str, list[str]] = {}
            for run, record in records.items():
                if run.seed == seed and record.get(name) is not None:
                    groups.setdefault(record[name], []).append(run.name)
            if len(groups) > 1:
                sides = " and ".join(", ".join(runs) for runs in groups.values())
                found.append(f"runs of seed {seed} {what}: {sides}")
    recipes = {run: _told(record) for run, record in records.items()}
    first = next(iter(recipes), None)
    for run, told in recipes.items():
        changed = differing(recipes[first], told) if first is not None else []
        if changed:
            found.append(f"{run.name} was told otherwise than {first and first.name}: {changed[0]}")
    # Settings given to all runs alike, beyond the comparison's own, are no difference.
    beyond = {run: _beyond(run, record) for run, record in records.items()}
    for run, changes in beyond.items():
        only = sorted(changes ^ beyond[first]) if first is not None else []
        if only:
            found.append(
                f"{run.name} was sparsified otherwise than {first and first.name}: {only[0]}"
            )
    return found


def unknown(records: Mapping[Run, Mapping[str, Any]]) -> list[str]:
    """Say which runs cannot tell what must be the same in all.

    A run that went on in another folder does not know its batches from before.
    """
    found = []
    for name, what in (("batches", "batches"), ("initial_weights", "first weights")):
        runs = [run.name for run, record in records.items() if record.get(name) is None]
        if runs:
            found.append(f"{what} unknown of {', '.join(runs)}")
    return found


def _beyond(run: Run, record: Mapping[str, Any]) -> set[str]:
    """The topology settings that a record has otherwise than the comparison asks of the run."""
    told = record.get("recipe", {}).get("chts", run.chts)
    names = told.keys() | run.chts.keys()
    return {f"{n}={told.get(n)!r}" for n in names if told.get(n) != run.chts.get(n)}


def _told(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a run was told but for its method."""
    return {name: value for name, value in record.get("recipe", {}).items() if name != "chts"}
