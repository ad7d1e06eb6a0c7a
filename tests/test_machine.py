"""Times of what a device computes behind the program's back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from chts_hf import CHTsConfig, Sparsifier, sparsifier
from chts_hf.machine import settled_time
from tests.builders import tiny_marian


def test_a_time_is_taken_when_cuda_devices_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    before = settled_time([torch.empty(1), torch.empty(1, device="meta")])
    assert not waited
    on_cuda: Any = [SimpleNamespace(device=torch.device("cuda", index)) for index in (0, 1, 0)]
    assert settled_time(on_cuda) >= before
    assert sorted(device.index for device in waited) == [0, 1]


def test_the_runtime_of_updates_is_taken_around_them_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_marian()
    made = Sparsifier(model, None, CHTsConfig(update_interval=3, rewarm_steps=0), 12)
    events: list[str] = []

    def clock(tensors: Any) -> float:
        assert {id(tensor) for tensor in tensors} == {id(mask) for mask in made.masks.values()}
        events.append("clock")
        return 2.0 * len(events)

    monkeypatch.setattr(sparsifier, "settled_time", clock)
    monkeypatch.setattr(made, "_update", lambda: events.append("update"))
    for _ in range(3):
        assert not events
        made.step()
    assert events == ["clock", "update", "clock"]
    assert made.topology_runtime == 4.0  # from 2 to 6
