"""The fine-tuning recipe, at a size that says nothing of quality and everything of the wiring."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from chts_hf import load_sparse
from recipes import finetune
from tests.recipes.test_translation import config


@pytest.mark.slow
def test_three_runs_from_one_dense_model(tmp_path):
    path = config(
        tmp_path, dataset_name="embedded", embedded_train=80, embedded_validation=6,
        embedded_test=7, lr_scheduler_type="noam", warmup_steps=2,
    )  # fmt: skip
    words = [path, "--finetune_steps", "8", "--output_dir", str(tmp_path / "out")]
    bleu = finetune.main(words)
    assert bleu.keys() == {"dense", "chtss", "one-shot"}
    results = json.loads((tmp_path / "out" / "finetune.json").read_text())
    assert results["dense"]["sparsity"] == 0.0
    for name in ("chtss", "one-shot"):
        assert results[name]["sparsity"] == pytest.approx(0.75)
    dense = load_file(tmp_path / "out" / "dense" / "model.safetensors")
    pruned = load_sparse(tmp_path / "out" / "one-shot").state_dict()
    name = next(n for n in dense if n.endswith("fc1.weight"))
    kept = pruned[name] != 0
    # One-shot pruning kept the largest weights of the dense model.
    assert dense[name].abs()[kept].min() >= dense[name].abs()[~kept].max()
    assert torch.count_nonzero(kept) == kept.numel() // 4
