"""Models from scratch: right sizes, right special tokens, same seed same weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForSeq2SeqLM

from chts_hf.translation.models import ARCHITECTURES, ModelSize, build_config, build_model
from chts_hf.translation.tokenizers import TokenizerPair, train_tokenizer, train_tokenizers

SMALL = ModelSize(
    d_model=32, encoder_layers=2, decoder_layers=1, attention_heads=2, ffn_dim=48, max_positions=64
)
CORPUS = Dataset.from_list(
    [{"translation": {"en": f"the cat {i}", "de": f"die Katze {i} " * 2}} for i in range(50)]
)
JOINT = train_tokenizers(CORPUS, "en", "de", 280, joint=True)
APART = TokenizerPair(
    train_tokenizer(["the cat"] * 9, 265), train_tokenizer(["die Katze hier"] * 9, 275)
)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sizes(architecture: str) -> None:
    model = build_model(architecture, SMALL, JOINT)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert model.config.hidden_size == 32
    if architecture == "t5":
        assert shapes["encoder.block.1.layer.1.DenseReluDense.wi.weight"] == (48, 32)
        assert "encoder.block.2.layer.0.SelfAttention.q.weight" not in shapes
        assert "decoder.block.1.layer.0.SelfAttention.q.weight" not in shapes
    else:
        assert shapes["model.encoder.layers.1.fc1.weight"] == (48, 32)
        assert "model.encoder.layers.2.fc1.weight" not in shapes
        assert "model.decoder.layers.1.fc1.weight" not in shapes
    ids = torch.tensor([JOINT.source("the cat")["input_ids"]])
    assert model(input_ids=ids, labels=ids).logits.shape[-1] == len(JOINT.target)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_scale_of_the_first_logits(architecture: str) -> None:
    # A model that knows nothing should be about as sure of every token: loss near log V.
    model = build_model(architecture, SMALL, JOINT).eval()
    ids = torch.tensor([JOINT.source("the cat 7 the cat 9")["input_ids"]])
    loss = model(input_ids=ids, labels=ids).loss.item()
    assert abs(loss - torch.tensor(len(JOINT.target)).log().item()) < 1.5


@pytest.mark.parametrize("architecture", ["marian", "bart", "pegasus"])
@pytest.mark.parametrize("kind", ["attention_dropout", "activation_dropout"])
def test_dropouts_within_the_layers(architecture: str, kind: str) -> None:
    model = build_model(architecture, replace(SMALL, dropout=0.0, **{kind: 0.5}), JOINT).train()
    ids = torch.tensor([JOINT.source("the cat 7 the cat 9")["input_ids"]])
    torch.manual_seed(0)
    first, second = (model(input_ids=ids, labels=ids).loss for _ in range(2))
    assert first != second
    for module in model.modules():
        if hasattr(module, "activation_dropout"):
            assert module.activation_dropout == (0.5 if kind == "activation_dropout" else 0.0)
    without = build_model(architecture, replace(SMALL, dropout=0.0), JOINT).train()
    first, second = (without(input_ids=ids, labels=ids).loss for _ in range(2))
    assert first == second


def test_same_seed_same_weights_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = build_model("marian", SMALL, JOINT, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    second = build_model("marian", SMALL, JOINT, seed=3)
    other = build_model("marian", SMALL, JOINT, seed=4)
    assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))
    assert not all(map(torch.equal, first.state_dict().values(), other.state_dict().values()))


@pytest.mark.parametrize(
    ("architecture", "tokenizers"),
    [("marian", JOINT), ("marian", APART), ("bart", JOINT), ("pegasus", JOINT), ("t5", JOINT)],
)
def test_generation_and_saving(
    tmp_path: Path, architecture: str, tokenizers: TokenizerPair
) -> None:
    model = build_model(architecture, SMALL, tokenizers, max_length=33).eval()
    target = tokenizers.target
    ids = torch.tensor([tokenizers.source("the cat 7")["input_ids"]])
    assert model.get_output_embeddings().weight.shape[0] == len(target)
    output = model.generate(input_ids=ids, num_beams=3)
    assert output.shape[1] == 33  # not cut at transformers' 20
    assert output[0, 0] == model.config.decoder_start_token_id
    model.save_pretrained(tmp_path)
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert again.generation_config.max_length == 33
    assert torch.equal(again.generate(input_ids=ids, num_beams=3), output)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_what_no_sentence_holds_is_never_generated(num_beams: int) -> None:
    model = build_model("marian", SMALL, JOINT, max_length=20).eval()
    target = JOINT.target
    never = [target.pad_token_id, target.bos_token_id, target.unk_token_id]
    with torch.no_grad():
        model.final_logits_bias[:, never] = 50.0  # as high as it gets
    output = model.generate(input_ids=torch.tensor([[7, 8, 1]]), num_beams=num_beams)
    assert output.shape[1] == 20
    assert not set(never) & set(output[0, 1:].tolist())


def test_embeddings_are_tied_as_the_vocabularies_are() -> None:
    joint = build_model("marian", SMALL, JOINT)
    assert joint.get_input_embeddings().weight is joint.get_output_embeddings().weight
    apart = build_model("marian", SMALL, APART)
    assert apart.model.encoder.embed_tokens.weight.shape[0] == len(APART.source)
    decoder = apart.model.decoder.embed_tokens.weight
    assert decoder.shape[0] == len(APART.target)
    assert decoder is apart.lm_head.weight
    assert decoder is not apart.model.encoder.embed_tokens.weight


def test_gated_t5() -> None:
    size = ModelSize(d_model=32, attention_heads=2, ffn_dim=48, activation="gated-gelu")
    names = [name for name, _ in build_model("t5", size, JOINT).named_parameters()]
    assert any("wi_0" in name for name in names)


def test_errors() -> None:
    with pytest.raises(ValueError, match="architecture is 'rnn'; it must be one of"):
        build_config("rnn", SMALL, JOINT)
    for architecture in ("bart", "pegasus", "t5"):
        with pytest.raises(ValueError, match=f"'{architecture}' has one embedding.*'marian'"):
            build_config(architecture, SMALL, APART)
    deep = ModelSize(encoder_layers=1, decoder_layers=2)
    with pytest.raises(ValueError, match="decoder_layers is 2 and encoder_layers 1.* t5 "):
        build_config("t5", deep, JOINT)
    with pytest.raises(ValueError, match="d_model 30 is not divisible by attention_heads 4"):
        ModelSize(d_model=30)
    with pytest.raises(ValueError, match="encoder_layers is 0"):
        ModelSize(encoder_layers=0)
    for kind in ("dropout", "attention_dropout", "activation_dropout"):
        with pytest.raises(ValueError, match=rf"^{kind} is 1\.0; it must be in \[0, 1\)"):
            ModelSize(**{kind: 1.0})  # type: ignore[arg-type]
