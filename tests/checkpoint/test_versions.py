"""Files of every version that was ever written stay readable."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForSeq2SeqLM

from chts_hf import SparseFileError
from chts_hf.checkpoint.section import FORMAT_VERSION, READABLE_VERSIONS, Section
from tests.checkpoint.sparse_models import assert_same_weights, sparse_marian

MASKED = "model.encoder.layers.0.fc1.weight"
GAPS4 = "model.encoder.layers.0.fc2.weight"
GAPS8 = "model.decoder.layers.0.fc1.weight"
DENSE = "model.decoder.layers.0.fc2.weight"


def write_version_1(model, folder: Path) -> None:
    """A checkpoint as chts_hf 0.1 writes it, made here without any of its code."""
    model.save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    tied = ("lm_head.weight", "embed_tokens.weight")
    tensors = {n: t.clone() for n, t in model.state_dict().items() if not n.endswith(tied)}
    layers = {}
    for name, layout in [(MASKED, "bitmask"), (GAPS4, "gaps4"), (GAPS8, "gaps8")]:
        weight = tensors[name]
        flat = (weight.reshape(-1) != 0).tolist()
        tensors[name] = weight[weight != 0]
        stream = {"bitmask": bits, "gaps4": nibbles, "gaps8": lambda f: gaps(f, 255)}[layout](flat)
        tensors[name + ".links"] = torch.tensor(stream, dtype=torch.uint8)
        layers[name] = (layout, weight)
    layers[DENSE] = ("dense", tensors[DENSE])
    described = {
        name: {
            "kind": "ffn.up",
            "shape": list(weight.shape),
            "links": int((weight != 0).sum()),
            "layout": layout,
            "dtype": "F32",
        }
        for name, (layout, weight) in layers.items()
    }
    links = sum(layer["links"] for layer in described.values())
    weights = sum(weight.numel() for _, weight in layers.values())
    section = {
        "quant_method": "chts_hf",
        "format_version": 1,
        "method": "chts",
        "config": {"method": "chts", "sparsity": 0.9},
        "metadata": {},
        "sparsity": {
            "links": links,
            "weights": weights,
            "sparsity": 1 - links / weights,
            "layers": described,
        },
        "checksums": {n: zlib.crc32(t.contiguous().numpy().data) for n, t in tensors.items()},
    }
    save_file(tensors, folder / "model-0123456789abcdef.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "quantization_config": section,
        "transformers_weights": "model-0123456789abcdef.safetensors",
    }
    (folder / "config.json").write_text(json.dumps(config))


def bits(flat: list[bool]) -> list[int]:
    text = "".join("01"[link] for link in flat)
    text += "0" * (-len(text) % 8)
    return [int(text[i : i + 8], 2) for i in range(0, len(text), 8)]


def gaps(flat: list[bool], skip: int) -> list[int]:
    codes, gap = [], 0
    for link in flat:
        if link:
            codes += [skip] * (gap // skip) + [gap % skip]
            gap = 0
        else:
            gap += 1
    return codes


def nibbles(flat: list[bool]) -> list[int]:
    codes = gaps(flat, 15)
    codes += [15] * (len(codes) % 2)
    return [16 * high + low for high, low in zip(codes[::2], codes[1::2], strict=True)]


def test_version_1_is_read(tmp_path):
    model = sparse_marian(0.9)
    write_version_1(model, tmp_path)
    assert_same_weights(model, AutoModelForSeq2SeqLM.from_pretrained(tmp_path))


def test_what_is_written_can_be_read():
    assert READABLE_VERSIONS[-1] == FORMAT_VERSION
    written = Section({}, {}).to_dict()
    assert Section.from_dict(written) == Section({}, {})


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 1000])
def test_a_newer_version_is_refused_by_its_number(tmp_path, version):
    write_version_1(sparse_marian(), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"format_version": 1', f'"format_version": {version}'))
    with pytest.raises(SparseFileError, match=rf"format version {version}; .* reads 1\. Install"):
        AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
