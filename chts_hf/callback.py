"""The Trainer's events, turned into calls of the sparsifier, files and log entries."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from transformers import (
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from chts_hf.attached import attached_sparsifier
from chts_hf.checkpoint.final_save import save_densely, save_sparsely
from chts_hf.checkpoint.gathered_save import gather_before_saves
from chts_hf.checkpoint.mask_file import (
    MASK_FILE,
    MaskFileError,
    load_masks,
    named_mask_file,
    save_masks,
)
from chts_hf.checkpoint.publish import calling_trainer, publish_sparse
from chts_hf.checkpoint.staging import stage_before_saves, state_to_save
from chts_hf.config import CHTsConfig
from chts_hf.distributed import ranks
from chts_hf.distributed.layout import class_name, is_sharded
from chts_hf.distributed.shared_weights import prepare_together
from chts_hf.distributed.trainer import (
    begin_sharded,
    refuse_lone_processes,
    refuse_unsharded_fsdp,
)
from chts_hf.optimizers import DEEPSPEED
from chts_hf.second_run import links_to_keep
from chts_hf.sparsifier import Sparsifier
from chts_hf.train_end import ended_early, go_back, warn_if_too_dense

if TYPE_CHECKING:
    from transformers import Trainer

logger = logging.getLogger(__name__)


class CHTsCallback(TrainerCallback):
    """Trains the Trainer's model sparsely.

    Added to a ``Trainer`` or ``Seq2SeqTrainer``, it makes a :class:`chts_hf.Sparsifier` when
    training begins, steps it after every optimizer step, and keeps its state in each checkpoint
    folder (``chts_masks.safetensors``), so that ``train(resume_from_checkpoint=...)`` goes on
    exactly. ``load_best_model_at_end`` brings back the masks of the best model too; a warning says
    so where these are from before the density had fallen to its end. Sparsity, ITOP
    rate and ANP stand beside the losses, as ``topology/…``, in what the Trainer prints, in its
    ``state.log_history`` and in the loggers of ``report_to``.

    From then on the model's ``save_pretrained``, and with it ``Trainer.save_model`` and
    ``push_to_hub``, write the sparse format of :func:`chts_hf.save_sparse`; ``checkpoint-N``
    folders stay dense, for that is what a resume reads. A second ``train()`` of the same model goes
    on with the links that the first one left.

    Args:
        config: the method and its settings; None means ``CHTsConfig()``: CHTs at 90 %.
        resume_from_checkpoint: the folder to resume from, needed only where it is neither
            ``args.resume_from_checkpoint`` nor a ``checkpoint-N`` in the output folder.
        correlation: of the first layer's inputs, for layers with ``init="csti"``; see
            :class:`chts_hf.Sparsifier`. A resumed run needs none: it has its masks.

    Attributes:
        sparsifier: the engine; None before training begins. Its masks and ``stats()`` stay
            readable when training has ended.

    Raises:
        ValueError: on training's begin, what :class:`chts_hf.Sparsifier` refuses; on a second one,
            a ``config`` whose sparsity the links of the first one will not get to.
        chts_hf.MaskFileError: on a resume, when the masks are missing, damaged or of another model,
            or too few steps are left for their density to fall to its end.

    Example:
        >>> trainer = Seq2SeqTrainer(
        ...     model=model, args=args, callbacks=[CHTsCallback(CHTsConfig(sparsity=0.9))], ...
        ... )
        >>> trainer.train(resume_from_checkpoint=True)
    """

    def __init__(
        self,
        config: CHTsConfig | None = None,
        resume_from_checkpoint: str | Path | None = None,
        correlation: Tensor | None = None,
    ) -> None:
        if config is not None and not isinstance(config, CHTsConfig):
            raise TypeError(
                f"CHTsCallback takes a CHTsConfig, not a {type(config).__name__}; "
                "CHTsConfig.from_dict makes one of a dictionary"
            )
        self.config = config or CHTsConfig()
        self.correlation = correlation
        self.sparsifier: Sparsifier | None = None
        self._resume_from = resume_from_checkpoint

    # -- events ------------------------------------------------------------------------------

    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        trainer = calling_trainer(self)
        if trainer is not None:
            prepare_together(trainer.accelerator)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        model: nn.Module,
        optimizer: Any,
        **kwargs: Any,
    ) -> None:
        _refuse_unsupported_parallelism(args)
        if is_sharded(model):
            begin_sharded(model)
            if not self.config.is_dense:
                refuse_lone_processes(model, args)
        else:
            refuse_unsharded_fsdp(model, args)
        _warn_of_scaled_loss(args, model)
        _refuse_second_callback(model, state)
        saved: tuple[Path, dict[str, Any]] | None = None
        with ranks.failing_together(task="read the masks to go on from"):
            if state.global_step > 0 and not self.config.is_dense:
                saved = self._saved_masks(args, state)
        if saved is not None:
            folder, masks = saved
            with named_mask_file(folder, self._advice(folder)):
                self.sparsifier = Sparsifier(
                    model, optimizer, self.config, state.max_steps, state=masks
                )
        else:
            self.sparsifier = Sparsifier(
                model,
                optimizer,
                self.config,
                state.max_steps,
                masks=links_to_keep(self.sparsifier, model, self.config),
                correlation=self.correlation,
            )
        self.sparsifier.owner = state
        if self.config.is_dense:
            save_densely(model)
        else:
            save_sparsely(model, self.sparsifier.masks, self.sparsifier.config)
        stats = self.sparsifier.stats()
        logger.info(
            "%s: %d of %d sparsified weights are links (sparsity %.4f)",
            self.config.method, stats["links"], stats["weights"], stats["sparsity"],
        )  # fmt: skip
        trainer = calling_trainer(self)
        if trainer is not None and not self.config.is_dense:
            publish_sparse(trainer, lambda: self.sparsifier)
            stage_before_saves(trainer, lambda: self.sparsifier)
            if self.sparsifier.layout.sharded:
                gather_before_saves(trainer, lambda: self.sparsifier)
            _come_first(self, trainer)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        assert self.sparsifier is not None
        self.sparsifier.step()
        if state.global_step + 1 >= state.max_steps:  # the Trainer counts this step hereafter
            self.sparsifier.finish()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if self.sparsifier is not None and state.log_history and not self.config.is_dense:
            stats = self.sparsifier.stats()
            found = {f"topology/{name}": stats[name] for name in LOGGED}
            state.log_history[-1].update(found)
            if logs is not None:
                logs.update(found)  # what the callbacks behind this one, loggers among them, see

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.sparsifier is None or self.config.is_dense:
            return
        # This also waits until every rank has written its part of the checkpoint.
        self.sparsifier.check_ranks()
        masks = state_to_save(self.sparsifier, args.should_save)
        with ranks.failing_together(task="write the masks of a checkpoint"):
            if masks is not None:
                save_masks(_saved_folder(args, state), masks, self.config)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.sparsifier is None:
            return
        complete = state.global_step >= state.max_steps
        skipped = state.global_step - self.sparsifier.step_count
        best: tuple[Path, dict[str, Any]] | None = None
        # A search that gives a trial up calls this in its midst, where no best weights came back.
        ended = control.should_training_stop or complete
        if ended and args.load_best_model_at_end and not self.config.is_dense:
            with ranks.failing_together(task="read the masks of the best checkpoint"):
                # Not on a machine that does not see the folder, and keeps its last weights.
                if state.best_model_checkpoint:
                    folder = Path(state.best_model_checkpoint)
                    best = folder, load_masks(folder)[0]
            with self.sparsifier.layout.beginning(best is not None):
                if best is not None:
                    go_back(self.sparsifier, *best)
        # A run that was interrupted is to go on, and its density to fall on.
        if complete or ended_early(calling_trainer(self)):
            warn_if_too_dense(self.sparsifier, state, skipped, best and best[0])
        self.sparsifier.close()

    # -- inside ------------------------------------------------------------------------------

    def _saved_masks(
        self, args: TrainingArguments, state: TrainerState
    ) -> tuple[Path, dict[str, Any]]:
        """The folder that is resumed from, and the masks in it."""
        folder = self._checkpoint_folder(args, state)
        with named_mask_file(folder, self._advice(folder)):
            masks, _ = load_masks(folder)
        return folder, masks

    def _checkpoint_folder(self, args: TrainingArguments, state: TrainerState) -> Path:
        """The folder that the Trainer has just resumed from; it does not say so itself."""
        named = self._resume_from or args.resume_from_checkpoint
        if isinstance(named, (str, Path)) and Path(named).is_dir():
            return Path(named)
        folder = _run_folder(args) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        if not folder.is_dir():
            raise MaskFileError(
                f"training resumes at step {state.global_step}, but there is no {folder} to read "
                f"{MASK_FILE} from; name the folder: CHTsCallback(config, "
                "resume_from_checkpoint=folder)"
            )
        return folder

    def _advice(self, folder: Path) -> str:
        """What to add to an error of masks that may be those of another run."""
        if self._resume_from and Path(self._resume_from) == folder:
            return ""
        return (
            f". (Masks were looked for in {folder}, as the Trainer does not say where it resumes "
            "from. If train() was given another folder, name that: CHTsCallback(config, "
            "resume_from_checkpoint=folder))"
        )


#: Of :meth:`chts_hf.Sparsifier.stats`, what stands beside the losses.
LOGGED = ("sparsity", "itop_rate", "anp")


def _come_first(callback: CHTsCallback, trainer: Trainer) -> None:
    """Put the callback before the loggers, which the Trainer puts before a user's callbacks.

    (A new list, since the Trainer is walking along the old one just now.)
    """
    handler = trainer.callback_handler
    handler.callbacks = sorted(handler.callbacks, key=lambda other: other is not callback)


def _run_folder(args: TrainingArguments) -> Path:
    if args.output_dir is None:
        raise ValueError("TrainingArguments.output_dir is needed to keep the masks of checkpoints")
    return Path(args.output_dir)


def _saved_folder(args: TrainingArguments, state: TrainerState) -> Path:
    """The checkpoint that the Trainer has just written; in a search it is in the trial's folder."""
    name = f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
    if not state.is_hyper_param_search:
        return _run_folder(args) / name
    written = _run_folder(args).glob(f"**/{name}/trainer_state.json")
    return max(written, key=lambda path: path.stat().st_mtime_ns).parent


def _refuse_unsupported_parallelism(args: TrainingArguments) -> None:
    """Refuse what would leave some copy of the weights, or a checkpoint, without its masks."""
    if args.n_gpu > 1:
        raise ValueError(
            "the Trainer would use nn.DataParallel over several GPUs in one process, which sparse "
            "training does not support; start it with torchrun or accelerate launch"
        )
    if args.deepspeed:
        raise ValueError(DEEPSPEED)


def _refuse_second_callback(model: nn.Module, state: TrainerState) -> None:
    """One run has one sparsifier; one left behind by a run that was interrupted is let go."""
    attached = attached_sparsifier(model)
    if attached is None:
        return
    if attached.owner is state:
        raise ValueError("CHTsCallback was added to the Trainer twice; add it once")
    if attached.owner is not None:
        attached.close()


def _warn_of_scaled_loss(args: TrainingArguments, model: nn.Module) -> None:
    """Encoder-decoder models get their loss multiplied by the accumulation steps; say so."""
    config = getattr(model, "config", None)
    if (
        args.gradient_accumulation_steps > 1
        and args.label_smoothing_factor == 0
        and getattr(config, "is_encoder_decoder", False)
        and getattr(model, "accepts_loss_kwargs", True)
    ):
        logger.warning(
            "%s accepts loss arguments that it ignores, so with gradient_accumulation_steps=%d the "
            "Trainer's loss and gradients come out multiplied. Pass compute_loss_func="
            "chts_hf.translation.TokenLoss() to the Trainer (exact), or set "
            "model.accepts_loss_kwargs = False before making it. Ignore this if you did.",
            class_name(model), args.gradient_accumulation_steps,
        )  # fmt: skip
