"""Saving and exporting stream: beside a model in use no more than about a layer is in memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# In a process of its own, because the peak of a process never falls.
START = """
import ctypes, gc, sys
from pathlib import Path
import torch
from chts_hf import find_targets, save_sparse
from chts_hf.checkpoint.export import densify, sparsify
from chts_hf.checkpoint.inspection import verify
from tests.inference.models import tiny_t5

def resident(field):
    status = Path("/proc/self/status").read_text()
    return int(next(x for x in status.splitlines() if x.startswith(field + ":")).split()[1]) * 1024

def sparse(**sizes):
    model = tiny_t5(**sizes)
    with torch.no_grad():
        for target in find_targets(model):
            target.weight.mul_(torch.rand_like(target.weight) < 0.1)
    return model

def peak_of(action):
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = resident("VmRSS")
    action()
    return resident("VmHWM") - before

folder = sys.argv[1]
model = sparse(d_model=640, d_kv=64, num_heads=10, d_ff=2560, num_layers=2)
weights = [p.numel() * p.element_size() for p in model.parameters()]
sizes = [sum(weights), max(weights)]
"""

SAVE = """
save_sparse(sparse(), folder + "/first")  # what the libraries take when used
print(*sizes, peak_of(lambda: save_sparse(model, folder + "/second")))
"""

EXPORT = """
for number, made in enumerate((sparse(), model)):
    start, shards = f"{folder}/{number}", {"max_shard_size": sys.argv[2]}
    made.save_pretrained(start + "dense", **shards)
    save_sparse(made, start + "sparse", **shards)
    del made
    model = None
    if not number:  # what the libraries take when used
        sparsify(start + "dense", start + "s")
        densify(start + "sparse", start + "d")
        verify(start + "sparse")
peaks = [
    peak_of(lambda: sparsify(start + "dense", start + "s", **shards)),
    peak_of(lambda: densify(start + "sparse", start + "d", **shards)),
    peak_of(lambda: verify(start + "sparse")),
]
print(*sizes, *peaks)
"""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="peaks are reset by Linux only"
)


def run(script: str, *arguments: str) -> list[int]:
    """The bytes of the model, of its largest weight, and the peaks."""
    # What is freed is no longer counted. (glibc does so by itself from 32 MB on; smaller pieces it
    # keeps for later, between others, so that the peaks of small models come out by chance.)
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", START + script, *arguments]
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=True, timeout=240
    )
    return list(map(int, ran.stdout.split()))


def test_the_peak_of_saving_is_a_layer(tmp_path: Path) -> None:
    model, largest, peak = run(SAVE, str(tmp_path))
    assert model > 10 * largest
    assert peak <= 2 * largest


def test_the_peaks_of_exporting_and_verifying_are_a_layer_or_two(tmp_path: Path) -> None:
    """From shards into shards."""
    model, largest, *peaks = run(EXPORT, str(tmp_path), "20MB")
    assert len(list((tmp_path / "1d").glob("*.safetensors"))) > 3
    assert model > 10 * largest
    assert len(peaks) == 3
    assert max(peaks) <= 2 * largest
