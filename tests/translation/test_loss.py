"""The training loss is that of one large batch, however the batch is cut up."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers.modeling_outputs import Seq2SeqLMOutput

from chts_hf.translation.loss import TokenLoss, sentence_nll
from tests.translation.helpers import corpus, toy_trainer

LOGITS = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([[1, 2, 3, 4, 5], [6, 0, -100, -100, -100], [3, -100, -100, -100, -100]])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_is_the_formula(smoothing: float) -> None:
    log_p = LOGITS.double().log_softmax(-1)
    terms = [
        -(1 - smoothing) * log_p[i, t, LABELS[i, t]] - smoothing * log_p[i, t].mean()
        for i in range(3)
        for t in range(5)
        if LABELS[i, t] != -100
    ]
    total = torch.stack(terms).sum().item()
    loss = TokenLoss(smoothing)
    output = Seq2SeqLMOutput(logits=LOGITS)
    assert len(terms) == 8
    assert loss(output, LABELS).item() == pytest.approx(total / 8)
    assert loss((LOGITS,), LABELS).item() == pytest.approx(total / 8)
    # A share of a larger step.
    assert loss(output, LABELS, 20).item() == pytest.approx(total / 20)
    many = torch.tensor(20)
    assert loss(output, LABELS, many).item() == pytest.approx(total / 20)


def test_sentence_nll_is_unsmoothed_and_per_sentence() -> None:
    nll, tokens = sentence_nll(LOGITS, LABELS)
    assert tokens.tolist() == [5, 2, 1]
    for i in range(3):
        alone = TokenLoss()(Seq2SeqLMOutput(logits=LOGITS[i : i + 1]), LABELS[i : i + 1])
        assert nll[i].item() == pytest.approx(alone.item() * tokens[i].item(), rel=1e-5)


def test_half_precision_logits_are_summed_in_single() -> None:
    loss = TokenLoss()(Seq2SeqLMOutput(logits=LOGITS.bfloat16()), LABELS)
    assert loss.dtype == torch.float32


@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_refuses_a_smoothing_outside_its_range(value: float) -> None:
    with pytest.raises(ValueError, match=rf"label_smoothing is {value}; it must be in \[0, 1\)"):
        TokenLoss(value)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_accumulation_changes_nothing(tmp_path: Path, smoothing: float) -> None:
    """One step of 8 sentences: at once, as 4 x 2 and as 8 x 1; SGD shows the gradient itself."""
    steps = {}
    for accumulation in (1, 4, 8):
        trainer = toy_trainer(
            tmp_path,
            train=corpus(8, seed=5),
            max_steps=1,
            per_device_train_batch_size=8 // accumulation,
            gradient_accumulation_steps=accumulation,
            label_smoothing_factor=smoothing,
            optim="sgd",
            learning_rate=1.0,
            max_grad_norm=0.0,
            lr_scheduler_type="constant",
            logging_steps=1,
            train_sampling_strategy="sequential",
        )
        before = [p.detach().clone() for p in trainer.model.parameters()]
        trainer.train()
        after = list(trainer.model.parameters())
        moved = [b - a.detach() for a, b in zip(after, before, strict=True)]
        steps[accumulation] = (trainer.state.log_history[0]["loss"], moved)
    loss, gradient = steps[1]
    assert loss > 1
    assert max(g.abs().max() for g in gradient) > 1e-2
    for accumulation in (4, 8):
        other_loss, other = steps[accumulation]
        assert other_loss == pytest.approx(loss, rel=1e-5)
        for one, two in zip(gradient, other, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)
