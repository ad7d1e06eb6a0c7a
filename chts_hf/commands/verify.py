"""``chts-hf verify``."""

from __future__ import annotations

import argparse

from chts_hf.checkpoint.inspection import verify
from chts_hf.commands.base import Commands, add_command, model_folder


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "verify",
        summary="whether a sparse checkpoint is sound",
        description="Check a sparse checkpoint: its description, that the files hold the weights "
        "of the model it describes, the checksum of every tensor, the number and place of the "
        "links, and that all weights are finite. The exit code is 1 if a check fails.",
        examples=["chts-hf verify output/demo"],
    )
    parser.add_argument("folder", metavar="FOLDER", help="of a sparse checkpoint")
    parser.set_defaults(run=_run)


_SHOWN = {True: "ok", False: "FAILED", None: "skipped"}


def _run(arguments: argparse.Namespace) -> int:
    found = verify(model_folder(arguments.folder))
    for check in found.checks:
        print(f"{_SHOWN[check.passed]:<8}{check.name:<11}{check.detail}")
    return 0 if found.passed else 1
