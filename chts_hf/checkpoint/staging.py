"""Masks that are there before the Trainer deletes the checkpoint they would have come from.

``Trainer._save_checkpoint`` writes a checkpoint and deletes older ones, and ``on_save`` comes after
that; a checkpoint made because of a signal (``enable_jit_checkpoint``) has no such event at all,
and one with ``save_strategy="best"`` none before it. So that method is replaced, on the one Trainer
that trains sparsely.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from chts_hf.attached import attached_sparsifier
from chts_hf.checkpoint.complete import problem_with
from chts_hf.checkpoint.mask_file import (
    MASK_FILE,
    UnregisteredMethodError,
    load_masks,
    save_masks,
    stage_masks,
)
from chts_hf.checkpoint.trainer_methods import TrainerMethods
from chts_hf.distributed import ranks
from chts_hf.sparsifier import Sparsifier

if TYPE_CHECKING:
    from transformers import Trainer

logger = logging.getLogger(__name__)


def stage_before_saves(trainer: Trainer, run: Callable[[], Sparsifier | None]) -> None:
    """Have each checkpoint count as incomplete until it is, and hold its masks from its beginning.

    Called again for the same Trainer, it changes whose sparsifier is asked. Where another package
    has replaced the method on this Trainer before, its method is what saves.

    Args:
        trainer: whose ``_save_checkpoint`` changes.
        run: gives the sparsifier of its model.
    """
    _Saves.put_in_place(trainer, run)


class _Saves(TrainerMethods):
    replaced = ("_save_checkpoint",)

    def save_checkpoint(self, model: nn.Module, trial: Any = None) -> None:
        """Put the masks down under a name that does not count yet, then save as the Trainer does.

        Raises:
            OSError: the masks could not be written; nothing else has changed then.
            RuntimeError: on the other ranks in that case.
        """
        trainer, sparsifier = self._trainer, self.run()
        save = self._own("_save_checkpoint")
        if sparsifier is None or not _is_training(sparsifier):
            save(model, trial)  # trained densely since
            return
        args = trainer.args
        step = trainer.state.global_step
        folder = Path(trainer._get_output_dir(trial=trial)) / f"{PREFIX_CHECKPOINT_DIR}-{step}"
        # A signal reaches each process at a time of its own, so there they can not talk.
        on_signal = not trainer.control.should_save
        if on_signal and _holds(folder, step, sparsifier):
            # Before the next optimizer step there is nothing new, and to be killed while the files
            # are written again would leave none that are whole.
            logger.info("%s is whole and of this step, so it is not written again", folder)
            return
        together = ranks.failing_together(task="prepare a checkpoint")
        early = bool(args.save_total_limit) or on_signal
        state = state_to_save(sparsifier, args.should_save) if early else None
        with nullcontext() if on_signal else together:
            if args.should_save:
                _prepare(folder, sparsifier, state)
        save(model, trial)
        if on_signal and state is not None:
            save_masks(folder, state, sparsifier.config)


def _is_training(sparsifier: Sparsifier) -> bool:
    return sparsifier.model is not None and attached_sparsifier(sparsifier.model) is sparsifier


def _holds(folder: Path, step: int, sparsifier: Sparsifier) -> bool:
    """Whether a checkpoint is whole and of the weights that the model has, not of another run."""
    try:
        if not folder.is_dir() or problem_with(folder, step, sparse=True) is not None:
            return False
    except UnregisteredMethodError:
        return False
    saved, mine = load_masks(folder)[0]["weights"], sparsifier.state_dict()["weights"]
    return bool({name: tuple(found) for name, found in saved.items()} == mine)


def state_to_save(sparsifier: Sparsifier, saves: bool) -> dict[str, Any] | None:
    """The state, where it is to be written; None elsewhere. Every rank must call it.

    Args:
        sparsifier: whose state.
        saves: whether this rank writes files. Where weights are sharded, the first one alone does.
    """
    if not sparsifier.layout.sharded:
        return sparsifier.state_dict() if saves else None
    state = sparsifier.state_dict()
    return state if ranks.rank() == 0 else None


def _prepare(folder: Path, sparsifier: Sparsifier, state: dict[str, Any] | None) -> None:
    for stale in (MASK_FILE, "trainer_state.json"):  # of a run that was killed here
        (folder / stale).unlink(missing_ok=True)
    if state is not None:
        folder.mkdir(parents=True, exist_ok=True)
        stage_masks(folder, state, sparsifier.config)
