"""What a comparison's records come to: means over seeds, paired tests, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from chts_hf.compare.alike import unknown, unlike
from chts_hf.compare.formatting import mean_and_error
from chts_hf.compare.record import derived
from chts_hf.compare.significance import Paired, compare, decode_statistics, holm, side_by_side
from chts_hf.compare.spec import Comparison, Run

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
        seeds: the seeds that both have, which the test is of.
        result: the test's.
        all_seeds: whether these are all the seeds of both, so that the rows' means are of them too.
        bleu_differences: test BLEU minus the other's, in each of the seeds.
        loss_differences: likewise, validation loss.
        p_holm: the randomisation's p, corrected for the number of rows that are tested likewise.
    """

    against: str
    seeds: tuple[int, ...]
    result: Paired
    all_seeds: bool
    bleu_differences: Sequence[float]
    loss_differences: Sequence[float]
    p_holm: float = math.nan


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

    def only(self, seeds: Container[int]) -> Row:
        """The row of those of its runs whose seeds these are."""
        shared = {seed: record for seed, record in self.records.items() if seed in seeds}
        return replace(self, records=shared)

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
    training FLOPs, within 10 % (``"flops"``); see :func:`best_baseline`. That is chosen by
    validation loss, so the test set has no part in the choice. A test is of the seeds that both
    have, so it needs one in common. Its p is corrected by
    :func:`~chts_hf.compare.significance.holm` for the number of rows that have the same kind of
    test.

    Args:
        comparison: what was to be run.
        records: run → its record, of those that are finished.
        test: makes a test; it takes parts of a second.

    Raises:
        ValueError: two records' references differ.
    """
    records = {run: {**record, **derived(record)} for run, record in records.items()}
    rows = _rows(comparison, records)
    rows = [replace(row, tests=_tests(comparison, rows, row, test)) for row in rows]
    rows = _corrected(rows)
    return Summary(
        comparison=comparison,
        rows=rows,
        missing=[run for run in comparison.runs() if run not in records],
        unlike=unlike(records),
        unknown=unknown(records),
    )


def best_baseline(comparison: Comparison, rows: Sequence[Row], like: Row, equal: str) -> Row | None:
    """Find the baseline of a row's sparsity with the lowest mean validation loss.

    The mean is over the seeds that a baseline shares with the row, which its test is of. While
    runs are missing, only the baselines that share all of the row's seeds are candidates or, where
    none does, those that share the most. One whose tested model has more links than that sparsity
    allows is none.

    Args:
        comparison: says which methods are baselines.
        rows: to choose from.
        like: the row it is for, which is not chosen itself.
        equal: "steps": all of them; "flops": those with its training FLOPs within 10 %.

    Returns:
        The baseline; None if there is none with a seed of the row.
    """
    flops = like.mean("relative_training_flops")
    found = [
        (row, row.only(like.records))
        for row in rows
        if comparison.is_baseline(row.label)
        and row.sparsity == like.sparsity
        and row.label != like.label
        and not row.ended_too_dense
        and (
            equal == "steps"
            or abs(row.mean("relative_training_flops") - flops) <= EQUAL_FLOPS * flops
        )
    ]
    most = max((len(shared.records) for _, shared in found), default=0)
    if most == 0:
        return None
    candidates = [both for both in found if len(both[1].records) == most]
    return min(candidates, key=lambda both: both[1].mean("eval_loss"))[0]


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
            found[name] = Tested(
                against=other.label,
                seeds=seeds,
                result=result,
                all_seeds=set(seeds) == row.records.keys() | other.records.keys(),
                bleu_differences=_differences(row, other, seeds, "predict_bleu"),
                loss_differences=_differences(row, other, seeds, "eval_loss"),
            )
    return found


def _differences(row: Row, other: Row, seeds: Sequence[int], name: str) -> list[float]:
    """A number minus the other row's, of each seed in which both have it."""
    pairs = [(row.records[seed].get(name), other.records[seed].get(name)) for seed in seeds]
    return [mine - theirs for mine, theirs in pairs if mine is not None and theirs is not None]


def _corrected(rows: Sequence[Row]) -> list[Row]:
    """The rows with p that are corrected for how many of them have a test of a kind."""
    tests: list[dict[str, Tested]] = [dict(row.tests) for row in rows]
    for kind in dict.fromkeys(name for one in tests for name in one):
        those = [one for one in tests if kind in one]
        p = holm([one[kind].result.p_randomization for one in those])
        for one, corrected in zip(those, p, strict=True):
            one[kind] = replace(one[kind], p_holm=corrected)
    return [replace(row, tests=one) for row, one in zip(rows, tests, strict=True)]


def _statistics(row: Row, seeds: Sequence[int]) -> np.ndarray:
    return side_by_side([decode_statistics(row.records[seed]["bleu_statistics"]) for seed in seeds])
