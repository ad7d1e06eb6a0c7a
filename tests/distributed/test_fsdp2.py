"""FSDP2 as accelerate makes it: its launcher, its wrapping of a model, its optimizer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "accelerate" / "fsdp2.yaml"

# accelerate has FSDP on GPUs only, and without a word takes DDP elsewhere; so where there is none
# it is told that there are some. It does not shard models whose embeddings are tied three times.
LOOP = """
import sys, torch
import torch.distributed as dist
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType
from chts_hf import CHTsConfig, Sparsifier
from tests.builders import tiny_marian

on_gpu = torch.cuda.is_available()
if not on_gpu:
    PartialState(cpu=True)
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
accelerator = Accelerator(cpu=not on_gpu)
assert accelerator.is_fsdp2
model = tiny_marian(tie_word_embeddings=False, share_encoder_decoder_embeddings=False)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
model, optimizer = accelerator.prepare(model, optimizer)
config = CHTsConfig(method="rigl", sparsity=0.8, update_interval=2)
sparsifier = Sparsifier(accelerator.unwrap_model(model), optimizer, config, total_steps=9)
first = sparsifier.state_dict()["masks"]
ids = (torch.arange(3, 11).reshape(1, 8) + accelerator.process_index).to(accelerator.device)
for step in range(8):
    accelerator.backward(model(input_ids=ids, labels=ids).loss)
    accelerator.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    sparsifier.step()
    optimizer.zero_grad()
    for target in sparsifier.targets:
        weight, mask = target.weight.to_local(), sparsifier.masks[target.name]
        assert weight.shape == mask.shape
        assert (weight[~mask] == 0).all()
state, sparsity = sparsifier.state_dict(), sparsifier.stats()["sparsity"]
if accelerator.is_main_process:
    world = accelerator.num_processes
    torch.save((world, sparsifier.updates, sparsity, first, state["masks"]), sys.argv[1])
accelerator.end_training()
"""

TRAINER = """
import sys
from pathlib import Path
from chts_hf import CHTsCallback, CHTsConfig
from tests.builders import tiny_marian, tiny_trainer

model = tiny_marian(tie_word_embeddings=False, share_encoder_decoder_embeddings=False)
callback = CHTsCallback(CHTsConfig(sparsity=0.8, update_interval=2))
tiny_trainer(Path(sys.argv[1]), [callback], model, steps=4, use_cpu=False).train()
"""


def _run(
    folder: Path, script: str, start: list[str], **environment: str
) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(script)
    return subprocess.run(
        [sys.executable, "-m", *start, str(folder / "script.py"), str(folder / "found.pt")],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,  # less than a test may take, so that what hangs ends before it
    )


def _check(folder: Path, processes: int) -> None:
    world, updates, sparsity, first, masks = torch.load(folder / "found.pt")
    assert world == processes
    assert updates == 3
    assert sparsity == pytest.approx(0.8, abs=0.005)
    for name, mask in masks.items():
        assert int(mask.sum()) == round(0.2 * mask.numel()), name
        assert not torch.equal(mask, first[name]), name


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.skipif(torch.cuda.is_available(), reason="there the launcher's test does the same")
def test_a_model_that_accelerate_sharded(tmp_path):
    settings = {
        "ACCELERATE_USE_CPU": "true",
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_RESHARD_AFTER_FORWARD": "true",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_TRANSFORMER_CLS_TO_WRAP": "MarianEncoderLayer,MarianDecoderLayer",
    }
    start = ["torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = _run(tmp_path, LOOP, start, **settings)
    assert done.returncode == 0, done.stderr[-3000:]
    _check(tmp_path, 2)


def _launch(processes: int) -> list[str]:
    start = ["accelerate.commands.launch", "--config_file", str(CONFIG)]
    return [*start, "--num_processes", str(processes), "--main_process_port", "0"]


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.distributed
def test_a_loop_on_gpus_with_the_configuration_as_it_is(tmp_path):
    processes = torch.cuda.device_count()
    done = _run(tmp_path, LOOP, _launch(processes))
    assert done.returncode == 0, done.stderr[-3000:]
    _check(tmp_path, processes)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.distributed
def test_the_trainer_on_gpus_refuses_on_its_first_step(tmp_path):
    done = _run(tmp_path, TRAINER, _launch(torch.cuda.device_count()))
    assert done.returncode != 0
    assert "ValueError: FSDP is not supported through the Trainer" in done.stderr
