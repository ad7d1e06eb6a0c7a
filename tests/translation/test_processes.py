"""Two processes do what one does: same loss, same step, same evaluation, same translations."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
import json, sys
from pathlib import Path
from tests.translation.helpers import corpus, toy_trainer

folder, batch_size = Path(sys.argv[1]), int(sys.argv[2])
predictions = []

def note(prediction):
    predictions.extend(prediction.predictions.tolist())
    return {"count": len(prediction.label_ids)}

trainer = toy_trainer(
    folder, train=corpus(8, seed=5), evaluation=corpus(11, seed=2), compute_metrics=note,
    per_device_train_batch_size=batch_size, per_device_eval_batch_size=3, max_steps=1,
    optim="sgd", learning_rate=1.0, max_grad_norm=0.0, lr_scheduler_type="constant",
    logging_steps=1, train_sampling_strategy="sequential", label_smoothing_factor=0.1,
    predict_with_generate=True, ddp_backend="gloo" if batch_size == 4 else None,
)
trainer.train()
metrics = trainer.evaluate()
if trainer.is_world_process_zero():
    result = {
        "processes": trainer.args.world_size, "loss": trainer.state.log_history[0]["loss"],
        "eval_loss": metrics["eval_loss"], "count": metrics["eval_count"],
        "weights": [p.detach().double().abs().sum().item() for p in trainer.model.parameters()],
        "predictions": predictions,
    }
    (folder / "result.json").write_text(json.dumps(result))
trainer.end()
"""


def run(folder: Path, processes: int) -> dict[str, Any]:
    folder.mkdir()
    script = folder / "script.py"
    script.write_text(SCRIPT)
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command += [str(script), str(folder), str(8 // processes)]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    assert result["processes"] == processes
    return result


@pytest.mark.distributed
def test_two_processes_are_one_large_batch(tmp_path: Path) -> None:
    one, two = run(tmp_path / "one", 1), run(tmp_path / "two", 2)
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert two["weights"] == pytest.approx(one["weights"], rel=1e-5, abs=1e-6)
    # 11 sentences do not divide by 2 x 3: nothing is counted twice, and the order is kept.
    assert two["eval_loss"] == pytest.approx(one["eval_loss"], rel=1e-5)
    assert two["count"] == one["count"] == 11

    def sentences(result: dict[str, Any]) -> list[list[int]]:
        return [[token for token in row if token > 0] for row in result["predictions"]]

    assert sentences(two) == sentences(one)
