#!/usr/bin/env python
"""Make a trained dense translator sparse: CHTss against pruning it at once.

    python recipes/finetune.py configs/demo.yaml
    python recipes/finetune.py configs/demo.yaml --max_steps 500

Trains a dense model with the configuration, then fine-tunes it twice to the sparsity asked for,
with the same steps and learning rates: by CHTss, which starts from all links and lets the density
fall, and by keeping the largest weights at once and training those (one-shot pruning, then
`static`). Prints and writes the three BLEUs. Called again, it goes on behind the last of the three
runs that is complete in the output folder. Options are those of recipes/translation.py and hold
for all three runs, `--finetune_steps` and `--finetune_noam_factor` for the two later ones.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TRANSLATION = Path(__file__).with_name("translation.py")
#: Run → what a table calls it.
LABELS = {
    "dense": "dense",
    "chtss": "chtss, from the trained dense model",
    "one-shot": "pruned at once, then static",
}
#: Run → the fields of CHTsConfig that make it.
FINE_TUNING: dict[str, dict[str, Any]] = {
    "chtss": {"method": "chtss", "init": "magnitude", "initial_sparsity": 0.0},
    "one-shot": {"method": "static", "init": "magnitude"},
}


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Run the three and report.

    Returns:
        Run → BLEU on the test set.
    """
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--output_dir", type=Path, default=Path("output/finetune"))
    parser.add_argument("--finetune_steps", type=int, default=1500)
    parser.add_argument("--finetune_noam_factor", type=float, default=0.5)
    parser.add_argument("--results_dir", type=Path, help="keep each run's record here too")
    options, rest = parser.parse_known_args(sys.argv[1:] if argv is None else list(argv))

    dense = options.output_dir / "dense"
    results = {"dense": _run([*rest, "--chts.method", "dense"], dense)}
    for name, fields in FINE_TUNING.items():
        words = [*rest, "--model_name_or_path", str(dense), "--max_steps", options.finetune_steps]
        words += ["--noam_factor", options.finetune_noam_factor]
        for field, value in fields.items():
            words += [f"--chts.{field}", value]
        results[name] = _run([str(word) for word in words], options.output_dir / name)

    print(f"{'':<12}{'BLEU':>8}{'chrF':>8}{'sparsity':>10}{'validation loss':>18}")
    for name, run in results.items():
        print(
            f"{name:<12}{run['predict_bleu']:>8.2f}{run['predict_chrf']:>8.2f}"
            f"{run['sparsity']:>10.4f}{run['eval_loss']:>18.4f}"
        )
    for name, run in results.items():
        run["label"] = LABELS[name]
        if options.results_dir is not None:
            _write(options.results_dir / f"finetune_{name}_seed{run['seed']}.json", run)
    path = options.output_dir / "finetune.json"
    _write(path, results)
    print(f"written to {path}")
    return {name: run["predict_bleu"] for name, run in results.items()}


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _run(words: Sequence[str], folder: Path) -> dict[str, Any]:
    """Run recipes/translation.py in a process of its own, unless its results are there."""
    path, asked = folder / "all_results.json", folder / "command.json"
    if path.exists():
        if asked.exists() and json.loads(asked.read_text(encoding="utf-8")) != list(words):
            raise ValueError(f"{folder} holds a run with other options; choose another folder")
        print(f"keeping the finished run in {folder}; remove the folder to repeat it")
    else:
        command = [sys.executable, str(TRANSLATION), *words, "--output_dir", str(folder)]
        subprocess.run(command, check=True)
        asked.write_text(json.dumps(list(words)), encoding="utf-8")
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return results


if __name__ == "__main__":
    main()
