"""Layers whose parameters may be sharded: seen whole, and updated block by block.

Where parameters are whole on every rank, ``shared_update`` makes the update.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from chts_hf.distributed import ranks, sharing
from chts_hf.distributed.layout import Sharded, Whole, local
from chts_hf.shared_update import Block, block_cost, make, needing_memory, update_blocks
from chts_hf.targets import Target
from chts_hf.topology.selection import count
from chts_hf.update import LayerInput, LayerOutput, check_finite


def here(target: Target, layout: Whole) -> Target:
    """A target whose :meth:`~chts_hf.targets.Target.view` is for what this rank holds.

    Args:
        target: as :func:`chts_hf.targets.find_targets` made it.
        layout: of its parameter.

    Returns:
        The target itself where parameters are whole. Otherwise its view takes a shard of the
        parameter and gives the part of it that is the target's; it may have no rows or columns.
    """
    if not isinstance(layout, Sharded) or target.rows is None or target.transposed:
        return target
    start, stop = layout.rows(target.parameter_name)
    first, last = _overlap(target.rows, (start, stop))
    return replace(target, rows=(first - start, last - start))


def whole(target: Target, layout: Whole) -> Target:
    """A target whose weight is whole; every rank must call it.

    The weight shares the parameter's memory only where that is whole itself.
    """
    weight = layout.everywhere(target.parameter_name, local(target.weight).detach())
    return replace(target, weight=nn.Parameter(weight, requires_grad=False))


def write_part(target: Target, layout: Whole, held: Tensor, matrix: Tensor) -> None:
    """Write a whole target's matrix to what this rank holds of a tensor of the parameter's shape.

    Args:
        target: as :func:`chts_hf.targets.find_targets` made it.
        layout: of its parameter.
        held: this rank's part of the tensor; the rest of it stays as it is.
        matrix: (out, in).
    """
    here(target, layout).view(held).copy_(_part(target, layout, matrix))


def _part(target: Target, layout: Whole, matrix: Tensor) -> Tensor:
    """Of a matrix of the whole target, (out, in), what ``here(target).view`` shows."""
    if not isinstance(layout, Sharded):
        return matrix
    start, stop = layout.rows(target.parameter_name)
    if target.transposed:
        return matrix[:, start:stop]
    first, last = _overlap(target.rows or (0, matrix.shape[0]), (start, stop))
    offset = target.rows[0] if target.rows else 0
    return matrix[first - offset : last - offset]


def _overlap(rows: tuple[int, int], held: tuple[int, int]) -> tuple[int, int]:
    """The rows in both ranges; if there are none, an empty range that starts as ``held`` does."""
    first, last = max(rows[0], held[0]), min(rows[1], held[1])
    return (first, last) if first < last else (held[0], held[0])


def link_counts(
    targets: Sequence[Target], masks: Mapping[str, Tensor], layout: Whole
) -> dict[str, int]:
    """Target name → how many links it has, on all ranks together where they have parts of it.

    Args:
        targets: the layers.
        masks: parameter name → what this rank holds of its mask.
        layout: of the parameters.
    """
    views = (here(target, layout).view(masks[target.parameter_name]) for target in targets)
    sums = layout.sums([count(view) for view in views])
    return {target.name: links for target, links in zip(targets, sums, strict=True)}


def update_layers(
    blocks: Sequence[Block], seed: int, update: int, layout: Whole
) -> Iterator[tuple[Block, list[LayerOutput]]]:
    """Update blocks, however their parameters lie.

    Args:
        blocks: all blocks that change, the same on every rank. The tensors of their layers are
            what this rank holds of tensors of the *parameters'* shapes.
        seed: the run's seed.
        update: the number of this update.
        layout: of the parameters.

    Yields:
        The block and its results as this rank has to apply them: as
        :func:`chts_hf.shared_update.update_blocks` does, or of shards, as :func:`update_shards`.
    """
    if isinstance(layout, Sharded):
        return update_shards(blocks, seed, update, layout)
    seen = [Block([_as_held(layer, layout) for layer in b.layers], b.pairs) for b in blocks]
    return update_blocks(seen, seed, update)


def update_shards(
    blocks: Sequence[Block], seed: int, update: int, layout: Sharded
) -> Iterator[tuple[Block, list[LayerOutput]]]:
    """Update blocks whose tensors are shards; see :func:`chts_hf.shared_update.update_blocks`.

    Blocks are dealt out by their cost. They are gathered in turns, one to each rank, which makes
    its results before the next turn begins; so no rank ever holds more than one block whole. The
    results travel as packed bits, and each rank takes its part of them. They are those of one
    process with the same weights and gradients.

    Args:
        blocks: as :func:`update_layers` is given them; gradients are averaged over ranks already.
        seed: the run's seed.
        update: the number of this update.
        layout: where the rest is.

    Yields:
        The block and its results as this rank has to apply them: targets, tensors and masks are of
        its shards, by :func:`here`.

    Raises:
        RuntimeError: on every rank, before the first result, if weights or gradients are not
            finite or memory does not suffice; after the last one, if the shards of a layer do not
            have together the number of links that it must have.
    """
    if not blocks:
        return
    costs = [block_cost(block) for block in blocks]
    owners = sharing.assign(costs, ranks.world_size())
    device = blocks[0].layers[0].mask.device
    made: dict[int, Tensor] = {}
    for turn in _turns(costs, owners):
        made |= _make_turn(turn, blocks, owners, seed, update, layout)
    for i, block in enumerate(blocks):
        shapes = [layer.target.shape for layer in block.layers for _ in ("kept", "mask")]
        masks = sharing.share(made.pop(i, None), shapes, owners[i], device)
        layers = [_as_held(layer, layout) for layer in block.layers]
        parts = [
            LayerOutput(_part(x.target, layout, kept), _part(x.target, layout, mask))
            for x, kept, mask in zip(block.layers, masks[::2], masks[1::2], strict=True)
        ]
        yield Block(layers, block.pairs), parts
    _check_counts(blocks, layout)


def _make_turn(
    turn: Sequence[int],
    blocks: Sequence[Block],
    owners: Sequence[int],
    seed: int,
    update: int,
    layout: Sharded,
) -> dict[int, Tensor]:
    """Gather the blocks of a turn; this rank's own, if it has one in it, and its packed result."""
    device = blocks[0].layers[0].mask.device
    room: dict[tuple[str, str], Tensor] = {}
    with ranks.failing_together(device):  # before anyone sends what another one has no room for
        for i in turn:
            if owners[i] == ranks.rank():
                with needing_memory(blocks[i].names):
                    room = {key: layout.room(key[1], x) for key, x in _parts(blocks[i]).items()}
    mine: tuple[int, Block] | None = None
    for i in turn:
        gathered = _gather(blocks[i], owners[i], layout, room)
        if gathered is not None:
            mine = i, gathered
    room.clear()
    with ranks.failing_together(device):
        if mine is not None:
            i, block = mine
            check_finite(block.layers)
            results = make(block, seed, update)
            return {i: sharing.pack([m for r in results for m in (r.kept, r.mask)])}
    return {}


def _turns(costs: Sequence[float], owners: Sequence[int]) -> Iterator[list[int]]:
    """Pieces of work by turns, at most one for each rank in each, alike in cost."""
    queues: dict[int, list[int]] = {}
    for piece in sorted(range(len(costs)), key=lambda i: -costs[i]):
        queues.setdefault(owners[piece], []).append(piece)
    for turn in range(max(map(len, queues.values()))):
        yield [queue[turn] for queue in queues.values() if turn < len(queue)]


def _parts(block: Block) -> dict[tuple[str, str], Tensor]:
    """(what, parameter) → this rank's part of it, of all that a block's owner needs whole."""
    return {
        (what, layer.target.parameter_name): part
        for layer in block.layers
        for what in ("mask", "weight", "gradient")
        if (part := getattr(layer, what)) is not None
    }


def _gather(
    block: Block, owner: int, layout: Sharded, room: Mapping[tuple[str, str], Tensor]
) -> Block | None:
    """The block with whole matrices, on its owner; None elsewhere. Every rank must call it.

    Args:
        block: with what this rank holds.
        owner: whose it is.
        layout: where the rest is.
        room: on the owner, memory for each of the block's parts.
    """
    found = {
        (what, name): layout.at(name, part, owner, room.get((what, name)))
        for (what, name), part in _parts(block).items()
    }
    if ranks.rank() != owner:
        return None
    layers = []
    for layer in block.layers:
        tensors = {
            what: layer.target.view(tensor)
            for (what, name), tensor in found.items()
            if name == layer.target.parameter_name and tensor is not None
        }
        if "gradient" in tensors:
            tensors["gradient"] = tensors["gradient"].contiguous()
        layers.append(replace(layer, **tensors))  # type: ignore[arg-type]
    return Block(layers, block.pairs)


def _as_held(layer: LayerInput, layout: Whole) -> LayerInput:
    """A layer with what this rank holds of it, seen as a matrix."""
    target = here(layer.target, layout)
    gradient = None if layer.gradient is None else target.view(layer.gradient).contiguous()
    mask, weight = target.view(layer.mask), target.view(layer.weight)
    return replace(layer, target=target, mask=mask, weight=weight, gradient=gradient)


def _check_counts(blocks: Sequence[Block], layout: Sharded) -> None:
    layers = [layer for block in blocks for layer in block.layers]
    masks = {layer.target.parameter_name: layer.mask for layer in layers}
    links = link_counts([layer.target for layer in layers], masks, layout)
    for layer in layers:
        if links[layer.target.name] != layer.links:
            raise RuntimeError(
                f"the shards of {layer.target.name} have {links[layer.target.name]} links "
                f"together, not {layer.links}; every rank must step with the others, from the "
                "same state"
            )
