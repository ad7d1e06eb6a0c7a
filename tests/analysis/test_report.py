"""The report: what it says is what the files hold, and it works in a browser."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs the extra `analysis`")

from chts_hf import CHTsCallback, CHTsConfig, cli  # noqa: E402
from chts_hf.analysis import TopologyLogger, load_network  # noqa: E402
from chts_hf.analysis.history import read_history  # noqa: E402
from chts_hf.analysis.report import read_run, write_report  # noqa: E402
from chts_hf.analysis.report.data import RunData  # noqa: E402
from chts_hf.analysis.report.page import render  # noqa: E402
from chts_hf.analysis.report.svg import Axis, Series, chart, number  # noqa: E402
from chts_hf.checkpoint.mask_file import load_masks  # noqa: E402
from tests.analysis.pages import decode  # noqa: E402
from tests.builders import tiny_trainer  # noqa: E402

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CONFIG = CHTsConfig(sparsity=0.7, update_interval=2, t_end=0.8, rewarm_steps=0)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    sparse = CHTsCallback(CONFIG)
    trainer = tiny_trainer(
        folder,
        [sparse, TopologyLogger(sparse, frames=3)],
        save_strategy="steps", save_steps=6, eval_strategy="steps", eval_steps=6,
    )  # fmt: skip
    trainer.train()
    trainer.save_state()
    return folder


@pytest.fixture(scope="module")
def page(run_folder) -> str:
    return write_report(run_folder, nulls=2).read_text(encoding="utf-8")


class _Checker(HTMLParser):
    """Collects what a page loads, and that its elements are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []
        self.headings: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.loads += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "input", "br", "line", "circle", "rect", "path", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def test_the_page_needs_nothing_but_itself(page):
    checker = _Checker()
    checker.feed(page)
    assert checker.loads == []
    assert checker.open == []
    assert len(checker.headings) == 7
    addresses = set(re.findall(r"https?://[^\s\"']+", page))
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert "@import" not in page
    assert "prefers-color-scheme: dark" in page


def test_its_sentences_are_computed_from_the_run(run_folder, page):
    history = read_history(run_folder)
    masks = history.masks(history.frames[-1])
    links = sum(int(mask.sum()) for mask in masks.values())
    assert f"<b>{links:,}</b>" in page
    record = history.records[-1]
    assert f"<b>{record['itop_rate']:.1%}</b>" in page
    counts = history.records[1]["layers"].values()
    removed = sum(c["removed"] for c in counts) / sum(c["links"] for c in counts)
    assert f"4 updates removed {removed:.0%} of the links at first" in page
    assert "2 rewired networks are too few for a verdict" in page


def test_the_slider_has_the_masks_of_every_kept_step(run_folder, page):
    history = read_history(run_folder)
    data = _mask_data(page)
    assert data["steps"] == history.frames
    for layer in data["layers"]:
        for step, frame in zip(data["steps"], layer["frames"], strict=True):
            assert np.array_equal(decode(frame, layer), history.masks(step)[layer["name"]])
    orders = [layer["row_order"] for layer in data["layers"] if layer["row_order"]]
    assert len(orders) == 2
    assert all(sorted(order) == list(range(len(order))) for order in orders)


def _mask_data(page: str) -> dict:
    return json.loads(re.search(r'id="mask-data">(.*?)</script>', page, re.S)[1])


def test_a_checkpoint_alone_makes_a_page_that_says_what_is_missing(run_folder, tmp_path):
    folder = tmp_path / "checkpoint-6"
    folder.mkdir()
    shutil.copy(run_folder / "checkpoint-6" / "chts_masks.safetensors", folder)
    page = write_report(folder, nulls=1).read_text(encoding="utf-8")
    assert "This folder has no log of the training." in page
    assert "Masks of one step only (6)" in page
    assert "Not recorded in this run: add TopologyLogger" in page


def test_a_dense_run_has_its_losses(run_folder, tmp_path):
    shutil.copy(run_folder / "trainer_state.json", tmp_path)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "validation loss went from" in page
    assert "This run kept no masks" in page


@pytest.mark.parametrize("scale", [1, 100], ids=["share", "per cent"])
def test_accuracy_is_shown_in_per_cent_however_it_was_logged(tmp_path, scale):
    log = [
        {"step": step, "eval_accuracy": scale * accuracy, "eval_loss": 1.0}
        for step, accuracy in ((10, 0.004), (20, 0.5), (30, 0.9656))
    ]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": log}))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "<b>96.6%</b><span>accuracy on validation</span>" in page
    assert "Accuracy on validation went from 0.4% to 96.6%" in page


def test_a_network_in_pieces_has_a_page_without_a_disk():
    masks = {"a": np.eye(6, dtype=bool), "b": np.eye(6, dtype=bool)[::-1]}
    chains = {"a → b": ["a", "b"]}
    run = RunData("pieces", [], {}, {}, [], [0, 1], lambda step: masks, chains, lambda: {})
    page = render(run, None, nulls=2, seed=0)
    assert 'class="rim"' not in page
    assert "At the end: not tested, too few of its links hang together." in page
    assert "<th scope='row'>path length" in page
    assert page.count("How the first masks were drawn is not recorded") == 1


def test_without_a_recorded_history_checkpoints_serve(run_folder, tmp_path):
    for step in (6, 12):
        shutil.copytree(run_folder / f"checkpoint-{step}", tmp_path / f"checkpoint-{step}")
    run = read_run(tmp_path)
    assert run.frames == [6, 12]
    assert run.series("loss")[0] == [4, 8, 12]
    assert run.chain(12).sizes == (16, 32, 16)
    with pytest.raises(ValueError, match="no chain 'x'; there are"):
        run.chain(12, "x")


def _train(folder: Path, config: CHTsConfig, records: bool = False) -> None:
    sparse = CHTsCallback(config)
    callbacks = [sparse, *([TopologyLogger(sparse, frames=3)] if records else [])]
    tiny_trainer(folder, callbacks, save_strategy="steps", save_steps=6, logging_steps=3).train()


@pytest.mark.parametrize(
    "second",
    [
        {"config": CHTsConfig(method="set", sparsity=0.8, update_interval=2)},
        {"config": CHTsConfig(method="dense")},
        {"config": CHTsConfig(sparsity=0.7, update_interval=2, t_end=0.8, rewarm_steps=0, seed=5)},
    ],
    ids=["other method", "dense", "other seed"],
)
def test_records_of_another_run_are_not_shown_for_the_last_one(tmp_path, capsys, second):
    _train(tmp_path, CONFIG, records=True)
    read_run(tmp_path)
    _train(tmp_path, **second)
    assert cli.main(["analyze", str(tmp_path), "--measures", "links", "--nulls", "1"]) == 1
    said = capsys.readouterr().err
    assert f"{tmp_path}/topology and {tmp_path}/checkpoint-12/trainer_state.json" in said
    assert "are of two runs: at step 3 the ITOP rate is" in said
    (tmp_path / "topology").rename(tmp_path / "of_before")
    assert read_run(tmp_path).frames == [6, 12]


def test_each_checkpoint_is_read_once(run_folder, tmp_path, monkeypatch, capsys):
    for step in (6, 12):
        shutil.copytree(run_folder / f"checkpoint-{step}", tmp_path / f"checkpoint-{step}")
    opened: list[str] = []

    def counting(folder):
        opened.append(Path(folder).name)
        return load_masks(folder)

    monkeypatch.setattr("chts_hf.analysis.checkpoint.load_masks", counting)
    only = ["--only", "encoder.*fc1", "--measures", "links", "--nulls", "1"]
    assert cli.main(["analyze", str(tmp_path), *only]) == 0
    assert opened == ["checkpoint-12"]
    run = read_run(tmp_path)
    for step in (6, 12, 6, 12):
        run.chain(step)
    assert opened == ["checkpoint-12"] * 2 + ["checkpoint-6"]


def test_folders_with_nothing_to_show_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds nothing to show"):
        read_run(tmp_path)
    with pytest.raises(ValueError, match="there is no folder"):
        read_run(tmp_path / "none")


def test_the_commands(run_folder, tmp_path, capsys):
    shutil.copy(run_folder / "trainer_state.json", tmp_path)
    assert cli.main(["report", str(tmp_path), "--output", f"{tmp_path}/p.html"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/p.html\n"
    assert (tmp_path / "p.html").is_file()
    folder = str(run_folder / "checkpoint-12")
    some = ["--measures", "links", "clustering", "--nulls", "2"]
    assert cli.main(["analyze", folder, "--only", "encoder.*fc1", "--json", *some]) == 0
    found = json.loads(capsys.readouterr().out)
    (name,) = found
    masks, chains = load_network(folder)
    chain = next(c for c in chains if c.name == name)
    assert found[name]["links"]["value"] == sum(int(mask.sum()) for mask in chain.masks)
    assert found[name]["clustering"]["nulls"].keys() == {"er", "degrees"}
    assert cli.main(["analyze", folder, "--layers", "--only", "fc1", *some]) == 0
    table = capsys.readouterr().out
    assert table.count("clustering") == 2
    assert len(re.findall(r"^model\S+fc1\S* +[\d,]+ +[\d,]+ +[\d.]+% +– ", table, re.M)) == 2
    assert "degrees of" not in table
    laws = ["--layers", "--only", "encoder.*fc1", "--nulls", "1", "--measures", "exponent"]
    assert cli.main(["analyze", folder, *laws]) == 0
    assert re.search(r"^outputs +", capsys.readouterr().out, re.M)
    assert cli.main(["analyze", folder, "--json", *laws]) == 0
    (one,) = json.loads(capsys.readouterr().out).values()
    assert one["power_laws"].keys() == {"all", "inputs", "outputs"}
    fits = [law for law in one["power_laws"].values() if law]
    assert all(0 <= fit["p"] <= 1 and fit["verdict"] for fit in fits)
    assert fits
    assert cli.main(["analyze", folder, "--only", "nothing"]) == 1
    assert "finds none of" in capsys.readouterr().err
    assert cli.main(["analyze", str(tmp_path)]) == 1
    assert "holds no masks" in capsys.readouterr().err
    assert cli.main(["analyze", str(run_folder), "--only", "encoder.*fc1", "--json", *some]) == 0
    again = json.loads(capsys.readouterr().out)
    links = [one[name].pop("link_history") for one in (found, again)]
    assert again == found  # its last masks are the checkpoint's
    state, _ = load_masks(folder)
    for layer in chain.layers:
        of_checkpoint, of_run = (one[layer] for one in links)
        ever = state["ever"][f"{layer.removesuffix('.weight')}.weight"]
        assert of_checkpoint["ever"] == of_run["ever"] == int(ever.sum())
        assert of_checkpoint["itop_rate"] == of_run["itop_rate"] == float(ever.float().mean())
        assert of_checkpoint["removed"] is of_checkpoint["overlap"] is None
        assert of_run["overlap"] == of_run["returned"] / of_run["removed"]
    assert len(masks) == len(read_history(run_folder).layers)


def test_charts_draw_what_they_are_given():
    series = Series("a <b>", [1, 10, 100], [1, 0.1, float("nan")], 1, "points")
    drawn = chart([series], Axis("x", log=True), Axis("y", log=True), "about")
    assert drawn.count('<circle class="fill-1"') == 3  # two points and the legend
    assert "a &lt;b&gt;" in drawn
    empty = chart([Series("none", [], [])], Axis("x"), Axis("y"), "nothing")
    assert "polyline" not in empty
    assert [number(v) for v in (1234567.8, 0.12345, 1200, float("nan"))] == [
        "1.23e+06", "0.123", "1\u202f200", "–",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"needs a browser: one of {', '.join(BROWSERS)} on the path")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_slider_shows_the_masks_in_a_browser(browser, run_folder, page, scheme):
    opened = browser.new_page(color_scheme=scheme, viewport={"width": 1100, "height": 900})
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("request", lambda request: errors.append(request.url)
              if not request.url.startswith("file:") else None)  # fmt: skip
    opened.goto((run_folder / "report.html").as_uri())
    history = read_history(run_folder)
    wide, tall = (f"model.encoder.layers.0.{name}.weight" for name in ("fc2", "fc1"))
    layers = {layer["name"]: layer for layer in _mask_data(page)["layers"]}
    assert opened.locator("#shown").inner_text() == f"step {history.frames[-1]}"
    slider = opened.locator("#step")
    place = slider.bounding_box()
    for position, step in zip((0.0, 0.5, 1.0), history.frames, strict=True):
        across = 8 + position * (place["width"] - 16)
        slider.click(position={"x": across, "y": place["height"] / 2})
        assert opened.locator("#shown").inner_text() == f"step {step}"
        for name in (wide, tall):
            opened.locator("#layer").select_option(name)
            first, mask = history.masks(0)[name], history.masks(step)[name]
            for ordered in (False, True):
                opened.locator("#order").set_checked(ordered)
                rows, columns = (
                    layers[name][f"{side}_order"] if ordered else np.arange(size)
                    for side, size in zip(("row", "column"), mask.shape, strict=True)
                )
                shown = _drawn(opened, mask.shape)
                assert np.array_equal(shown == 1, (mask & first)[rows][:, columns])
                assert np.array_equal(shown == 2, (mask & ~first)[rows][:, columns])
    opened.set_viewport_size({"width": 420, "height": 800})
    assert opened.evaluate("document.documentElement.scrollWidth") <= 420
    assert errors == []
    opened.close()


def _drawn(page, shape: tuple[int, int]) -> np.ndarray:
    """What the canvas shows of each weight: 1 a link of the start, 2 a new one, 0 none.

    The longer side runs across.
    """
    pixels = page.evaluate(
        """() => {
            const style = getComputedStyle(document.documentElement);
            const want = ["--c0", "--c1"].map((name) => [1, 3, 5].map(
              (i) => parseInt(style.getPropertyValue(name).trim().slice(i, i + 2), 16)));
            const canvas = document.getElementById("mask");
            const context = canvas.getContext("2d");
            const all = context.getImageData(0, 0, canvas.width, canvas.height).data;
            const found = [];
            for (let i = 0; i < all.length; i += 4)
              found.push(all[i + 3] === 255 ? 1 + want.findIndex(
                (colour) => colour.every((value, k) => value === all[i + k])) : 0);
            return [canvas.height, canvas.width, found];
        }""",
    )
    shown = np.array(pixels[2]).reshape(pixels[:2])
    return shown.T if shape[0] > shape[1] else shown
