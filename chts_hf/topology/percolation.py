"""Percolation: links that no signal can pass, because a neuron has none on its other side.

After a removal, a hidden neuron with no link on one of its sides carries nothing, and the links on
its other side are dead weight; they are removed too (Zhang et al., ICLR 2024; for attention, Zhang
et al., NeurIPS 2025). The regrowth that follows adds as many links elsewhere.

Two kinds of pairs are known. In a *sequential* pair (``v_proj`` then ``o_proj``, ``fc1`` then
``fc2``) a neuron is a row of the first mask and a column of the second. In a *product* pair
(``q_proj`` and ``k_proj``, ``gate`` and ``up``) a neuron is a row of both.
"""

from __future__ import annotations

import torch
from torch import Tensor


def percolate_sequential(
    first: Tensor, second: Tensor, neuron_of: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Removes the links of hidden neurons that lack links on the other side.

    First every row of ``first`` whose columns in ``second`` are all empty, then every column of
    ``second`` whose row in ``first`` is empty.

    Args:
        first: Bool mask of shape (n, in); its rows are the n neurons.
        second: Bool mask of shape (out, m).
        neuron_of: LongTensor of shape (m,): column c of ``second`` reads neuron
            ``neuron_of[c]``, as where several heads share one value head (grouped-query
            attention). By default column j reads neuron j, and m = n.

    Returns:
        The two masks after percolation, as new tensors.

    Raises:
        ValueError: If the shapes do not fit together.

    Example:
        >>> first = torch.tensor([[True, True], [False, False], [True, False]])
        >>> second = torch.tensor([[True, True, False]])
        >>> percolate_sequential(first, second)[0].tolist()
        [[True, True], [False, False], [False, False]]
        >>> percolate_sequential(first, second)[1].tolist()
        [[True, False, False]]
    """
    neuron_of = _pairing(first.shape[0], second.shape[1], neuron_of, second.device)
    written, read = first.any(dim=1), second.any(dim=0)
    alive = written & _any_of_group(read, neuron_of, first.shape[0])
    return first & alive[:, None], second & alive[neuron_of][None, :]


def percolate_product(
    a: Tensor, b: Tensor, neuron_of: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Removes the rows of two masks whose partners are empty.

    Row c of ``a`` is multiplied with row ``neuron_of[c]`` of ``b``: a row of ``a`` goes where its
    partner is empty, a row of ``b`` where all its partners are.

    Args:
        a: Bool mask of shape (m, in_a), for instance of the queries.
        b: Bool mask of shape (n, in_b), for instance of the keys.
        neuron_of: LongTensor of shape (m,): the row of ``b`` that each row of ``a`` is paired
            with (grouped-query attention: several query heads per key head). By default row j
            with row j, and m = n.

    Returns:
        The two masks after percolation, as new tensors.

    Raises:
        ValueError: If the shapes do not fit together.
    """
    neuron_of = _pairing(b.shape[0], a.shape[0], neuron_of, a.device)
    in_a, in_b = a.any(dim=1), b.any(dim=1)
    return a & in_b[neuron_of][:, None], b & _any_of_group(in_a, neuron_of, b.shape[0])[:, None]


def active_neurons_sequential(
    first: Tensor, second: Tensor, neuron_of: Tensor | None = None
) -> Tensor:
    """Marks the neurons of a sequential pair that have links on both sides.

    Their share after percolation is the active-neuron rate (ANP).

    Args:
        first: Bool mask of shape (n, in).
        second: Bool mask of shape (out, m).
        neuron_of: As in :func:`percolate_sequential`.

    Returns:
        Bool tensor of shape (n,), one entry per row of ``first``.
    """
    neuron_of = _pairing(first.shape[0], second.shape[1], neuron_of, second.device)
    return first.any(dim=1) & _any_of_group(second.any(dim=0), neuron_of, first.shape[0])


def active_neurons_product(a: Tensor, b: Tensor, neuron_of: Tensor | None = None) -> Tensor:
    """Marks the neurons of a product pair that have links in both masks.

    Args:
        a: Bool mask of shape (m, in_a).
        b: Bool mask of shape (n, in_b).
        neuron_of: As in :func:`percolate_product`.

    Returns:
        Bool tensor of shape (m,), one entry per row of ``a``, that is per product.
    """
    neuron_of = _pairing(b.shape[0], a.shape[0], neuron_of, a.device)
    return a.any(dim=1) & b.any(dim=1)[neuron_of]


def _pairing(neurons: int, members: int, neuron_of: Tensor | None, device: torch.device) -> Tensor:
    """Returns the neuron of each member, checked."""
    if neuron_of is None:
        if neurons != members:
            raise ValueError(
                f"{members} rows or columns cannot be paired one to one with {neurons} neurons; "
                "pass neuron_of"
            )
        return torch.arange(members, device=device)
    if neuron_of.shape != (members,):
        raise ValueError(
            f"neuron_of has shape {tuple(neuron_of.shape)}, one entry for each of the {members} "
            "rows or columns is needed"
        )
    if members and not 0 <= int(neuron_of.min()) <= int(neuron_of.max()) < neurons:
        raise ValueError(f"neuron_of must hold numbers from 0 to {neurons - 1}")
    return neuron_of.to(device)


def _any_of_group(members: Tensor, group: Tensor, n_groups: int) -> Tensor:
    """Marks the groups of which at least one member is True."""
    found = torch.zeros(n_groups, dtype=torch.bool, device=members.device)
    found[group[members]] = True
    return found
