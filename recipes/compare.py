#!/usr/bin/env python
"""Compare methods of sparse training under one recipe: methods × sparsities × seeds.

    python recipes/compare.py configs/compare_demo.yaml
    python recipes/compare.py configs/compare_multi30k_small.yaml --data_dir FOLDER --jobs 2
    python recipes/compare.py configs/compare_multi30k.yaml --jobs 8 --time_limit 55

Every run is recipes/translation.py with the same arguments but its method, sparsity and seed: the
same batches in the same order and the same first weights, which its record proves. A finished run
is a JSON file in the results folder and is not done again; the same command goes on with the
others, each from the step where it was stopped. Stop it at any time with Ctrl-C or SIGTERM.

CONFIG may be followed by further YAML files for recipes/translation.py and by its options, which
hold for all runs: --data_dir FOLDER, --max_steps 100, --chts.update_interval 20.

Exit code: 0 all runs are there; 1 a run failed; 2 the command or a file is wrong; 75 stopped before
the end, call it again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

STARTED = time.monotonic()  # a time limit counts the seconds of the imports too

import torch  # noqa: E402
import yaml  # noqa: E402

from chts_hf.compare.page import made_otherwise, write_comparison  # noqa: E402
from chts_hf.compare.progress import Progress  # noqa: E402
from chts_hf.compare.record import (  # noqa: E402
    changes_since,
    find_record,
    make_record,
    moved_since,
    read_record,
    write_record,
)
from chts_hf.compare.runner import Job, State, StopRequest, run_jobs  # noqa: E402
from chts_hf.compare.spec import Comparison, Run, read_comparison  # noqa: E402
from chts_hf.compare.tables import missing_text, quality_table  # noqa: E402
from chts_hf.runs.recipe import run_script  # noqa: E402
from chts_hf.runs.report import git_commit  # noqa: E402
from chts_hf.runs.resume import STOPPED  # noqa: E402
from chts_hf.translation.arguments import refuse_mistakes  # noqa: E402

TRANSLATION = Path(__file__).resolve().with_name("translation.py")
REPOSITORY = TRANSLATION.parents[1]
#: What a time limit leaves for the page, of whose tests each takes parts of a second.
PAGE_SECONDS = 30.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing; return the exit code."""
    options, comparison = read_command_line(sys.argv[1:] if argv is None else argv)
    runs = comparison.select(options.methods, options.sparsities, options.seeds)
    results = options.results_dir or REPOSITORY / "docs" / "results" / comparison.setting
    output = options.output_dir or Path("output") / "compare" / comparison.setting
    if options.list:
        for run in runs:
            print(f"{run.name:<40}{state_of(comparison, run, results)}")
        return 0
    if options.report:
        write_page(comparison, results, output)
        return 0
    missing = [run for run in runs if read_record(results, comparison, run) is None]
    by_name = {run.name: run for run in missing}
    if missing and options.commit is None and git_commit(REPOSITORY) is None:
        raise ValueError(
            "there is no git here to name the commit of the code in the runs' records: say "
            "--commit HASH, or --commit unknown where nobody can tell"
        )
    jobs = [make_job(comparison, run, output / run.name) for run in missing]
    for run in missing[:1]:  # its mistakes would be every run's
        refuse_mistakes([str(config_file(comparison, output / run.name))])
    progress = Progress(len(runs), len(runs) - len(jobs))

    def finish(job: Job) -> None:
        run = by_name[job.name]
        keep_results(comparison, run, output / run.name, results, options.commit)
        if not options.keep_models:
            remove_weights(output / run.name)

    slots = options.jobs or default_jobs(comparison.threads)
    limit = options.time_limit
    end = None if limit is None else STARTED + 60 * limit - options.grace - PAGE_SECONDS
    with StopRequest(end).on_signals() as stop:
        state = run_jobs(
            jobs,
            slots=slots,
            stop=stop,
            stopped_code=STOPPED,
            grace=options.grace,
            environment=lambda slot: run_environment(slot, comparison.threads),
            finish=finish,
            watch=progress,
        )
        progress.close()
        why = stop.reason
    say_what_happened(state, len(runs), why, time.monotonic() - STARTED)
    write_page(comparison, results, output)
    if state.failed:
        return 1
    return 0 if state.complete else STOPPED


def read_command_line(argv: Sequence[str]) -> tuple[argparse.Namespace, Comparison]:
    """Tell our own options from those that are passed on to every run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("config", type=Path, help="a comparison: configs/compare_*.yaml")
    parser.add_argument("layers", nargs="*", help="more YAML files for recipes/translation.py")
    parser.add_argument("--jobs", type=int, help="runs at a time (default: as many as fit)")
    parser.add_argument("--time_limit", type=float, metavar="MINUTES",
                        help="stop with checkpoints so that all has ended by then")  # fmt: skip
    parser.add_argument("--grace", type=float, default=60.0, metavar="SECONDS",
                        help="time that stopping may take (default: 60)")  # fmt: skip
    parser.add_argument("--methods", nargs="+", default=[], help="only these")
    parser.add_argument("--sparsities", nargs="+", type=float, default=[], help="only these")
    parser.add_argument("--seeds", nargs="+", type=int, default=[], help="only these")
    parser.add_argument("--results_dir", type=Path, help="default: docs/results/SETTING")
    parser.add_argument("--output_dir", type=Path, help="default: output/compare/SETTING")
    parser.add_argument("--commit", help="what records name where there is no git")
    parser.add_argument("--keep_models", action="store_true", help="keep finished runs' weights")
    parser.add_argument("--report", action="store_true", help="run nothing, write the page")
    parser.add_argument("--list", action="store_true", help="say which runs are there, and end")
    options, rest = parser.parse_known_args(list(argv))
    if options.jobs is not None and options.jobs < 1:
        raise ValueError(f"--jobs is {options.jobs}; it must be at least 1")
    stopping = options.grace + PAGE_SECONDS
    if options.time_limit is not None and 60 * options.time_limit <= stopping:
        raise ValueError(
            f"--time_limit {options.time_limit:g} minutes leaves no time beside the "
            f"{options.grace:g} seconds of --grace and the {PAGE_SECONDS:g} for the page"
        )
    comparison = read_comparison(options.config, options.layers, recipe_options(rest))
    return options, replace(comparison, source=name_of(options.config))


def name_of(config: Path) -> str:
    """A configuration's path inside the repository; elsewhere, its name alone."""
    path = config.resolve()
    inside = path.is_relative_to(REPOSITORY)
    return path.relative_to(REPOSITORY).as_posix() if inside else path.name


def recipe_options(words: Sequence[str]) -> dict[str, Any]:
    """Read ``--name value`` and ``--name=value``, with values written as in YAML.

    Raises:
        ValueError: an option has no name or no value.
    """
    found: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not (equals or rest):
            raise ValueError(f"cannot read {word!r}: options of the runs are --name value")
        found[name] = yaml.safe_load(value if equals else rest.pop(0))
    return {name: "" if value is None else value for name, value in found.items()}


def state_of(comparison: Comparison, run: Run, results: Path) -> str:
    """Where a run's record is, and what it was made with that would be another now; or to do."""
    found = find_record(results, comparison, run)
    if found is None:
        return "to do"
    path, record = found
    if changed := changes_since(record, comparison, run):
        return f"{path}, made with another recipe ({'; '.join(changed)})"
    if moved := moved_since(record, comparison, run):
        return f"{path}, its data was elsewhere ({'; '.join(moved)})"
    return str(path)


def make_job(comparison: Comparison, run: Run, folder: Path) -> Job:
    """Write a run's configuration and make the command that starts it or goes on with it."""
    folder.mkdir(parents=True, exist_ok=True)
    arguments = comparison.arguments(run) | {"output_dir": str(folder)}
    config = config_file(comparison, folder)
    config.write_text(yaml.safe_dump(arguments, sort_keys=False, allow_unicode=True), "utf-8")
    command = [sys.executable, str(TRANSLATION), str(config), "--resume_from_checkpoint", "true"]
    return Job(
        name=run.name,
        command=[*command, "--disable_tqdm", "true"],
        log=folder / "log.txt",
        steps=comparison.steps,
        progress=lambda: steps_done(folder / "batches.txt"),
    )


def config_file(comparison: Comparison, folder: Path) -> Path:
    """The configuration of the run in a folder."""
    return folder / f"{comparison.setting}.yaml"


def steps_done(batches: Path) -> int:
    """Read the last step from a run's log of batches."""
    if not batches.is_file():
        return 0
    with batches.open("rb") as file:
        file.seek(max(0, batches.stat().st_size - 200))
        rows = file.read().split(b"\n")
    words = rows[-2].split() if len(rows) > 1 else []
    return int(words[0]) if len(words) == 2 and words[0].isdigit() else 0


def default_jobs(threads: int) -> int:
    """How many runs fit on this machine: one for so many cores; eight at most on each GPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    fit = max(1, (cores or 1) // threads)
    return min(fit, 8 * torch.cuda.device_count()) if torch.cuda.is_available() else fit


def run_environment(slot: int, threads: int) -> dict[str, str]:
    """What a run's process has in its environment: its threads, one GPU, our package."""
    count = str(threads)
    environment = {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count,
                   "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}  # fmt: skip
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    if torch.cuda.device_count() > 1:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        devices = (
            visible.split(",") if visible else [str(n) for n in range(torch.cuda.device_count())]
        )
        environment["CUDA_VISIBLE_DEVICES"] = devices[slot % len(devices)]
    return environment


def keep_results(
    comparison: Comparison, run: Run, folder: Path, results: Path, commit: str | None
) -> None:
    """Write the record of a run that has ended."""
    summary = json.loads((folder / "all_results.json").read_text(encoding="utf-8"))
    state = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    record = make_record(comparison, run, summary, state["log_history"], commit)
    write_record(results, run, record)


def remove_weights(folder: Path) -> None:
    """Delete a finished run's checkpoints and model; results, log and translations stay."""
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    for model in folder.glob("*.safetensors"):
        model.unlink()


def write_page(comparison: Comparison, results: Path, output: Path) -> None:
    """Write comparison.md with its numbers and pictures, of the runs that are there.

    All is written elsewhere first, so that a process that is killed here leaves what was there.
    """
    output.mkdir(parents=True, exist_ok=True)
    page = output / "comparison.md"
    with tempfile.TemporaryDirectory(dir=output, prefix=".page_") as folder:
        new = Path(folder)
        summary, section = write_comparison(comparison, results, new)
        for path in new.iterdir():
            path.replace(output / path.name)
        (new / page.name).write_text(section, encoding="utf-8")
        (new / page.name).replace(page)  # last: what it shows is there
    print(f"\n{quality_table(comparison, summary.rows)}\n")
    said = [missing_text(comparison, summary.missing), *summary.unlike, *summary.unknown]
    said += made_otherwise(results, comparison)
    print("\n".join(said).strip())
    print(f"Tables and pictures are in {page}")


def say_what_happened(state: State, total: int, why: str | None, seconds: float) -> None:
    """Report failures and what is left."""
    for name, text in state.failed.items():
        print(f"\n{name} failed: {text}\n", file=sys.stderr)
    for name in state.busy:
        print(f"{name}: another process is at it", file=sys.stderr)
    left = len(state.waiting) + len(state.stopped) + len(state.failed) + len(state.busy)
    stopped = f"stopped by {why}; " if why and left else ""
    print(
        f"{stopped}{total - left} of {total} runs are finished, {len(state.finished)} of them in "
        f"these {seconds / 60:.1f} minutes" + ("; the same command goes on" if left else "")
    )


if __name__ == "__main__":
    run_script(lambda: sys.exit(main()))
