"""The paper's setting says what it is meant to say: it is long, and nothing else runs it here."""

from __future__ import annotations

from pathlib import Path

import pytest

from chts_hf.compare.flops import densities
from chts_hf.compare.spec import read_comparison
from chts_hf.translation.arguments import read_arguments

CONFIGS = Path("configs")


def test_its_recipe() -> None:
    arguments = read_arguments([str(CONFIGS / "multi30k_chts_90.yaml"), "--use_cpu"])
    model, training = arguments.model, arguments.training
    assert (model.dropout, model.attention_dropout, model.activation_dropout) == (0.1, 0.1, 0.1)
    assert training.tf32 is False
    assert training.load_best_model_at_end
    assert training.best_model_from_step == 4000


@pytest.mark.parametrize("name", ["compare_multi30k", "compare_ablation"])
def test_no_checkpoint_that_is_denser_than_asked_for_can_be_the_best(name: str) -> None:
    comparison = read_comparison(CONFIGS / f"{name}.yaml")
    first = comparison.recipe["best_model_from_step"]
    assert first % comparison.recipe["eval_steps"] == 0
    for run in comparison.runs():
        # The last ones are of the steps behind the evaluation of the step `first`.
        assert {round(d, 9) for d in densities(run.config, comparison.steps)[first:]} == {
            round(1 - run.sparsity, 9)
        }, run.name
