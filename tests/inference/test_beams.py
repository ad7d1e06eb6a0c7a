"""Beams that share the encoding of their sentence generate what they do with one each."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from transformers import (
    AttentionInterface,
    AutoModelForSeq2SeqLM,
    MBartConfig,
    MBartForConditionalGeneration,
    PegasusConfig,
    PegasusForConditionalGeneration,
)

from chts_hf.inference import beams, share_encodings
from chts_hf.inference.beams import SHARED, attend
from tests.builders import VOCABULARY, tiny_marian
from tests.inference.models import tiny_bart, tiny_t5


def tiny_like_bart(model_class, config_class):
    settings = tiny_bart().config.to_dict()
    for name in ("model_type", "architectures", "_name_or_path"):
        settings.pop(name, None)
    return model_class(config_class(**settings))


MODELS = {
    "marian": lambda: tiny_marian(init_std=0.3, encoder_layers=2, decoder_layers=2),
    "bart": tiny_bart,
    "mbart": lambda: tiny_like_bart(MBartForConditionalGeneration, MBartConfig),
    "pegasus": lambda: tiny_like_bart(PegasusForConditionalGeneration, PegasusConfig),
}
SEARCHES = {
    "greedy": {"num_beams": 1, "do_sample": False},
    "beams": {"num_beams": 4, "do_sample": False},
    "several of each": {"num_beams": 4, "num_return_sequences": 3, "do_sample": False},
    "samples": {"num_beams": 1, "do_sample": True, "num_return_sequences": 3},
    "a beginning": {"num_beams": 3, "do_sample": False, "decoder_input_ids": [[0, 5, 7]] * 3},
    "no cache": {"num_beams": 3, "do_sample": False, "use_cache": False},
}


def sentences() -> dict[str, torch.Tensor]:
    ids = torch.randint(3, VOCABULARY, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    ids[1, 5:], mask[1, 5:] = 0, 0  # padding, so that the wrong sentence's mask would be seen
    ids[2, 3:], mask[2, 3:] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}


def generated(model, options):
    options = {k: torch.tensor(v) if k == "decoder_input_ids" else v for k, v in options.items()}
    torch.manual_seed(0)
    return model.generate(
        **sentences(),
        **options,
        max_new_tokens=10,
        no_repeat_ngram_size=1,
        output_scores=True,
        return_dict_in_generate=True,
    )


def watch(monkeypatch, module, name):
    """Calls of a function: a list that grows by one for each."""
    calls, function = [], getattr(module, name)

    def watching(*args, **options):
        calls.append(name)
        return function(*args, **options)

    monkeypatch.setattr(module, name, watching)
    return calls


@pytest.fixture
def seen(monkeypatch):
    """How many rows of queries and of keys attention was asked about, once for each call."""
    rows = []

    def watching(module, query, key, *rest, **options):
        rows.append((query.shape[0], key.shape[0]))
        return attend(module, query, key, *rest, **options)

    monkeypatch.setitem(AttentionInterface._global_mapping, SHARED, watching)
    return rows


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("products", [False, True])
def test_tokens_and_scores_are_the_same(name, search, products, seen, monkeypatch):
    monkeypatch.setattr(beams, "_MANY_HEADS", 1 if products else 10**6)
    by_products = watch(monkeypatch, beams, "_by_products")
    model = MODELS[name]().eval()
    shared = copy.deepcopy(model)
    assert share_encodings(shared)
    assert not share_encodings(shared), "once is enough"
    want, found = generated(model, SEARCHES[search]), generated(shared, SEARCHES[search])
    assert want.sequences.unique().numel() > 8, "one token over and over shows nothing"
    assert torch.equal(found.sequences, want.sequences)
    for one, other in zip(found.scores, want.scores, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    each = SEARCHES[search].get("num_return_sequences", 1) if search == "samples" else 1
    several = SEARCHES[search]["num_beams"] * each
    # The encoder's, the beams' own past, and the beams' to the three encodings.
    assert set(seen) == {(3, 3), (3 * several, 3 * several), (3 * several, 3)}
    assert bool(by_products) == products * (several > 1)
    assert model.config._attn_implementation == "sdpa"


def test_products_are_the_same_attention():
    """With masks of both kinds, a scale of its own, and some queries for each beam."""
    key, value = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 5, 4)
    query = torch.randn(2, 3, 7, 4)
    boolean = torch.rand(2, 1, 7, 5) < 0.7
    boolean[..., 0] = True
    for mask in (None, boolean, torch.randn(2, 1, 7, 5)):
        for scaling in (None, 0.3):
            found, _ = beams._by_products(None, query, key, value, mask, scaling=scaling)
            want = torch.nn.functional.scaled_dot_product_attention(
                query, key, value, mask, scale=scaling
            )
            torch.testing.assert_close(found, want.transpose(1, 2))


def test_the_encoding_is_neither_repeated_nor_copied(seen, monkeypatch):
    model = MODELS["marian"]().eval()
    share_encodings(model)
    asked = []
    layer = model.model.decoder.layers[0].encoder_attn.k_proj
    layer.register_forward_hook(lambda module, inputs, output: asked.append(output.shape))
    caches = []
    inner = model._reorder_cache

    def reorder(cache, order):
        before = [layer.keys.data_ptr() for layer in cache.cross_attention_cache.layers]
        after = inner(cache, order).cross_attention_cache.layers
        caches.append(before == [layer.keys.data_ptr() for layer in after])
        return cache

    monkeypatch.setattr(model, "_reorder_cache", reorder)
    generated(model, SEARCHES["beams"])
    assert asked == [(3, 9, 16)]  # three sentences, once
    assert len(caches) > 3
    assert all(caches)


def test_another_attention_ends_it_and_copies_go_their_own_way():
    model = MODELS["marian"]().eval()
    want = generated(model, SEARCHES["beams"])
    share_encodings(model)
    twin = copy.deepcopy(model)
    twin.set_attn_implementation("eager")
    found = generated(twin, SEARCHES["beams"] | {"output_attentions": True})
    assert torch.equal(found.sequences, want.sequences)
    assert found.cross_attentions[0][0].shape[0] == 12, "with an encoding for each beam"
    assert torch.equal(generated(model, SEARCHES["beams"]).sequences, want.sequences)


def test_a_pickled_model_comes_back_sharing():
    model = tiny_marian().eval()
    assert share_encodings(model)
    back = pickle.loads(pickle.dumps(model))
    assert back._reorder_cache.args == (back,)
    options = {"num_beams": 3, "do_sample": False, "max_new_tokens": 5}
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(back.generate(input_ids=ids, **options), model.generate(ids, **options))


def test_nothing_of_it_is_saved(tmp_path):
    model = MODELS["marian"]().eval()
    share_encodings(model)
    model.save_pretrained(tmp_path)
    assert SHARED not in (tmp_path / "config.json").read_text()
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert loaded.config._attn_implementation == "sdpa"
    assert torch.equal(
        generated(loaded, SEARCHES["beams"]).sequences,
        generated(model, SEARCHES["beams"]).sequences,
    )


def test_other_models_stay_as_they_are():
    eager = tiny_marian()
    eager.set_attn_implementation("eager")
    for model in (tiny_t5(), torch.nn.Linear(2, 2), eager):
        assert not share_encodings(model)
        assert "_reorder_cache" not in vars(model)
