"""What a page shows is what the run holds: places, colours, columns and sentences."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs the extra `analysis`")

from chts_hf import CHTsConfig  # noqa: E402
from chts_hf.analysis import Chain, Network, analyse  # noqa: E402
from chts_hf.analysis.degrees import PowerLaw  # noqa: E402
from chts_hf.analysis.report import measured, network_sections  # noqa: E402
from chts_hf.analysis.report.data import RunData  # noqa: E402
from chts_hf.analysis.report.masks import encode, encoding, mask_data  # noqa: E402
from chts_hf.analysis.report.page import render  # noqa: E402
from chts_hf.analysis.report.svg import Axis, Series, chart, with_error  # noqa: E402
from chts_hf.analysis.report.turnover import turnover  # noqa: E402
from tests.analysis.networks import hyperbolic_mask, ring_mask  # noqa: E402
from tests.analysis.pages import (  # noqa: E402
    beside,
    decode,
    figures,
    numbers,
    read_chart,
    read_table,
    section,
    tags,
)

LAYERS = ["hidden.0.weight", "hidden.1.weight"]
STEPS = [10, 20, 30, 40]
REMOVED, BACK, RANDOM = [120, 90, 60, 6], [30, 36, 15, 0], [6.0, 3.0, 4.5, 0.3]
SPARSITY = [0.80, 0.81, 0.85, 0.9, 0.92]


def _masks() -> dict[int, dict[str, np.ndarray]]:
    """A ring becomes a network drawn in the disk, smaller by some neurons."""
    start = {LAYERS[0]: ring_mask((40, 24), 190, 0.2), LAYERS[1]: ring_mask((32, 40), 250, 0.2)}
    end = {
        LAYERS[0]: hyperbolic_mask((40, 24), 170, 1)[0],
        LAYERS[1]: hyperbolic_mask((32, 40), 230, 2)[0],
    }
    end[LAYERS[0]][30:] = False
    end[LAYERS[1]][:, 30:] = False
    end[LAYERS[1]][:5] = False
    return {0: start, 20: start, 40: end}


def _record(update: int) -> dict:
    removed, back, random = (
        (0, 0, 0.0) if update == 0 else (c[update - 1] for c in (REMOVED, BACK, RANDOM))
    )
    layer = {
        "links": 200, "ever": 200, "removed": removed, "regrown": removed, "overlap": back,
        "expected_overlap": random, "from_start": 200 - 10 * update,
    }  # fmt: skip
    quiet = layer | {"removed": 0, "regrown": 0, "overlap": 0, "expected_overlap": 0.0}
    return {
        "step": [0, *STEPS][update],
        "update": update,
        "sparsity": SPARSITY[update],
        "itop_rate": 0.2 + 0.03 * update,
        "anp": 1 - 0.08 * update,
        "layers": dict(zip(LAYERS, (layer, quiet), strict=True)),
    }


@pytest.fixture(scope="module")
def run() -> RunData:
    masks = _masks()
    log = [
        {"step": s, "loss": 2 / s, "eval_loss": 3 / s, "eval_accuracy": 90 + s / 8} for s in STEPS
    ]
    config = CHTsConfig(init="brf", zeta=0.3).to_dict()
    chains = {"hidden: 0 → 1": LAYERS}
    return RunData(
        "made up", log, {"predict_accuracy": 93.25}, config, [_record(u) for u in range(5)],
        [0, 20, 40], masks.__getitem__, chains, dict,
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(run) -> str:
    return render(run, None, nulls=2, seed=0)


def _near(found, expected, rel: float = 0.02) -> None:
    assert len(found) == len(expected)
    assert np.array(found) == pytest.approx(np.array(expected), rel=rel, abs=2e-3)


def test_scores_and_shares_are_drawn_where_they_belong(run, page):
    drawn = figures(section(page, "What it learned while it was rewired"))
    accuracy = read_chart(drawn["Accuracy on validation (the axis does not begin at 0)"])
    _near(accuracy["validation"], [(s, 0.9 + s / 800) for s in STEPS], rel=1e-3)
    losses = read_chart(drawn["Loss"])
    _near(losses["training"], [(s, 2 / s) for s in STEPS])
    _near(losses["validation"], [(s, 3 / s) for s in STEPS])
    links = read_chart(drawn["Links there are, and links ever tried"])
    steps = [0, *STEPS]
    _near(links["density"], [(s, 1 - v) for s, v in zip(steps, SPARSITY, strict=True)])
    _near(links["ITOP rate"], [(s, 0.2 + 0.03 * u) for u, s in enumerate(steps)])
    living = read_chart(drawn["Living neurons"])
    _near(living["ANP"], [(s, 1 - 0.08 * u) for u, s in enumerate(steps)])
    assert "with 8.0% of the links at the end" in page
    assert "<b>93.2%</b><span>accuracy on the test set</span>" in page
    assert "<b>95.0%</b><span>accuracy on validation</span>" in page


def test_turnover_is_drawn_and_told_as_it_was_recorded(page):
    part = section(page, "Link turnover")
    drawn = figures(part)
    kept = read_chart(drawn["Links removed and kept"])
    _near(kept["removed"], [(s, r / 400) for s, r in zip(STEPS, REMOVED, strict=True)])
    _near(kept["links of the start"], [(s, 1 - s / 200) for s in STEPS])
    came = read_chart(drawn["Removed links that were regrown at once"])
    # The last update removed six links: too few to tell.
    _near(came["came back at once"], [(10, 30 / 120), (20, 36 / 90), (30, 15 / 60)])
    _near(came["at random"], [(10, 6 / 120), (20, 3 / 90), (30, 4.5 / 60)])
    ratio = (30 / 120 + 36 / 90 + 15 / 60) / (6 / 120 + 3 / 90 + 4.5 / 60)
    assert "4 updates removed 30% of the links at first and 2% at the end; 80% of" in part
    assert (
        "25% came back at once at step 10, and 25% at step 30; on average "
        f"{ratio:.3g} times as many as at random. The schedule, not a settled topology"
    ) in part


def _turnover(removed: list[int], back: list[int], pruned: int = 0, **config) -> str:
    """What is said of updates to 400 links, the first of which removes ``pruned`` more for good."""
    records = []
    for update, (gone, came) in enumerate(zip(removed, back, strict=True), start=1):
        counts = {"links": 400, "removed": gone, "regrown": gone, "overlap": came}
        if update == 1:
            counts["removed"] += pruned
        layers = {"a": counts | {"from_start": 300, "expected_overlap": gone / 100}}
        records.append({"step": 10 * update, "update": update, "layers": layers})
    none = RunData("x", [], {}, config, records, [], lambda step: {}, {}, dict)
    return turnover(none).sees


def test_what_turnover_says_of_settling():
    assert "says nothing" in _turnover([8, 4], [1, 0])
    assert "The topology has settled." in _turnover([100, 90], [10, 88])
    ended = _turnover([400, 200, 36, 2], [40, 30, 3, 0])
    assert "The schedule, not a settled topology, ended the rewiring" in ended
    assert "The topology had not settled" in _turnover([100, 90], [10, 20])
    assert "percolation" not in _turnover([120, 90], [10, 20], zeta=0.3, percolation=True)
    more = _turnover([200, 90], [10, 20], zeta=0.3, percolation=True)
    assert "removed 50% of the links at first (ζ = 30% chosen by weight" in more
    assert "percolation" not in _turnover([200, 90], [10, 20], zeta=0.3, percolation=False)


def test_links_that_the_density_costs_are_told_apart_from_replaced_ones():
    chosen = {"zeta": 0.3, "percolation": True}
    # 2000 links; 1600 go for good, and 120 of the 400 that stay are replaced.
    said = _turnover([120, 90], [10, 20], pruned=1600, **chosen)
    assert "removed 86% of the links at first (80% for good, as the density fell) and 22%" in said
    assert "percolation" not in said
    # What ends the rewiring is the schedule of what is replaced, not the end of the fall.
    assert "The topology had not settled" in said
    both = _turnover([200, 90], [10, 20], pruned=1600, **chosen)
    assert "as the density fell; ζ = 30% chosen by weight" in both
    pruning = _turnover([0, 0], [0, 0], pruned=1600)
    assert "removed 80% of the links at first (80% for good" in pruning
    assert pruning.endswith("No update regrew a link.")


def test_bars_are_as_long_as_the_shares_of_living_neurons(run, page):
    part = section(page, "Neurons alive")
    bars = tags(part, "rect", "")[2:]  # behind the legend's
    first, last = run.masks(0), run.masks(40)
    expected = [
        (("grey", "0")[i], masks[name].any(axis=axis).mean())
        for name in LAYERS
        for axis in (1, 0)
        for i, masks in enumerate((first, last))
    ]
    assert [re.search(r'class="fill-(\w+)"', bar)[1] for bar in bars] == [c for c, _ in expected]
    widths = [numbers(bar, "width")[0] for bar in bars]
    assert np.array(widths) / max(widths) == pytest.approx([v for _, v in expected], abs=1e-3)
    share = last[LAYERS[1]].any(axis=0).mean()
    assert f"the fewest are left in hidden.1 · in: {share:.1%} (100.0% at the start)." in part
    assert re.findall(r'class="fill-(?:grey|0)" x=.*?<text[^>]*>(.*?)</text>', part)[:2] == [
        "first masks", "last masks",
    ]  # fmt: skip


def _shares(degree: np.ndarray) -> list[tuple[float, float]]:
    degree = degree[degree > 0]
    return [(float(k), float((degree >= k).mean())) for k in np.unique(degree)]


def test_degrees_and_their_fit_are_drawn_where_they_belong(run, page):
    from scipy.special import zeta

    part = section(page, "Who has how many links")
    drawn, laws = figures(part), {row[0]: row[1:] for row in read_table(part, "laws")[1:]}
    fits = 0
    for i, name in enumerate(LAYERS):
        for axis, side in ((1, "outputs"), (0, "inputs")):
            label = f"hidden.{i}: {side}"
            now, before = (run.masks(step)[name].sum(axis=axis) for step in (40, 0))
            found = read_chart(drawn[label], log=True)
            _near(found["end"], _shares(now))
            _near(found["start"], _shares(before))
            gamma, k_min, tail, p, says = laws[label]
            fit = [points for key, points in found.items() if key.startswith("fit")]
            if k_min == "–":
                assert not fit
                continue
            fits += 1
            assert int(tail) == (now >= int(k_min)).sum()
            assert says
            (points,) = fit
            exponent = float(gamma.split(" ")[0])
            (shown,) = (float(key.split("= ")[1]) for key in found if key.startswith("fit"))
            assert shown == pytest.approx(exponent, abs=0.06)
            share = (now >= int(k_min)).sum() / (now > 0).sum()
            for k, y in points:
                law = share * zeta(shown, round(k)) / zeta(shown, int(k_min))
                assert y == pytest.approx(law, rel=0.05)
            assert points[0][0] == pytest.approx(int(k_min), rel=0.01)
    assert fits >= 2
    assert "A power law is plausible on " in part


def test_a_law_that_falls_out_of_the_chart_is_cut_at_its_edge():
    law = PowerLaw(9.0, 0.5, 3, 0.1, 0.5, 10, 1.0)
    now = np.array([1] * 10 + [3] * 8 + [4, 40])
    drawn = network_sections._degrees_chart(now, now, now, law, "x")
    (line,) = (t for t in tags(drawn, "polyline") if "stroke-0" in t)
    heights = [float(p.split(",")[1]) for p in re.search(r'points="(.*?)"', line)[1].split()]
    floor = max(numbers(t, "y1")[0] for t in tags(drawn, "line", "axis"))
    assert max(heights) <= floor
    points = read_chart(drawn, log=True)["fit, γ = 9.00"]
    assert points[0] == pytest.approx((3, 0.5), rel=0.02)
    assert points[1][1] == pytest.approx(0.5 * law.share_from(np.array([4]))[0], rel=0.03)


def test_nodes_lie_and_are_coloured_in_the_disk_as_they_are_embedded(run, page):
    part = section(page, "In the hyperbolic disk")
    drawn = figures(part)
    for step, (caption, svg) in zip((0, 40), drawn.items(), strict=True):
        network = Network(run.chain(step), 0)
        place = network.embedding
        communities = network.communities[place.nodes]
        assert caption.startswith(f"step {step} · ")
        many = sum(np.bincount(communities) > 1)
        assert caption == f"step {step} · {many} communities"
        marks = tags(svg, "circle", "node ")
        x, y, size = np.array([numbers(mark, "cx", "cy", "r") for mark in marks]).T
        turned = (x - 260) + 1j * (260 - y)
        order = np.argsort(-network.degree[place.nodes], kind="stable")
        assert np.abs(turned) == pytest.approx(
            place.radius[order] * 232 / place.radius.max(), abs=0.1
        )
        wanted = np.abs(turned) * np.exp(1j * place.angle[order])
        assert turned == pytest.approx(wanted, abs=0.15)
        assert (np.diff(size) <= 0).all()
        for mark, community in zip(marks, communities[order], strict=True):
            hue = community % 6 if community < 12 else "grey"
            style = f"open stroke-{hue}" if 6 <= community < 12 else f"fill-{hue}"
            assert f'class="node {style}"' in mark
        if step == 40:
            _links_join_their_nodes(network, svg)


def _links_join_their_nodes(network: Network, svg: str) -> None:
    place, scale = network.embedding, 232 / network.embedding.radius.max()
    at = 260 + place.radius * scale * np.cos(place.angle)
    up = 260 - place.radius * scale * np.sin(place.angle)
    i, j = place.matrix.tocoo().coords
    ends = {
        (f"{at[a]:.1f} {up[a]:.1f}", f"{at[b]:.1f} {up[b]:.1f}"): (a, b)
        for a, b in zip(i, j, strict=True)
    }
    paths = re.findall(r'<path class="link stroke-(\w+)" d="M(.*?)Q\S+ \S+ (.*?)"/>', svg)
    assert len(paths) == len(i) // 2
    for colour, one, other in paths:
        a, b = (network.communities[place.nodes[node]] for node in ends[one, other])
        assert colour == (str(a % 6) if a == b and a < 12 else "grey")


def test_the_disks_order_is_that_of_the_angles(run):
    network = Network(run.chain(40), 0)
    orders = network_sections.angle_orders(network)
    angle = dict(zip(network.embedding.nodes, network.embedding.angle, strict=True))
    starts = dict(zip(LAYERS, ((24, 0), (64, 24)), strict=True))
    for name, (rows, columns) in orders.items():
        for order, start in zip((rows, columns), starts[name], strict=True):
            angles = [angle.get(start + node, np.inf) for node in order.nodes]
            assert angles == sorted(angles)
            assert order.placed == np.isfinite(angles).sum()
    dead = set(range(30, 40))  # without a link on either side
    assert dead <= set(orders[LAYERS[0]][0].nodes[orders[LAYERS[0]][0].placed :].tolist())


def test_the_slider_opens_at_the_end_of_the_largest_layer(run, page):
    part = section(page, "The masks, from start to end")
    assert "<option>hidden.0.weight</option><option selected>hidden.1.weight</option>" in part
    assert 'min="0" max="2" value="2"' in part
    data = mask_data(run, LAYERS, network_sections.angle_orders(Network(run.chain(40), 0)))
    embedded = re.search(r'id="mask-data">(.*?)</script>', part, re.S)
    assert json.loads(embedded[1]) == data
    for layer in data["layers"]:
        for step, frame in zip((0, 20, 40), layer["frames"], strict=True):
            assert np.array_equal(decode(frame, layer), run.masks(step)[layer["name"]])


@pytest.mark.parametrize("density", [0.0, 0.001, 0.05, 0.5, 1.0])
def test_masks_are_the_same_after_either_coding(density):
    mask = np.random.default_rng(0).random((60, 70)) < density
    for coding in ("gaps", "bits"):
        layer = {"rows": 60, "columns": 70, "coding": coding}
        assert np.array_equal(decode(encode(mask, coding), layer), mask)
    assert encoding([mask]) == ("gaps" if density < 0.1 else "bits")


def test_start_and_end_of_the_page_are_the_runs_first_and_last_masks(run, page):
    lines = {r[0].split("|")[0]: r for r in read_table(section(page, "Measured against chance"),
             "measures")[2:]}  # fmt: skip
    some = ("clustering", "path_length", "modularity", "links")
    for step, column in ((0, 1), (40, 4)):
        for row in analyse(run.chain(step), some, 2, 0, ("er",)):
            cell = lines[row.measure.replace("_", " ")][column].replace(" |", " ")
            assert cell == with_error(row.value, row.error)
    rows = {r.measure: r for r in analyse(run.chain(40), ("clustering",), 2, 0)}
    cells = [cell.replace(" |", " ") for cell in lines["clustering"]]
    assert cells[5] == beside(rows["clustering"], "er")
    assert cells[7] == beside(rows["clustering"], "degrees")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (CHTsConfig(init="brf"), "a ring of receptive fields (BRF)"),
        (CHTsConfig(init="bsw"), "a small world on a ring (BSW)"),
        (CHTsConfig(init="er", overrides={r"hidden\.0": {"init": "csti"}}), "(CSTI)"),
        (CHTsConfig(init="er"), ""),
        (None, "How the first masks were drawn is not recorded"),
    ],
)
def test_a_start_that_is_not_random_is_warned_of(run, config, says):
    settings = {} if config is None else config.to_dict()
    one = RunData("x", [], {}, settings, [], [0, 20, 40], run.masks, run.chains, dict)
    warning = measured.inheritance(one, LAYERS)
    assert says in warning
    assert bool(warning) == bool(says)
    if config is not None and says:
        assert "(init: er)" in warning


def test_the_page_warns_beside_the_disks(page):
    part = section(page, "In the hyperbolic disk")
    assert "<p class='warning'>" in part
    assert "The first masks were not random, but a ring" in part


def test_small_world_at_both_ends_is_against_the_same_density(run):
    first: Chain = run.chain(0)
    start = {row.measure: row for row in measured.at_start(first, 3, 0)}
    full = {row.measure: row for row in analyse(first, ("clustering", "path_length"), 3, 0)}
    assert start["small_world"].value == full["small_world"].value
    assert start["small_world"].nulls["degrees"].mean == pytest.approx(1, abs=0.2)
    assert start["modularity"].nulls.keys() == {"degrees"}


def test_an_axis_without_a_given_end_ends_at_a_tick_beyond_the_data():
    drawn = chart([Series("a", [0, 1], [0.857, 0.966], 0)], Axis("x"), Axis("y"), "about")
    places = [float(p.split(",")[1]) for p in re.search(r'points="(.*?)"', drawn)[1].split()]
    top, bottom = 28, 256
    assert top <= min(places) < max(places) <= bottom
    _near(read_chart(drawn)["a"], [(0, 0.857), (1, 0.966)], rel=1e-3)
