"""What a comparison's records come to: means over seeds, paired tests, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean, stdev
from typing import Any

import numpy as np

from chts_hf.compare.record import derived
from chts_hf.compare.significance import Paired, compare, decode_statistics, pool
from chts_hf.compare.spec import Comparison, Run, differing

#: Methods whose training FLOPs differ by no more than this share are at equal FLOPs.
EQUAL_FLOPS = 0.1
#: A paired test: statistics of a system and of another → its result.
PairedTest = Callable[[np.ndarray, np.ndarray], Paired]
#: A tested model may miss the sparsity asked for by rounding, not by more.
_SPARSITY_MISSED = 0.005


@dataclass(frozen=True)
class Tested:
    """A row's paired test against another.

    Attributes:
        against: the other's label.
        seeds: the seeds that both have, added up for the test.
        result: the test's.
    """

    against: str
    seeds: tuple[int, ...]
    result: Paired


@dataclass(frozen=True)
class Row:
    """A method at a sparsity.

    Attributes:
        label: the method.
        sparsity: asked for; 0 for dense.
        records: of its finished runs, by seed.
        tests: "reference", "steps", "flops" → its paired test; see :func:`summarise`.
    """

    label: str
    sparsity: float
    records: Mapping[int, Mapping[str, Any]]
    tests: Mapping[str, Tested] = field(default_factory=dict)

    def values(self, name: str) -> list[float]:
        """A number of each record that has it."""
        found = (record.get(name) for record in self.records.values())
        return [value for value in found if value is not None]

    def mean(self, name: str) -> float:
        """Mean over seeds; nan if there is none."""
        return mean_and_error(self.values(name))[0]

    @property
    def ended_too_dense(self) -> bool:
        """Whether a tested model has more links than were asked for.

        So it is where the best checkpoint is from before the density had fallen.
        """
        return any(self.sparsity - value > _SPARSITY_MISSED for value in self.values("sparsity"))


@dataclass(frozen=True)
class Summary:
    """A comparison as far as it has come.

    Attributes:
        comparison: what it is made of.
        rows: methods with at least one finished run, dense first, then by sparsity and validation
            loss.
        missing: the runs that are not there.
        unlike: what shows that runs are no fair comparison; empty as it should be.
        unknown: what must be the same and some records cannot tell; likewise.
    """

    comparison: Comparison
    rows: Sequence[Row]
    missing: Sequence[Run]
    unlike: Sequence[str]
    unknown: Sequence[str]


def summarise(
    comparison: Comparison, records: Mapping[Run, Mapping[str, Any]], test: PairedTest = compare
) -> Summary:
    """Arrange the records of a comparison's finished runs and test their differences.

    Each row is tested against the reference (``tests["reference"]``), against the best baseline of
    its sparsity after equal steps (``"steps"``), and against the best one of those with equal
    training FLOPs, within 10 % (``"flops"``). The best is the one with the lowest validation loss,
    so the test set has no part in the choice. A test adds the sentence statistics of the seeds
    that both have, so it needs one in common.

    Args:
        comparison: what was to be run.
        records: run → its record, of those that are finished.
        test: makes a test; it takes some seconds.

    Raises:
        ValueError: two records' references differ.
    """
    records = {run: {**record, **derived(record)} for run, record in records.items()}
    rows = _rows(comparison, records)
    rows = [replace(row, tests=_tests(comparison, rows, row, test)) for row in rows]
    return Summary(
        comparison=comparison,
        rows=rows,
        missing=[run for run in comparison.runs() if run not in records],
        unlike=unlike(records),
        unknown=unknown(records),
    )


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and standard error of the mean ``s / sqrt(n)``; no error of a single value.

    Example:
        >>> mean_and_error([20.0, 21.0, 25.0])  # s² = (4 + 1 + 9) / 2
        (22.0, 1.5275252316519465)
    """
    if not values:
        return math.nan, None
    error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return mean(values), error


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


def best_baseline(comparison: Comparison, rows: Sequence[Row], like: Row, equal: str) -> Row | None:
    """Find the baseline of a row's sparsity with the lowest mean validation loss.

    Args:
        comparison: says which methods are baselines.
        rows: to choose from; while runs are missing, only those with the most seeds count.
        like: the row it is for, which is not chosen itself.
        equal: "steps": all of them; "flops": those with its training FLOPs within 10 %.

    Returns:
        The baseline; None if there is none.
    """
    flops = like.mean("relative_training_flops")
    found = [
        row
        for row in rows
        if comparison.is_baseline(row.label)
        and row.sparsity == like.sparsity
        and row.label != like.label
        and (
            equal == "steps"
            or abs(row.mean("relative_training_flops") - flops) <= EQUAL_FLOPS * flops
        )
    ]
    most = max((len(row.records) for row in found), default=0)
    complete = [row for row in found if len(row.records) == most]
    return min(complete, key=lambda row: row.mean("eval_loss"), default=None)


def _rows(comparison: Comparison, records: Mapping[Run, Mapping[str, Any]]) -> list[Row]:
    groups: dict[tuple[str, float], list[Run]] = {}
    for run in comparison.runs():
        groups.setdefault((run.label, run.sparsity), []).append(run)
    rows = [
        Row(
            label=label,
            sparsity=sparsity,
            records={run.seed: records[run] for run in runs if run in records},
        )
        for (label, sparsity), runs in groups.items()
    ]
    there = [row for row in rows if row.records]
    return sorted(there, key=lambda row: (row.sparsity, row.mean("eval_loss")))


def _tests(
    comparison: Comparison, rows: Sequence[Row], row: Row, test: PairedTest
) -> dict[str, Tested]:
    reference = next(
        (
            other
            for other in rows
            if other.label == comparison.reference and other.sparsity in (0.0, row.sparsity)
        ),
        None,
    )
    others = {"reference": None if row.label == comparison.reference else reference}
    if row.sparsity > 0:
        for equal in ("steps", "flops"):
            others[equal] = best_baseline(comparison, rows, row, equal)
    found = {}
    for name, other in others.items():
        if other is None:
            continue
        seeds = tuple(seed for seed in row.records if seed in other.records)
        if seeds:
            try:
                result = test(_statistics(row, seeds), _statistics(other, seeds))
            except ValueError as error:
                raise ValueError(
                    f"{row.label} and {other.label} at {row.sparsity:g}, seeds {seeds}: {error}. "
                    "Records of one comparison must be of one test set"
                ) from error
            found[name] = Tested(other.label, seeds, result)
    return found


def _statistics(row: Row, seeds: Sequence[int]) -> np.ndarray:
    return pool([decode_statistics(row.records[seed]["bleu_statistics"]) for seed in seeds])
