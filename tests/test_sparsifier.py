"""The engine in a bare PyTorch loop."""

from __future__ import annotations

import copy
import gc
import math

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from chts_hf import CHTsConfig, Sparsifier
from chts_hf.attached import attached_sparsifier
from tests.builders import tiny_marian

BATCH = {
    "input_ids": torch.arange(3, 19).reshape(2, 8),
    "labels": torch.arange(4, 20).reshape(2, 8),
}


def _config(**changes) -> CHTsConfig:
    return CHTsConfig(**{"sparsity": 0.8, "update_interval": 2, "rewarm_steps": 0} | changes)


def _train(model, optimizer, sparsifier, steps=1):
    for _ in range(steps):
        model(**BATCH).loss.backward()
        optimizer.step()
        sparsifier.step()
        optimizer.zero_grad()


def _setup(steps=20, lr=1e-2, **changes):
    model = tiny_marian()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    return model, optimizer, Sparsifier(model, optimizer, _config(**changes), total_steps=steps)


@pytest.mark.parametrize("method", ["chts", "set", "rigl"])
def test_updates_replace_links_and_keep_their_number(method):
    model, optimizer, sparsifier = _setup(method=method)
    before = {name: mask.clone() for name, mask in sparsifier.masks.items()}
    _train(model, optimizer, sparsifier, 4)
    assert sparsifier.updates == 2
    for target in sparsifier.targets:
        mask = sparsifier.masks[target.name]
        assert int(mask.sum()) == round(0.2 * math.prod(target.shape))
    changed = [not torch.equal(before[name], mask) for name, mask in sparsifier.masks.items()]
    assert all(changed)


def test_updates_end_at_t_end():
    model, optimizer, sparsifier = _setup(t_end=0.5)
    _train(model, optimizer, sparsifier, 10)
    masks = {name: mask.clone() for name, mask in sparsifier.masks.items()}
    _train(model, optimizer, sparsifier, 10)
    assert all(torch.equal(masks[name], mask) for name, mask in sparsifier.masks.items())


@pytest.mark.parametrize("regrow_init", ["history", "zero"])
def test_new_links_start_where_the_config_says(regrow_init):
    """A link that was removed and comes back has its old value, or 0; its momentum is gone."""
    model, optimizer, sparsifier = _setup(regrow_init=regrow_init, zeta=0.9, t_end=1.0)
    removed_at: dict[str, torch.Tensor] = {}
    returned = 0
    for _ in range(8):
        _train(model, optimizer, sparsifier)  # a step without an update
        old = {name: mask.clone() for name, mask in sparsifier.masks.items()}
        model(**BATCH).loss.backward()
        optimizer.step()
        weights = {t.name: t.weight.detach().clone() for t in sparsifier.targets}
        sparsifier.step()
        for target in sparsifier.targets:
            name, mask = target.name, sparsifier.masks[target.name]
            new = mask & ~old[name]
            past = removed_at.setdefault(name, torch.zeros_like(weights[name]))
            expected = past if regrow_init == "history" else torch.zeros_like(past)
            torch.testing.assert_close(target.weight[new], expected[new], rtol=0, atol=0)
            assert (optimizer.state[target.weight]["exp_avg"][new] == 0).all()
            assert (optimizer.state[target.weight]["exp_avg_sq"][new] == 0).all()
            returned += int((past[new] != 0).sum())
            gone = old[name] & ~mask
            past[gone] = weights[name][gone]
        optimizer.zero_grad()
    assert returned > 50


def test_gradient_regrowth_uses_the_gradient_of_the_whole_batch():
    """Two micro-batches: the new links are where the sum of both dense gradients is largest."""
    model, optimizer, sparsifier = _setup(method="rigl", lr=0.0)
    reference = copy.deepcopy(model)
    halves = [{k: v[i : i + 1] for k, v in BATCH.items()} for i in range(2)]
    for step in range(2):
        old = {name: mask.clone() for name, mask in sparsifier.masks.items()}
        for half in halves:
            model(**half).loss.backward()
        optimizer.step()
        sparsifier.step()
        optimizer.zero_grad()
        assert sparsifier.updates == step
    for half in halves:
        reference(**half).loss.backward()
    parameters = dict(reference.named_parameters())
    for target in sparsifier.targets:
        mask = sparsifier.masks[target.name]
        new = mask & ~old[target.name]
        gradient = parameters[target.name].grad.abs()
        assert new.any()
        assert gradient[new].min() >= gradient[~mask & ~old[target.name]].max()


@pytest.mark.parametrize("given", ["prepared", "plain", "plain, before it is prepared"])
def test_gradients_are_gathered_over_accelerates_accumulation(given):
    """Accelerate's optimizer leaves steps out within accumulate(); that is no skipped batch."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    model = tiny_marian()
    reference_model = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    plain, config = optimizer, _config(method="rigl")
    if given == "plain, before it is prepared":
        sparsifier = Sparsifier(model, plain, config, total_steps=20)
    model, optimizer = accelerator.prepare(model, optimizer)
    if given != "plain, before it is prepared":
        used = optimizer if given == "prepared" else plain
        sparsifier = Sparsifier(model, used, config, total_steps=20)
    reference_model.load_state_dict(model.state_dict())
    halves = [{k: v[i : i + 1] for k, v in BATCH.items()} for i in range(2)]
    for _ in range(2):
        old = {name: mask.clone() for name, mask in sparsifier.masks.items()}
        for half in halves:
            with accelerator.accumulate(model):
                accelerator.backward(model(**half).loss)
                optimizer.step()
                sparsifier.step()
                optimizer.zero_grad()
    assert (sparsifier.step_count, sparsifier.updates) == (2, 1)
    for half in halves:
        reference_model(**half).loss.backward()
    parameters = dict(reference_model.named_parameters())
    for target in sparsifier.targets:
        mask = sparsifier.masks[target.name]
        gradient = parameters[target.name].grad.abs()
        new = mask & ~old[target.name]
        assert gradient[new].min() >= gradient[~mask & ~old[target.name]].max()


def test_a_layer_without_a_gradient_does_not_stop_an_update():
    """An expert or a dropped layer that the batch did not reach."""
    model, optimizer, sparsifier = _setup(method="rigl")
    for _ in range(4):
        model.model.encoder(BATCH["input_ids"]).last_hidden_state.sum().backward()
        optimizer.step()
        sparsifier.step()
        optimizer.zero_grad()
    assert sparsifier.updates == 2
    for target in sparsifier.targets:
        links = int(sparsifier.masks[target.name].sum())
        assert links == round(0.2 * target.weight.numel())


def test_dense_gradients_are_freed_after_the_update():
    model, optimizer, sparsifier = _setup(method="rigl")
    gradients = sparsifier._gradients
    _train(model, optimizer, sparsifier)
    model(**BATCH).loss.backward()
    assert gradients._dense.keys() == sparsifier.masks.keys()
    optimizer.step()
    sparsifier.step()
    assert not gradients._dense


def test_state_dict_continues_exactly():
    model, optimizer, sparsifier = _setup()
    _train(model, optimizer, sparsifier, 5)
    state = copy.deepcopy(sparsifier.state_dict())
    twin = copy.deepcopy(model)
    twin_optimizer = torch.optim.AdamW(twin.parameters(), lr=1e-2)
    twin_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for parameter in twin.parameters():
        parameter._post_accumulate_grad_hooks = None  # deepcopy keeps the first one's hooks
    other = Sparsifier(twin, twin_optimizer, _config(), total_steps=20, state=state)
    _train(model, optimizer, sparsifier, 10)
    _train(twin, twin_optimizer, other, 10)
    for name, mask in sparsifier.masks.items():
        assert torch.equal(mask, other.masks[name])
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_learning_rate_warms_up_again_and_schedulers_do_not_notice():
    model = tiny_marian()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    config = _config(update_interval=6, rewarm_steps=4)
    sparsifier = Sparsifier(model, optimizer, config, total_steps=20)
    used, seen = [], []
    optimizer.register_step_pre_hook(lambda o, *_: used.append(o.param_groups[0]["lr"]))
    for _ in range(12):
        optimizer.step()
        sparsifier.step()
        scheduler.step()
        seen.append(optimizer.param_groups[0]["lr"])
    assert seen == pytest.approx([0.5 ** (i + 1) for i in range(12)])
    factors = [rate / 0.5**i for i, rate in enumerate(used)]
    assert factors == pytest.approx([1] * 6 + [0.25, 0.5, 0.75, 1, 1, 1])


def test_a_skipped_optimizer_step_does_not_count():
    model, optimizer, sparsifier = _setup()
    sparsifier.step()
    assert sparsifier.step_count == 0
    _train(model, optimizer, sparsifier)
    sparsifier.step()
    assert sparsifier.step_count == 1


def test_gradients_of_a_skipped_step_are_not_used():
    """Infinities that made a gradient scaler skip the step must not reach the update."""
    model, optimizer, sparsifier = _setup(method="rigl")
    _train(model, optimizer, sparsifier)
    (model(**BATCH).loss * math.inf).backward()
    sparsifier.step()  # the scaler skipped optimizer.step()
    optimizer.zero_grad()
    _train(model, optimizer, sparsifier)
    assert sparsifier.updates == 1


def test_accelerate_loop():
    accelerator = Accelerator(cpu=True)
    model = tiny_marian()
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=1e-2))
    sparsifier = Sparsifier(accelerator.unwrap_model(model), optimizer, _config(), total_steps=8)
    for _ in range(4):
        accelerator.backward(model(**BATCH).loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        sparsifier.step()
        optimizer.zero_grad()
    assert sparsifier.updates == 2
    for target in sparsifier.targets:
        assert (target.weight[~sparsifier.masks[target.name]] == 0).all()


def test_stats_count_what_is_there():
    model, _, sparsifier = _setup()
    stats = sparsifier.stats()
    links = sum(int((t.weight != 0).sum()) for t in sparsifier.targets)
    weights = sum(t.weight.numel() for t in sparsifier.targets)
    assert (stats["links"], stats["weights"]) == (links, weights)
    assert stats["sparsity"] == pytest.approx(1 - links / weights)
    assert stats["itop_rate"] == pytest.approx(links / weights)
    assert 0 < stats["anp"] <= 1
    assert sum(kind["links"] for kind in stats["by_kind"].values()) == links
    assert {"self_attn.q", "cross_attn.o", "ffn.up", "ffn.down"} <= stats["by_kind"].keys()


def test_close_lets_go():
    model, optimizer, sparsifier = _setup()
    sparsifier.close()
    model(**BATCH).loss.backward()
    target = sparsifier.targets[0]
    assert (target.weight.grad[~sparsifier.masks[target.name]] != 0).any()
    Sparsifier(model, optimizer, _config(), total_steps=20).close()


def test_from_weights_keeps_the_zeros():
    model, optimizer, sparsifier = _setup()
    _train(model, optimizer, sparsifier, 4)
    sparsifier.close()
    again = Sparsifier(model, optimizer, _config(method="static", init="from_weights"), 20)
    for name, mask in sparsifier.masks.items():
        assert torch.equal(again.masks[name], mask & (dict(model.named_parameters())[name] != 0))
    _train(model, optimizer, again, 3)
    for target in again.targets:
        assert (target.weight[~sparsifier.masks[target.name]] == 0).all()


# -- what is refused -------------------------------------------------------------------------


def test_an_interval_that_never_fires():
    with pytest.raises(ValueError, match=r"update_interval=100 never fires.*step 75.*at most 75"):
        Sparsifier(tiny_marian(), None, CHTsConfig(update_interval=100), total_steps=100)


def test_a_model_without_targets():
    with pytest.raises(ValueError, match=r"no layer of Sequential is a target.*0, 1.*targets="):
        Sparsifier(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), None, _config(), 100)


def test_a_layer_that_would_lose_every_link():
    with pytest.raises(ValueError, match=r"sparsity=0.999 would remove every link of model\."):
        Sparsifier(tiny_marian(), None, _config(sparsity=0.999), 100)


def test_two_sparsifiers_on_one_model():
    model, optimizer, sparsifier = _setup()
    with pytest.raises(ValueError, match="has a sparsifier already"):
        Sparsifier(model, optimizer, _config(), 100)
    assert sparsifier.masks


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_a_wrapped_model(wrap):
    with pytest.raises(ValueError, match=r"wrapped in (DataParallel|OptimizedModule)"):
        Sparsifier(wrap(tiny_marian()), None, _config(), 100)


def test_weights_that_are_not_finite_stop_the_update():
    model, optimizer, sparsifier = _setup()
    _train(model, optimizer, sparsifier)
    sparsifier.targets[3].weight.data[sparsifier.masks[sparsifier.targets[3].name]] = math.nan
    model(**BATCH).loss.backward()
    optimizer.step()
    with pytest.raises(RuntimeError, match=r"weights hold NaN"):
        sparsifier.step()


def test_masks_of_other_weights_are_refused():
    model, optimizer, sparsifier = _setup()
    state = sparsifier.state_dict()
    _train(model, optimizer, sparsifier)
    with pytest.raises(ValueError, match="saved with other weights of model"):
        sparsifier.load_state_dict(state)
    state["masks"].pop(next(iter(state["masks"])))
    with pytest.raises(ValueError, match="another model or configuration: missing"):
        sparsifier.load_state_dict(state)


def test_a_state_of_another_configuration_is_refused():
    model, optimizer, sparsifier = _setup()
    state = sparsifier.state_dict()
    sparsifier.close()
    for changes, message in (
        ({"sparsity": 0.5}, "sparsity was 0.8 and is 0.5"),
        ({"seed": 3}, "seed"),
    ):
        config = CHTsConfig.from_dict(sparsifier.config.to_dict() | changes)
        with pytest.raises(ValueError, match=f"another configuration: {message}"):
            Sparsifier(model, optimizer, config, total_steps=100, state=state)
    # What acts from then on may change, and what has no effect, and names of what is dense anyway.
    may = sparsifier.config.to_dict() | {"update_interval": 17, "t_end": 0.5}
    may |= {"exclude": ["lm_head"], "initial_sparsity": 0.4}
    fewer = CHTsConfig.from_dict(may | {"exclude": ["decoder"]})
    with pytest.raises(ValueError, match=r"unexpected \['model.decoder.*unfrozen until"):
        Sparsifier(model, optimizer, fewer, total_steps=100, state=state)
    config = CHTsConfig.from_dict(may)
    again = Sparsifier(model, optimizer, config, total_steps=100, state=state)
    assert all(torch.equal(again.masks[name], mask) for name, mask in state["masks"].items())


def test_a_state_whose_configuration_held_tuples_is_taken_up():
    model, optimizer, sparsifier = _setup(exclude=["decoder"])
    state = sparsifier.state_dict()
    sparsifier.close()
    state["config"]["exclude"] = ("decoder",)  # as states that torch.save wrote may have them
    config = _config(exclude=("decoder",))
    again = Sparsifier(model, optimizer, config, total_steps=20, state=state)
    assert again.masks.keys() == state["masks"].keys()


def test_a_sparsifier_that_was_dropped_still_holds_its_model():
    """Its hooks are on the parameters, so another one beside it would mask gradients twice."""
    model = tiny_marian()
    Sparsifier(model, None, CHTsConfig(sparsity=0.8), total_steps=1000)
    gc.collect()
    with pytest.raises(ValueError, match="has a sparsifier already"):
        Sparsifier(model, None, CHTsConfig(sparsity=0.8), total_steps=1000)
    attached_sparsifier(model).close()
    Sparsifier(model, None, CHTsConfig(sparsity=0.8), total_steps=1000).close()


@pytest.mark.parametrize("method", ["gmp", "chtss"])
def test_a_run_resumed_with_more_steps_never_gets_denser(method):
    model = tiny_marian()
    config = CHTsConfig(method=method, sparsity=0.8, update_interval=5, rewarm_steps=0)

    def train(sparsifier, optimizer, steps):
        for _ in range(steps):
            loss = sum((p * p).sum() for p in model.parameters())
            loss.backward()
            optimizer.step()
            sparsifier.step()
            optimizer.zero_grad()

    optimizer = torch.optim.AdamW(model.parameters())
    first = Sparsifier(model, optimizer, config, total_steps=40)
    train(first, optimizer, 10)
    state, before = first.state_dict(), first.stats()["links"]
    first.close()
    again = Sparsifier(model, optimizer, config, total_steps=400, state=state)
    train(again, optimizer, 5)
    assert again.updates == first.updates + 1
    assert again.stats()["links"] <= before
