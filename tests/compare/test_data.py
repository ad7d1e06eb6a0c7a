"""The same sentences are the same data, from the Hub as from files; others are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from chts_hf.compare.page import made_otherwise, read_records, write_comparison
from chts_hf.compare.record import find_record, read_record, write_record
from chts_hf.compare.spec import Comparison, read_comparison
from chts_hf.compare.summary import summarise
from chts_hf.compare.tables import comparison_section
from tests.compare.records import comparison, quick, record

SENTENCES = {"train": "aa", "test": "bb"}


@pytest.fixture
def both(tmp_path: Path) -> tuple[Comparison, Comparison]:
    """A comparison with data from the Hub, and with a layer for local files."""
    options = {"d_model": 16}
    hub = comparison(tmp_path, options=options, methods=["dense", "chts"], proposed=["chts"])
    hub = replace(hub, recipe={**hub.recipe, "dataset_name": "hub/words"})
    layer = tmp_path / "files.yaml"
    layer.write_text("dataset_name: ''\ntrain_file: train.gz\ntest_file: test.gz")
    return hub, read_comparison(tmp_path / "compare.yaml", [layer])


@pytest.mark.parametrize("first", [0, 1])
def test_records_with_digests_count_from_either_place(
    both: tuple[Comparison, Comparison], first: int, tmp_path: Path
) -> None:
    made, now = both[first], both[1 - first]
    folder = tmp_path / "made_up"
    for run in made.runs():
        write_record(folder, run, record(made, run, corpus=SENTENCES))
    for run in now.runs():
        assert read_record(folder, now, run) is not None
    (moved,) = made_otherwise(folder, now)
    assert "elsewhere than it would be now (dataset_name was " in moved
    assert made_otherwise(folder, made) == []
    assert moved in write_comparison(now, folder, tmp_path / "page")[1]
    # Another comparison shares them from where they were made, and from elsewhere once a record of
    # its own has the same sentences.
    own, *others = now.runs()
    for theirs in (made, now):
        mine = replace(theirs, setting="mine", shares=["made_up"])
        found = read_records(tmp_path / "mine", mine)
        assert found.keys() == (set(mine.runs()) if theirs is made else set())
    write_record(tmp_path / "mine", own, record(now, own, corpus={"train": "cc"}))
    assert read_records(tmp_path / "mine", mine).keys() == {own}
    write_record(tmp_path / "mine", own, record(now, own, corpus=SENTENCES))
    assert read_records(tmp_path / "mine", mine).keys() == {own, *others}
    # Another recipe is one still.
    longer = replace(now, recipe={**now.recipe, "max_steps": 2000})
    with pytest.raises(ValueError, match=r"another recipe \(max_steps was 1000 and is 2000\)"):
        read_record(folder, longer, now.runs()[0])


def test_records_without_digests_are_of_the_place_they_name(
    both: tuple[Comparison, Comparison], tmp_path: Path
) -> None:
    hub, files = both
    run = hub.runs()[0]
    write_record(tmp_path / "made_up", run, record(hub, run))
    assert read_record(tmp_path / "made_up", hub, run) is not None
    with pytest.raises(ValueError, match="another recipe .dataset_name was 'hub/words' and is ''"):
        read_record(tmp_path / "made_up", files, run)
    mine = replace(files, setting="mine", shares=["made_up"])
    assert find_record(tmp_path / "mine", mine, run) is None
    (why,) = made_otherwise(tmp_path / "made_up", files)
    assert why.startswith("Made with another recipe (dataset_name was ")
    assert why.endswith(f"): {run.name}.")


def test_a_table_is_of_one_corpus(both: tuple[Comparison, Comparison]) -> None:
    hub, files = both
    there = {run: record(hub, run, corpus=SENTENCES) for run in hub.runs()}
    run = hub.runs()[1]
    from_files = {"dataset": "files/train.gz", "recipe": files.identity(run)}
    there[run] = record(hub, run, corpus=SENTENCES, **from_files)
    assert summarise(hub, there, quick).unlike == []
    # The other corpus is named by its split, also where the other seeds are of another one.
    others = {run: {**SENTENCES, "test": "cc"} if run.seed else SENTENCES for run in there}
    seeds = {run: {**there[run], "corpus": corpus} for run, corpus in others.items()}
    summary = summarise(hub, seeds, quick)
    names = {seed: ", ".join(r.name for r in there if r.seed == seed) for seed in (0, 1)}
    assert summary.unlike == [f"runs had different test sentences: {names[0]} and {names[1]}"]
    assert f"**Not comparable:** {summary.unlike[0]}." in comparison_section(summary)
    # One that cannot tell is compared by its place, and so are the others with it.
    unlike = summarise(hub, {**there, run: record(hub, run, **from_files)}, quick).unlike
    assert len(unlike) == 2
    assert unlike[0].startswith("runs of seed 0 are of different data: ")
    assert "was told otherwise than dense_seed0: dataset_name was 'hub/words'" in unlike[1]
    assert summarise(hub, {**there, run: record(hub, run)}, quick).unlike == []
