"""Small saved models that the commands work on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from chts_hf import CHTsConfig, find_targets, save_sparse
from chts_hf.translation.tokenizers import TokenizerPair, train_tokenizer
from tests.builders import tiny_marian

SENTENCES = ["the dog sees the house", "a cat sleeps", "the big dog and the cat sleep"]
CONFIG = CHTsConfig(sparsity=0.9)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one model twice: "sparse" and "dense", with tokenizers. Not to be changed."""
    root = tmp_path_factory.mktemp("saved")
    tokenizer = train_tokenizer(SENTENCES, 300)
    # Untrained, but with weights so large that what it says depends on what it is told; this seed's
    # answers differ, and one of them has a line feed in it.
    model = tiny_marian(7, vocab_size=len(tokenizer), d_model=32, encoder_ffn_dim=64, init_std=1.5)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for target in find_targets(model, CONFIG):
            target.weight[torch.rand(target.weight.shape, generator=generator) < 0.9] = 0
    save_sparse(model, root / "sparse", config=CONFIG)
    model.save_pretrained(root / "dense")
    for name in ("sparse", "dense"):
        TokenizerPair(tokenizer, tokenizer).save(root / name)
    return root


@pytest.fixture
def sparse(saved: Path, tmp_path: Path) -> Path:
    """A copy of the sparse folder, to be changed at will."""
    return Path(shutil.copytree(saved / "sparse", tmp_path / "sparse"))
