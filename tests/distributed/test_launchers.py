"""The launchers people use start as many processes as asked, and all of them train together."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs" / "accelerate").glob("*.yaml"))
PAGE = ROOT / "docs" / "distributed.md"

TRAINER = """
import sys, torch
from pathlib import Path
from chts_hf import CHTsCallback, CHTsConfig
from tests.builders import tiny_trainer

folder = Path(sys.argv[1])
callback = CHTsCallback(CHTsConfig(sparsity=0.8, update_interval=2))
trainer = tiny_trainer(folder, [callback], steps=4, ddp_backend=None)
trainer.train()
rank, world = trainer.args.process_index, trainer.args.world_size
masks, updates = callback.sparsifier.masks, callback.sparsifier.updates
weights = [p.detach() for p in trainer.model.parameters()]
torch.save((world, updates, masks, weights), folder / f"rank{rank}.pt")
trainer.end()
"""

LOOP = """
import sys, torch
from pathlib import Path
from accelerate import Accelerator
from chts_hf import CHTsConfig, Sparsifier
from tests.builders import tiny_marian

folder = Path(sys.argv[1])
accelerator = Accelerator(cpu=True)
model = tiny_marian()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
model, optimizer = accelerator.prepare(model, optimizer)
plain = accelerator.unwrap_model(model)
config = CHTsConfig(sparsity=0.8, update_interval=2)
sparsifier = Sparsifier(plain, optimizer, config, total_steps=5)
ids = torch.arange(3, 11).reshape(1, 8) + accelerator.process_index
for step in range(4):
    accelerator.backward(model(input_ids=ids, labels=ids).loss)
    accelerator.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    sparsifier.step()
    optimizer.zero_grad()
state = (
    accelerator.num_processes, sparsifier.updates, sparsifier.masks,
    [p.detach() for p in plain.parameters()],
)
torch.save(state, folder / f"rank{accelerator.process_index}.pt")
accelerator.end_training()
"""


def _command(launcher: str, processes: int) -> list[str]:
    if launcher == "torchrun":
        return ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    config = str(ROOT / "configs" / "accelerate" / "cpu.yaml")
    start = ["-m", "accelerate.commands.launch", "--config_file", config]
    return [*start, "--num_processes", str(processes), "--main_process_port", "0"]


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.timeout(900)
@pytest.mark.parametrize("script", [TRAINER, LOOP], ids=["trainer", "loop"])
@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_all_processes_train_together(tmp_path, launcher, processes, script):
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, *_command(launcher, processes), str(tmp_path / "script.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        [*command, str(tmp_path)], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    files = sorted(tmp_path.glob("rank*.pt"))
    assert len(files) == processes
    ranks = [torch.load(file) for file in files]
    for world, updates, masks, weights in ranks:
        assert world == processes
        assert updates > 0
        for name, mask in masks.items():
            assert torch.equal(mask, ranks[0][2][name]), name
        for mine, first in zip(weights, ranks[0][3], strict=True):
            assert torch.equal(mine, first)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_configuration_is_one_that_accelerate_reads(path):
    config = load_config_from_file(str(path))  # refuses keys that it does not know
    assert config.num_processes >= 1
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    sharding = {"fsdp2": "FSDP", "deepspeed_zero2": "DEEPSPEED", "deepspeed_zero3": "DEEPSPEED"}
    one = "NO" if path.stem == "one_gpu" else "MULTI_GPU"
    assert values["distributed_type"] == sharding.get(path.stem, one)
    assert config.use_cpu == (path.stem == "cpu")
    assert (config.num_processes > 1) == (path.stem != "one_gpu")
    if path.stem.startswith("deepspeed"):
        assert config.deepspeed_config["zero_stage"] == int(path.stem[-1])
    if path.stem == "fsdp2":
        assert config.fsdp_config["fsdp_version"] == 2


def test_there_is_a_configuration_for_each_case_with_its_command_in_the_docs():
    names = {path.stem for path in CONFIGS}
    assert names == {
        *("cpu", "one_gpu", "several_gpus", "several_nodes"),
        *("fsdp2", "deepspeed_zero2", "deepspeed_zero3"),
    }
    page = PAGE.read_text(encoding="utf-8")
    for path in CONFIGS:
        command = rf"accelerate launch --config_file configs/accelerate/{path.name} [^#\n]+"
        assert re.search(command, page), path.name
