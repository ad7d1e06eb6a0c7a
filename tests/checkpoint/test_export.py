"""Checkpoint folders turned from dense to sparse and back, and looked into."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel

from chts_hf import (
    CHTsCallback,
    CHTsConfig,
    MaskFileError,
    SparseFileError,
    load_sparse,
    save_sparse,
)
from chts_hf.checkpoint import inspection, tensor_file
from chts_hf.checkpoint.export import densify, sparsify
from chts_hf.checkpoint.inspection import inspect_file, verify
from chts_hf.checkpoint.mask_file import MASK_FILE, load_masks
from chts_hf.checkpoint.save import write_dense
from chts_hf.vision import MLPConfig, MLPForImageClassification
from tests.architectures import ARCHITECTURES
from tests.builders import tiny_trainer
from tests.checkpoint.damage import edit, edit_section, flip, weights
from tests.checkpoint.sparse_models import UP, assert_same_weights, nonzero, prune, sparse_marian


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


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def without_files(cls, folder, _of=PreTrainedModel.from_pretrained.__func__, **options):
    assert folder is None
    return _of(cls, folder, **options)


@pytest.mark.parametrize(
    "name", ["Marian", "T5 v1.1", "BERT + GPT-2", "GPT-2", "SwitchTransformers", "FSMT"]
)
@pytest.mark.parametrize("shards", ["5GB", "4KB"])
def test_a_tensor_at_a_time_gives_the_files_of_the_whole_model(tmp_path, monkeypatch, name, shards):
    torch.manual_seed(0)
    model = prune(ARCHITECTURES[name].build()).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "given", max_shard_size=shards)
    loaded = type(model).from_pretrained(tmp_path / "given")
    sizes = save_sparse(loaded, tmp_path / "sparse", dense_copy=True, max_shard_size=shards)
    write_dense(load_sparse(tmp_path / "sparse" / "sparse"), tmp_path / "dense", None, shards)
    monkeypatch.setattr(PreTrainedModel, "from_pretrained", classmethod(without_files))
    sparse, dense = tmp_path / "own sparse", tmp_path / "own dense"
    assert sparsify(tmp_path / "given", sparse, dense_copy=True, max_shard_size=shards) == sizes
    assert contents(sparse) == contents(tmp_path / "sparse")
    densify(sparse / "sparse", dense, max_shard_size=shards)
    assert contents(dense) == contents(tmp_path / "dense")
    assert (len(list(dense.glob("*.safetensors"))) > 2) == (shards == "4KB")


def test_a_dense_folder_in_another_form_is_read_by_transformers(dense, tmp_path):
    """A tensor that the model has no use for, and a pickled file."""
    stored = load_file(weights(dense))
    save_file(stored | {"old": torch.ones(2)}, weights(dense), metadata={"format": "pt"})
    sparsify(dense, tmp_path / "more")
    weights(dense).unlink()
    torch.save(stored, dense / "pytorch_model.bin")
    sparsify(dense, tmp_path / "pickled")
    for made in ("more", "pickled"):
        assert_same_weights(sparse_marian(), load_sparse(tmp_path / made))


def test_a_dense_folder_without_all_weights_is_refused(dense, tmp_path):
    stored = load_file(weights(dense))
    del stored["model.encoder.layers.0.fc1.weight"]
    save_file(stored, weights(dense), metadata={"format": "pt"})
    with pytest.raises(SparseFileError, match=r"missing: model\.encoder\.layers\.0\.fc1\.weight$"):
        sparsify(dense, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("field", ["bfloat16", "float32"])
def test_each_tensor_keeps_its_dtype(dense, tmp_path, field):
    """Whatever type config.json says that the model is to be loaded in."""
    kept = ("model.encoder.layers.0.final_layer_norm.weight", UP)
    stored = {
        name: tensor + (tensor != 0) * 1e-4 if name in kept else tensor.to(torch.bfloat16)
        for name, tensor in load_file(weights(dense)).items()
    }
    assert not torch.equal(stored[UP], stored[UP].to(torch.bfloat16).float())
    save_file(stored, weights(dense), metadata={"format": "pt"})
    edit(dense / "config.json", lambda values: values.update(dtype=field))
    sizes = sparsify(dense, tmp_path / "sparse")
    assert sizes.dense_bytes == weights(dense).stat().st_size
    assert verify(tmp_path / "sparse").passed
    types = {layer.name: layer.dtype for layer in inspect_file(tmp_path / "sparse").layers}
    assert types.pop(UP) == "F32"
    assert set(types.values()) == {"BF16"}
    densify(tmp_path / "sparse", tmp_path / "back")
    found = load_file(weights(tmp_path / "back"))
    assert found.keys() == stored.keys()
    for name, tensor in stored.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name
    loaded = AutoModelForSeq2SeqLM.from_pretrained(dense)
    assert_same_weights(loaded, AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "back"))
    assert_same_weights(loaded, load_sparse(tmp_path / "sparse"))


@pytest.mark.parametrize("wrong", ["missing", "of another shape"])
def test_a_pickled_folder_without_all_weights_is_refused(dense, tmp_path, wrong):
    stored = load_file(weights(dense))
    weights(dense).unlink()
    stored[UP] = stored[UP][1:].clone()
    if wrong == "missing":
        del stored[UP]
    torch.save(stored, dense / "pytorch_model.bin")
    with pytest.raises(SparseFileError, match=rf"MarianMTModel .* {wrong}: {re.escape(UP)}$"):
        sparsify(dense, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_in_other_files_are_not_copied(dense, tmp_path):
    left = ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"]
    for name in [*left, "pytorch_model.txt", "notes.bin"]:
        (dense / name).write_text("{}")
    sparsify(dense, tmp_path / "sparse")
    for name in left:
        assert not (tmp_path / "sparse" / name).exists()
        (tmp_path / "sparse" / name).write_text("{}")
    densify(tmp_path / "sparse", tmp_path / "back")
    copied = {path.name for path in (tmp_path / "back").iterdir()}
    assert {"README.md", "pytorch_model.txt", "notes.bin"} <= copied
    assert not copied & set(left)


MLP = """
from pathlib import Path
import sys
from chts_hf import load_sparse
from chts_hf.checkpoint.export import densify, sparsify
from chts_hf.checkpoint.inspection import verify

folder = Path(sys.argv[1])
print(type(load_sparse(folder / "sparse")).__name__)
densify(folder / "sparse", folder / "dense")
sparsify(folder / "dense", folder / "again")
print({check.name: check.passed for check in verify(folder / "again").checks}["model"])
"""


def test_the_packages_own_model_is_known_without_importing_it(tmp_path):
    config = MLPConfig(image_size=(4, 4), hidden_sizes=[16, 12, 8], num_labels=5)
    model = prune(MLPForImageClassification(config), 0.8)
    save_sparse(model, tmp_path / "sparse")
    command = [sys.executable, "-c", MLP, str(tmp_path)]
    ran = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=240
    )
    assert ran.stdout.split() == ["MLPForImageClassification", "True"], ran.stderr
    assert_same_weights(model, MLPForImageClassification.from_pretrained(tmp_path / "dense"))
    assert_same_weights(model, load_sparse(tmp_path / "again"))
    edit_section(tmp_path / "again", lambda section: section.pop("config_checksums"))
    edit(tmp_path / "again" / "config.json", lambda values: values.update(hidden_sizes=[16, 12, 9]))
    (failed,) = [check for check in verify(tmp_path / "again").checks if not check.passed]
    assert failed.name == "model"


def test_a_damaged_checkpoint_is_not_exported(dense, tmp_path):
    sparsify(dense, tmp_path / "sparse")
    flip(weights(tmp_path / "sparse"), -3)
    with pytest.raises(SparseFileError, match="checksum"):
        densify(tmp_path / "sparse", tmp_path / "out")
    assert not (tmp_path / "out").exists()


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


@pytest.mark.parametrize("value", [float("nan"), float("-inf")], ids=str)
def test_verification_reads_every_number(tmp_path, value, monkeypatch):
    monkeypatch.setattr(tensor_file, "_CHUNK", 1 << 10)
    model = sparse_marian().to(torch.bfloat16)
    model.model.shared.weight.data[-1, -1] = value
    save_sparse(model, tmp_path)
    failed = {c.name: c.detail for c in verify(tmp_path).checks if not c.passed}
    assert failed == {"finite": "model.shared.weight"}


@pytest.mark.parametrize("during", ["model_class_of", "skeleton"])
def test_a_model_that_needs_another_package_is_not_checked(tmp_path, monkeypatch, during):
    def needs(*arguments):
        raise ImportError("MarianMTModel requires the frobnicate library")

    save_sparse(sparse_marian(), tmp_path)
    monkeypatch.setattr(inspection, during, needs)
    found = verify(tmp_path)
    assert found.passed
    (skipped,) = [check for check in found.checks if check.passed is None]
    assert skipped.name == "model"
    assert "requires the frobnicate library" in skipped.detail


def test_what_is_not_the_files_fault_is_raised(tmp_path, monkeypatch):
    def fails(*arguments):
        raise MemoryError

    save_sparse(sparse_marian(), tmp_path)
    monkeypatch.setattr(inspection, "skeleton", fails)
    with pytest.raises(MemoryError):
        verify(tmp_path)


@pytest.fixture
def without_links(tmp_path):
    model = sparse_marian()
    model.get_parameter(UP).data.zero_()
    save_sparse(model, tmp_path / "sparse")
    assert {layer.name: layer.links for layer in inspect_file(tmp_path / "sparse").layers}[UP] == 0
    return model


def test_a_layer_without_links_is_sound(without_links, tmp_path):
    found = verify(tmp_path / "sparse")
    assert found.passed, found
    densify(tmp_path / "sparse", tmp_path / "dense")
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "dense")
    assert_same_weights(without_links, loaded)


def test_links_are_counted_in_a_layer_that_is_stored_dense(tmp_path):
    model = sparse_marian(0.01)
    save_sparse(model, tmp_path)
    layers = {layer.name: layer for layer in inspect_file(tmp_path).layers}
    assert layers[UP].layout == "dense"
    assert layers[UP].sparsity > 0
    weight = model.get_parameter(UP).data.clone()
    weight[weight != 0] *= torch.arange(int((weight != 0).sum())).clamp(max=1)  # the first: 0
    stored = load_file(weights(tmp_path))
    save_file(stored | {UP: weight}, weights(tmp_path), metadata={"format": "pt"})
    checks = {check.name: check for check in verify(tmp_path).checks}
    assert not checks["links"].passed
    assert checks["links"].detail == UP


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A checkpoint of the Trainer, whose new links have the weight 0 still."""
    folder = tmp_path_factory.mktemp("run")
    config = CHTsConfig(method="set", sparsity=0.8, update_interval=2, zeta=0.3)
    tiny_trainer(
        folder, [CHTsCallback(config)], steps=4, save_strategy="steps", save_steps=2
    ).train()
    return folder / "checkpoint-2"


def test_of_a_training_checkpoint_the_masks_are_kept_and_the_trainers_state_is_not(
    checkpoint, tmp_path
):
    names = {path.name for path in checkpoint.iterdir()}
    assert {"optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"} <= names
    state, config = load_masks(checkpoint)
    sparsify(checkpoint, tmp_path)
    report = inspect_file(tmp_path)
    assert (report.method, report.config) == ("set", config.to_dict())
    links = {name: int(mask.sum()) for name, mask in state["masks"].items()}
    assert {layer.name: layer.links for layer in report.layers} == links
    stored = load_file(checkpoint / "model.safetensors")
    assert sum(links.values()) > sum(int((stored[name] != 0).sum()) for name in links)
    assert verify(tmp_path).passed
    plain = AutoModelForSeq2SeqLM.from_pretrained(checkpoint)
    assert_same_weights(plain, load_sparse(tmp_path))
    (weight_file,) = report.files
    assert {p.name for p in tmp_path.iterdir()} - names == {weight_file}
    left = names & {p.name for p in tmp_path.iterdir()}
    assert left == {"config.json", "generation_config.json"}


def test_masks_of_another_model_are_refused(dense, checkpoint, tmp_path):
    shutil.copy(checkpoint / MASK_FILE, dense)
    with pytest.raises(MaskFileError, match="is of another model: .* has the shape"):
        sparsify(dense, tmp_path / "out")


def test_files_are_put_on_the_disk_where_that_needs_the_right_to_write(tmp_path, monkeypatch):
    """As on Windows."""
    fcntl = pytest.importorskip("fcntl")

    def fsync(handle: int) -> None:
        readable = fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        if readable and not stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(os, "fsync", fsync)
    save_sparse(sparse_marian(), tmp_path, dense_copy=True)
    assert verify(tmp_path / "sparse").passed


def test_verification_names_each_check_and_what_it_found(tmp_path):
    model = sparse_marian()
    save_sparse(model, tmp_path)
    found = verify(tmp_path)
    assert found.passed
    names = ["config", "headers", "model", "checksums", "links", "finite"]
    assert [check.name for check in found.checks] == names
    assert "MarianMTModel" in found.checks[2].detail
    links = sum(int(mask.sum()) for mask in nonzero(model).values())
    assert f"{links} links" in found.checks[4].detail
    path = next(tmp_path.glob("*.safetensors"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # of the last stream of positions
    path.write_bytes(bytes(data))
    failed = {check.name: check.detail for check in verify(tmp_path).checks if not check.passed}
    assert "model.encoder.layers.0.self_attn.v_proj.weight.links" in failed["checksums"]
