"""inspect, verify and export."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from transformers import AutoModelForSeq2SeqLM

from chts_hf import CHTsConfig, cli, load_sparse, save_sparse
from chts_hf.checkpoint.export import densify, sparsify
from chts_hf.checkpoint.inspection import inspect_file
from chts_hf.translation.tokenizers import TokenizerPair
from tests.checkpoint.damage import edit, make_old, take_out
from tests.checkpoint.sparse_models import sparse_marian
from tests.commands.conftest import CONFIG


def weights_file(folder: Path) -> Path:
    (path,) = folder.glob("*.safetensors")
    return path


def test_inspect_prints_every_layer_every_kind_and_the_sum(saved, capsys):
    assert cli.main(["inspect", str(saved / "sparse")]) == 0
    printed = capsys.readouterr().out
    report = inspect_file(saved / "sparse")
    links: dict[str, int] = {}
    for layer in report.layers:
        row = re.search(rf"^{re.escape(layer.name)} .*$", printed, re.M)
        assert row is not None
        assert f" {layer.links:,} " in row[0]
        assert f"{layer.bytes:,}" in row[0]
        links[layer.kind] = links.get(layer.kind, 0) + layer.links
    for kind, count in links.items():
        assert re.search(rf"^\d+ layers? +{re.escape(kind)} +{count:,} ", printed, re.M), kind
    assert re.search(rf"^all sparsified +{report.sizes.links:,} ", printed, re.M)
    size = weights_file(saved / "sparse").stat().st_size
    assert f"{size:,} bytes, dense {report.sizes.dense_bytes:,}" in printed
    assert "trained by chts" in printed
    assert "sparsity 0.9" in printed


def test_inspect_prints_settings_that_are_0_or_off(tmp_path, capsys):
    config = CHTsConfig(method="set", sparsity=0.9, seed=0, percolation=False)
    save_sparse(sparse_marian(), tmp_path, config=config)
    assert cli.main(["inspect", str(tmp_path)]) == 0
    settings = capsys.readouterr().out.partition("settings: ")[2]
    assert "seed 0," in settings
    assert "percolation False," in settings
    assert "None" not in settings
    assert "[]" not in settings


def test_inspect_prints_json_that_adds_up(saved, capsys):
    assert cli.main(["inspect", str(saved / "sparse"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["config"] == CONFIG.to_dict()
    assert report["architecture"] == "MarianMTModel"
    assert report["sizes"]["links"] == sum(layer["links"] for layer in report["layers"])
    assert report["sizes"]["links"] == sum(kind["links"] for kind in report["kinds"].values())
    weights = sum(kind["weights"] for kind in report["kinds"].values())
    assert report["sparsity"] == 1 - report["sizes"]["links"] / weights
    assert report["sizes"]["ratio"] < 1


def test_inspect_refuses_a_dense_checkpoint(saved, capsys):
    assert cli.main(["inspect", str(saved / "dense")]) == 1
    assert "is no sparse checkpoint" in capsys.readouterr().err


def test_verify_passes_what_was_saved(saved, capsys):
    assert cli.main(["verify", str(saved / "sparse")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["ok", name] for name in ("config", "headers", "model", "checksums", "links", "finite")
    ]


def test_verify_finds_one_wrong_bit(sparse, capsys):
    path = weights_file(sparse)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    assert cli.main(["verify", str(sparse)]) == 1
    assert re.search(r"^FAILED +checksums", capsys.readouterr().out, re.M)


def test_verify_misses_a_layer_and_says_what_it_cannot_know(sparse, capsys):
    take_out(sparse, "decoder.layers.0.fc1")
    assert cli.main(["verify", str(sparse)]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"^FAILED +model .* missing: model.decoder.layers.0.fc1.bias", printed, re.M)
    make_old(sparse)
    edit(sparse / "config.json", lambda values: values.update(architectures=["MyModel"]))
    assert cli.main(["verify", str(sparse)]) == 0
    assert re.search(r"^skipped +model +not checked .*'MyModel'", capsys.readouterr().out, re.M)


def test_verify_finds_a_file_that_was_cut(sparse, capsys):
    path = weights_file(sparse)
    path.write_bytes(path.read_bytes()[:-100])
    assert cli.main(["verify", str(sparse)]) == 1
    assert re.search(r"^FAILED +headers", capsys.readouterr().out, re.M)


def test_verify_fails_a_dense_checkpoint(saved, capsys):
    assert cli.main(["verify", str(saved / "dense")]) == 1
    assert "FAILED  config" in capsys.readouterr().out


def test_export_goes_there_and_back_without_changing_a_bit(saved, tmp_path, capsys):
    small, plain = tmp_path / "small", tmp_path / "plain"
    assert cli.main(["export", str(saved / "dense"), "--to", "sparse", str(small)]) == 0
    printed = capsys.readouterr().out
    sizes = inspect_file(small).sizes
    assert f"{sizes.sparse_bytes:,} bytes" in printed
    assert f"{sizes.links:,} of {sizes.weights:,}" in printed
    assert cli.main(["export", str(small), "--to", "dense", str(plain)]) == 0
    before = AutoModelForSeq2SeqLM.from_pretrained(saved / "dense").state_dict()
    for state in (
        load_sparse(small).state_dict(),
        AutoModelForSeq2SeqLM.from_pretrained(plain).state_dict(),
    ):
        assert all(torch.equal(tensor, state[name]) for name, tensor in before.items())
    assert "quantization_config" not in json.loads((plain / "config.json").read_text())
    text = "the dog sleeps"
    tokens = TokenizerPair.load(saved / "dense").source(text)["input_ids"]
    assert TokenizerPair.load(plain).source(text)["input_ids"] == tokens


def test_export_takes_a_second_tokenizer_along(sparse, tmp_path):
    pair = TokenizerPair(TokenizerPair.load(sparse).source, TokenizerPair.load(sparse).source)
    assert not pair.joint
    pair.save(sparse)
    densify(sparse, tmp_path / "dense")
    sparsify(tmp_path / "dense", tmp_path / "sparse again")
    assert cli.main(["export", str(sparse), "--to", "dense", str(tmp_path / "out")]) == 0
    for made in ("dense", "sparse again", "out"):
        assert not TokenizerPair.load(tmp_path / made).joint
        assert not list((tmp_path / made).glob("_saving-*"))


def test_export_does_not_write_over_a_folder(saved, tmp_path, capsys):
    (tmp_path / "note.txt").touch()
    assert cli.main(["export", str(saved / "dense"), "--to", "sparse", str(tmp_path)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_export_refuses_what_is_sparse_or_dense_already(saved, tmp_path, capsys):
    assert cli.main(["export", str(saved / "sparse"), "--to", "sparse", str(tmp_path / "a")]) == 1
    assert "sparse checkpoint already" in capsys.readouterr().err
    assert cli.main(["export", str(saved / "dense"), "--to", "dense", str(tmp_path / "b")]) == 1
    assert "no sparse checkpoint" in capsys.readouterr().err


def test_an_export_that_is_interrupted_leaves_nothing_and_no_traceback(
    saved, tmp_path, capsys, monkeypatch
):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("chts_hf.checkpoint.save.write_weights", interrupted)
    out = tmp_path / "out"
    assert cli.main(["export", str(saved / "sparse"), "--to", "dense", str(out)]) == 130
    assert capsys.readouterr().err == ""
    assert list(out.iterdir()) == []
    monkeypatch.undo()
    assert cli.main(["export", str(saved / "sparse"), "--to", "dense", str(out)]) == 0
