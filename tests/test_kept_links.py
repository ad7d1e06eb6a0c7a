"""Links that a model comes with or the caller gives, and training that goes on with them."""

from __future__ import annotations

import logging
import math

import pytest
import torch

from chts_hf import CHTsCallback, CHTsConfig, Sparsifier, find_targets
from tests.builders import tiny_marian, tiny_trainer

FC1 = "model.encoder.layers.0.fc1.weight"
SETTINGS = {"sparsity": 0.8, "update_interval": 2, "rewarm_steps": 0}


def _sparse_marian(sparsity=0.8, **changes):
    """A model that was sparse and is let go."""
    model = tiny_marian()
    config = CHTsConfig(method="static", sparsity=sparsity, **changes)
    Sparsifier(model, None, config, total_steps=10).close()
    return model


def _begin(model, steps=40, masks=None, correlation=None, **changes):
    config = CHTsConfig(**SETTINGS | changes)
    return Sparsifier(model, None, config, steps, masks=masks, correlation=correlation)


# -- init="from_weights" ---------------------------------------------------------------------


def test_a_dense_model_does_not_go_on_with_its_links_in_silence():
    model = tiny_marian()
    message = r'no layer has a zero.*dense, where sparsity 0\.9 is asked for. init="magnitude"'
    with pytest.raises(ValueError, match=message):
        _begin(model, init="from_weights", sparsity=0.9)
    assert _begin(model, init="magnitude").stats()["sparsity"] == pytest.approx(0.8, abs=2e-3)


def test_a_dense_model_whose_density_is_to_fall_begins_with_all_its_links():
    sparsifier = _begin(tiny_marian(), method="gmp", init="from_weights", steps=20)
    assert sparsifier.stats()["sparsity"] == 0
    for _ in range(20):
        sparsifier.step()
    assert sparsifier.stats()["sparsity"] == pytest.approx(0.8, abs=2e-3)


def test_a_dense_model_that_no_layer_is_to_be_sparse_of_is_taken(caplog):
    with caplog.at_level(logging.WARNING, "chts_hf"):
        assert _begin(tiny_marian(), init="from_weights", sparsity=0.0).stats()["sparsity"] == 0
    assert not caplog.records


@pytest.mark.parametrize(
    ("sparsity", "changes", "warns"),
    [
        (0.5, {}, True),
        (0.8, {}, False),
        (0.8, {"distribution": "erk"}, False),
        (0.9, {}, False),
        (0.5, {"density_schedule": "linear"}, False),
    ],
)
def test_a_sparsity_that_will_not_be_reached_is_warned_of(caplog, sparsity, changes, warns):
    model = _sparse_marian(sparsity)
    with caplog.at_level(logging.WARNING, "chts_hf"):
        _begin(model, init="from_weights", **changes)
    assert len(caplog.records) == warns
    if warns:
        assert "is and stays 0.5, not 0.8 as the configuration" in caplog.text


def test_layers_that_are_dense_on_purpose_are_not_warned_of(caplog):
    overrides = {"fc1": {"sparsity": 0.0}}
    model = _sparse_marian(overrides=overrides)
    with caplog.at_level(logging.WARNING, "chts_hf"):
        sparsifier = _begin(model, init="from_weights", overrides=overrides)
    assert not caplog.records
    assert bool(sparsifier.masks[FC1].all())
    sparsifier.close()
    # The same layers where they should be sparse.
    with caplog.at_level(logging.WARNING, "chts_hf"):
        _begin(model, init="from_weights")
    assert "not 0.8 as the configuration asks for" in caplog.text


def test_a_layer_of_zeros_would_have_no_link():
    model = _sparse_marian()
    model.get_parameter(FC1).data.zero_()
    with pytest.raises(
        ValueError, match=rf"{FC1} \(32, 16\) would begin without any link.*exclude"
    ):
        _begin(model, init="from_weights")
    sparsifier = _begin(model, init="from_weights", overrides={FC1: {"init": "er"}})
    assert int(sparsifier.masks[FC1].sum()) == round(0.2 * 512)


def test_a_layer_whose_links_would_all_go_as_the_density_falls():
    with pytest.raises(ValueError, match=r"sparsity=0\.999 would remove every link of model\."):
        _begin(tiny_marian(), method="gmp", init="from_weights", sparsity=0.999)


def test_weights_that_the_model_came_with_are_never_rescaled():
    model = _sparse_marian(rescale_init=True)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    overrides = {FC1: {"init": "er"}}
    _begin(model, init="from_weights", rescale_init=True, overrides=overrides)
    for target in find_targets(model):
        same = torch.equal(target.weight, before[target.name])
        assert same == (target.name != FC1), target.name


# -- masks and correlations that are given ---------------------------------------------------


def _masks(**changes):
    masks = {t.parameter_name: torch.rand(t.shape) < 0.2 for t in find_targets(tiny_marian())}
    return {name: mask for name, mask in (masks | changes).items() if mask is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({FC1: None}, rf"missing \['{FC1}'\], unexpected \[\]"),
        ({"nobody": torch.ones(2, 2) > 0}, r"missing \[\], unexpected \['nobody'\]"),
        ({FC1: torch.ones(32, 16)}, r"must be bool and of shape \(32, 16\), got torch.float32"),
        ({FC1: torch.ones(16, 32) > 0}, r"of shape \(32, 16\), got torch.bool and \(16, 32\)"),
        ({FC1: torch.zeros(32, 16) > 0}, rf"{FC1} \(32, 16\) would begin without any link"),
    ],
)
def test_masks_that_do_not_fit_the_layers(changes, message):
    model = tiny_marian()
    before = model.get_parameter(FC1).detach().clone()
    with pytest.raises(ValueError, match=message):
        _begin(model, masks=_masks(**changes))
    assert torch.equal(model.get_parameter(FC1), before)
    masks = _masks()
    found = _begin(model, masks=masks).masks
    assert all(torch.equal(found[name], mask) for name, mask in masks.items())


def test_correlations_that_no_layer_wants():
    with pytest.raises(ValueError, match=r'no layer has init="csti"; leave it out'):
        _begin(tiny_marian(), correlation=torch.eye(16))


# -- a second train() ------------------------------------------------------------------------


def _trained(folder, **changes):
    callback = CHTsCallback(CHTsConfig(**SETTINGS | changes))
    trainer = tiny_trainer(folder, [callback], steps=6)
    trainer.train()
    return trainer, callback


@pytest.mark.parametrize("asked", [0.7, 0.95])
def test_a_second_train_refuses_a_sparsity_that_its_links_do_not_have(tmp_path, asked):
    trainer, callback = _trained(tmp_path)
    first = {name: mask.clone() for name, mask in callback.sparsifier.masks.items()}
    callback.config.sparsity = asked  # the configuration itself, not another one
    message = rf"sparsity 0\.8\d* by them, where the configuration now asks for {asked}"
    with pytest.raises(ValueError, match=message):
        trainer.train()
    callback.config = CHTsConfig(**SETTINGS | {"sparsity": asked, "init": "from_weights"})
    trainer.train()
    for name, mask in callback.sparsifier.masks.items():
        assert int(mask.sum()) <= int(first[name].sum())
    assert callback.sparsifier.stats()["sparsity"] == pytest.approx(0.8, abs=2e-3)


def test_a_second_train_may_get_sparser(tmp_path):
    trainer, callback = _trained(tmp_path)
    changes = {"sparsity": 0.9, "density_schedule": "linear", "method": "set"}
    callback.config = CHTsConfig(**SETTINGS | changes)
    trainer.train()
    assert callback.sparsifier.stats()["sparsity"] == pytest.approx(0.9, abs=2e-3)
    callback.config = CHTsConfig(**SETTINGS)
    with pytest.raises(ValueError, match=r"has sparsity 0\.898\d* by them.*asks for 0\.8\. Say"):
        trainer.train()


def test_a_second_train_of_layers_that_were_dense(tmp_path):
    trainer, callback = _trained(tmp_path, exclude=["fc1"])
    callback.config = CHTsConfig(**SETTINGS)
    with pytest.raises(ValueError, match=rf"{FC1} was left dense in the training before"):
        trainer.train()


def test_a_second_train_leaves_layers_that_were_frozen_since(tmp_path):
    trainer, callback = _trained(tmp_path)
    weight = trainer.model.get_parameter(FC1).requires_grad_(False)
    before = weight.detach().clone()
    trainer.train()
    assert FC1 not in callback.sparsifier.masks
    assert callback.sparsifier.updates == 2
    assert torch.equal(weight, before)


def test_other_weights_between_two_trains_are_warned_of(tmp_path, caplog):
    trainer, callback = _trained(tmp_path)
    first = {name: mask.clone() for name, mask in callback.sparsifier.masks.items()}
    with caplog.at_level(logging.WARNING, "chts_hf"):
        trainer.train()
    assert not caplog.records
    trainer.model.load_state_dict(tiny_marian(seed=1).state_dict())
    masks = callback.sparsifier.masks
    strays = sum(int((trainer.model.get_parameter(n)[~m] != 0).sum()) for n, m in masks.items())
    with caplog.at_level(logging.WARNING, "chts_hf"):
        trainer.train()
    (record,) = caplog.records
    assert f"{strays:,} that were no links are not 0 any more" in record.message
    for name, mask in callback.sparsifier.masks.items():
        assert int(mask.sum()) == int(first[name].sum())
    assert math.isfinite(trainer.evaluate()["eval_loss"])


def test_a_dense_train_after_a_sparse_one_is_dense(tmp_path):
    trainer, callback = _trained(tmp_path)
    mask = callback.sparsifier.masks[FC1]
    callback.config = CHTsConfig(method="dense")
    trainer.train()
    assert not callback.sparsifier.masks
    assert bool((trainer.model.get_parameter(FC1)[~mask] != 0).any())
