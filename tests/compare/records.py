"""Made-up records of a small comparison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from chts_hf.compare.flops import relative_training_flops
from chts_hf.compare.significance import Paired, encode_statistics
from chts_hf.compare.spec import Comparison, Run, read_comparison

#: Label → validation loss and BLEU. RigL has the better loss, SET the better BLEU.
QUALITY = {
    "dense": (1.5, 30.0), "chts": (1.8, 28.0), "chtss": (1.6, 31.0), "set": (1.9, 29.0),
    "rigl": (1.85, 27.0), "granet": (1.7, 30.5),
}  # fmt: skip


def comparison(folder: Path, **changes: Any) -> Comparison:
    (folder / "recipe.yaml").write_text("max_steps: 1000\nd_model: 8\nchts: {zeta: 0.2}\n")
    values: dict[str, Any] = {
        "setting": "made_up", "recipe": "recipe.yaml", "methods": list(QUALITY),
        "sparsities": [0.9], "seeds": [0, 1], "options": {"d_model": 16},
    }  # fmt: skip
    path = folder / "compare.yaml"
    path.write_text(json.dumps(values | changes))  # JSON is YAML
    return read_comparison(path)


def record(of: Comparison, run: Run, **changes: Any) -> dict[str, Any]:
    loss, bleu = QUALITY[run.label]
    matches = np.minimum(5 + run.seed, round(bleu / 4) - np.arange(4))
    rows = [[8, 9, *np.maximum(matches - word % 3, 0), 8, 7, 6, 5] for word in range(30)]
    return {
        "setting": of.setting, "config": of.source, "label": run.label, "seed": run.seed,
        "method": run.config.method, "target_sparsity": run.sparsity, "steps": of.steps,
        "chts": run.config.to_dict(),
        "dataset": "words", "languages": "en-de", "commit": "0123456789abcdef", "machine": "a box",
        "num_beams": 2, "bleu_signature": "nrefs:1", "predict_bleu": bleu + run.seed,
        "predict_chrf": bleu + 20, "eval_loss": loss, "sparsity": run.sparsity, "anp": 0.9,
        "itop_rate": 0.3, "relative_training_flops": relative_training_flops(run.config, of.steps),
        "milliseconds_per_step": 12.0, "topology_updates": 0 if run.is_dense else 4,
        "topology_runtime": 0.5, "nonzero_parameters": 1234, "batches": f"b{run.seed}",
        "initial_weights": f"w{run.seed}", "recipe": of.identity(run),
        "bleu_statistics": encode_statistics(np.array(rows, dtype=np.int64)),
        "curves": {"eval_loss": [[500, loss + 1], [1000, loss]], "sparsity": [[500, run.sparsity]]},
    } | changes  # fmt: skip


def records(of: Comparison, *without: str) -> dict[Run, dict[str, Any]]:
    return {run: record(of, run) for run in of.runs() if run.name not in without}


def quick(system: np.ndarray, other: np.ndarray) -> Paired:
    """A test that takes no time."""
    return Paired(float(system[:, 2].sum()), float(other[:, 2].sum()), 0.0004, 0.25)
