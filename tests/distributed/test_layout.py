"""Parts of sharded weights: what can be wrong with them, and what is refused."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint.state_dict
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module
from transformers import TrainerControl, TrainerState, TrainingArguments

from chts_hf import CHTsCallback, CHTsConfig, Sparsifier, save_sparse
from chts_hf import sparsifier as sparsifier_module
from chts_hf.checkpoint import mask_file
from chts_hf.distributed.layout import Sharded, layout_of, local
from chts_hf.sharded_update import write_part
from chts_hf.targets import Target
from tests.builders import tiny_marian
from tests.distributed.sharding import batch, shard
from tests.processes import run_ranks

FC1 = "model.decoder.layers.0.fc1.weight"


class _OneOf(Sharded):
    """What one rank of several knows of a parameter."""

    def __init__(self, shape: tuple[int, int], rank: int, world: int) -> None:
        self._shapes, self._rank, self._world = {"w": shape}, rank, world


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("rows", [None, (0, 3), (3, 7), (7, 9)])
@pytest.mark.parametrize("transposed", [False, True])
def test_parts_written_by_all_ranks_are_the_whole(world, rows, transposed):
    """Also where a projection is some rows or columns of its parameter, and a rank has none."""
    shape = (4, 9) if transposed else (9, 4)
    weight = nn.Parameter(torch.rand(shape))
    target = Target("w", "w", weight, "ffn.up", "", transposed=transposed, rows=rows)
    matrix = torch.rand(target.shape)
    expected = torch.zeros(shape)
    target.view(expected).copy_(matrix)
    held = []
    for rank in range(world):
        layout = _OneOf(shape, rank, world)
        held.append(torch.zeros_like(layout.part("w", expected)))
        write_part(target, layout, held[-1], matrix)
    assert torch.equal(torch.cat(held), expected)


def test_masks_of_another_shape_are_refused():
    masks = {FC1: torch.ones(16, 16, dtype=torch.bool)}
    config = CHTsConfig(sparsity=0.8, targets={"up": FC1.removesuffix(".weight")})
    with pytest.raises(ValueError, match=r"of shape \(32, 16\), got .*\(16, 16\); where"):
        Sparsifier(tiny_marian(), None, config, 200, masks=masks)


@pytest.fixture
def alone(tmp_path):
    """A process group of this process alone."""
    store = f"file://{tmp_path}/group"
    dist.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"enable_jit_checkpoint": True}, 'enable_jit_checkpoint=True .* save_strategy="steps"'),
        ({"push_to_hub": True}, "hub_strategy='every_save' does not work .* hub_strategy=\"end\""),
        ({"torch_compile": True}, "torch_compile=True does not work where the weights are sharded"),
        ({}, r"lm_head.weight should be one with another .*callbacks=\[...\].* fully_shard"),
    ],
)
def test_the_trainer_refuses_what_sharded_processes_do_not_do_together(tmp_path, changes, message):
    """The last of them: a weight that several modules share, and one was sharded alone."""
    model = tiny_marian()
    if not changes:
        fully_shard(model.lm_head, mesh=dist.init_device_mesh("cpu", (1,)))
    shard(model)
    if "torch_compile" in changes:
        model._orig_mod = nn.Identity()  # as torch.compile leaves it
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    arguments.__dict__.update(changes)
    callback = CHTsCallback(CHTsConfig(sparsity=0.8))
    with pytest.raises(ValueError, match=message):
        callback.on_train_begin(
            arguments, TrainerState(), TrainerControl(), model=model, optimizer=None
        )


@pytest.mark.usefixtures("alone")
def test_an_optimizer_of_the_weights_before_they_were_sharded():
    model = tiny_marian()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="trains none of the weights .* after fully_shard"):
        Sparsifier(shard(model), optimizer, CHTsConfig(sparsity=0.8), 200)


@pytest.mark.usefixtures("alone")
@pytest.mark.skipif(torch.cuda.is_available(), reason="fully_shard would take the GPU")
def test_the_examples_of_the_page_run_as_they_are_printed(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "distributed.md").read_text(encoding="utf-8")
    code = dict(re.findall(r"<!-- test: ([^\n]*) -->\n```python\n(.*?)```", page, re.S))
    names = {"model": tiny_marian(), "config": CHTsConfig(sparsity=0.8), "folder": tmp_path}
    for module in (torch.distributed.checkpoint.state_dict, mask_file):
        names |= vars(module)
    names |= {"Sparsifier": Sparsifier, "fully_shard": fully_shard, "torch": torch, "dist": dist}
    exec(code["fsdp2"], names)
    first = names["sparsifier"]
    assert first.layout.sharded
    names["model"](**batch(0)).loss.backward()
    names["optimizer"].step()
    first.step()
    save, later = code["fsdp2 checkpoint"].split("# Later")
    exec(save, names)
    first.close()
    names["model"] = tiny_marian(seed=5)
    exec(code["fsdp2"], names)
    names["sparsifier"].close()
    exec(f"# Later{later}", names)
    assert names["sparsifier"].step_count == 1
    for name, mask in first.masks.items():
        assert torch.equal(names["sparsifier"].masks[name], mask)


# -- what goes wrong stops every rank -------------------------------------------------------------


def _errors(rank: int) -> dict[str, tuple[str, bool]]:
    """Case → the error of a step gone wrong on the last rank, and whether masks are as before."""
    cases = ("state", "one state", "nan", "memory", "lost", "save", "seed")
    return {what: _error(what, rank == 1) for what in cases}


def _full(*_: Any) -> torch.Tensor:
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory")


def _error(what: str, last: bool) -> tuple[str, bool]:
    model = shard(tiny_marian())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seed = int(what == "seed" and last)
    config = CHTsConfig(method="set", sparsity=0.8, update_interval=1, seed=seed)
    masks: dict[str, torch.Tensor] = {}
    before: dict[str, torch.Tensor] = {}
    write_links, room = sparsifier_module.write_links, Sharded.room
    try:
        sparsifier = Sparsifier(model, optimizer, config, total_steps=20)
        masks = sparsifier.masks
        before = {name: mask.clone() for name, mask in masks.items()}
        state = [sparsifier.state_dict()]
        dist.broadcast_object_list(state)
        model(**batch(0)).loss.backward()
        optimizer.step()
        if what == "state":
            sparsifier.load_state_dict(state[0])
        if what == "one state":
            sparsifier.close()
            Sparsifier(model, optimizer, config, 20, state=None if last else state[0])
        if what == "memory" and last:
            Sharded.room = _full  # before anything is gathered
        if what == "nan" and last:
            local(model.get_parameter(FC1)).data[masks[FC1]] = math.nan
        if what == "lost" and last:
            sparsifier_module.write_links = lambda *_: None
        if what == "save":
            save_sparse(model, "never")
        sparsifier.step()
    except (RuntimeError, ValueError) as error:
        return str(error), all(torch.equal(before[name], mask) for name, mask in masks.items())
    finally:
        sparsifier_module.write_links = write_links
        Sharded.room = room
    return "no error", False


@pytest.mark.distributed
def test_what_is_wrong_on_one_rank_stops_all():
    both = run_ranks(_errors, 2, timeout=60)
    for found in both:
        assert isinstance(found, dict), found
    patterns = {
        "state": ("the masks were saved with other weights of ", "rank 0 could not go on with"),
        "nan": (rf"{FC1}: its weights hold NaN|rank \d could not make its part",) * 2,
        "one state": ("some ranks were given a state or masks to begin with, and others",) * 2,
        "memory": ("rank 1 could not make its part", "memory does not suffice to update model"),
        "lost": ("the shards of .* have .* links together, not ",) * 2,
        "save": ("model.shared.weight is sharded over processes; load ",) * 2,
        "seed": ("the masks of model.encoder.* differ between ranks",) * 2,
    }
    for what, expected in patterns.items():
        errors = [found[what][0] for found in both]
        for error, pattern in zip(errors, expected, strict=True):
            assert re.match(pattern, error), (what, error)
        if what == "lost":  # the rank that did not write has the masks of before
            assert [found[what][1] for found in both] == [False, True]
        else:
            assert all(found[what][1] for found in both), what
    assert any("NaN" in found["nan"][0] for found in both)


def test_a_process_without_the_masks_does_not_overwrite_those_of_the_first(tmp_path):
    sparsifier = Sparsifier(tiny_marian(), None, config := CHTsConfig(sparsity=0.8), 200)
    file = mask_file.save_masks(tmp_path, state := sparsifier.state_dict(), config)
    before = file.read_bytes()
    with pytest.raises(ValueError, match=r"the first process alone has them.*get_rank\(\) == 0"):
        mask_file.save_masks(tmp_path, state | {"masks": {}, "ever": {}, "history": {}}, config)
    assert file.read_bytes() == before


# -- what is refused ------------------------------------------------------------------------------


def _refusals(rank: int) -> dict[str, str]:
    square = dist.init_device_mesh("cpu", (2, 1), mesh_dim_names=("a", "b"))
    line = dist.init_device_mesh("cpu", (2,))
    columns = {"mesh": line, "shard_placement_fn": lambda p: Shard(p.ndim - 1)}
    plan = {"model.encoder.layers.0.fc1": ColwiseParallel()}
    cases = {
        "hybrid": lambda model: shard(model, mesh=square),
        "columns": lambda model: shard(model, **columns),
        "some processes": lambda model: shard(model, mesh=square["b"]),
        "some weights": lambda model: fully_shard(model.model.encoder, mesh=line),
        "tensor parallel": lambda model: parallelize_module(model, line, plan),
        "unloaded": lambda model: shard(model.to("meta"), mesh=line),
        "scaler": lambda model: shard(model, mesh=line),
    }
    found = {}
    experts = nn.Module()
    experts.weight = nn.Parameter(torch.rand(4, 3, 2))
    fully_shard(experts, mesh=line)
    try:
        layout_of(experts, {"weight": experts.weight})
    except ValueError as error:
        found["experts"] = str(error)
    for name, prepare in cases.items():
        model = tiny_marian()
        prepare(model)
        scaler = torch.amp.GradScaler("cpu") if name == "scaler" else None
        try:
            Sparsifier(model, None, CHTsConfig(), 1000, scaler=scaler)
        except ValueError as error:
            found[name] = str(error)
    return found


@pytest.mark.distributed
def test_other_ways_of_sharding_are_refused():
    patterns = {
        "hybrid": r"a DTensor on a mesh of 2 dimensions \(hybrid sharding or tensor",
        "columns": r"placed S\(\d\) \(tensor parallelism\), which is not supported",
        "some processes": "is sharded over 1 of 2 processes",
        "some weights": "is not sharded, unlike other weights",
        "tensor parallel": r"placed S\(0\) \(tensor parallelism\), which is not supported",
        "experts": r"weight has 3 dimensions \(fused experts\), which is not",
        "unloaded": "is on meta, its mesh on cpu: CPU offload, and weights that are not",
    }
    for found in run_ranks(_refusals, 2):
        assert isinstance(found, dict), found
        scaler = found.pop("scaler")
        assert re.match(r"the weights are sharded, and a loss scaler is not .* bf16", scaler)
        assert found.keys() == patterns.keys()
        for name, pattern in patterns.items():
            assert re.search(pattern, found[name]), found[name]
            assert "fully_shard(module) on a mesh of one dimension, of all proc" in found[name]
            assert "DistributedDataParallel works" in found[name]
