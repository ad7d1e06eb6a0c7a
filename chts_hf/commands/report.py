"""``chts-hf report``."""

from __future__ import annotations

import argparse

from chts_hf.commands.base import Commands, add_command, from_zero, positive


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "report",
        summary="one page of a run: what it learned, what its network became",
        description="Write one self-contained HTML page about a run: scores and losses beside "
        "density, masks from start to end, degrees, the hyperbolic disk, living neurons, turnover, "
        "and all measures beside random networks. What the run did not record is left out.",
        examples=[
            "chts-hf report output/demo",
            "chts-hf report output/run/checkpoint-500 --output page.html",
        ],
    )
    parser.add_argument("folder", metavar="RUN_FOLDER", help="a run's output folder")
    parser.add_argument("--output", metavar="FILE", help="default: RUN_FOLDER/report.html")
    parser.add_argument(
        "--chain", metavar="NAME", help="the layers to measure (default: those of most weights)"
    )
    parser.add_argument(
        "--nulls", type=positive, default=19, metavar="N", help="random networks each (default: 19)"
    )
    parser.add_argument("--seed", type=from_zero, default=0, help="of random choices (default: 0)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from chts_hf.analysis.report import write_report

    path = write_report(
        arguments.folder, arguments.output, arguments.chain, arguments.nulls, arguments.seed
    )
    print(path)
    return 0
