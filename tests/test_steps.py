"""Which calls of step() count, and whose gradients an update uses, in loops of all kinds."""

from __future__ import annotations

import gc
import math

import pytest
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState
from torch.optim.optimizer import _global_optimizer_post_hooks

from chts_hf import CHTsConfig, Sparsifier
from tests.builders import tiny_marian

BY_GRADIENT = ["rigl", "granet", "mest"]


def _config(method: str) -> CHTsConfig:
    return CHTsConfig(method=method, sparsity=0.8, update_interval=2, rewarm_steps=0)


def _setup(method="rigl", scaler=None):
    model = tiny_marian()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    sparsifier = Sparsifier(model, optimizer, _config(method), total_steps=20, scaler=scaler)
    return model, optimizer, sparsifier


def _loss(model, index=0):
    ids = torch.arange(3 + index, 11 + index)[None]
    return model(input_ids=ids, labels=ids).loss


def _same(one, other):
    assert one.step_count == other.step_count
    assert one.updates == other.updates > 0
    for name, mask in one.masks.items():
        assert torch.equal(mask, other.masks[name]), name


@pytest.mark.parametrize("method", BY_GRADIENT)
def test_a_call_for_each_micro_batch_is_one_for_each_step(method):
    def train(every_micro_batch):
        model, optimizer, sparsifier = _setup(method)
        for i in range(12):
            _loss(model, i).backward()
            complete = i % 3 == 2
            if complete:
                optimizer.step()
            if complete or every_micro_batch:
                sparsifier.step()
            if complete:
                optimizer.zero_grad()
        return sparsifier

    _same(train(every_micro_batch=True), train(every_micro_batch=False))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("zeroed", ["before", "after", "to zeros", "to zeros, after"])
def test_a_batch_that_a_scaler_skipped_leaves_nothing(known, zeroed):
    """Its infinity is in a weight that is not sparsified; the others' gradients look all right."""

    def train(overflow):
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        model, optimizer, sparsifier = _setup(scaler=scaler if known else None)
        for step in range(6):
            for attempt in range(2 if step == overflow else 1):
                skipped = step == overflow and attempt == 0
                scaler.scale(_loss(model, 9 if skipped else step)).backward()
                if skipped:
                    model.get_input_embeddings().weight.grad[0, 0] = math.inf
                scaler.step(optimizer)
                scaler.update(4.0)
                if "after" not in zeroed:
                    optimizer.zero_grad(set_to_none="zeros" not in zeroed)
                sparsifier.step()
                optimizer.zero_grad(set_to_none="zeros" not in zeroed)
        return sparsifier

    _same(train(overflow=3), train(overflow=None))


def test_a_scaler_that_goes_on_skipping_is_no_error():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60)
    model, optimizer, sparsifier = _setup("chts", scaler)
    for step in range(30):
        scaler.scale(_loss(model) * (math.inf if step < 25 else 1)).backward()
        scaler.step(optimizer)
        scaler.update()
        sparsifier.step()
        optimizer.zero_grad()
    assert sparsifier.step_count == 5


def test_weights_that_another_optimizer_trains():
    model, _, sparsifier = _setup("chts")
    again = torch.optim.SGD(model.parameters(), lr=1e-2)
    _loss(model).backward()
    again.step()
    with pytest.raises(RuntimeError, match=r"another optimizer \(SGD\) .* given \(AdamW\)"):
        sparsifier.step()
    state = sparsifier.state_dict()
    sparsifier.close()
    sparsifier = Sparsifier(model, again, _config("chts"), 20, state=state)
    again.step()
    sparsifier.step()
    assert sparsifier.step_count == 1


def test_optimizers_beside_the_one_that_was_given():
    """One for the rest of the model, one of another model, and one that holds the same weights."""
    model, optimizer, sparsifier = _setup("chts")
    other = tiny_marian(1)
    _loss(model).backward()
    _loss(other).backward()
    beside = torch.optim.SGD([model.get_input_embeddings().weight], lr=1e-2)
    elsewhere = torch.optim.SGD(other.parameters(), lr=1e-2)
    for _ in range(2):  # while the given one accumulates
        beside.step()
        elsewhere.step()
        sparsifier.step()
    assert sparsifier.step_count == 0
    optimizer.step()
    torch.optim.SGD(model.parameters(), lr=0.0).step()
    sparsifier.step()
    assert sparsifier.step_count == 1


class Accumulating(torch.optim.Optimizer):
    """A wrapper that is an optimizer itself, and passes on every second step."""

    def __init__(self, inner):
        super().__init__(inner.param_groups, {})
        self.optimizer, self.calls = inner, 0

    def step(self, closure=None):
        self.calls += 1
        if self.calls % 2 == 0:
            self.optimizer.step(closure)


@pytest.mark.parametrize("wrapper_is_given", [True, False])
def test_a_wrapper_that_leaves_steps_out_is_no_other_optimizer(wrapper_is_given):
    model = tiny_marian()
    inner = torch.optim.AdamW(model.parameters())
    wrapper = Accumulating(inner)
    given = wrapper if wrapper_is_given else inner
    sparsifier = Sparsifier(model, given, _config("chts"), total_steps=20)
    for _ in range(4):
        _loss(model).backward()
        wrapper.step()
        sparsifier.step()
    assert sparsifier.step_count == 2


def test_the_watch_over_all_optimizers_ends_with_the_sparsifier():
    gc.collect()  # what other tests left
    before = len(_global_optimizer_post_hooks)
    model, optimizer, sparsifier = _setup("chts")
    assert len(_global_optimizer_post_hooks) == before + 1
    sparsifier.close()
    assert len(_global_optimizer_post_hooks) == before
    dropped = _setup("chts")
    assert len(_global_optimizer_post_hooks) == before + 1
    del dropped
    gc.collect()
    assert len(_global_optimizer_post_hooks) == before


def test_a_loss_scale_that_can_not_be_seen_is_asked_for(monkeypatch):
    """fp16 of accelerate needs a GPU; its state says so here without one."""
    Accelerator(cpu=True)
    monkeypatch.setitem(AcceleratorState._shared_state, "_mixed_precision", "fp16")
    with pytest.raises(ValueError, match=r"scaler=accelerator\.scaler"):
        _setup("mest")
    _setup("rigl")  # the order of gradients is that of the scaled ones
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    assert _setup("mest", scaler)[2]._gradients._scaler is scaler
    model = tiny_marian()
    prepared = AcceleratedOptimizer(torch.optim.AdamW(model.parameters()), scaler=scaler)
    sparsifier = Sparsifier(model, prepared, _config("mest"), total_steps=20)
    assert sparsifier._gradients._scaler is scaler
