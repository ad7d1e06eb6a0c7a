"""What the Trainer must be told, or must not be asked for, where FSDP2 shards its model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from chts_hf.distributed.layout import reshard
from chts_hf.distributed.shared_weights import torn_weights
from chts_hf.distributed.wrappers import WORKS, refuse_wrapped

if TYPE_CHECKING:
    from transformers import TrainingArguments


def begin_sharded(model: nn.Module) -> None:
    """Refuse a model with a weight that was torn apart, and have processes translate in step.

    Processes that translate unequal sentences end at different steps, and FSDP2's gathering of a
    layer waits for all of them. transformers keeps them in step (``synced_gpus``) where it sharded
    the model itself; of a model that accelerate sharded it has to be told.

    Args:
        model: sharded, as training begins with it.

    Raises:
        ValueError: a weight is not one any more.
    """
    reshard(model)
    torn = torn_weights(model)
    if torn:
        raise ValueError(
            f"{torn[0]} should be one with another weight, and accelerate has sharded it alone. "
            "Pass the CHTsCallback to the Trainer when that is made (callbacks=[...]), not later; "
            "in hyperparameter_search, which makes accelerators of its own, have model_init return "
            "a model after fully_shard(model), or one that shares none (tie_word_embeddings=False)"
        )
    model._is_fsdp_managed_module = True  # type: ignore[assignment]


def refuse_lone_processes(model: nn.Module, args: TrainingArguments) -> None:
    """Refuse what processes with shards of a sparse model would not do together.

    Args:
        model: sharded, as training begins with it.
        args: the Trainer's.

    Raises:
        ValueError: the model was compiled, or checkpoints or pushes are asked for that processes
            would make at different times.
    """
    if hasattr(model, "_orig_mod"):
        raise ValueError(
            "torch_compile=True does not work where the weights are sharded: accelerate compiles "
            "the model before it shards it, under other names; leave torch_compile out"
        )
    if args.enable_jit_checkpoint:
        raise ValueError(
            "enable_jit_checkpoint=True does not work where the weights are sharded: a signal "
            "reaches each process at a time of its own, and a checkpoint needs all of them at "
            'once; use save_strategy="steps"'
        )
    if args.push_to_hub and args.hub_strategy != "end":
        strategy = str(getattr(args.hub_strategy, "value", args.hub_strategy))
        raise ValueError(
            f"hub_strategy={strategy!r} does not work where the weights are sharded: one process "
            "pushes, and the weights are with all of them; use "
            'hub_strategy="end", and trainer.push_to_hub() on every process'
        )


def refuse_unsharded_fsdp(model: nn.Module, args: TrainingArguments) -> None:
    """Refuse FSDP that the Trainer was asked for, and that is none, or is FSDP1.

    Raises:
        ValueError: says what works.
    """
    refuse_wrapped(model)
    if args.fsdp:
        raise ValueError(
            "fsdp is set, but accelerate has not sharded the model: it shards on GPUs only, with "
            "more than one process, and elsewhere trains by DistributedDataParallel without a "
            f"word. {WORKS} without fsdp"
        )
