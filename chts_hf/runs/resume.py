"""Stopping a run at a step and going on from there."""

from __future__ import annotations

import json
import logging
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from chts_hf.checkpoint.complete import last_complete_checkpoint

logger = logging.getLogger(__name__)

#: Exit code of a run that was stopped before its end and can go on ("try again later").
STOPPED = 75


def find_checkpoint(args: TrainingArguments, *, sparse: bool) -> str | None:
    """Find the checkpoint to go on from: the one named, or the last of an unfinished run.

    Args:
        args: ``resume_from_checkpoint`` is a folder; "true": the last checkpoint of ``output_dir``,
            if there is one; "false": none; not given: the last one of a run that is not finished.
            A checkpoint that is not complete is passed over.
        sparse: whether the run has masks, and so its checkpoints.

    Raises:
        ValueError: nothing is said of resuming, and ``output_dir`` holds a finished run.
    """
    named = args.resume_from_checkpoint
    if not args.do_train or str(named).lower() == "false":
        return None
    folder = Path(str(args.output_dir))
    last = last_complete_checkpoint(folder, sparse=sparse)
    if named is not None and str(named).lower() != "true":
        return str(named)
    if named is None and last is not None:
        state = json.loads((Path(last) / "trainer_state.json").read_text(encoding="utf-8"))
        if state["global_step"] >= state["max_steps"]:
            raise ValueError(
                f"output_dir {str(folder)!r} holds a finished run ({last}): choose another "
                "folder, say --resume_from_checkpoint false to train anew in this one, or, with "
                "more steps or epochs than it had, --resume_from_checkpoint true to go on"
            )
        logger.warning("going on from %s; --resume_from_checkpoint false trains anew", last)
    return last


class StopOnSignal(TrainerCallback):
    """Ends training after the step at hand, with a checkpoint, on SIGTERM or Ctrl-C.

    (The Trainer's ``enable_jit_checkpoint`` saves without its ``on_save`` event, so without the
    masks, which a resumed run needs.) A second signal acts as it would without this callback. With
    several processes, which would stop at different steps, it leaves the signals alone: there the
    last checkpoint is what a run goes on from.

    Attributes:
        stopped: whether training was ended before its last step.

    Example:
        >>> stop = StopOnSignal()
        >>> Seq2SeqTrainer(..., callbacks=[stop]).train()
        >>> if stop.stopped:
        ...     sys.exit(STOPPED)
    """

    def __init__(self) -> None:
        self.stopped = False
        self._requested = False
        self._before: dict[signal.Signals, Any] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the two signals, which only a main thread can."""
        self.stopped = self._requested = False
        if args.world_size == 1 and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._request)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Save and stop if a signal came."""
        if self._requested and state.global_step < state.max_steps:
            control.should_save = control.should_training_stop = self.stopped = True

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Give the signals back."""
        self._restore()

    def _request(self, number: int, frame: FrameType | None) -> None:
        self._requested = True
        self._restore()
        logger.warning("stopping after this step, with a checkpoint; the same command goes on")

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
