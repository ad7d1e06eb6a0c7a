"""A model → the weights to sparsify, each with the role its projection plays.

Layers are recognised by the names of their modules, never by the model's class (``roles.py``). What
no rule recognises is never a target.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from chts_hf.config import CHTsConfig
from chts_hf.roles import fused_roles, role_of

#: Why a layer stays dense that no rule, or no pattern of ``targets``, names.
UNNAMED = "has a name that no rule recognises"
#: Likewise one that may be trained at another time.
FROZEN = "is frozen (requires_grad=False)"


@dataclass(frozen=True, eq=False)
class Target:
    """One projection to sparsify.

    Attributes:
        name: unique; the parameter's name, with ``[q]``, ``[k]``, ``[v]`` (or ``[gate]``,
            ``[up]``) behind it where one parameter holds several projections.
        parameter_name: the parameter's name in ``model.named_parameters()``.
        weight: that parameter.
        kind: "self_attn.q", "cross_attn.o", "ffn.up", "mlp.hidden", …, or the user's own name for
            it.
        block: the name of the attention or feed-forward block, or of the list of hidden layers,
            that it belongs to.
        heads: the attention heads that its rows are made of (for ``o``, its columns); 1 outside
            attention.
        transposed: whether the parameter is stored (in, out), as GPT-2's ``Conv1D`` does.
        rows: the part of the outputs that is this target, where a parameter holds several.
    """

    name: str
    parameter_name: str
    weight: nn.Parameter = field(repr=False)
    kind: str
    block: str
    heads: int = 1
    transposed: bool = False
    rows: tuple[int, int] | None = None

    def view(self, tensor: Tensor) -> Tensor:
        """The (out, in) part of a tensor of the parameter's shape that is this target.

        A view: what is written to it is written to ``tensor``.
        """
        matrix = tensor.T if self.transposed else tensor
        return matrix if self.rows is None else matrix[self.rows[0] : self.rows[1]]

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        # Of a stand-in, since cutting rows out of a sharded weight would have its ranks talk.
        out_features, in_features = self.view(torch.empty(self.weight.shape, device="meta")).shape
        return out_features, in_features

    @property
    def role(self) -> str:
        """The last part of the kind: "q", "o", "up", …."""
        return self.kind.rpartition(".")[2]


def find_targets(model: nn.Module, config: CHTsConfig | None = None) -> list[Target]:
    """The projections of a model that ``config`` wants sparse, in the model's own order.

    By default all q, k, v and output projections of attention, all feed-forward projections, and
    the hidden layers of an MLP (``hidden.0``, ``hidden.1``, …);
    ``config.targets`` replaces these rules and ``config.exclude`` takes layers out. The model's
    output head and frozen parameters (``requires_grad=False``) are left alone, whatever names
    them, and a parameter that several modules share is one target.

    Args:
        model: any module; wrappers such as DDP must be taken off before.
        config: None means ``CHTsConfig()``.

    Returns:
        At least one target.

    Raises:
        ValueError: no layer is a target, or a pattern of ``targets``, ``exclude`` or ``overrides``
            has no effect; the message says why, or lists the linear layers there are.
    """
    config = config or CHTsConfig()
    targets, reasons = sort_layers(model, config)
    _refuse_idle_patterns(config, model, targets, reasons)
    if not targets:
        unnamed = [name for name, reason in reasons.items() if reason == UNNAMED]
        leaves = dict.fromkeys(name.rpartition(".")[2] for name in unnamed)
        example = ", ".join(
            f'"ffn.{role}": r"(.*\\.)?{leaf}"'
            for role, leaf in zip(("up", "down"), leaves, strict=False)
        )
        advice = (
            "Pass CHTsConfig(targets={kind: pattern}) with regular expressions that match whole "
            f"module names, such as {{{example}}}"
        )
        sentences = [
            f"no layer of {type(model).__name__} is a target.",
            _listed(list(reasons)),
            *([f"{_because(reasons)}."] if reasons else []),
            *([advice] if unnamed else []),
        ]
        raise ValueError(" ".join(sentences))
    return targets


def sort_layers(model: nn.Module, config: CHTsConfig) -> tuple[list[Target], dict[str, str]]:
    """The targets of a model, and why its other linear layers stay dense; nothing is refused.

    Args:
        model: as for :func:`find_targets`.
        config: likewise; what matches nothing is passed over.

    Returns:
        The targets, in the model's order; and for each linear layer, module name → the reason,
        empty for a target.
    """
    parameter_names = {id(p): name for name, p in model.named_parameters()}
    targets: list[Target] = []
    get_head = getattr(model, "get_output_embeddings", lambda: None)
    head = getattr(get_head(), "weight", None)  # whatever it is called
    taken: dict[int, str] = {}
    reasons: dict[str, str] = {}
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if not is_linear(module) or not isinstance(weight, nn.Parameter):
            continue
        found = _classify(name, config)
        if any(re.search(pattern, name) for pattern in config.exclude):
            reasons[name] = "is taken out by exclude"
        elif weight is head:
            reasons[name] = "is the model's output head"
        elif found is None:
            reasons[name] = UNNAMED
        elif id(weight) in taken:
            reasons[name] = f"shares its weight with {taken[id(weight)]}"
        elif not weight.requires_grad:
            reasons[name] = FROZEN
        else:
            reasons[name] = ""
            taken[id(weight)] = name
            kind, block = found
            parent = model.get_submodule(name.rpartition(".")[0])
            whole = Target(
                name=parameter_names[id(weight)],
                parameter_name=parameter_names[id(weight)],
                weight=weight,
                kind=kind,
                block=block,
                heads=_query_heads(parent, model) if "attn" in kind else 1,
                transposed=_is_conv1d(module),
            )
            targets += _split_fused(whole, fused_roles(name, kind, *whole.shape))
    return _with_block_heads(targets), reasons


def _refuse_idle_patterns(
    config: CHTsConfig, model: nn.Module, targets: list[Target], reasons: dict[str, str]
) -> None:
    """A pattern without effect is a slip that would leave layers dense, or sparse, unseen.

    Raises:
        ValueError: names the field and the pattern.
    """
    for kind, pattern in (config.targets or {}).items():
        matched = {name: why for name, why in reasons.items() if re.fullmatch(pattern, name)}
        if not matched:
            raise ValueError(
                f"targets[{kind!r}]: no layer is called {pattern!r}. {_listed(list(reasons))}"
            )
        for name in matched:
            found = _classify(name, config)
            if found is not None and found[0] != kind:
                matched[name] = matched[name] or f"is one of targets[{found[0]!r}] already"
        if all(why not in ("", FROZEN) for why in matched.values()):
            raise ValueError(
                f"targets[{kind!r}]: {pattern!r} makes no layer sparse. {_because(matched)}"
            )
    # Parameters that are no linear layers stay dense anyway; to exclude them is to say so.
    names = [*reasons, *(name for name, _ in model.named_parameters())]
    for pattern in config.exclude:
        if not any(re.search(pattern, name) for name in names):
            raise ValueError(
                f"exclude: no layer has {pattern!r} in its name. {_listed(list(reasons))}"
            )
    for pattern in config.overrides if targets else ():
        if not any(re.search(pattern, target.name) for target in targets):
            names = [target.name for target in targets]
            raise ValueError(
                f"overrides[{pattern!r}]: no sparsified layer has it in its name. {_listed(names)}"
            )


def _because(reasons: dict[str, str]) -> str:
    """Each reason once, with the first layer that has it."""
    first: dict[str, str] = {}
    for name, reason in reasons.items():
        first.setdefault(reason, name)
    return "; ".join(f"{name} {reason}" for reason, name in first.items())


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"The layers are: {shown or 'none'}."


def _is_conv1d(module: nn.Module) -> bool:
    # transformers' Conv1D, by its shape rather than its class: (in, out) and an nf attribute.
    # FSDP2 makes subclasses of the classes that it shards.
    return hasattr(module, "nf") and any(c.__name__ == "Conv1D" for c in type(module).__mro__)


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a linear layer: ``nn.Linear`` or GPT-2's ``Conv1D``."""
    return isinstance(module, nn.Linear) or _is_conv1d(module)


def _classify(name: str, config: CHTsConfig) -> tuple[str, str] | None:
    """(kind, block) of a linear layer by its name, or None if nothing names it."""
    if config.targets is None:
        return role_of(name)
    for kind, pattern in config.targets.items():
        if re.fullmatch(pattern, name):
            return kind, name.rpartition(".")[0]
    return None


def _query_heads(attention: nn.Module, model: nn.Module) -> int:
    """The number of (query) heads of an attention module."""
    names = ("num_heads", "n_heads", "num_attention_heads", "n_head", "num_attn_heads")
    for holder in (attention, getattr(attention, "config", None), getattr(model, "config", None)):
        for name in names:
            value = getattr(holder, name, None)
            if isinstance(value, int):
                return value
    return 1


def _with_block_heads(targets: list[Target]) -> list[Target]:
    """Give k, v and o the heads that follow from q's: k and v may have fewer of the same size."""
    queries = {t.block: t for t in targets if t.role == "q"}
    completed = []
    for target in targets:
        query = queries.get(target.block)
        if query is not None and target.role in ("k", "v"):
            head_size = query.shape[0] // query.heads
            target = replace(target, heads=target.shape[0] // head_size)
        elif query is not None and target.role == "o":
            target = replace(target, heads=query.heads)
        completed.append(target)
    return completed


def _split_fused(target: Target, roles: tuple[str, ...]) -> Iterator[Target]:
    """The equal parts of a fused projection, one target for each role; none: the target itself."""
    if not roles:
        yield target
        return
    family = target.kind.rpartition(".")[0]
    size = target.shape[0] // len(roles)
    for index, role in enumerate(roles):
        yield replace(
            target,
            name=f"{target.name}[{role}]",
            kind=f"{family}.{role}",
            rows=(index * size, (index + 1) * size),
        )


@dataclass(frozen=True, eq=False)
class Pair:
    """Two projections that share neurons: what percolation walks along.

    Attributes:
        first: the projection whose rows are the neurons.
        second: for "sequential" the projection whose columns they are, for "product" the one
            whose rows are multiplied with them.
        relation: "sequential" (``v → o``, ``up → down``, each hidden layer of an MLP → the next) or
            "product" (``q · k``, ``gate · up``).
        neuron_of: for grouped heads, the row of ``first`` that each column (sequential) or row
            (product) of ``second`` belongs to; None if they correspond one to one.
    """

    first: Target
    second: Target
    relation: str
    neuron_of: Tensor | None = None


_PAIR_ROLES = (
    ("k", "q", "product"),
    ("gate", "up", "product"),
    ("v", "o", "sequential"),
    ("gate", "down", "sequential"),
    ("up", "down", "sequential"),
)


def find_pairs(targets: list[Target]) -> list[Pair]:
    """The pairs of targets that share neurons, block by block.

    Args:
        targets: as :func:`find_targets` gives them.

    Returns:
        In an order in which one pass of percolation reaches its fixed point, chains of hidden
        layers aside: product pairs of a block come before the sequential ones that read their
        result. A role that occurs twice in
        a block (Longformer's local and global projections) pairs only with its own counterpart,
        and not where it could not be told which neurons are alive.
    """
    blocks: dict[tuple[str, str], dict[str, list[Target]]] = {}
    for target in targets:
        family = target.kind.rpartition(".")[0]
        blocks.setdefault((target.block, family), {}).setdefault(target.role, []).append(target)
    pairs: list[Pair] = []
    for roles in blocks.values():
        for first_role, second_role, relation in _PAIR_ROLES:
            first, second = roles.get(first_role, []), roles.get(second_role, [])
            if len(first) != len(second):
                continue
            for a, b in zip(first, second, strict=True):
                pair = _pair(a, b, relation)
                if pair is not None:
                    pairs.append(pair)
        pairs += [
            Pair(layer, following, "sequential")
            for layer, following in pairwise(roles.get("hidden", []))
            if layer.shape[0] == following.shape[1]
        ]
    return pairs


def _pair(first: Target, second: Target, relation: str) -> Pair | None:
    neurons = first.shape[0]
    members = second.shape[1] if relation == "sequential" else second.shape[0]
    if members == neurons:
        return Pair(first, second, relation)
    # Grouped-query attention: head h of the many belongs to head h // group of the few.
    group, rest = divmod(members, neurons)
    if rest:
        return None
    width = neurons // first.heads
    index = torch.arange(members)
    head, within = index // width, index % width
    return Pair(first, second, relation, neuron_of=(head // group) * width + within)


def blocks_of(targets: list[Target], pairs: list[Pair]) -> list[tuple[list[Target], list[Pair]]]:
    """Groups of targets that pairs tie together, each updated on its own."""
    group = {target.name: {target.name} for target in targets}
    for pair in pairs:
        merged = group[pair.first.name] | group[pair.second.name]
        for name in merged:
            group[name] = merged
    blocks: dict[int, tuple[list[Target], list[Pair]]] = {}
    for target in targets:
        blocks.setdefault(id(group[target.name]), ([], []))[0].append(target)
    for pair in pairs:
        blocks[id(group[pair.first.name])][1].append(pair)
    return list(blocks.values())
