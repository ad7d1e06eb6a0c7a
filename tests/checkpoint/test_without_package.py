"""What transformers alone makes of the folders: an error or the right weights, never random ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from chts_hf import load_sparse, save_sparse
from tests.checkpoint.sparse_models import assert_same_weights, sparse_marian

pytestmark = pytest.mark.distributed

SCRIPT = """
import sys
sys.modules["chts_hf"] = None  # whatever is installed, it cannot be imported
import transformers
from safetensors.torch import save_file
model = getattr(transformers, sys.argv[2]).from_pretrained(sys.argv[1])
assert not any(name.startswith("chts_hf.") for name in sys.modules)
save_file({n: t.clone() for n, t in model.state_dict().items()}, sys.argv[3])
"""


def load_plainly(folder: Path, out: Path, auto: str = "AutoModelForSeq2SeqLM"):
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), auto, str(out)],
        capture_output=True,
        text=True,
        cwd=out.parent,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )


@pytest.mark.parametrize(
    ("sparsity", "auto"),
    [(0.9, "AutoModelForSeq2SeqLM"), (0.9, "AutoModel"), (1.0, "AutoModelForSeq2SeqLM")],
)
def test_a_sparse_checkpoint_is_refused_and_says_what_is_missing(tmp_path, sparsity, auto):
    save_sparse(sparse_marian(sparsity), tmp_path / "saved")
    ran = load_plainly(tmp_path / "saved", tmp_path / "out", auto)
    assert ran.returncode == 1
    assert "size mismatch" in ran.stderr
    assert "chts_hf" in ran.stderr
    assert "RuntimeError" in ran.stderr
    assert not (tmp_path / "out").exists()


def test_a_dense_copy_is_right_without_and_with_the_package(tmp_path):
    model = sparse_marian()
    folder = tmp_path / "saved"
    save_sparse(model, folder, dense_copy=True)
    ran = load_plainly(folder, tmp_path / "out")
    assert ran.returncode == 0, ran.stderr
    save_file({n: t.clone() for n, t in model.state_dict().items()}, tmp_path / "expected")
    assert (tmp_path / "out").read_bytes() == (tmp_path / "expected").read_bytes()
    assert "Unknown quantization" not in ran.stderr
    assert_same_weights(model, type(model).from_pretrained(folder))
    assert_same_weights(model, load_sparse(folder, subfolder="sparse"))
    with pytest.raises(RuntimeError, match='subfolder="sparse"'):
        load_sparse(folder)


def test_a_checkpoint_without_zeros_is_plain(tmp_path):
    torch.manual_seed(0)
    model = sparse_marian(0.0)
    save_sparse(model, tmp_path / "saved")
    ran = load_plainly(tmp_path / "saved", tmp_path / "out")
    assert ran.returncode == 0, ran.stderr
    save_file({n: t.clone() for n, t in model.state_dict().items()}, tmp_path / "expected")
    assert (tmp_path / "out").read_bytes() == (tmp_path / "expected").read_bytes()
