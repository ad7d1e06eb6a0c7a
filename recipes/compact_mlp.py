#!/usr/bin/env python
"""Cut the dead neurons out of a trained MLP, and compare it with the model it was.

    python recipes/compact_mlp.py output/digits_mlp_chts_99 configs/digits_mlp_chts_99.yaml

The first word is a folder of recipes/image_classification.py, the rest its arguments, for the data.
Accuracy on the test images, parameters, size of the file and time of one batch are measured for the
model as it was trained (dense layers with zeros), cut, and cut with sparse products where those are
faster. Times are CPU seconds of one thread, which other processes disturb least: medians of runs in
turn, of which the ratios compare. The smaller model and `compact.json` go to FOLDER/compact.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForImageClassification, PreTrainedModel

import chts_hf.vision  # noqa: F401  (has transformers know the model)
from chts_hf import save_sparse
from chts_hf.compare.formatting import markdown_table
from chts_hf.inference import compact, to_sparse_inference
from chts_hf.machine import machine_kind
from chts_hf.runs.recipe import run_script
from chts_hf.runs.report import git_commit
from chts_hf.vision.arguments import read_arguments
from chts_hf.vision.splits import load_splits

BATCHES = (1, 100)
ROUNDS, CALLS = 15, 10


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure.

    Args:
        argv: the folder, then arguments of the recipe; the process's own if not given.

    Returns:
        The content of ``compact.json``.
    """
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        usage="%(prog)s [-h] FOLDER [CONFIG.yaml ...] [--OPTION VALUE ...]",
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, help="an output folder of image_classification.py")
    options, words = parser.parse_known_args(sys.argv[1:] if argv is None else list(argv))
    folder, target = options.folder, options.folder / "compact"
    if not folder.is_dir():
        raise ValueError(f"there is no folder {str(folder)!r}")
    test = load_splits(read_arguments([*words, "--output_dir", str(target)]).data)["test"]
    trained = AutoModelForImageClassification.from_pretrained(folder).eval()
    small, report = compact(copy.deepcopy(trained))
    save_sparse(small, target)
    torch.set_num_threads(1)  # products are chosen for what they are timed with
    models = {"trained": trained, "compact": small}
    models["compact, sparse products"] = to_sparse_inference(copy.deepcopy(small), rows=BATCHES)

    reference = predict(trained, test.pixels)
    rows = {}
    times = measure(models, test.pixels)
    for name, model in models.items():
        logits = predict(model, test.pixels)
        rows[name] = {
            "accuracy": 100 * float((logits.argmax(1) == test.labels).float().mean()),
            "largest_difference_of_logits": float((logits - reference).abs().max()),
            "seconds": dict(zip(map(str, BATCHES), times[name], strict=True)),
            "speed_up": {
                str(batch): before / after
                for batch, before, after in zip(BATCHES, times["trained"], times[name], strict=True)
            },
        }
    for name, place in (("trained", folder), ("compact", target)):
        files = place.glob("*.safetensors")
        rows[name]["file_bytes"] = sum(file.stat().st_size for file in files)
        rows[name]["parameters"] = sum(p.numel() for p in models[name].parameters())
    results = {
        "model": folder.name,
        "hidden_sizes": [width.before for width in report.widths.values()],
        "compact_hidden_sizes": [width.after for width in report.widths.values()],
        "test_images": len(test),
        "models": rows,
        "commit": git_commit(Path(__file__).parent),
        "machine": machine_kind(),
        "threads": torch.get_num_threads(),
    }
    (target / "compact.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(f"{report}\n\n{compact_table(results)}\n\nwritten to {target}")
    return results


@torch.no_grad()
def predict(model: PreTrainedModel, pixels: Tensor) -> Tensor:
    """The logits of all images, (n, classes)."""
    return torch.cat([model(pixel_values=part).logits for part in pixels.split(500)])


@torch.no_grad()
def measure(models: Mapping[str, PreTrainedModel], pixels: Tensor) -> dict[str, list[float]]:
    """CPU seconds of this thread for a batch of each size, the models taking turns."""
    found: dict[str, list[float]] = {name: [] for name in models}
    for batch in BATCHES:
        inputs, seconds = pixels[:batch], {name: [] for name in models}  # type: ignore[var-annotated]
        for _ in range(ROUNDS):
            for name, model in models.items():
                started = time.thread_time()
                for _ in range(CALLS):
                    model(pixel_values=inputs)
                seconds[name].append((time.thread_time() - started) / CALLS)
        for name in models:
            found[name].append(statistics.median(seconds[name]))
    return found


def compact_table(results: Mapping[str, Any]) -> str:
    """A Markdown table of what was measured."""
    titles = ["", "hidden layers", "parameters", "file", "accuracy %", "faster, one image"]
    rows = []
    for name, row in results["models"].items():
        sizes = results["hidden_sizes" if name == "trained" else "compact_hidden_sizes"]
        size = f"{row['file_bytes'] / 1e6:.2f} MB" if "file_bytes" in row else "–"
        parameters = f"{row['parameters']:,}" if "parameters" in row else "–"
        faster = [f"{row['speed_up'][str(batch)]:.2f} ×" for batch in BATCHES]
        widths = ", ".join(map(str, sizes))
        rows.append([name, widths, parameters, size, f"{row['accuracy']:.2f}", *faster])
    return markdown_table([*titles, "a hundred"], rows)


if __name__ == "__main__":
    run_script(main)
