"""What the recipes share: how a mistake of the user's ends."""

from __future__ import annotations

import pytest

from chts_hf.runs.recipe import run_script


def _fail() -> None:
    raise ValueError("sparsity must be in [0, 1), got 2")


def test_a_users_mistake_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run_script(_fail)
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("error: sparsity must be in [0, 1), got 2\n")


def test_the_traceback_is_there_if_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHTS_TRACEBACK", "1")
    with pytest.raises(ValueError, match="got 2"):
        run_script(_fail)


def test_other_errors_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run_script(lambda: 1 // 0)
