"""What would leave copies of the weights without masks is refused, and told what works."""

from __future__ import annotations

import pytest
from torch import nn

from chts_hf import CHTsConfig, Sparsifier
from tests.builders import tiny_marian

WORKS = r"DistributedDataParallel works: start with torchrun or accelerate launch"


def _wrapped(kind: str) -> nn.Module:
    wrapper = type(kind, (nn.Module,), {})()
    wrapper.module = tiny_marian()
    return wrapper


@pytest.mark.parametrize("kind", ["DataParallel", "FullyShardedDataParallel", "DeepSpeedEngine"])
def test_wrappers_that_do_not_work(kind):
    with pytest.raises(ValueError, match=f"wrapped in {kind}: .* is not supported. {WORKS}"):
        Sparsifier(_wrapped(kind), None, CHTsConfig(), 1000)


def test_the_wrapper_that_works_is_to_be_taken_off():
    with pytest.raises(ValueError, match="pass the module inside it: accelerator.unwrap_model"):
        Sparsifier(_wrapped("DistributedDataParallel"), None, CHTsConfig(), 1000)


def test_parameters_of_zero_3():
    model = tiny_marian()
    model.model.encoder.layers[0].fc1.weight.ds_id = 7
    with pytest.raises(ValueError, match=f"fc1.weight is a parameter of ZeRO-3.*{WORKS}"):
        Sparsifier(model, None, CHTsConfig(), 1000)
