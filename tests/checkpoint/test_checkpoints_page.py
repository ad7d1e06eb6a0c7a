"""The examples of docs/checkpoints.md run as they are printed, in the order they are printed."""

from __future__ import annotations

import re
from pathlib import Path

from transformers import AutoModelForSeq2SeqLM

from chts_hf import Sparsifier
from chts_hf.checkpoint.layout import LAYOUTS
from chts_hf.checkpoint.section import FORMAT_VERSION, Section
from tests.checkpoint.sparse_models import assert_same_weights, sparse_marian

PAGE = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text(encoding="utf-8")


def test_the_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"<!-- test: (.*?) -->\n```python\n(.*?)```", PAGE, re.S)
    assert [name for name, _ in examples] == ["round trip", "train on", "dense copy", "export"]
    assert PAGE.count("```python") == len(examples)
    model = sparse_marian()
    names = {"model": model, "optimizer": None, "AutoModelForSeq2SeqLM": AutoModelForSeq2SeqLM}
    for _, code in examples:
        exec(code, names)
    for name in ("same", "dense", "sparse"):
        assert_same_weights(model, names[name])
    assert isinstance(names["sparsifier"], Sparsifier)
    printed = capsys.readouterr().out
    assert "of the dense file" in printed
    assert "checksums True" in printed


def test_the_page_names_every_layout_key_and_the_version():
    for layout in LAYOUTS:
        assert f"| `{layout}` |" in PAGE
    for key in Section({}, {}).to_dict():
        assert f"`{key}`" in PAGE
    assert f"## The format, version {FORMAT_VERSION}\n" in PAGE
