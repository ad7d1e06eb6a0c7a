"""``Seq2SeqTrainer`` for translation: exact losses, token batches, the Noam schedule."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
from accelerate.data_loader import prepare_data_loader
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset, Sampler, SequentialSampler
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import EvalLoopOutput, SchedulerType

from chts_hf.lr import noam_schedule
from chts_hf.translation.batch_log import BatchLog
from chts_hf.translation.batching import SeededLengthSampler, TokenBatchSampler, pair_lengths
from chts_hf.translation.loss import TokenLoss, sentence_nll
from chts_hf.translation.tokenizers import TokenizerPair


class NoamType(str, Enum):
    """Values of ``lr_scheduler_type`` beside the Trainer's own."""

    NOAM = "noam"
    INOAM = "inoam"


@dataclass
class TranslationTrainingArguments(Seq2SeqTrainingArguments):
    """``Seq2SeqTrainingArguments``, with token batches, two more schedules and a bound on "best".

    Args:
        lr_scheduler_type: as the Trainer's, or "noam" (Vaswani et al., 2017):
            ``noam_factor · d_model^-0.5 · min(t^-0.5, t · warmup_steps^-1.5)``, or "inoam": the
            same, with the learning rate warmed up again after each topology update (Zhang et al.,
            NeurIPS 2025). ``learning_rate`` has no effect with these two.
        noam_factor: the factor of the Noam schedule.
        max_tokens_per_batch: fill each device's batches with so many tokens (padding included, on
            the longer side), in place of ``per_device_train_batch_size`` sentences.
        best_model_from_step: no evaluation before this optimizer step is the best one, whatever
            its score, for ``load_best_model_at_end`` and ``save_strategy="best"``. Where the
            density falls, an earlier checkpoint is denser than what was asked for. Without an
            evaluation from that step on the last weights stay.
    """

    lr_scheduler_type: str = field(
        default="linear",
        metadata={"help": "The Trainer's schedules, or noam, or inoam (re-warmed after updates)."},
    )
    noam_factor: float = field(default=1.0, metadata={"help": "Factor of the Noam schedules."})
    max_tokens_per_batch: int | None = field(
        default=None,
        metadata={"help": "Tokens in a device's batch, padding included, on the longer side."},
    )
    best_model_from_step: int = field(
        default=0, metadata={"help": "No evaluation before this step counts as the best one."}
    )

    def __post_init__(self) -> None:
        """Check the values that the Trainer does not know.

        Raises:
            ValueError: an unknown schedule, a Noam schedule without warm-up, or a number out of
                range.
        """
        name = getattr(self.lr_scheduler_type, "value", self.lr_scheduler_type)
        noam = [kind.value for kind in NoamType]
        known = [kind.value for kind in SchedulerType] + noam
        if name not in known:
            raise ValueError(f"lr_scheduler_type is {name!r}; it must be one of {known}")
        if self.max_tokens_per_batch is not None and self.max_tokens_per_batch < 1:
            raise ValueError(
                f"max_tokens_per_batch is {self.max_tokens_per_batch}; it must be at least 1"
            )
        if self.best_model_from_step < 0:
            raise ValueError(
                f"best_model_from_step is {self.best_model_from_step}; it must be at least 0"
            )
        if 0 < self.max_steps < self.best_model_from_step:
            raise ValueError(
                f"best_model_from_step is {self.best_model_from_step}, which max_steps "
                f"{self.max_steps} never reaches; lower it, or set it to 0 to count every step"
            )
        if name not in noam:
            super().__post_init__()
            return
        if not float(self.warmup_steps) > 0:
            raise ValueError(f"lr_scheduler_type {name!r} needs warmup_steps above 0")
        if self.noam_factor <= 0:
            raise ValueError(f"noam_factor is {self.noam_factor}; it must be above 0")
        # The parent class turns the name into its own enumeration, which has no Noam.
        self.lr_scheduler_type = SchedulerType.CONSTANT
        super().__post_init__()
        self.lr_scheduler_type = NoamType(name)


class TranslationTrainer(Seq2SeqTrainer):
    """A ``Seq2SeqTrainer`` whose losses are exact and whose batches may be bounded by tokens.

    - The training loss is :class:`~chts_hf.translation.loss.TokenLoss`, with
      ``args.label_smoothing_factor``, unless ``compute_loss_func`` is given.
    - ``eval_loss`` is the unsmoothed cross-entropy in nats per target token over the whole data
      set, so that runs with different smoothing, batch sizes or processes can be compared. (The
      Trainer's own is a mean of batch means.)
    - Predictions come in the data set's order and without the duplicates that fill up the last
      batches of several processes, so that they can be scored against the raw references.
    - ``args.max_tokens_per_batch``, ``args.best_model_from_step`` and the Noam schedules: see
      :class:`TranslationTrainingArguments`, which ``args`` must be.

    Args:
        tokenizers: of both sides, saved with the model and with every checkpoint.
        batch_log: where a number for each step's batch is kept; None: nowhere.
        **kwargs: the arguments of ``Seq2SeqTrainer``.

    Raises:
        ValueError: ``average_tokens_across_devices`` is off with several processes, where the
            loss would depend on how sentences fall to processes.
    """

    args: TranslationTrainingArguments

    def __init__(
        self,
        *,
        tokenizers: TokenizerPair | None = None,
        batch_log: BatchLog | None = None,
        **kwargs: Any,
    ) -> None:
        args: TranslationTrainingArguments = kwargs["args"]
        if args.world_size > 1 and not args.average_tokens_across_devices:
            raise ValueError(
                "average_tokens_across_devices is False; with several processes it must be True"
            )
        if kwargs.get("compute_loss_func") is None:
            kwargs["compute_loss_func"] = TokenLoss(args.label_smoothing_factor)
        if tokenizers is not None:
            kwargs.setdefault("processing_class", tokenizers.source)
        # The loss function counts the tokens; a model told their number would only ignore it.
        kwargs["model"].accepts_loss_kwargs = False
        super().__init__(**kwargs)
        self.tokenizers, self.batch_log = tokenizers, batch_log
        self._nll = self._tokens = 0.0

    def create_scheduler(
        self, num_training_steps: int, optimizer: Optimizer | None = None
    ) -> LRScheduler:
        """Make the learning-rate schedule: Noam, or the Trainer's."""
        if self.lr_scheduler is None and isinstance(self.args.lr_scheduler_type, NoamType):
            optimizer = self.optimizer if optimizer is None else optimizer
            config: Any = getattr(self.model, "config", None)
            assert optimizer is not None  # the Trainer makes it first
            self.lr_scheduler = noam_schedule(
                optimizer,
                d_model=config.hidden_size,
                warmup_steps=self.args.get_warmup_steps(num_training_steps),
                factor=self.args.noam_factor,
            )
            self._created_lr_scheduler = True
            return self.lr_scheduler
        return super().create_scheduler(num_training_steps, optimizer)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Make the training batches: by tokens if asked for, else the Trainer's."""
        if self.args.max_tokens_per_batch is None:
            return super().get_train_dataloader()
        dataset = self._remove_unused_columns(self.train_dataset, description="Training")
        sampler = TokenBatchSampler(
            pair_lengths(dataset),
            self.args.max_tokens_per_batch,
            seed=self._data_seed,
            num_replicas=self.args.world_size,
            rank=self.args.process_index,
        )
        loader = DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=self.args.dataloader_persistent_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
        )
        # "One process": the sampler deals the batches out itself, and accelerate's own sharding
        # would deal them out a second time.
        sharded: DataLoader[Any] = prepare_data_loader(
            loader,
            self.accelerator.device,
            num_processes=1,
            process_index=0,
            put_on_device=True,
            non_blocking=self.args.dataloader_pin_memory,  # from pinned memory alone it can be
        )
        return sharded

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        if self.state.global_step < self.args.best_model_from_step:
            return False
        best: bool = super()._determine_best_metric(metrics=metrics, trial=trial)
        return best

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Train on a batch as the Trainer does, and note which it was."""
        if self.batch_log is not None:
            self.batch_log.add(self.state.global_step + 1, inputs)
        return super().training_step(model, inputs, *args, **kwargs)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # A run that resumes from the checkpoint of its last step has nothing left to train; the
        # Trainer looks at that only after a step, and would train one too many.
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)

    def log(self, *args: Any, **kwargs: Any) -> None:
        """Log as the Trainer does, and write down the batches since the last time."""
        if self.batch_log is not None and self.is_world_process_zero():
            self.batch_log.flush()
        super().log(*args, **kwargs)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """Compute the loss as the Trainer does, of inputs that hold the decoder's."""
        return super().compute_loss(model, self._with_decoder_inputs(inputs), *args, **kwargs)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
        **gen_kwargs: Any,
    ) -> tuple[Any, torch.Tensor | None, torch.Tensor | None]:
        """Add a batch to the evaluation loss and, with ``predict_with_generate``, translate it."""
        inputs = self._with_decoder_inputs(self._prepare_inputs(inputs))
        labels = inputs.get("labels")
        if labels is None:
            return super().prediction_step(
                model, inputs, prediction_loss_only, ignore_keys, **gen_kwargs
            )
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs = model(**{key: value for key, value in inputs.items() if key != "labels"})
        nll, tokens = sentence_nll(outputs["logits"], labels)
        del outputs
        everywhere = self.accelerator.gather_for_metrics((nll, tokens))
        self._nll += everywhere[0].sum().item()
        self._tokens += everywhere[1].sum().item()
        loss = (nll.sum() / tokens.sum()).float()
        if prediction_loss_only or not self.args.predict_with_generate:
            return loss, None, None
        names = ("input_ids", "attention_mask")
        sources: dict[str, Any] = {name: inputs[name] for name in names if name in inputs}
        generated = super().prediction_step(model, sources, False, ignore_keys, **gen_kwargs)[1]
        return loss, generated, labels

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Run the Trainer's loop and put the exact loss in place of its mean of batch means."""
        self._nll = self._tokens = 0.0
        self.gather_function = self.accelerator.gather_for_metrics  # drops filled-up duplicates
        output = super().evaluation_loop(
            dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
        )
        if self._tokens and output.metrics is not None:
            output.metrics[f"{metric_key_prefix}_loss"] = self._nll / self._tokens
        return output

    def _with_decoder_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        # The labels are kept from the model, which then can't make the decoder's inputs of them:
        # BART would silently use the source instead.
        if "labels" not in inputs or "decoder_input_ids" in inputs:
            return inputs
        model = self.accelerator.unwrap_model(self.model)
        shifted = model.prepare_decoder_input_ids_from_labels(labels=inputs["labels"])
        return {**inputs, "decoder_input_ids": shifted}

    @property
    def _data_seed(self) -> int:
        return self.args.seed if self.args.data_seed is None else self.args.data_seed

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[Any] | None:
        sampler: Sampler[Any] | None = super()._get_train_sampler(train_dataset)
        if isinstance(sampler, LengthGroupedSampler):
            return SeededLengthSampler(sampler, self._data_seed)
        return sampler

    def _get_eval_sampler(self, eval_dataset: Dataset[Any]) -> Sampler[Any] | None:
        # In order, whatever the order of training: references are matched by position.
        return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None  # type: ignore[arg-type]

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if self.batch_log is not None:  # a run goes on from here, so its steps must be known
            self.batch_log.flush()
        super()._save(output_dir, state_dict)
        if self.tokenizers is not None:
            self.tokenizers.save(output_dir or str(self.args.output_dir))
