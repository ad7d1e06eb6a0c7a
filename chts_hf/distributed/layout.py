"""Where the elements of the parameters are: on every rank all of them, or on each some rows.

The sparsifier's tensors lie as their parameters do. What it does to every element it does to what
is here; for what needs a whole layer it asks its layout, which gathers it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Shard

from chts_hf.distributed import ranks
from chts_hf.distributed.wrappers import WORKS


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: its shard of a DTensor, in the same memory, or all."""
    if isinstance(tensor, DTensor):
        with torch.no_grad():
            return tensor.to_local()
    return tensor


class Whole:
    """Every rank holds every parameter: one process, and DistributedDataParallel.

    Args:
        device: of the parameters.
    """

    sharded = False

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def everywhere(self, name: str, part: Tensor) -> Tensor:
        """A tensor of parameter ``name``'s shape, whole, on every rank.

        Args:
            name: the parameter's.
            part: what this rank holds of the tensor.
        """
        return part

    def at(self, name: str, part: Tensor, owner: int, room: Tensor | None = None) -> Tensor | None:
        """As :meth:`everywhere`, on one rank; None on the others.

        Args:
            name: the parameter's.
            part: what this rank holds of the tensor.
            owner: the rank that is to have it whole.
            room: on that rank, memory for it; see :meth:`Sharded.room`. None: it is made.
        """
        return part

    def part(self, name: str, whole: Tensor) -> Tensor:
        """What this rank holds of a tensor of the parameter's shape: a view of it."""
        return whole

    def sums(self, counts: list[int]) -> list[int]:
        """What the ranks counted in the parts that they hold, added up."""
        return counts

    def check(self, masks: Mapping[str, Tensor]) -> None:
        """Stop every rank if the masks can not be right; see :meth:`chts_hf.Sparsifier.step`."""
        ranks.check_ranks_agree(masks, self._device)

    def check_copies(self, fingerprints: Mapping[str, Tensor]) -> None:
        """Compare whole masks before each rank takes its part: where there are parts only."""

    @contextmanager
    def beginning(self, *given: bool) -> Iterator[None]:
        """Make or take up the first masks within this; all ranks stop if one of them can not.

        Args:
            given: which of the things that a run may begin with this rank was given.
        """
        task = "begin with the weights and the state it was given"
        with ranks.failing_together(self._device, task):
            yield

    def together(self, check: Callable[[], None]) -> None:
        """Call a check; where ranks hold parts, all of them stop if one is not content."""
        check()


class Sharded(Whole):
    """Each rank holds some rows of each parameter, as FSDP2's ``fully_shard`` deals them out.

    With ``n`` rows and ``w`` ranks each has ``⌈n / w⌉``, the last ones fewer or none.

    Args:
        parameters: name → parameter, DTensors of one mesh of all ranks, placed ``Shard(0)``.
    """

    sharded = True

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self._shapes = {name: tuple(weight.shape) for name, weight in parameters.items()}
        self._world, self._rank = ranks.world_size(), ranks.rank()
        super().__init__(local(next(iter(parameters.values()))).device)
        for name, weight in parameters.items():
            start, stop = self.rows(name)
            if local(weight).shape[0] != stop - start:
                raise RuntimeError(
                    f"rank {self._rank} holds {local(weight).shape[0]} of {name}'s "
                    f"{weight.shape[0]} rows, not {stop - start}"
                )

    def rows(self, name: str) -> tuple[int, int]:
        """The rows [start, stop) of a parameter that this rank holds."""
        rows = self._shapes[name][0]
        each = -(-rows // self._world)
        start = min(self._rank * each, rows)
        return start, min(start + each, rows)

    def everywhere(self, name: str, part: Tensor) -> Tensor:
        """See :meth:`Whole.everywhere`."""
        sent = self._to_send(name, part)
        received = self.room(name, part)
        dist.all_gather(list(received.split(sent.numel())), sent)
        return self._whole(name, received, part.dtype)

    def room(self, name: str, part: Tensor) -> Tensor:
        """Memory for the whole of a tensor as it arrives, to be had before anything is sent."""
        size = self._world * self._bytes(name, part)
        return torch.empty(size, dtype=torch.uint8, device=part.device)

    def at(self, name: str, part: Tensor, owner: int, room: Tensor | None = None) -> Tensor | None:
        """See :meth:`Whole.at`."""
        sent = self._to_send(name, part)
        if self._rank != owner:
            dist.gather(sent, dst=owner)
            return None
        received = self.room(name, part) if room is None else room
        dist.gather(sent, list(received.split(sent.numel())), dst=owner)
        return self._whole(name, received, part.dtype)

    def part(self, name: str, whole: Tensor) -> Tensor:
        """See :meth:`Whole.part`."""
        start, stop = self.rows(name)
        return whole[start:stop]

    def sums(self, counts: list[int]) -> list[int]:
        """See :meth:`Whole.sums`."""
        total = torch.tensor(counts, dtype=torch.int64, device=self._device)
        dist.all_reduce(total)
        return [int(count) for count in total.tolist()]

    def check(self, masks: Mapping[str, Tensor]) -> None:
        """See :meth:`Whole.check`."""
        # No rank has a copy of what another one has; the counts are checked by each update.
        ranks.check_same_layers(list(masks), self._device)

    def check_copies(self, fingerprints: Mapping[str, Tensor]) -> None:
        """See :meth:`Whole.check_copies`."""
        ranks.check_fingerprints(fingerprints, self._device)

    @contextmanager
    def beginning(self, *given: bool) -> Iterator[None]:
        """See :meth:`Whole.beginning`."""
        # What is gathered depends on it; ranks that gather different things would wait forever.
        number = sum(2**i for i, this in enumerate(given) if this)
        if not ranks.same_everywhere(number, self._device):
            raise RuntimeError(
                "some ranks were given a state or masks to begin with, and others were not; where "
                "weights are sharded, every rank is given the same, whole"
            )
        yield

    def together(self, check: Callable[[], None]) -> None:
        """See :meth:`Whole.together`."""
        with ranks.failing_together(self._device, "go on with the state it was given"):
            check()

    def _bytes(self, name: str, part: Tensor) -> int:
        rows, *rest = self._shapes[name]
        return -(-rows // self._world) * math.prod(rest) * part.element_size()

    def _to_send(self, name: str, part: Tensor) -> Tensor:
        """A part's bytes, as many on each rank; exact in any dtype."""
        flat = part.contiguous().view(-1).view(torch.uint8)
        return torch.nn.functional.pad(flat, (0, self._bytes(name, part) - flat.numel()))

    def _whole(self, name: str, received: Tensor, dtype: torch.dtype) -> Tensor:
        # Only the last parts are padded, so all rows lie one behind the other.
        shape = self._shapes[name]
        return received.view(dtype)[: torch.Size(shape).numel()].view(shape)


class Gathered(Mapping[str, Tensor]):
    """Tensors that are gathered when they are asked for, by every rank in the same order.

    Args:
        layout: where the parts are.
        parts: parameter name → what this rank holds.
    """

    def __init__(self, layout: Whole, parts: Mapping[str, Tensor]) -> None:
        self._layout, self._parts = layout, parts

    def __getitem__(self, name: str) -> Tensor:
        return self._layout.everywhere(name, self._parts[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


def is_sharded(model: nn.Module) -> bool:
    """Whether parameters of a model are DTensors, which is what FSDP2 makes of them."""
    # A forward pass may have left weights whole; the modules stay what FSDP2 made of them.
    return any(isinstance(module, FSDPModule) for module in model.modules()) or any(
        isinstance(parameter, DTensor) for parameter in model.parameters()
    )


def class_name(model: nn.Module | None) -> str:
    """The name of a model's class; FSDP2 makes subclasses of the classes that it shards."""
    name = type(model).__name__
    return name.removeprefix("FSDP") if isinstance(model, FSDPModule) else name


def reshard(model: nn.Module) -> None:
    """Have a model that FSDP2 shards show its shards; a forward pass may have left it whole."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


_FSDP2 = "FSDP2's fully_shard(module) on a mesh of one dimension, of all processes, works"


def layout_of(
    model: nn.Module,
    parameters: Mapping[str, Tensor],
    scaler: torch.amp.GradScaler | None = None,
) -> Whole:
    """How the parameters to sparsify lie.

    Args:
        model: whose they are.
        parameters: name → parameter.
        scaler: the loss scaler, if there is one.

    Raises:
        ValueError: they lie in a way that is not supported; says what is.
    """
    if not parameters or not is_sharded(model):
        held = [*parameters.values(), *model.parameters()]
        return Whole(held[0].device if held else torch.device("cpu"))
    by_fsdp = any(isinstance(module, FSDPModule) for module in model.modules())
    sharded = {n: p for n, p in model.named_parameters() if isinstance(p, DTensor)}
    wrong = {name: _unsupported(parameter, by_fsdp) for name, parameter in sharded.items()}
    wrong |= {n: "is not sharded, unlike other weights" for n in parameters if n not in sharded}
    wrong |= {
        name: f"has {weight.ndim} dimensions (fused experts), which is not supported if sharded"
        for name, weight in parameters.items()
        if weight.ndim != 2
    }
    for name, why in wrong.items():
        if why is not None:
            raise ValueError(f"{name} {why}. {_FSDP2}; {WORKS}, without sharding")
    if scaler is not None and scaler.is_enabled():
        raise ValueError(
            "the weights are sharded, and a loss scaler is not supported there; train in bf16 "
            "(MixedPrecisionPolicy(param_dtype=torch.bfloat16)), which needs none"
        )
    return Sharded(parameters)


def refuse_sharded(model: nn.Module) -> None:
    """Refuse what would write one process's part of the weights as if it were all.

    Raises:
        ValueError: names a weight that is sharded and says what to do.
    """
    for name, parameter in model.named_parameters():
        if isinstance(parameter, DTensor):
            raise ValueError(
                f"{name} is sharded over processes; load get_model_state_dict(model, "
                "options=StateDictOptions(full_state_dict=True, cpu_offload=True)) of "
                "torch.distributed.checkpoint.state_dict into a model that is not, on the first "
                'process, and save that with masks=sparsifier.state_dict()["masks"]'
            )


def _unsupported(parameter: DTensor, by_fsdp: bool) -> str | None:
    """What is wrong with a DTensor; None if nothing is."""
    mesh, placements = parameter.device_mesh, parameter.placements
    if mesh.ndim != 1:
        return (
            f"is a DTensor on a mesh of {mesh.ndim} dimensions (hybrid sharding or tensor "
            "parallelism), which is not supported"
        )
    if not by_fsdp or type(placements[0]) is not Shard or placements[0].dim != 0:
        return f"is a DTensor placed {placements[0]} (tensor parallelism), which is not supported"
    if mesh.mesh.tolist() != list(range(ranks.world_size())):
        return f"is sharded over {mesh.size()} of {ranks.world_size()} processes"
    if parameter.device.type != mesh.device_type:
        return (
            f"is on {parameter.device.type}, its mesh on {mesh.device_type}: CPU offload, and "
            "weights that are not loaded yet, are not supported"
        )
    return None
