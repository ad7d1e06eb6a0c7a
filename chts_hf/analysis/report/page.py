"""The page itself: one HTML file with everything in it."""

from __future__ import annotations

from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from chts_hf.analysis.graph import Network
from chts_hf.analysis.measures import MEASURES, analyse
from chts_hf.analysis.report import measured, network_sections, sections
from chts_hf.analysis.report.data import RunData, read_run
from chts_hf.analysis.report.sections import Section
from chts_hf.analysis.report.turnover import turnover


def write_report(
    folder: str | Path,
    output: str | Path | None = None,
    chain: str | None = None,
    nulls: int = 19,
    seed: int = 0,
) -> Path:
    """Write the report of a run.

    Args:
        folder: the run's output folder, or a checkpoint.
        output: the page; by default ``report.html`` in the folder.
        chain: the chain of layers to measure; by default the one with the most weights.
        nulls: random networks per null model; a verdict on hyperbolicity needs 19.
        seed: of all random choices.

    Returns:
        The page's path.

    Raises:
        ValueError: the folder holds nothing to show, or no such chain.
    """
    run = read_run(folder)
    page = render(run, chain, nulls, seed)
    path = Path(output) if output is not None else Path(folder) / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def render(run: RunData, chain: str | None, nulls: int, seed: int) -> str:
    """The page's HTML; see :func:`write_report`."""
    parts = [sections.learning(run)]
    if run.frames:
        parts += _of_network(run, chain, nulls, seed)
    else:
        missing = (
            "This run kept no masks: add TopologyLogger to the Trainer's callbacks, or save "
            "checkpoints."
        )
        parts.append(Section("The masks, from start to end", "", "", missing))
    parts += [sections.alive_neurons(run), turnover(run)]
    here = resources.files("chts_hf.analysis.report")
    style, script = (
        (here / name).read_text(encoding="utf-8") for name in ("report.css", "report.js")
    )
    title = f"{run.name}: what the network became"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<main>
<header>
<h1>{escape(title)}</h1>
<p class="lead">{escape(_lead(run))}</p>
<div class="tiles">{_tiles(run)}</div>
</header>
{"".join(part.html() for part in parts)}
<footer>Written by <code>chts-hf report</code>. The measures and their sources: docs/analysis.md of
chts_hf. Random choices have the seed {seed}.</footer>
</main>
<script>
{script}</script>
</body>
</html>
"""


def _of_network(run: RunData, chain: str | None, nulls: int, seed: int) -> list[Section]:
    first, last = (run.chain(step, chain) for step in (run.frames[0], run.frames[-1]))
    networks = Network(first, seed), Network(last, seed)
    rows = analyse(last, tuple(MEASURES), nulls, seed)
    before = measured.at_start(first, nulls, seed) if len(run.frames) > 1 else None
    disks = network_sections.disks(run, *networks, rows, before)
    return [
        network_sections.mask_images(run, last, networks[1]),
        network_sections.degree_distributions(first, last, seed),
        disks,
        measured.table(rows, before, last, "" if disks.body else disks.warning),
    ]


def _lead(run: RunData) -> str:
    method = run.config.get("method") or run.results.get("method")
    said = [f"Trained with {method}" if method else "A sparse network"]
    if run.results.get("dataset"):
        said.append(f"on {run.results['dataset']}")
    steps = run.results.get("steps") or max((e.get("step", 0) for e in run.log), default=0)
    if steps:
        said.append(f"for {steps:,} steps")
    return " ".join(said) + ". Every sentence and number below is computed from the run's files."


def _tiles(run: RunData) -> str:
    tiles: list[tuple[str, Any]] = []
    for score in sections.scores(run):
        if score.tested is not None:
            tiles.append((f"{score.name} on the test set", score.shown(score.tested)))
        if score.values:
            tiles.append((f"{score.name} on validation", score.shown(score.values[-1])))
    if run.frames:
        masks = run.masks(run.frames[-1]).values()
        links = sum(int(np.count_nonzero(mask)) for mask in masks)
        weights = sum(mask.size for mask in masks)
        tiles.append((f"links, of {weights:,} weights", f"{links:,}"))
        tiles.append(("density", f"{links / weights:.2%}"))
    for key, name in (
        ("itop_rate", "of all possible links tried (ITOP)"),
        ("anp", "of the model's hidden neurons alive (ANP)"),
    ):
        values = run.recorded(key)[1] or run.series(f"topology/{key}")[1]
        if values:
            tiles.append((name, f"{values[-1]:.1%}"))
    if run.records:
        tiles.append(("topology updates", f"{run.records[-1]['update']:,}"))
    return "".join(
        f'<div class="tile"><b>{escape(str(value))}</b><span>{escape(name)}</span></div>'
        for name, value in tiles
    )
