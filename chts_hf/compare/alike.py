"""Whether the runs of a comparison had the same data, batches, first weights and score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chts_hf.compare.data import know_their_data, without_location
from chts_hf.compare.spec import Run, differing


def unlike(records: Mapping[Run, Mapping[str, Any]]) -> list[str]:
    """Say where runs differ in what must be the same: data, batches, weights, score."""
    found = []
    by_digest = know_their_data(records.values())
    splits = {split: None for record in records.values() for split in record.get("corpus") or ()}
    for split in splits:
        digests = {run: (record.get("corpus") or {}).get(split) for run, record in records.items()}
        if sides := _sides(digests):
            found.append(f"runs had different {split} sentences: {sides}")
    names = {
        **({} if by_digest else {"dataset": "are of different data"}),
        "languages": "translate different languages",
        "batches": "trained on different batches",
        "initial_weights": "began from different weights",
        "bleu_signature": "were scored differently",
    }
    for name, what in names.items():
        for seed in sorted({run.seed for run in records}):
            of_seed = {run: one.get(name) for run, one in records.items() if run.seed == seed}
            if sides := _sides(of_seed):
                found.append(f"runs of seed {seed} {what}: {sides}")
    recipes = {run: _told(record, by_digest) for run, record in records.items()}
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


def _sides(values: Mapping[Run, str | None]) -> str:
    """Which runs have which value, where there are several; nothing where all have the same."""
    groups: dict[str, list[str]] = {}
    for run, value in values.items():
        if value is not None:
            groups.setdefault(value, []).append(run.name)
    return " and ".join(", ".join(runs) for runs in groups.values()) if len(groups) > 1 else ""


def _beyond(run: Run, record: Mapping[str, Any]) -> set[str]:
    """The topology settings that a record has otherwise than the comparison asks of the run."""
    told = record.get("recipe", {}).get("chts", run.chts)
    names = told.keys() | run.chts.keys()
    return {f"{n}={told.get(n)!r}" for n in names if told.get(n) != run.chts.get(n)}


def _told(record: Mapping[str, Any], by_digest: bool) -> dict[str, Any]:
    """What a run was told but for its method and, if digests tell, for where its data was."""
    told = {name: value for name, value in record.get("recipe", {}).items() if name != "chts"}
    return without_location(told) if by_digest else told
