from __future__ import annotations

import pytest
import torch

from chts_hf import CHTsConfig, Sparsifier
from chts_hf.zero_links import known_zero_links, remember_zero_links
from tests.builders import tiny_marian


def test_they_outlive_a_failure_and_are_taken_up_once() -> None:
    model = tiny_marian()
    with torch.no_grad():
        name = "model.encoder.layers.0.fc1.weight"
        weight = model.get_parameter(name)
        weight.view(-1)[:10] = 0
    remember_zero_links(model, name, torch.tensor([2, 5]))
    with pytest.raises(ValueError, match="csti"):
        Sparsifier(model, None, CHTsConfig(sparsity=0.5, init="csti"), total_steps=1000)
    config = CHTsConfig(method="static", init="from_weights")
    sparsifier = Sparsifier(model, None, config, total_steps=1000)
    assert sparsifier.masks[name].flatten()[:10].nonzero().flatten().tolist() == [2, 5]
    assert known_zero_links(model, name) is None
