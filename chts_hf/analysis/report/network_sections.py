"""The parts of a report that measure one chain of layers: degrees, disk, masks, table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

import numpy as np

from chts_hf.analysis.degrees import ccdf, degrees, fit_power_law
from chts_hf.analysis.graph import Network
from chts_hf.analysis.measures import MEASURES, Comparison, Row, Verdict, judge
from chts_hf.analysis.network import Chain, Ints, Mask
from chts_hf.analysis.nulls import erdos_renyi
from chts_hf.analysis.report.data import RunData
from chts_hf.analysis.report.disk import disk
from chts_hf.analysis.report.masks import mask_data
from chts_hf.analysis.report.sections import Section, row
from chts_hf.analysis.report.svg import Axis, Series, chart, number, with_error

#: Layers of a chain whose degrees are drawn, from its first on.
MOST_DEGREES = 3


def mask_images(run: RunData, chain: Chain, last: Network) -> Section:
    """Masks from start to end behind a slider."""
    data = mask_data(run, list(chain.layers), angle_orders(last))
    text = json.dumps(data).replace("<", "\\u003c")  # nothing in it may end the element
    options = "".join(f"<option>{escape(layer['name'])}</option>" for layer in data["layers"])
    body = f"""
<div class="controls">
  <label>layer <select id="layer">{options}</select></label>
  <button id="play" type="button">▶ play</button>
  <input id="step" type="range" min="0" max="{len(run.frames) - 1}" value="0" step="1"
    aria-label="training step">
  <output id="shown" for="step"></output>
  <label><input id="order" type="checkbox"> neurons in the order of the disk</label>
</div>
<canvas id="mask" role="img"></canvas>
<p class="key"><span><i style="background:var(--c0)"></i>link of the first masks</span>
<span><i style="background:var(--c1)"></i>new since then</span><span id="mask-caption"></span></p>
<script type="application/json" id="mask-data">{text}</script>"""
    first, end = run.masks(run.frames[0]), run.masks(run.frames[-1])
    shares = {
        name: np.count_nonzero(end[name] & first[name]) / max(int(np.count_nonzero(end[name])), 1)
        for name in end
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
        "first masks to the last. In the order of the disk, neurons that the network itself "
        "places side by side stand side by side: structure shows as a band."
    )
    return Section("The masks, from start to end", what, body, sees)


def angle_orders(network: Network) -> dict[str, tuple[Ints, Ints]]:
    """Layer → order of its rows and of its columns by angle; neurons not in the disk come last."""
    angle = np.full(len(network.degree), np.inf)
    if network.embedding is not None:
        angle[network.embedding.nodes] = network.embedding.angle
    levels = [
        np.argsort(angle[network.chain.levels == level], kind="stable")
        for level in range(len(network.chain.sizes))
    ]
    return {name: (levels[i + 1], levels[i]) for i, name in enumerate(network.chain.layers)}


def degree_distributions(first: Chain, last: Chain, seed: int) -> Section:
    """Degrees of both sides of each layer on log-log axes, with the fit and a random mask."""
    title = "Who has how many links"
    what = (
        "The share of neurons with at least so many links, on logarithmic axes. A straight line is "
        "a power law: few hubs, many neurons with few links. The grey dashes are a random mask "
        "with as many links."
    )
    figures, said = [], []
    rng = np.random.default_rng([seed, 8])
    sides = [(i, side) for i in range(min(MOST_DEGREES, len(last.masks))) for side in (0, 1)]
    plausible = 0
    for index, side in sides:
        label = f"{_leaf(last.layers[index])}: {('outputs', 'inputs')[side]}"
        now, before, random = (
            degrees(mask)[side]
            for mask in (last.masks[index], first.masks[index], erdos_renyi(last.masks[index], rng))
        )
        law = fit_power_law(now, rng)
        series = [
            Series("random", *_points(random), None, "dashed"),
            Series("start", *_points(before), 5, "points"),
            Series("end", *_points(now), 1, "points"),
        ]
        if law is not None:
            plausible += law.plausible
            k = np.array([law.k_min, max(now.max(), law.k_min + 1)], dtype=float)
            share = law.tail / max(int(np.count_nonzero(now)), 1)
            fit = share * (k / law.k_min) ** (1 - law.exponent)
            series.append(Series(f"fit, γ = {law.exponent:.2f}", k.tolist(), fit.tolist(), 0))
            said.append(
                f"{label}: γ = {law.exponent:.2f} ± {law.error:.2f} from {law.k_min} links on "
                f"({law.tail} neurons, {_p(law.p)}): {law.verdict}"
            )
        else:
            said.append(f"{label}: too few different degrees for a fit")
        low = 0.5 / max(len(now), 1)
        alt = said[-1]
        picture = chart(
            series,
            Axis("links k", log=True),
            Axis("neurons with ≥ k", log=True, low=low, high=1),
            alt,
        )
        figures.append((label, picture))
    sees = f"A power law is plausible on {plausible} of {len(sides)} sides. {'; '.join(said)}."
    return Section(title, what, row(figures), sees)


def _p(share: float) -> str:
    return f"p = {share:.2f}" if share >= 0.005 else "p < 0.01"


def _points(degree: Ints) -> tuple[list[float], list[float]]:
    k, share = ccdf(degree)
    return k.astype(float).tolist(), share.tolist()


def disks(
    run: RunData, first: Network, last: Network, rows: Sequence[Row], before: Sequence[Row]
) -> Section:
    """The network in the hyperbolic disk at the start and at the end, and the verdict."""
    what = (
        f"The layers {last.chain.name} as one network, placed by its links alone (coalescent "
        "embedding): neurons with many links lie near the centre, those that share partners at "
        "nearby angles. Colours are communities, the six largest ones; lines are links along "
        'geodesics, a sample of them where they are many. Two things must hold for "hyperbolic": '
        "packets that only know places find their way better (greedy routability), and communities "
        "keep to their own sectors more (ASI) than in random networks with the very same degrees."
    )
    said, figures = [], []
    for when, network, found in (("start", first, before), ("end", last, rows)):
        verdict = judge(found)
        sentence = f"At the {when}: " + _verdict(verdict, found)
        said.append(sentence)
        figures.append(
            (f"step {run.frames[0 if when == 'start' else -1]}", disk(network, sentence))
        )
    if len(run.frames) == 1:
        figures, said = figures[1:], said[1:]
    drawn = [figure for figure in figures if figure[1]]
    return Section("In the hyperbolic disk", what, row(drawn) if drawn else "", " ".join(said))


def _verdict(verdict: Verdict | None, rows: Sequence[Row]) -> str:
    if verdict is None:
        return "not tested, too few of its links hang together."
    nulls = next(len(r.nulls["degrees"].values) for r in rows if "degrees" in r.nulls)
    numbers = (
        f"GR-score {verdict.routability[0]:.2f} (rewired {verdict.routability[1]:.2f}), ASI "
        f"{verdict.separation[0]:.2f} (rewired {verdict.separation[1]:.2f}), p = {verdict.p:.2g} "
        f"with {nulls} rewired networks"
    )
    if 1 / (nulls + 1) > 0.05 + 1e-12:
        return f"{numbers}: too few rewired networks for a verdict."
    decision = "hyperbolic" if verdict.hyperbolic else "not hyperbolic"
    return f"{decision} beyond its degrees, {numbers}."


def table(rows: Sequence[Row], chain: Chain) -> Section:
    """All measures beside the null models."""
    what = (
        f"The layers {chain.name} at the end, beside random networks of the same density "
        "(Erdős–Rényi) and of the same degrees (rewired): mean ± standard deviation over them, and "
        "p, the share of networks at least as far out, in bold from 0.05 down. A ± behind the "
        "value is the standard error of sampled nodes or of a fit; modularity and angular "
        "separation are single draws of the seed."
    )
    lines = []
    for one in rows:
        summary = (
            MEASURES[one.measure].summary
            if one.measure in MEASURES
            else "clustering over path length, against the null model's"
        )
        cells = "".join(_cells(one.nulls.get(model)) for model in ("er", "degrees"))
        lines.append(
            f"<tr><td>{escape(_name(one.measure))}<small>{escape(summary)}</small></td>"
            f"<td>{with_error(one.value, one.error)}</td>{cells}</tr>"
        )
    body = (
        "<div class='scroll'><table><thead><tr><th>measure</th><th>this network</th>"
        "<th>same density</th><th>p</th><th>same degrees</th><th>p</th></tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )
    return Section("Measured against chance", what, body, _conclusion(rows))


def _cells(comparison: Comparison | None) -> str:
    if comparison is None:
        return "<td>–</td><td>–</td>"
    if comparison.p is None:
        return f"<td>{number(comparison.mean)}</td><td>same</td>"
    far = " class='far'" if comparison.p <= 0.05 + 1e-12 else ""
    return (
        f"<td>{with_error(comparison.mean, comparison.deviation)}</td>"
        f"<td{far}>{comparison.p:.2g}</td>"
    )


def _conclusion(rows: Sequence[Row]) -> str:
    beyond = [
        f"{'more' if r.value > r.nulls['degrees'].mean else 'less'} {_ADJECTIVES[r.measure]}"
        for r in rows
        if r.measure in _ADJECTIVES
        and "degrees" in r.nulls
        and r.nulls["degrees"].p is not None
        and r.nulls["degrees"].p <= 0.05 + 1e-12
    ]
    nulls = max((len(r.nulls["degrees"].values) for r in rows if "degrees" in r.nulls), default=0)
    if 1 / (nulls + 1) > 0.05 + 1e-12:
        return f"{nulls} random networks are too few to tell chance from structure; 19 are enough."
    if not beyond:
        return "No measure differs from what the degrees alone explain, at p ≤ 0.05."
    return f"Beyond what its degrees explain, the network is {', '.join(beyond)} (p ≤ 0.05 each)."


_ADJECTIVES = {
    "clustering": "clustered",
    "path_length": "spread out (long paths)",
    "modularity": "modular",
    "hub_paths": "channelled through hubs",
    "greedy_routability": "navigable in the disk",
    "angular_separation": "separated by angle",
    "small_world": "small-world",
}


def _name(measure: str) -> str:
    return "ANP" if measure == "anp" else measure.replace("_", " ")


def _leaf(name: str) -> str:
    return ".".join(name.removesuffix(".weight").split(".")[-2:])


__all__ = ["Mask", "degree_distributions", "disks", "mask_images", "table"]
