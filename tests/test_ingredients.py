"""Every ingredient of a method, changed alone, does what it says."""

from __future__ import annotations

import logging
import math

import pytest
import torch
from transformers import SchedulerType, get_scheduler

from chts_hf import METHODS, CHTsConfig, Sparsifier
from chts_hf.topology import relative_importance
from chts_hf.update import update_block
from tests.builders import tiny_marian

BATCH = {
    "input_ids": torch.arange(3, 19).reshape(2, 8),
    "labels": torch.arange(4, 20).reshape(2, 8),
}


def _setup(steps=40, model=None, **changes):
    model = model if model is not None else tiny_marian()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    settings = {"sparsity": 0.8, "update_interval": 2, "rewarm_steps": 0} | changes
    return model, optimizer, Sparsifier(model, optimizer, CHTsConfig(**settings), steps)


def _train(model, optimizer, sparsifier, steps):
    for _ in range(steps):
        model(**BATCH).loss.backward()
        optimizer.step()
        sparsifier.step()
        optimizer.zero_grad()


def _links(sparsifier):
    masks = sparsifier.masks
    return {t.name: int(t.view(masks[t.parameter_name]).sum()) for t in sparsifier.targets}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_follows_its_schedule_exactly(method):
    """After every step each layer has the links of the schedule, zeros are zero, at the end too."""
    model, optimizer, sparsifier = _setup(method=method)
    for step in range(1, 41):
        _train(model, optimizer, sparsifier, 1)
        for target in sparsifier.targets:
            mask = target.view(sparsifier.masks[target.parameter_name])
            at = step - step % 2  # the last update
            at = min(at, sparsifier.plan.last_step)
            sparsity = sparsifier.plan.sparsity(at, *_ends(sparsifier, target))
            assert int(mask.sum()) == round((1 - sparsity) * mask.numel()), (step, target.name)
            assert (target.view(target.weight)[~mask] == 0).all()
    if method != "dense":
        assert sparsifier.stats()["sparsity"] == pytest.approx(0.8, abs=2e-3)


def _ends(sparsifier, target):
    return sparsifier._initial[target.name], sparsifier._final[target.name]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        # step: sparsity, by the formulas, of a run of 40 steps
        ("chtss", {0: 0.5, 15: 0.8}),  # window 0.375 · 40 = 15
        ("gmp", {0: 0.5, 10: 0.5 + 0.3 * (1 - (2 / 3) ** 3), 30: 0.8}),
        ("granet", {0: 0.5, 20: 0.5 + 0.3 * (1 - (1 / 3) ** 3), 30: 0.8}),
        ("mest", {0: 0.6, 14: 0.6, 16: 0.7, 28: 0.7, 30: 0.8}),
    ],
)
def test_falling_densities(method, expected):
    _, _, sparsifier = _setup(method=method)
    target = sparsifier.targets[0]
    for step, sparsity in expected.items():
        actual = sparsifier.plan.sparsity(step, *_ends(sparsifier, target))
        assert actual == pytest.approx(sparsity), step
    assert sparsifier.stats()["sparsity"] == pytest.approx(expected[0], abs=2e-3)


def test_a_layer_with_its_own_end_starts_twice_as_dense_as_that():
    config = CHTsConfig(
        method="mest",
        sparsity=0.9,
        overrides={"fc1": {"sparsity": 0.7}, "fc2": {"sparsity": 0.7, "initial_sparsity": 0.5}},
    )
    for reloaded in (config, CHTsConfig.from_dict(config.to_dict())):
        assert reloaded.for_layer("a.fc1").initial_sparsity == pytest.approx(0.4)
        assert reloaded.for_layer("a.fc2").initial_sparsity == 0.5
        assert reloaded.for_layer("a.q_proj").initial_sparsity == pytest.approx(0.8)
    # A start that is the method's own, and no other's double, stays.
    own = CHTsConfig(method="chtss", sparsity=0.75, overrides={"fc1": {"sparsity": 0.9}})
    assert own.for_layer("a.fc1").initial_sparsity == 0.5


def test_the_fall_of_the_density_reaches_its_end_between_updates():
    """A window that ends between two updates is finished by the next one, after t_end too."""
    model, optimizer, sparsifier = _setup(
        method="chtss", update_interval=7, t_end=0.2, decay_end=0.5
    )
    _train(model, optimizer, sparsifier, 40)
    assert sparsifier.stats()["sparsity"] == pytest.approx(0.8, abs=2e-3)


@pytest.mark.parametrize(
    ("method", "steps", "interval", "decay_end"),
    [("mest", 20, 3, 1.0), ("gmp", 100, 60, 0.75), ("chtss", 105, 10, 1.0)],
)
def test_the_final_density_is_reached_by_the_last_possible_update(
    method, steps, interval, decay_end
):
    plan = _setup(steps, method=method, update_interval=interval, decay_end=decay_end)[2].plan
    last = max(step for step in range(1, steps + 1) if plan.is_update(step))
    assert plan.sparsity(last, 0.5, 0.9) == 0.9


def test_a_full_layer_has_nowhere_to_regrow_and_keeps_its_weights():
    model = tiny_marian()
    dense = {name: p.detach().clone() for name, p in model.named_parameters()}
    _, optimizer, sparsifier = _setup(
        model=model, method="set", overrides={"encoder.*fc1": {"sparsity": 0.0}}
    )
    optimizer.param_groups[0]["lr"] = 0.0
    _train(model, optimizer, sparsifier, 4)
    name = "model.encoder.layers.0.fc1.weight"
    assert torch.equal(dict(model.named_parameters())[name], dense[name])


def test_one_layer_can_be_rewired_where_the_others_are_static():
    change = {"removal": "magnitude", "regrowth": "random"}
    model, optimizer, sparsifier = _setup(method="static", overrides={"fc1": change})
    before = {name: mask.clone() for name, mask in sparsifier.masks.items()}
    _train(model, optimizer, sparsifier, 4)
    for name, mask in sparsifier.masks.items():
        assert torch.equal(mask, before[name]) == ("fc1" not in name), name


def test_history_is_kept_where_links_come_back():
    change = {"removal": "magnitude", "regrowth": "random"}
    _, _, one = _setup(method="static", regrow_init="history", overrides={"fc1": change})
    kept = {name for name in one.masks if "fc1" in name}
    assert one.state_dict()["history"].keys() == kept
    rest = {"removal": "none", "regrowth": "none", "percolation": False}
    _, _, others = _setup(method="chts", overrides={"fc1": rest})
    assert others.state_dict()["history"].keys() == others.masks.keys() - kept


def test_erk_leaves_layers_with_a_sparsity_of_their_own_alone():
    _, _, sparsifier = _setup(
        method="set", distribution="erk", overrides={"fc1": {"sparsity": 0.8}}
    )
    for target in sparsifier.targets:
        if "fc1" in target.name:
            assert _links(sparsifier)[target.name] == round(0.2 * target.weight.numel())


@pytest.mark.parametrize("own", [{"sparsity": 0.55}, {"initial_sparsity": 0.55}])
@pytest.mark.parametrize("method", ["chtss", "granet", "mest"])
def test_erk_leaves_them_alone_while_the_density_falls_too(method, own):
    """A start shared with the others could be sparser than the layer's own end."""
    _, _, sparsifier = _setup(method=method, distribution="erk", overrides={"fc1": own})
    config = sparsifier.config
    shared = {"start": [0.0, 0.0], "end": [0.0, 0.0]}  # links and weights
    for target in sparsifier.targets:
        ends = _ends(sparsifier, target)
        assert ends[0] <= ends[1]
        if "fc1" in target.name:
            of_layer = config.for_layer(target.name)
            assert ends == (of_layer.initial_sparsity, of_layer.sparsity)
            continue
        size = target.weight.numel()
        for part, end in zip(shared.values(), ends, strict=True):
            part[0], part[1] = part[0] + size * (1 - end), part[1] + size
    for (links, weights), overall in zip(
        shared.values(), (config.initial_sparsity, config.sparsity), strict=True
    ):
        assert 1 - links / weights == pytest.approx(overall)


def test_a_layer_that_overrides_together_would_make_denser_is_named():
    overrides = {"fc": {"initial_sparsity": 0.6}, "fc1": {"sparsity": 0.55}}
    with pytest.raises(ValueError, match=r"layers\.0\.fc1.*initial_sparsity=0\.6 is above"):
        _setup(method="chtss", overrides=overrides)


def test_the_same_flops_for_sigmoid_in_half_the_window_and_cubic_in_all_of_it():
    steps = 10_000

    def density_integral(method):
        plan = _setup(steps=steps, method=method, update_interval=10)[2].plan
        return sum(1 - plan.sparsity(step, 0.5, 0.9) for step in range(steps)) / steps

    assert density_integral("chtss") == pytest.approx(density_integral("granet"), rel=2e-3)


def test_pruning_removes_the_lowest_relative_importance():
    model, optimizer, sparsifier = _setup(method="chtss", zeta=0.0)
    _train(model, optimizer, sparsifier, 5)
    old = {t.name: sparsifier.masks[t.name].clone() for t in sparsifier.targets}
    model(**BATCH).loss.backward()
    optimizer.step()
    scores = {t.name: relative_importance(t.weight.detach()) for t in sparsifier.targets}
    sparsifier.step()
    for target in sparsifier.targets:
        gone = old[target.name] & ~sparsifier.masks[target.name]
        stayed = old[target.name] & sparsifier.masks[target.name]
        assert gone.any()
        assert scores[target.name][gone].max() <= scores[target.name][stayed].min()


def test_erk_spreads_one_overall_sparsity():
    _, _, sparsifier = _setup(method="set", distribution="erk")
    links = _links(sparsifier)
    weights = sum(t.weight.numel() for t in sparsifier.targets)
    assert sum(links.values()) == pytest.approx(0.2 * weights, abs=len(links))
    density = {t.kind: links[t.name] / t.weight.numel() for t in sparsifier.targets}
    assert density["self_attn.q"] > density["ffn.up"]


def test_overrides_per_layer():
    _, _, sparsifier = _setup(
        method="set", overrides={"fc1": {"sparsity": 0.5}, "decoder.*fc1": {"init": "bsw"}}
    )
    for target in sparsifier.targets:
        sparsity = 0.5 if "fc1" in target.name else 0.8
        assert _links(sparsifier)[target.name] == round((1 - sparsity) * target.weight.numel())


def test_per_head_keeps_the_links_of_each_head():
    model, optimizer, sparsifier = _setup(per_head=True, init="er", zeta=0.5)

    def per_head():
        return {
            t.name: t.view(sparsifier.masks[t.name]).reshape(4, 4, 16).sum((1, 2)).tolist()
            for t in sparsifier.targets
            if t.role in ("q", "k", "v")
        }

    before, masks = per_head(), {n: m.clone() for n, m in sparsifier.masks.items()}
    _train(model, optimizer, sparsifier, 8)
    assert per_head() == before
    assert any(not torch.equal(masks[n], m) for n, m in sparsifier.masks.items())
    assert any(len(set(counts)) > 1 for counts in before.values()), "heads should differ"


@pytest.mark.parametrize("percolation", [True, False])
def test_percolation_takes_the_links_of_dead_neurons(percolation):
    """A hidden unit whose incoming links are gone keeps its outgoing ones only without it."""
    model, _, sparsifier = _setup(percolation=percolation, regrow_init="zero")
    up, down = (t for t in sparsifier.targets if "encoder.layers.0.fc" in t.name)
    assert sparsifier.masks[down.name][:, 5].any()
    free = (~sparsifier.masks[up.name][0]).nonzero()[:, 0]
    moved = int(sparsifier.masks[up.name][5].sum())
    sparsifier.masks[up.name][5] = False
    sparsifier.masks[up.name][0, free[:moved]] = True
    links = {t: int(sparsifier.masks[t.name].sum()) for t in (up, down)}
    layers = [sparsifier._layer_input(t, {}, links[t]) for t in (up, down)]
    pairs = [p for p in sparsifier._pairs if p.first is up] if percolation else []
    results = update_block(layers, pairs, seed=0, update=1)
    assert results[1].kept[:, 5].any() != percolation
    for before, result in zip(layers, results, strict=True):
        assert int(result.mask.sum()) == before.links


def test_cht_layers_rest_when_what_was_removed_comes_back():
    model, optimizer, sparsifier = _setup(method="cht", early_stop_overlap=0.01, t_end=1.0)
    _train(model, optimizer, sparsifier, 10)
    resting = sparsifier.state_dict()["resting"]
    assert resting
    before = {name: sparsifier.masks[name].clone() for name in resting}
    _train(model, optimizer, sparsifier, 10)
    assert all(torch.equal(before[name], sparsifier.masks[name]) for name in resting)


@pytest.mark.parametrize("method", ["chts", "rigl", "granet"])
def test_a_layer_that_is_frozen_for_a_while_keeps_its_links(method):
    """It could not learn new ones; only as the density falls it gets sparser, as all layers do."""
    model, optimizer, sparsifier = _setup(method=method, t_end=1.0)
    _train(model, optimizer, sparsifier, 4)
    frozen = next(t for t in sparsifier.targets if t.kind == "ffn.up")
    frozen.weight.requires_grad_(False)
    mask, weight = sparsifier.masks[frozen.name], frozen.weight.detach().clone()
    before = mask.clone()
    for _ in range(3):
        _train(model, optimizer, sparsifier, 2)
        assert sparsifier.updates > 2
        assert not (mask & ~before).any()
        assert torch.equal(frozen.weight, weight * mask)
        at = sparsifier.plan.sparsity(sparsifier.step_count, *_ends(sparsifier, frozen))
        assert int(mask.sum()) == round((1 - at) * mask.numel())
    assert torch.equal(mask, before) == (method != "granet")
    frozen.weight.requires_grad_(True)
    _train(model, optimizer, sparsifier, 2)
    assert (mask & ~before).any()


def test_rescaled_initial_weights():
    _, _, sparsifier = _setup(method="static", rescale_init=True)
    for target in sparsifier.targets:
        links = target.weight[sparsifier.masks[target.name]]
        density = links.numel() / target.weight.numel()
        goal = math.sqrt(2 / (density * target.shape[1]))
        spread = float(links.detach().square().mean().sqrt())
        assert spread == pytest.approx(goal, rel=1e-5)


@pytest.mark.parametrize("initial_sparsity", [0.0, 0.5])
def test_fine_tuning_a_dense_model_starts_from_its_largest_weights(initial_sparsity):
    model = tiny_marian()
    dense = {name: p.detach().clone() for name, p in model.named_parameters()}
    _, optimizer, sparsifier = _setup(
        model=model, method="chtss", init="magnitude", initial_sparsity=initial_sparsity
    )
    for target in sparsifier.targets:
        mask = sparsifier.masks[target.name]
        weight = dense[target.name].abs()
        assert int(mask.sum()) == round((1 - initial_sparsity) * mask.numel())
        assert torch.equal(target.weight[mask], dense[target.name][mask])
        if initial_sparsity:
            assert weight[mask].min() >= weight[~mask].max()
    _train(model, optimizer, sparsifier, 40)
    assert sparsifier.stats()["sparsity"] == pytest.approx(0.8, abs=2e-3)


def test_new_masks_on_a_sparse_model_are_warned_of(caplog):
    model, _, first = _setup(sparsity=0.9)
    first.close()
    with caplog.at_level(logging.WARNING, "chts_hf"):
        _setup(model=model, init="from_weights", sparsity=0.9)[2].close()
        assert not caplog.records
        kept = {n: p.detach().clone() for n, p in model.named_parameters()}
        again = _setup(model=model, init="er", sparsity=0.9)[2]
    lost = sum(int(((kept[name] != 0) & ~mask).sum()) for name, mask in again.masks.items())
    (record,) = caplog.records
    assert f"{lost:,} of its links" in record.message
    assert 'init="from_weights"' in record.message


def test_from_weights_goes_on_with_the_links_of_each_layer():
    model, optimizer, sparsifier = _setup(overrides={"fc1": {"sparsity": 0.6}})
    _train(model, optimizer, sparsifier, 40)
    links = {t.name: int((t.weight != 0).sum()) for t in sparsifier.targets}
    sparsifier.close()
    again = _setup(model=model, init="from_weights", sparsity=0.99)[2]
    assert _links(again) == links
    _train(model, again._optimizer, again, 10)
    assert again.updates == 5
    assert _links(again) == links


#: What a schedule must be told beside the steps.
SCHEDULER_OPTIONS = {
    "cosine_with_min_lr": {"min_lr": 1e-3},
    "cosine_warmup_with_min_lr": {"min_lr": 1e-3},
    "warmup_stable_decay": {"num_decay_steps": 8},
    "reduce_lr_on_plateau": {"patience": 1},
    "greedy": {"patience": 1},
}
#: They follow the validation loss: the Trainer steps them with it.
FOLLOWING_A_METRIC = ("reduce_lr_on_plateau", "greedy")


@pytest.mark.parametrize("kind", list(SchedulerType))
def test_rewarming_composes_with_every_schedule(kind):
    """The scheduler's own rates are the same with and without; the step's rate is scaled."""
    options = {"scheduler_specific_kwargs": SCHEDULER_OPTIONS.get(kind.value, {})}
    metric = [1.0] if kind.value in FOLLOWING_A_METRIC else []  # one that never gets better
    rates = {}
    for rewarm in (0, 4):
        model = tiny_marian()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        scheduler = get_scheduler(
            kind, optimizer, num_warmup_steps=3, num_training_steps=20, **options
        )
        config = CHTsConfig(sparsity=0.8, update_interval=6, rewarm_steps=rewarm)
        sparsifier = Sparsifier(model, optimizer, config, total_steps=20)
        used, shown = [], []
        optimizer.register_step_pre_hook(
            lambda o, *_, used=used: used.append(o.param_groups[0]["lr"])
        )
        for _ in range(20):
            optimizer.step()
            sparsifier.step()
            scheduler.step(*metric)
            shown.append(optimizer.param_groups[0]["lr"])
        rates[rewarm] = used, shown
    assert rates[0][1] == rates[4][1]
    if metric:
        assert min(rates[0][1]) < 0.5  # the schedule did act
    # Updates fall on steps 6 and 12; t_end is 15, so the third is never made.
    factors = [1.0] * 6 + [0.25, 0.5, 0.75, 1, 1, 1] * 2 + [1.0] * 2
    assert rates[4][0] == pytest.approx([a * b for a, b in zip(rates[0][0], factors, strict=True)])
