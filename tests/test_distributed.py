"""Two processes: one decision, the masks of one process, and an alarm when they differ."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.distributed

SCRIPT = """
import sys
from pathlib import Path

import torch
from chts_hf import CHTsCallback, CHTsConfig
from chts_hf.translation.loss import TokenLoss
from tests.builders import tiny_trainer
from transformers import TrainerCallback

folder, batch, method = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
drift = sys.argv[4] == "drift"
callback = CHTsCallback(CHTsConfig(method=method, sparsity=0.8, update_interval=3))


class Drift(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        if drift and state.global_step == 2 and args.process_index == 1:
            mask = callback.sparsifier.masks["model.decoder.layers.0.fc1.weight"]
            mask[0] = ~mask[0]


trainer = tiny_trainer(
    folder, [callback, Drift()], per_device_train_batch_size=batch, gradient_accumulation_steps=2,
    train_sampling_strategy="sequential", compute_loss_func=TokenLoss(), optim="sgd",
    ddp_backend="gloo" if batch == 2 else None,
)
trainer.train()
state = {
    "world": trainer.args.world_size,
    "updates": callback.sparsifier.updates,
    "masks": callback.sparsifier.masks,
    "weights": {n: p.detach() for n, p in trainer.model.named_parameters()},
}
torch.save(state, folder / f"rank{trainer.args.process_index}.pt")
"""


def _run(folder: Path, processes: int, method: str, drift: str = "") -> subprocess.CompletedProcess:
    folder.mkdir()
    script = folder / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command += [str(script), str(folder), str(4 // processes), method, drift]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("method", ["chts", "rigl"])
def test_two_processes_have_the_masks_of_one(tmp_path, method):
    """RigL's included, whose gradients are then those of the whole batch over both ranks."""
    for name, processes in (("one", 1), ("two", 2)):
        done = _run(tmp_path / name, processes, method)
        assert done.returncode == 0, done.stderr[-3000:]
    one = torch.load(tmp_path / "one" / "rank0.pt")
    ranks = [torch.load(tmp_path / "two" / f"rank{rank}.pt") for rank in (0, 1)]
    assert [rank["world"] for rank in ranks] == [2, 2]
    assert one["updates"] == ranks[0]["updates"] == 3
    for name, mask in one["masks"].items():
        assert torch.equal(ranks[0]["masks"][name], ranks[1]["masks"][name]), name
        assert torch.equal(ranks[0]["masks"][name], mask), name
    for name, weight in one["weights"].items():
        assert torch.equal(ranks[0]["weights"][name], ranks[1]["weights"][name]), name
        torch.testing.assert_close(ranks[0]["weights"][name], weight, rtol=1e-4, atol=1e-6)


def test_masks_that_differ_stop_the_run(tmp_path):
    done = _run(tmp_path / "two", 2, "set", "drift")
    assert done.returncode != 0
    assert "the masks of model.decoder.layers.0.fc1.weight differ between ranks" in done.stderr
