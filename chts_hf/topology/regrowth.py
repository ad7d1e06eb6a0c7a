"""Which absent links a topology update adds."""

from __future__ import annotations

import torch
from torch import Tensor

from chts_hf.topology.sampling import draw_by_weight, uniform_subset
from chts_hf.topology.selection import above_threshold, count, require_finite


@torch.no_grad()
def regrow_soft(
    scores: Tensor, mask: Tensor, n: int, generator: torch.Generator | None = None
) -> Tensor:
    """Draws ``n`` absent links without replacement, with probability proportional to score.

    The regrowth of CHTs (Zhang et al., NeurIPS 2025). Where fewer than ``n`` absent links have a
    positive score, all of those are taken and the rest is drawn uniformly from the others.

    Args:
        scores: Shape (out, in), for instance from :func:`chts_hf.topology.ch_scores`; read at
            absent links only.
        mask: Bool tensor of the same shape, True at links.
        n: How many links to add, between 0 and the number of absent ones.
        generator: Source of randomness; the default CPU generator if None.

    Returns:
        A bool tensor of the mask's shape: True at the ``n`` new links alone.

    Raises:
        ValueError: If an absent link's score is not finite, or ``n`` is out of range.
    """
    require_finite(scores, ~mask, "an absent link")
    _check_count(mask, n)
    positive = (scores > 0).gt_(mask)
    if count(scores) > count(positive):
        scores = scores.masked_fill(~positive, 0)  # at links, and below 0
    del positive
    drawn = draw_by_weight(scores, mask, n, generator)
    new = torch.zeros(mask.shape, dtype=torch.bool, device=mask.device)
    new.view(-1)[drawn] = True
    return new


@torch.no_grad()
def regrow_hard(
    scores: Tensor, mask: Tensor, n: int, generator: torch.Generator | None = None
) -> Tensor:
    """Takes the ``n`` absent links of highest score; which of those that tie, by chance.

    The regrowth of CHT (Zhang et al., ICLR 2024) with Cannistraci-Hebb scores, of RigL (Evci et
    al., 2020) with the magnitude of the dense gradient. In very sparse layers most absent links
    have score 0: of a fixed order among them all new links would be those of a few neurons.

    Args:
        scores: Shape (out, in); read at absent links only.
        mask: Bool tensor of the same shape, True at links.
        n: How many links to add, between 0 and the number of absent ones.
        generator: Source of randomness; the default CPU generator if None. Read only where there
            are more links of the ``n``-th highest score than are missing.

    Returns:
        A bool tensor of the mask's shape: True at the ``n`` new links alone. Those that tie at the
        threshold are drawn uniformly.

    Raises:
        ValueError: If an absent link's score is not finite, or ``n`` is out of range.
    """
    require_finite(scores, ~mask, "an absent link")
    _check_count(mask, n)
    new, ties, missing = above_threshold(scores, ~mask, n)
    return new.logical_or_(uniform_subset(ties, missing, generator))


@torch.no_grad()
def regrow_random(mask: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
    """Takes ``n`` absent links uniformly at random (SET, Mocanu et al., 2018).

    Args:
        mask: Bool tensor of shape (out, in), True at links.
        n: How many links to add, between 0 and the number of absent ones.
        generator: Source of randomness; the default CPU generator if None.

    Returns:
        A bool tensor of the mask's shape: True at the ``n`` new links alone.

    Raises:
        ValueError: If ``n`` is out of range.
    """
    _check_count(mask, n)
    return uniform_subset(~mask, n, generator)


def _check_count(mask: Tensor, n: int) -> None:
    absent = mask.numel() - count(mask)
    if not 0 <= n <= absent:
        raise ValueError(f"n = {n} must lie between 0 and the {absent} absent links there are")
