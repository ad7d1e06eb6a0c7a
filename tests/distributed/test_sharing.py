"""The work of an update is dealt out, and every rank applies the same result."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
import torch.distributed as dist

from chts_hf import CHTsConfig, Sparsifier, shared_update
from chts_hf.bits import pack_bits
from chts_hf.distributed import ranks, sharing
from tests.builders import tiny_marian
from tests.processes import run_ranks

distributed, slow = pytest.mark.distributed, pytest.mark.slow


def _batch(index: int = 0) -> dict[str, torch.Tensor]:
    ids = torch.arange(3 + 8 * index, 11 + 8 * index).reshape(1, 8)
    return {"input_ids": ids, "labels": ids + 1}


# -- dealing out -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["chts", "dense"])
def test_what_ranks_send_at_the_start_comes_from_the_models_device(monkeypatch, method):
    """The process's current GPU may be another one, where NCCL finds several ranks on the first."""
    sent = []
    monkeypatch.setattr(ranks, "world_size", lambda: 2)
    monkeypatch.setattr(ranks, "rank", lambda: 0)
    monkeypatch.setattr(dist, "all_reduce", lambda tensor, op: sent.append(tensor.device))
    monkeypatch.setattr(ranks, "_home", lambda: pytest.fail("the model's device is known"))
    sparsifier = Sparsifier(tiny_marian(), None, CHTsConfig(method=method, sparsity=0.8), 1000)
    sparsifier.check_ranks()
    assert len(sent) >= 3
    assert set(sent) == {torch.device("cpu")}


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_the_busiest_rank_has_at_most_four_thirds_of_the_best(count):
    generator = torch.Generator().manual_seed(count)
    for _ in range(20):
        costs = torch.randint(1, 20, (7,), generator=generator).tolist()
        owners = sharing.assign(costs, count)
        load = [sum(c for c, o in zip(costs, owners, strict=True) if o == r) for r in range(count)]
        if count <= 3:
            best = min(
                max(sum(c for c, o in zip(costs, deal, strict=True) if o == r) for r in range(3))
                for deal in itertools.product(range(count), repeat=7)
            )
            assert max(load) <= 4 / 3 * best
        else:
            assert max(load) == max(costs)


def test_equal_blocks_are_dealt_out_evenly():
    owners = sharing.assign([5.0] * 64, 8)
    assert [owners.count(rank) for rank in range(8)] == [8] * 8


# -- fingerprints ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (64, 64), (65, 257)])
def test_a_fingerprint_differs_where_one_link_does(shape, monkeypatch):
    monkeypatch.setattr(ranks, "_CHUNK", 64)  # so that a small mask has several parts
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.1
    same = mask.clone()
    assert ranks.fingerprint(mask) == ranks.fingerprint(same)
    seen = {int(ranks.fingerprint(mask))}
    places = torch.randperm(mask.numel())[:20].tolist() + [mask.numel() - 1]
    for place in set(places):
        other = mask.clone()
        other.view(-1)[place] ^= True
        seen.add(int(ranks.fingerprint(other)))
    assert len(seen) == 1 + len(set(places))


def test_a_fingerprint_sees_links_that_changed_places():
    """Sums that weigh places evenly do not see a pair of moves that cancel each other."""
    mask = torch.zeros(1, 800, dtype=torch.bool)
    seen = set()
    for distance in range(1, 400):
        moved = mask.clone()
        moved[0, [400 - distance, 400 + distance]] = True
        seen.add(int(ranks.fingerprint(moved)))
        alone = mask.clone()
        alone[0, distance] = True
        seen.add(int(ranks.fingerprint(alone)))
    assert len(seen) == 2 * 399


def test_a_fingerprint_of_a_transposed_mask_is_that_of_its_elements():
    mask = torch.rand(20, 30) < 0.5
    assert ranks.fingerprint(mask.T) == ranks.fingerprint(mask.T.contiguous())


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 8), (64, 33)])
def test_packing_on_a_gpu_makes_the_same_bytes(shape):
    mask = torch.rand(shape) < 0.3
    packed = sharing.pack_on_device(mask)
    assert torch.equal(packed, pack_bits(mask))
    assert torch.equal(sharing.unpack_on_device(packed, shape), mask)


# -- on several ranks ------------------------------------------------------------------------


def _train(rank: int, method: str, dtype: torch.dtype = torch.float32) -> dict:
    """Eight steps with four updates; each rank has its own half of the batch."""
    world = ranks.world_size()
    model = tiny_marian().to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    config = CHTsConfig(method=method, sparsity=0.8, update_interval=2)
    calls = []
    original = shared_update.update_block

    def counted(layers, pairs, seed, update):
        calls.append((update, layers[0].target.name))
        return original(layers, pairs, seed, update)

    shared_update.update_block = counted
    try:
        sparsifier = Sparsifier(model, optimizer, config, total_steps=20)
        wrapped = torch.nn.parallel.DistributedDataParallel(model) if world > 1 else model
        for _ in range(8):
            for index in range(2) if world == 1 else [rank]:
                (wrapped(**_batch(index)).loss / (2 if world == 1 else 1)).backward()
            optimizer.step()
            sparsifier.step()
            optimizer.zero_grad()
        sparsifier.close()
    finally:
        shared_update.update_block = original
    state = sparsifier.state_dict()
    return {
        "calls": calls,
        "blocks": len(sparsifier._blocks),
        "masks": state["masks"],
        "ever": state["ever"],
        "history": state["history"],
        "weights": {n: p.detach() for n, p in model.named_parameters()},
        "momentum": [s["momentum_buffer"] for s in optimizer.state.values()],
    }


@distributed
@pytest.mark.parametrize("method", ["chts", "rigl", pytest.param("mest", marks=slow)])
def test_each_block_is_made_once_and_every_rank_has_it(method):
    one = _train(0, method)
    both = run_ranks(_train, 2, method)
    for result in both:
        assert isinstance(result, dict), result
    for update in (1, 2, 3, 4):
        made = [[name for u, name in r["calls"] if u == update] for r in both]
        assert all(made), "a rank had nothing to do"
        assert len(made[0]) + len(made[1]) == one["blocks"]
        assert not set(made[0]) & set(made[1])
    for what in ("masks", "ever", "history"):
        for name, tensor in both[0][what].items():
            assert torch.equal(tensor, both[1][what][name]), (what, name)
            torch.testing.assert_close(tensor, one[what][name], rtol=1e-4, atol=1e-6)
    for name, weight in both[0]["weights"].items():
        assert torch.equal(weight, both[1]["weights"][name]), name
        torch.testing.assert_close(weight, one["weights"][name], rtol=1e-4, atol=1e-6)
    for mine, other in zip(both[0]["momentum"], one["momentum"], strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def _one_rank_fails(rank: int) -> tuple[bool, str]:
    model = tiny_marian()
    sparsifier = Sparsifier(model, None, CHTsConfig(sparsity=0.8, update_interval=1), 100)
    before = copy.deepcopy(sparsifier.masks)
    if rank == 1:

        def fails(*_: object) -> None:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

        shared_update.update_block = fails
    try:
        sparsifier.step()
    except RuntimeError as error:
        unchanged = all(torch.equal(before[n], m) for n, m in sparsifier.masks.items())
        return unchanged, str(error)
    return False, "no error"


@distributed
def test_what_fails_on_one_rank_stops_all_before_anything_changes():
    first, second = run_ranks(_one_rank_fails, 2)
    assert first == (True, first[1])
    assert second == (True, second[1])
    assert first[1].startswith("rank 1 could not make its part")
    assert second[1].startswith("memory does not suffice to update model.")


def _other_state(rank: int) -> str:
    model = tiny_marian()
    config = CHTsConfig(sparsity=0.8)
    first = Sparsifier(model, None, config, 200)
    state = first.state_dict()
    first.close()
    if rank == 1:
        state["masks"].popitem()
    try:
        Sparsifier(model, None, config, 200, state=state)
    except (RuntimeError, ValueError) as error:
        dist.barrier()  # which the other one reaches too
        return str(error)
    return "no error"


@distributed
def test_a_state_that_one_rank_can_not_take_stops_all():
    first, second = run_ranks(_other_state, 2, timeout=60)
    assert first.startswith("rank 1 could not begin with the weights and the state it was given")
    assert second.startswith("the masks are of another model or configuration: missing")


def _other_masks(rank: int, method: str, when: str) -> str:
    model = tiny_marian()
    config = CHTsConfig(method=method, sparsity=0.8, update_interval=1, seed=rank * (when == "at"))
    try:
        sparsifier = Sparsifier(model, None, config, 100)
        if when == "layers":
            model.model.decoder.layers[0].fc1.weight.requires_grad_(rank == 0)
            sparsifier.close()
            sparsifier = Sparsifier(model, None, config, 100)
        mask = sparsifier.masks["model.decoder.layers.0.fc1.weight"]
        mask[0] ^= rank == 1
        sparsifier.check_ranks() if when == "checkpoint" else sparsifier.step()
    except RuntimeError as error:
        return str(error)
    return "no error"


@distributed
@pytest.mark.parametrize(
    ("method", "when", "message"),
    [
        ("static", "at", "the masks of model.encoder"),
        ("static", "checkpoint", "the masks of model.decoder.layers.0.fc1.weight differ"),
        ("set", "update", "the masks of model.decoder.layers.0.fc1.weight differ"),
        ("set", "layers", "the ranks have not the same layers"),
    ],
)
def test_masks_that_differ_stop_every_rank(method, when, message):
    for error in run_ranks(_other_masks, 2, method, when):
        assert error.startswith(message)


def _padding(rank: int) -> list[bool]:
    """Layers whose bits do not fill their last byte, from either rank."""
    made = []
    for owner in (0, 1):
        generator = torch.Generator().manual_seed(owner)
        masks = [torch.rand(s, generator=generator) < 0.5 for s in ((3, 5), (8, 8), (1, 1))]
        packed = sharing.pack(masks) if rank == owner else None
        got = sharing.share(packed, [(3, 5), (8, 8), (1, 1)], owner, torch.device("cpu"))
        made += [torch.equal(a, b) for a, b in zip(masks, got, strict=True)]
    tensor = torch.full((3,), float(rank))
    ranks.mean_at(tensor, 1)
    made.append(rank == 0 or bool((tensor == 0.5).all()))
    dist.barrier()
    return made


@distributed
def test_packed_masks_arrive_as_they_were():
    assert run_ranks(_padding, 2) == [[True] * 7] * 2
