"""Running processes a few at a time, with a clean stop."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Job:
    """A process to run.

    Attributes:
        name: what it is called in messages.
        command: program and arguments.
        log: the file that its output is appended to; it is locked while the process lives, so
            that no second one works in the same place, not even when we were killed.
        steps: how many steps it is long.
        progress: how many of them are done.
    """

    name: str
    command: Sequence[str]
    log: Path
    steps: int
    progress: Callable[[], int]


@dataclass
class State:
    """How far the jobs are.

    Attributes:
        waiting: not started yet, in order.
        running: slot → job and process.
        finished: names of those that ended well.
        failed: name → the end of its log.
        stopped: names of those that were stopped and can go on.
        busy: names of those that another process is at.
    """

    waiting: list[Job]
    running: dict[int, tuple[Job, subprocess.Popen[bytes]]] = field(default_factory=dict)
    finished: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every job ended well."""
        return not (self.waiting or self.running or self.failed or self.stopped or self.busy)


class StopRequest:
    """Whether to stop: by a signal, or because the time is up.

    Args:
        end: the time, of ``time.monotonic()``, to stop at; None: without limit.

    Example:
        >>> with StopRequest(time.monotonic() + 540).on_signals() as stop:
        ...     run_jobs(jobs, slots=4, stop=stop, ...)
    """

    def __init__(self, end: float | None = None) -> None:
        self._end = end
        self._signal: int | None = None

    @property
    def reason(self) -> str | None:
        """Why to stop; None while there is no reason."""
        if self._signal is not None:
            return signal.Signals(self._signal).name
        if self._end is not None and time.monotonic() >= self._end:
            return "time limit"
        return None

    @contextmanager
    def on_signals(self) -> Iterator[StopRequest]:
        """Take SIGINT and SIGTERM while the block lasts."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._note) for number in numbers}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = number


def run_jobs(
    jobs: Sequence[Job],
    *,
    slots: int,
    stop: StopRequest,
    stopped_code: int,
    grace: float = 60.0,
    environment: Callable[[int], Mapping[str, str]] = lambda slot: {},
    finish: Callable[[Job], None] = lambda job: None,
    watch: Callable[[State], None] = lambda state: None,
) -> State:
    """Run jobs, ``slots`` at a time, until all have ended or there is a reason to stop.

    A job that fails does not end the others. To stop, every process gets SIGTERM and, where it has
    not ended after ``grace`` seconds, SIGKILL.

    Args:
        jobs: in the order they are started in.
        slots: how many run at once.
        stop: the reason to stop, if there is one.
        stopped_code: the exit code of a job that was stopped and can go on.
        grace: seconds from SIGTERM to SIGKILL.
        environment: slot number → what its processes have in their environment beside ours.
        finish: called when a job ended well; what it raises makes the job a failed one.
        watch: called several times a second.

    Returns:
        How far they came.
    """
    state = State(list(jobs))
    terminated: float | None = None
    try:
        while state.running or (state.waiting and terminated is None):
            if stop.reason and terminated is None:
                terminated = time.monotonic()
                _signal_all(state, signal.SIGTERM)
            if terminated is not None and time.monotonic() > terminated + grace:
                _signal_all(state, signal.SIGKILL)
            for slot in range(slots):
                if slot in state.running:
                    _collect(state, slot, stopped_code, terminated is not None, finish)
                while slot not in state.running and state.waiting and terminated is None:
                    job = state.waiting.pop(0)
                    process = _start(job, environment(slot))
                    if process is None:
                        state.busy.append(job.name)
                    else:
                        state.running[slot] = (job, process)
            watch(state)
            time.sleep(_POLL_SECONDS)
    finally:  # an error here leaves no process behind
        _signal_all(state, signal.SIGKILL)
    return state


def _start(job: Job, environment: Mapping[str, str]) -> subprocess.Popen[bytes] | None:
    """Start a job; None if another process is at it."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("ab") as log:
        try:
            # Held by whoever has the open file: by the process too, as its output goes there.
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        return subprocess.Popen(
            list(job.command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            preexec_fn=os.setpgrp,  # Ctrl-C in the terminal is passed on by us, once
        )


def _collect(
    state: State, slot: int, stopped_code: int, stopping: bool, finish: Callable[[Job], None]
) -> None:
    """Take a job that has ended out of its slot."""
    job, process = state.running[slot]
    code = process.poll()
    if code is None:
        return
    del state.running[slot]
    if code == stopped_code or (stopping and code < 0):
        state.stopped.append(job.name)
    elif code != 0:
        state.failed[job.name] = f"exit code {code}; the end of {job.log}:\n{log_end(job.log)}"
    else:
        try:
            finish(job)
        except (OSError, ValueError, KeyError) as error:
            state.failed[job.name] = f"its results cannot be used: {error!r}"
        else:
            state.finished.append(job.name)


def _signal_all(state: State, number: signal.Signals) -> None:
    for _, process in state.running.values():
        if process.poll() is None:
            process.send_signal(number)


def log_end(path: Path, lines: int = 15) -> str:
    """Return the last lines of a log, of progress bars only what they ended with."""
    if not path.is_file():
        return "(there is no log)"
    text = path.read_bytes()[-20000:].decode("utf-8", errors="replace")
    rows: list[Any] = [line.rstrip().rpartition("\r")[2] for line in text.splitlines()]
    return "\n".join(rows[-lines:])
