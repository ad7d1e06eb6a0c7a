"""What is saved sparse comes back bit for bit, by every way to load it."""

from __future__ import annotations

import copy
import json
import logging
import re
import weakref

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from chts_hf import CHTsConfig, Sparsifier, find_targets, load_sparse, save_sparse
from chts_hf.checkpoint.inspection import verify
from chts_hf.checkpoint.tensor_file import Entry, write_file
from chts_hf.inference import SparseLinear, choice
from tests.architectures import ARCHITECTURES
from tests.builders import tiny_marian
from tests.checkpoint.sparse_models import assert_same_weights, nonzero, prune, sparse_marian

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_come_back_bit_for_bit(tmp_path, dtype):
    model = sparse_marian().to(dtype)
    save_sparse(model, tmp_path)
    for loaded in (AutoModelForSeq2SeqLM.from_pretrained(tmp_path), load_sparse(tmp_path)):
        assert type(loaded) is type(model)
        assert_same_weights(model, loaded)
        assert not loaded.training
        ids = torch.arange(3, 19).reshape(2, 8)
        with torch.inference_mode():
            expected = model.eval()(input_ids=ids, decoder_input_ids=ids).logits
            assert torch.equal(loaded(input_ids=ids, decoder_input_ids=ids).logits, expected)


@pytest.mark.parametrize(
    "sparsity", [0.0, 0.3, 0.9, 0.99, 1.0], ids=lambda s: f"{s:.0%} sparse"
)  # fmt: skip
def test_every_sparsity_comes_back(tmp_path, sparsity):
    model = sparse_marian(sparsity)
    sizes = save_sparse(model, tmp_path)
    assert sizes.sparsified_bytes <= sizes.sparsified_dense_bytes
    assert_same_weights(model, load_sparse(tmp_path))


@pytest.mark.parametrize("name", ["T5", "T5 v1.1", "BERT + GPT-2", "GPT-2", "LLaMA", "BERT",
                                  "SwitchTransformers", "FSMT", "LED"])  # fmt: skip
def test_every_kind_of_model_comes_back(tmp_path, name):
    torch.manual_seed(0)
    model = prune(ARCHITECTURES[name].build())
    sizes = save_sparse(model, tmp_path)
    assert sizes.sparsified_ratio < 0.25
    assert_same_weights(model, load_sparse(tmp_path))
    assert all(check.passed for check in verify(tmp_path).checks)


def test_other_auto_classes_find_their_part(tmp_path):
    model = sparse_marian()
    save_sparse(model, tmp_path)
    for name, weight in AutoModel.from_pretrained(tmp_path).named_parameters():
        assert torch.equal(weight, model.get_parameter(f"model.{name}")), name


def test_a_causal_head_is_put_on_a_base_model(tmp_path):
    """Names without the prefix that the loading class expects."""
    model = prune(ARCHITECTURES["GPT-2"].build())
    save_sparse(model.transformer, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert_same_weights(model.transformer, loaded.transformer)


def test_another_dtype_may_be_asked_for(tmp_path):
    model = sparse_marian()
    save_sparse(model, tmp_path)
    assert_same_weights(model.to(torch.bfloat16), load_sparse(tmp_path, dtype=torch.bfloat16))


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 0.14), (torch.bfloat16, 0.17),
                                                (torch.float16, 0.17)])  # fmt: skip
def test_at_ninety_percent_files_are_small(tmp_path, dtype, limit):
    model = sparse_marian(d_model=128, encoder_ffn_dim=512).to(dtype)
    sizes = save_sparse(model, tmp_path / "sparse")
    model.save_pretrained(tmp_path / "dense")
    assert sizes.sparsified_ratio <= limit
    size = {
        name: sum(path.stat().st_size for path in (tmp_path / name).glob("*.safetensors"))
        for name in ("sparse", "dense")
    }
    assert size["sparse"] == sizes.sparse_bytes
    assert size["dense"] == pytest.approx(sizes.dense_bytes, rel=0.001)
    stored = sum(weight.numel() * weight.element_size() for weight in _targets(model))
    assert sizes.sparsified_dense_bytes == stored
    assert sizes.ratio == sizes.sparse_bytes / sizes.dense_bytes


def _targets(model):
    return [model.get_parameter(name) for name in nonzero(model)]


def test_shards_hold_the_same(tmp_path):
    model = sparse_marian()
    save_sparse(model, tmp_path, max_shard_size="5KB")
    shards = list(tmp_path.glob("*.safetensors"))
    assert len(shards) > 2
    assert all(path.stat().st_size < 14_000 for path in shards)
    assert_same_weights(model, load_sparse(tmp_path))
    assert_same_weights(model, AutoModelForSeq2SeqLM.from_pretrained(tmp_path))


def test_the_safetensors_library_reads_the_files(tmp_path):
    model = sparse_marian()
    save_sparse(model, tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
        assert file.metadata() == {"format": "pt"}
        embedding = file.get_tensor("model.shared.weight")
        values = file.get_tensor("model.encoder.layers.0.fc1.weight")
    assert torch.equal(embedding, model.get_parameter("model.shared.weight"))
    weight = model.get_parameter("model.encoder.layers.0.fc1.weight")
    assert torch.equal(values, weight[weight != 0])
    assert "model.encoder.layers.0.fc1.weight.links" in names
    # Tied to the embedding: stored once.
    assert not names & {"lm_head.weight", "model.encoder.embed_tokens.weight"}


def test_tensors_are_written_one_at_a_time(tmp_path):
    made: list[weakref.ref[torch.Tensor]] = []

    def make():
        assert not any(tensor() is not None for tensor in made)
        tensor = torch.ones(100)
        made.append(weakref.ref(tensor))
        return tensor

    write_file(tmp_path / "x", [Entry(f"{i}", torch.float32, (100,), make) for i in range(6)])
    assert len(made) == 6


def test_nothing_of_the_format_stays_on_a_loaded_model(tmp_path):
    model = sparse_marian()
    save_sparse(model, tmp_path / "sparse")
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "sparse")
    assert not hasattr(loaded.config, "quantization_config")
    assert not hasattr(loaded, "hf_quantizer")
    loaded.save_pretrained(tmp_path / "dense")
    written = json.loads((tmp_path / "dense" / "config.json").read_text())
    assert not written.keys() & {"quantization_config", "transformers_weights"}
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "dense")
    assert_same_weights(model, again)
    save_sparse(again, tmp_path / "again")
    assert_same_weights(model, load_sparse(tmp_path / "again"))


def test_config_json_says_what_the_file_is(tmp_path):
    config = CHTsConfig(method="rigl", sparsity=0.9)
    save_sparse(sparse_marian(), tmp_path, config=config, metadata={"bleu": 12.5})
    values = json.loads((tmp_path / "config.json").read_text())
    section = values["quantization_config"]
    assert (section["quant_method"], section["format_version"]) == ("chts_hf", 1)
    assert section["method"] == "rigl"
    assert CHTsConfig.from_dict(section["config"]) == config
    assert section["metadata"] == {"bleu": 12.5}
    layer = section["sparsity"]["layers"]["model.encoder.layers.0.fc1.weight"]
    assert (layer["kind"], layer["shape"]) == ("ffn.up", [64, 32])
    links = {n: la["links"] for n, la in section["sparsity"]["layers"].items()}
    assert links == {n: int(m.sum()) for n, m in nonzero(sparse_marian()).items()}
    assert section["sparsity"]["links"] == sum(links.values())
    assert values["architectures"] == ["MarianMTModel"]
    assert (tmp_path / "generation_config.json").is_file()


def test_training_goes_on_with_the_same_masks(tmp_path):
    model = tiny_marian()
    config = CHTsConfig(sparsity=0.8, update_interval=4)
    sparsifier = Sparsifier(model, None, config, total_steps=40)
    masks = {name: mask.clone() for name, mask in sparsifier.masks.items()}
    some = next(iter(masks))
    first = masks[some].nonzero()[0]
    model.get_parameter(some).data[tuple(first)] = 0  # a link, as if just regrown
    save_sparse(model, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["quantization_config"]["method"] == (
        "chts"
    )

    again = load_sparse(tmp_path)
    config = CHTsConfig(sparsity=0.8, update_interval=4, init="from_weights")
    taken = Sparsifier(again, None, config, total_steps=40)
    assert taken.masks.keys() == masks.keys()
    for name, mask in masks.items():
        assert torch.equal(taken.masks[name], mask), name
    taken.close()
    # Known once: whoever trained the model since has other links.
    second = Sparsifier(again, None, config, total_steps=40)
    assert int(second.masks[some].sum()) == int(masks[some].sum()) - 1


def test_links_of_weight_zero_come_back_from_a_layer_that_is_stored_dense(tmp_path):
    model = sparse_marian(0.0)
    name = "model.encoder.layers.0.fc1.weight"
    weight = model.get_parameter(name)
    weight.data[3, 4] = 0
    everything = {name: torch.ones_like(weight, dtype=torch.bool)}
    nearly = {name: everything[name].clone()}
    nearly[name][5, 6], weight.data[5, 6] = False, 0
    for masks in (everything, nearly):
        save_sparse(model, tmp_path, masks=masks)
        targets = {"ffn.up": r".*encoder.*fc1"}
        config = CHTsConfig(init="from_weights", sparsity=0.0, targets=targets)
        taken = Sparsifier(load_sparse(tmp_path), None, config, total_steps=400)
        assert torch.equal(taken.masks[name], masks[name])
        taken.close()


def test_masks_that_would_lose_weights_are_refused(tmp_path):
    model = sparse_marian()
    name = "model.encoder.layers.0.fc1.weight"
    right = nonzero(model)[name]
    wrong = right.clone()
    wrong[tuple(right.nonzero()[0])] = False
    for masks, message in [
        ({name: wrong}, "has 1 weights that are not 0 where its mask has no link"),
        ({name: right.T}, r"must be bool of shape \(64, 32\)"),
        ({name: right.float()}, "must be bool"),
        ({"nobody": right}, "no such parameter"),
    ]:
        with pytest.raises(ValueError, match=message):
            save_sparse(model, tmp_path / "never", masks=masks)
    assert not (tmp_path / "never").exists()


def test_a_weight_of_another_dtype_is_refused(tmp_path):
    with pytest.raises(ValueError, match="float64; sparsified weights are fp32, bf16 or fp16"):
        save_sparse(sparse_marian().double(), tmp_path)


def test_an_older_models_sparse_copy_is_no_longer_there(tmp_path):
    save_sparse(sparse_marian(0.9), tmp_path, dense_copy=True)
    (tmp_path / "sparse" / "notes").touch()
    save_sparse(sparse_marian(0.8), tmp_path)
    assert not (tmp_path / "sparse").exists()

    own = tmp_path / "other" / "sparse"
    own.mkdir(parents=True)
    save_sparse(sparse_marian(0.8), tmp_path / "other")
    assert own.is_dir()  # no checkpoint of ours


def test_the_sparse_backend_multiplies_the_layers_that_were_trained(tmp_path, monkeypatch):
    times = {"dense": 1.0, "native": 0.2, "torch": 0.3, "swapped": 1.0}
    monkeypatch.setattr(choice, "_times", lambda calls: {name: times[name] for name in calls})
    model = sparse_marian(0.9)
    only = r"model\.decoder\.layers\.\d+\.fc1"
    config = CHTsConfig(targets={"ffn.up": only})
    save_sparse(model, tmp_path, config=config)
    loaded = load_sparse(tmp_path, backend="csr")
    found = {n for n, layer in loaded.named_modules() if isinstance(layer, SparseLinear)}
    assert found
    assert all(re.search(only, name) for name in found)
    assert found == {t.parameter_name.removesuffix(".weight") for t in find_targets(model, config)}


def test_a_backend_that_nothing_gains_by_says_so(tmp_path, caplog):
    save_sparse(sparse_marian(0.1), tmp_path)  # too few zeros to be worth a measurement
    with caplog.at_level(logging.WARNING, "chts_hf"):
        load_sparse(tmp_path, backend="csr")
    (record,) = caplog.records
    assert "no target layer is faster with sparse products on this machine" in record.message
    assert "\n" not in record.message


def test_an_unknown_backend_is_refused(tmp_path):
    with pytest.raises(ValueError, match="backend must be one of dense, csr, got 'fast'"):
        load_sparse(tmp_path, backend="fast")


def test_layers_that_stay_in_single_precision_do(tmp_path):
    """T5 keeps wo in fp32 when it is loaded in fp16, sparse or not."""
    model = prune(ARCHITECTURES["T5"].build())
    model.save_pretrained(tmp_path / "dense")
    save_sparse(model, tmp_path / "sparse")
    dense, sparse = (
        AutoModelForSeq2SeqLM.from_pretrained(tmp_path / name, dtype=torch.float16)
        for name in ("dense", "sparse")
    )
    assert_same_weights(dense, sparse)
    kept = sparse.get_parameter("encoder.block.0.layer.1.DenseReluDense.wo.weight")
    assert kept.dtype == torch.float32


def test_a_device_map_may_be_given(tmp_path):
    model = sparse_marian()
    save_sparse(model, tmp_path)
    assert_same_weights(model, AutoModelForSeq2SeqLM.from_pretrained(tmp_path, device_map="cpu"))


@pytest.mark.gpu
def test_weights_come_back_from_and_to_a_gpu(tmp_path):
    model = sparse_marian()
    save_sparse(copy.deepcopy(model).cuda(), tmp_path)
    assert_same_weights(model, load_sparse(tmp_path, device="cuda").cpu())
    placed = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, device_map="cuda")
    assert placed.device.type == "cuda"
    assert_same_weights(model, placed.cpu())
