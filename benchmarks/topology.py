#!/usr/bin/env python
"""What training made of a topology: a run's first and last masks, each beside random networks.

::

    python recipes/image_classification.py configs/digits_mlp_chts_99.yaml --chts.init er \
        --output_dir output/digits_er
    python benchmarks/topology.py output/digits_er --title "Digits, random start" \
        --json docs/results/topology/digits_er.json

The run is one of a recipe with `record_topology: true`. Of any other, the last masks are those of
its checkpoint or of its sparse model, and the first ones are made again by the same command with
`--record_topology true` and few steps (enough for one update), in a folder of its own: `--start`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chts_hf import CHTsConfig, Sparsifier, load_sparse
from chts_hf.analysis import MEASURES, Chain, analyse, chains_of, layer_masks
from chts_hf.analysis.measures import judge
from chts_hf.analysis.report import read_run
from chts_hf.checkpoint.load import model_class_of
from chts_hf.checkpoint.reader import is_sparse, read_config
from chts_hf.commands.analyze import Analysis, as_json, power_laws
from chts_hf.targets import find_pairs

#: What is told of the run.
TOLD = ("setting", "method", "target_sparsity", "seed", "steps", "dataset", "languages",
        "hidden_sizes", "chts", "predict_accuracy", "predict_bleu", "commit")  # fmt: skip


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="the run's output folder")
    parser.add_argument("--title", required=True, help="what its table is headed by")
    parser.add_argument("--start", type=Path, help="a recorded run that began with the same masks")
    parser.add_argument("--measures", nargs="+", choices=list(MEASURES), default=list(MEASURES))
    parser.add_argument(
        "--start_measures", nargs="+", choices=list(MEASURES),
        help="of the first masks, if not the same: slow where these have half of all links",
    )  # fmt: skip
    parser.add_argument("--nulls", type=int, default=19, help="random networks beside each")
    parser.add_argument("--seed", type=int, default=0, help="of random choices")
    parser.add_argument("--json", type=Path, help="write the results here too")
    arguments = parser.parse_args(argv)
    results = results_of(arguments.run)
    report: dict[str, Any] = {"title": arguments.title}
    report["run"] = {key: results[key] for key in TOLD if key in results}
    report["nulls"] = arguments.nulls
    ends = {
        "start": (first_chains(arguments.start or arguments.run), arguments.start_measures),
        "end": (last_chains(arguments.run), None),
    }
    for end, (chains, measures) in ends.items():
        names = measures or arguments.measures
        report[end] = {
            chain.name: measured(chain, names, arguments.nulls, arguments.seed) for chain in chains
        }
    text = json.dumps(report, indent=1)
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(text + "\n", encoding="utf-8")
    print(text)
    return report


def results_of(folder: Path) -> dict[str, Any]:
    """What a recipe wrote of its run."""
    found: dict[str, Any] = json.loads((folder / "all_results.json").read_text(encoding="utf-8"))
    return found


def first_chains(folder: Path) -> list[Chain]:
    """The networks that a recorded run began with.

    Raises:
        ValueError: its first masks were not kept.
    """
    run = read_run(folder)
    if 0 not in run.frames:
        raise ValueError(
            f"{str(folder)!r} has no masks of step 0; run it with --record_topology true, or say "
            "--start"
        )
    return run.networks(0)


def last_chains(folder: Path) -> list[Chain]:
    """The networks that a run ended with: recorded, of its last checkpoint, or of its model."""
    run = read_run(folder)
    if run.frames:
        return run.networks(run.frames[-1])
    values = read_config(folder)
    # A sparse file says where the links are, those of weight 0 too; of others the weights do.
    model = (
        load_sparse(folder)
        if is_sparse(values)
        else model_class_of(values, folder).from_pretrained(folder)
    )
    told = results_of(folder)["chts"]
    kept = CHTsConfig(
        method="static", init="from_weights", targets=told["targets"], exclude=told["exclude"]
    )
    sparsifier = Sparsifier(model, None, kept, total_steps=1)
    masks = layer_masks(sparsifier.targets, sparsifier.masks)
    return chains_of(sparsifier.targets, find_pairs(sparsifier.targets), masks)


def measured(chain: Chain, measures: Sequence[str], nulls: int, seed: int) -> dict[str, Any]:
    """The measures of `chts-hf analyze`, and whether the network is hyperbolic."""
    rows = analyse(chain, measures, nulls, seed)
    found = as_json(Analysis(rows, power_laws(chain, seed), {}))
    del found["link_history"]
    verdict = judge(rows)
    return {
        "sizes": chain.sizes,
        **found,
        "hyperbolic": verdict and {"verdict": verdict.hyperbolic, "p_one_sided": verdict.p},
    }


if __name__ == "__main__":
    main()
