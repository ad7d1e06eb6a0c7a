"""A file from anywhere: damage is one clear error, no crash, big allocation or wrong weight."""

from __future__ import annotations

import json
import resource
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForSeq2SeqLM

from chts_hf import SparseFileError, load_sparse, save_sparse
from chts_hf.checkpoint.inspection import verify
from chts_hf.checkpoint.tensor_file import checksum, read_header
from tests.checkpoint.damage import (
    FUZZ,
    JSON,
    check,
    cut,
    edit,
    edit_header,
    edit_layer,
    edit_section,
    flip,
    set_in_header,
    twice,
    weights,
)
from tests.checkpoint.sparse_models import UP, sparse_marian


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    save_sparse(sparse_marian(d_model=16, encoder_ffn_dim=32), folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated by a byte": (lambda f: cut(weights(f), 1), "truncated"),
    "truncated to nothing": (lambda f: weights(f).write_bytes(b""), "truncated"),
    "truncated in its header": (lambda f: weights(f).write_bytes(weights(f).read_bytes()[:99]),
                                "truncated"),
    "bytes behind the end": (lambda f: weights(f).write_bytes(weights(f).read_bytes() + b"xx"),
                             "truncated or damaged"),
    "a header longer than the file": (
        lambda f: weights(f).write_bytes(b"\xff" * 7 + b"\x7f" + weights(f).read_bytes()[8:]),
        "truncated or no safetensors",
    ),
    "a flipped bit in the last tensor": (lambda f: flip(weights(f), -1), "checksum"),
    "a flipped bit in the first tensor": (
        lambda f: flip(weights(f), -sum(s.size for s in _stored(f).values())), "checksum"),
    "no weight file": (lambda f: weights(f).unlink(), "cannot be read"),
    "a header that is no JSON": (lambda f: edit_header(weights(f), lambda t: t[:-9]), "no JSON"),
    "a header nested without end": (
        lambda f: edit_header(weights(f), lambda t: "[" * 200_000), "no JSON"),
    "a tensor twice in the header": (
        lambda f: edit_header(weights(f), twice), "twice"),
    "a shape bomb in the header": (
        lambda f: set_in_header(weights(f), UP, shape=[2**40, 2**40]), "cannot have the shape"),
    "a negative size": (lambda f: set_in_header(weights(f), UP, shape=[-1]), "cannot have"),
    "offsets that overlap": (lambda f: set_in_header(weights(f), UP, data_offsets=[0, 4]), "lie"),
    "offsets beyond the file": (
        lambda f: set_in_header(weights(f), UP, data_offsets=[0, 2**60]), "lie"),
    "metadata that is no text": (
        lambda f: set_in_header(weights(f), "__metadata__", format=5), "__metadata__ must be"),
    "metadata that is a number": (
        lambda f: edit_header(weights(f), lambda t: t.replace('{"format":"pt"}', "7")),
        "__metadata__ must be"),
    "half a character in the metadata": (
        lambda f: set_in_header(weights(f), "__metadata__", format="\ud800"), "cannot be read"),
    "an unknown dtype": (lambda f: set_in_header(weights(f), UP, dtype="F7"), "unknown dtype"),
    "a shape bomb in the section": (
        lambda f: edit_layer(f, shape=[2**23, 2**23]), "weights"),
    "another shape with room for the links": (
        lambda f: (edit_layer(f, shape=[64, 32]), edit_section(
            f, lambda s: s["sparsity"].update(weights=s["sparsity"]["weights"] + 64 * 32 - 512))),
        "shape"),
    "a link too few": (lambda f: edit_layer(f, links=3), "links"),
    "NaN links": (lambda f: edit_layer(f, links=float("nan")), "must be a count"),
    "infinitely many links": (lambda f: edit_layer(f, links=float("inf")), "must be a count"),
    "links as text": (lambda f: edit_layer(f, links="51"), "must be a count"),
    "negative links": (lambda f: edit_layer(f, links=-1), "must be a count"),
    "a boolean number of links": (lambda f: edit_layer(f, links=True), "must be a count"),
    "more links than weights": (lambda f: edit_layer(f, links=10**6), "too many"),
    "an unknown layout": (lambda f: edit_layer(f, layout="gaps5"), "unknown layout"),
    "the wrong layout": (lambda f: edit_layer(f, layout="bitmask"), "bytes"),
    "a layer said to be dense": (lambda f: edit_layer(f, layout="dense"), "should be"),
    "an unknown value dtype": (lambda f: edit_layer(f, dtype="F8"), "not \\['F32'"),
    "no layers": (lambda f: edit_section(f, lambda s: s["sparsity"].pop("layers")), "an object"),
    "no checksums": (lambda f: edit_section(f, lambda s: s.pop("checksums")), "an object"),
    "a checksum missing": (
        lambda f: edit_section(f, lambda s: s["checksums"].pop(UP)), "no checksum of"),
    "a wrong sum of links": (
        lambda f: edit_section(f, lambda s: s["sparsity"].update(links=1)), "layers have"),
    "a newer version": (
        lambda f: edit_section(f, lambda s: s.update(format_version=7)), "format version 7"),
    "no version": (lambda f: edit_section(f, lambda s: s.pop("format_version")), "whole number"),
    "a NaN version": (
        lambda f: edit_section(f, lambda s: s.update(format_version=float("nan"))), "whole number"),
    "an unexpected tensor": (
        lambda f: edit_section(f, lambda s: s["checksums"].pop("final_logits_bias")), "unexpected"),
    "another folder's weights": (
        lambda f: edit(f / "config.json", lambda c: c.update(
            transformers_weights="../copy/" + weights(f).name)), "no file of its folder"),
}  # fmt: skip


def _stored(folder: Path) -> Any:
    return read_header(weights(folder))


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_one_clear_error(folder, name):
    damage, message = DAMAGE[name]
    damage(folder)
    with pytest.raises(SparseFileError, match=message):
        load_sparse(folder)
    assert not verify(folder).passed


@pytest.mark.parametrize(
    "name",
    ["a flipped bit in the last tensor", "a shape bomb in the section", "a link too few",
     "another shape with room for the links", "a newer version", "an unexpected tensor"],
)  # fmt: skip
def test_auto_classes_refuse_with_the_same_error(folder, name):
    damage, message = DAMAGE[name]
    damage(folder)
    with pytest.raises(SparseFileError, match=message):
        AutoModelForSeq2SeqLM.from_pretrained(folder)


def test_a_true_shape_is_bounded_by_the_model(folder):
    """The file agrees with itself, but its weight is not the model's: nothing that big is made."""
    rows = 2**22

    def grow(section: Any) -> None:
        layer = section["sparsity"]["layers"][UP]
        section["sparsity"]["weights"] += (rows - layer["shape"][0]) * layer["shape"][1]
        layer["shape"][0] = rows

    edit_section(folder, grow)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for load in (load_sparse, AutoModelForSeq2SeqLM.from_pretrained):
        with pytest.raises(SparseFileError, match=r"shape \(4194304, 16\) in the file, but Marian"):
            load(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB


#: What the file system itself would refuse, each with an error of its own.
NO_NAMES = ["a\0.safetensors", "\ud800.safetensors", "a\n.safetensors"]


@pytest.mark.parametrize("name", NO_NAMES, ids=["a null", "half a character", "a break"])
def test_a_name_that_no_file_can_have_is_refused(folder, name):
    edit(folder / "config.json", lambda values: values.update(transformers_weights=name))
    with pytest.raises(SparseFileError, match="no file of its folder"):
        load_sparse(folder)
    assert not verify(folder).passed


@pytest.mark.parametrize(
    "place",
    [
        "../stolen.safetensors",
        "/etc/stolen.safetensors",
        "a/b.safetensors",
        "..",
        "x.bin",
        7,
        None,
        *NO_NAMES,
    ],
)
def test_an_index_that_leaves_the_folder_is_refused(saved, tmp_path, place):
    target = tmp_path / "sharded"
    save_sparse(sparse_marian(), target, max_shard_size="10KB")
    (index,) = target.glob("*.index.json")

    def redirect(values: Any) -> None:
        values["weight_map"][UP] = place

    edit(index, redirect)
    shutil.copy(weights(saved), tmp_path / "stolen.safetensors")
    with pytest.raises(SparseFileError, match="no file of its folder"):
        load_sparse(target)
    if isinstance(place, str) and "stolen" in place and place.startswith(".."):
        with pytest.raises(SparseFileError, match="outside the folder"):
            AutoModelForSeq2SeqLM.from_pretrained(target)


def test_an_index_that_is_all_of_another_folder_is_refused(tmp_path):
    save_sparse(sparse_marian(), tmp_path / "here", max_shard_size="10KB")
    (index,) = (tmp_path / "here").glob("*.index.json")

    def redirect(values: Any) -> None:
        for name, shard in values["weight_map"].items():
            values["weight_map"][name] = str(tmp_path / "there" / shard)

    edit(index, redirect)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    for load in (load_sparse, AutoModelForSeq2SeqLM.from_pretrained):
        with pytest.raises(SparseFileError, match=r"no file of its folder|outside the folder"):
            load(tmp_path / "here")


def test_an_index_without_its_parts_and_a_tensor_in_two_shards_are_refused(tmp_path):
    save_sparse(sparse_marian(), tmp_path, max_shard_size="10KB")
    (index,) = tmp_path.glob("*.index.json")
    whole = index.read_text()
    for part in ("metadata", "weight_map"):
        edit(index, lambda values, part=part: values.pop(part))
        with pytest.raises(SparseFileError, match="no metadata or no weight_map"):
            load_sparse(tmp_path)
        index.write_text(whole)
    shards = sorted(tmp_path.glob("*.safetensors"))
    shutil.copy(shards[0], shards[1])
    with pytest.raises(SparseFileError, match=" is in "):
        load_sparse(tmp_path)


def test_a_config_that_is_none_is_refused(folder, tmp_path):
    for text, message in [("{", "no JSON"), ("[]", "no object"), ("{}", "no sparse checkpoint")]:
        (folder / "config.json").write_text(text)
        with pytest.raises(SparseFileError, match=message):
            load_sparse(folder)
    whole = '{"quantization_config": {}, "quantization_config": {}}'
    (folder / "config.json").write_text(whole)
    with pytest.raises(SparseFileError, match="'quantization_config' twice"):
        load_sparse(folder)
    with pytest.raises(SparseFileError, match=r"config.json cannot be read"):
        load_sparse(tmp_path)


@FUZZ
@given(data=st.data())
def test_any_change_of_the_weight_file_is_noticed(folder, saved, data):
    """Bytes changed, cut out or put in: the reader says so and does nothing else."""
    original = weights(saved).read_bytes()
    start = data.draw(st.integers(0, len(original) - 1))
    if data.draw(st.booleans()):  # aim at the header: it is the part with a meaning
        start %= 8 + struct.unpack("<Q", original[:8])[0]
    stop = min(len(original), start + data.draw(st.integers(0, 12)))
    changed = original[:start] + data.draw(st.binary(max_size=12)) + original[stop:]
    weights(folder).write_bytes(changed)
    if changed == original:
        return
    try:
        check(folder)
    except SparseFileError:
        return
    # Only the header's spelling may differ without harm, such as its free metadata.
    found, expected = (
        {n: (s.dtype, s.shape, checksum(s)) for n, s in _stored(place).items()}
        for place in (folder, saved)
    )
    assert found == expected


@FUZZ
@given(data=st.data())
def test_any_value_in_the_section_is_checked(folder, saved, data):
    """One value anywhere in the section is replaced by any other JSON."""
    values = json.loads((saved / "config.json").read_text())
    place: Any = values["quantization_config"]
    path: list[Any] = []
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        path.append(key)
        inner = place[key]
        if not (isinstance(inner, (dict, list)) and inner and data.draw(st.integers(0, 3))):
            break
        place = inner
    place[key] = data.draw(JSON)
    (folder / "config.json").write_text(json.dumps(values))
    same = json.dumps(place[key]) == json.dumps(inner)
    try:
        check(folder)
    except SparseFileError:
        return
    # (Without any of its checksums, the rest of config.json is as it was, though nobody says so.)
    harmless = {"method", "config", "metadata", "kind", "sparsity"}
    assert (
        same
        or (path, place[key]) == (["config_checksums"], {})
        or harmless & {path[0], path[-1]} - {"layers"}
    ), path


@FUZZ
@given(data=st.binary(max_size=200), length=st.none() | st.integers(0, 2**64 - 1))
def test_any_bytes_are_no_checkpoint(folder, data, length):
    prefix = b"" if length is None else struct.pack("<Q", length)
    weights(folder).write_bytes(prefix + data)
    with pytest.raises(SparseFileError):
        check(folder)


def test_values_may_be_anything_but_are_told(tmp_path):
    """NaN and infinity are values: they come back, and verify says so."""
    model = sparse_marian()
    weight = model.get_parameter(UP)
    first, second = weight.detach().nonzero()[:2]
    weight.data[tuple(first)], weight.data[tuple(second)] = float("nan"), float("inf")
    save_sparse(model, tmp_path)
    loaded = load_sparse(tmp_path).get_parameter(UP)
    assert torch.equal(loaded.detach().view(torch.int32) & 0x7FFFFFFF,
                       weight.detach().view(torch.int32) & 0x7FFFFFFF)  # fmt: skip
    failed = [check.name for check in verify(tmp_path).checks if not check.passed]
    assert failed == ["finite"]
