"""One line that says how far a comparison is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from chts_hf.compare.runner import State

_TTY_SECONDS, _PLAIN_SECONDS = 1.0, 60.0


class Progress:
    """Shows the state of a comparison's runs: rewritten in a terminal, else a line now and then.

    Args:
        total: runs in all.
        before: how many of them were finished before.
        stream: where to write.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        total: int,
        before: int,
        stream: TextIO = sys.stderr,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._before = total, before
        self._stream, self._clock = stream, clock
        self._tty = stream.isatty()
        self._start, self._shown_at, self._shown = clock(), float("-inf"), ""
        self._ended: tuple[int, int] = (0, 0)
        self._first: int | None = None

    def __call__(self, state: State) -> None:
        """Show the state if it is time to, or if a run has ended."""
        ended = (len(state.finished), len(state.failed))
        now = self._clock()
        due = now - self._shown_at >= (_TTY_SECONDS if self._tty else _PLAIN_SECONDS)
        if not due and ended == self._ended:
            return
        self._ended, self._shown_at = ended, now
        self._write(self.line(state))

    def line(self, state: State) -> str:
        """The line."""
        now = self._clock() - self._start
        counts = [f"{self._before + len(state.finished)}/{self._total} runs done"]
        if state.failed:
            counts.append(f"{len(state.failed)} failed")
        left = sum(job.steps - job.progress() for job in state.waiting)
        running = []
        for job, _ in state.running.values():
            at = job.progress()
            left += job.steps - at
            where = f"{at}/{job.steps}" if at < job.steps else "testing"
            running.append(f"{job.name} {where}")
        if self._first is None:
            self._first = left
        rate = (self._first - left) / now if now > 0 else 0.0
        parts = [f"[{_clock_text(now)}] {', '.join(counts)}"]
        if running:
            parts.append(f"running {', '.join(running)}")
        if left and rate > 0:
            parts.append(f"{_clock_text(left / rate)} left")
        return "; ".join(parts)

    def close(self) -> None:
        """End the line."""
        if self._tty and self._shown:
            self._stream.write("\n")

    def _write(self, line: str) -> None:
        if self._tty:
            self._stream.write("\r" + line.ljust(len(self._shown)))
        else:
            self._stream.write(line + "\n")
        self._stream.flush()
        self._shown = line


def _clock_text(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
