"""A Hub of our own for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from huggingface_hub import constants
from transformers.utils import hub as transformers_hub

from tests.hub.stand_in import HubStandIn, running_hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    """A running stand-in, which pushes of this process go to; pulling needs a fresh process."""
    with running_hub() as server:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(transformers_hub, "_hf_api", None)
        yield server
