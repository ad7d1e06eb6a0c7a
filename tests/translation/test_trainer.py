"""The translation Trainer: exact evaluation, order of predictions, schedules, token batches."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import EvalPrediction, TrainerCallback

from chts_hf.translation.models import build_model
from chts_hf.translation.tokenizers import TokenizerPair
from chts_hf.translation.trainer import NoamType, TranslationTrainingArguments
from tests.translation.helpers import SIZE, corpus, pair, toy_trainer


def exact_loss(trainer: Any, rows: Any = None) -> float:
    """Token-weighted cross-entropy, one sentence at a time."""
    total, count = 0.0, 0
    trainer.model.eval()
    for row in trainer.eval_dataset if rows is None else rows:
        ids, labels = (torch.tensor([row[name]]) for name in ("input_ids", "labels"))
        with torch.no_grad():
            total += trainer.model(input_ids=ids, labels=labels).loss.item() * labels.numel()
        count += labels.numel()
    return total / count


@pytest.mark.parametrize("generate", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 10])
def test_evaluation_loss_is_exact(tmp_path: Path, batch_size: int, generate: bool) -> None:
    trainer = toy_trainer(
        tmp_path,
        per_device_eval_batch_size=batch_size,
        predict_with_generate=generate,
        label_smoothing_factor=0.3,  # must not show in the evaluation
        compute_metrics=(lambda _: {}) if generate else None,
    )
    expected = exact_loss(trainer)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)
    # The next data set's loss starts from nothing.
    others = trainer.train_dataset.select(range(5))
    expected = exact_loss(trainer, others)
    predicted = trainer.predict(others)
    assert (predicted.metrics or {})["test_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("architecture", ["marian", "bart", "t5"])
def test_labels_reach_the_decoder_whatever_the_collator_does(
    tmp_path: Path, architecture: str
) -> None:
    tokenizers = pair()
    model = build_model(architecture, SIZE, tokenizers)
    trainer = toy_trainer(tmp_path, model=model, tokenizers=tokenizers)
    trainer.data_collator.model = None  # then the batch has no decoder_input_ids
    assert trainer.evaluate()["eval_loss"] == pytest.approx(exact_loss(trainer), rel=1e-5)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
    expected = model(**batch).loss.item()
    assert trainer.compute_loss(model, dict(batch)).item() == pytest.approx(expected, rel=1e-5)


def test_predictions_come_in_order_and_as_long_as_allowed(tmp_path: Path) -> None:
    seen: list[EvalPrediction] = []

    def note(prediction: EvalPrediction) -> dict[str, float]:
        seen.append(prediction)
        return {"bleu": 1.0}

    trainer = toy_trainer(
        tmp_path,
        predict_with_generate=True,
        compute_metrics=note,
        train_sampling_strategy="group_by_length",  # the Trainer would sort evaluation by it too
        generation_max_length=30,
    )
    metrics = trainer.evaluate()
    assert metrics["eval_bleu"] == 1.0
    targets: Any = seen[0].label_ids
    found: Any = seen[0].predictions
    labels = [[token for token in row if token >= 0] for row in targets.tolist()]
    assert labels == [row["labels"] for row in trainer.eval_dataset]
    assert found.shape[0] == 10
    row = torch.tensor([trainer.eval_dataset[7]["input_ids"]])
    alone = trainer.model.eval().generate(input_ids=row, max_length=30, num_beams=1)[0].tolist()
    assert len(alone) == 30  # an untrained model does not stop
    assert found[7, : len(alone)].tolist() == alone


class TestSchedules:
    def test_noam(self, tmp_path: Path) -> None:
        trainer = toy_trainer(
            tmp_path,
            lr_scheduler_type="noam",
            warmup_steps=3,
            noam_factor=0.5,
            max_steps=6,
            logging_steps=1,
            learning_rate=123.0,
        )
        trainer.train()
        logged = [h["learning_rate"] for h in trainer.state.log_history if "learning_rate" in h]
        expected = [0.5 * 16**-0.5 * min(t**-0.5, t * 3**-1.5) for t in range(1, 7)]
        # The Trainer logs the rate of the step just done, or of the next one, by version.
        assert logged == pytest.approx(expected) or logged[:-1] == pytest.approx(expected[1:])

    @pytest.mark.parametrize("name", ["noam", "inoam"])
    def test_survive_being_written_down(self, name: str) -> None:
        args = TranslationTrainingArguments(
            output_dir="x", lr_scheduler_type=name, warmup_steps=10, use_cpu=True
        )
        assert args.lr_scheduler_type == NoamType(name)
        assert args.to_dict()["lr_scheduler_type"] == name
        assert name in args.to_json_string()

    def test_those_of_the_trainer_still_work(self, tmp_path: Path) -> None:
        trainer = toy_trainer(tmp_path, lr_scheduler_type="cosine", max_steps=2)
        assert trainer.args.lr_scheduler_type == "cosine"
        trainer.train()
        assert trainer.lr_scheduler.get_last_lr()[0] == pytest.approx(0.0)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"lr_scheduler_type": "naom"}, "lr_scheduler_type is 'naom'; it must be one of"),
            ({"lr_scheduler_type": "noam"}, "'noam' needs warmup_steps above 0"),
            (
                {"lr_scheduler_type": "inoam", "warmup_steps": 5, "noam_factor": 0.0},
                "noam_factor is 0.0; it must be above 0",
            ),
            ({"max_tokens_per_batch": 0}, "max_tokens_per_batch is 0; it must be at least 1"),
            ({"best_model_from_step": -1}, "best_model_from_step is -1; it must be at least 0"),
            (
                {"best_model_from_step": 9, "max_steps": 8},
                "best_model_from_step is 9, which max_steps 8 never reaches; lower it",
            ),
        ],
    )
    def test_errors(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            TranslationTrainingArguments(output_dir="x", use_cpu=True, **changes)


@pytest.mark.parametrize("saving", ["steps", "best"])
@pytest.mark.parametrize(("bound", "best"), [({}, 1), ({"best_model_from_step": 3}, 3)])
def test_no_checkpoint_before_a_step_is_the_best(
    tmp_path: Path, saving: str, bound: dict[str, int], best: int
) -> None:
    trainer = toy_trainer(
        tmp_path,
        learning_rate=0.0,  # every evaluation has the same loss, and the first one wins
        eval_strategy="steps",
        eval_steps=1,
        save_strategy=saving,
        save_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        greater_is_better=False,
        **bound,
    )
    trainer.train()
    assert trainer.state.best_global_step == best
    assert Path(trainer.state.best_model_checkpoint).name == f"checkpoint-{best}"
    saved = {path.name for path in tmp_path.glob("checkpoint-*")}
    steps = range(1, 5) if saving == "steps" else [best]
    assert saved == {f"checkpoint-{step}" for step in steps}


class SeenBatches(TrainerCallback):
    """Notes how many tokens each training batch has on its longer side."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, int]] = []

    def watch(self, trainer: Any) -> None:
        collate = trainer.data_collator

        def noting(rows: list[dict[str, Any]]) -> Any:
            batch = collate(rows)
            self.shapes.append((len(rows), max(batch[k].shape[1] for k in ("input_ids", "labels"))))
            return batch

        trainer.data_collator = noting


class TestTokenBatches:
    @pytest.mark.parametrize("pinned", [False, True])
    def test_batches_go_to_a_device_without_waiting_where_their_memory_is_pinned(
        self, tmp_path: Path, pinned: bool
    ) -> None:
        trainer = toy_trainer(tmp_path, max_tokens_per_batch=60)
        trainer.args.dataloader_pin_memory = pinned
        assert trainer.get_train_dataloader()._non_blocking is pinned

    def test_each_batch_is_within_the_bound(self, tmp_path: Path) -> None:
        trainer = toy_trainer(
            tmp_path, train=corpus(64), max_tokens_per_batch=60, max_steps=-1, num_train_epochs=2
        )
        seen = SeenBatches()
        seen.watch(trainer)
        trainer.train()
        assert sum(count for count, _ in seen.shapes) == 2 * 64
        assert all(count * length <= 60 for count, length in seen.shapes)
        assert trainer.state.global_step == len(seen.shapes)
        assert len({count for count, _ in seen.shapes}) > 3

    @pytest.mark.parametrize(("stop", "workers"), [(3, 0), (11, 0), (11, 1)])
    def test_a_resumed_run_is_the_run_never_stopped(
        self, tmp_path: Path, stop: int, workers: int
    ) -> None:
        # Nine batches an epoch: one stop within the first epoch, one within the second. Who makes
        # the batches, the process itself or a worker, must not matter.
        tokenizers = pair()

        def run(folder: Path, **changes: Any) -> Any:
            return toy_trainer(
                folder,
                model=build_model("marian", dataclasses.replace(SIZE, dropout=0.2), tokenizers),
                tokenizers=tokenizers,
                train=corpus(32),
                max_tokens_per_batch=60,
                max_steps=16,
                save_steps=stop,
                **changes,
            )

        whole = run(tmp_path / "whole")
        whole.train()
        assert 8 <= len(whole.get_train_dataloader()) < 11
        first = run(tmp_path / "parts", save_strategy="steps")
        first.train()
        second = run(tmp_path / "parts", save_strategy="no", dataloader_num_workers=workers)
        second.train(resume_from_checkpoint=str(tmp_path / "parts" / f"checkpoint-{stop}"))
        assert second.state.global_step == 16
        for name, weight in whole.model.state_dict().items():
            assert torch.equal(second.model.state_dict()[name], weight), name


def test_tokenizers_are_saved_with_every_checkpoint(tmp_path: Path) -> None:
    joint = pair()
    other = TokenizerPair(joint.source, pair().target)
    model = build_model("marian", SIZE, other)
    trainer = toy_trainer(
        tmp_path,
        model=model,
        tokenizers=other,
        max_steps=1,
        save_strategy="steps",
        save_steps=1,
    )
    trainer.train()
    trainer.save_model()
    for folder in (tmp_path, tmp_path / "checkpoint-1"):
        assert not TokenizerPair.load(folder).joint
