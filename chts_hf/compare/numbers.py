"""A comparison's numbers as JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chts_hf.compare.formatting import mean_and_error
from chts_hf.compare.summary import Row, Summary, Tested


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
        values[name] = _mean_and_error(row.values(name))
    values["ended_too_dense"] = row.ended_too_dense
    values["tests"] = {name: _test_data(tested) for name, tested in row.tests.items()}
    return values


def _test_data(tested: Tested) -> Mapping[str, Any]:
    return {
        "against": tested.against,
        "seeds": list(tested.seeds),
        "bleu_of_these_seeds": tested.result.bleu,
        "against_bleu_of_these_seeds": tested.result.other,
        "bleu_difference": _mean_and_error(tested.bleu_differences),
        "p_bootstrap": tested.result.p_bootstrap,
        "p_randomization": tested.result.p_randomization,
        "p_randomization_holm": tested.p_holm,
        "eval_loss_difference": _mean_and_error(tested.loss_differences),
    }


def _mean_and_error(values: Sequence[float]) -> dict[str, float | None]:
    value, error = mean_and_error(values)
    return {"mean": value if value == value else None, "standard_error": error}
