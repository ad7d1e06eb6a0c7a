"""What transformers alone makes of such folders: an error or the right weights, no random ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from chts_hf import load_sparse, save_sparse
from tests.checkpoint.sparse_models import assert_same_weights, sparse_marian

pytestmark = pytest.mark.distributed

# One process for all cases, each "FOLDER:CLASS"; what it says of each stands behind a line "== n".
SCRIPT = """
import sys
sys.modules["chts_hf"] = None  # whatever is installed, it cannot be imported
import transformers
from safetensors.torch import save_file
for number, case in enumerate(sys.argv[1:]):
    folder, _, auto = case.partition(":")
    print("==", number, file=sys.stderr, flush=True)
    try:
        model = getattr(transformers, auto).from_pretrained(folder)
    except Exception as error:
        print("RAISED", type(error).__name__, file=sys.stderr, flush=True)
    else:
        save_file({n: t.clone() for n, t in model.state_dict().items()}, f"out{number}")
assert not any(name.startswith("chts_hf.") for name in sys.modules)
"""
SEQ2SEQ = "AutoModelForSeq2SeqLM"
CASES = {
    "sparse": ("nine tenths", SEQ2SEQ),
    "sparse, the model without its head": ("nine tenths", "AutoModel"),
    "no link at all": ("all zero", SEQ2SEQ),
    "no zero at all": ("no zero", SEQ2SEQ),
    "a dense copy": ("copied", SEQ2SEQ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    save_sparse(sparse_marian(0.9), folder / "nine tenths")
    save_sparse(sparse_marian(1.0), folder / "all zero")
    save_sparse(sparse_marian(0.0), folder / "no zero")
    save_sparse(sparse_marian(0.9), folder / "copied", dense_copy=True)
    return folder


@pytest.fixture(scope="module")
def said(folder) -> dict[str, str]:
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, *(":".join(case) for case in CASES.values())],
        capture_output=True,
        text=True,
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    assert ran.returncode == 0, ran.stderr
    parts = ran.stderr.split("== ")[1:]
    return dict(zip(CASES, parts, strict=True))


@pytest.mark.parametrize("case", list(CASES)[:3])
def test_a_sparse_checkpoint_is_refused_and_says_what_is_missing(folder, said, case):
    assert "RAISED RuntimeError" in said[case]
    assert "size mismatch" in said[case]
    assert "Unknown quantization type, got chts_hf" in said[case]
    assert not (folder / f"out{list(CASES).index(case)}").exists()


@pytest.mark.parametrize(("case", "sparsity"), [("no zero at all", 0.0), ("a dense copy", 0.9)])
def test_what_is_stored_dense_is_right(folder, said, case, sparsity):
    loaded = load_file(folder / f"out{list(CASES).index(case)}")
    expected = sparse_marian(sparsity).state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.items())


def test_a_dense_copy_is_right_with_the_package_too(folder, said):
    assert "Unknown quantization" not in said["a dense copy"]
    model = sparse_marian(0.9)
    assert_same_weights(model, type(model).from_pretrained(folder / "copied"))
    assert_same_weights(model, load_sparse(folder / "copied", subfolder="sparse"))
    with pytest.raises(RuntimeError, match='subfolder="sparse"'):
        load_sparse(folder / "copied")
