"""The parts of a report that draw one chain of layers: masks, degrees, the disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from chts_hf.analysis.degrees import PowerLaw, ccdf, degrees, fit_power_law
from chts_hf.analysis.graph import Network
from chts_hf.analysis.measures import Row
from chts_hf.analysis.network import Chain, Ints
from chts_hf.analysis.nulls import erdos_renyi
from chts_hf.analysis.report.data import RunData
from chts_hf.analysis.report.disk import communities_in_disk, disk
from chts_hf.analysis.report.masks import Order, mask_data
from chts_hf.analysis.report.measured import inheritance, verdict
from chts_hf.analysis.report.sections import Section, row
from chts_hf.analysis.report.svg import Axis, Series, chart, with_error

#: Layers of a chain whose degrees are drawn, from its first on.
MOST_DEGREES = 3


def mask_images(run: RunData, chain: Chain, last: Network) -> Section:
    """Masks from start to end behind a slider."""
    data = mask_data(run, list(chain.layers), angle_orders(last))
    text = json.dumps(data).replace("<", "\\u003c")  # nothing in it may end the element
    options = "".join(
        f"<option{' selected' if i == data['open'] else ''}>{escape(layer['name'])}</option>"
        for i, layer in enumerate(data["layers"])
    )
    end = len(run.frames) - 1
    body = f"""
<div class="controls">
  <label>layer <select id="layer">{options}</select></label>
  <button id="play" type="button">▶ play</button>
  <input id="step" type="range" min="0" max="{end}" value="{end}" step="1"
    aria-label="training step">
  <output id="shown" for="step"></output>
  <label><input id="order" type="checkbox"> neurons in the order of the disk</label>
</div>
<canvas id="mask" role="img"></canvas>
<p class="key"><span><i style="background:var(--c0)"></i>link of the first masks</span>
<span><i style="background:var(--c1)"></i>new since then</span><span id="mask-caption"></span></p>
<script type="application/json" id="mask-data">{text}</script>"""
    first, now = run.masks(run.frames[0]), run.masks(run.frames[-1])
    shares = {
        name: np.count_nonzero(now[name] & first[name]) / max(int(np.count_nonzero(now[name])), 1)
        for name in now
    }
    least, most = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    sees = (
        f"Between step {run.frames[0]} and step {run.frames[-1]} most changed {least}, where "
        f"{shares[least]:.0%} of the links are those of the start, and least {most} "
        f"({shares[most]:.0%})."
        if len(run.frames) > 1
        else f"Masks of one step only ({run.frames[0]}): there is nothing to compare them with."
    )
    what = (
        "Each dot is a link between an output and an input of a layer. Move the slider from the "
        "last masks back to the first. In the order of the disk, neurons that the network at the "
        "end places side by side stand side by side, so that structure shows as a band; behind "
        "them, on a shaded ground, stand those that have no place in the disk: without links at "
        "the end, or cut off from the rest."
    )
    return Section("The masks, from start to end", what, body, sees)


def angle_orders(network: Network) -> dict[str, tuple[Order, Order]]:
    """Layer → order of its rows and of its columns by angle; neurons not in the disk come last."""
    angle = np.full(len(network.degree), np.inf)
    if network.embedding is not None:
        angle[network.embedding.nodes] = network.embedding.angle
    levels = [
        Order(np.argsort(of_level, kind="stable"), int(np.isfinite(of_level).sum()))
        for of_level in np.split(angle, np.cumsum(network.chain.sizes)[:-1])
    ]
    return {name: (levels[i + 1], levels[i]) for i, name in enumerate(network.chain.layers)}


def degree_distributions(first: Chain, last: Chain, seed: int) -> Section:
    """Degrees of both sides of each layer on log-log axes, with the fit and a random mask."""
    what = (
        "The share of linked neurons with at least so many links, on logarithmic axes. A power law "
        "is nearly a straight line there: few hubs, many neurons with few links. The blue line is "
        "the law that fits the tail at the end best, drawn from the degree on from which it is "
        "fitted. The grey dashes are a random mask with as many links."
    )
    rng = np.random.default_rng([seed, 8])
    figures, laws = [], {}
    for index in range(min(MOST_DEGREES, len(last.masks))):
        for side, name in enumerate(("outputs", "inputs")):
            label = f"{_leaf(last.layers[index])}: {name}"
            now, before, random = (
                degrees(mask)[side]
                for mask in (
                    last.masks[index], first.masks[index], erdos_renyi(last.masks[index], rng),
                )
            )  # fmt: skip
            laws[label] = fit_power_law(now, rng)
            figures.append((label, _degrees_chart(now, before, random, laws[label], label)))
    plausible = sum(law is not None and law.plausible for law in laws.values())
    sees = f"A power law is plausible on {plausible} of {len(laws)} sides."
    body = f"{row(figures)}{_laws_table(laws)}"
    return Section("Who has how many links", what, body, sees)


def _degrees_chart(now: Ints, before: Ints, random: Ints, law: PowerLaw | None, label: str) -> str:
    series = [
        Series("random", *_points(random), None, "dashed"),
        Series("start", *_points(before), 5, "points"),
        Series("end", *_points(now), 1, "points"),
    ]
    alt = f"{label}: too few different degrees for a fit"
    if law is not None:
        k = np.arange(law.k_min, max(int(now.max()), law.k_min + 1) + 1)
        share = law.tail / np.count_nonzero(now) * law.share_from(k)
        name = f"fit, γ = {law.exponent:.2f}"
        series.append(Series(name, k.astype(float).tolist(), share.tolist(), 0, "smooth"))
        alt = f"{label}: γ = {law.exponent:.2f} from {law.k_min} links on, {law.verdict}"
    low = 0.5 / max(len(now), 1)
    shares = Axis("neurons with ≥ k", log=True, low=low, high=1)
    return chart(series, Axis("links k", log=True), shares, alt)


def _laws_table(laws: Mapping[str, PowerLaw | None]) -> str:
    lines = []
    for label, law in laws.items():
        cells = ["–"] * 4 + ["too few different degrees for a fit"]
        if law is not None:
            exponent = with_error(law.exponent, law.error)
            cells = [exponent, str(law.k_min), str(law.tail), _p(law.p), law.verdict]
        inner = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        lines.append(f"<tr><th scope='row'>{escape(label)}</th>{inner}</tr>")
    names = ("degrees at the end of", "γ", "from k", "neurons in the tail", "fit's p", "says")
    head = "".join(f"<th scope='col'>{name}</th>" for name in names)
    return (
        f"<div class='scroll'><table class='laws'><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _p(share: float) -> str:
    return f"{share:.2f}" if share >= 0.005 else "< 0.01"


def _points(degree: Ints) -> tuple[list[float], list[float]]:
    k, share = ccdf(degree)
    return k.astype(float).tolist(), share.tolist()


def disks(
    run: RunData, first: Network, last: Network, rows: Sequence[Row], before: Sequence[Row] | None
) -> Section:
    """The network in the hyperbolic disk at the start and at the end, and the verdict."""
    what = (
        f"The layers {last.chain.name} as one network, placed by its links alone (coalescent "
        "embedding): neurons with many links are large and lie near the centre, those that share "
        "partners at nearby angles. Colours are communities: the six largest are filled, the next "
        "six open, the others grey; a number at the rim marks the sector of one that has a sector. "
        "Lines are links along geodesics, a sample of them where they are many. Two things must "
        'hold for "hyperbolic": packets that only know places find their way better (greedy '
        "routability), and communities keep to their own sectors more (ASI) than in random "
        "networks with the very same degrees."
    )
    ends = [("end", run.frames[-1], last, rows)]
    if before is not None:
        ends.insert(0, ("start", run.frames[0], first, before))
    most = max(float(network.degree.max()) for _, _, network, _ in ends)
    said, figures = [], []
    for when, step, network, found in ends:
        sentence = f"At the {when}: {verdict(found)}"
        said.append(sentence)
        caption = f"step {step} · {communities_in_disk(network)} communities"
        figures.append((caption, disk(network, sentence, most)))
    drawn = [figure for figure in figures if figure[1]]
    warning = inheritance(run, last.chain.layers)
    body = row(drawn) if drawn else ""
    return Section("In the hyperbolic disk", what, body, " ".join(said), warning)


def _leaf(name: str) -> str:
    return ".".join(name.removesuffix(".weight").split(".")[-2:])
