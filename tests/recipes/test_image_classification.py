"""The image recipe from end to end, at a size that takes seconds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageClassification

from chts_hf.analysis.history import read_history
from chts_hf.vision.arguments import read_arguments
from recipes import compact_mlp, image_classification

TINY = {
    "dataset_name": "digits", "max_train_samples": 96, "max_predict_samples": 50,
    "validation_samples": 40, "hidden_sizes": [32, 24, 16], "do_train": True, "do_eval": True,
    "do_predict": True, "max_steps": 12, "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 64, "optim": "sgd", "optim_args": "momentum=0.9",
    "learning_rate": 0.05, "logging_steps": 4, "save_strategy": "no", "report_to": "none",
    "use_cpu": True, "disable_tqdm": True, "seed": 3,
}  # fmt: skip
CHTS = {
    "update_interval": 3, "sparsity": 0.8, "rescale_init": True, "rewarm_steps": 0,
    "overrides": {r"hidden\.0\.": {"init": "csti"}},
}  # fmt: skip


def config(folder: Path, chts: dict[str, Any] | None = None, **changes: Any) -> str:
    path = folder / "tiny_mlp.yaml"
    content = {**TINY, "output_dir": str(folder / "out"), **changes, "chts": CHTS | (chts or {})}
    path.write_text(json.dumps(content))  # JSON is YAML
    return str(path)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All weights of a saved model, sparse or dense."""
    return AutoModelForImageClassification.from_pretrained(folder).state_dict()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run: its output folder and its results."""
    folder = tmp_path_factory.mktemp("trained")
    return folder / "out", image_classification.main([config(folder)])


def test_what_a_run_leaves(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, results = trained
    assert json.loads((folder / "all_results.json").read_text()) == results
    assert (results["setting"], results["method"], results["seed"]) == ("tiny_mlp", "chts", 3)
    assert [results[f"{split}_images"] for split in ("train", "validation", "test")] == [96, 40, 50]
    assert results["sparsified_weights"] == 64 * 32 + 32 * 24 + 24 * 16
    assert results["links"] == round(0.2 * 2048) + round(0.2 * 768) + round(0.2 * 384)
    assert results["topology_updates"] == 3
    assert 0 < results["anp"] <= 1
    assert results["predict_accuracy"] == pytest.approx(2 * round(results["predict_accuracy"] / 2))
    assert (folder / "topology.png").stat().st_size > 10_000
    model = AutoModelForImageClassification.from_pretrained(folder)
    assert int(torch.count_nonzero(model.hidden[1].weight)) <= round(0.2 * 768)
    assert model.config.image_mean == pytest.approx([0.3], abs=0.05)


def test_momentum_reaches_the_optimizer(
    tmp_path: Path, trained: tuple[Path, dict[str, Any]]
) -> None:
    plain = image_classification.main([config(tmp_path), "--optim_args", "momentum=0.0"])
    assert trained[1]["train_loss"] < plain["train_loss"]


def test_a_resumed_run_is_the_run_that_never_stopped(
    tmp_path: Path, trained: tuple[Path, dict[str, Any]]
) -> None:
    again = config(tmp_path, save_strategy="steps", save_steps=6, do_predict=False)
    image_classification.main([again])
    (tmp_path / "out/config.json").unlink()
    results = image_classification.main(
        [again, "--resume_from_checkpoint", str(tmp_path / "out/checkpoint-6")]
    )
    assert results["resumed_from_step"] == 6
    whole = weights(trained[0])
    for name, weight in weights(tmp_path / "out").items():
        assert torch.equal(weight, whole[name]), name


def test_a_compact_model_is_smaller_and_as_good(tmp_path: Path) -> None:
    trained = image_classification.main([config(tmp_path, {"sparsity": 0.97})])
    results = compact_mlp.main([str(tmp_path / "out"), config(tmp_path)])
    assert json.loads((tmp_path / "out/compact/compact.json").read_text()) == results
    before, after = results["models"]["trained"], results["models"]["compact"]
    assert before["accuracy"] == after["accuracy"] == pytest.approx(trained["predict_accuracy"])
    assert after["largest_difference_of_logits"] < 1e-5
    assert after["parameters"] < before["parameters"]
    assert after["file_bytes"] < before["file_bytes"]
    small = AutoModelForImageClassification.from_pretrained(tmp_path / "out/compact")
    assert small.config.hidden_sizes == results["compact_hidden_sizes"]
    assert "| compact | " in compact_mlp.compact_table(results)


def test_a_run_keeps_its_masks_for_the_report(
    tmp_path: Path, trained: tuple[Path, dict[str, Any]]
) -> None:
    measured = ["--topology_measures", "clustering", "--topology_steps", "1000"]  # the last update
    words = [config(tmp_path), "--record_topology", "true", *measured]
    results = image_classification.main(words)
    history = read_history(tmp_path / "out")
    assert history is not None
    assert [record["update"] for record in history.records] == [0, 1, 2, 3]
    assert history.records[-1]["itop_rate"] == results["itop_rate"]
    assert [len(layers) for layers in history.chains.values()] == [3]
    first, last = (history.masks(history.frames[i]) for i in (0, -1))
    assert sum(int(mask.sum()) for mask in last.values()) == results["links"]
    assert any((first[name] != last[name]).any() for name in last)
    log = json.loads((tmp_path / "out/trainer_state.json").read_text())["log_history"]
    updates = [entry for entry in log if "topology/from_start" in entry and "loss" not in entry]
    # The last one removed nothing (the fraction has fallen to 0), so it has no overlap.
    assert ["topology/overlap" in entry for entry in updates[:3]] == [True, True, False]
    (taken,) = (entry for entry in log if "topology/clustering" in entry)
    assert taken == updates[2]
    (of_chain,) = history.records[-1]["measures"].values()
    assert taken["topology/clustering_rewired"] == of_chain["clustering_rewired"] > 0
    # Watching changes nothing, and nothing is kept unless asked for.
    assert results["predict_loss"] == trained[1]["predict_loss"]
    assert read_history(trained[0]) is None


def test_a_dense_run_is_counted_over_the_same_layers(tmp_path: Path) -> None:
    results = image_classification.main([config(tmp_path), "--chts.method", "dense"])
    assert results["links"] == results["sparsified_weights"] == 64 * 32 + 32 * 24 + 24 * 16
    assert (results["sparsity"], results["anp"]) == (0.0, 1.0)


def test_a_model_is_tested_without_training(
    tmp_path: Path, trained: tuple[Path, dict[str, Any]]
) -> None:
    tested = image_classification.main(
        [config(tmp_path, do_train=False, output_dir=str(tmp_path / "tested")),
         "--model_name_or_path", str(trained[0])]
    )  # fmt: skip
    assert tested["predict_accuracy"] == trained[1]["predict_accuracy"]
    assert "links" not in tested


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--train_images", "a.idx"], "either dataset_name or local files"),
        (["--validation_samples", "-1"], "validation_samples is -1; it must be at least 0"),
        (["--hidden_size", "3"], "unknown option --hidden_size; did you mean hidden_sizes"),
        (["--chts.init_options", "{r: 0.1}", "--chts.sparsty", "0.5"], "sparsty"),
    ],
)
def test_wrong_arguments(tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_arguments([config(tmp_path), *words])


def test_the_digits_are_what_is_used_unless_something_else_is_said() -> None:
    told = ["--output_dir", "x", "--use_cpu", "--do_predict"]
    arguments = read_arguments([*told, "--hidden_sizes", "5", "4"])
    assert arguments.data.dataset_name == "digits"
    assert arguments.model.hidden_sizes == [5, 4]
    taken_back = ["--dataset_name", "", "--test_images", "a.npz", *told]
    assert read_arguments(["--dataset_name", "mnist", *taken_back]).data.dataset_name is None


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in sorted(Path("configs").glob("*.yaml"))
        if "\nhidden_sizes:" in path.read_text()
    ],
    ids=lambda path: path.stem,
)
def test_the_configurations_of_the_repository_are_read(path: Path) -> None:
    arguments = read_arguments([str(path), "--use_cpu"])
    assert arguments.training.do_train
    assert Path(str(arguments.training.output_dir)).name == path.stem


@pytest.mark.parametrize(
    ("name", "shape", "classes", "epoch"),
    [
        ("mnist", (28, 28), 10, 60_000 / 32),
        ("emnist", (28, 28), 47, 112_800 / 32),
        ("cifar10", (32, 32, 3), 10, 50_000 / 32),
    ],
)
def test_the_published_settings_train(
    tmp_path: Path, name: str, shape: tuple[int, ...], classes: int, epoch: float
) -> None:
    path = f"configs/{name}_mlp_chts_99_published.yaml"
    asked = read_arguments([path, "--use_cpu"])
    assert asked.model.hidden_sizes == [3072 if name == "cifar10" else 1568] * 3
    assert asked.chts.update_interval == math.ceil(epoch)
    assert (asked.chts.zeta, asked.chts.sparsity) == (0.3, 0.99)
    assert asked.chts.for_layer("hidden.0.weight").init == "csti"
    draw = np.random.default_rng(0)
    labels = draw.permutation(np.arange(96) % classes)
    pixels = draw.integers(0, 255, (96, *shape), dtype=np.uint8)
    split = {"x_train": pixels, "y_train": labels, "x_test": pixels[:9], "y_test": labels[:9]}
    np.savez(tmp_path / "own.npz", **split)
    # As it says but for the data, the width, the length, and updates that fall within it.
    words = f"--dataset_name= --data_dir {tmp_path} --train_images own.npz --test_images own.npz "
    words += f"--hidden_sizes 48 40 32 --output_dir {tmp_path}/out --use_cpu --max_steps 5 "
    words += "--logging_steps 1 --save_strategy no --chts.update_interval 2"
    results = image_classification.main([path, *words.split()])
    assert (results["train_images"], results["steps"]) == (96, 5)
    assert results["topology_updates"] == 1
    assert results["links"] == sum(
        round(0.01 * a * b) for a, b in ((math.prod(shape), 48), (48, 40), (40, 32))
    )
    log = json.loads((tmp_path / "out/trainer_state.json").read_text())["log_history"]
    rates = [entry["learning_rate"] for entry in log if "learning_rate" in entry]
    assert rates == pytest.approx(np.linspace(0.025, 2.5e-4, 6)[: len(rates)])


def test_without_validation_images_there_is_nothing_to_evaluate(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="do_eval and eval_strategy need images to validate with"):
        image_classification.main([config(tmp_path), "--validation_samples", "0"])
