"""The steps that the recipes have in common, each a function of what the Trainer knows."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import disable_progress_bars
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainingArguments

from chts_hf.callback import CHTsCallback
from chts_hf.checkpoint.mask_file import MaskFileError
from chts_hf.checkpoint.section import SparseFileError
from chts_hf.config import CHTsConfig
from chts_hf.distributed.layout import Gathered
from chts_hf.machine import machine_kind
from chts_hf.runs import report
from chts_hf.runs.plots import plot_run


class MaskSnapshot(TrainerCallback):
    """Copies one layer's mask when training begins, for the picture.

    Args:
        sparse: the callback that has the masks; it comes before this one in the Trainer's list.
    """

    def __init__(self, sparse: CHTsCallback) -> None:
        self.sparse = sparse
        self.layer: str | None = None
        self.before: Tensor | None = None
        self._after: Tensor | None = None
        self.step = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Choose the layer, the first feed-forward one if there is any, and copy its mask."""
        assert self.sparse.sparsifier is not None
        self.step = state.global_step
        targets = self.sparse.sparsifier.targets
        if targets:
            target = next((one for one in targets if one.kind == "ffn.up"), targets[0])
            self.layer = target.name
            self.before = self._mask().clone()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Copy it again, while all processes are there."""
        if self.layer is not None:
            self._after = self._mask().clone()

    def after(self) -> Tensor | None:
        """Return that layer's mask as it was when training ended."""
        return self._after

    def _mask(self) -> Tensor:
        assert self.sparse.sparsifier is not None
        sparsifier = self.sparse.sparsifier
        target = next(one for one in sparsifier.targets if one.name == self.layer)
        whole = Gathered(sparsifier.layout, sparsifier.masks)
        return target.view(whole[target.parameter_name])


def describe_run(
    setting: str, chts: CHTsConfig, training: TrainingArguments, script: Path
) -> dict[str, Any]:
    """Say what is run: enough, with the data's name, to run it again and to compare it.

    Args:
        setting: the name of the configuration file.
        chts: the sparse training.
        training: the Trainer's arguments.
        script: the recipe; its folder's commit is named.
    """
    return {
        "setting": setting,
        "method": chts.method,
        "target_sparsity": chts.sparsity,
        "seed": training.seed,
        "chts": chts.to_dict(),
        "commit": report.git_commit(script.parent),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "machine": machine_kind(),
        "threads": torch.get_num_threads(),
        "processes": training.world_size,
    }


def keep(trainer: Trainer, stage: str, metrics: dict[str, Any], results: dict[str, Any]) -> None:
    """Log a stage's metrics, write them to its own file and add them to the results."""
    trainer.log_metrics(stage, metrics)
    trainer.save_metrics(stage, metrics, combined=False)
    results |= metrics


def write_results(folder: Path, results: Mapping[str, Any]) -> None:
    """Write ``all_results.json``."""
    text = json.dumps(results, indent=2, ensure_ascii=False)
    (folder / "all_results.json").write_text(text + "\n", encoding="utf-8")


def finish(
    trainer: Trainer, snapshot: MaskSnapshot, results: dict[str, Any], **picture: Any
) -> None:
    """Write the results, draw the picture and print the table.

    Args:
        trainer: after training.
        snapshot: the mask that training began with.
        results: the content of ``all_results.json``.
        **picture: options of :func:`chts_hf.runs.plots.plot_run`.
    """
    folder = output_folder(trainer.args)
    folder.mkdir(parents=True, exist_ok=True)
    write_results(folder, results)
    if "links_by_kind" in results and importlib.util.find_spec("matplotlib") is None:
        logging.getLogger(__name__).warning("no picture: pip install matplotlib to have it drawn")
    elif "links_by_kind" in results:
        data = results.get("languages") or results["dataset"]
        plot_run(
            folder / "topology.png",
            f"{results['setting']}: {results['method']}, {data}, sparsity "
            f"{results['sparsity']:.1%}",
            trainer.state.log_history,
            results["links_by_kind"],
            snapshot.layer,
            snapshot.before,
            snapshot.after(),
            since=snapshot.step,
            **picture,
        )
    print(report.format_table(results))
    print(f"The model, its results and topology.png are in {folder}")


def run_script(main: Callable[[], object]) -> None:
    """Run a recipe's ``main``; a mistake of its user ends it with one line and exit code 2.

    With ``CHTS_TRACEBACK=1`` in the environment the whole traceback is shown.
    """
    try:
        main()
    except (ValueError, OSError, MaskFileError, SparseFileError) as error:
        if os.environ.get("CHTS_TRACEBACK") == "1":
            raise
        sys.exit(_say(error))


def _say(error: Exception) -> int:
    print(f"error: {error}", file=sys.stderr)
    print("(CHTS_TRACEBACK=1 in the environment shows where)", file=sys.stderr)
    return 2


def output_folder(training: TrainingArguments) -> Path:
    """Return the folder that everything is written to."""
    assert training.output_dir is not None  # the Trainer's arguments have a default
    return Path(training.output_dir)


def setup_logging(training: TrainingArguments, logger: logging.Logger) -> None:
    """Send log lines to stderr, at the level that the Trainer's arguments ask for.

    Args:
        training: the Trainer's arguments.
        logger: the recipe's own.
    """
    level = training.get_process_log_level()
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("chts_hf").setLevel(level)
    logger.setLevel(logging.INFO if training.should_log else logging.ERROR)
    transformers.utils.logging.set_verbosity(level)
    if training.disable_tqdm:
        disable_progress_bars()
