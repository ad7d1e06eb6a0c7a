"""A command that is run again when there is something new."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from chts_hf.compare.refresh import Refresh

pytestmark = pytest.mark.distributed


def refresh(folder: Path, script: str) -> Refresh:
    return Refresh(["sh", "-c", script], folder / "new" / "log.txt", {"WORD": "said"})


def test_nothing_new_starts_nothing(tmp_path: Path) -> None:
    idle = refresh(tmp_path, "true")
    assert not idle.poll()
    assert idle.close(10)
    assert not (tmp_path / "new").exists()


def test_what_is_new_while_it_runs_is_for_its_next_run(tmp_path: Path) -> None:
    count = tmp_path / "count"
    page = refresh(tmp_path, f"echo $WORD; echo x >> {count}; sleep 0.4")
    page.want()
    assert page.poll()
    page.want()
    page.want()
    assert page.poll()  # still the first
    assert page.close(30)
    assert count.read_text() == "x\nx\n"
    assert (tmp_path / "new" / "log.txt").read_text() == "said\n"


def test_closing_takes_no_longer_than_it_may(tmp_path: Path) -> None:
    done = tmp_path / "done"
    page = refresh(tmp_path, f"sleep 2; touch {done}")
    page.want()
    page.poll()
    started = time.monotonic()
    assert not page.close(0.3)
    assert time.monotonic() - started < 1.5
    time.sleep(max(0.0, started + 2.5 - time.monotonic()))
    assert not done.exists()
    # Without any time nothing is begun.
    page.want()
    assert not page.close(0.0)
