"""Off the CPU layers are looked at as wholes, by other functions: what comes out is the same.

That branch is forced here, on a CPU.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from chts_hf import CHTsConfig, Sparsifier
from chts_hf.topology import PREDICTORS, ch_scores, link_prediction, selection

SHAPE = 384, 320  # several blocks of cells and of rows on a CPU
TARGETS = {"ffn.up": "0", "ffn.down": "1"}


class Calls(TorchDispatchMode):
    """Counts what PyTorch is asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen[str(func)] += 1
        return func(*args, **kwargs or {})


@pytest.fixture
def force(monkeypatch: pytest.MonkeyPatch) -> Any:
    def force(*modules: Any) -> None:
        for module in modules:
            monkeypatch.setattr(module, "on_cpu", lambda cells: False)

    return force


def _updated(method: str, updates: int = 2) -> tuple[dict[str, Tensor], Calls]:
    """The masks of two tied layers after their updates, and what these took."""
    torch.manual_seed(0)
    rows, columns = SHAPE
    model = torch.nn.Sequential(torch.nn.Linear(columns, rows), torch.nn.Linear(rows, columns))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    config = CHTsConfig(
        method=method, sparsity=0.9, update_interval=2, rewarm_steps=0, t_end=1.0, targets=TARGETS
    )
    sparsifier = Sparsifier(model, optimizer, config, 8)
    calls, data = Calls(), torch.randn(16, columns)
    for _ in range(2 * updates):
        model(data).square().mean().backward()
        optimizer.step()
        with calls:
            sparsifier.step()
        optimizer.zero_grad()
    assert sparsifier.updates == updates
    return {name: mask.clone() for name, mask in sparsifier.masks.items()}, calls


@pytest.mark.parametrize("method", ["set", "rigl", "chts", "chtss", "mest", "gmp", "granet"])
def test_updates_choose_the_same_links(method: str, force: Any) -> None:
    in_blocks, _ = _updated(method)
    force(selection)
    whole, _ = _updated(method)
    assert whole.keys() == in_blocks.keys()
    for name, mask in whole.items():
        assert torch.equal(mask, in_blocks[name]), name


@pytest.mark.parametrize("method", ["chts", "chtss"])
def test_scores_summed_in_another_order_choose_nearly_the_same_links(
    method: str, force: Any
) -> None:
    in_blocks, _ = _updated(method, updates=1)
    force(selection, link_prediction)
    whole, _ = _updated(method, updates=1)
    for name, mask in whole.items():
        assert int((mask ^ in_blocks[name]).sum()) <= 0.02 * int(mask.sum()), name


def test_an_update_takes_fewer_operations_as_a_whole(
    force: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them takes a device as long to start as all it computes here."""
    force(selection, link_prediction)
    _, whole = _updated("chts")
    monkeypatch.setattr(selection, "DEVICE_BLOCK_BYTES", 32 << 15)  # of 2^15 cells, as on a CPU
    monkeypatch.setattr(link_prediction, "DEVICE_BLOCK_BYTES", 16 * 64 * SHAPE[0])  # of 64 rows
    _, in_blocks = _updated("chts")
    assert whole.seen.total() < 0.7 * in_blocks.seen.total()


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_scores_are_the_same(predictor: str, force: Any) -> None:
    mask = torch.rand(60, 47, generator=torch.Generator().manual_seed(0)) < 0.2
    in_blocks = ch_scores(mask, predictor)
    force(link_prediction)
    torch.testing.assert_close(ch_scores(mask, predictor), in_blocks, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cells", [1, 1 << 10, 1 << 30])
def test_blocks_stay_within_their_memory(cells: int, force: Any) -> None:
    force(selection, link_prediction)
    tensor = torch.empty(1, dtype=torch.bool).expand(cells)
    assert 32 * selection.block_size(tensor) <= 256 << 20
    assert min(cells, 1 << 23) <= selection.block_size(tensor)  # larger layers alone are cut
    square = torch.empty(1, dtype=torch.bool).expand(4096, 4096)
    assert link_prediction._rows_at_once(square) == 4096
    wide = torch.empty(1, dtype=torch.bool).expand(1 << 15, 8)
    assert link_prediction._rows_at_once(wide) == 512
