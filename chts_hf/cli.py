"""The ``chts-hf`` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from chts_hf import __version__
from chts_hf.checkpoint.mask_file import MaskFileError
from chts_hf.commands import COMMANDS
from chts_hf.methods import METHODS, method_table


def _methods(arguments: argparse.Namespace) -> int:
    unknown = [name for name in arguments.names if name not in METHODS]
    if unknown:
        print(
            f"chts-hf methods: no method {', '.join(unknown)}; there are {', '.join(METHODS)}",
            file=sys.stderr,
        )
        return 2
    print(method_table(arguments.names or METHODS))
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    parser = argparse.ArgumentParser(
        prog="chts-hf", description="Sparse training of Transformers by topology."
    )
    parser.add_argument("--version", action="version", version=f"chts-hf {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    methods = commands.add_parser(
        "methods",
        help="the methods and what each is made of",
        description="Print the methods and the ingredients each is made of, as a Markdown table.",
        epilog="example: chts-hf methods chts rigl",
    )
    methods.add_argument("names", nargs="*", metavar="METHOD", help="all if none is named")
    methods.set_defaults(run=_methods)
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is what it returns, 2 for a wrong command line."""
    arguments = build_parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except (MaskFileError, OSError, ValueError) as error:
        print(f"chts-hf: error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
