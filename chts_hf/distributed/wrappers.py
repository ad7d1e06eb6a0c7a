"""Models that hide their weights from a mask, refused with what works instead."""

from __future__ import annotations

from torch import nn

WORKS = "DistributedDataParallel works: start with torchrun or accelerate launch"

#: Wrappers that hide the module a user means, by class name: what to do instead.
_WRAPPERS = {
    "DistributedDataParallel": "pass the module inside it: accelerator.unwrap_model(model)",
    "DataParallel": f"nn.DataParallel is not supported. {WORKS}",
    "FullyShardedDataParallel": f"FSDP1 is not supported. {WORKS}, without FSDP, and so does "
    "FSDP2's fully_shard(module) in a loop of your own",
    "DeepSpeedEngine": f"DeepSpeed is not supported. {WORKS}, without DeepSpeed",
    "OptimizedModule": "pass the module that was compiled: accelerator.unwrap_model(model)",
}


def refuse_wrapped(model: nn.Module) -> None:
    """Refuse a model inside a wrapper whose parameter names or storage are not its own.

    Raises:
        ValueError: names the wrapper and what works instead.
    """
    kind = type(model).__name__
    if kind in _WRAPPERS:
        raise ValueError(f"the model is wrapped in {kind}: {_WRAPPERS[kind]}")
    for module in model.modules():  # FSDP1 marks them, and is still there when unwrapped
        flat = getattr(module, "_fsdp_use_orig_params", True) is False
        if flat or any(hasattr(p, "_fsdp_flattened") for p in module.parameters(recurse=False)):
            kind = "FullyShardedDataParallel"
            raise ValueError(f"the model is wrapped in {kind}: {_WRAPPERS[kind]}")
    for name, parameter in model.named_parameters():
        if hasattr(parameter, "ds_id"):
            raise ValueError(f"{name} is a parameter of ZeRO-3, which is not supported. {WORKS}")
