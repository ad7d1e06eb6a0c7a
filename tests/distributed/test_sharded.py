"""FSDP2: masks lie as their parameters do, and the training is that of one process."""

from __future__ import annotations

import math
import weakref
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint import state_dict as dcp
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import GPT2Config, GPT2LMHeadModel

from chts_hf import CHTsConfig, Sparsifier, load_sparse, save_sparse, sharded_update
from chts_hf.checkpoint.mask_file import load_masks, save_masks
from chts_hf.distributed import ranks
from chts_hf.distributed.layout import Sharded, local
from tests.builders import tiny_marian
from tests.distributed.sharding import batch, shard
from tests.processes import run_ranks

pytestmark = pytest.mark.distributed

FULL = dcp.StateDictOptions(full_state_dict=True, cpu_offload=True)
BATCHES = 6  # as many micro-batches as 1, 2 and 3 ranks can share out
#: Over two ranks 33 rows do not divide; over three, four rows leave the last rank without any.
UNEVEN = {"encoder_ffn_dim": 33, "decoder_ffn_dim": 4}


def _model(kind: str) -> nn.Module:
    if kind == "gpt2":  # whose weights are (in, out), three projections in one of them
        torch.manual_seed(0)
        config = GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=48, n_positions=16)
        config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.0
        return GPT2LMHeadModel(config)
    return tiny_marian(**(UNEVEN if kind == "uneven" else {}))


def _config(method: str) -> CHTsConfig:
    return CHTsConfig(method=method, sparsity=0.8, update_interval=2)


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    sparsifier: Sparsifier,
    late: bool = False,
) -> float:
    """One optimizer step on all batches, shared out over the ranks; the norm before clipping.

    Gradients are reduced after every micro-batch, or ``late``, after the last one.
    """
    world = ranks.world_size()
    mine = [i for i in range(BATCHES) if i % world == ranks.rank()]
    for index in mine:
        if late and dist.is_initialized():
            model.set_requires_gradient_sync(index == mine[-1])
        (model(**batch(index)).loss / len(mine)).backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    optimizer.step()
    sparsifier.step()
    _check_invariants(model, optimizer, sparsifier)
    optimizer.zero_grad()
    return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)


def _check_invariants(
    model: nn.Module, optimizer: torch.optim.Optimizer, sparsifier: Sparsifier
) -> None:
    """Zeros off the links on this rank, exact counts over all of them."""
    parameters = dict(model.named_parameters())
    states = 0
    for name, mask in sparsifier.masks.items():
        weight = parameters[name]
        assert mask.shape == local(weight).shape
        state = [v for v in optimizer.state[weight].values() if v.shape == weight.shape]
        states += len(state)
        for tensor in (weight, weight.grad, *state):
            assert (local(tensor).detach()[~mask] == 0).all(), name
    assert states >= len(sparsifier.masks)
    updated_at = sparsifier.step_count // 2 * 2
    initial, final = sparsifier._initial, sparsifier._final
    for target in sparsifier.targets:
        links = sparsifier.masks[target.parameter_name].sum()
        if dist.is_initialized():
            dist.all_reduce(links)
        if target.rows is None:
            ends = initial[target.name], final[target.name]
            density = 1 - sparsifier.plan.sparsity(updated_at, *ends)
            assert int(links) == round(density * math.prod(target.weight.shape)), target.name


def _result(
    model: nn.Module, optimizer: torch.optim.Optimizer, sparsifier: Sparsifier
) -> dict[str, Any]:
    weights, states = dcp.get_state_dict(model, optimizer, options=FULL)
    return {
        "world": ranks.world_size(),
        "sharded": isinstance(sparsifier.layout, Sharded),
        "stats": sparsifier.stats(),
        "turnover": dict(sparsifier.turnover),
        "state": sparsifier.state_dict(),
        "weights": weights,
        "optimizer": states,
    }


def _ranks(function: Any, world: int, *arguments: Any) -> list[dict[str, Any]]:
    results = run_ranks(function, world, *arguments)
    for result in results:
        assert isinstance(result, dict), result
        assert result["world"] == world
        assert result["sharded"]
    return results


def _assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for what in ("masks", "ever"):
        for name, mask in expected["state"][what].items():
            assert torch.equal(found["state"][what][name], mask), (what, name)
    close = {"rtol": 1e-4, "atol": 1e-6}
    for name, history in expected["state"]["history"].items():
        past = expected["state"]["ever"][name] & ~expected["state"]["masks"][name]
        torch.testing.assert_close(found["state"]["history"][name][past], history[past], **close)
    for name, weight in expected["weights"].items():
        torch.testing.assert_close(found["weights"][name], weight, **close)
    for name, state in expected["optimizer"]["state"].items():
        for key, value in state.items():
            torch.testing.assert_close(found["optimizer"]["state"][name][key], value, **close)
    numbers = ("links", "weights", "sparsity", "by_kind", "itop_rate", "anp", "updates")
    assert all(found["stats"][n] == expected["stats"][n] for n in numbers)
    assert found["turnover"] == expected["turnover"]


# -- the same training ----------------------------------------------------------------------------


def _train(rank: int, method: str, kind: str, late: bool = False) -> dict[str, Any]:
    model = _model(kind)
    if dist.is_initialized():
        shard(model, layers=kind != "one unit")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with torch.no_grad():  # FSDP2 leaves the outermost module's weights whole after this
        model(**batch(0))
    made, alive, sizes = [], [], [0]
    make, at = sharded_update.make, Sharded.at

    def counted(block: Any, seed: int, update: int) -> Any:
        made.append((update, block.layers[0].target.name))
        return make(block, seed, update)

    def weighed(*arguments: Any) -> torch.Tensor | None:
        whole = at(*arguments)
        if whole is not None:
            alive.append(weakref.ref(whole._base))
            sizes.append(sum(base.nbytes for ref in alive if (base := ref()) is not None))
        return whole

    with patch.object(sharded_update, "make", counted), patch.object(Sharded, "at", weighed):
        sparsifier = Sparsifier(model, optimizer, _config(method), total_steps=20)
        norms = [_step(model, optimizer, sparsifier, late) for _ in range(8)]
    largest = max(sum(math.prod(t.shape) for t in block) for block, _ in sparsifier._blocks)
    return _result(model, optimizer, sparsifier) | {
        "norms": norms,
        "rows": {name: len(mask) for name, mask in sparsifier.masks.items()},
        "made": made,
        "blocks": len(sparsifier._blocks),
        # A gathered block has a mask, weights and for RigL gradients.
        "memory": max(sizes) / largest / (9 if method == "rigl" else 5),
    }


@pytest.mark.parametrize(
    ("method", "world", "kind", "late"),
    [
        ("chts", 2, "marian", False),
        ("chtss", 2, "gpt2", False),
        ("rigl", 2, "gpt2", False),
        ("rigl", 2, "one unit", True),
        ("chts", 3, "uneven", False),
    ],
)
def test_shards_train_like_one_process(method, world, kind, late):
    one = _train(0, method, kind)
    results = _ranks(_train, world, method, kind, late)
    first = results[0]
    assert first["stats"]["updates"] == 4
    assert any(change.regrown for change in first["turnover"].values())
    _assert_same(first, one)
    # Clipping saw the links only.
    torch.testing.assert_close(first["norms"], one["norms"], rtol=1e-4, atol=1e-6)
    for name, mask in one["state"]["masks"].items():
        assert sum(result["rows"][name] for result in results) == len(mask)
    assert all(result["state"]["masks"] == {} for result in results[1:])
    if kind == "uneven":
        assert 0 in results[-1]["rows"].values()
    for result in results:
        assert 0 < result["memory"] <= 18 / 16  # 16 rows are sent as 3 · 6
    for update in (1, 2, 3, 4):
        made = [name for result in results for u, name in result["made"] if u == update]
        assert len(made) == len(set(made)) == one["blocks"]
        assert all(any(u == update for u, _ in result["made"]) for result in results)


def _train_in_bf16(rank: int, folder: str) -> dict[str, Any]:
    """From weights that are scaled and ranked whole; then the model is saved as a sparse file."""
    model = tiny_marian()
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    shard(model, mp_policy=policy)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    config = CHTsConfig(
        method="rigl", sparsity=0.8, update_interval=2, init="magnitude", rescale_init=True
    )
    sparsifier = Sparsifier(model, optimizer, config, total_steps=20)
    first = sparsifier.state_dict().get("masks")
    rescaled, _ = dcp.get_state_dict(model, optimizer, options=FULL)
    for _ in range(4):
        _step(model, optimizer, sparsifier)
    result = _result(model, optimizer, sparsifier) | {"first": first, "rescaled": rescaled}
    if rank == 0:
        whole = tiny_marian(seed=3)
        whole.load_state_dict(result["weights"])
        save_sparse(whole, folder, config=config, masks=result["state"]["masks"])
    return result


def test_mixed_precision_and_a_sparse_file_of_it(tmp_path):
    config = CHTsConfig(method="rigl", sparsity=0.8, init="magnitude", rescale_init=True)
    one = Sparsifier(model := tiny_marian(), None, config, total_steps=200)
    result = _ranks(_train_in_bf16, 2, str(tmp_path))[0]
    assert result["stats"]["updates"] == 2
    for name, mask in one.masks.items():
        assert torch.equal(result["first"][name], mask)
        torch.testing.assert_close(result["rescaled"][name], model.get_parameter(name).detach())
    loaded = load_sparse(tmp_path)
    for name, weight in loaded.named_parameters():
        assert torch.equal(weight, result["weights"][name]), name


# -- other numbers of processes -------------------------------------------------------------------


def _first_part(rank: int, folder: str, method: str) -> dict[str, Any]:
    """Five steps, a checkpoint of whole tensors that the first rank writes, and four more."""
    model = _model("uneven")
    if dist.is_initialized():
        shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, eps=1e-4)
    config = _config(method)
    sparsifier = Sparsifier(model, optimizer, config, total_steps=20)
    for _ in range(5):
        _step(model, optimizer, sparsifier)
    weights, states = dcp.get_state_dict(model, optimizer, options=FULL)
    state = sparsifier.state_dict()
    if rank == 0:
        torch.save((weights, states), Path(folder) / "model.pt")
        save_masks(folder, state, config)
    for _ in range(4):
        _step(model, optimizer, sparsifier)
    return _result(model, optimizer, sparsifier)


def _second_part(rank: int, folder: str) -> dict[str, Any]:
    model = tiny_marian(seed=7, **UNEVEN)
    if dist.is_initialized():
        shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, eps=1e-4)
    weights, states = torch.load(Path(folder) / "model.pt")
    dcp.set_state_dict(
        model, optimizer, model_state_dict=weights, optim_state_dict=states, options=FULL
    )
    masks, config = load_masks(folder)
    sparsifier = Sparsifier(model, optimizer, config, total_steps=20, state=masks)
    for _ in range(4):
        _step(model, optimizer, sparsifier)
    return _result(model, optimizer, sparsifier)


@pytest.mark.parametrize(("method", "before", "after"), [("chts", 2, 1), ("rigl", 1, 2)])
def test_a_run_goes_on_with_another_number_of_processes(tmp_path, method, before, after):
    """And is the run that nobody stopped."""
    folder = str(tmp_path)
    if before == 1:
        expected = _first_part(0, folder, method)
        found = _ranks(_second_part, after, folder)[0]
    else:
        expected = _ranks(_first_part, before, folder, method)[0]
        found = _second_part(0, folder)
    assert found["stats"]["updates"] == 4
    _assert_same(found, expected)


def _from_a_file(rank: int, folder: str) -> dict[str, Any]:
    model = load_sparse(folder)
    if dist.is_initialized():
        shard(model)
    config = CHTsConfig(method="static", init="from_weights")
    sparsifier = Sparsifier(model, None, config, total_steps=100)
    return {
        "world": ranks.world_size(),
        "sharded": sparsifier.layout.sharded,
        "masks": sparsifier.state_dict()["masks"],
    }


def test_links_of_weight_zero_in_a_sparse_file_are_links_of_the_shards(tmp_path):
    first = Sparsifier(model := tiny_marian(**UNEVEN), None, CHTsConfig(sparsity=0.8), 200)
    for name, mask in first.masks.items():
        model.get_parameter(name).data.view(-1)[mask.flatten().nonzero()[:3]] = 0
    save_sparse(model, tmp_path)
    found = _ranks(_from_a_file, 2, str(tmp_path))[0]
    assert found["masks"].keys() == first.masks.keys()
    for name, mask in first.masks.items():
        assert torch.equal(found["masks"][name], mask), name
