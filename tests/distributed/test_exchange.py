"""Gradients of links alone between ranks: the same training, a tenth of the bytes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

from chts_hf import CHTsConfig, Sparsifier
from chts_hf.distributed.exchange import register_sparse_exchange
from tests.builders import tiny_marian
from tests.processes import run_ranks

pytestmark = pytest.mark.distributed


def _batch(index: int) -> dict[str, torch.Tensor]:
    ids = torch.arange(3 + 8 * index, 11 + 8 * index).reshape(1, 8)
    return {"input_ids": ids, "labels": ids + 1}


def _bf16(hook: Any) -> Any:
    """Torch's wrapper under another name, by which DDP would refuse it without a GPU."""
    wrapped = default_hooks.bf16_compress_wrapper(hook)
    return lambda state, bucket: wrapped(state, bucket)


def _train(rank: int, method: str, exchange: str, accumulate: int) -> dict[str, Any]:
    model = tiny_marian(d_model=32, encoder_ffn_dim=64, decoder_ffn_dim=64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    config = CHTsConfig(method=method, sparsity=0.9, update_interval=2)
    sparsifier = Sparsifier(model, optimizer, config, total_steps=20)
    # Small buckets, so that one parameter's gradients and the next one's come apart.
    wrapped = DistributedDataParallel(model, bucket_cap_mb=0.01)
    counts = None
    if exchange == "sparse":
        counts = register_sparse_exchange(wrapped, sparsifier)
    elif exchange == "sparse bf16":
        counts = register_sparse_exchange(wrapped, sparsifier, _bf16)
    norms = []
    for step in range(6):
        for micro in range(accumulate):
            wrapped.require_backward_grad_sync = micro == accumulate - 1
            wrapped(**_batch((rank + 2 * micro + step) % 4)).loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        norms.append(torch.stack([g.float().norm() for g in gradients]))
        for name, mask in sparsifier.masks.items():
            assert (model.get_parameter(name).grad[~mask] == 0).all()
        optimizer.step()
        sparsifier.step()
        optimizer.zero_grad()
    assert sparsifier.updates == (0 if method == "static" else 3)
    return {
        "masks": {n: m.clone() for n, m in sparsifier.masks.items()},
        "weights": {n: p.detach() for n, p in model.named_parameters()},
        "norms": torch.stack(norms),
        "bytes": counts and (counts.sent_bytes, counts.dense_bytes, counts.other_bytes),
        "links": sparsifier.stats()["links"],
    }


def _ranks(*arguments: Any) -> dict[str, Any]:
    results = run_ranks(_train, 2, *arguments)
    for result in results:
        assert isinstance(result, dict), result
    first, second = results
    for name, weight in first["weights"].items():
        assert torch.equal(weight, second["weights"][name]), name
    return first


@pytest.mark.parametrize(("method", "accumulate"), [("chts", 1), ("rigl", 2)])
def test_the_same_training_in_a_tenth_of_the_bytes(method, accumulate):
    """Masks change within the run; RigL's dense gradients do not pass through the hook."""
    dense, sparse = (_ranks(method, exchange, accumulate) for exchange in ("dense", "sparse"))
    for name, mask in dense["masks"].items():
        assert torch.equal(mask, sparse["masks"][name]), name
    for name, weight in dense["weights"].items():
        torch.testing.assert_close(sparse["weights"][name], weight, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(sparse["norms"], dense["norms"], rtol=1e-4, atol=1e-6)
    sent, all_of_it, other = sparse["bytes"]
    assert sent <= 0.12 * all_of_it
    assert sent == 6 * 4 * sparse["links"]
    assert other > 0


def test_it_composes_with_bf16_compression():
    dense, sparse = (_ranks("static", exchange, 1) for exchange in ("dense", "sparse bf16"))
    torch.testing.assert_close(sparse["norms"], dense["norms"], rtol=2e-2, atol=1e-3)
    sent, _, _ = sparse["bytes"]
    assert sent == 6 * 2 * sparse["links"]


FC1 = "model.decoder.layers.0.fc1.weight"


def _overflow(rank: int) -> list[tuple[int, float]]:
    """Steps counted, and a sum of the weights, after rank 1 alone had infinity off the links."""
    found = []
    for exchange in (False, True):
        model = tiny_marian()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        config = CHTsConfig(method="set", sparsity=0.8, update_interval=2)
        sparsifier = Sparsifier(model, optimizer, config, 20, scaler=scaler)
        wrapped = DistributedDataParallel(model)
        if exchange:
            register_sparse_exchange(wrapped, sparsifier)
        spoil = torch.zeros(32, 16)
        if rank == 1:
            spoil.masked_fill_(~sparsifier.masks[FC1], math.inf)
        model.get_parameter(FC1).register_hook(lambda gradient, spoil=spoil: gradient + spoil)
        for _ in range(2):
            scaler.scale(wrapped(**_batch(rank)).loss).backward()
            scaler.step(optimizer)
            scaler.update()
            sparsifier.step()
            optimizer.zero_grad()
            spoil.zero_()
        total = sum(float(p.detach().double().sum()) for p in model.parameters())
        found.append((sparsifier.step_count, total))
    return found


def test_a_gradient_that_overflows_off_the_links_of_one_rank_is_skipped_by_all():
    """As without the exchange; a rank that stepped alone would have other weights for good."""
    first, second = run_ranks(_overflow, 2, timeout=60)
    assert first == second
    (dense, expected), (sparse, total) = first
    assert dense == sparse == 1
    assert total == pytest.approx(expected)


def _closed(rank: int) -> torch.Tensor:
    """A gradient of dense training that follows the sparse one."""
    model = tiny_marian()
    sparsifier = Sparsifier(model, None, CHTsConfig(sparsity=0.8), 200)
    wrapped = DistributedDataParallel(model)
    register_sparse_exchange(wrapped, sparsifier)
    wrapped(**_batch(rank)).loss.backward()
    sparsifier.close()
    model.zero_grad()
    wrapped(**_batch(rank)).loss.backward()
    gradient = model.get_parameter(FC1).grad
    assert (gradient[~sparsifier.masks[FC1]] != 0).any()
    return gradient


def test_without_its_sparsifier_all_gradients_are_exchanged():
    """Off the links they are no longer 0, and would be those of each rank alone."""
    first, second = run_ranks(_closed, 2, timeout=60)
    assert torch.equal(first, second)


def test_a_model_that_is_not_wrapped_is_refused():
    sparsifier = Sparsifier(model := tiny_marian(), None, CHTsConfig(sparsity=0.8), 200)
    with pytest.raises(TypeError, match="works on DistributedDataParallel, and this is a Marian"):
        register_sparse_exchange(model, sparsifier)
