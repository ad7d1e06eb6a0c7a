"""From a folder of records to a page, its numbers and its pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chts_hf.compare.figures import draw_comparison
from chts_hf.compare.numbers import summary_data
from chts_hf.compare.record import find_record
from chts_hf.compare.significance import compare
from chts_hf.compare.spec import Comparison, Run
from chts_hf.compare.summary import Summary, summarise
from chts_hf.compare.tables import comparison_section


def read_records(folder: Path, comparison: Comparison) -> dict[Run, dict[str, Any]]:
    """Read the records of a comparison's finished runs."""
    found = {run: find_record(folder, comparison, run) for run in comparison.runs()}
    return {run: one[1] for run, one in found.items() if one is not None}


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
    return summary, comparison_section(summary, pictures)
