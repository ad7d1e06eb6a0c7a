"""When a Trainer has ended: masks of the best checkpoint, and whether it is as sparse as asked."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import EarlyStoppingCallback, TrainerState

from chts_hf.checkpoint.mask_file import named_mask_file
from chts_hf.plan import Plan
from chts_hf.sparsifier import Sparsifier

if TYPE_CHECKING:
    from transformers import Trainer

logger = logging.getLogger(__name__)


def go_back(sparsifier: Sparsifier, folder: Path, masks: dict[str, Any]) -> None:
    """The Trainer has just put the best checkpoint's weights back; its masks belong to them.

    Args:
        sparsifier: of the run.
        folder: the best checkpoint.
        masks: its masks, as :meth:`chts_hf.Sparsifier.load_state_dict` takes them.

    Raises:
        chts_hf.MaskFileError: they are of other weights.
    """
    with named_mask_file(folder):
        # Weights and masks of that checkpoint, but the whole run's counts.
        spent = sparsifier.topology_runtime, sparsifier.updates
        sparsifier.load_state_dict(masks)
        sparsifier.topology_runtime, sparsifier.updates = spent


def ended_early(trainer: Trainer | None) -> bool:
    """Whether an ``EarlyStoppingCallback`` has ended training: no interruption, but its end."""
    callbacks = [] if trainer is None else trainer.callback_handler.callbacks
    return any(
        isinstance(other, EarlyStoppingCallback)
        and other.early_stopping_patience_counter >= other.early_stopping_patience
        for other in callbacks
    )


def warn_if_too_dense(
    sparsifier: Sparsifier, state: TrainerState, skipped: int, best: Path | None
) -> None:
    """Say that a model has more links than were asked for, and why, when training has ended.

    Every rank must call it; the first one speaks.

    Args:
        sparsifier: of the run.
        state: the Trainer's.
        skipped: how many steps of the Trainer did not count.
        best: the checkpoint whose weights and masks were put back; None if none were.
    """
    excess = sparsifier.links_to_lose()
    if excess == 0:
        return
    stats = sparsifier.stats()
    if not state.is_world_process_zero:
        return
    asked = 1 - (stats["links"] - excess) / stats["weights"]
    logger.warning(
        "training ended with sparsity %.4f, where %.4f was asked for: %s",
        stats["sparsity"], asked, _cause(sparsifier.plan, state, skipped, best),
    )  # fmt: skip


def _cause(plan: Plan, state: TrainerState, skipped: int, best: Path | None) -> str:
    # The Trainer's number of the step; the last one makes up for an update that never came.
    fallen = min(plan.fallen + skipped, state.max_steps)
    fall = f"the density had fallen to its end, with the topology update of step {fallen}"
    if state.global_step < fallen:
        return (
            f"early stopping ended it at step {state.global_step}, before {fall}; give it a "
            "greater patience, or a smaller decay_end to the method"
        )
    if best is not None:
        return (
            f"the best checkpoint, {best}, is from before {fall}. Load the best of those from then "
            "on yourself, without load_best_model_at_end, or have no earlier one count as best: "
            f"TranslationTrainer does so with best_model_from_step={fallen}"
        )
    return f"not all steps counted, and it ended before {fall}; train on for some more steps"
