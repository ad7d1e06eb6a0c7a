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
        "Left: how many of its links each update removed, those that a falling density costs among "
        "them, and how many of the links are the first ones. Right: the share of removed links "
        "that the same update brought back (overlap), beside what regrowth at random would. An "
        "overlap that stays near 100 % while links are still being removed means that the topology "
        "has settled (an epitopological local minimum). Updates that remove fewer links because "
        "their share is scheduled to fall do not mean that: those that removed fewer than "
        f"{ENOUGH} are left out on the right."
    )
    updates = [r for r in run.records if r.get("update", 0) > 0]
    if not updates:
        return Section(title, what, "", NOT_RECORDED)
    totals = {
        key: np.array([_sum(r, key) for r in updates])
        for key in ("links", "removed", "regrown", "overlap", "expected_overlap", "from_start")
    }
    steps = np.array([r["step"] for r in updates], dtype=np.float64)
    before = totals["links"] - totals["regrown"] + totals["removed"]
    removed, stayed = totals["removed"] / before, totals["from_start"] / totals["links"]
    told = totals["removed"] >= ENOUGH
    back, chance = (
        totals[key][told] / totals["removed"][told] for key in ("overlap", "expected_overlap")
    )
    step, share = time_axis(run), Axis("share of the links", low=0, percent=True)
    of_removed = Axis("share of the removed links", low=0, percent=True)
    moved = [
        Series("removed", steps.tolist(), removed.tolist(), 1),
        Series("links of the start", steps.tolist(), stayed.tolist(), 0),
    ]
    came = [
        Series("came back at once", steps[told].tolist(), back.tolist(), 3),
        Series("at random", steps[told].tolist(), chance.tolist(), None, "dashed"),
    ]
    why = _why(before[0], totals["links"][0], totals["regrown"][0], run.config)
    pace = _pace(removed, stayed, why)
    overlap = _overlap(steps[told], back, chance, totals["regrown"])
    pictures = [
        ("Links removed and kept", chart(moved, step, share, pace)),
        ("Removed links that were regrown at once", chart(came, step, of_removed, overlap)),
    ]
    return Section(title, what, row(pictures if told.any() else pictures[:1]), f"{pace} {overlap}")


def _why(before: float, links: float, regrown: float, config: Mapping[str, Any]) -> str:
    """Why an update removed more links than ζ says, in brackets; empty where it did not."""
    zeta = config.get("zeta")
    why = []
    if before > links:
        why.append(f"{(before - links) / before:.0%} for good, as the density fell")
    # Layers differ, and links whose neuron died on the other side go with it.
    if zeta is not None and config.get("percolation") and regrown > 1.02 * zeta * links:
        why.append(
            f"ζ = {zeta:.0%} chosen by weight, and with them all links of neurons that were left "
            "without any on one side: percolation"
        )
    return f" ({'; '.join(why)})" if why else ""


def _pace(removed: Floats, stayed: Floats, why: str) -> str:
    first = (
        f"{stayed[-1]:.0%} of the links are those of the start"
        if np.isfinite(stayed[-1])
        else "the first masks were not kept"
    )
    return (
        f"{len(removed)} updates removed {removed[0]:.0%} of the links at first{why} and "
        f"{removed[-1]:.0%} at the end; {first}."
    )


def _overlap(steps: Floats, back: Floats, chance: Floats, regrown: Floats) -> str:
    if not len(steps):
        return f"No update removed {ENOUGH} links or more: how many came back says nothing."
    if not regrown.any():
        return "No update regrew a link."
    ratio = back.sum() / chance.sum() if chance.sum() else np.nan
    beside = f"; on average {ratio:.3g} times as many as at random" if np.isfinite(ratio) else ""
    said = (
        f"Of the removed links {back[0]:.0%} came back at once at step {steps[0]:.0f}, and "
        f"{back[-1]:.0%} at step {steps[-1]:.0f}{beside}."
    )
    if back[-1] >= 0.9:
        said += " The topology has settled."
    elif regrown[-1] < 0.1 * regrown[0]:
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
