"""FSDP2 as accelerate makes it: its launcher, its wrapping of a model, its optimizer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from chts_hf import CHTsConfig, find_targets, last_complete_checkpoint, load_sparse
from chts_hf.analysis.history import read_history

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "accelerate" / "fsdp2.yaml"
STATES = "FSDP_STATE_DICT_TYPE"

# accelerate has FSDP on GPUs only, and without a word takes DDP elsewhere; so where there is none
# it is told that there are some. Models whose embeddings are shared need shared_weights_together.
LOOP = """
import sys, torch
import torch.distributed as dist
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType
from chts_hf import CHTsConfig, Sparsifier
from chts_hf.distributed.shared_weights import shared_weights_together
from tests.builders import tiny_marian

on_gpu = torch.cuda.is_available()
if not on_gpu:
    PartialState(cpu=True)
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
accelerator = Accelerator(cpu=not on_gpu)
assert accelerator.is_fsdp2
model = tiny_marian()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
with shared_weights_together(accelerator, model):
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

RECIPE = """
import runpy, sys, torch
from tests.distributed.sharding import have_accelerate_shard_on_cpus

if not torch.cuda.is_available():
    have_accelerate_shard_on_cpus()
sys.argv = ["recipes/translation.py", *sys.argv[2:]]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

#: The demo, so small that it takes seconds.
DEMO = {
    "max_steps": 8,
    "eval_steps": 4,
    "save_strategy": "steps",
    "save_steps": 4,
    "embedded_train": 80,
    "embedded_validation": 6,
    "embedded_test": 7,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "attention_heads": 2,
    "ffn_dim": 32,
    "vocab_size": 300,
    "per_device_train_batch_size": 8,
    "num_beams": 2,
    "chts.sparsity": 0.8,
    "chts.update_interval": 2,
}


def _run(
    folder: Path, script: str, start: list[str], *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(script)
    return subprocess.run(
        [
            sys.executable,
            "-m",
            *start,
            str(folder / "script.py"),
            str(folder / "found.pt"),
            *options,
        ],
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


def _demo(folder: Path, **changes: object) -> list[str]:
    options = {"output_dir": folder / "out", **DEMO, **changes}
    given = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    return ["configs/demo.yaml", *given]


def _check_demo(folder: Path, processes: int) -> None:
    results = json.loads((folder / "out" / "all_results.json").read_text())
    assert results["processes"] == processes
    assert results["topology_updates"] == 3
    assert results["sparsity"] == pytest.approx(0.8, abs=0.005)
    assert results["nonzero_parameters"] < results["total_parameters"]
    model = load_sparse(folder / "out")
    weights = [target.weight for target in find_targets(model, CHTsConfig(sparsity=0.8))]
    assert sum(weight.numel() for weight in weights) == results["sparsified_weights"]
    assert sum(int(torch.count_nonzero(weight)) for weight in weights) <= results["links"]
    last = folder / "out" / "checkpoint-8"
    assert last_complete_checkpoint(folder / "out") == str(last)
    assert (last / "pytorch_model_fsdp_0" / ".metadata").is_file()
    assert read_history(folder / "out") is not None


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.skipif(torch.cuda.is_available(), reason="there the launcher's test does the same")
def test_the_recipe_of_the_page(tmp_path):
    """With the settings of the configuration as accelerate's launcher hands them over."""
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["fsdp_config"]
    settings = {name.upper(): str(value).lower() for name, value in config.items()}
    settings |= {name: settings[name].upper() for name in ("FSDP_AUTO_WRAP_POLICY", STATES)}
    settings |= {"ACCELERATE_USE_CPU": "true", "ACCELERATE_USE_FSDP": "true"}
    start = ["torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = _run(tmp_path, RECIPE, start, *_demo(tmp_path, use_cpu=True), **settings)
    assert done.returncode == 0, done.stderr[-3000:]
    _check_demo(tmp_path, 2)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.distributed
def test_the_recipe_of_the_page_on_gpus(tmp_path):
    if torch.cuda.device_count() < 2:
        pytest.skip("accelerate shards over several GPUs only")
    processes = torch.cuda.device_count()
    done = _run(tmp_path, RECIPE, _launch(processes), *_demo(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    _check_demo(tmp_path, processes)
