"""The parts of a report that need the run's files only: learning, living neurons, turnover."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from chts_hf.analysis.links import itop_at_random
from chts_hf.analysis.report.data import RunData
from chts_hf.analysis.report.svg import Axis, Series, bars, chart


@dataclass(frozen=True)
class Section:
    """One part of the page.

    Attributes:
        title: its heading.
        what: what is shown and how to read it.
        body: HTML; empty where the data is missing.
        sees: what one sees in it, computed from the data; where it is missing, what it needs.
    """

    title: str
    what: str
    body: str
    sees: str

    def html(self) -> str:
        """The part as HTML."""
        style = "sees" if self.body else "missing"
        return (
            f"<section><h2>{escape(self.title)}</h2><p class='what'>{escape(self.what)}</p>"
            f"{self.body}<p class='{style}'>{escape(self.sees)}</p></section>"
        )


_NOT_RECORDED = (
    "Not recorded in this run: add TopologyLogger to the Trainer's callbacks, or "
    "--record_topology true to a recipe's options."
)


@dataclass(frozen=True)
class Score:
    """A score that the Trainer logged in its evaluations.

    Attributes:
        name: what it is called on the page.
        steps: the steps of the evaluations.
        values: one each.
        share: whether they are shares of one, to be shown in per cent.
    """

    name: str
    steps: list[float]
    values: list[float]
    share: bool

    @property
    def latest(self) -> str:
        """The last value as the page writes it."""
        return f"{self.values[-1]:.1%}" if self.share else f"{self.values[-1]:.1f}"


def scores(run: RunData) -> list[Score]:
    """The scores that a run logged: BLEU, accuracy.

    Accuracy is logged as a share of one (the package ``evaluate``) or in per cent (the image
    recipe). A run with a value above 1 has it in per cent: no share is.
    """
    found = []
    for key, name, share in (("eval_bleu", "BLEU", False), ("eval_accuracy", "accuracy", True)):
        steps, values = run.series(key)
        if values:
            scale = 100 if share and max(values) > 1 else 1
            found.append(Score(name, steps, [value / scale for value in values], share))
    return found


def row(figures: Sequence[tuple[str, str]]) -> str:
    """Figures side by side: (caption, picture)."""
    shown = "".join(f"<figure><figcaption>{escape(c)}</figcaption>{p}</figure>" for c, p in figures)
    return f'<div class="row">{shown}</div>'


def time_axis(run: RunData) -> Axis:
    """Optimizer steps, from the first to the last of the run: the same in all charts over time."""
    steps = [entry.get("step", 0) for entry in (*run.log, *run.records)]
    return Axis("optimizer step", low=0, high=max(steps, default=0) or None)


def learning(run: RunData) -> Section:
    """Score and loss over time beside density, ITOP rate and ANP."""
    title = "What it learned while it was rewired"
    what = (
        "What the network can do, and over the same steps how many links it has (density), how "
        "many of all possible links it has ever tried (ITOP rate), and how many hidden neurons "
        "carry a signal (ANP)."
    )
    step = time_axis(run)
    figures, said = [], []
    for score in scores(run)[:1]:
        alt = f"{score.name} on validation: {_ends(score.values, score.share)}"
        axis = Axis(score.name, low=0, percent=score.share)
        one = Series("validation", score.steps, score.values, 2)
        caption = f"{score.name[:1].upper()}{score.name[1:]} on validation"
        figures.append((caption, chart([one], step, axis, alt)))
        said.append(f"{score.name} went from {_ends(score.values, score.share)}")
    train, evaluation = run.series("loss"), run.series("eval_loss")
    lines = [
        Series(label, *points, colour, style)
        for label, points, colour, style in (
            ("training", train, None, "line"),
            ("validation", evaluation, 0, "line"),
        )
        if points[0]
    ]
    if lines:
        values = (evaluation if evaluation[0] else train)[1]
        alt = f"loss: {_ends(values)}"
        figures.append(("Loss", chart(lines, step, Axis("nats", low=0), alt)))
        name = "validation loss" if evaluation[0] else "training loss"
        said.append(f"the {name} went from {_ends(values)}")
    density, itop, anp = (
        Series(label, steps, values, colour)
        for label, (steps, values), colour in (
            ("density", _density(run), 0),
            ("ITOP rate", _either(run, "itop_rate"), 1),
            ("ANP", _either(run, "anp"), 2),
        )
    )
    random = _random_itop(run)
    links = [one for one in (density, itop, random) if len(one.y)]
    if links:
        alt = "; ".join(f"{one.label} from {_ends(one.y, True)}" for one in links)
        shares = Axis("share of the weights", low=0, percent=True)
        figures.append(("Links there are, and links ever tried", chart(links, step, shares, alt)))
    if len(anp.y):
        alt = f"ANP from {_ends(anp.y, True)}"
        shares = Axis("share of the hidden neurons", low=0, high=1, percent=True)
        figures.append(("Living neurons", chart([anp], step, shares, alt)))
    if len(density.y):
        said.append(f"with {density.y[-1]:.1%} of the links at the end")
    if len(itop.y):
        beside = f" ({random.y[-1]:.1%} if regrown at random)" if len(random.y) else ""
        said.append(f"{itop.y[-1]:.1%} of all possible links were tried along the way{beside}")
    if len(anp.y):
        said.append(f"living neurons went from {_ends(anp.y, True)}")
    if not figures:
        return Section(title, what, "", "This folder has no log of the training.")
    text = ", ".join(said)
    return Section(title, what, row(figures), text[:1].upper() + text[1:] + ".")


def _density(run: RunData) -> tuple[list[float], list[float]]:
    steps, values = _either(run, "sparsity")
    return steps, [1 - value for value in values]


def _random_itop(run: RunData) -> Series:
    rates = None
    if run.frames and run.records:
        weights = {name: mask.size for name, mask in run.masks(run.frames[0]).items()}
        rates = itop_at_random(run.records, weights)
    steps = [record["step"] for record in run.records] if rates else []
    return Series("ITOP rate at random", steps, rates or [], None, "dashed")


def _either(run: RunData, key: str) -> tuple[list[float], list[float]]:
    recorded = run.recorded(key)
    return recorded if recorded[0] else run.series(f"topology/{key}")


def _ends(values: Sequence[float], share: bool = False) -> str:
    first, last = (f"{v:.1%}" if share else f"{v:.3g}" for v in (values[0], values[-1]))
    return f"{first} to {last}"


def alive_neurons(run: RunData) -> Section:
    """The share of inputs and outputs with links, per layer, at the start and at the end."""
    title = "Neurons alive"
    what = (
        "For each layer, the share of its outputs and of its inputs that have a link in this "
        "layer, in the first masks (grey) and in the last (blue). Where a side lost neurons, the "
        "network has become smaller, not only sparser."
    )
    if not run.frames:
        return Section(title, what, "", _NOT_RECORDED)
    first, last = run.masks(run.frames[0]), run.masks(run.frames[-1])
    rows = []
    for name, mask in last.items():
        for side, axis in (("out", 1), ("in", 0)):
            before, after = (float(m.any(axis=axis).mean()) for m in (first[name], mask))
            rows.append((f"{_short(name)} · {side}", before, after))
    shares = np.array([r[1:] for r in rows])
    emptiest = int(shares[:, 1].argmin())
    sees = (
        f"At the end {shares[:, 1].mean():.1%} of all layer sides' neurons have links "
        f"({shares[:, 0].mean():.1%} at the start); "
        + (
            "no layer has lost any."
            if shares[:, 1].min() == 1
            else f"the fewest are left in {rows[emptiest][0]}: {shares[emptiest, 1]:.1%}."
        )
    )
    most = 32
    if len(rows) > most:  # the sides that changed most tell more than a list without end
        kept = np.sort(np.argsort(-np.abs(shares[:, 0] - shares[:, 1]), kind="stable")[:most])
        rows = [rows[i] for i in kept]
        sees += f" Shown are the {most} of {len(shares)} sides that changed most."
    picture = bars(rows, ("first masks", "last masks"), sees)
    return Section(title, what, f"<figure class='wide'>{picture}</figure>", sees)


def turnover(run: RunData) -> Section:
    """Links replaced at each update, how many come back at once, how many are the first ones."""
    title = "Link turnover"
    what = (
        "Left: how many links each update replaced, and how many of the first links are still "
        "there. Right: the share of removed links that the same update brought back, beside what "
        "regrowth at random would. When it comes near 100 % the topology has settled (an "
        "epitopological local minimum)."
    )
    updates = [r for r in run.records if r.get("update", 0) > 0]
    if not updates:
        return Section(title, what, "", _NOT_RECORDED)
    totals = {
        key: np.array([_sum(c[key] for c in r["layers"].values()) for r in updates])
        for key in ("links", "removed", "overlap", "expected_overlap", "from_start")
    }
    steps = [r["step"] for r in updates]
    replaced = totals["removed"] / totals["links"]
    stayed = totals["from_start"] / totals["links"]
    with np.errstate(invalid="ignore", divide="ignore"):
        back = totals["overlap"] / totals["removed"]
        chance = totals["expected_overlap"] / totals["removed"]
    step, share = time_axis(run), Axis("share of the links", low=0, percent=True)
    of_removed = Axis("share of the removed links", low=0, percent=True)
    moved = [
        Series("removed", steps, replaced.tolist(), 1),
        Series("links of the start", steps, stayed.tolist(), 0),
    ]
    came = [
        Series("came back at once", steps, back.tolist(), 3),
        Series("at random", steps, chance.tolist(), None, "dashed"),
    ]
    moving = np.isfinite(back)
    ratio = np.nanmean(back) / np.nanmean(chance) if moving.any() and np.nanmean(chance) else np.nan
    sees = (
        f"{len(steps)} updates removed {replaced[0]:.0%} of the links at first and "
        f"{replaced[-1]:.0%} at the end"
    )
    sees += (
        f"; {stayed[-1]:.0%} of the links are those of the start."
        if np.isfinite(stayed[-1])
        else "; the first masks were not kept."
    )
    if np.isfinite(ratio):
        sees += (
            f" {back[moving][0]:.0%} of the removed links came back in the first update, "
            f"{back[moving][-1]:.0%} in the last; on average {ratio:.3g} times as many as at "
            "random."
        )
    pictures = [
        ("Links replaced and kept", chart(moved, step, share, sees)),
        ("Removed links that were regrown at once", chart(came, step, of_removed, sees)),
    ]
    return Section(title, what, row(pictures), sees)


def _sum(counts: Iterable[float | None]) -> float:
    """NaN where one was not recorded."""
    return float(sum(np.nan if count is None else count for count in counts))


def _short(name: str) -> str:
    name = name.removesuffix(".weight").removeprefix("model.")
    return name if len(name) <= 44 else "…" + name[-43:]
