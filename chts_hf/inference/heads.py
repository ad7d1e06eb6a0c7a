"""Attention heads and head dimensions that carry nothing, cut out of the T5 family.

T5, mT5 and UMT5 have a number of heads and a size of a head in their configuration, no biases, and
no scale that depends on the size, so that both can shrink. (In BART's family the size of a head is
d_model divided by the heads, so neither can.) A dimension of q and k is dead when one of its two
rows is empty: it adds nothing to any score. A dimension of v and o is dead when its row of v or its
column of o is empty, and a head all of whose v dimensions are dead adds nothing to the output.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from chts_hf.inference.layers import layer_of, select
from chts_hf.targets import Target

FAMILY = ("t5", "mt5", "umt5")


def compact_heads(model: nn.Module, targets: Iterable[Target]) -> tuple[int, int]:
    """Cut the heads and dimensions that no attention of the model needs.

    One number and one size hold for all attentions, so each keeps as many heads as the one that
    needs most, and each head as many dimensions. Self-attention layers of one stack keep the same
    heads, because they share relative position biases.

    Args:
        model: of the T5 family; changed in place, its configuration too.
        targets: of the model.

    Returns:
        The heads and the size of a head that are left.
    """
    config: Any = model.config
    blocks: dict[str, dict[str, Target]] = {}
    for target in targets:
        if "attn" in target.kind:
            blocks.setdefault(target.block, {})[target.role] = target
    whole = {name: roles for name, roles in blocks.items() if set(roles) == set("qkvo")}
    if len(whole) != _attentions(model):  # some are left out of the targets
        return config.num_heads, config.d_kv
    scores, values = {}, {}
    for name, roles in whole.items():
        written = {role: target.view(target.weight).ne(0) for role, target in roles.items()}
        shape = (config.num_heads, config.d_kv)
        scores[name] = (written["q"].any(1) & written["k"].any(1)).view(shape)
        values[name] = (written["v"].any(1) & written["o"].any(0)).view(shape)
    needed = _needed_heads(whole, values)
    heads = max(1, *(int(n.sum()) for n in needed.values()))
    kept_heads = {name: _first(need, heads) for name, need in needed.items()}
    size = max(
        1,
        *(
            int(alive[name][kept_heads[name]].sum(1).max())
            for alive in (_of_heads(scores, needed), values)
            for name in whole
        ),
    )
    for name, roles in whole.items():
        for members, alive in (("qk", _of_heads(scores, needed)[name]), ("vo", values[name])):
            kept = torch.cat(
                [head * config.d_kv + _first(alive[head], size) for head in kept_heads[name]]
            )
            for role in members:
                target = roles[role]
                select(layer_of(model, target), target, kept, "in" if role == "o" else "out")
        _set_sizes(model.get_submodule(name), kept_heads[name], size)
    for module in model.modules():
        inner = getattr(module, "config", None)
        if inner is not None:
            inner.num_heads, inner.d_kv = heads, size
    return heads, size


def _attentions(model: nn.Module) -> int:
    return sum(hasattr(module, "key_value_proj_dim") for module in model.modules())


def _needed_heads(
    blocks: dict[str, dict[str, Target]], values: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Block → bool (heads,): those it must keep."""
    needed = {name: alive.any(1) for name, alive in values.items()}
    stacks: dict[str, list[str]] = {}
    for name, roles in blocks.items():
        if roles["q"].kind.startswith("self"):
            stacks.setdefault(name.partition(".block.")[0], []).append(name)
    for members in stacks.values():
        together = torch.stack([needed[name] for name in members]).any(0)
        needed |= dict.fromkeys(members, together)
    return needed


def _of_heads(scores: dict[str, Tensor], needed: dict[str, Tensor]) -> dict[str, Tensor]:
    """Dimensions of q and k, none where the head is kept only to make up the number."""
    return {name: alive & needed[name][:, None] for name, alive in scores.items()}


def _first(alive: Tensor, count: int) -> Tensor:
    """The indices of ``count`` members, the alive ones among them, in their order."""
    return torch.argsort(alive.int(), descending=True, stable=True)[:count].sort().values


def _set_sizes(attention: Any, kept_heads: Tensor, size: int) -> None:
    attention.n_heads, attention.key_value_proj_dim = len(kept_heads), size
    attention.inner_dim = len(kept_heads) * size
    bias = getattr(attention, "relative_attention_bias", None)
    if bias is not None:
        weight = bias.weight
        bias.weight = nn.Parameter(
            weight.detach()[:, kept_heads.to(weight.device)], requires_grad=weight.requires_grad
        )
        bias.embedding_dim = len(kept_heads)
