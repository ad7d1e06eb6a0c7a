"""A command that is run again beside other work whenever there is something new."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_POLL_SECONDS = 0.1


class Refresh:
    """Runs a command in the background, one at a time, as often as there is something new for it.

    What is new while it runs is for its next run. It is no part of our process group, so Ctrl-C in
    a terminal does not end it.

    Args:
        command: program and arguments; it must leave nothing half done where it is killed.
        log: the file that its output replaces.
        environment: what it has in its environment beside ours.

    Example:
        >>> page = Refresh(["python", "recipes/compare.py", "compare.yaml", "--report"], log, {})
        >>> page.want()  # whenever a run has ended
        >>> page.poll()  # now and then
        >>> page.close(seconds=10.0)
        True
    """

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self._command, self._log = list(command), log
        self._environment = {**os.environ, **environment}
        self._wanted = False
        self._process: subprocess.Popen[bytes] | None = None

    def want(self) -> None:
        """There is something new."""
        self._wanted = True

    def poll(self) -> bool:
        """Start the command if it is time to; return whether it runs."""
        if self._process is not None and self._process.poll() is None:
            return True
        self._process = None
        if self._wanted:
            self._wanted = False
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._environment,
                    start_new_session=True,
                )
        return self._process is not None

    def close(self, seconds: float) -> bool:
        """Let what is wanted be done; kill it where that takes longer than so many seconds.

        Returns:
            Whether all that was new has been given to a command that ended.
        """
        end = time.monotonic() + seconds
        while seconds > 0 and self.poll() and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
        running = self._process is not None and self._process.poll() is None
        if self._process is not None and running:
            self._process.kill()
            self._process.wait()
        return not (running or self._wanted)
