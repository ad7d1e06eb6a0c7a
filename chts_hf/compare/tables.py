"""A comparison as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from chts_hf.compare.published import PUBLISHED
from chts_hf.compare.spec import Comparison, Run
from chts_hf.compare.summary import Row, Summary, Tested, mean_and_error

#: Below this, p is printed as such: fewer trials than 10 000 could tell no more.
_SMALLEST_P = 0.001
_NONE = "–"


def comparison_section(summary: Summary, pictures: Sequence[str] = ()) -> str:
    """The whole section of a comparison: what was run, what is missing, tables and pictures.

    Args:
        summary: the comparison.
        pictures: their paths, as seen from the page.
    """
    comparison = summary.comparison
    parts = [
        f"## {comparison.title or comparison.setting}",
        provenance(summary),
        *(f"**Not comparable:** {text}." for text in summary.unlike),
        *(f"**Perhaps not comparable:** {text}." for text in summary.unknown),
        missing_text(comparison, summary.missing),
        quality_table(summary.comparison, summary.rows),
        difference_table(summary.comparison, summary.rows),
        network_table(summary.rows),
        *notes(summary),
        *(f"![{_picture_text(path)}]({path})" for path in pictures),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def provenance(summary: Summary) -> str:
    """Say where the numbers come from: configuration, data, steps, machines, BLEU's signature."""
    records = [record for row in summary.rows for record in row.records.values()]
    if not records:
        return f"No run of `{summary.comparison.source}` is finished."
    data = _listed(f"{record['dataset']} {record['languages']}" for record in records)
    machines = _listed(record["machine"] for record in records)
    beams = _listed(str(record.get("num_beams", _NONE)) for record in records)
    steps = _listed(str(record["steps"]) for record in records)
    signature = _listed(f"`{record.get('bleu_signature')}`" for record in records)
    configs = _listed(f"`{record['config']}`" for record in records)
    return f"{configs}: {data}, {steps} steps, beam {beams}; {machines}. BLEU {signature}."


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
        cells += [_mean(row, name, 2) for name in ("predict_bleu", "predict_chrf")]
        cells += [_mean(row, "length_ratio", 3), _mean(row, "loop_percent", 1)]
        cells += [_mean(row, "eval_loss", 4), f"{row.mean('relative_training_flops'):.3f}"]
        if published:
            value, error = published.get((row.label, row.sparsity), (None, None))
            cells.append(_with_error(value, error, 2))
        lines.append([*cells, ", ".join(str(seed) for seed in row.records)])
    return _table(titles, lines)


def difference_table(comparison: Comparison, rows: Sequence[Row]) -> str:
    """BLEU minus another method's, with the p of both paired tests; empty if there are none."""
    names = {
        "reference": f"− {comparison.reference}",
        "steps": "− best baseline, equal steps",
        "flops": "− best baseline, equal FLOPs",
    }
    names = {name: title for name, title in names.items() if any(name in r.tests for r in rows)}
    if not names:
        return ""
    lines = [
        [row.label, f"{row.sparsity:g}",
         *(_tested(row.tests.get(name), name != "reference") for name in names)]
        for row in rows if row.tests
    ]  # fmt: skip
    return _table(["BLEU of … (p bootstrap, p randomisation)", "sparsity asked",
                   *names.values()], lines)  # fmt: skip


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
        sparsity = _mean(row, "sparsity", 4) + ("*" if row.ended_too_dense else "")
        cells = [row.label, f"{row.sparsity:g}", sparsity]
        cells += [_mean(row, name, 3) for name in ("itop_rate", "anp")]
        cells.append(_mean(row, "milliseconds_per_step", 0))
        cells.append(_with_error(*mean_and_error(update_milliseconds(row)), 1))
        cells.append(f"{row.mean('nonzero_parameters'):,.0f}")
        commits = sorted({record["commit"] for record in row.records.values()})
        cells.append(", ".join(short_commit(commit) for commit in commits))
        cells += [_listed(record[name] for record in row.records.values()) for name in apart]
        lines.append(cells)
    return _table(titles, lines)


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
            "\\* The checkpoint with the lowest validation loss, which is the one that is tested, "
            "is from before the density had fallen to its final value."
        )
    if summary.comparison.published:
        source = PUBLISHED[summary.comparison.published].source
        found.append(f"Published: {source}. Those numbers are cited, not measured here.")
    return found


def _picture_text(path: str) -> str:
    curves = "curves" in path
    return "Loss, BLEU, density, ITOP and ANP over steps" if curves else "Test BLEU by method"


def _tested(tested: Tested | None, named: bool) -> str:
    if tested is None:
        return _NONE
    result = tested.result
    p = ", ".join(_p(value) for value in (result.p_bootstrap, result.p_randomization))
    against = f" {tested.against}" if named else ""
    return f"{result.difference:+.2f}{against} ({p})"


def _p(value: float) -> str:
    return f"<{_SMALLEST_P:g}" if value < _SMALLEST_P else f"{value:.3f}"


def _mean(row: Row, name: str, digits: int) -> str:
    return _with_error(*mean_and_error(row.values(name)), digits)


def _with_error(value: float | None, error: float | None, digits: int) -> str:
    if value is None or value != value:
        return _NONE
    return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def short_commit(commit: str) -> str:
    """The first ten digits, and whether the tree had changes of its own."""
    return commit[:10] + ("-dirty" if commit.endswith("-dirty") else "")


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(texts))


def _table(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}"]
    return "\n".join(rows + [f"| {' | '.join(cells)} |" for cells in lines])


def summary_data(summary: Summary) -> dict[str, Any]:
    """The tables' numbers as JSON values, unrounded."""
    names = ("predict_bleu", "predict_chrf", "length_ratio", "loop_percent", "eval_loss",
             "relative_training_flops", "sparsity", "itop_rate", "anp",
             "milliseconds_per_step")  # fmt: skip
    return {
        "setting": summary.comparison.setting,
        "config": summary.comparison.source,
        "steps": summary.comparison.steps,
        "missing": [run.name for run in summary.missing],
        "unlike": list(summary.unlike),
        "unknown": list(summary.unknown),
        "rows": [_row_data(row, names) for row in summary.rows],
    }


def _row_data(row: Row, names: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {"label": row.label, "sparsity": row.sparsity,
                              "seeds": list(row.records)}  # fmt: skip
    for name in names:
        value, error = mean_and_error(row.values(name))
        values[name] = {"mean": value if value == value else None, "standard_error": error}
    values["tests"] = {name: _test_data(tested) for name, tested in row.tests.items()}
    return values


def _test_data(tested: Tested) -> Mapping[str, Any]:
    return {
        "against": tested.against,
        "seeds": list(tested.seeds),
        "bleu_of_all_seeds": tested.result.bleu,
        "against_bleu_of_all_seeds": tested.result.other,
        "p_bootstrap": tested.result.p_bootstrap,
        "p_randomization": tested.result.p_randomization,
    }
