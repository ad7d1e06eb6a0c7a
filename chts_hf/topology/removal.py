"""Which links a topology update removes: scores, and hard or soft choice of those that stay."""

from __future__ import annotations

import torch
from torch import Tensor

from chts_hf.topology.sampling import sample_log_weights
from chts_hf.topology.selection import count, highest, indices_of, require_finite


@torch.no_grad()
def relative_importance(weight: Tensor, eps: float = 1e-5) -> Tensor:
    """Scores each link by its share of its input's and of its output's total weight.

    ``RI_ij = |W_ij| / (sum_i' |W_i'j| + eps) + |W_ij| / (sum_j' |W_ij'| + eps)`` (Zhang et al.,
    "Plug-and-Play: an efficient post-training pruning method for large language models", 2024).

    Args:
        weight: Shape (out, in), zero where there is no link.
        eps: Keeps a row or column without links from dividing by zero.

    Returns:
        Scores of the weight's shape, at least float32, zero where the weight is zero.
    """
    magnitude = _magnitude(weight)
    by_input = magnitude.sum(dim=0, keepdim=True).add_(eps)
    by_output = magnitude.sum(dim=1, keepdim=True).add_(eps)
    return magnitude / by_input + magnitude.div_(by_output)


@torch.no_grad()
def mest_score(weight: Tensor, grad: Tensor, coefficient: float = 0.01) -> Tensor:
    """Scores each link by ``|W| + coefficient * |dL/dW|`` (MEST, Yuan et al., 2021).

    Args:
        weight: Shape (out, in).
        grad: The loss gradient at ``weight``, of the same shape.
        coefficient: Weight of the gradient's magnitude.

    Returns:
        Scores of the weight's shape, at least float32.
    """
    if weight.shape != grad.shape:
        raise ValueError(f"grad has shape {tuple(grad.shape)}, weight has {tuple(weight.shape)}")
    return _magnitude(weight).add_(_magnitude(grad), alpha=coefficient)


@torch.no_grad()
def keep_hard(scores: Tensor, mask: Tensor, n_keep: int) -> Tensor:
    """Keeps the ``n_keep`` links of highest score.

    Args:
        scores: Shape (out, in); only the scores of links are read.
        mask: Bool tensor of the same shape, True at links.
        n_keep: How many links stay, between 0 and the number of links.

    Returns:
        A new bool mask with exactly ``n_keep`` links, all of them in ``mask``. Of links that tie
        at the threshold, those with the lowest flat index stay.

    Raises:
        ValueError: If a link's score is not finite or ``n_keep`` is out of range.
    """
    _check(scores, mask, n_keep)
    return highest(scores, mask, n_keep)


@torch.no_grad()
def keep_soft(
    scores: Tensor,
    mask: Tensor,
    n_keep: int,
    delta: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Keeps ``n_keep`` links, drawn without replacement by a power of their score.

    A link is drawn with probability proportional to ``score ** (delta / (1 - delta))`` (Zhang et
    al., NeurIPS 2025, eq. 2): ``delta = 0`` is uniform among the links of positive score, 0.5
    proportional to the score, 0.9 its ninth power, and towards 1 the choice of the highest. Powers
    are taken in logarithms, so none overflows or vanishes. Links of score zero stay only after
    every link of positive score.

    Args:
        scores: Not negative. Shape (out, in), of which only the scores of links are read; or those
            alone, one-dimensional, in the order of the links' flat indices.
        mask: Bool tensor of shape (out, in), True at links.
        n_keep: How many links stay, between 0 and the number of links.
        delta: In [0, 1).
        generator: Source of randomness; the default CPU generator if None.

    Returns:
        A new bool mask with exactly ``n_keep`` links, all of them in ``mask``.

    Raises:
        ValueError: If a link's score is not finite or negative, or ``n_keep`` or ``delta`` is out
            of range.
    """
    if not 0 <= delta < 1:
        raise ValueError(f"delta = {delta} must lie in [0, 1)")
    links = indices_of(mask)
    if scores.ndim == 1:
        _check(scores, torch.ones_like(links, dtype=torch.bool), n_keep)
        on_links = scores.to(torch.float64, copy=True)
    else:
        _check(scores, mask, n_keep)
        on_links = scores.reshape(-1).index_select(0, links).double()
    if links.numel() and float(on_links.min()) < 0:
        raise ValueError(f"scores must not be negative, the lowest is {float(on_links.min())}")
    zero = on_links == 0
    log_weights = on_links.log_().mul_(delta / (1 - delta))
    # 0 * -inf would be nan: a link of score zero has weight zero, whatever the power.
    log_weights[zero] = -float("inf")
    drawn = links[sample_log_weights(log_weights, n_keep, generator)]
    kept = torch.zeros(mask.shape, dtype=torch.bool, device=mask.device)
    kept.view(-1)[drawn] = True
    return kept


def _magnitude(weight: Tensor) -> Tensor:
    """Returns ``|weight|`` as a new tensor of at least float32, so that sums keep their digits."""
    return weight.abs().to(torch.promote_types(weight.dtype, torch.float32))


def _check(scores: Tensor, mask: Tensor, n_keep: int) -> None:
    require_finite(scores, mask, "a link")
    links = count(mask)
    if not 0 <= n_keep <= links:
        raise ValueError(f"n_keep = {n_keep} must lie between 0 and the {links} links there are")
