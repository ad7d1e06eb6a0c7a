"""What a Trainer with the callback pushes to the Hub."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import HfHubHTTPError
from transformers.utils.hub import hf_api

from chts_hf import CHTsCallback, CHTsConfig, load_sparse
from chts_hf.checkpoint.mask_file import load_masks
from tests.builders import tiny_trainer
from tests.hub.pages import page_code
from tests.hub.stand_in import Files, HubStandIn

CONFIG = CHTsConfig(sparsity=0.8, update_interval=1, t_end=1.0)
REPO = "me/model"


def trainer_with(folder: Path, config: CHTsConfig = CONFIG, **changes: Any) -> Any:
    settings = {"steps": 4, "hub_model_id": REPO, "hub_token": "hf_token"}
    return tiny_trainer(folder / "out", [CHTsCallback(config)], **settings | changes)


def saving_trainer(folder: Path, strategy: str = "every_save") -> Any:
    """A Trainer that saves, and pushes every save without leaving one out."""
    return trainer_with(
        folder,
        push_to_hub=True,
        hub_strategy=strategy,
        hub_always_push=True,
        save_strategy="steps",
        save_steps=2,
    )


def unpack(files: Files, folder: Path) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def weight_files(files: Files) -> list[str]:
    return [name for name in files if name.endswith(".safetensors")]


def assert_holds(files: Files, model: Any, folder: Path) -> None:
    """The files are a sparse checkpoint of exactly this model, and nothing else is in the way."""
    assert json.loads(files["config.json"])["quantization_config"]["quant_method"] == "chts_hf"
    assert len(weight_files(files)) == 1
    loaded = load_sparse(unpack(files, folder)).state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded[name]), name


def test_a_push_holds_the_sparse_file_and_our_card(hub: HubStandIn, tmp_path):
    trainer = trainer_with(tmp_path)
    exec(page_code("hub.md", "push"), {"trainer": trainer})
    files = hub.files(REPO)
    assert files is not None
    assert_holds(files, trainer.model, tmp_path / "pulled")
    assert set(weight_files(files)) <= hub.large
    card = ModelCard(files["README.md"].decode())
    assert {"chts", "sparse", "generated_from_trainer"} <= set(card.data.tags)
    assert (card.data.license, card.data.language) == ("mit", ["en", "de"])
    (callback,) = (c for c in trainer.callback_handler.callbacks if isinstance(c, CHTsCallback))
    assert callback.sparsifier is not None
    assert "## Network" in card.text
    assert "## Training procedure" in card.text
    assert f'load_sparse("{REPO}")' in card.text
    assert f"{callback.sparsifier.stats()['links']:,}" in card.text
    size = len(files[weight_files(files)[0]])
    assert f"| all, with the file's header | {size:,} |" in card.text


def test_the_card_survives_the_trainers_own(tmp_path):
    trainer = trainer_with(tmp_path)
    trainer.train()
    for _ in range(2):  # the second time, the first card is the Trainer's starting point
        trainer.create_model_card(license="mit")
        card = ModelCard.load(tmp_path / "out" / "README.md")
        assert "## Network" in card.text
        assert card.data.license == "mit"
        assert card.text.count("## Training procedure") == 1
        assert card.data.tags == ["chts", "sparse", "generated_from_trainer"]


def test_the_card_of_a_resumed_run_counts_the_steps_that_its_time_is_of(tmp_path):
    saves: dict[str, Any] = {"save_strategy": "steps", "save_steps": 3}
    first = trainer_with(tmp_path, **saves)
    first.train()
    first.create_model_card()
    card = tmp_path / "out" / "README.md"
    assert re.search(r"training \| [\d.]+ s for 4 steps, ", card.read_text("utf-8"))
    again = trainer_with(tmp_path, **saves)
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-3"))
    again.create_model_card()
    assert re.search(r"training \| [\d.]+ s for 1 steps since step 3; ", card.read_text("utf-8"))


def test_a_card_that_another_package_writes_comes_first(tmp_path):
    trainer = trainer_with(tmp_path)
    theirs, told = trainer.create_model_card, []

    def with_a_line(**kwargs: Any) -> None:
        told.append(kwargs)
        theirs(**kwargs)

    trainer.create_model_card = with_a_line  # before training, when ours takes its place
    trainer.train()
    trainer.create_model_card(license="mit")
    assert told == [{"license": "mit"}]
    assert "## Network" in ModelCard.load(tmp_path / "out" / "README.md").text


def test_tags_of_the_model_are_kept(hub: HubStandIn, tmp_path):
    trainer = trainer_with(tmp_path)
    trainer.model.add_model_tags(["from-the-model"])
    trainer.train()
    trainer.push_to_hub()
    files = hub.files(REPO)
    assert files is not None
    assert "from-the-model" in ModelCard(files["README.md"].decode()).data.tags


def test_every_save_pushes_the_sparse_file_and_a_card(hub: HubStandIn, tmp_path):
    trainer = saving_trainer(tmp_path)
    trainer.train()
    pushed = hub.commits[REPO][1:]
    assert [message for _, message, _ in pushed] == [
        "Training in progress, step 2",
        "Training in progress, step 4",
    ]
    for _, _, files in pushed:
        assert "quantization_config" in json.loads(files["config.json"])
        assert len(weight_files(files)) == 1, "weights of the push before are taken away"
        assert {"chts", "sparse"} <= set(ModelCard(files["README.md"].decode()).data.tags)
    assert weight_files(pushed[0][2]) != weight_files(pushed[1][2])
    assert_holds(pushed[1][2], trainer.model, tmp_path / "pulled")
    trainer.push_to_hub()
    files = hub.files(REPO)
    assert files is not None
    assert_holds(files, trainer.model, tmp_path / "again")


def run_at_once(api: HfApi, job: Callable[[], Any]) -> Future[Any]:
    """In place of ``HfApi.run_as_future``: the earliest that a background push can be."""
    future: Future[Any] = Future()
    future.set_result(job())
    return future


def test_training_checkpoints_stay_dense_and_can_be_resumed(hub: HubStandIn, tmp_path, monkeypatch):
    monkeypatch.setattr(HfApi, "run_as_future", run_at_once)
    trainer = saving_trainer(tmp_path, "all_checkpoints")
    trainer.train()
    files = hub.files(REPO)
    assert files is not None
    checkpoint = unpack(
        {n.removeprefix("checkpoint-2/"): c for n, c in files.items() if "checkpoint-2/" in n},
        tmp_path / "checkpoint-2",
    )
    assert "quantization_config" not in json.loads((checkpoint / "config.json").read_text())
    assert (checkpoint / "model.safetensors").is_file()
    state, config = load_masks(checkpoint)
    assert (state["step_count"], config) == (2, CONFIG)
    assert "last-checkpoint/model.safetensors" not in files


def test_only_the_end_is_pushed_if_asked(hub: HubStandIn, tmp_path):
    saving_trainer(tmp_path, "end").train()
    assert len(hub.commits[REPO]) == 1


def test_other_processes_push_nothing(hub: HubStandIn, tmp_path, monkeypatch):
    trainer = saving_trainer(tmp_path)
    monkeypatch.setattr(trainer, "is_world_process_zero", lambda: False)
    del trainer.push_in_progress  # the Trainer makes it in the first process only
    trainer.train()
    assert trainer.push_to_hub() is None
    assert len(hub.commits[REPO]) == 1
    assert not (tmp_path / "out" / "README.md").exists()


def test_a_background_push_that_fails_is_reported(hub: HubStandIn, tmp_path, caplog):
    trainer = saving_trainer(tmp_path)
    hub.failing.add("commit")
    with caplog.at_level(logging.WARNING, logger="chts_hf"):
        trainer.train()
    reports = [r.getMessage() for r in caplog.records if "background push" in r.getMessage()]
    assert len(reports) == 2
    assert "500" in reports[0]
    assert "told to fail" in reports[0]
    with pytest.raises(HfHubHTTPError, match="told to fail"):
        trainer.push_to_hub()
    hub.failing.clear()
    trainer.push_to_hub()
    files = hub.files(REPO)
    assert files is not None
    assert_holds(files, trainer.model, tmp_path / "pulled")


def test_a_push_that_is_not_waited_for_is_reported_too(hub: HubStandIn, tmp_path, caplog):
    trainer = trainer_with(tmp_path)
    trainer.train()
    trainer.init_hf_repo()
    hub.failing.add("commit")
    with caplog.at_level(logging.WARNING, logger="chts_hf"):
        future = trainer.push_to_hub(blocking=False)
        assert isinstance(future.exception(timeout=30), HfHubHTTPError)
        # Its callbacks run after its result is there, and before the next job of the thread.
        hf_api().run_as_future(lambda: None).result(timeout=30)
    assert "background push" in caplog.text


def test_results_of_the_run_are_in_the_card(tmp_path):
    trainer = trainer_with(tmp_path)
    trainer.train()
    results = {
        "chts": CONFIG.to_dict(),
        "predict_bleu": 12.345,
        "bleu_signature": "nrefs:1",
        "dataset": "pairs",
        "languages": "en-de",
    }
    (tmp_path / "out" / "all_results.json").write_text(json.dumps(results))
    trainer.create_model_card()
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| BLEU | 12.35 | pairs, test set | `nrefs:1` |" in text
    assert yaml.safe_load(text.split("---")[1])["model-index"][0]["name"] == "model"


def test_results_of_another_run_are_left_out(tmp_path, caplog):
    trainer = trainer_with(tmp_path)
    trainer.train()
    results = {"chts": CHTsConfig(sparsity=0.5).to_dict(), "predict_bleu": 99.0}
    (tmp_path / "out" / "all_results.json").write_text(json.dumps(results))
    with caplog.at_level(logging.WARNING, logger="chts_hf"):
        trainer.create_model_card()
    assert "99.0" not in (tmp_path / "out" / "README.md").read_text()
    assert "other settings" in caplog.text


def test_a_dense_run_is_pushed_as_the_trainer_does(hub: HubStandIn, tmp_path):
    trainer = trainer_with(tmp_path, CHTsConfig(method="dense"))
    trainer.train()
    trainer.push_to_hub()
    files = hub.files(REPO)
    assert files is not None
    assert weight_files(files) == ["model.safetensors"]
    assert "chts" not in ModelCard(files["README.md"].decode()).data.tags
