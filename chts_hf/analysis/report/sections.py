"""The parts of a report that need the run's files only: learning, living neurons, turnover."""

from __future__ import annotations

from collections.abc import Sequence
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
        warning: what must not be concluded from it; empty if nothing.
    """

    title: str
    what: str
    body: str
    sees: str
    warning: str = ""

    def html(self) -> str:
        """The part as HTML."""
        style = "sees" if self.body else "missing"
        warning = (
            f"<p class='warning'><strong>Mind:</strong> {escape(self.warning)}</p>"
            if self.warning and self.body
            else ""
        )
        return (
            f"<section><h2>{escape(self.title)}</h2><p class='what'>{escape(self.what)}</p>"
            f"{self.body}<p class='{style}'>{escape(self.sees)}</p>{warning}</section>"
        )


NOT_RECORDED = (
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
        tested: of the test set; None if it was not tested.
        share: whether they are shares of one, to be shown in per cent.
    """

    name: str
    steps: list[float]
    values: list[float]
    tested: float | None
    share: bool

    def shown(self, value: float) -> str:
        """A value as the page writes it."""
        return f"{value:.1%}" if self.share else f"{value:.1f}"

    @property
    def axis(self) -> Axis:
        """From zero, unless that would flatten what there is to see."""
        narrow = min(self.values) > max(self.values) / 2
        return Axis(self.name, low=None if narrow else 0, percent=self.share)


def scores(run: RunData) -> list[Score]:
    """The scores that a run logged: BLEU, accuracy.

    Accuracy is logged as a share of one (the package ``evaluate``) or in per cent (the image
    recipe). A run with a value above 1 has it in per cent: no share is.
    """
    found = []
    for key, name, share in (("bleu", "BLEU", False), ("accuracy", "accuracy", True)):
        steps, values = run.series(f"eval_{key}")
        tested = run.results.get(f"predict_{key}")
        if values or tested is not None:
            highest = max([*values, tested or 0])
            scale = 100 if share and highest > 1 else 1
            values = [value / scale for value in values]
            found.append(
                Score(name, steps, values, None if tested is None else tested / scale, share)
            )
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
        "many of all possible links it has ever tried (ITOP rate), and how many of the model's "
        "hidden neurons carry a signal (ANP): those with links on both sides, or on one where the "
        "other is a dense layer."
    )
    step = time_axis(run)
    figures, said = [], []
    for score in [score for score in scores(run) if score.values][:1]:
        alt = f"{score.name} on validation: {_ends(score.values, score.share)}"
        one = Series("validation", score.steps, score.values, 2)
        caption = f"{score.name[:1].upper()}{score.name[1:]} on validation"
        if score.axis.low is None:
            caption += " (the axis does not begin at 0)"
        figures.append((caption, chart([one], step, score.axis, alt)))
        said.append(f"{score.name} on validation went from {_ends(score.values, score.share)}")
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
        said.append(f"living hidden neurons (ANP) went from {_ends(anp.y, True)}")
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
        "layer, in the first masks (grey) and in the last (blue); a hidden neuron is an output of "
        "one layer and an input of the next. Where a side lost neurons, the network has become "
        "smaller, not only sparser."
    )
    if not run.frames:
        return Section(title, what, "", NOT_RECORDED)
    first, last = run.masks(run.frames[0]), run.masks(run.frames[-1])
    rows = []
    for name, mask in last.items():
        for side, axis in (("out", 1), ("in", 0)):
            before, after = (float(m.any(axis=axis).mean()) for m in (first[name], mask))
            rows.append((f"{_short(name)} · {side}", before, after))
    shares = np.array([r[1:] for r in rows])
    emptiest = int(shares[:, 1].argmin())
    lost = int(np.count_nonzero(shares[:, 1] < shares[:, 0]))
    sees = (
        "No side of a layer has lost a neuron."
        if lost == 0
        else f"{lost} of {len(rows)} sides lost neurons; the fewest are left in "
        f"{rows[emptiest][0]}: {shares[emptiest, 1]:.1%} ({shares[emptiest, 0]:.1%} at the start)."
    )
    most = 32
    if len(rows) > most:  # the sides that changed most tell more than a list without end
        kept = np.sort(np.argsort(-np.abs(shares[:, 0] - shares[:, 1]), kind="stable")[:most])
        rows = [rows[i] for i in kept]
        sees += f" Shown are the {most} of {len(shares)} sides that changed most."
    picture = bars(rows, ("first masks", "last masks"), sees)
    return Section(title, what, f"<figure class='wide'>{picture}</figure>", sees)


def _short(name: str) -> str:
    name = name.removesuffix(".weight").removeprefix("model.")
    return name if len(name) <= 44 else "…" + name[-43:]
