"""Where an unfinished run goes on."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from transformers import TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

logger = logging.getLogger(__name__)


def find_checkpoint(args: TrainingArguments) -> str | None:
    """Find the checkpoint to go on from: the one named, or the last of an unfinished run.

    Args:
        args: ``resume_from_checkpoint`` is a folder; "true": the last checkpoint of ``output_dir``,
            if there is one; "false": none; not given: the last one of a run that is not finished.

    Raises:
        ValueError: nothing is said of resuming, and ``output_dir`` holds a finished run.
    """
    named = args.resume_from_checkpoint
    if not args.do_train or str(named).lower() == "false":
        return None
    folder = Path(str(args.output_dir))
    last = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    if named is not None and str(named).lower() != "true":
        return str(named)
    if named is None and last is not None:
        state = json.loads((Path(last) / "trainer_state.json").read_text(encoding="utf-8"))
        if state["global_step"] >= state["max_steps"]:
            raise ValueError(
                f"output_dir {str(folder)!r} holds a finished run ({last}): choose another "
                "folder, or say --resume_from_checkpoint false to train anew in this one"
            )
        logger.warning("going on from %s; --resume_from_checkpoint false trains anew", last)
    return last
