"""Methods in a Trainer's place: refused where the Trainer has none of their names."""

from __future__ import annotations

from typing import Any

import pytest

from chts_hf.checkpoint.trainer_methods import TrainerMethods


class Trainer:
    def _save_checkpoint(self) -> str:
        return "dense"


class Saves(TrainerMethods):
    replaced = ("_save_checkpoint",)

    def save_checkpoint(self) -> str:
        return "sparse, then " + self._own("_save_checkpoint")()


class SavesAndPushes(Saves):
    replaced = ("_save_checkpoint", "_push_from_checkpoint")

    def push_from_checkpoint(self) -> str:
        return "sparse"


def no_run() -> None:
    return None


def test_a_method_is_replaced_and_can_call_the_one_before() -> None:
    trainer: Any = Trainer()
    Saves.put_in_place(trainer, no_run)
    assert trainer._save_checkpoint() == "sparse, then dense"
    Saves.put_in_place(trainer, no_run)  # again: not on top of itself
    assert trainer._save_checkpoint() == "sparse, then dense"


def test_a_method_that_the_trainer_lacks_is_not_replaced_into_nothing() -> None:
    trainer: Any = Trainer()
    with pytest.raises(RuntimeError, match="has no _push_from_checkpoint, in whose place"):
        SavesAndPushes.put_in_place(trainer, no_run)
    assert trainer._save_checkpoint() == "dense"
