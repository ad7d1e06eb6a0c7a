"""What the Trainer saves at the end is sparse, what it resumes from is dense."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from accelerate import Accelerator
from transformers import AutoModelForSeq2SeqLM

from chts_hf import CHTsCallback, CHTsConfig, load_sparse, save_sparse
from chts_hf.checkpoint.inspection import inspect_file
from chts_hf.inference import compact
from tests.builders import tiny_marian, tiny_trainer
from tests.checkpoint.sparse_models import UP, assert_same_weights


def _config(**changes) -> CHTsConfig:
    return CHTsConfig(**{"sparsity": 0.9, "update_interval": 4} | changes)


def _is_sparse(folder) -> bool:
    return "quantization_config" in json.loads((folder / "config.json").read_text())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    callback = CHTsCallback(_config())
    trainer = tiny_trainer(folder, [callback], steps=8, save_strategy="steps", save_steps=4)
    trainer.train()
    return trainer, callback, folder


def test_the_final_model_is_sparse_and_checkpoints_are_dense(trained):
    trainer, callback, folder = trained
    trainer.save_model()
    assert _is_sparse(folder)
    assert_same_weights(trainer.model, AutoModelForSeq2SeqLM.from_pretrained(folder))
    report = inspect_file(folder)
    assert (report.method, report.config) == ("chts", _config().to_dict())
    links = {name: int(mask.sum()) for name, mask in callback.sparsifier.masks.items()}
    assert {layer.name: layer.links for layer in report.layers} == links
    for step in (4, 8):
        assert not _is_sparse(folder / f"checkpoint-{step}")
        assert (folder / f"checkpoint-{step}" / "model.safetensors").is_file()


def test_a_resume_after_a_final_save_is_exact(trained, tmp_path):
    trainer, _, folder = trained
    trainer.save_model()
    begun = folder / "checkpoint-4"
    callback = CHTsCallback(_config(), resume_from_checkpoint=begun)
    again = tiny_trainer(tmp_path, [callback], model=tiny_marian(5), steps=8)
    again.train(resume_from_checkpoint=str(begun))
    assert_same_weights(trainer.model, again.model)
    again.save_model()
    assert_same_weights(trainer.model, load_sparse(tmp_path))


def test_every_way_to_save_is_sparse_but_those_with_other_options(trained, tmp_path):
    model = trained[0].model
    model.save_pretrained(tmp_path / "plain")
    assert _is_sparse(tmp_path / "plain")
    model.save_pretrained(tmp_path / "variant", variant="fp32")
    assert not _is_sparse(tmp_path / "variant")
    model.save_pretrained(tmp_path / "not the main process", is_main_process=False)
    assert not (tmp_path / "not the main process").exists()
    model.save_pretrained(tmp_path / "checkpoint-7")
    assert not _is_sparse(tmp_path / "checkpoint-7")


@pytest.mark.parametrize(
    "option",
    [{"safe_serialization": True}, {"save_function": torch.save}, {"save_original_format": True}],
    ids=lambda option: next(iter(option)),
)
def test_options_that_ask_for_nothing_leave_it_sparse(trained, tmp_path, caplog, option):
    model = trained[0].model
    model.save_pretrained(tmp_path, is_main_process=True, **option)
    assert _is_sparse(tmp_path)
    assert_same_weights(model, load_sparse(tmp_path))
    assert "densely" not in caplog.text


def test_a_state_dict_of_the_whole_model_is_what_is_saved(trained, tmp_path):
    model = trained[0].model
    state = Accelerator().get_state_dict(model)
    state |= {name: 2 * state[name] for name in trained[1].sparsifier.masks}
    model.save_pretrained(tmp_path, save_function=torch.save, state_dict=state)
    report = inspect_file(tmp_path)
    links = {name: int(mask.sum()) for name, mask in trained[1].sparsifier.masks.items()}
    assert {layer.name: layer.links for layer in report.layers} == links
    doubled = copy.deepcopy(model)
    doubled.load_state_dict(state)
    before = model.get_parameter(UP)
    assert not torch.equal(doubled.get_parameter(UP), before)
    assert_same_weights(doubled, load_sparse(tmp_path))


def test_a_state_dict_of_something_else_is_saved_densely_and_said(trained, tmp_path, caplog):
    model = trained[0].model
    state = model.state_dict()
    del state["model.encoder.layers.0.fc1.bias"]
    model.save_pretrained(tmp_path, state_dict=state)
    assert not _is_sparse(tmp_path)
    assert "saved densely, because of a state_dict that is not the model's" in caplog.text


def test_a_copy_saves_itself(trained, tmp_path):
    model = copy.deepcopy(trained[0].model)
    with torch.no_grad():
        model.get_input_embeddings().weight.add_(1)
    model.save_pretrained(tmp_path)
    assert_same_weights(model, load_sparse(tmp_path))


def test_weights_that_grew_after_training_are_not_lost(trained, tmp_path):
    model = copy.deepcopy(trained[0].model)
    with torch.no_grad():
        model.model.encoder.layers[0].fc1.weight.add_(0.5)
    model.save_pretrained(tmp_path)
    assert_same_weights(model, load_sparse(tmp_path))


def test_dense_training_is_saved_dense(tmp_path):
    trainer = tiny_trainer(tmp_path, [CHTsCallback(CHTsConfig(method="dense"))], steps=2)
    trainer.train()
    trainer.save_model()
    assert not _is_sparse(tmp_path)


def test_save_sparse_after_training_knows_what_was_trained(trained, tmp_path):
    trainer, callback, _ = trained
    save_sparse(trainer.model, tmp_path)
    report = inspect_file(tmp_path)
    assert (report.method, report.config) == ("chts", _config().to_dict())
    links = {name: int(mask.sum()) for name, mask in callback.sparsifier.masks.items()}
    assert {layer.name: layer.links for layer in report.layers} == links


def test_a_model_trained_on_densely_is_saved_densely(tmp_path):
    model = tiny_marian()
    tiny_trainer(tmp_path / "a", [CHTsCallback(_config())], model=model, steps=8).train()
    dense = tiny_trainer(tmp_path / "b", [CHTsCallback(_config(method="dense"))], model=model)
    dense.train()
    dense.save_model()
    assert not _is_sparse(tmp_path / "b")


def test_a_model_whose_neurons_were_cut_out_is_saved(tmp_path):
    model = tiny_marian()
    config = _config(sparsity=0.97, init="er")
    tiny_trainer(tmp_path, [CHTsCallback(config)], model=model, steps=8).train()
    small, report = compact(model)
    assert any(width.after < width.before for width in report.widths.values())
    small.save_pretrained(tmp_path / "small")
    assert_same_weights(small, load_sparse(tmp_path / "small"))


def test_options_that_ask_for_a_dense_file_are_said(trained, tmp_path, caplog):
    model = trained[0].model
    model.save_pretrained(tmp_path / "plain", push_to_hub=False, variant=None)
    assert _is_sparse(tmp_path / "plain")
    model.save_pretrained(tmp_path / "variant", variant="fp32")
    assert not _is_sparse(tmp_path / "variant")
    assert "saved densely, because of variant" in caplog.text
