"""A comparison as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from chts_hf.compare.formatting import NONE, markdown_table, mean_and_error, with_error
from chts_hf.compare.published import PUBLISHED
from chts_hf.compare.spec import Comparison, Run
from chts_hf.compare.summary import Row, Summary, Tested

#: Below this, p is printed as such: fewer trials than 10 000 could tell no more.
_SMALLEST_P = 0.001
#: A p below this, corrected, is marked.
_LEVEL = 0.05


def comparison_section(
    summary: Summary, pictures: Sequence[str] = (), remarks: Sequence[str] = ()
) -> str:
    """The whole section of a comparison: what was run, what is missing, tables and pictures.

    Args:
        summary: the comparison.
        pictures: their paths, as seen from the page.
        remarks: sentences about its records, for above the tables.
    """
    comparison = summary.comparison
    parts = [
        f"## {comparison.title or comparison.setting}",
        provenance(summary),
        *(f"**Not comparable:** {text}." for text in summary.unlike),
        *(f"**Perhaps not comparable:** {text}." for text in summary.unknown),
        *remarks,
        missing_text(comparison, summary.missing),
        quality_table(summary.comparison, summary.rows),
        difference_table(summary.comparison, summary.rows),
        loss_table(summary.comparison, summary.rows),
        network_table(summary.rows),
        *notes(summary),
        *(f"![{_picture_text(path)}]({path})" for path in pictures),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def provenance(summary: Summary) -> str:
    """Say where the numbers come from: configuration, data, what was tested on what, machines."""
    records = [record for row in summary.rows for record in row.records.values()]
    if not records:
        return f"No run of `{summary.comparison.source}` is finished."
    data = _listed(f"{record['dataset']} {record['languages']}" for record in records)
    machines = _listed(record["machine"] for record in records)
    beams = _listed(str(record.get("num_beams", NONE)) for record in records)
    steps = _listed(str(record["steps"]) for record in records)
    tested = _listed(_tested_on(record.get("recipe", {})) for record in records)
    signature = _listed(f"`{record.get('bleu_signature')}`" for record in records)
    configs = _listed(f"`{record['config']}`" for record in records)
    return (
        f"{configs}: {data}, {steps} steps, beam {beams}; {machines}. Test: {tested}. "
        f"BLEU {signature}."
    )


def _tested_on(recipe: Mapping[str, Any]) -> str:
    """Which checkpoint was tested, and on what."""
    checkpoint = "last checkpoint"
    if recipe.get("load_best_model_at_end"):
        since = recipe.get("best_model_from_step")
        checkpoint = "best checkpoint on validation" + (f" from step {since} on" if since else "")
    file = recipe.get("test_file")
    return f"{checkpoint}, on {f'`{file}`' if file else 'the test part of the data'}"


def missing_text(comparison: Comparison, missing: Sequence[Run]) -> str:
    """Say which runs are not there, by method and sparsity; nothing if all are.

    Example:
        >>> missing_text(comparison, [Run("chts", 0.9, 1, {}), Run("chts", 0.9, 2, {})])
        '**Missing, 2 of 57 runs:** chts at 0.9 (seeds 1, 2).'
    """
    if not missing:
        return ""
    seeds: dict[tuple[str, float], list[int]] = {}
    for run in missing:
        seeds.setdefault((run.label, run.sparsity), []).append(run.seed)
    labels = list(comparison.methods)

    def place(item: tuple[tuple[str, float], list[int]]) -> tuple[float, int]:
        return item[0][1], labels.index(item[0][0])

    parts = [
        f"{label}{f' at {sparsity:g}' if sparsity else ''} "
        f"(seed{'s' if len(those) > 1 else ''} {', '.join(str(seed) for seed in those)})"
        for (label, sparsity), those in sorted(seeds.items(), key=place)
    ]
    total = len(comparison.runs())
    return f"**Missing, {len(missing)} of {total} runs:** {'; '.join(parts)}."


def quality_table(comparison: Comparison, rows: Sequence[Row]) -> str:
    """BLEU, its lengths, chrF, validation loss, training FLOPs, and published BLEU if there is."""
    published = PUBLISHED[comparison.published].bleu if comparison.published else {}
    titles = ["method", "sparsity asked", "BLEU", "chrF", "length ratio", "loops %",
              "validation loss", "training FLOPs"]  # fmt: skip
    titles += ["BLEU, published"] * bool(published) + ["seeds"]
    lines = []
    for row in rows:
        cells = [row.label, f"{row.sparsity:g}"]
        cells += [_mean(row, "predict_bleu", 2) + _star(row), _mean(row, "predict_chrf", 2)]
        cells += [_mean(row, "length_ratio", 3), _mean(row, "loop_percent", 1)]
        cells.append(_mean(row, "eval_loss", 4) + _star(row))
        cells.append(f"{row.mean('relative_training_flops'):.3f}")
        if published:
            value, error = published.get((row.label, row.sparsity), (None, None))
            cells.append(with_error(value, error, 2))
        lines.append([*cells, ", ".join(str(seed) for seed in row.records)])
    return markdown_table(titles, lines)


def difference_table(comparison: Comparison, rows: Sequence[Row]) -> str:
    """BLEU minus another method's, mean and standard error of the seeds, and both tests' p."""
    return _against("BLEU of … (p bootstrap, p randomisation)", comparison, rows, _tested)


def loss_table(comparison: Comparison, rows: Sequence[Row]) -> str:
    """Validation loss minus another method's, mean and standard error of the seeds' differences."""
    return _against("validation loss of …, seed by seed", comparison, rows, _loss_difference)


def _against(
    title: str, comparison: Comparison, rows: Sequence[Row], cell: Callable[[Tested, bool], str]
) -> str:
    names = {
        "reference": f"− {comparison.reference}",
        "steps": "− best baseline, equal steps",
        "flops": "− best baseline, equal FLOPs",
    }
    names = {name: what for name, what in names.items() if any(name in r.tests for r in rows)}
    if not names:
        return ""
    lines = [
        [row.label + _star(row), f"{row.sparsity:g}",
         *(cell(row.tests[name], name != "reference") if name in row.tests else NONE
           for name in names)]
        for row in rows if row.tests
    ]  # fmt: skip
    return markdown_table([title, "sparsity asked", *names.values()], lines)


def network_table(rows: Sequence[Row]) -> str:
    """What the networks became, what they cost here, and the commits they were trained at.

    Where the runs are not all from one machine or one configuration file, each row names its own.
    """
    titles = ["method", "sparsity asked", "sparsity", "ITOP", "ANP", "ms per step",
              "ms per topology update", "non-zero parameters", "commit"]  # fmt: skip
    every = [record for row in rows for record in row.records.values()]
    apart = [name for name in ("machine", "config") if len({one[name] for one in every}) > 1]
    titles += apart
    lines = []
    for row in rows:
        sparsity = _mean(row, "sparsity", 4) + _star(row)
        cells = [row.label, f"{row.sparsity:g}", sparsity]
        cells += [_mean(row, name, 3) for name in ("itop_rate", "anp")]
        cells.append(_mean(row, "milliseconds_per_step", 0))
        cells.append(with_error(*mean_and_error(update_milliseconds(row)), 1))
        cells.append(f"{row.mean('nonzero_parameters'):,.0f}")
        commits = sorted({record["commit"] for record in row.records.values()})
        cells.append(", ".join(short_commit(commit) for commit in commits))
        cells += [_listed(record[name] for record in row.records.values()) for name in apart]
        lines.append(cells)
    return markdown_table(titles, lines)


def update_milliseconds(row: Row) -> list[float]:
    """Milliseconds of a topology update in each run that had any."""
    return [
        1000 * record["topology_runtime"] / record["topology_updates"]
        for record in row.records.values()
        if record.get("topology_updates")
    ]


def notes(summary: Summary) -> list[str]:
    """What must be known to read the tables."""
    found = []
    if any(row.ended_too_dense for row in summary.rows):
        found.append(
            "\\* The tested checkpoint is from before the density had fallen to its final value: "
            "this is a denser model than was asked for, and no best baseline."
        )
    tests = [tested for row in summary.rows for tested in row.tests.values()]
    if summary.missing and any("steps" in row.tests for row in summary.rows):
        found.append(
            "The best baseline of a row is the one with the lowest mean validation loss over the "
            "seeds that it shares with the row, among those that share all of the row's seeds or, "
            "where none does, the most."
        )
    if any(tested.p_holm < _LEVEL for tested in tests):
        found.append(
            f"† Below {_LEVEL:g} by the randomisation's p also after Holm's correction for the "
            "number of rows in the column."
        )
    if summary.comparison.published:
        source = PUBLISHED[summary.comparison.published].source
        found.append(f"Published: {source}. Those numbers are cited, not measured here.")
    return found


def _picture_text(path: str) -> str:
    curves = "curves" in path
    return "Loss, BLEU, density, ITOP and ANP over steps" if curves else "Test BLEU by method"


def _tested(tested: Tested, named: bool) -> str:
    result = tested.result
    p = ", ".join(_p(value) for value in (result.p_bootstrap, result.p_randomization))
    mark = "†" if tested.p_holm < _LEVEL else ""
    difference = _difference(result.difference, mean_and_error(tested.bleu_differences)[1], 2)
    return f"{difference}{mark}{_against_whom(tested, named)} ({p}{_of_seeds(tested)})"


def _loss_difference(tested: Tested, named: bool) -> str:
    if not tested.loss_differences:
        return NONE
    value, error = mean_and_error(tested.loss_differences)
    seeds = _of_seeds(tested).removeprefix("; ")
    return f"{_difference(value, error, 4)}{_against_whom(tested, named)}" + (
        f" ({seeds})" if seeds else ""
    )


def _difference(value: float, error: float | None, digits: int) -> str:
    return ("" if value < 0 else "+") + with_error(value, error, digits)


def _against_whom(tested: Tested, named: bool) -> str:
    return f" {tested.against}" if named else ""


def _of_seeds(tested: Tested) -> str:
    """The seeds of a test, where they are not those of both rows."""
    if tested.all_seeds:
        return ""
    seeds = ", ".join(str(seed) for seed in tested.seeds)
    return f"; seed{'s' if len(tested.seeds) > 1 else ''} {seeds}"


def _star(row: Row) -> str:
    return "*" if row.ended_too_dense else ""


def _p(value: float) -> str:
    return f"<{_SMALLEST_P:g}" if value < _SMALLEST_P else f"{value:.3f}"


def _mean(row: Row, name: str, digits: int) -> str:
    return with_error(*mean_and_error(row.values(name)), digits)


def short_commit(commit: str) -> str:
    """The first ten digits, and whether the tree had changes of its own."""
    return commit[:10] + ("-dirty" if commit.endswith("-dirty") else "")


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(texts))
