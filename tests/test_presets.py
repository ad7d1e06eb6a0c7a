"""A method's name says what its ingredients are: sweeps, ablations, and names that are refused."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re

import pytest

from chts_hf import METHODS, CHTsConfig, methods, register_method


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(METHODS, 2)))
def test_another_method_has_its_own_ingredients(before, after):
    base = CHTsConfig(method=before, update_interval=40, zeta=0.2, seed=3)
    expected = CHTsConfig(method=after, update_interval=40, zeta=0.2, seed=3)
    # Where a configuration is written out, in a file or by dataclasses.replace, it is the same.
    for one in (base, CHTsConfig.from_dict(base.to_dict()), dataclasses.replace(base)):
        assert one.replace(method=after, sparsity=0.9) == expected


def test_what_was_changed_stays():
    base = CHTsConfig(
        method="rigl", sparsity=0.95, removal_choice="soft", rewarm_steps=0, exclude=["decoder"]
    )
    expected = CHTsConfig(
        method="chtss", sparsity=0.95, removal_choice="soft", rewarm_steps=0, exclude=["decoder"]
    )
    assert base.replace(method="chtss") == expected
    assert base.replace(removal_choice=None).removal_choice == "hard"
    assert base.replace() == base
    with pytest.raises(ValueError, match="did you mean 'sparsity'"):
        base.replace(sparsty=0.5)


def test_what_follows_from_other_fields_follows_them():
    mest = CHTsConfig(method="mest").replace(sparsity=0.95)
    assert mest.initial_sparsity == pytest.approx(0.9)
    assert CHTsConfig(method="mest", initial_sparsity=0.6).replace(
        sparsity=0.95
    ).initial_sparsity == pytest.approx(0.6)
    assert CHTsConfig(method="chtss").replace(sparsity=0.95).initial_sparsity == 0.5
    assert CHTsConfig().replace(update_interval=50).rewarm_steps == 10
    assert CHTsConfig(rewarm_steps=7).replace(update_interval=50).rewarm_steps == 7
    still = CHTsConfig(removal="none", regrowth="none", percolation=False)
    assert still.replace(removal=None, regrowth=None).rewarm_steps == 20
    # The start of CHTss is above this sparsity, so a configuration without the change has none.
    low = CHTsConfig(method="chtss", sparsity=0.4, initial_sparsity=0.0)
    assert low.replace(method="gmp").initial_sparsity == 0.0


def test_dense_has_no_sparsity_to_hand_on():
    dense = CHTsConfig(method="dense", sparsity=0.95)
    with pytest.raises(ValueError, match=r"method='dense' has no sparsity.*sparsity="):
        dense.replace(method="rigl")
    assert dense.replace(method="rigl", sparsity=0.95) == CHTsConfig(method="rigl", sparsity=0.95)
    assert dense.replace(seed=1).is_dense


@pytest.mark.parametrize(
    ("before", "after"), [("chts", "rigl"), ("chts", "set"), ("chtss", "chts"), ("chts", "chtss"),
                          ("cht", "chts"), ("chts", "cht"), ("mest", "gmp"), ("rigl", "set"),
                          ("chts", "dense"), ("granet", "chtss")],
)  # fmt: skip
def test_another_methods_ingredients_under_a_name_are_refused(before, after):
    base = CHTsConfig(method=before, sparsity=0.95, update_interval=50, zeta=0.2)
    for make in (
        lambda: dataclasses.replace(base, method=after),
        lambda: CHTsConfig.from_dict(base.to_dict() | {"method": after, "sparsity": 0.9}),
    ):
        with pytest.raises(ValueError, match=rf"^method='{after}'.*of '{before}'") as error:
            make()
        assert f"config.replace(method='{after}')" in str(error.value)
    saved = CHTsConfig.from_saved(base.to_dict() | {"method": after})
    assert saved.removal_choice == base.removal_choice, "what was saved stays readable, as it was"


def test_the_refusal_says_what_differs():
    with pytest.raises(ValueError, match=re.escape("init='brf' (not 'er'), removal_choice='soft'")):
        dataclasses.replace(CHTsConfig(), method="rigl")


@pytest.mark.parametrize("method", METHODS)
def test_ablations_towards_another_method_keep_their_name(method):
    """One or two ingredients of any other method, also in the dictionary of a checkpoint."""
    own, made = METHODS[method].ingredients, 0
    for other in METHODS.values():
        differing = [n for n, v in other.ingredients.items() if v != own.get(n)]
        for names in itertools.combinations(differing, 2):
            changes = {name: other.ingredients[name] for name in names}
            try:
                config = CHTsConfig(method=method, **changes)
            except ValueError as error:
                assert "with all ingredients" not in str(error)  # noqa: PT017
                continue
            assert CHTsConfig.from_dict(config.to_dict()) == config
            made += 1
    assert made > 1


def test_a_layer_may_be_another_methods():
    still = {"removal": "none", "regrowth": "none", "regrowth_choice": "soft"}
    config = CHTsConfig(method="rigl", overrides={"fc1": still})  # in all its ingredients static
    assert config.for_layer("fc1").removal == "none"


def test_a_variant_can_be_given_a_name_and_its_old_runs_are_still_read():
    changes = {"init": "er", "removal_choice": "hard", "regrowth_choice": "hard"}
    saved = CHTsConfig(method="chts", **changes).to_dict()
    chts = METHODS["chts"].ingredients
    try:
        register_method("chts_rigid", **{**chts, **changes})
        assert CHTsConfig.from_saved(saved).to_dict() == saved
        with pytest.raises(ValueError, match="of 'chts_rigid'"):
            CHTsConfig.from_dict(saved)
    finally:
        methods._METHODS.pop("chts_rigid", None)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"method": "chts", "initial_sparsity": 0.5}, "initial_sparsity=0.5 has no effect"),
        ({"method": "rigl", "decay_end": 0.4}, "decay_end=0.4 has no effect.*'rigl'"),
        (
            {"overrides": {"fc1": {"initial_sparsity": 0.5}}},
            r"overrides\['fc1'\]: initial_sparsity=0.5 has no effect",
        ),
    ],
)
def test_a_fall_that_never_happens_is_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        CHTsConfig(**fields)
    CHTsConfig(density_schedule="cubic", **fields)
    CHTsConfig(**fields | {"method": "dense"})  # one of a sweep, as with its sparsity
    # A file says that the density is constant, and one of a run made before must be read.
    written = CHTsConfig(method=fields.get("method", "chts")).to_dict() | fields
    assert CHTsConfig.from_dict(written).to_dict() == written
    assert CHTsConfig.from_saved(written).to_dict() == written


def test_a_configuration_holds_the_values_that_its_file_does():
    config = CHTsConfig.from_saved(
        {
            "exclude": ("decoder",),
            "targets": {"ffn.up": r".*fc1"},
            "init": "magnitude",
            "init_options": {"sizes": (1, (2, 3))},
            "overrides": {"fc1": {"init_options": {"sizes": (4,)}}},
        }
    )
    assert config.exclude == ["decoder"]
    assert config.to_dict() == json.loads(json.dumps(config.to_dict()))
    assert CHTsConfig.from_saved(json.loads(json.dumps(config.to_dict()))) == config
    assert config.for_layer("fc1").init_options == {"sizes": [4]}
