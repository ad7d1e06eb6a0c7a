"""The subcommands of ``chts-hf``, one module each.

A module has ``add_parser(commands)``, which adds its parser and sets ``run`` as that parser's
default: a function of the parsed arguments that returns the exit code. A new command is such a
module and its place in :data:`COMMANDS`.
"""

from chts_hf.commands import analyze, export, inspect, methods, report, translate, verify

#: In the order of ``chts-hf --help``.
COMMANDS = (methods, inspect, verify, export, translate, analyze, report)

__all__ = ["COMMANDS"]
