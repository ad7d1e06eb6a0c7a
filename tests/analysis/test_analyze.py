"""What `chts-hf analyze` shows: every number in its column, turnover of the last real update."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("scipy", reason="needs the extra `analysis`")

from chts_hf import cli  # noqa: E402
from chts_hf.analysis.degrees import PowerLaw  # noqa: E402
from chts_hf.analysis.history import HistoryWriter, read_history  # noqa: E402
from chts_hf.analysis.links import LinkHistory  # noqa: E402
from chts_hf.analysis.measures import Comparison, Row  # noqa: E402
from chts_hf.commands.analyze import Analysis, as_json, as_text  # noqa: E402
from tests.analysis.networks import small_chain  # noqa: E402

MASKS = small_chain().masks
#: Layer → links removed, brought back, expected back, at updates 0 to 3.
TURNOVER = {
    "f.up": [(0, 0, 0.0), (40, 10, 4.0), (20, 15, 2.0), (0, 0, 0.0)],
    "f.down": [(0, 0, 0.0), (30, 6, 3.0), (0, 0, 0.0), (0, 0, 0.0)],
    "f.still": [(0, 0, 0.0)] * 4,
}


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run of which nothing is left but its recorded topology."""
    masks = {name: torch.from_numpy(mask) for name, mask in zip(TURNOVER, MASKS, strict=False)}
    masks["f.still"] = torch.eye(8, dtype=torch.bool)
    writer = HistoryWriter(tmp_path, 0)
    layers = {name: {"kind": "x", "shape": list(mask.shape)} for name, mask in masks.items()}
    writer.describe(layers, {"f: up → down": ["f.up", "f.down"]}, {})
    for update in range(4):
        counts = {}
        for name, mask in masks.items():
            removed, overlap, expected = TURNOVER[name][update]
            links = int(mask.sum())
            counts[name] = {"links": links, "ever": links + 10 * update, "removed": removed,
                            "overlap": overlap, "expected_overlap": expected}  # fmt: skip
        writer.record({"step": 50 * update, "update": update, "layers": counts})
    writer.frame(150, masks)
    return tmp_path


def _table(text: str, first: str) -> dict[str, dict[str, str]]:
    """The table that begins with this title: row → column → cell."""
    lines = text[text.index(first) :].split("\n\n")[0].splitlines()
    titles, *rows = (re.split(r" {2,}", line) for line in lines)
    titles.append("")  # of the last column, where that has none
    return {row[0]: dict(zip(titles[1:], row[1:], strict=False)) for row in rows}


def test_every_number_stands_in_its_column():
    models = {
        "er": Comparison(1.25, 0.5, 0.05, ()),
        "degrees": Comparison(2.5, 0.125, 0.3, ()),
    }
    kept = {"er": Comparison(7.0, 1.5, 0.2, ()), "degrees": Comparison(9.0, 0.0, None, ())}
    rows = [
        Row("path_length", 3.75, 0.06, models),
        Row("anp", 9.0, 0.0, kept),
        Row("hub_paths", 0.4, 0.0, {}),
    ]
    law = PowerLaw(2.6, 0.07, 3, 0.1, 0.42, 80, 1.5)
    link = LinkHistory(1000, 100, 250, 40, 10, 4.0, step=50)
    text = as_text("net", Analysis(rows, {"all": law, "inputs": None}, {"fc": link}))
    assert text.startswith("net\nmeasure")
    lines = text.split("\n\n")[0].splitlines()[1:]
    cells = [re.split(r" {2,}", line) for line in lines]
    assert cells == [
        ["measure", "value", "same density", "p", "same degrees", "p"],
        ["path_length", "3.75 ± 0.06", "1.25 ± 0.5", "0.05", "2.5 ± 0.12", "0.3"],
        ["anp", "9", "7 ± 1.5", "0.2", "9", "same"],
        ["hub_paths", "0.4", "–", "–", "–", "–"],
    ]
    laws = _table(text, "degrees of")
    assert list(laws["all"].values()) == ["2.6 ± 0.07", "3", "80", "0.42", law.verdict]
    assert laws["inputs"]["exponent"] == "–"
    assert _table(text, "links of")["fc"] == {
        "weights": "1,000", "links": "100", "ever (ITOP)": "25.00%", "at step": "50",
        "removed": "40", "came back": "25.00%", "at random": "10.00%",
    }  # fmt: skip


def test_the_table_has_the_numbers_of_the_json(run_folder, capsys):
    names = ["density", "clustering", "path_length", "greedy_routability"]
    words = ["analyze", str(run_folder), "--nulls", "3", "--measures", *names]
    assert cli.main([*words, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out).values()
    assert cli.main(words) == 0
    lines = capsys.readouterr().out.split("\n\n")[0].splitlines()[2:]
    shown = {cells[0]: cells[1:] for cells in (re.split(r" {2,}", line) for line in lines)}
    routed = shown.pop("greedy_routability")
    assert shown.keys() == {"density", "clustering", "path_length", "small_world"}
    assert found["density"]["value"] == pytest.approx(np.mean(np.concatenate(
        [mask.ravel() for mask in MASKS])))  # fmt: skip
    for name, (value, er, er_p, degrees, degrees_p) in shown.items():
        one = found[name]
        assert float(value.split()[0]) == pytest.approx(one["value"], rel=1e-3)
        for model, cell, p in (("er", er, er_p), ("degrees", degrees, degrees_p)):
            beside = one["nulls"][model]
            assert float(cell.split()[0]) == pytest.approx(beside["mean"], rel=1e-3)
            if beside["p"] is None:
                assert (p, len(cell.split())) == ("same", 1)
            else:
                assert float(p) == beside["p"]
                assert float(cell.split(" ± ")[1]) == pytest.approx(beside["deviation"], rel=0.06)
            assert "p_one_sided" not in beside
    for model, cell in zip(("er", "degrees"), (routed[2], routed[4]), strict=True):
        p = found["greedy_routability"]["nulls"][model]["p_one_sided"]
        assert cell == f"{p:.2g}, one-sided"


def test_the_json_has_the_one_sided_p_of_the_table():
    """Below all the random networks: far out to both sides, and not at all to the one asked for."""
    below = Comparison(0.5, 0.1, 0.25, (0.4, 0.5, 0.6))
    alike = Comparison(0.1, 0.0, None, (0.1, 0.1, 0.1))
    row = Row("greedy_routability", 0.1, 0.0, {"er": below, "degrees": alike})
    found = Analysis([row], {}, {})
    nulls = as_json(found)["greedy_routability"]["nulls"]
    assert [nulls["er"][key] for key in ("p", "p_one_sided")] == [0.25, 1.0]
    assert [nulls["degrees"][key] for key in ("p", "p_one_sided")] == [None, None]
    shown = re.split(r" {2,}", as_text("net", found).splitlines()[-1])
    assert shown[-3:] == ["1, one-sided", "0.1", "same"]


def test_links_are_shown_with_all_their_digits():
    beside = {"er": Comparison(13107.0, 0.0, None, ())}
    row = Row("links", 13107.0, 0.0, beside)
    assert re.split(r" {2,}", as_text("net", Analysis([row], {}, {})).splitlines()[-1])[:4] == [
        "links", "13,107", "13,107", "same",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "["], "argument --only: '[' is no regular expression (unterminated"),
        (["--seed", "-1"], "argument --seed: '-1' must be a whole number, 0 or above"),
        (["--seed", "x"], "argument --seed: 'x' must be a whole number, 0 or above"),
    ],
)
def test_arguments_that_cannot_be_are_named(words, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["analyze", "folder", *words])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_the_turnover_is_that_of_the_last_update_that_removed_something(run_folder, capsys):
    history = read_history(run_folder)
    assert history is not None
    links = history.links()
    up, down, still = (links[name] for name in TURNOVER)
    assert (up.step, up.removed, up.returned, up.overlap, up.overlap_at_random) == (
        100, 20, 15, 0.75, 0.1,
    )  # fmt: skip
    assert (down.step, down.removed, down.overlap) == (50, 30, 0.2)
    assert (still.step, still.removed, still.overlap) == (None, 0, None)
    # What was and is a link is of the end of the run all the same.
    assert (up.links, up.ever) == (MASKS[0].sum(), MASKS[0].sum() + 30)
    assert cli.main(["analyze", str(run_folder), "--measures", "links", "--nulls", "1"]) == 0
    table = _table(capsys.readouterr().out, "links of")
    assert [table["f.up"][name] for name in ("at step", "removed", "came back", "at random")] == [
        "100", "20", "75.00%", "10.00%",
    ]  # fmt: skip
    assert table["f.down"]["at step"] == "50"
