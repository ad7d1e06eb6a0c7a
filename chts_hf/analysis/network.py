"""Masks as graphs: one layer, a chain of layers, and the adjacency matrix of either."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from chts_hf.targets import Pair, Target

#: A layer's links, bool of shape (out, in).
Mask: TypeAlias = NDArray[np.bool_]
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
#: A ``scipy.sparse.csr_array``; scipy comes with the extra ``analysis`` only.
Sparse: TypeAlias = Any


@dataclass(frozen=True, eq=False)
class Chain:
    """Layers that follow each other: the outputs of one are the inputs of the next.

    Attributes:
        name: the layers' names, shortened to what tells them apart.
        layers: the names.
        masks: their masks, each (out, in), so that ``masks[i].shape[0] == masks[i + 1].shape[1]``.

    Raises:
        ValueError: there is no layer, or the sizes do not fit.

    Example:
        >>> chain = Chain("fc", ("fc1", "fc2"), (np.ones((4, 3), bool), np.ones((2, 4), bool)))
        >>> chain.sizes
        (3, 4, 2)
    """

    name: str
    layers: tuple[str, ...]
    masks: tuple[Mask, ...]

    def __post_init__(self) -> None:
        if not self.masks or len(self.masks) != len(self.layers):
            raise ValueError(
                f"a chain needs one mask per layer, got {len(self.masks)} masks and "
                f"{len(self.layers)} layers"
            )
        for i, (first, second) in enumerate(zip(self.masks, self.masks[1:], strict=False)):
            if first.shape[0] != second.shape[1]:
                raise ValueError(
                    f"{self.layers[i]} has {first.shape[0]} outputs, but {self.layers[i + 1]} has "
                    f"{second.shape[1]} inputs"
                )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Neurons per level, from the inputs of the first layer to the outputs of the last."""
        return (self.masks[0].shape[1], *(mask.shape[0] for mask in self.masks))

    @property
    def levels(self) -> Ints:
        """The level of every node, in the order of :func:`adjacency`."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)


def as_mask(mask: Tensor | NDArray[Any]) -> Mask:
    """A tensor or array of two dimensions as a bool array.

    Raises:
        ValueError: it has not two dimensions, or no element.
    """
    array = mask.detach().cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"a mask has the shape (out, in), got an array of shape {array.shape}")
    return array.astype(bool)


def layer_masks(targets: Sequence[Target], masks: Mapping[str, Tensor]) -> dict[str, Mask]:
    """The (out, in) mask of every target, by the target's name.

    Args:
        targets: the layers.
        masks: parameter name → mask of the parameter's shape, as in ``Sparsifier.masks``.
    """
    return {t.name: as_mask(t.view(masks[t.parameter_name])) for t in targets}


def chains_of(
    targets: Sequence[Target], pairs: Sequence[Pair], masks: Mapping[str, Mask]
) -> list[Chain]:
    """The chains that the sequential pairs form (``up → down``, ``v → o``, the layers of an MLP).

    Pairs of grouped heads are left out: there one neuron is several columns. Where a neuron has two
    layers before it (``gate`` and ``up``), the chain goes through the one that is named last.

    Args:
        targets: the layers, in the model's order.
        pairs: as :func:`chts_hf.targets.find_pairs` gives them.
        masks: layer name → mask.

    Returns:
        Chains of at least two layers, in the model's order.
    """
    following = {
        p.first.name: p.second.name
        for p in pairs
        if p.relation == "sequential" and p.neuron_of is None
    }
    before = {second: first for first, second in following.items()}
    following = {first: second for second, first in before.items()}
    chains = []
    for target in targets:
        if target.name in before or target.name not in following:
            continue
        names = [target.name]
        while names[-1] in following:
            names.append(following[names[-1]])
        chains.append(Chain(_common_name(names), tuple(names), tuple(masks[n] for n in names)))
    return chains


def single_layer(name: str, mask: Mask) -> Chain:
    """One layer as a chain of two levels."""
    return Chain(name, (name,), (mask,))


def adjacency(chain: Chain) -> Sparse:
    """The symmetric adjacency matrix of a chain: inputs first, then level after level.

    Returns:
        A ``scipy.sparse.csr_array`` of float64 ones, (nodes, nodes).
    """
    from scipy import sparse

    offsets = np.concatenate([[0], np.cumsum(chain.sizes)])
    rows, columns = [], []
    for i, mask in enumerate(chain.masks):
        out, into = np.nonzero(mask)
        rows.append(out + offsets[i + 1])
        columns.append(into + offsets[i])
    out, into = np.concatenate(rows), np.concatenate(columns)
    places = (np.concatenate([out, into]), np.concatenate([into, out]))
    nodes = int(offsets[-1])
    return sparse.csr_array((np.ones(len(places[0])), places), shape=(nodes, nodes))


def largest_component(matrix: Sparse) -> Ints:
    """The nodes of the largest connected component, ascending."""
    from scipy.sparse.csgraph import connected_components

    _, labels = connected_components(matrix, directed=False)
    return np.flatnonzero(labels == np.bincount(labels).argmax())


def _common_name(names: Sequence[str]) -> str:
    """``a.b.fc1.weight`` and ``a.b.fc2.weight`` → ``a.b: fc1 → fc2``."""
    parts = [name.removesuffix(".weight").split(".") for name in names]
    shared = 0
    while all(len(p) > shared + 1 and p[shared] == parts[0][shared] for p in parts):
        shared += 1
    ends = " → ".join(".".join(p[shared:]) for p in parts)
    return f"{'.'.join(parts[0][:shared])}: {ends}" if shared else ends
