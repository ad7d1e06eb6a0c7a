"""From a folder of records to a page, its numbers and its pictures."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from chts_hf.compare.figures import draw_comparison
from chts_hf.compare.numbers import summary_data
from chts_hf.compare.record import find_record
from chts_hf.compare.significance import Paired, compare, definition
from chts_hf.compare.spec import Comparison, Run
from chts_hf.compare.summary import Summary, summarise
from chts_hf.compare.tables import comparison_section


def read_records(folder: Path, comparison: Comparison) -> dict[Run, dict[str, Any]]:
    """Read the records of a comparison's finished runs."""
    found = {run: find_record(folder, comparison, run) for run in comparison.runs()}
    return {run: one[1] for run, one in found.items() if one is not None}


class RememberedTests:
    """:func:`~chts_hf.compare.significance.compare`, whose results are kept in a file.

    A comparison of 60 runs has some 50 tests of seconds each, and a further run changes few.

    Args:
        path: a JSON file: digest of the test's definition and both systems' statistics → the
            result.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        there = path.is_file()
        self._known: dict[str, dict[str, float]] = json.loads(path.read_text()) if there else {}
        self._used: dict[str, dict[str, float]] = {}

    def __call__(self, system: np.ndarray, other: np.ndarray) -> Paired:
        """Look a test up, or make it."""
        told = f"{definition()}, {system.shape}".encode()
        key = hashlib.sha256(told + system.tobytes() + other.tobytes()).hexdigest()[:16]
        if key not in self._used:
            self._used[key] = self._known.get(key) or asdict(compare(system, other))
        return Paired(**self._used[key])

    def save(self) -> None:
        """Write the results that were asked for."""
        lines = [
            f"  {json.dumps(key)}: {json.dumps(self._used[key])}" for key in sorted(self._used)
        ]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def write_comparison(
    comparison: Comparison, records: Path, folder: Path, prefix: str = ""
) -> tuple[Summary, str]:
    """Write a comparison's numbers (``summary.json``) and pictures, and make its section of a page.

    Args:
        comparison: what was to be run.
        records: the folder of its records.
        folder: where the files go.
        prefix: how the page that the section is for names that folder, "" for its own.

    Returns:
        The summary, and the section in Markdown.
    """
    tests = RememberedTests(folder / "tests.json")
    summary = summarise(comparison, read_records(records, comparison), tests)
    tests.save()
    numbers = json.dumps(summary_data(summary), indent=2, ensure_ascii=False)
    (folder / "summary.json").write_text(numbers + "\n", encoding="utf-8")
    pictures = [prefix + path.name for path in draw_comparison(folder, summary)]
    return summary, comparison_section(summary, pictures)
