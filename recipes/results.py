#!/usr/bin/env python
"""Write docs/results.md from the runs' JSON files, so that no number in it is typed by hand.

    python recipes/results.py                         # docs/results/ -> docs/results.md, README.md

The folder holds `all_results.json` files of `recipes/translation.py` and
`recipes/image_classification.py` under any names, and the records of `recipes/compare.py` in
folders named after their settings. Runs of one setting are one table; runs that differ only in
their seed are one row, and others that would be are refused. A comparison has its tests, pictures
and a list of missing runs too. Pages that have a mark for a table get it, also for what a benchmark
wrote.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from benchmark_tables import RESULTS, TABLES, benchmark_table
from compact_mlp import compact_table
from topology_tables import topology_tables
from trial_tables import trial_table

from chts_hf.compare.data import know_their_data, without_location
from chts_hf.compare.formatting import markdown_table, mean_text
from chts_hf.compare.page import write_comparison
from chts_hf.compare.record import derived
from chts_hf.compare.spec import differing, read_comparison
from chts_hf.compare.tables import short_commit
from chts_hf.config import CHTsConfig

REPOSITORY = Path(__file__).resolve().parents[1]
#: Where there are marked tables.
PAGES = (
    "README.md",
    "docs/analysis.md",
    "docs/comparison.md",
    "docs/distributed.md",
    "docs/images.md",
    "docs/inference.md",
    "docs/methods.md",
    "docs/scaling.md",
)
#: The mark, and the folder, of what `benchmarks/topology.py` wrote.
TOPOLOGY = "topology"
NEEDED = ("setting", "dataset", "method", "target_sparsity", "seed", "steps", "commit", "machine")
#: What a kind of run is known by → its columns with a mean over seeds: title, key, digits.
SCORES = {
    "predict_bleu": (
        ("BLEU", "predict_bleu", 2),
        ("chrF", "predict_chrf", 2),
        ("length ratio", "length_ratio", 3),
        ("loops %", "loop_percent", 1),
    ),
    "predict_accuracy": (("accuracy %", "predict_accuracy", 2),),
}
#: The columns that every run has.
MEASURED = (
    ("validation loss", "eval_loss", 4),
    ("sparsity", "sparsity", 4),
    ("ITOP", "itop_rate", 3),
    ("ANP", "anp", 3),
)
#: What a row's runs must have in common, seeds apart; "chts" and "recipe" are whole sections.
IN_COMMON = ("chts", "recipe", "dataset", "languages", "train_images", "steps", "num_beams",
             "hidden_sizes", "batch_size", "learning_rate", "weight_decay")  # fmt: skip
#: What a page's heading says of a table, and each row where rows differ in it: title, key.
APART = (
    ("data", "dataset"),
    ("steps", "steps"),
    ("batch", "batch_size"),
    ("learning rate", "learning_rate"),
    ("beam", "num_beams"),
    ("config", "config"),
    ("machine", "machine"),
)
#: Comparisons, those that say most first; what is not among them comes after, by its name.
FIRST = ("paper", "small", "longer_small", "wider_small", "wider_slower_small",
         "wider_slowest_small", "slower_small", "settled_small", "settings_small", "ablation",
         "ablation_small", "regrowth_small")  # fmt: skip
HEAD = """# Results

Every number here was written by `python recipes/results.py` from the files under
[results/](results/), one for each run. BLEU and chrF are sacreBLEU's on the test set, accuracy is
that on the test images; the validation loss is the cross-entropy in nats per target token, or per
image. The length ratio is words translated over words of the references, and loops are translations
of more than twice their reference's length: see [comparison.md](comparison.md). A value behind ± is
the standard error over seeds; with one seed there is none, and BLEU differs by about ±1 from seed
to seed at these sizes, at times by more. Times are those of the clock, on machines that other runs
used too, and so say little of a method; [methods.md](methods.md) has updates that were timed alone.
"""


def load_runs(folder: Path) -> list[dict[str, Any]]:
    """Read the runs in a folder and in its folders; deeper down are trials, which have no row.

    Raises:
        ValueError: a run lacks something that its row must name, or there is no run.
    """
    runs = []
    for path in sorted([*folder.glob("*.json"), *folder.glob("*/*.json")]):
        run = json.loads(path.read_text(encoding="utf-8"))
        if not SCORES.keys() & run.keys():
            continue
        missing = [name for name in NEEDED if run.get(name) is None]
        if missing:
            raise ValueError(f"{path} has no {', '.join(missing)}; run it again to have it named")
        runs.append(run | derived(run))
    if not runs:
        raise ValueError(f"no run's results below {folder}")
    return runs


def table(runs: Sequence[dict[str, Any]]) -> str:
    """One setting's table: a row for each method and sparsity, by rising sparsity and loss.

    Raises:
        ValueError: runs of one row differ in more than their seed, or not even in that.
    """
    rows: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for run in runs:
        name = run.get("label", run["method"])  # a comparison may have variants of a method
        rows.setdefault((name, run["target_sparsity"]), []).append(run)
    for group in rows.values():
        check_row(group)
    scores = [columns for key, columns in SCORES.items() if key in runs[0]]
    measured = [
        column
        for column in (*scores[0], *MEASURED)
        if any(run.get(column[1]) is not None for run in runs)
    ]
    apart = [(title, key) for title, key in APART if len(distinct(runs, key)) > 1]
    titles = ["method", "sparsity asked", *(title for title, _, _ in measured), "seeds", "commit"]
    titles += [title for title, _ in apart]
    lines = []

    def order(item: tuple[tuple[str, float], list[dict[str, Any]]]) -> tuple[float, float]:
        return item[0][1], mean(run["eval_loss"] for run in item[1])

    for (method, sparsity), group in sorted(rows.items(), key=order):
        cells = [method, f"{sparsity:g}"]
        for _, key, digits in measured:
            cells.append(mean_text([run.get(key) for run in group], digits))
        cells.append(", ".join(str(run["seed"]) for run in group))
        cells.append(", ".join(sorted({short_commit(run["commit"]) for run in group})))
        cells += [", ".join(distinct(group, key)) for _, key in apart]
        lines.append(cells)
    return markdown_table(titles, lines)


def check_row(runs: Sequence[dict[str, Any]]) -> None:
    """Refuse runs that are no seeds of one thing.

    Raises:
        ValueError: two have one seed, or they differ in what they were told.
    """
    first = runs[0]
    name = f"{first['setting']}, {first.get('label', first['method'])} at "
    name += f"{first['target_sparsity']:g}"
    help_text = (
        'give one a "label" of its own, or move it to a folder deeper down, where trials lie'
    )
    seeds = [run["seed"] for run in runs]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{name}: there are two runs of one seed among {seeds}; {help_text}")
    by_digest = know_their_data(runs)
    for run in runs[1:]:
        for key in IN_COMMON:
            before, now = told(first, key, by_digest), told(run, key, by_digest)
            if before == now:
                continue
            if isinstance(before, dict) and isinstance(now, dict):
                what = f"{key}: {differing(before, now)[0]}"
            else:
                what = f"{key}: {before!r} and {now!r}"
            raise ValueError(
                f"{name}: the runs of seeds {first['seed']} and {run['seed']} cannot be one row, "
                f"as they differ in {what}; {help_text}"
            )


def told(run: dict[str, Any], key: str, by_digest: bool) -> Any:
    """What a run was told, but for its seed; fields that were added since have their defaults.

    With ``by_digest``, its data is what the sentences are, wherever they were.
    """
    value = run.get("corpus" if by_digest and key == "dataset" else key)
    if key == "chts" and value is not None:
        return CHTsConfig.from_saved({**value, "seed": 0}).to_dict()
    if key == "recipe" and value is not None:  # its sparse training is compared by itself
        recipe = {name: one for name, one in value.items() if name != "chts"}
        return without_location(recipe) if by_digest else recipe
    return value


def distinct(runs: Sequence[dict[str, Any]], key: str) -> list[str]:
    """The values that runs have, in order, as text; a number without needless digits."""
    values = [run.get(key) for run in runs]
    texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    return [text for text in dict.fromkeys(texts) if text != "None"]


def by_setting(runs: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Group runs by the configuration file they come from."""
    settings: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        settings.setdefault(run["setting"], []).append(run)
    return settings


def fill_tables(text: str, runs: Sequence[dict[str, Any]]) -> str:
    """Put each table between its marks in a page: a setting's, a benchmark's, that of trials.

    Raises:
        ValueError: a page has a mark for a setting that was never run.
    """
    settings = by_setting(runs)

    def fill(mark: re.Match[str]) -> str:
        if mark[2] in TABLES:
            return f"{mark[1]}\n{benchmark_table(mark[2])}\n<!-- end of table -->"
        if mark[2] == TOPOLOGY:
            return f"{mark[1]}\n{topology_tables(RESULTS / TOPOLOGY)}\n<!-- end of table -->"
        if "/" in mark[2]:
            return f"{mark[1]}\n{table_below(RESULTS / mark[2])}\n<!-- end of table -->"
        if mark[2] not in settings:
            raise ValueError(f"there is no run of {mark[2]} to fill its table with")
        return f"{mark[1]}\n{table(settings[mark[2]])}\n<!-- end of table -->"

    # (A name of several words is a table of another command.)
    return re.sub(r"(<!-- table: ([\w/]+) -->)\n.*?<!-- end of table -->", fill, text, flags=re.S)


def table_below(path: Path) -> str:
    """The table of a folder of trials, or of a model whose dead neurons were cut out."""
    file = path.with_suffix(".json")
    if file.is_file():
        return compact_table(json.loads(file.read_text(encoding="utf-8")))
    return trial_table(path)


def write_page(folder: Path) -> str:
    """The page's text."""
    found = by_setting(load_runs(folder))
    places = {setting: place for place, setting in enumerate(FIRST)}
    parts = []
    for setting in sorted(found, key=lambda one: (places.get(one, len(FIRST)), one)):
        runs = found[setting]
        first = runs[0]
        if "config" in first:
            parts.append(comparison_part(folder, setting, first["config"]))
            continue
        said = {key: ", ".join(distinct(runs, key)) or "–" for _, key in APART}
        what = f"[configs/{setting}.yaml](../configs/{setting}.yaml): "
        if "predict_accuracy" in first:
            what += (
                f"{first['train_images']} images of {said['dataset']} to train with, "
                f"{first['test_images']} to test with; {said['steps']} steps of "
                f"{said['batch_size']} images, learning rate {said['learning_rate']}; "
                f"{said['machine']}."
            )
        else:
            what += (
                f"{first['languages']}, {said['steps']} steps, beam {said['num_beams']}; "
                f"{said['machine']}.\nBLEU `{first.get('bleu_signature')}`"
            )
        parts.append(f"## {setting}\n\n{what}\n\n{table(runs)}\n")
    titles = [part.partition("\n")[0].removeprefix("## ") for part in parts]
    contents = "\n".join(f"- [{title}](#{anchor(title)})" for title in titles)
    return "\n".join([HEAD, f"{contents}\n", *parts] if parts else [HEAD])


def anchor(title: str) -> str:
    """A heading's name in a link, as GitHub makes it: lower case, no punctuation, - for spaces."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def comparison_part(folder: Path, setting: str, config: str) -> str:
    """The section of a comparison, whose pictures and numbers go beside its records."""
    place = folder / setting
    comparison = read_comparison(REPOSITORY / config)
    return write_comparison(
        replace(comparison, source=config), place, place, f"{folder.name}/{setting}/"
    )[1]


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=REPOSITORY / "docs" / "results")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs" / "results.md")
    pages = [REPOSITORY / name for name in PAGES]
    parser.add_argument("--pages", type=Path, nargs="*", default=pages, help="with marked tables")
    arguments = parser.parse_args(argv)
    arguments.output.write_text(write_page(arguments.folder), encoding="utf-8")
    runs = load_runs(arguments.folder)
    for page in arguments.pages:
        text = page.read_text(encoding="utf-8")
        page.write_text(fill_tables(text, runs), encoding="utf-8")
    print(f"written {arguments.output} and the tables in {', '.join(map(str, arguments.pages))}")


if __name__ == "__main__":
    main()
