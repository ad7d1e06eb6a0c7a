"""What a comparison's file says is what is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chts_hf.compare.spec import differing, read_comparison
from tests.compare.records import comparison

CONFIGS = Path(__file__).parents[2] / "configs"


def test_runs_come_seed_by_seed_and_dense_once(tmp_path: Path) -> None:
    made = comparison(tmp_path, methods=["dense", "chts"], sparsities=[0.9, 0.955], proposed=[])
    assert [run.name for run in made.runs()] == [
        "dense_seed0", "chts_s90_seed0", "chts_s95.5_seed0",
        "dense_seed1", "chts_s90_seed1", "chts_s95.5_seed1",
    ]  # fmt: skip
    assert [run.name for run in made.select(["chts"], [0.9], [1])] == ["chts_s90_seed1"]
    with pytest.raises(ValueError, match=r"no run of methods \['rigl'\].*there are"):
        made.select(["rigl"])


def test_all_runs_are_told_the_same_but_for_method_and_seed(tmp_path: Path) -> None:
    variant = {"hard": {"method": "chtss", "removal_choice": "hard"}}
    made = comparison(tmp_path, methods=["dense", "chts", "chtss", variant])
    told = [made.arguments(run) for run in made.runs()]
    for arguments in told:
        assert (arguments["d_model"], arguments["max_steps"]) == (16, 1000)
        assert arguments["chts"]["zeta"] == 0.2
    config = made.select(["hard"], seeds=[1])[0].config
    assert (config.method, config.removal_choice, config.seed) == ("chtss", "hard", 1)
    assert made.is_baseline("hard")
    assert not made.is_baseline("dense")
    assert not made.is_baseline("chts")


def test_later_layers_and_options_win(tmp_path: Path) -> None:
    comparison(tmp_path)
    layer = tmp_path / "layer.yaml"
    layer.write_text("data_dir: here\nchts: {zeta: 0.5, t_end: 0.5}")
    options: dict[str, Any] = {"chts.zeta": 0.4, "max_steps": 500}
    made = read_comparison(tmp_path / "compare.yaml", [layer], options)
    arguments = made.arguments(made.runs()[1])
    assert made.steps == 500
    assert (arguments["chts"]["zeta"], arguments["chts"]["t_end"]) == (0.4, 0.5)
    # Where the data is does not change what comes out.
    assert arguments["data_dir"] == "here"
    assert "data_dir" not in made.identity(made.runs()[1])
    before = comparison(tmp_path).identity(made.runs()[1])
    changed = differing(before, made.identity(made.runs()[1]))
    assert changed == ["max_steps was 1000 and is 500"]


def test_a_recipe_may_be_of_several_files(tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text("max_steps: 700\nvocab_size: 300\nchts: {t_end: 0.5}")
    made = comparison(tmp_path, recipe=["recipe.yaml", "more.yaml"])
    told = made.arguments(made.runs()[1])
    assert (told["max_steps"], told["vocab_size"], told["d_model"]) == (700, 300, 16)
    assert (told["chts"]["zeta"], told["chts"]["t_end"]) == (0.2, 0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ["dense", "chtz"], "proposed": []}, "unknown method 'chtz'"),
        ({"methods": ["dense", "dense"]}, "'dense' is there twice"),
        ({"methods": ["chts", "chtss"]}, "no method 'dense' among"),
        ({"proposed": ["mine"]}, "no method 'mine' among"),
        ({"method": "chts"}, r"unknown \['method'\]"),
        ({"recipe": "none.yaml"}, "none.yaml' does not exist"),
        ({"recipe": ["recipe.yaml", "none.yaml"]}, "none.yaml' does not exist"),
    ],
)
def test_mistakes(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        comparison(tmp_path, **changes)


def test_the_comparisons_of_this_package() -> None:
    runs = {path.stem: read_comparison(path) for path in CONFIGS.glob("compare_*.yaml")}
    # 9 methods at 2 sparsities and dense, 3 seeds.
    assert len(runs["compare_multi30k"].runs()) == 3 * (9 * 2 + 1) == 57
    assert len(runs["compare_multi30k_small"].runs()) == 30
    assert len(runs["compare_demo"].runs()) == 10
    assert len(runs["compare_ablation"].runs()) == 12
    assert len({one.setting for one in runs.values()}) == len(runs)
    assert len(runs["compare_ablation_small"].runs()) == 13
    assert len(runs["compare_settings_small"].runs()) == 32
    assert len(runs["compare_settled_small"].runs()) == 2 * 13
    assert len(runs["compare_regrowth_small"].runs()) == 2 * 2 * 4


def test_comparisons_that_share_runs_tell_them_the_same() -> None:
    """Else the second comparison would refuse the first one's record, hours later."""
    made = [read_comparison(path) for path in CONFIGS.glob("compare_*.yaml")]
    by_setting = {one.setting: one for one in made}
    common = set()
    for one in made:
        for other in (by_setting[setting] for setting in one.shares):
            theirs = {run.name: run for run in other.runs()}
            for run in one.runs():
                if run.name in theirs:
                    common.add((one.setting, other.setting, run.label))
                    assert one.identity(run) == other.identity(theirs[run.name])
    assert ("settings_small", "small", "granet") in common
    assert ("ablation_small", "settings_small", "chtss_no_rewarm") in common
    assert ("settled_small", "settings_small", "chtss_no_rewarm") in common
    assert ("ablation", "paper", "chts") in common


def test_the_small_ablation_changes_one_ingredient_at_a_time() -> None:
    made = read_comparison(CONFIGS / "compare_ablation_small.yaml")
    large = read_comparison(CONFIGS / "compare_ablation.yaml")
    assert {label: made.methods[label] for label in large.methods} == large.methods
    configs = {run.label: run.config.to_dict() for run in made.select(seeds=[0])}
    changed = {
        label.removeprefix("chtss_"): {
            name: value for name, value in told.items() if value != configs["chtss"][name]
        }
        for label, told in configs.items()
        if label.startswith("chtss_")
    }
    assert changed == {
        "er": {"init": "er"},
        "random_regrowth": {"regrowth": "random"},
        "zero": {"regrow_init": "zero"},
        "no_percolation": {"percolation": False},
        "hard_removal": {"removal_choice": "hard"},
        "hard_regrowth": {"regrowth_choice": "hard"},
        "fixed_delta": {"delta_end": 0.5},
        "delta_075": {"delta_end": 0.75},
        "no_rewarm": {"rewarm_steps": 1},
    }
    assert configs["chtss"]["delta_start"] == 0.5
    assert [label for label in made.methods if made.is_baseline(label)] == ["chts"]


def test_settings_shared_by_all_are_told_to_those_that_have_use_for_them(tmp_path: Path) -> None:
    shared = {"chts": {"decay_end": 0.5, "initial_sparsity": 0.25, "zeta": 0.1}}
    made = comparison(tmp_path, methods=["dense", "set", "chtss"], proposed=[], options=shared)
    runs = {run.label: run.chts for run in made.runs()}
    assert {label: chts["zeta"] for label, chts in runs.items()} == dict.fromkeys(runs, 0.1)
    assert {label for label, chts in runs.items() if "decay_end" in chts} == {"chtss"}
    assert runs["chtss"]["initial_sparsity"] == 0.25
    # A method's own settings are refused where they have no effect.
    half = {"set_half": {"method": "set", "decay_end": 0.5}}
    with pytest.raises(ValueError, match="decay_end=0.5 has no effect, as method='set'"):
        comparison(tmp_path, methods=["dense", half], proposed=[])
