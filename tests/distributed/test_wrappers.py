"""What would leave copies of the weights without masks is refused, and told what works."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

from chts_hf import CHTsCallback, CHTsConfig, Sparsifier
from tests.builders import tiny_marian, tiny_trainer

WORKS = r"DistributedDataParallel works: start with torchrun or accelerate launch"


def _wrapped(kind: str) -> nn.Module:
    wrapper = type(kind, (nn.Module,), {})()
    wrapper.module = tiny_marian()
    return wrapper


@pytest.mark.parametrize("kind", ["DataParallel", "FullyShardedDataParallel", "DeepSpeedEngine"])
def test_wrappers_that_do_not_work(kind):
    with pytest.raises(ValueError, match=f"wrapped in {kind}: .* is not supported. {WORKS}"):
        Sparsifier(_wrapped(kind), None, CHTsConfig(), 1000)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("by_layer", [True, False])
@pytest.mark.skipif(torch.cuda.is_available(), reason="FSDP1 would take the GPU")
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_fsdp1_that_was_taken_off_is_still_inside(tmp_path, named, by_layer):
    """Its flat parameters stay; with one process they even show the shapes of the weights."""
    store = f"file://{tmp_path}/group"
    dist.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    try:
        model = tiny_marian().requires_grad_(True)
        layers = {type(model.model.encoder.layers[0]), type(model.model.decoder.layers[0])}
        wrapped = FullyShardedDataParallel(
            model,
            device_id=torch.device("cpu"),
            use_orig_params=named,
            auto_wrap_policy=ModuleWrapPolicy(layers) if by_layer else None,
        )
        with pytest.raises(ValueError, match=f"FSDP1 is not supported. {WORKS}"):
            Sparsifier(wrapped.module, None, CHTsConfig(), 1000)
    finally:
        dist.destroy_process_group()


def test_deepspeed_whose_engine_was_taken_off():
    model = tiny_marian()
    plain = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer = type("DeepSpeedOptimizerWrapper", (), {"optimizer": plain})()
    with pytest.raises(ValueError, match=r"DeepSpeed is not supported: .* use DistributedData"):
        Sparsifier(model, optimizer, CHTsConfig(), 1000)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"_n_gpu": 2}, r"the Trainer would use nn.DataParallel .* torchrun or accelerate launch"),
        ({"deepspeed": "zero.json"}, "DeepSpeed is not supported: .* use DistributedDataParallel"),
        ({"fsdp": True}, "fsdp is set, but accelerate has not .* on GPUs only.* works: .* without"),
    ],
)
def test_the_trainer_with_more_than_one_copy_or_part_of_the_weights(tmp_path, setting, message):
    callback = CHTsCallback(CHTsConfig(sparsity=0.8))
    trainer = tiny_trainer(tmp_path, [callback])
    for name, value in setting.items():
        trainer.args.__dict__[name] = value
    with pytest.raises(ValueError, match=message):
        callback.on_train_begin(
            trainer.args, trainer.state, trainer.control, model=trainer.model, optimizer=None
        )


def test_the_wrapper_that_works_is_to_be_taken_off():
    with pytest.raises(ValueError, match="pass the module inside it: accelerator.unwrap_model"):
        Sparsifier(_wrapped("DistributedDataParallel"), None, CHTsConfig(), 1000)


def test_parameters_of_zero_3():
    model = tiny_marian()
    model.model.encoder.layers[0].fc1.weight.ds_id = 7
    with pytest.raises(ValueError, match=f"fc1.weight is a parameter of ZeRO-3.*{WORKS}"):
        Sparsifier(model, None, CHTsConfig(), 1000)
