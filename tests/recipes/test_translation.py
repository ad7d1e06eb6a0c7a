"""The recipes from end to end, at a size that takes seconds."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from chts_hf import load_sparse
from chts_hf.checkpoint.inspection import inspect_file
from chts_hf.translation import corpora
from chts_hf.translation.tokenizers import TokenizerPair
from recipes import translation, unseen
from tests.translation.helpers import corpus

TINY = {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "attention_heads": 2, "ffn_dim": 32,
    "vocab_size": 300, "max_source_length": 32, "max_target_length": 24, "num_beams": 2,
    "do_train": True, "do_eval": True, "do_predict": True, "predict_with_generate": True,
    "max_steps": 8, "per_device_train_batch_size": 8, "per_device_eval_batch_size": 16,
    "learning_rate": "1e-2", "logging_steps": 2, "save_strategy": "no", "report_to": "none",
    "use_cpu": True, "disable_tqdm": True, "seed": 3,
}  # fmt: skip
CHTS = {"update_interval": 2, "sparsity": 0.75}


def config(folder: Path, chts: dict[str, Any] | None = None, **changes: Any) -> str:
    path = folder / "tiny.yaml"
    content = {**TINY, "output_dir": str(folder / "out"), **changes, "chts": CHTS | (chts or {})}
    path.write_text(json.dumps(content))  # JSON is YAML
    return str(path)


def write_parallel(folder: Path) -> dict[str, str]:
    files = {}
    for seed, (split, size) in enumerate({"train": 40, "validation": 6, "test": 7}.items()):
        rows = [row["translation"] for row in corpus(size, seed)]
        for lang in ("en", "de"):
            text = "".join(row[lang] + "\n" for row in rows)
            (folder / f"{split}.{lang}.gz").write_bytes(gzip.compress(text.encode()))
        files[f"{split}_file"] = f"{split}.{{lang}}.gz"
    return {"data_dir": str(folder), **files}


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run on the embedded corpus: its output folder and its results."""
    folder = tmp_path_factory.mktemp("embedded")
    results = translation.main(
        [
            config(folder, dataset_name="embedded", embedded_train=80, embedded_validation=6,
                   embedded_test=7, eval_strategy="steps", eval_steps=4, measure_speed=True),
            "--label_smoothing_factor", "0.1",
        ]
    )  # fmt: skip
    return folder / "out", results


def test_what_a_run_leaves(embedded: tuple[Path, dict[str, Any]]) -> None:
    folder, results = embedded
    assert json.loads((folder / "all_results.json").read_text()) == results
    assert results["method"] == "chts"
    assert results["setting"] == "tiny"
    assert (results["seed"], results["steps"], results["target_sparsity"]) == (3, 8, 0.75)
    # 3 attentions of four 16x16 projections, two feed-forwards of two 16x32.
    assert results["sparsified_weights"] == 5120
    assert results["links"] == 1280
    assert results["sparsity"] == 0.75
    assert 0.25 < results["itop_rate"] < 0.75
    assert 0 < results["anp"] <= 1
    assert results["topology_updates"] >= 2
    assert 0 < results["topology_runtime"] < results["train_runtime"]
    assert results["nonzero_parameters"] <= results["total_parameters"] - (5120 - 1280)
    assert results["corpus"].keys() == {"train", "validation", "test"}
    sentences = corpora.load_embedded("en", "de", train=80, validation=6, test=7)["test"]
    assert results["corpus"]["test"] == corpora.sentences_digest(sentences, "en", "de")
    assert results["bleu_signature"].startswith("nrefs:1|")
    assert 0 <= results["predict_bleu"] <= 100
    assert 0 < results["predict_chrf"] <= 100
    assert 0 < results["eval_loss"] < 8
    assert len((folder / "generated_predictions.txt").read_text().splitlines()) >= 7
    assert (folder / "topology.png").stat().st_size > 20_000
    (speed,) = results["speed"]
    assert "7 sentences at once, beam 2" in speed["name"]
    assert speed["value"].endswith(("the same tokens", "sparse products here"))
    # The saved model is the sparse one, in a sparse file.
    assert inspect_file(folder).sizes.links == 1280
    weights = load_sparse(folder).state_dict()
    targets = [w for name, w in weights.items() if "_proj.weight" in name or ".fc" in name]
    zeros = sum(int((w == 0).sum()) for w in targets if w.dim() == 2)
    assert zeros >= 5120 - 1280


def test_the_saved_model_translates(
    embedded: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = embedded
    translations = unseen.main([str(folder), "--count", "4", "--num_beams", "2"])
    printed = capsys.readouterr().out
    assert len(translations) == 4
    assert printed.count("sentence ") == printed.count("reference ") == 4
    assert all(f"translation  {one}\n" in printed for one in translations)


def test_continuing_from_the_saved_model(
    embedded: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = embedded
    for split, size in (("train", 20), ("test", 5)):
        lines = [json.dumps(row) for row in corpus(size)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines))
    results = translation.main(
        [
            config(tmp_path, {"method": "static"}, train_file=str(tmp_path / "train.jsonl"),
                   test_file=str(tmp_path / "test.jsonl"), do_eval=False, max_steps=2),
            "--model_name_or_path", str(folder), "--source_prefix", "en: ",
            "--max_predict_samples", "4",
        ]
    )  # fmt: skip
    assert results["links"] == 1280
    assert "eval_loss" not in results
    tokenizer = TokenizerPair.load(tmp_path / "out").source
    assert tokenizer.get_vocab() == TokenizerPair.load(folder).source.get_vocab()
    assert len((tmp_path / "out" / "generated_predictions.txt").read_text().split("\n")) == 5
    assert "static at 75 % sparsity" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("dense", {"joint_vocabulary": False, "max_tokens_per_batch": 100}),
        ("set", {"architecture": "bart", "lr_scheduler_type": "noam", "warmup_steps": 2}),
        ("rigl", {"architecture": "t5", "gradient_accumulation_steps": 2, "max_grad_norm": 0.5}),
    ],
)
def test_parallel_text_methods_and_architectures(
    tmp_path: Path, method: str, changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    results = translation.main(
        [config(tmp_path, {"method": method}, **write_parallel(tmp_path), **changes)]
    )
    table = capsys.readouterr().out
    assert results["method"] == method
    assert results["sparsified_weights"] == 5120
    assert results["links"] == (5120 if method == "dense" else 1280)
    assert f"tiny: {method} at {0 if method == 'dense' else 75} % sparsity" in table
    for words in ("BLEU", "chrF", "nrefs:1|", "ITOP rate", "ANP", "cross_attn.q", "training", "7"):
        assert words in table
    lines = (tmp_path / "out" / "generated_predictions.txt").read_text(encoding="utf-8")
    assert len(lines.split("\n")) == 7 + 1
    assert TokenizerPair.load(tmp_path / "out").joint is changes.get("joint_vocabulary", True)


def test_resume(tmp_path: Path) -> None:
    options = [
        config(tmp_path, **write_parallel(tmp_path), save_strategy="steps", save_steps=4,
               do_predict=False, do_eval=False, dropout=0.2)
    ]  # fmt: skip
    translation.main(options)
    out = tmp_path / "out"
    whole = load_sparse(out).state_dict()
    with pytest.raises(ValueError, match=r"holds a finished run .* false .* true to go on"):
        translation.main(options)
    # As if the run had been stopped between its fourth and its eighth step.
    shutil.rmtree(out / "checkpoint-8")
    for path in out.glob("model*.safetensors"):
        path.unlink()
    results = translation.main(options)
    assert results["resumed_from_step"] == 4
    assert results["steps"] == 8
    for name, weight in load_sparse(out).state_dict().items():
        assert torch.equal(weight, whole[name]), name
    anew = translation.main([*options, "--resume_from_checkpoint", "false", "--max_steps", "4"])
    assert "resumed_from_step" not in anew
    assert anew["steps"] == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--test_file", "nowhere.json"], "nowhere.json' does not exist"),
        (["--target_lang", "fr"], "train.fr.gz' does not exist"),
        (["--max_positions", "20"], "model has 20 positions, and max_source_length 32"),
        (["--architecture", "lstm"], "architecture is 'lstm'; it must be one of"),
        (["--vocab_size", "9"], "vocab_size is 9; a byte-level vocabulary needs at least 260"),
        (["--chts.update_interval", "100"], "update_interval"),
        (["--measure_speed", "true", "--do_predict", "false"], "measure_speed times a sparse"),
        (["--measure_speed", "true", "--chts.method", "dense"], "measure_speed times a sparse"),
    ],
)
def test_errors(tmp_path: Path, options: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        translation.main([config(tmp_path, **write_parallel(tmp_path)), *options])


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    files = {**write_parallel(tmp_path)}
    del files["test_file"]
    with pytest.raises(ValueError, match="do_predict needs a 'test' split"):
        translation.main([config(tmp_path, **files)])


def test_unseen_needs_the_embedded_corpus(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name the output folder of a training run"):
        unseen.main([str(tmp_path)])
    (tmp_path / "all_results.json").write_text('{"languages": "en-de"}')
    with pytest.raises(ValueError, match="not trained on the embedded corpus"):
        unseen.main([str(tmp_path)])
