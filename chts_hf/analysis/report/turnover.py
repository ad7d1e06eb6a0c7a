"""The part of a report about links that updates remove and bring back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from chts_hf.analysis.network import Floats
from chts_hf.analysis.report.data import RunData
from chts_hf.analysis.report.sections import NOT_RECORDED, Section, row, time_axis
from chts_hf.analysis.report.svg import Axis, Series, chart

#: Of fewer removed links, the share that came back is mostly chance.
ENOUGH = 30


def turnover(run: RunData) -> Section:
    """Links replaced at each update, how many come back at once, how many are the first ones."""
    title = "Link turnover"
    what = (
        "Left: how many links each update replaced, and how many of the first links are still "
        "there. Right: the share of removed links that the same update brought back (overlap), "
        "beside what regrowth at random would. An overlap that stays near 100 % while links are "
        "still being removed means that the topology has settled (an epitopological local "
        "minimum). Updates that remove fewer links because their share is scheduled to fall do "
        f"not mean that: those that removed fewer than {ENOUGH} are left out on the right."
    )
    updates = [r for r in run.records if r.get("update", 0) > 0]
    if not updates:
        return Section(title, what, "", NOT_RECORDED)
    totals = {
        key: np.array([_sum(r, key) for r in updates])
        for key in ("links", "removed", "overlap", "expected_overlap", "from_start")
    }
    steps = np.array([r["step"] for r in updates], dtype=np.float64)
    replaced, stayed = totals["removed"] / totals["links"], totals["from_start"] / totals["links"]
    told = totals["removed"] >= ENOUGH
    back, chance = (
        totals[key][told] / totals["removed"][told] for key in ("overlap", "expected_overlap")
    )
    step, share = time_axis(run), Axis("share of the links", low=0, percent=True)
    of_removed = Axis("share of the removed links", low=0, percent=True)
    moved = [
        Series("removed", steps.tolist(), replaced.tolist(), 1),
        Series("links of the start", steps.tolist(), stayed.tolist(), 0),
    ]
    came = [
        Series("came back at once", steps[told].tolist(), back.tolist(), 3),
        Series("at random", steps[told].tolist(), chance.tolist(), None, "dashed"),
    ]
    pace = _pace(replaced, stayed, run.config)
    overlap = _overlap(steps[told], back, chance, totals["removed"])
    pictures = [
        ("Links replaced and kept", chart(moved, step, share, pace)),
        ("Removed links that were regrown at once", chart(came, step, of_removed, overlap)),
    ]
    return Section(title, what, row(pictures if told.any() else pictures[:1]), f"{pace} {overlap}")


def _pace(replaced: Floats, stayed: Floats, config: Mapping[str, Any]) -> str:
    zeta = config.get("zeta")
    more = zeta is not None and config.get("percolation") and replaced[0] > 1.02 * zeta
    # Layers differ, and links whose neuron died on the other side go with it.
    why = (
        f" (ζ = {zeta:.0%} chosen by weight, and with them all links of neurons that were left "
        "without any on one side: percolation)"
        if more
        else ""
    )
    first = (
        f"{stayed[-1]:.0%} of the links are those of the start"
        if np.isfinite(stayed[-1])
        else "the first masks were not kept"
    )
    return (
        f"{len(replaced)} updates removed {replaced[0]:.0%} of the links at first{why} and "
        f"{replaced[-1]:.0%} at the end; {first}."
    )


def _overlap(steps: Floats, back: Floats, chance: Floats, removed: Floats) -> str:
    if not len(steps):
        return f"No update removed {ENOUGH} links or more: how many came back says nothing."
    ratio = back.sum() / chance.sum() if chance.sum() else np.nan
    beside = f"; on average {ratio:.3g} times as many as at random" if np.isfinite(ratio) else ""
    said = (
        f"Of the removed links {back[0]:.0%} came back at once at step {steps[0]:.0f}, and "
        f"{back[-1]:.0%} at step {steps[-1]:.0f}{beside}."
    )
    if back[-1] >= 0.9:
        said += " The topology has settled."
    elif removed[-1] < 0.1 * removed[0]:
        said += (
            " The schedule, not a settled topology, ended the rewiring: the last updates removed "
            "few links, and most of those did not come back."
        )
    else:
        said += " The topology had not settled when the rewiring ended."
    return said


def _sum(record: Mapping[str, Any], key: str) -> float:
    """Over all layers; NaN where one was not recorded."""
    counts = [layer[key] for layer in record["layers"].values()]
    return float(sum(np.nan if count is None else count for count in counts))
