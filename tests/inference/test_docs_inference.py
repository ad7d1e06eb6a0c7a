"""The page on inference: its examples run as they are printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from chts_hf.inference import SparseLinear, sizes
from chts_hf.inference.beams import SHARED
from tests.inference.models import SEQ2SEQ, sentences, sparsify

PAGE = Path(__file__).parents[2] / "docs" / "inference.md"


def example(title: str) -> str:
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(rf"<!-- test: {title} -->\n```python\n(.*?)```", text, re.S)
    assert found is not None
    return found[1]


def test_the_example_of_sparse_inference():
    model = SEQ2SEQ["marian"]()
    sparsify(model, 0.9)
    want = model.eval().generate(**sentences(), num_beams=4)
    names = {"model": model, "batch": sentences()}
    exec(example("sparse inference"), names)
    assert torch.equal(names["tokens"], want)


def test_the_example_of_shared_encodings():
    model = SEQ2SEQ["marian"]()
    exec(example("share encodings"), {"model": model})
    assert model.config._attn_implementation == SHARED


def test_the_example_of_speed(capsys):
    model = SEQ2SEQ["marian"]()
    sparsify(model, 0.9)
    names = {"model": model, "batch": sentences()}
    exec(example("speed"), names)
    (line,) = capsys.readouterr().out.splitlines()
    assert ("times as fast" if names["speed"].sparse_layers else "no layer is faster") in line


def test_the_example_of_compact(tmp_path, capsys):
    model = SEQ2SEQ["marian"]()
    sparsify(model, 0.9)
    names = {"model": model, "folder": tmp_path}
    exec(example("compact"), names)
    assert "parameters before" in capsys.readouterr().out
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert loaded.config.encoder_ffn_dim < 32
    assert not any(isinstance(module, SparseLinear) for module in loaded.modules())


def test_the_example_of_other_sizes(monkeypatch):
    monkeypatch.setattr(sizes, "_SIZES", dict(sizes._SIZES))
    names: dict[str, object] = {}
    exec(example("register sizes"), names)
    config = type("Config", (), {})()
    assert sizes.sizes_of("my_mlp")(config, {"a": 3, "b": 5}) == {"a": 3, "b": 5}
    assert config.hidden_sizes == [3, 5]
    needed = {"encoder.0": 3, "encoder.1": 4, "decoder.0": 7}
    assert sizes.sizes_of("my_bart")(config, needed) == {
        "encoder.0": 4,
        "encoder.1": 4,
        "decoder.0": 7,
    }


@pytest.mark.parametrize("claim", ["a value and 8 bits for", "0.13 of its dense size"])
def test_what_the_page_says_of_the_size_of_a_link(claim):
    assert claim in PAGE.read_text(encoding="utf-8")
    generator = torch.Generator().manual_seed(0)
    weight = (torch.rand(1024, 1024, generator=generator) < 0.1).float()
    layer = SparseLinear(weight, None, "native")
    assert layer.get_buffer("column").dtype == torch.uint8
    size = sum(links.element_size() * links.numel() for links in layer.buffers())
    assert round(size / (4 * weight.numel()), 2) == 0.13
