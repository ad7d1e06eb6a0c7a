"""What the subcommands share: their parser's looks, and errors that users can act on."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

#: What ``add_subparsers`` returns; argparse has no public name for it.
Commands = Any


class CommandError(Exception):
    """Something a user can mend; printed without a traceback, exit code 1."""

    exit_code = 1


class UsageError(CommandError):
    """The command line is wrong in a way that the parser can't see; exit code 2."""

    exit_code = 2


def add_command(
    commands: Commands, name: str, *, summary: str, description: str, examples: list[str]
) -> argparse.ArgumentParser:
    """Add a subcommand's parser, with examples below its options.

    Args:
        commands: what the main parser's ``add_subparsers`` returned.
        name: of the command.
        summary: its line in ``chts-hf --help``.
        description: the first paragraph of its own help.
        examples: command lines.
    """
    shown = "\n".join(f"  {example}" for example in examples)
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"examples:\n{shown}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def model_folder(name: str) -> Path:
    """The folder of a saved model.

    Raises:
        CommandError: there is no such folder, or no model in it.
    """
    folder = Path(name)
    if not folder.exists():
        raise CommandError(
            f"there is no folder {name!r}; a model of the Hub is fetched by: "
            f"hf download USER/MODEL --local-dir FOLDER"
        )
    if not folder.is_dir():
        raise CommandError(f"{name!r} is a file; name the folder that it is in")
    if not (folder / "config.json").is_file():
        raise CommandError(f"{name!r} holds no model: it has no config.json")
    return folder


def from_zero(text: str) -> int:
    """An argument that is a number of choice, such as a seed.

    Raises:
        argparse.ArgumentTypeError: it is no whole number of at least 0.
    """
    return _whole_number(text, 0, ", 0 or above")


def pattern(text: str) -> re.Pattern[str]:
    """An argument that says which names to take.

    Raises:
        argparse.ArgumentTypeError: it is no regular expression.
    """
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no regular expression ({error}); {re.escape(text)!r} finds this very text"
        ) from error


def positive(text: str) -> int:
    """An argument that counts something.

    Raises:
        argparse.ArgumentTypeError: it is no whole number above 0.
    """
    return _whole_number(text, 1, " above 0")


def _whole_number(text: str, least: int, which: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number{which}")
    return number
