"""What goes wrong in an update ends in a clear state, and the Trainer's life keeps masks right."""

from __future__ import annotations

import copy
import logging
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import EarlyStoppingCallback, TrainerCallback

from chts_hf import CHTsCallback, CHTsConfig, Sparsifier, last_complete_checkpoint, shared_update
from chts_hf.attached import attached_sparsifier
from chts_hf.checkpoint.mask_file import load_masks
from tests.builders import tiny_marian, tiny_trainer

IDS = torch.arange(3, 19).reshape(2, 8)
METHODS = ["chts", "granet", "mest"]
MORE = [pytest.param(m, marks=pytest.mark.slow) for m in ("chtss", "set", "rigl", "gmp")]


def _setup(method="chts", **changes):
    model = tiny_marian()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    values = {"method": method, "sparsity": 0.8, "update_interval": 2, "rewarm_steps": 0}
    config = CHTsConfig(**values | changes)
    return model, optimizer, Sparsifier(model, optimizer, config, total_steps=20)


def _step(model, optimizer, sparsifier):
    model(input_ids=IDS, labels=IDS).loss.backward()
    optimizer.step()
    sparsifier.step()
    optimizer.zero_grad()


def _snapshot(sparsifier):
    state = sparsifier.state_dict()
    weights = {t.name: t.weight.detach().clone() for t in sparsifier.targets}
    return [state["masks"], state["ever"], state["history"], weights]


def _same(before, after):
    for one, other in zip(before, after, strict=True):
        for name, tensor in one.items():
            assert torch.equal(tensor.nan_to_num(7), other[name].nan_to_num(7)), name


# -- NaN, infinity, memory -------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(("method", "where"), [("chts", "weights"), ("rigl", "gradient")])
def test_values_that_are_not_finite_stop_before_anything_changes(method, where, value):
    """In the last layer, so that the others would have been updated before it is seen."""
    model, optimizer, sparsifier = _setup(method)
    _step(model, optimizer, sparsifier)
    model(input_ids=IDS, labels=IDS).loss.backward()
    optimizer.step()
    last = sparsifier.targets[-1]
    if where == "weights":
        last.weight.data[sparsifier.masks[last.name]] = value
    else:
        sparsifier._gradients._dense[last.name][0, 0] = value
    sparsifier._enforce()
    before = _snapshot(sparsifier)
    with pytest.raises(RuntimeError, match=rf"{last.name}: its {where} hold NaN or infinite"):
        sparsifier.step()
    _same(before, _snapshot(sparsifier))
    assert sparsifier.updates == 0


def test_a_block_without_memory_on_its_device_is_made_on_the_host(monkeypatch, caplog):
    expected = _setup()
    for _ in range(2):
        _step(*expected)
    update_block, calls = shared_update.update_block, []

    def no_memory(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return update_block(*arguments)

    monkeypatch.setattr(shared_update, "update_block", no_memory)
    monkeypatch.setattr(shared_update, "_device", lambda block: torch.device("cuda"))
    model, optimizer, sparsifier = _setup()
    with caplog.at_level(logging.WARNING, logger="chts_hf"):
        for _ in range(2):
            _step(model, optimizer, sparsifier)
    assert "made on the host instead" in caplog.text
    assert len(calls) == len(sparsifier._blocks) + 1
    _same(_snapshot(expected[2]), _snapshot(sparsifier))


def test_blocks_of_a_device_without_float64_are_made_on_the_host(monkeypatch):
    """As on an Apple GPU, whose part the CPU plays here."""
    expected = _setup()
    for _ in range(2):
        _step(*expected)
    on_host, moved = shared_update._on_host, []
    update_block, made = shared_update.update_block, []

    def move(layer):
        moved.append(on_host(layer))
        return moved[-1]

    def update(layers, *arguments):
        made.extend(layers)
        return update_block(layers, *arguments)

    monkeypatch.setattr(shared_update, "_on_host", move)
    monkeypatch.setattr(shared_update, "update_block", update)
    monkeypatch.setattr(shared_update, "_device", lambda block: torch.device("mps"))
    model, optimizer, sparsifier = _setup()
    for _ in range(2):
        _step(model, optimizer, sparsifier)
    assert sparsifier.updates == 1
    assert len(made) == len(sparsifier.targets)
    assert all(one is other for one, other in zip(made, moved, strict=True))
    _same(_snapshot(expected[2]), _snapshot(sparsifier))


def test_a_block_without_memory_on_the_host_stops_with_every_layer_whole(monkeypatch):
    update_block, calls = shared_update.update_block, []

    def no_memory(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return update_block(*arguments)

    monkeypatch.setattr(shared_update, "update_block", no_memory)
    model, optimizer, sparsifier = _setup()
    _step(model, optimizer, sparsifier)
    with pytest.raises(RuntimeError, match="Each layer still has the links of before or of after"):
        _step(model, optimizer, sparsifier)
    for target in sparsifier.targets:
        mask = sparsifier.masks[target.name]
        assert int(mask.sum()) == round(0.2 * mask.numel())
        assert (target.weight[~mask] == 0).all()


class NoMemory(TorchDispatchMode):
    """Within it, from its n-th operation that takes memory on, none gets any."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.seen = at, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        schema = func._schema
        if not schema.is_mutable and not any(out.alias_info for out in schema.returns):
            self.seen += 1
            if self.seen > self.at:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return func(*args, **kwargs or {})


def _state(sparsifier, target, optimizer):
    """All that an update changes of one layer."""
    name = target.parameter_name
    tensors = [sparsifier.masks[name], sparsifier.ever[name], sparsifier._history[name]]
    tensors += [target.weight, target.weight.grad, *optimizer.state[target.weight].values()]
    return [target.view(t).detach().clone() for t in tensors if t.ndim]


def _update_without_memory(part: str, at: int):
    """An update in which memory ends at an operation of ``Sparsifier.part``."""
    model, optimizer, sparsifier = _setup("set", regrow_init="history", update_interval=1)
    _step(model, optimizer, sparsifier)  # so that links return to values they had
    model(input_ids=IDS, labels=IDS).loss.backward()
    optimizer.step()
    sparsifier._enforce()
    before = [_state(sparsifier, target, optimizer) for target in sparsifier.targets]
    memory = NoMemory(at)
    function = getattr(sparsifier, part)

    def limited(*arguments):
        with memory:
            return function(*arguments)

    setattr(sparsifier, part, limited)
    message = ""
    try:
        sparsifier.step()
    except RuntimeError as error:
        message = str(error)
    after = [_state(sparsifier, target, optimizer) for target in sparsifier.targets]
    return memory.seen, message, before, after


@pytest.mark.parametrize(("part", "stride"), [("_apply_block", 5), ("_update", 37)])
def test_wherever_memory_ends_in_an_update_each_layer_is_as_before_or_as_after(part, stride):
    operations, message, _, expected = _update_without_memory(part, 10**9)
    assert not message
    updated = []
    for at in range(0, operations, stride):
        _, message, before, after = _update_without_memory(part, at)
        assert message.startswith("memory does not suffice to update"), at
        assert "Each layer still has the links of before or of after" in message
        updated.append(0)
        for was, now, will in zip(before, after, expected, strict=True):
            same = [
                all(torch.equal(one, other) for one, other in zip(now, state, strict=True))
                for state in (was, will)
            ]
            assert any(same), at
            updated[-1] += same[1]
    assert updated == sorted(updated)
    assert updated[0] == 0
    assert updated[-1] > len(expected) // 2


def test_other_errors_of_an_update_are_not_taken_for_a_lack_of_memory(monkeypatch):
    def broken(*_):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(shared_update, "update_block", broken)
    model, optimizer, sparsifier = _setup()
    _step(model, optimizer, sparsifier)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        _step(model, optimizer, sparsifier)


@pytest.mark.parametrize("value", [0.0, 0.25])
@pytest.mark.parametrize("method", METHODS + MORE)
def test_layers_whose_magnitudes_are_all_zero_or_equal(method, value):
    model, optimizer, sparsifier = _setup(method)
    for _ in range(4):
        for target in sparsifier.targets:
            target.weight.data[sparsifier.masks[target.name]] = value
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        _step(model, optimizer, sparsifier)
    assert sparsifier.updates == 2
    for target in sparsifier.targets:
        mask = sparsifier.masks[target.name]
        sparsity = sparsifier.plan.sparsity(
            4, sparsifier._initial[target.name], sparsifier._final[target.name]
        )
        assert int(mask.sum()) == round((1 - sparsity) * mask.numel())
        assert torch.isfinite(target.weight).all()
        assert (target.weight[~mask] == 0).all()


# -- the Trainer's life ----------------------------------------------------------------------


class Watch(TrainerCallback):
    """Looks at the model at each step's end and each evaluation."""

    def __init__(self, callback: CHTsCallback) -> None:
        self.callback, self.looks = callback, 0

    def _look(self, model):
        parameters = dict(model.named_parameters())
        for name, mask in self.callback.sparsifier.masks.items():
            self.looks += 1
            assert (parameters[name][~mask] == 0).all(), name
            assert int(mask.sum()) == round(0.2 * mask.numel()), name

    def on_step_end(self, args, state, control, **kwargs):
        self._look(kwargs["model"])

    def on_evaluate(self, args, state, control, **kwargs):
        self._look(kwargs["model"])

    def on_train_end(self, args, state, control, **kwargs):
        self._look(kwargs["model"])


def _callbacks(**changes):
    callback = CHTsCallback(CHTsConfig(sparsity=0.8, update_interval=3, **changes))
    return callback, Watch(callback)


@pytest.mark.timeout(600)
def test_early_stopping_best_model_few_checkpoints_and_generation_together(tmp_path):
    callback, watch = _callbacks()
    trainer = tiny_trainer(
        tmp_path,
        [callback, watch, EarlyStoppingCallback(2)],
        steps=40,
        eval_strategy="steps",
        eval_steps=4,
        save_strategy="steps",
        save_steps=4,
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        greater_is_better=True,  # the first is best, so that training stops early
        predict_with_generate=True,
        generation_max_length=6,
    )
    trainer.train()
    assert trainer.state.global_step == 12
    assert trainer.state.best_global_step == 4
    assert watch.looks > 12 * len(callback.sparsifier.masks)
    best, _ = load_masks(trainer.state.best_model_checkpoint)
    for name, mask in callback.sparsifier.masks.items():
        assert torch.equal(mask, best["masks"][name])
    # With a limit of 1 the Trainer keeps the best one only, once training has ended.
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-4"]
    assert not list(tmp_path.glob("*/*.part"))
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-4")


def test_a_second_train_keeps_links_that_are_exactly_zero(tmp_path):
    """A link that regrew without a history is 0 until its first step; it is a link all the same."""
    callback, watch = _callbacks(regrow_init="zero", rescale_init=True)
    trainer = tiny_trainer(tmp_path, [callback, watch])
    trainer.train()
    first = {name: mask.clone() for name, mask in callback.sparsifier.masks.items()}
    with torch.no_grad():
        for target in callback.sparsifier.targets:
            target.weight[0] = 0
    weights = {t.name: t.weight.detach().clone() for t in callback.sparsifier.targets}
    begun = {}

    class Begin(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            begun.update(copy.deepcopy(callback.sparsifier.masks))
            for target in callback.sparsifier.targets:
                assert torch.equal(target.weight, weights[target.name])

    trainer.add_callback(Begin())
    trainer.train()
    for name, mask in begun.items():
        assert torch.equal(mask, first[name]), name
    assert callback.sparsifier.updates == 3


def test_a_trial_that_is_given_up_ends_as_the_search_wants(tmp_path, monkeypatch):
    """What transformers does where a search prunes, without the package that it needs."""
    callback = CHTsCallback(CHTsConfig(sparsity=0.8, update_interval=2, rewarm_steps=0))
    trainer = tiny_trainer(
        tmp_path,
        [callback],
        eval_strategy="steps",
        eval_steps=3,
        save_strategy="steps",
        save_steps=3,
        load_best_model_at_end=True,
    )

    class Pruned(Exception):
        pass

    def report(trial, step, metrics):
        if step == 6:
            assert trainer.state.best_model_checkpoint is not None
            trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)
            raise Pruned

    monkeypatch.setattr(trainer, "_report_to_hp_search", report)
    with pytest.raises(Pruned):
        trainer.train()
    assert attached_sparsifier(trainer.model) is None
    for target in callback.sparsifier.targets:
        assert not target.weight[~callback.sparsifier.masks[target.parameter_name]].any()


def test_each_trial_of_a_search_keeps_its_own_masks(tmp_path, monkeypatch):
    callback, watch = _callbacks()
    trainer = tiny_trainer(tmp_path, [callback, watch], save_strategy="steps", save_steps=6)
    trainer.model_init = lambda trial: tiny_marian(seed=trial["seed"])
    # What a search does, without one of the packages that it needs: a folder for each trial.
    monkeypatch.setattr("transformers.integrations.hp_params", lambda trial: trial)
    trainer._get_output_dir = lambda trial: str(tmp_path / f"run-{trial['seed']}")
    for number in (2, 3):
        trainer.train(trial={"seed": number})
    for number in (2, 3):
        for step in (6, 12):
            state, _ = load_masks(tmp_path / f"run-{number}" / f"checkpoint-{step}")
            assert state["step_count"] == step
    assert not list(tmp_path.glob("checkpoint-*"))
    for name, mask in callback.sparsifier.masks.items():
        assert torch.equal(mask, state["masks"][name])
