"""One topology update of a whole model: each rank makes its part, all apply the same result."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from chts_hf.distributed import ranks, sharing
from chts_hf.targets import Pair
from chts_hf.update import LayerInput, LayerOutput, check_finite, update_block

logger = logging.getLogger(__name__)

#: Device types that can not hold the float64 numbers of draws and scores: Apple's GPUs.
_WITHOUT_FLOAT64 = frozenset({"mps"})


@dataclass(frozen=True)
class Block:
    """Layers that percolation ties together, and the pairs among them."""

    layers: Sequence[LayerInput]
    pairs: Sequence[Pair]

    @property
    def names(self) -> str:
        """Its layers, for messages."""
        return ", ".join(layer.target.name for layer in self.layers)


def update_blocks(
    blocks: Sequence[Block], seed: int, update: int
) -> Iterator[tuple[Block, list[LayerOutput]]]:
    """Update blocks, one after the other, and yield each result to be applied.

    On one process each block is made when it is asked for. On n ranks the blocks are dealt out by
    their cost, each rank makes its own before anything is applied, and the results travel as
    packed bits, two per weight, one block at a time. So an update takes about 1/n of the time,
    and beside the masks of one block no rank holds more than the bits of its own part. Dense
    gradients are averaged to the rank that needs them only.

    A block that does not fit into a GPU's memory is made once more on the host; on a device
    without float64 every block is made there.

    Args:
        blocks: all blocks that change, the same on every rank. Their gradients are changed.
        seed: the run's seed.
        update: the number of this update.

    Yields:
        The block and the results of its layers, in the order given, on every rank.

    Raises:
        RuntimeError: on every rank, before the first result, if weights or gradients are not
            finite; also if memory does not suffice, on one process perhaps after some blocks.
    """
    if not blocks:
        return
    costs = [block_cost(block) for block in blocks]
    owners = sharing.assign(costs, ranks.world_size())
    for block, owner in zip(blocks, owners, strict=True):
        for layer in block.layers:
            if layer.gradient is not None:
                ranks.mean_at(layer.gradient, owner)
    mine = [i for i, owner in enumerate(owners) if owner == ranks.rank()]
    made: dict[int, torch.Tensor] = {}
    with ranks.failing_together(_device(blocks[0])):
        for i in mine:
            check_finite(blocks[i].layers)
        if ranks.is_distributed():
            for i in mine:
                results = make(blocks[i], seed, update)
                made[i] = sharing.pack([m for r in results for m in (r.kept, r.mask)])
    for i, block in enumerate(blocks):
        if ranks.is_distributed():
            shapes = [layer.target.shape for layer in block.layers for _ in ("kept", "mask")]
            with needing_memory(block.names):
                masks = sharing.share(made.pop(i, None), shapes, owners[i], _device(block))
            yield block, [LayerOutput(*both) for both in zip(masks[::2], masks[1::2], strict=True)]
        else:
            yield block, make(block, seed, update)


def block_cost(block: Block) -> float:
    """What the update of a block costs; see :func:`chts_hf.distributed.sharing.update_cost`."""
    return sum(sharing.update_cost(layer.target.shape) for layer in block.layers)


def _device(block: Block) -> torch.device:
    return block.layers[0].mask.device


def make(block: Block, seed: int, update: int) -> list[LayerOutput]:
    """One block's results; where the GPU has no float64 or no memory, by way of the host."""
    device = _device(block)
    if device.type in _WITHOUT_FLOAT64:
        return _make_on_host(block, seed, update)
    try:
        return update_block(block.layers, block.pairs, seed, update)
    except (MemoryError, RuntimeError) as error:
        if not _is_of_memory(error):
            raise
        if device.type == "cpu":
            raise RuntimeError(_no_memory(block.names)) from error
    # Outside the handler, which would keep the tensors of the failed attempt alive.
    logger.warning("no memory on %s to update %s; made on the host instead", device, block.names)
    torch.cuda.empty_cache()
    return _make_on_host(block, seed, update)


def _make_on_host(block: Block, seed: int, update: int) -> list[LayerOutput]:
    with needing_memory(block.names):
        results = update_block([_on_host(x) for x in block.layers], block.pairs, seed, update)
    home = block.layers[0].mask.device
    return [LayerOutput(kept=r.kept.to(home), mask=r.mask.to(home)) for r in results]


@contextmanager
def needing_memory(what: str = "the topology") -> Iterator[None]:
    """Have an error of memory say what was to be updated, and what to do.

    Args:
        what: which layers, if it is known.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_of_memory(error):
            raise
        raise RuntimeError(_no_memory(what)) from error


def _is_of_memory(error: BaseException) -> bool:
    # The CPU's allocator raises a plain RuntimeError.
    known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return known or "can't allocate memory" in str(error)


def _on_host(layer: LayerInput) -> LayerInput:
    gradient = None if layer.gradient is None else layer.gradient.cpu()
    return replace(layer, mask=layer.mask.cpu(), weight=layer.weight.cpu(), gradient=gradient)


def _no_memory(what: str) -> str:
    return (
        f"memory does not suffice to update {what}. Each layer still has the links of "
        "before or of after this update, and the last checkpoint is intact: resume from it with "
        "more memory or a smaller batch"
    )
