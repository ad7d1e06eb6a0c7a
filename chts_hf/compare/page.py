"""From a folder of records to a page, its numbers and its pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chts_hf.compare.figures import draw_comparison
from chts_hf.compare.numbers import summary_data
from chts_hf.compare.record import changes_since, find_record, moved_since
from chts_hf.compare.significance import compare
from chts_hf.compare.spec import Comparison, Run
from chts_hf.compare.summary import Summary, summarise
from chts_hf.compare.tables import comparison_section


def read_records(folder: Path, comparison: Comparison) -> dict[Run, dict[str, Any]]:
    """Read the records of a comparison's finished runs."""
    found = {run: find_record(folder, comparison, run) for run in comparison.runs()}
    return {run: one[1] for run, one in found.items() if one is not None}


def made_otherwise(folder: Path, comparison: Comparison) -> list[str]:
    """Say which records are not what the comparison would make now, in a line for each reason."""
    others: dict[str, list[str]] = {}
    moved: dict[str, None] = {}
    for run, record in read_records(folder, comparison).items():
        changed = changes_since(record, comparison, run)
        if changed:
            others.setdefault("; ".join(changed), []).append(run.name)
        elif there := moved_since(record, comparison, run):
            moved["; ".join(there)] = None
    return [
        *(f"Made with another recipe ({why}): {', '.join(runs)}." for why, runs in others.items()),
        *(
            f"Records' data was elsewhere than it would be now ({where}): new runs are comparable "
            "if they find the same sentences there."
            for where in moved
        ),
    ]


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
    folder.mkdir(parents=True, exist_ok=True)
    summary = summarise(comparison, read_records(records, comparison), compare)
    numbers = json.dumps(summary_data(summary), indent=2, ensure_ascii=False)
    (folder / "summary.json").write_text(numbers + "\n", encoding="utf-8")
    pictures = [prefix + path.name for path in draw_comparison(folder, summary)]
    return summary, comparison_section(summary, pictures, made_otherwise(records, comparison))
