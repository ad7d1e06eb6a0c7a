"""Processes a few at a time: failures, clean stops, locks."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from chts_hf.compare.runner import Job, State, StopRequest, run_jobs

pytestmark = pytest.mark.distributed
STOPPED = 75


def job(folder: Path, name: str, script: str) -> Job:
    return Job(name, ["sh", "-c", script], folder / name / "log.txt", 10, lambda: 3)


def run(jobs: list[Job], stop: StopRequest | None = None, **options: Any) -> State:
    options = {"slots": 2, "stopped_code": STOPPED, **options}
    return run_jobs(jobs, stop=stop or StopRequest(), **options)


def test_a_failed_run_is_reported_and_does_not_end_the_others(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, "bad", "echo a; echo the reason >&2; exit 3"),
        job(tmp_path, "good", "echo $SLOT"),
        job(tmp_path, "unread", "true"),
    ]

    def finish(done: Job) -> None:
        if done.name == "unread":
            raise ValueError("not what was asked for")

    state = run(jobs, slots=1, finish=finish, environment=lambda slot: {"SLOT": f"slot {slot}"})
    assert state.finished == ["good"]
    assert "exit code 3" in state.failed["bad"]
    assert state.failed["bad"].endswith("a\nthe reason")
    assert "not what was asked for" in state.failed["unread"]
    assert (tmp_path / "good" / "log.txt").read_text() == "slot 0\n"
    assert not state.complete


def test_so_many_run_at_a_time(tmp_path: Path) -> None:
    most = 0

    def watch(state: State) -> None:
        nonlocal most
        most = max(most, len(state.running))

    state = run([job(tmp_path, str(n), "sleep 0.3") for n in range(5)], slots=3, watch=watch)
    assert most == 3
    assert state.complete
    assert sorted(state.finished) == list("01234")


def test_a_time_limit_stops_all_and_starts_none(tmp_path: Path) -> None:
    script = f"trap 'kill $!; exit {STOPPED}' TERM; sleep 30 & wait"
    jobs = [job(tmp_path, name, script) for name in "abc"]
    started = time.monotonic()
    state = run(jobs, StopRequest(started + 1.0))
    assert time.monotonic() - started < 15
    assert sorted(state.stopped) == ["a", "b"]
    assert [one.name for one in state.waiting] == ["c"]
    assert not state.failed


def test_a_signal_to_us_is_passed_on_once_and_the_deaf_are_killed(tmp_path: Path) -> None:
    jobs = [job(tmp_path, "deaf", "trap '' TERM; while true; do sleep 0.1; done")]
    before = signal.getsignal(signal.SIGTERM)
    threading.Timer(0.7, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
    with StopRequest().on_signals() as stop:
        state = run(jobs, stop, grace=0.5)
    assert stop.reason == "SIGTERM"
    assert state.stopped == ["deaf"]
    assert signal.getsignal(signal.SIGTERM) == before


def test_no_two_work_at_one_run(tmp_path: Path) -> None:
    state = run([job(tmp_path, "one", "sleep 0.5"), job(tmp_path, "one", "true")])
    assert state.busy == ["one"]
    assert state.finished == ["one"]
    assert not state.complete


def test_a_run_that_was_killed_has_failed_and_the_others_go_on(tmp_path: Path) -> None:
    # As the kernel does where memory is out. Nobody asked it to stop, so it did not.
    jobs = [job(tmp_path, "killed", "echo so far; kill -9 $$"), job(tmp_path, "after", "true")]
    state = run(jobs, slots=1)
    assert list(state.failed) == ["killed"]
    assert "exit code -9" in state.failed["killed"]
    assert state.failed["killed"].endswith("so far")
    assert state.stopped == []
    assert state.finished == ["after"]
    assert not state.complete
