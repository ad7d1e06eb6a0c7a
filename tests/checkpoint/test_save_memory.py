"""Saving streams: beside the model itself no more than about a layer is in memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# In a process of its own, because the peak of a process never falls.
SCRIPT = """
import ctypes, gc, sys
from pathlib import Path
import torch
from chts_hf import find_targets, save_sparse
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

folder = sys.argv[1]
save_sparse(sparse(), folder + "/first")  # what the libraries take when used
model = sparse(d_model=768, d_kv=64, num_heads=12, d_ff=3072, num_layers=3)
gc.collect()
ctypes.CDLL(None).malloc_trim(0)
Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
before = resident("VmRSS")
save_sparse(model, folder + "/second")
weights = [p.numel() * p.element_size() for p in model.parameters()]
print(sum(weights), max(weights), resident("VmHWM") - before)
"""


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="peaks are reset by Linux only"
)
def test_the_peak_of_saving_is_a_layer(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    root = Path(__file__).parents[2]
    ran = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=240)
    model, largest, peak = map(int, ran.stdout.split()[-3:])
    assert model > 15 * largest
    assert peak <= 2 * largest
