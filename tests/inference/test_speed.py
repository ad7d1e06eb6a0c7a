from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel

from chts_hf.inference import SparseLinear, generation_speed
from tests.inference.models import SEQ2SEQ, sparsify


def sparse_model(name: str) -> PreTrainedModel:
    model = SEQ2SEQ[name]()
    sparsify(model, 0.9)
    return model


def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(3, 20, (3, 5), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def test_both_are_timed_and_the_model_is_left_alone() -> None:
    model = sparse_model("marian").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    speed = generation_speed(model, batch(), repeats=2, num_beams=2, max_new_tokens=4)
    assert speed.same_tokens
    assert speed.dense_seconds > 0
    assert speed.sparse_seconds > 0
    assert (speed.sentences, speed.num_beams) == (3, 2)
    assert speed.machine.endswith(("thread", "threads"))
    assert model.training
    assert not any(isinstance(module, SparseLinear) for module in model.modules())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_the_row_of_the_card_says_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 9.0, 9.0, 99.0, *[100, 103, 103, 104], *[104, 105, 105, 108]])
    monkeypatch.setattr("chts_hf.inference.speed.time.perf_counter", lambda: next(ticks))
    monkeypatch.setattr("chts_hf.inference.speed.to_sparse_inference", lambda model, config: model)
    speed = generation_speed(sparse_model("t5"), batch(), repeats=2, num_beams=3, max_new_tokens=2)
    # Two warm-up calls, then dense 3 and sparse 1, then the other way round: sparse 1, dense 3.
    assert (speed.dense_seconds, speed.sparse_seconds, speed.ratio) == (3, 1, 3)
    assert "no layer is faster" in speed.card_row()["value"]
    assert str(speed) == (
        "generation, 3 sentences at once, beam 3: 3.00 s; no layer is faster with sparse products "
        f"here ({speed.machine})"
    )
    assert "3.00 times as fast" in str(replace(speed, sparse_layers=4))
    row = replace(speed, sparse_layers=4).card_row()
    assert row["name"] == "generation, 3 sentences at once, beam 3"
    assert "3.00 times as fast, the same tokens" in row["value"]
    assert row["machine"] == speed.machine


def test_no_repeats() -> None:
    with pytest.raises(ValueError, match="repeats = 0"):
        generation_speed(sparse_model("bart"), batch(), repeats=0)
