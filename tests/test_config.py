"""CHTsConfig: presets, files, and what it refuses."""

from __future__ import annotations

import json
import re

import pytest

from chts_hf import METHODS, CHTsConfig, register_method


@pytest.mark.parametrize("method", METHODS)
def test_presets_can_be_made_and_survive_files(method, tmp_path):
    config = CHTsConfig(method=method, update_interval=50, seed=7)
    for name in ("c.json", "c.yaml"):
        config.to_file(tmp_path / name)
        assert CHTsConfig.from_file(tmp_path / name) == config
    json.dumps(config.to_dict())


def test_a_given_field_wins_over_the_preset():
    assert CHTsConfig(method="chts").regrowth == "CH2-L3n"
    config = CHTsConfig(method="chts", regrowth="CH3-L3p", percolation=False)
    assert (config.regrowth, config.percolation) == ("CH3-L3p", False)
    assert config.removal_choice == "soft"


def test_rewarm_follows_the_interval_unless_given():
    assert CHTsConfig(update_interval=100).rewarm_steps == 20
    assert CHTsConfig(update_interval=30).rewarm_steps == 6
    assert CHTsConfig(rewarm_steps=0).rewarm_steps == 0
    assert CHTsConfig(method="static").rewarm_steps == 0
    one = {"fc1": {"removal": "magnitude", "regrowth": "random"}}
    assert CHTsConfig(method="static", overrides=one).rewarm_steps == 20
    assert CHTsConfig(method="static", overrides={"fc1": {"init": "er"}}).rewarm_steps == 0


def test_dense_ignores_the_sparsity_of_a_sweep():
    config = CHTsConfig(method="dense", sparsity=0.9)
    assert config.is_dense
    assert config.sparsity == 0.0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sparsity": 1.0}, ["sparsity", "[0, 1)", "1.0"]),
        ({"sparsity": -0.1}, ["sparsity", "[0, 1)", "-0.1"]),
        ({"sparsity": "high"}, ["sparsity", "'high'"]),
        ({"sparsity": float("nan")}, ["sparsity", "nan"]),
        ({"method": "rigll"}, ["method", "'rigll'", "did you mean 'rigl'"]),
        ({"method": "CHTs"}, ["method", "did you mean 'chts'"]),
        ({"regrowth": "CH2_L3n"}, ["regrowth", "'CH2_L3n'", "CH2-L3n"]),
        ({"init": "brff"}, ["init", "'brff'", "did you mean 'brf'"]),
        ({"update_interval": 0}, ["update_interval", "at least 1", "0"]),
        ({"update_interval": 2.5}, ["update_interval", "whole number", "2.5"]),
        ({"init_options": {"r": 2}}, ["init_options={'r': 2}", "0 and 1"]),
        ({"init": "bsw", "init_options": {"r": 0.1}}, ["init_options", "'r'", "beta"]),
        (
            {"init": "magnitude", "init_options": {"r": 0.1}},
            ["init_options={'r': 0.1}", "takes none"],
        ),
        ({"init": "csti", "init_options": {"r": 0.1}}, ["init='csti' takes none"]),
        ({"method": "static", "init": "from_weights", "init_options": {"r": 0.1}}, ["takes none"]),
        (
            {"init_options": {"r": 0.1}, "overrides": {"fc1": {"init": "csti"}}},
            ["overrides['fc1']: init_options", "takes none", "init_options={}"],
        ),
        ({"zeta": 1.5}, ["zeta", "[0, 1]", "1.5"]),
        ({"sparsity": 90}, ["sparsity", "[0, 1)", "90 % is 0.9"]),
        ({"t_end": 0}, ["t_end", "(0, 1]", "0"]),
        ({"delta_end": 1.0}, ["delta_end", "[0, 1)"]),
        ({"rewarm_steps": 200}, ["rewarm_steps=200", "update_interval=100"]),
        ({"percolation": "yes"}, ["percolation", "true or false", "'yes'"]),
        ({"exclude": ["("]}, ["exclude[0]: '('", "regular expression"]),
        ({"exclude": "decoder"}, ["exclude must be a list", "such as ['decoder']"]),
        ({"exclude": None}, ["exclude must be a list", "got None"]),
        ({"exclude": [3]}, ["exclude[0]", "got 3"]),
        ({"targets": ["fc1"]}, ["targets must map kinds", "got ['fc1']"]),
        ({"targets": {"ffn.up": 1}}, ["targets['ffn.up']", "got 1"]),
        ({"targets": {1: "fc1"}}, ["targets: a kind", "got 1"]),
        ({"overrides": ["fc1"]}, ["overrides must map", "got ['fc1']"]),
        ({"overrides": {"fc1": 0.5}}, ["overrides['fc1'] must map", "got 0.5"]),
        ({"regrowth": "none"}, ["removal='magnitude'", "regrowth='none'"]),
        ({"method": "static", "percolation": True}, ["percolation=True", 'regrowth="none"']),
        ({"method": "set", "regrowth_choice": "hard"}, ["regrowth_choice", "random"]),
        ({"init": "full"}, ['init="full"', "'chts'"]),
        ({"overrides": {"fc1": {"seed": 3}}}, ["overrides['fc1']", "'seed'"]),
        ({"overrides": {"fc1": {"sparsity": 2}}}, ["overrides['fc1']", "sparsity", "2"]),
    ],
)
def test_bad_values_are_named(fields, words):
    with pytest.raises(ValueError, match=re.escape(words[0])) as error:
        CHTsConfig(**fields)
    for word in words:
        assert word in str(error.value)


def test_unknown_fields_are_named():
    with pytest.raises(ValueError, match=r"sparsty.*did you mean 'sparsity'"):
        CHTsConfig.from_dict({"sparsty": 0.9})


def test_overrides_apply_to_matching_layers_and_later_ones_win():
    config = CHTsConfig(overrides={"decoder": {"sparsity": 0.8}, "fc1": {"sparsity": 0.5}})
    assert config.for_layer("encoder.layers.0.self_attn.q_proj.weight").sparsity == 0.9
    assert config.for_layer("decoder.layers.0.self_attn.q_proj.weight").sparsity == 0.8
    assert config.for_layer("decoder.layers.0.fc1.weight").sparsity == 0.5


def test_a_registered_method_is_checked_and_usable():
    with pytest.raises(ValueError, match=r"broken.*regrowth='none'"):
        register_method("broken", removal="magnitude")
    assert "broken" not in METHODS
    with pytest.raises(ValueError, match="registered already"):
        register_method("chts")
    with pytest.raises(ValueError, match="'removl' is no ingredient.*did you mean 'removal'"):
        register_method("odd", removl="magnitude")
    with pytest.raises(ValueError, match="'sparsity' is no ingredient"):
        register_method("odd", sparsity=0.4)  # the user's to set, so it would have no effect
    assert "odd" not in METHODS
