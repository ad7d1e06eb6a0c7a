"""``chts-hf methods``."""

from __future__ import annotations

import argparse

from chts_hf.commands.base import Commands, UsageError, add_command
from chts_hf.methods import METHODS, method_table


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "methods",
        summary="the methods and what each is made of",
        description="Print the methods and the ingredients each is made of, as a Markdown table.",
        examples=["chts-hf methods", "chts-hf methods chts rigl"],
    )
    parser.add_argument("names", nargs="*", metavar="METHOD", help="all if none is named")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    unknown = [name for name in arguments.names if name not in METHODS]
    if unknown:
        raise UsageError(f"no method {', '.join(unknown)}; there are {', '.join(METHODS)}")
    print(method_table(arguments.names or METHODS))
    return 0
