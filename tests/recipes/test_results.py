"""The results page is what the runs' files say, and nothing else."""

from __future__ import annotations

import json
import shutil

import pytest

from chts_hf import CHTsConfig
from chts_hf.compare.record import write_record
from recipes.compare import REPOSITORY, read_comparison
from recipes.results import PAGES, anchor, fill_tables, load_runs, write_page
from recipes.trial_tables import trial_table
from tests.compare.records import quick, record


def _run(folder, name, **changes):
    run = {
        "setting": "small", "dataset": "d", "languages": "en-de", "method": "chts",
        "target_sparsity": 0.9, "seed": 0, "steps": 10, "commit": "abc", "machine": "one core",
        "predict_bleu": 20.0, "predict_chrf": 50.0, "eval_loss": 3.0, "sparsity": 0.9,
        "itop_rate": 0.3, "anp": 0.5, "train_runtime": 7.0, "topology_runtime": 0.25,
    }  # fmt: skip
    (folder / name).write_text(json.dumps(run | changes))


def test_seeds_become_a_mean_with_its_standard_error(tmp_path):
    for seed, bleu in enumerate([20.0, 21.0, 25.0]):
        _run(tmp_path, f"{seed}.json", seed=seed, predict_bleu=bleu)
    page = write_page(tmp_path)
    # mean 22, variance (4 + 1 + 9) / 2 = 7, standard error sqrt(7 / 3) = 1.53
    assert "| 22.00 ± 1.53 |" in page
    assert "| 0, 1, 2 |" in page


def test_rows_are_ordered_by_loss_and_settings_kept_apart(tmp_path):
    _run(tmp_path, "a.json", method="set", eval_loss=3.2)
    _run(tmp_path, "b.json", method="chts", eval_loss=3.1)
    _run(tmp_path, "c.json", method="rigl", setting="large")
    (tmp_path / "benchmark.json").write_text('{"machine": "x"}')
    page = write_page(tmp_path)
    assert page.index("| chts |") < page.index("| set |")
    assert page.count("\n## ") == 2
    # The comparisons that say most come first, whatever their names; all are listed above.
    assert page.index("\n## small") < page.index("\n## large")
    assert "\n- [small](#small)\n- [large](#large)\n" in page
    assert anchor("Small: d 128, 2+2 layers (en-de)") == "small-d-128-22-layers-en-de"


def test_a_run_that_does_not_say_where_it_comes_from_is_refused(tmp_path):
    _run(tmp_path, "a.json", commit=None)
    with pytest.raises(ValueError, match=r"a\.json has no commit"):
        load_runs(tmp_path)


def test_runs_that_are_no_seeds_of_one_thing_are_refused(tmp_path):
    base = {"chts": CHTsConfig().to_dict(), "learning_rate": 0.1, "recipe": {"d_model": 8}}
    other = CHTsConfig(seed=1, overrides={"fc1": {"sparsity": 0.5}}).to_dict()
    _run(tmp_path, "a.json", **base)
    _run(tmp_path, "b.json", **base)
    with pytest.raises(ValueError, match=r"small, chts at 0.9: .* one seed among \[0, 0\]"):
        write_page(tmp_path)
    for changes, message in (
        ({"learning_rate": 0.2}, "learning_rate: 0.1 and 0.2"),
        ({"chts": other}, r"chts: overrides was \{\} and is \{'fc1'"),
        ({"recipe": {"d_model": 16}}, "recipe: d_model was 8 and is 16"),
        ({"dataset": "e"}, "dataset: 'd' and 'e'"),
    ):
        _run(tmp_path, "b.json", **base | {"seed": 1} | changes)
        with pytest.raises(ValueError, match=f"seeds 0 and 1 cannot be one row.*{message}"):
            write_page(tmp_path)
    # Another seed of the topology is none, nor is a field that there was not yet.
    old = {name: value for name, value in base["chts"].items() if name != "per_head"}
    _run(tmp_path, "b.json", **base | {"seed": 1, "chts": old | {"seed": 1}})
    assert "| 0, 1 | abc |" in write_page(tmp_path)
    # A label of its own is a row of its own, which says what it has otherwise.
    named = {"seed": 1, "label": "slow", "learning_rate": 0.2, "machine": "two cores"}
    _run(tmp_path, "b.json", **base | named)
    page = write_page(tmp_path)
    assert "| seeds | commit | learning rate | machine |" in page
    assert "| 0 | abc | 0.1 | one core |" in page
    assert "| 1 | abc | 0.2 | two cores |" in page
    assert "beam –; one core, two cores." in page


def test_images_have_a_table_of_their_own(tmp_path):
    _run(tmp_path, "a.json")
    images = {"setting": "mlp", "train_images": 9, "test_images": 8, "batch_size": 4}
    for seed, accuracy in enumerate([97.0, 99.0]):
        name = f"mlp{seed}.json"
        images |= {"seed": seed, "predict_accuracy": accuracy, "learning_rate": 0.1}
        _run(tmp_path, name, predict_bleu=None, **images)
        run = json.loads((tmp_path / name).read_text())
        del run["predict_bleu"]
        (tmp_path / name).write_text(json.dumps(run))
    page = write_page(tmp_path)
    assert "| method | sparsity asked | accuracy % | validation loss |" in page
    assert "| chts | 0.9 | 98.00 ± 1.00 |" in page
    assert "9 images of d to train with, 8 to test with; 10 steps of 4 images" in page


def test_no_runs(tmp_path):
    with pytest.raises(ValueError, match="no run's results"):
        write_page(tmp_path)


def test_tables_are_filled_in_between_their_marks(tmp_path):
    _run(tmp_path, "a.json")
    page = "before\n<!-- table: small -->\nold\n<!-- end of table -->\nafter"
    filled = fill_tables(page, load_runs(tmp_path))
    assert "old" not in filled
    assert "| 20.00 |" in filled
    assert filled.startswith("before\n")
    assert filled.endswith("\nafter")
    assert fill_tables(filled, load_runs(tmp_path)) == filled
    with pytest.raises(ValueError, match="no run of large"):
        fill_tables(page.replace("small", "large"), load_runs(tmp_path))


def test_trials_stand_beside_the_runs_they_are_variants_of(tmp_path):
    trials = tmp_path / "mlp" / "decay"
    trials.mkdir(parents=True)
    told = {"predict_accuracy": 95.0, "weight_decay": 0.0005, "chts": CHTsConfig().to_dict()}
    _run(tmp_path / "mlp", "plain.json", **told)
    _run(tmp_path / "mlp", "another_seed.json", **told | {"seed": 1})
    _run(trials, "a.json", **told | {"weight_decay": 0.01, "predict_accuracy": 90.25, "anp": 0.2})
    _run(trials, "b.json", **told | {"weight_decay": 0.002})
    assert trial_table(trials).split("\n") == [
        "| method | weight decay | accuracy % | validation loss | ANP |",
        "| --- | --- | --- | --- | --- |",
        "| chts | 0.0005 | 95.00 | 3.0000 | 0.500 |",
        "| chts | 0.002 | 95.00 | 3.0000 | 0.500 |",
        "| chts | 0.01 | 90.25 | 3.0000 | 0.200 |",
    ]
    _run(trials, "c.json", **told | {"weight_decay": 0.002, "seed": 1, "predict_accuracy": 94.0})
    (titles, _, *rows) = trial_table(trials).split("\n")
    assert titles.endswith("| seeds |")
    (both,) = [row for row in rows if "0.002" in row]
    assert "0, 1" in both
    assert "±" in both
    with pytest.raises(ValueError, match="no trials in"):
        trial_table(tmp_path / "nowhere")


def test_trials_name_the_ingredients_that_differ(tmp_path):
    trials = tmp_path / "mlp" / "why"
    trials.mkdir(parents=True)

    def trial(name, **fields):
        chts = CHTsConfig(**fields)
        _run(trials, name, method=chts.method, predict_accuracy=95.0, chts=chts.to_dict())

    trial("a.json", overrides={r"\.0\.": {"init": "csti"}}, percolation=False)
    trial("b.json", regrowth="random", zeta=0.1)
    _run(trials, "c.json", method="dense", predict_accuracy=97.0, chts=CHTsConfig().to_dict())
    trial("d.json", method="rigl")  # hard removal, which its name says
    assert trial_table(trials).split("\n") == [
        "| method | initial topology | ζ | percolation | regrowth | accuracy % | validation loss "
        "| ANP |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| chts | brf | 0.1 | yes | random | 95.00 | 3.0000 | 0.500 |",
        "| chts | brf, csti | 0.3 | no | CH2-L3n | 95.00 | 3.0000 | 0.500 |",
        "| dense | – | – | – | – | 97.00 | 3.0000 | 0.500 |",
        "| rigl | er | 0.3 | no | gradient | 95.00 | 3.0000 | 0.500 |",
    ]
    trial("e.json", regrowth="random", zeta=0.1, delta_end=0.7)  # of which there is no column
    with pytest.raises(ValueError, match="differ in what no column"):
        trial_table(trials)


def test_runs_of_the_same_sentences_are_one_row_wherever_these_were(tmp_path):
    hub = {"dataset": "hub", "recipe": {"dataset_name": "hub", "d_model": 8}}
    files = {"seed": 1, "recipe": {"train_file": "train.gz", "d_model": 8}}
    _run(tmp_path, "a.json", **hub, corpus={"train": "aa"})
    _run(tmp_path, "b.json", **files, corpus={"train": "aa"})
    assert "| 0, 1 | abc |" in write_page(tmp_path)
    _run(tmp_path, "b.json", **files, corpus={"train": "bb"})
    with pytest.raises(ValueError, match="dataset: train was 'aa' and is 'bb'"):
        write_page(tmp_path)
    _run(tmp_path, "b.json", **files)  # an older one, which cannot tell
    with pytest.raises(ValueError, match=r"recipe: dataset_name was 'hub' and is None"):
        write_page(tmp_path)
    _run(tmp_path, "b.json", **hub | {"seed": 1})
    assert "| 0, 1 | abc |" in write_page(tmp_path)


def test_a_comparison_has_its_tests_and_pictures_and_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("chts_hf.compare.page.compare", quick)
    made = read_comparison(REPOSITORY / "configs" / "compare_demo.yaml")
    for run in made.select(["dense", "chts", "set"]):
        told = record(made, run, config="configs/compare_demo.yaml")
        write_record(tmp_path / "compare_demo", run, told)
    _run(tmp_path, "a.json")
    page = write_page(tmp_path)
    assert page.count("\n## ") == 2
    assert "**Missing, 7 of 10 runs:** static at 0.9 (seed 0); " in page
    assert "− best baseline, equal steps" in page
    assert f"({tmp_path.name}/compare_demo/curves_90.svg)" in page
    assert (tmp_path / "compare_demo" / "bleu.svg").is_file()
    # What was written beside the records is no record.
    assert write_page(tmp_path) == page


def test_the_repositorys_pages_are_what_its_files_say(tmp_path, monkeypatch):
    """`make results` would change nothing but, perhaps, how a picture is drawn."""
    committed = REPOSITORY / "docs" / "results"
    results = tmp_path / "results"
    shutil.copytree(committed, results, ignore=shutil.ignore_patterns("*.svg"))

    def pictures(folder, summary):
        return sorted((committed / folder.name).glob("*.svg"))

    monkeypatch.setattr("chts_hf.compare.page.draw_comparison", pictures)
    runs = load_runs(results)
    for name in PAGES:
        text = (REPOSITORY / name).read_text(encoding="utf-8")
        assert fill_tables(text, runs) == text, f"{name}: run make results"
    text = (REPOSITORY / "docs" / "results.md").read_text(encoding="utf-8")
    assert write_page(results) == text, "docs/results.md: run make results"
    summaries = sorted(results.glob("*/summary.json"))
    assert summaries
    for path in summaries:
        there = committed / path.relative_to(results)
        assert path.read_text() == there.read_text(), f"{there}: run make results"
