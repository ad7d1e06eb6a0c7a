"""The ``chts-hf`` command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from safetensors import SafetensorError

from chts_hf import MaskFileError, SparseFileError, __version__
from chts_hf.commands import COMMANDS
from chts_hf.commands.base import CommandError

#: What users can act on by reading its message.
_EXPECTED = (CommandError, MaskFileError, SparseFileError, SafetensorError, OSError, ValueError)
#: What a shell reports of a program that was stopped so: 128 + the signal's number.
_INTERRUPTED, _BROKEN_PIPE = 130, 141

#: Package, as it is imported → the extra of chts-hf that has it.
_EXTRAS = {
    "igraph": "analysis",
    "leidenalg": "analysis",
    "powerlaw": "analysis",
    "scipy": "analysis",
    "matplotlib": "recipes",
    "sentencepiece": "recipes",
    "sklearn": "recipes",
}


def build_parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    parser = argparse.ArgumentParser(
        prog="chts-hf",
        description="Sparse training of Transformers by topology.",
        epilog="exit codes: 0 all went well; 1 a check failed or a file is not usable; 2 the "
        "command line is wrong. `chts-hf COMMAND --help` shows examples.",
    )
    parser.add_argument("--version", action="version", version=f"chts-hf {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments; the process's own if not given.

    Returns:
        The exit code: 0; 1 where a check failed or a file is not usable; 2 for a wrong command
        line.

    Raises:
        SystemExit: from the parser, with code 2 for a wrong command line, with 0 for ``--help``.
    """
    try:
        arguments = build_parser().parse_args(argv)
        code = int(arguments.run(arguments))
        sys.stdout.flush()  # here, where a closed pipe is still ours to handle
    except BrokenPipeError:
        # The reader has gone (`| head`); what Python would still flush at exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        return _INTERRUPTED
    except ImportError as error:  # transformers' own words take several lines
        print(f"chts-hf: error: {' '.join(str(error).split())}{_advice(error)}", file=sys.stderr)
        return 1
    except _EXPECTED as error:
        print(f"chts-hf: error: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    return code


def _advice(error: ImportError) -> str:
    """Which extra has the package that an import did not find, if one has."""
    said = str(error).lower()  # names it, whoever says so
    extra = next((extra for package, extra in _EXTRAS.items() if package in said), None)
    return f"; pip install '.[{extra}]' has it" if extra else ""


if __name__ == "__main__":
    sys.exit(main())
