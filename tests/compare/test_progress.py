"""The line that says how far a comparison is."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chts_hf.compare.progress import Progress
from chts_hf.compare.runner import Job, State

PROCESS: Any = None


def job(name: str, steps: int, done: Callable[[], int]) -> Job:
    return Job(name, ["true"], Path("log.txt"), steps, done)


class Terminal(io.StringIO):
    """A terminal of no size."""

    def isatty(self) -> bool:
        return True


def test_what_is_done_and_what_is_running() -> None:
    times = iter([0.0, 0.0, 100.0])
    progress = Progress(5, 1, io.StringIO(), clock=lambda: next(times))
    state = State([job("later", 10, lambda: 3)])
    assert progress.line(state) == "[0:00:00] 1/5 runs done"
    state.waiting, state.finished = [], ["x"]
    state.failed = {"y": "why"}
    state.running = {0: (job("now", 10, lambda: 3), PROCESS)}
    # 10 - 3 steps were left and are still; no rate is known.
    assert progress.line(state) == "[0:01:40] 2/5 runs done, 1 failed; running now 3/10"


def test_the_time_left_is_that_of_the_steps_left_at_the_rate_so_far() -> None:
    now, steps = 50.0, {"a": 100, "b": 0}
    progress = Progress(3, 0, io.StringIO(), clock=lambda: now)
    a, b = (job(name, 1000, lambda name=name: steps[name]) for name in "ab")  # type: ignore[misc]
    later = job("later", 500, lambda: 0)
    state = State([later], running={0: (a, PROCESS), 1: (b, PROCESS)})
    # Left are 900 of a, which went on from step 100, 1000 of b and 500: 2400.
    assert progress.line(state) == "[0:00:00] 0/3 runs done; running a 100/1000, b 0/1000"
    now, steps = 650.0, {"a": 400, "b": 300}
    # 600 steps in 600 seconds; the 1800 left take 1800 seconds. (What was there before is no rate.)
    assert progress.line(state) == (
        "[0:10:00] 0/3 runs done; running a 400/1000, b 300/1000; 0:30:00 left"
    )
    now, steps = 1250.0, {"a": 1000, "b": 900}
    state.waiting, state.running = [], {1: (b, PROCESS), 2: (later, PROCESS)}
    state.finished = ["a"]
    # 1800 steps in 1200 seconds; 100 + 500 are left: 600 / 1.5 = 400 seconds.
    assert progress.line(state) == (
        "[0:20:00] 1/3 runs done; running b 900/1000, later 0/500; 0:06:40 left"
    )
    now, steps = 1450.0, {"a": 1000, "b": 1000}
    state.running = {1: (b, PROCESS)}
    assert progress.line(state) == "[0:23:20] 1/3 runs done; running b testing"


def test_a_terminals_line_is_written_over_and_a_files_seldom() -> None:
    now = 0.0
    terminal, file = Terminal(), io.StringIO()
    shown = [Progress(2, 0, stream, clock=lambda: now) for stream in (terminal, file)]
    state = State([], running={0: (job("a", 10, lambda: 1), PROCESS)})
    for seconds in (0.0, 0.5, 2.0):
        now = seconds
        for progress in shown:
            progress(state)
    state.running, state.finished = {}, ["a"]
    now = 2.1  # a run that ended is shown at once
    for progress in shown:
        progress(state)
        progress.close()
    first, last = "[0:00:00] 0/2 runs done; running a 1/10", "[0:00:02] 1/2 runs done"
    second = first.replace("0:00:00", "0:00:02")
    assert terminal.getvalue() == f"\r{first}\r{second}\r{last.ljust(len(first))}\n"
    assert file.getvalue() == f"{first}\n{last}\n"
