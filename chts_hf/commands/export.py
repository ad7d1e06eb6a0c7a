"""``chts-hf export``."""

from __future__ import annotations

import argparse
from pathlib import Path

from transformers.utils import logging

from chts_hf.checkpoint.export import densify, sparsify
from chts_hf.commands.base import CommandError, Commands, add_command, model_folder


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "export",
        summary="write a dense checkpoint as a sparse one, or back",
        description="Write the model in FOLDER into the folder OUT, as a sparse checkpoint (its "
        "links are those of a training checkpoint, else the weights that are not 0) or as a plain "
        "dense one. No weight changes.",
        examples=[
            "chts-hf export output/dense --to sparse output/small",
            "chts-hf export output/small --to dense output/plain",
        ],
    )
    parser.add_argument("folder", metavar="FOLDER", help="of a saved model")
    parser.add_argument("--to", required=True, choices=("sparse", "dense"), help="what OUT will be")
    parser.add_argument("out", metavar="OUT", help="a folder that is new or empty")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    folder, out = model_folder(arguments.folder), Path(arguments.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CommandError(
            f"{arguments.out!r} is there already; name a folder that is new or empty"
        )
    logging.disable_progress_bar()
    if arguments.to == "dense":
        densify(folder, out)
        print(f"{out}: a dense checkpoint")
    else:
        sizes = sparsify(folder, out)
        print(
            f"{out}: {sizes.sparse_bytes:,} bytes of weights, {100 * sizes.ratio:.1f} % of "
            f"{sizes.dense_bytes:,} dense; {sizes.links:,} of {sizes.weights:,} sparsified weights "
            f"are links"
        )
    return 0
