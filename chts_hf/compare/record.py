"""A finished run's file under docs/results/: what it came to, and what it was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chts_hf.compare.data import LOCATION, know_their_data, without_location
from chts_hf.compare.flops import relative_training_flops
from chts_hf.compare.lengths import length_ratio, loop_percent
from chts_hf.compare.significance import decode_statistics
from chts_hf.compare.spec import Comparison, Run, differing
from chts_hf.config import CHTsConfig
from chts_hf.whole_file import whole_file

#: Series of a curve: its name in the record → the key of the Trainer's log entries.
SERIES = {
    "eval_loss": "eval_loss",
    "eval_bleu": "eval_bleu",
    "loss": "loss",
    "sparsity": "topology/sparsity",
    "itop_rate": "topology/itop_rate",
    "anp": "topology/anp",
}


def make_record(
    comparison: Comparison,
    run: Run,
    results: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    commit: str | None = None,
) -> dict[str, Any]:
    """Put together what is kept of a run.

    Args:
        comparison: the comparison.
        run: which of its runs.
        results: its ``all_results.json``.
        history: the Trainer's ``log_history``.
        commit: the commit of the code, where ``results`` could not tell.

    Raises:
        ValueError: the results are of another run than this, or nobody knows of which commit.
    """
    config = run.config
    for name, wanted in (
        ("seed", run.seed),
        ("target_sparsity", run.sparsity),
        ("chts", config.to_dict()),
        ("steps", comparison.steps),
    ):
        if results.get(name) != wanted:
            raise ValueError(f"{run.name}: {name} is {results.get(name)!r}, not {wanted!r}")
    if not (results.get("commit") or commit):
        raise ValueError(f"{run.name}: there is no git here; name the commit with --commit")
    trained = results["steps"] - results.get("resumed_from_step", 0)
    return {
        **results,
        "commit": results.get("commit") or commit,
        "setting": comparison.setting,
        "config": comparison.source,
        "label": run.label,
        "relative_training_flops": relative_training_flops(config, comparison.steps),
        # Evaluations in training are in it, as they are in train_runtime.
        "milliseconds_per_step": 1000 * results["train_runtime"] / trained if trained else None,
        "recipe": comparison.identity(run),
        "curves": curves(history),
    }


def curves(history: Sequence[Mapping[str, Any]]) -> dict[str, list[list[float]]]:
    """Take the series of the Trainer's log: name → ``[[step, value], …]``, rounded to 5 digits.

    A step evaluated twice, in training and with more beams after it, keeps its first value, which
    is the one that compares with those before it.
    """
    found: dict[str, dict[int, float]] = {name: {} for name in SERIES}
    for entry in history:
        for name, key in SERIES.items():
            if key in entry and "step" in entry:
                found[name].setdefault(entry["step"], float(f"{entry[key]:.5g}"))
    return {name: [[step, value] for step, value in series.items()]
            for name, series in found.items() if series}  # fmt: skip


def derived(record: Mapping[str, Any]) -> dict[str, float]:
    """Compute what tables show and a record need not store, from what it holds.

    Training FLOPs are charged anew, so that older records count as new ones do.

    Args:
        record: a run's record or results.

    Returns:
        ``length_ratio`` and ``loop_percent`` where it has sentence statistics;
        ``relative_training_flops`` where it has them already.
    """
    found: dict[str, float] = {}
    if record.get("bleu_statistics") is not None:
        statistics = decode_statistics(record["bleu_statistics"])
        found["length_ratio"] = length_ratio(statistics)
        found["loop_percent"] = loop_percent(statistics)
    if "relative_training_flops" in record:
        config = CHTsConfig.from_saved(record["chts"])
        found["relative_training_flops"] = relative_training_flops(config, record["steps"])
    return found


def record_path(folder: Path, run: Run) -> Path:
    """The file of a run's record."""
    return folder / f"{run.name}.json"


def find_record(
    folder: Path, comparison: Comparison, run: Run
) -> tuple[Path, dict[str, Any]] | None:
    """Find a finished run's record, in the comparison's folder or one beside it that it shares.

    Args:
        folder: the comparison's records.
        comparison: says which other settings' runs are its own too, if they were told the same.
        run: one of its runs.

    Returns:
        The file and what it holds; None if the run is not finished anywhere. A record of its own
        is there also where its run was told otherwise: see :func:`read_record`. One that is shared
        was told the same, and had its data in the same place or is known to have had the same
        sentences as a record of its own.
    """
    if (own := _read(folder, run)) is not None:
        return record_path(folder, run), own
    for setting in comparison.shares:
        shared = _read(folder.parent / setting, run)
        if shared is None or changes_since(shared, comparison, run):
            continue
        if not moved_since(shared, comparison, run) or _has_our_data(shared, folder, comparison):
            return record_path(folder.parent / setting, run), shared
    return None


def _read(folder: Path, run: Run) -> dict[str, Any] | None:
    path = record_path(folder, run)
    if not path.is_file():
        return None
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def _has_our_data(record: Mapping[str, Any], folder: Path, comparison: Comparison) -> bool:
    """Whether a record is of the same sentences as one in the comparison's own folder."""
    own = (_read(folder, run) for run in comparison.runs())
    return any(one.get("corpus") == record["corpus"] for one in own if one is not None)


def changes_since(record: Mapping[str, Any], comparison: Comparison, run: Run) -> list[str]:
    """Say in what a record's run was told otherwise than the comparison would tell it now.

    Where its data was is part of that only in a record that does not know its sentences' digests.
    """
    before, now = record.get("recipe", {}), _identity(comparison, run)
    if know_their_data([record]):
        before, now = without_location(before), without_location(now)
    return differing(before, now)


def moved_since(record: Mapping[str, Any], comparison: Comparison, run: Run) -> list[str]:
    """Say in what a record's data was elsewhere than the comparison would look for it now."""
    both = (record.get("recipe", {}), _identity(comparison, run))
    before, now = ({name: one[name] for name in LOCATION if name in one} for one in both)
    return differing(before, now)


def _identity(comparison: Comparison, run: Run) -> dict[str, Any]:
    """What the run would be told now, through JSON as a record's went: tuples are lists then."""
    found: dict[str, Any] = json.loads(json.dumps(comparison.identity(run)))
    return found


def read_record(folder: Path, comparison: Comparison, run: Run) -> dict[str, Any] | None:
    """Read a finished run's record; None if the run is not finished.

    Raises:
        ValueError: the record is of other arguments than the comparison now has, so that a table
            of both would compare unlike things.
    """
    found = find_record(folder, comparison, run)
    if found is None:
        return None
    path, record = found
    changed = changes_since(record, comparison, run)
    if changed:
        raise ValueError(
            f"{path} was made with another recipe ({'; '.join(changed)}): give the options it was "
            "made with, choose another --results_dir, or delete it to run it anew"
        )
    return record


def write_record(folder: Path, run: Run, record: Mapping[str, Any]) -> None:
    """Write a run's record, whole or not at all; long lists keep to one line."""
    path = record_path(folder, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        f"  {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}"
        for name, value in record.items()
    ]
    with whole_file(path) as part:
        part.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
