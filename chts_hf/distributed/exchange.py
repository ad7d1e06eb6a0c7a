"""The gradients of the links alone, between the ranks of DistributedDataParallel.

All ranks have the same masks, so they know which elements of a gradient can be other than 0 without
a word about it: only those are sent, packed one behind the other. The average is the one that DDP
would have made, up to the order of additions.
"""

# No postponed annotations here: DDP compares those of a hook with the types themselves.
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from chts_hf.attached import attached_sparsifier

if TYPE_CHECKING:
    from chts_hf.sparsifier import Sparsifier

Hook = Callable[[Any, dist.GradBucket], torch.futures.Future[torch.Tensor]]


class SparseExchange:
    """What the communication hook knows: masks, the places of their links, and what was sent.

    The places are looked up again whenever a mask has changed. They cost 8 bytes per link.

    Args:
        parameters: name → parameter, of the sparsified weights.
        masks: name → mask. Gradients must be 0 off the links already; the sparsifier's hooks
            see to that before DDP looks at them.
        masked: whether they still do. When they do not, all gradients are sent.

    Attributes:
        sent_bytes: bytes handed to the all-reduce so far, per rank, for sparsified weights.
        dense_bytes: what it would have been without.
        other_bytes: bytes of the parameters that are dense anyway.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        masks: Mapping[str, Tensor],
        masked: Callable[[], bool],
    ) -> None:
        self.sent_bytes = self.dense_bytes = self.other_bytes = 0
        self._names = {id(parameter): name for name, parameter in parameters.items()}
        self._masks, self._masked = masks, masked
        self._places: dict[str, tuple[int, Tensor]] = {}

    def places(self, parameter: Tensor) -> Tensor | None:
        """The flat indices of a parameter's links; None if it is not sparsified, or no more."""
        name = self._names.get(id(parameter))
        if name is None or not self._masked():
            return None
        mask = self._masks[name]
        known = self._places.get(name)
        if known is None or known[0] != mask._version:
            known = mask._version, mask.flatten().nonzero().squeeze(1)
            self._places[name] = known
        return known[1]


def sparse_exchange_hook(
    exchange: SparseExchange, bucket: dist.GradBucket
) -> torch.futures.Future[torch.Tensor]:
    """DDP's communication hook: averages a bucket's gradients, sending those of links only."""
    gradients = [gradient.view(-1) for gradient in bucket.gradients()]
    places = [exchange.places(parameter) for parameter in bucket.parameters()]
    sizes = [
        gradient.numel() if links is None else links.numel()
        for gradient, links in zip(gradients, places, strict=True)
    ]
    buffer = bucket.buffer()
    packed = torch.empty(sum(sizes), dtype=buffer.dtype, device=buffer.device)
    parts = packed.split(sizes)
    for gradient, links, part in zip(gradients, places, parts, strict=True):
        if links is None:
            part.copy_(gradient)
            exchange.other_bytes += part.nbytes
        else:
            torch.index_select(gradient, 0, links, out=part)
            # NaN times 0 is NaN: where a gradient is not finite off the links, all ranks must see
            # it, or one of them leaves out a step that the others take.
            wide = torch.promote_types(gradient.dtype, torch.float32)
            part[:1].add_(gradient.sum(dtype=wide).mul_(0))
            exchange.sent_bytes += part.nbytes
            exchange.dense_bytes += gradient.nbytes
    packed.div_(dist.get_world_size())
    work = dist.all_reduce(packed, async_op=True)
    future: torch.futures.Future[Any] = work.get_future()

    def unpack(done: torch.futures.Future[Any]) -> Tensor:
        done.value()
        for gradient, links, part in zip(gradients, places, parts, strict=True):
            if links is None:
                gradient.copy_(part)
            else:  # the other elements are 0 already, or spoilt as an element sent is
                gradient.index_copy_(0, links, part)
        return buffer

    unpacked: torch.futures.Future[Tensor] = future.then(unpack)
    return unpacked


def register_sparse_exchange(
    model: nn.Module, sparsifier: "Sparsifier", wrap: Callable[[Hook], Hook] = lambda hook: hook
) -> SparseExchange:
    """Have DistributedDataParallel send the gradients of links, not those of all weights.

    Same results up to the order of additions. When the sparsifier is closed, all gradients are sent
    again. Whether it is faster depends on the network; see
    docs/scaling.md. Call it once, before the first step, on every rank.

    Args:
        model: what DDP returned: ``accelerator.prepare(model)``, or ``trainer.model_wrapped`` in a
            callback's ``on_train_begin``.
        sparsifier: of the model inside.
        wrap: a wrapper of torch's that makes values smaller on the wire, such as
            ``torch.distributed.algorithms.ddp_comm_hooks.default_hooks.bf16_compress_wrapper``.

    Returns:
        Counters of the bytes sent.

    Raises:
        TypeError: the model is not wrapped in DistributedDataParallel.

    Example:
        >>> model = accelerator.prepare(model)
        >>> sparsifier = Sparsifier(accelerator.unwrap_model(model), optimizer, config, 5000)
        >>> register_sparse_exchange(model, sparsifier)
    """
    if not isinstance(model, DistributedDataParallel):
        raise TypeError(
            f"the sparse exchange works on DistributedDataParallel, and this is a "
            f"{type(model).__name__}; with one process there is nothing to exchange"
        )
    parameters = {target.parameter_name: target.weight for target in sparsifier.targets}
    inside = model.module
    exchange = SparseExchange(
        parameters, sparsifier.masks, lambda: attached_sparsifier(inside) is sparsifier
    )
    model.register_comm_hook(exchange, wrap(sparse_exchange_hook))
    return exchange
