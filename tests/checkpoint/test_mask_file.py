"""A mask file from anywhere: damage is one MaskFileError, and such a checkpoint is passed over."""

from __future__ import annotations

import json
import logging
import resource
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from chts_hf import (
    CHTsConfig,
    MaskFileError,
    Sparsifier,
    last_complete_checkpoint,
    methods,
    register_method,
)
from chts_hf.checkpoint.mask_file import MASK_FILE, load_masks, save_masks
from chts_hf.checkpoint.mask_header import CHECKSUM, header_checksum
from tests.builders import tiny_marian
from tests.checkpoint.damage import FUZZ, JSON, flip
from tests.checkpoint.sparse_models import UP

HISTORY = f"history/{UP}"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Two checkpoints of a run, the second of which has past links."""
    folder = tmp_path_factory.mktemp("run")
    model = tiny_marian()
    config = CHTsConfig(method="rigl", sparsity=0.8, update_interval=1, regrow_init="history")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparsifier = Sparsifier(model, optimizer, config, total_steps=8)
    for step in (1, 2):
        ids = torch.arange(3, 19).reshape(2, 8)
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        sparsifier.step()
        optimizer.zero_grad()
        checkpoint = folder / f"checkpoint-{step}"
        checkpoint.mkdir()
        save_masks(checkpoint, sparsifier.state_dict(), config)
        weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        save_file({UP: weights[UP]}, checkpoint / "model.safetensors")
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
            torch.save({}, checkpoint / name)
        (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    sparsifier.close()
    return folder


@pytest.fixture
def copied(run, tmp_path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def read(checkpoint: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    with safe_open(checkpoint / MASK_FILE, framework="pt") as file:
        header = json.loads(file.metadata()["chts_hf"])
    return header, load_file(checkpoint / MASK_FILE)


def write(checkpoint: Path, header: Any, tensors: dict[str, torch.Tensor]) -> None:
    """Write a mask file whose header has a checksum that fits it."""
    if not isinstance(header, str):
        header = header | {CHECKSUM: header_checksum(header)}
    text = header if isinstance(header, str) else json.dumps(header)
    save_file(tensors, checkpoint / MASK_FILE, metadata={"chts_hf": text})


def replaced(header: Any, tensors: Any, name: str, tensor: torch.Tensor) -> None:
    """Another tensor, with a checksum that fits it."""
    tensors[name] = tensor.clone()
    header["checksums"][name] = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())


def set_(**changes: Any) -> Callable[[Any, Any], Any]:
    return lambda header, tensors: header.update(changes)


Change = Callable[[Any, Any], Any]
DAMAGE: dict[str, tuple[Change, str]] = {
    "checksums as a list": (set_(checksums=[1]), "checksums must be"),
    "shapes as a list": (set_(shapes=[[2, 2]]), "shapes must be"),
    "a shape that is none": (lambda h, t: h["shapes"].update({UP: "x"}), "shapes must be"),
    "a negative shape": (lambda h, t: h["shapes"].update({UP: [-1, -512]}), "shapes must be"),
    "a shape bomb": (lambda h, t: h["shapes"].update({UP: [2**40, 2**40]}), "shapes must be"),
    "a large shape": (lambda h, t: h["shapes"].update({UP: [2**20, 2**20]}), "bytes of mask"),
    "a step that is none": (set_(step_count="x"), "step_count must be a count"),
    "a true step": (set_(step_count=True), "step_count must be a count"),
    "NaN seconds": (set_(topology_runtime=float("nan")), "topology_runtime must be seconds"),
    "ranks without end": (set_(world_size=10**12), "world_size must be"),
    "a sparsity of two": (lambda h, t: h["final"].update({UP: 2}), "final must be"),
    "weights of nothing": (set_(weights={}), "of other layers"),
    "a weight without a checksum": (lambda h, t: h["weights"].update({UP: 3}), "weights must be"),
    "no counter": (lambda h, t: h.pop("updates"), "no updates"),
    "a configuration that is none": (set_(config=[]), "config must be"),
    "a configuration of lists": (lambda h, t: h["config"].update(targets=[1]), "damaged"),
    "a value of a past link too few": (
        lambda h, t: replaced(h, t, HISTORY, t[HISTORY][:-1]), "past links, but"),
    "past values that are no numbers": (
        lambda h, t: replaced(h, t, HISTORY, torch.zeros(3, dtype=torch.int64)), "not those of"),
    "a tensor without dimensions": (
        lambda h, t: replaced(h, t, HISTORY, torch.tensor(1.0)), "not those of"),
    "a tensor of nobody": (
        lambda h, t: replaced(h, t, "mask/nobody", t[f"mask/{UP}"]), "mask/nobody"),
    "a mask that is missing": (
        lambda h, t: (t.pop(f"mask/{UP}"), h["checksums"].pop(f"mask/{UP}")), "not those of"),
}  # fmt: skip
TEXTS = {
    "nested without end": "[" * 100_000 + "]" * 100_000,
    "no JSON": "{",
    "a number": "7",
    "a key twice": '{"format_version": 1, "format_version": 1}',
}


def assert_same_state(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if name in ("masks", "ever", "history"):
            assert found[name].keys() == value.keys()
            assert all(torch.equal(found[name][layer], value[layer]) for layer in value), name
        else:
            assert found[name] == value, name


def assert_refused(copied: Path, message: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(MaskFileError, match=message):
        load_masks(copied / "checkpoint-2")
    with caplog.at_level(logging.WARNING, logger="chts_hf"):
        assert last_complete_checkpoint(copied) == str(copied / "checkpoint-1")
    assert "checkpoint-2, which is not complete" in caplog.text


def test_what_is_whole_is_read(run):
    state, config = load_masks(run / "checkpoint-2")
    assert config.method == "rigl"
    assert (state["history"][UP] != 0).any()
    assert last_complete_checkpoint(run) == str(run / "checkpoint-2")


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_one_clear_error(copied, caplog, name):
    change, message = DAMAGE[name]
    header, tensors = read(copied / "checkpoint-2")
    change(header, tensors)
    write(copied / "checkpoint-2", header, tensors)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert_refused(copied, message, caplog)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB


def test_a_method_of_ones_own_must_be_registered_first(copied, caplog):
    ingredients = {"removal": "magnitude", "regrowth": "random"}
    for name in ("checkpoint-1", "checkpoint-2"):
        header, tensors = read(copied / name)
        header["config"]["method"] = "soft_random"
        write(copied / name, header, tensors)
    message = r"checkpoint-2.*method='soft_random', which is not registered here; call chts_hf.reg"
    with pytest.raises(MaskFileError, match=message) as refused:
        load_masks(copied / "checkpoint-2")
    assert "damaged" not in str(refused.value)
    # Nor is it as if there were no checkpoint, and the run were to begin anew.
    with caplog.at_level(logging.WARNING), pytest.raises(MaskFileError, match="not registered"):
        last_complete_checkpoint(copied)
    register_method("soft_random", **ingredients)
    try:
        assert load_masks(copied / "checkpoint-2")[1].method == "soft_random"
        assert last_complete_checkpoint(copied) == str(copied / "checkpoint-2")
    finally:
        methods._METHODS.pop("soft_random")


def test_an_older_checkpoint_of_a_known_method_is_found(copied, caplog):
    header, tensors = read(copied / "checkpoint-2")
    header["config"]["method"] = "chtz"
    write(copied / "checkpoint-2", header, tensors)
    assert_refused(copied, "method='chtz', which is not registered", caplog)


def test_one_bit_of_a_counter_is_damage(copied, caplog):
    path = copied / "checkpoint-2" / MASK_FILE
    data = path.read_bytes()
    field = rb"\"step_count\": "
    assert data.count(field + b"2") == 1
    path.write_bytes(data.replace(field + b"2", field + b"3"))
    assert_refused(copied, r"its header is not as it was written.*header_checksum", caplog)


def test_a_file_from_before_headers_had_checksums_is_read(copied, run):
    header, tensors = read(copied / "checkpoint-2")
    del header[CHECKSUM]
    write(copied / "checkpoint-2", json.dumps(header), tensors)
    assert_same_state(load_masks(copied / "checkpoint-2")[0], load_masks(run / "checkpoint-2")[0])
    assert last_complete_checkpoint(copied) == str(copied / "checkpoint-2")


@pytest.mark.parametrize(("step", "found"), [(1, "checkpoint-2"), (3, "checkpoint-1")])
def test_masks_of_a_later_step_than_the_checkpoint_are_not_its_own(copied, step, found):
    """Fewer steps there may be: those that a loss scaler skipped do not count."""
    header, tensors = read(copied / "checkpoint-2")
    write(copied / "checkpoint-2", header | {"step_count": step}, tensors)
    assert last_complete_checkpoint(copied) == str(copied / found)


@pytest.mark.parametrize("name", TEXTS)
def test_a_header_that_is_none_is_one_clear_error(copied, caplog, name):
    write(copied / "checkpoint-2", TEXTS[name], read(copied / "checkpoint-2")[1])
    assert_refused(copied, "is damaged", caplog)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("trainer_state.json", "[" * 100_000),
        ("trainer_state.json", "[2]"),
        ("model.safetensors.index.json", '{"weight_map": ["model.safetensors"]}'),
        ("model.safetensors.index.json", '{"weight_map": {"a": ["model.safetensors"]}}'),
    ],
)
def test_other_files_that_are_none_are_passed_over_too(copied, name, text):
    (copied / "checkpoint-2" / name).write_text(text)
    assert last_complete_checkpoint(copied) == str(copied / "checkpoint-1")


@FUZZ
@given(data=st.data())
def test_any_value_in_the_header_is_read_or_refused(copied, run, data):
    """One value anywhere in the header is replaced by any other JSON."""
    header, tensors = read(run / "checkpoint-2")
    place: Any = header
    while True:
        key = data.draw(
            st.sampled_from(list(place) if isinstance(place, dict) else range(len(place)))
        )
        inner = place[key]
        if not (isinstance(inner, (dict, list)) and inner and data.draw(st.integers(0, 3))):
            break
        place = inner
    place[key] = data.draw(JSON)
    checkpoint = copied / "checkpoint-2"
    write(checkpoint, header, tensors)
    try:
        state, _ = load_masks(checkpoint)
    except MaskFileError:
        pass
    else:
        expected = load_masks(run / "checkpoint-2")[0]
        for kind in ("masks", "ever", "history"):
            assert all(torch.equal(t, expected[kind][name]) for name, t in state[kind].items())
    assert last_complete_checkpoint(copied) is not None


@FUZZ
@given(position=st.integers(0, 2**30), bit=st.integers(0, 7), cut=st.booleans())
def test_any_damage_of_the_file_is_read_or_refused(copied, run, position, bit, cut):
    path = copied / "checkpoint-2" / MASK_FILE
    shutil.copy(run / "checkpoint-2" / MASK_FILE, path)
    position %= path.stat().st_size
    if cut:
        path.write_bytes(path.read_bytes()[:position])
    else:
        flip(path, position, bit)
    expected, config = load_masks(run / "checkpoint-2")
    try:
        found, its_config = load_masks(copied / "checkpoint-2")
    except MaskFileError:
        return
    assert not cut
    assert its_config == config
    assert_same_state(found, expected)
