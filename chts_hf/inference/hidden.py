"""Feed-forward neurons that carry nothing: found, their constants folded, cut out.

A hidden neuron is dead when no link leaves it, or when what it says cannot depend on the input. The
second kind may still say something: with no link coming in, its value is act(bias), the same for
every token, which the next layer's bias can say as well:

    y = b₂ + Σⱼ W₂[:, j] act(W₁[j, :] x + b₁[j])
      = b₂ + Σ_{j constant} W₂[:, j] act(b₁[j]) + Σ_{j alive} W₂[:, j] act(W₁[j, :] x + b₁[j])

In a gated layer the neuron is act(gate) · up: constant when both rows are empty, zero when either
is and its factor is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from chts_hf.inference.layers import layer_of, select
from chts_hf.targets import Pair, Target

Activation = Callable[[Tensor], Tensor]
_ACTIVATIONS = ("activation_fn", "act_fn", "act", "intermediate_act_fn", "activation")


@dataclass(frozen=True, eq=False)
class HiddenLayer:
    """The neurons between one linear layer, or a gated pair of them, and the next.

    Attributes:
        name: of the block; what widths and reports are keyed by.
        up: the layer whose rows are the neurons.
        down: the layer whose columns they are.
        gate: in a gated layer, the one that goes through the activation; ``up`` does not, then.
        activation: of the neurons; None where it is not known, and then no neuron is folded.
    """

    name: str
    up: Target
    down: Target
    gate: Target | None = None
    activation: Activation | None = None


def hidden_layers(model: nn.Module, pairs: Iterable[Pair]) -> list[HiddenLayer]:
    """The hidden layers that sequential pairs outside attention span, in the pairs' order.

    Args:
        model: that the pairs are of.
        pairs: as :func:`chts_hf.targets.find_pairs` gives them.

    Returns:
        One for each layer below (``down``). The activation is the callable that the module around
        the layer holds under one of the names that transformers uses.
    """
    above: dict[int, list[Target]] = {}
    below: dict[int, Target] = {}
    for pair in pairs:
        if pair.relation == "sequential" and pair.neuron_of is None and pair.second.role != "o":
            above.setdefault(id(pair.second), []).append(pair.first)
            below[id(pair.second)] = pair.second
    layers = []
    for key, firsts in above.items():
        gate = next((t for t in firsts if t.role == "gate"), None)
        up = next((t for t in firsts if t is not gate), None)
        if any(target.rows is not None for target in firsts):
            continue  # parts of one weight cannot be cut one by one
        if up is not None and len(firsts) == (1 if gate is None else 2):
            down = below[key]
            name = down.parameter_name.removesuffix(".weight")
            layers.append(HiddenLayer(name, up, down, gate, _activation(model, up)))
    return layers


def last_hidden_layer(model: nn.Module, targets: Sequence[Target]) -> list[HiddenLayer]:
    """The neurons of an MLP's last hidden layer, which a dense ``classifier`` reads.

    Args:
        model: that the targets are of.
        targets: as :func:`chts_hf.find_targets` gives them.

    Returns:
        That one layer; none if the model is no such MLP.
    """
    last = next((t for t in reversed(targets) if t.role == "hidden"), None)
    classifier = getattr(model, "classifier", None)
    if last is None or not isinstance(classifier, nn.Linear):
        return []
    name, weight = "classifier.weight", classifier.weight
    assert isinstance(weight, nn.Parameter)  # as of every linear layer
    down = Target(name, name, weight, kind="mlp.classifier", block="")
    return [HiddenLayer("classifier", last, down, activation=_activation(model, last))]


def _activation(model: nn.Module, up: Target) -> Activation | None:
    path = up.parameter_name.removesuffix(".weight")
    while path:  # the closest module around the layer that has one
        path = path.rpartition(".")[0]
        parent = model.get_submodule(path)
        for name in _ACTIVATIONS:
            found: Activation | None = getattr(parent, name, None)
            if callable(found):
                return found
    return None


@torch.no_grad()
def silence(model: nn.Module, layer: HiddenLayer) -> Tensor:
    """Fold what dead neurons say into the next bias and take all their links away.

    The layers' outputs stay the same to rounding.

    Args:
        model: changed in place.
        layer: one of its hidden layers.

    Returns:
        Bool tensor (neurons,): those that are alive.
    """
    down = layer.down.view(layer.down.weight)
    read = down.ne(0).any(dim=0)
    constant, known = _constants(model, layer)
    bias = getattr(layer_of(model, layer.down), "bias", None)
    if bias is None:
        # Without a bias to say it, only silence can be cut.
        known = known & constant.eq(0)
    else:
        folded = torch.where(known, constant, torch.zeros_like(constant))
        # In double precision: many small constants meet one bias.
        bias += (down.double() @ folded.double()).to(bias.dtype)
    alive = read & ~known
    for target in (layer.up, layer.gate):
        if target is not None:
            target.view(target.weight)[~alive] = 0
            own = getattr(layer_of(model, target), "bias", None)
            if own is not None:
                own[~alive] = 0
    down[:, ~alive] = 0
    return alive


def _constants(model: nn.Module, layer: HiddenLayer) -> tuple[Tensor, Tensor]:
    """The value of each neuron if it is the same for every input, and whether it is."""

    def rows(target: Target) -> tuple[Tensor, Tensor]:
        weight = target.view(target.weight)
        bias = getattr(layer_of(model, target), "bias", None)
        bias = weight.new_zeros(weight.shape[0]) if bias is None else bias.detach()
        return bias, ~weight.ne(0).any(dim=1)

    bias, empty = rows(layer.up)
    if layer.activation is None:
        return torch.zeros_like(bias), torch.zeros_like(empty)
    if layer.gate is None:
        return layer.activation(bias), empty
    gate_bias, gate_empty = rows(layer.gate)
    factor = layer.activation(gate_bias)
    zero = (gate_empty & factor.eq(0)) | (empty & bias.eq(0))
    both = gate_empty & empty
    return torch.where(both & ~zero, factor * bias, torch.zeros_like(bias)), both | zero


def cut(model: nn.Module, layer: HiddenLayer, alive: Tensor, width: int) -> None:
    """Keep ``width`` neurons, the alive ones among them, in their order.

    Args:
        model: changed in place; :func:`silence` has gone before.
        layer: one of its hidden layers.
        alive: as :func:`silence` gives it.
        width: at least the number alive; the rest are dead neurons without links, kept because
            the model's configuration has one width for several layers.

    Raises:
        ValueError: ``width`` is smaller than the number alive, or larger than the layer.
    """
    count = int(alive.sum())
    if not count <= width <= len(alive):
        raise ValueError(
            f"{layer.name} cannot have {width} neurons: of its {len(alive)}, {count} are alive"
        )
    order = torch.argsort(alive.int(), descending=True, stable=True)
    kept = order[:width].sort().values
    for target in filter(None, (layer.up, layer.gate)):
        select(layer_of(model, target), target, kept, "out")
    select(layer_of(model, layer.down), layer.down, kept, "in")
