"""A model whose weights are sharded over processes, gathered and saved by the Trainer.

With FSDP the Trainer's ``save_model`` hands the model's ``save_pretrained`` whole weights, on the
first process alone, and none at all where checkpoints are sharded. The masks that belong to them
have to be gathered while all processes are there, so that method is replaced, on the one Trainer
that trains sparsely. Its ``checkpoint-N`` folders are written as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from chts_hf.checkpoint.complete import is_checkpoint
from chts_hf.checkpoint.final_save import sparse_saver
from chts_hf.checkpoint.trainer_methods import TrainerMethods
from chts_hf.distributed import ranks
from chts_hf.distributed.layout import reshard
from chts_hf.sparsifier import Sparsifier
from chts_hf.state import whole_masks

if TYPE_CHECKING:
    from transformers import Trainer


def gather_before_saves(trainer: Trainer, run: Callable[[], Sparsifier | None]) -> None:
    """Have ``trainer.save_model`` write the sparse file of a model that is sharded.

    Called again for the same Trainer, it changes whose sparsifier is asked.

    Args:
        trainer: whose ``save_model`` changes. Every process must call that, as with FSDP always.
        run: gives the sparsifier of its model.
    """
    _Saves.put_in_place(trainer, run)


class _Saves(TrainerMethods):
    replaced = ("save_model",)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model as the Trainer does, and sparsely where it is the model of a run."""
        trainer, sparsifier = self._trainer, self.run()
        assert trainer.model is not None
        folder = output_dir or trainer.args.output_dir
        assert folder is not None
        model = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
        saver = sparse_saver(model)
        if sparsifier is None or saver is None or is_checkpoint(Path(folder)):
            self._own("save_model")(output_dir, _internal_call)
            return
        sparsifier.stats()  # which all ranks must ask for, and the first alone writes into the card
        weights = whole_weights(model)
        masks = whole_masks(sparsifier.layout, sparsifier.masks)
        with ranks.failing_together(task="save the model"):
            if ranks.rank() == 0:
                with saver.gathered(masks):
                    trainer._save(folder, state_dict=weights)
        if trainer.args.push_to_hub and not _internal_call:
            trainer.push_to_hub(commit_message="Model save", revision=trainer.args.hub_revision)


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of a sharded model, whole on the first process's host; empty elsewhere.

    Every process must call it. Shared weights are one tensor under several names.
    """
    reshard(model)
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    found: dict[str, Any] = get_model_state_dict(model, options=options)
    first: dict[int, Any] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name in found:
            found[name] = first.setdefault(id(parameter), found[name])
    return found
