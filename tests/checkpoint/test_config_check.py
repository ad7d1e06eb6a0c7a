"""A config.json that describes another model than was saved is no reason for random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModel, AutoModelForSeq2SeqLM, MarianMTModel

from chts_hf import SparseFileError, load_sparse, save_sparse
from chts_hf.checkpoint.config_check import UNCHECKED
from chts_hf.checkpoint.export import densify
from chts_hf.checkpoint.inspection import verify
from chts_hf.checkpoint.reader import read_config, read_section
from tests.checkpoint.damage import (
    FUZZ,
    JSON,
    check,
    edit,
    edit_section,
    flip,
    make_old,
    take_out,
)
from tests.checkpoint.sparse_models import assert_same_weights, sparse_marian

BOTH = [load_sparse, AutoModelForSeq2SeqLM.from_pretrained]
SECOND = "encoder.layers.1."


def model() -> Any:
    return sparse_marian(d_model=16, encoder_ffn_dim=32, encoder_layers=2)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    save_sparse(model(), folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def change(folder: Path, **fields: Any) -> None:
    edit(folder / "config.json", lambda values: values.update(fields))


@pytest.mark.parametrize(
    "fields",
    [{"encoder_layers": 3}, {"encoder_layers": 1}, {"architectures": ["MarianModel"]},
     {"architectures": None}, {"activation_function": "relu"}, {"vocab_size": 50}],
    ids=str,
)  # fmt: skip
def test_a_field_that_changed_is_named(folder, fields):
    change(folder, **fields)
    (name,) = fields
    for load in (*BOTH, AutoModel.from_pretrained):
        with pytest.raises(SparseFileError, match=f"not as it was saved: {name} = .*Put back"):
            load(folder)
    with pytest.raises(SparseFileError, match=name):
        densify(folder, folder.parent / "dense")
    first = verify(folder).checks[0]
    assert (first.name, first.passed) == ("config", False)
    assert f"{name} = " in first.detail


def test_a_field_that_is_gone_is_named(folder):
    edit(folder / "config.json", lambda values: values.pop("d_model"))
    with pytest.raises(SparseFileError, match="d_model, which is missing"):
        load_sparse(folder)


def test_settings_may_be_added_and_a_change_may_be_meant(folder):
    change(folder, num_beams=4, transformers_version="99.0", note="mine")
    assert verify(folder).passed
    change(folder, dropout=0.5)
    edit_section(folder, lambda section: section["config_checksums"].pop("dropout"))
    for load in BOTH:
        loaded = load(folder)
        assert loaded.config.dropout == 0.5
        assert_same_weights(model(), loaded)
    # Or without touching the file.
    loaded = AutoModelForSeq2SeqLM.from_pretrained(folder, attention_dropout=0.25)
    assert loaded.config.attention_dropout == 0.25


def test_old_files_are_read_without_checksums_of_fields(folder):
    make_old(folder)
    for load in BOTH:
        assert_same_weights(model(), load(folder))
    assert verify(folder).passed


@pytest.mark.parametrize("load", BOTH)
def test_a_layer_that_is_nowhere_is_missed(folder, load):
    """File, section and checksums agree; only the model knows that there was a layer."""
    take_out(folder, SECOND)
    with pytest.raises(SparseFileError, match=rf"no weights for model\.{SECOND}fc1\.bias"):
        load(folder)


@pytest.mark.parametrize("load", BOTH)
def test_a_layer_too_many_in_an_old_file_is_missed(folder, load):
    make_old(folder)
    change(folder, encoder_layers=3)
    with pytest.raises(SparseFileError, match=r"no weights for model\.encoder\.layers\.2\..* 13 m"):
        load(folder)


def test_verification_knows_which_weights_there_must_be(folder, capsys):
    """Without loading any; what transformers would warn of is said once, by us."""
    take_out(folder, SECOND)
    found = {check.name: check for check in verify(folder).checks}
    assert [name for name, check in found.items() if not check.passed] == ["model"]
    assert f"MarianMTModel that its config.json describes: missing: model.{SECOND}" in (
        found["model"].detail
    )
    make_old(folder)
    change(folder, encoder_layers=1, vocab_size=50)
    (failed,) = [check.detail for check in verify(folder).checks if not check.passed]
    assert "of another shape: final_logits_bias, model.shared.weight" in failed
    change(folder, vocab_size=48)
    assert verify(folder).passed  # the second layer was taken out
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"d_model": "wide"}, "d_model"),
        ({"d_model": 17}, "embed_dim must be divisible"),
        ({"architectures": ["T5ForConditionalGeneration"]}, "T5ForConditionalGeneration"),
    ],
    ids=str,
)
def test_settings_that_are_no_model_fail_the_verification(folder, fields, said):
    make_old(folder)
    change(folder, **fields)
    failed = [check for check in verify(folder).checks if check.passed is False]
    assert [check.name for check in failed] == ["model"]
    assert said in failed[0].detail


@pytest.mark.parametrize("names", [["MyModel"], None], ids=str)
def test_a_class_that_is_not_transformers_own_is_not_checked(folder, names):
    make_old(folder)
    change(folder, architectures=names)
    found = verify(folder)
    assert found.passed
    (skipped,) = [check for check in found.checks if check.passed is None]
    assert skipped.name == "model"
    assert f"not checked which weights there must be: {folder}" in skipped.detail
    assert f"architectures={names}" in skipped.detail


def test_what_an_old_file_has_too_much_or_in_another_shape_is_named(folder):
    make_old(folder)
    change(folder, encoder_layers=1)
    with pytest.raises(SparseFileError, match=rf"unexpected: model\.{SECOND}fc1\.bias.* 13 more"):
        load_sparse(folder)
    change(folder, encoder_layers=2, vocab_size=50)
    with pytest.raises(
        SparseFileError, match=r"of another shape: final_logits_bias, model\.shared"
    ):
        load_sparse(folder)
    change(folder, vocab_size=48, architectures=["MarianModel"])
    with pytest.raises(SparseFileError, match=r"embed_positions\.weight of MarianModel"):
        load_sparse(folder)


def test_a_user_may_still_ask_for_another_shape(folder):
    """What is replaced on request is random on request."""
    loaded = MarianMTModel.from_pretrained(
        folder, vocab_size=50, decoder_vocab_size=50, ignore_mismatched_sizes=True
    )
    assert loaded.get_input_embeddings().weight.shape == (50, 16)
    name = f"model.{SECOND}fc1.weight"
    assert torch.equal(loaded.get_parameter(name), model().get_parameter(name))


def assert_refused_or_harmless(folder: Path, saved: Path) -> None:
    try:
        check(folder)
    except SparseFileError:
        return
    found, expected = read_config(folder), read_config(saved)
    for name in expected.keys() - UNCHECKED:
        assert json.dumps(found[name]) == json.dumps(expected[name]), name
    one, other = read_section(found, folder), read_section(expected, saved)
    assert one.checksums == other.checksums
    for name, layer in other.layers.items():
        seen = one.layers[name]
        assert (seen.shape, seen.links, seen.layout) == (layer.shape, layer.links, layer.layout)


@FUZZ
@given(position=st.integers(0, 2**30), bit=st.integers(0, 7))
def test_any_flipped_bit_of_config_json_is_noticed_or_harmless(folder, saved, position, bit):
    path = folder / "config.json"
    shutil.copy(saved / "config.json", path)
    flip(path, position % path.stat().st_size, bit)
    assert_refused_or_harmless(folder, saved)


@FUZZ
@given(data=st.data())
def test_any_value_of_config_json_is_noticed_or_harmless(folder, saved, data):
    values = read_config(saved)
    name = data.draw(st.sampled_from(sorted(values)))
    if data.draw(st.booleans()):
        values[name] = data.draw(JSON)
    else:
        del values[name]
    (folder / "config.json").write_text(json.dumps(values))
    assert_refused_or_harmless(folder, saved)
