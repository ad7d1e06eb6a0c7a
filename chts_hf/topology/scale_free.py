"""Bipartite scale-free initial topology (BSF)."""

from __future__ import annotations

import torch
from torch import Tensor

from chts_hf.topology.noise import noise_device, uniform_noise
from chts_hf.topology.rows import apportion, cover_columns, row_blocks, smallest_per_row
from chts_hf.topology.sampling import quick_clocks

# Beyond so many links, a grown graph's degrees are scaled up rather than grown further.
_MOST_GROWN = 1 << 20


def bsf(shape: tuple[int, int], n_links: int, generator: torch.Generator | None = None) -> Tensor:
    """Bipartite scale-free: degrees of a Barabasi-Albert graph (Zhang et al., NeurIPS 2025).

    A Barabasi-Albert graph is grown on in + out nodes in one, which are then dealt to the two
    sides at random. Its links are laid across the sides at constant degree: each side's degrees
    are those of its nodes, scaled so that both sides have ``n_links`` link ends, and at most a
    link to every node of the other side. Every output node has exactly its degree, and draws its
    inputs with weights under which these have theirs on average. Then, if there are as many links
    as inputs, an input that was left without any gets one
    (:func:`chts_hf.topology.rows.cover_columns`).

    Args:
        shape: (out, in).
        n_links: How many links.
        generator: Source of randomness; the default CPU generator if None.

    Returns:
        Bool mask of the shape with exactly ``n_links`` links.
    """
    n_out, n_in = shape
    grown = preferential_degrees(n_out + n_in, n_links, generator)
    dealt = grown[torch.randperm(n_out + n_in, generator=generator, device=grown.device)]
    out_degree = apportion(dealt[:n_out], n_links, n_in)
    in_degree = apportion(dealt[n_out:], n_links, n_out)
    # A clock of rate w has rung by time 1 with probability 1 - exp(-w), which is to be the share
    # of all outputs that the input is linked to.
    share = (in_degree.double() / n_out).clamp(max=1 - 1e-6)
    log_rate = (-torch.log1p(-share)).log().float()
    mask = torch.empty(shape, dtype=torch.bool, device=noise_device(generator))
    for rows in row_blocks(*shape):
        keys = quick_clocks((rows.stop - rows.start, n_in), generator).log_()
        mask[rows] = smallest_per_row(keys.sub_(log_rate), out_degree[rows])
    return cover_columns(mask, generator)


def preferential_degrees(n_nodes: int, n_links: int, generator: torch.Generator | None) -> Tensor:
    """Degrees of a graph grown by preferential attachment (Barabasi and Albert, 1999).

    Every node brings the same number m of links, about ``n_links / n_nodes`` and at least one,
    each to a node drawn with probability proportional to its degree so far. Such a node is found
    by picking any end of any link so far (Batagelj and Brandes, 2005): if it is the end that a
    link was attached by, the answer is whatever that link's own pick was, and all those chains of
    references are followed at once. Loops and multiple links count.

    Args:
        n_nodes: Number of nodes.
        n_links: Wanted number of links, met up to rounding to m per node and a maximum.
        generator: Source of randomness; the default CPU generator if None.

    Returns:
        LongTensor of shape (n_nodes,), oldest node first.
    """
    m = max(1, round(min(n_links, _MOST_GROWN) / n_nodes))
    link = torch.arange(n_nodes * m, device=noise_device(generator))
    ends_so_far = 2 * link + 1
    pick = (uniform_noise((n_nodes * m,), generator) * ends_so_far).long().minimum(2 * link)
    refers_to = torch.where(pick % 2 == 1, pick // 2, link)
    while True:
        further = refers_to[refers_to]
        if torch.equal(further, refers_to):
            break
        refers_to = further
    attached_to = pick[refers_to] // (2 * m)
    return torch.bincount(attached_to, minlength=n_nodes) + m
