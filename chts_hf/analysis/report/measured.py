"""The measures at the start and at the end beside random networks', and what changed between."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html import escape

from chts_hf.analysis.measures import HYPERBOLIC, MEASURES, Row, analyse, judge
from chts_hf.analysis.network import Chain
from chts_hf.analysis.report.data import RunData
from chts_hf.analysis.report.sections import Section
from chts_hf.analysis.report.svg import number, with_error
from chts_hf.config import CHTsConfig

_LEVEL = 0.05 + 1e-12
#: What first masks of these kinds have from the beginning; other kinds are drawn at random.
_GIVEN = {
    "brf": "a ring of receptive fields (BRF): clustered, modular and with a geometry",
    "bsw": "a small world on a ring (BSW): clustered, modular and with a geometry",
    "bsf": "scale-free (BSF): with hubs",
    "csti": "made of correlated inputs (CSTI): with the data's clusters",
    "magnitude": "made of the largest weights of a dense model: with its structure",
    "relative_importance": "made of the weightiest links of a dense model: with its structure",
    "model": "those of the model that the run began with: with its structure",
}


def at_start(chain: Chain, nulls: int, seed: int) -> list[Row]:
    """Rows of the first masks: beside networks of the same degrees, and small-worldness.

    Random networks of the same density would double the time and tell nothing more of the start;
    small-worldness alone is measured against them, as at the end.
    """
    rows = {row.measure: row for row in analyse(chain, tuple(MEASURES), nulls, seed, ("degrees",))}
    ratio = analyse(chain, ("clustering", "path_length"), nulls, seed, ("er",))
    of_degrees = rows.pop("small_world", None)
    for row in ratio:
        if row.measure == "small_world" and of_degrees is not None:
            rows["small_world"] = replace(row, nulls=of_degrees.nulls)
    return list(rows.values())


def inheritance(run: RunData, layers: Sequence[str]) -> str:
    """A warning where the first masks were not random; empty where they were."""
    kinds = _first_kinds(run, layers)
    if not kinds:
        return (
            "How the first masks were drawn is not recorded: what the network has at the end may "
            "be left over from them."
        )
    given = [_GIVEN[kind] for kind in kinds if kind in _GIVEN]
    if not given:
        return ""
    return (
        f"The first masks were not random, but {'; others '.join(given)}. What was there at the "
        "start is inherited, and what is new may have grown out of it. Whether such structure "
        "emerges by itself only a run from random first masks can show (init: er)."
    )


def _first_kinds(run: RunData, layers: Sequence[str]) -> list[str]:
    try:
        config = CHTsConfig.from_saved(run.config) if run.config else None
    except ValueError:  # of another version
        config = None
    if config is None:
        return []
    return list(dict.fromkeys(config.for_layer(layer).init for layer in layers))


def verdict(rows: Sequence[Row]) -> str:
    """Whether a network is hyperbolic, with the table's numbers."""
    found = judge(rows)
    if found is None:
        return "not tested, too few of its links hang together."
    parts = [row for row in rows if row.measure in HYPERBOLIC]
    nulls = len(parts[0].nulls["degrees"].values)
    numbers = ", ".join(
        f"{name} {with_error(row.value, row.error)} (rewired "
        f"{with_error(row.nulls['degrees'].mean, row.nulls['degrees'].deviation)}, one-sided p = "
        f"{found.parts[row.measure]:.2g})"
        for name, row in zip(("GR-score", "ASI"), parts, strict=True)
    )
    if 1 / (nulls + 1) > _LEVEL:
        return f"{numbers}: {nulls} rewired networks are too few for a verdict."
    decision = "hyperbolic" if found.hyperbolic else "not hyperbolic"
    return f"{decision} beyond its degrees, {numbers}."


def table(
    rows: Sequence[Row], before: Sequence[Row] | None, chain: Chain, warning: str = ""
) -> Section:
    """All measures beside the null models', at the end and, if there is one, at the start.

    Args:
        rows: at the end, as of :func:`chts_hf.analysis.analyse` with both null models.
        before: at the start, as of :func:`at_start`; None where masks of one step are known.
        chain: the layers.
        warning: of :func:`inheritance`, where the page does not have it elsewhere.
    """
    what = (
        f"The layers {chain.name}, beside random networks of the same density (Erdős–Rényi) and of "
        "the same degrees (rewired): mean ± standard deviation over them, and p, the share of "
        "networks at least as far out, in bold from 0.05 down; one-sided p count only larger "
        "values as far. A ± behind the network's value is the standard error of sampled nodes or "
        "of a fit; modularity and angular separation are single draws of the seed. Small-world "
        "values are against the same density; each p is of the ratio to its own random networks."
    )
    start = {row.measure: row for row in before or ()}
    measures = [*(row.measure for row in rows), *(m for m in start if not _row(rows, m))]
    lines = []
    for measure in measures:
        cells = _cells(start.get(measure), ("degrees",)) if before is not None else ""
        cells += _cells(_row(rows, measure), ("er", "degrees"))
        lines.append(
            f"<tr><th scope='row'>{escape(_NAMES.get(measure, measure.replace('_', ' ')))}"
            f"<small>{escape(_summary(measure))}</small></th>{cells}</tr>"
        )
    heads = "<th scope='col' class='side'>network</th>"
    degrees, density = (
        f"<th scope='col'>{name}</th><th scope='col'>p</th>"
        for name in ("same degrees", "same density")
    )
    groups = "<th colspan='3' scope='colgroup' class='side'>at the start</th>"
    groups += "<th colspan='5' scope='colgroup' class='side'>at the end</th>"
    ends = f"{heads}{degrees}{heads}{density}{degrees}"
    head = f"<tr><td></td>{groups}</tr><tr><th scope='col'>measure</th>{ends}</tr>"
    if before is None:
        head = f"<tr><th scope='col'>measure</th>{heads}{density}{degrees}</tr>"
    body = (
        f"<div class='scroll'><table class='measures'><thead>{head}</thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )
    return Section("Measured against chance", what, body, conclusion(rows, before), warning)


def _row(rows: Sequence[Row], measure: str) -> Row | None:
    return next((row for row in rows if row.measure == measure), None)


def _summary(measure: str) -> str:
    if measure in MEASURES:
        return MEASURES[measure].summary
    return "clustering over path length, against the null model's"


def _cells(row: Row | None, models: Sequence[str]) -> str:
    if row is None:
        return "<td class='side'>–</td>" + "<td>–</td><td>–</td>" * len(models)
    cells = f"<td class='side'>{_stacked(row.value, row.error)}</td>"
    for model in models:
        cells += _beside(row, model)
    return cells


def _beside(row: Row, model: str) -> str:
    if model not in row.nulls:
        return "<td>–</td><td>–</td>"
    random, p = row.nulls[model], row.p(model)
    if p is None or random.p is None:
        return f"<td>{number(random.mean)}</td><td>same</td>"
    far = " class='far'" if p <= _LEVEL else ""
    side = "<small>one-sided</small>" if row.one_sided else ""
    return f"<td>{_stacked(random.mean, random.deviation)}</td><td{far}>{p:.2g}{side}</td>"


def _stacked(value: float, error: float) -> str:
    """A number with its ± below it."""
    shown, _, below = with_error(value, error).partition(" ")
    return f"{shown} <small>{below}</small>" if below else shown


def conclusion(rows: Sequence[Row], before: Sequence[Row] | None) -> str:
    """What the network is beyond its degrees, and which of it training brought or took."""
    nulls = max((len(r.nulls["degrees"].values) for r in rows if "degrees" in r.nulls), default=0)
    if 1 / (nulls + 1) > _LEVEL:
        return f"{nulls} random networks are too few to tell chance from structure; 19 are enough."
    end = {row.measure: row for row in rows if row.measure in _ADJECTIVES}
    if before is None:
        said = [_adjective(row) for row in end.values() if _side(row)]
        if not said:
            return "No measure differs from what the degrees alone explain, at p ≤ 0.05."
        return f"Beyond what its degrees explain, the network is {_list(said)} (p ≤ 0.05 each)."
    start = {row.measure: row for row in before if row.measure in _ADJECTIVES}
    both = [name for name in end if name in start]
    kept, new, gone = (
        [name for name in both if fate(_side(start[name]), _side(end[name]))] for fate in _FATES
    )
    if not kept + new + gone:
        return "Neither end differs from what its degrees alone explain, at p ≤ 0.05."
    changes = {name: f" ({number(start[name].value)} → {number(end[name].value)})" for name in both}
    said = []
    if kept:
        what = _list([_adjective(end[name]) + changes[name] for name in kept])
        nearer = [name for name in kept if _apart(end[name]) < _apart(start[name])]
        said.append(f"the network is {what} at both ends{_nearer(nearer, kept)}.")
    if new:
        what = _list([_adjective(end[name]) + changes[name] for name in new])
        said.append(f"New since the start, it is {what}.")
    else:
        said.append("Nothing is new since the start.")
    if gone:
        what = _list([_adjective(start[name]) + changes[name] for name in gone])
        said.append(f"At the start it was {what}, and no longer is.")
    text = " ".join(said)
    return f"Beyond what its degrees explain (p ≤ 0.05 each), {text[:1].lower()}{text[1:]}"


def _apart(row: Row) -> float:
    return abs(row.value - row.nulls["degrees"].mean)


def _nearer(nearer: Sequence[str], kept: Sequence[str]) -> str:
    if len(nearer) == len(kept):
        return ", but nearer to chance than at the start: training lost some of it"
    if not nearer:
        return ", and farther from chance than at the start"
    names = _list([name.replace("_", " ") for name in nearer])
    return f"; nearer to chance than at the start: {names}"


#: Which side of the random networks a measure is on at the start and at the end: kept, new, gone.
_FATES: tuple[Callable[[int, int], bool], ...] = (
    lambda start, end: start == end != 0,
    lambda start, end: start != end != 0,
    lambda start, end: start != 0 == end,
)


def _side(row: Row) -> int:
    """1 above the networks of the same degrees, -1 below them, 0 where chance may explain it."""
    p = row.p("degrees") if "degrees" in row.nulls else None
    if p is None or p > _LEVEL:
        return 0
    return 1 if row.value > row.nulls["degrees"].mean else -1


def _adjective(row: Row) -> str:
    return f"{'more' if _side(row) > 0 else 'less'} {_ADJECTIVES[row.measure]}"


def _list(said: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(said[:-1]), said[-1]]))


# Small-worldness is the quotient of two that are here.
_ADJECTIVES: Mapping[str, str] = {
    "clustering": "clustered",
    "path_length": "spread out (long paths)",
    "modularity": "modular",
    "hub_paths": "channelled through hubs",
    "greedy_routability": "navigable in the disk",
    "angular_separation": "separated by angle",
}
_NAMES = {"anp": "living neurons between"}
