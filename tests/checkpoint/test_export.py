"""Checkpoint folders turned from dense to sparse and back, and looked into."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from transformers import AutoModelForSeq2SeqLM

from chts_hf import CHTsConfig, SparseFileError, load_sparse, save_sparse
from chts_hf.checkpoint.export import densify, sparsify
from chts_hf.checkpoint.inspection import inspect_file, verify
from tests.checkpoint.sparse_models import assert_same_weights, nonzero, sparse_marian


@pytest.fixture
def dense(tmp_path):
    model = sparse_marian()
    model.save_pretrained(tmp_path / "dense")
    (tmp_path / "dense" / "README.md").write_text("a card")
    (tmp_path / "dense" / "vocab.json").write_text("{}")
    return tmp_path / "dense"


def test_there_and_back(dense, tmp_path):
    sizes = sparsify(dense, tmp_path / "sparse", config=CHTsConfig(method="set"))
    assert sizes.sparsified_ratio < 0.15
    assert_same_weights(sparse_marian(), load_sparse(tmp_path / "sparse"))
    assert inspect_file(tmp_path / "sparse").method == "set"
    densify(tmp_path / "sparse", tmp_path / "back")
    assert_same_weights(sparse_marian(), AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "back"))
    config = (tmp_path / "back" / "config.json").read_text()
    assert json.loads(config) == json.loads((dense / "config.json").read_text())
    assert sorted(p.name for p in (tmp_path / "back").iterdir()) == sorted(
        p.name for p in dense.iterdir()
    )
    assert (tmp_path / "back" / "README.md").read_text() == "a card"


def test_a_folder_is_not_turned_into_itself_nor_twice(dense, tmp_path):
    for function in (sparsify, densify):
        with pytest.raises(ValueError, match="another folder"):
            function(dense, dense / ".")
    with pytest.raises(SparseFileError, match="no sparse checkpoint"):
        densify(dense, tmp_path / "out")
    sparsify(dense, tmp_path / "sparse")
    with pytest.raises(SparseFileError, match="sparse checkpoint already"):
        sparsify(tmp_path / "sparse", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_class_that_is_not_transformers_own_is_refused(dense, tmp_path):
    path = dense / "config.json"
    path.write_text(path.read_text().replace("MarianMTModel", "MyModel"))
    with pytest.raises(ValueError, match=r"architectures=\['MyModel'\], no model class"):
        sparsify(dense, tmp_path / "out")


@pytest.mark.parametrize("shards", [{}, {"max_shard_size": "5KB"}], ids=["one file", "shards"])
def test_inspection_says_what_was_saved(tmp_path, shards):
    model = sparse_marian()
    sizes = save_sparse(model, tmp_path, metadata={"bleu": 3}, **shards)
    report = inspect_file(tmp_path)
    assert report.sizes == sizes
    assert report.metadata == {"bleu": 3}
    assert (report.architecture, report.format_version) == ("MarianMTModel", 1)
    assert sorted(report.files) == sorted(p.name for p in tmp_path.glob("*.safetensors"))
    masks = nonzero(model)
    assert {layer.name: layer.links for layer in report.layers} == {
        name: int(mask.sum()) for name, mask in masks.items()
    }
    for layer in report.layers:
        assert layer.shape == tuple(masks[layer.name].shape)
        assert layer.sparsity == pytest.approx(1 - masks[layer.name].float().mean().item())
        assert layer.dense_bytes == 4 * masks[layer.name].numel()
        assert 4 * layer.links < layer.bytes < layer.dense_bytes
    assert report.sparsity == pytest.approx(0.9, abs=0.01)
    json.dumps(asdict(report))


def test_verification_names_each_check_and_what_it_found(tmp_path):
    model = sparse_marian()
    save_sparse(model, tmp_path)
    found = verify(tmp_path)
    assert found.passed
    names = ["config", "headers", "checksums", "links", "zeros", "finite"]
    assert [check.name for check in found.checks] == names
    links = sum(int(mask.sum()) for mask in nonzero(model).values())
    assert f"{links} links" in found.checks[3].detail
    path = next(tmp_path.glob("*.safetensors"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # of the last stream of positions
    path.write_bytes(bytes(data))
    failed = {check.name: check.detail for check in verify(tmp_path).checks if not check.passed}
    assert "model.encoder.layers.0.self_attn.v_proj.weight.links" in failed["checksums"]
