"""Weighted and uniform sampling without replacement, for any number of categories.

Successive sampling without replacement draws one item after the other, each time with probability
proportional to the weights of the items that are left. The same distribution comes from one
exponential clock per item: with ``E_i ~ Exp(1)``, the ``k`` items of smallest ``E_i / w_i`` are
the first ``k`` draws (Efraimidis and Spirakis, 2006; in logarithms this is the Gumbel-top-k trick,
Kool et al., 2019). Unlike :func:`torch.multinomial` this knows no limit of 2**24 categories and
never returns an item of weight zero while a positive one is left.

Uniform numbers are drawn in float64 and rounded to float32 afterwards, which leaves the small
clocks, those that win, all their digits. Drawn in float32 they would have only 2**24 values, one of
them zero, and with millions of items links would go to items of vanishing weight. Draws among the
few thousand cells of a row can do with :func:`quick_clocks`.

Where few of many cells of like weight are drawn, the same distribution, but for 2**-16, comes
sooner from running sums (:mod:`chts_hf.topology.inversion`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from chts_hf.topology.inversion import draw_round
from chts_hf.topology.noise import uniform_noise
from chts_hf.topology.selection import block_size, count, indices_of, joined, k_smallest


def clocks(size: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """Returns float32 numbers from Exp(1), on the generator's own device."""
    return clocks_of(uniform_noise(size, generator))


def clocks_of(noise: Tensor) -> Tensor:
    """Returns ``E = -log(1 - u)``, float32, of each ``u`` of :func:`uniform_noise`, overwritten."""
    # -log(1 - u) rather than -log(u): the fine end of u then meets the small clocks.
    return noise.neg_().float().clamp_(min=-1 + 2**-24).log1p_().neg_()


def quick_clocks(size: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """Returns float32 numbers from Exp(1) of float32 noise, which takes half as long to draw.

    None is zero or infinite, and the chance to be below any bound is right to 2**-24.
    """
    noise = uniform_noise(size, generator, torch.float32)
    return noise.add_(2**-25).clamp_(max=1 - 2**-24).neg_().log1p_().neg_()


@torch.no_grad()
def sample_without_replacement(
    weights: Tensor, k: int, generator: torch.Generator | None = None
) -> Tensor:
    """Draws ``k`` distinct flat indices, successively, with probability proportional to weight.

    Args:
        weights: Non-negative and finite, any shape, any number of elements.
        k: How many to draw. Beyond the number of positive weights, all of those are returned and
            the rest is drawn uniformly among the zero ones.
        generator: Source of randomness; the default CPU generator if None. The noise is drawn on
            the generator's device and moved, so a CPU generator gives the same draw for weights
            on any device.

    Returns:
        A LongTensor of shape ``(k,)`` on the device of ``weights``: distinct indices into
        ``weights.flatten()``, in no particular order.

    Raises:
        ValueError: If a weight is negative, NaN or infinite, or ``k`` is negative or larger than
            the number of weights.

    Example:
        >>> scores = torch.tensor([[0.0, 3.0], [1.0, 0.0]])
        >>> sorted(sample_without_replacement(scores, 2).tolist())
        [1, 2]
    """
    flat = weights.reshape(-1)
    _check_size(k, flat.numel(), "weights")
    if flat.numel() and flat.dtype != torch.bool:
        low, high = (float(bound) for bound in torch.aminmax(flat))
        if not (low >= 0 and high < float("inf")):
            raise ValueError(
                "weights must be finite and not negative, and lie "
                f"between {low} and {high} (nan if any is nan)"
            )
    return draw_by_weight(flat, torch.zeros_like(flat, dtype=torch.bool), k, generator)


@torch.no_grad()
def sample_log_weights(
    log_weights: Tensor, k: int, generator: torch.Generator | None = None
) -> Tensor:
    """Draws as :func:`sample_without_replacement` from weights given by their logarithms.

    For weights that would overflow or vanish: a score raised to the power ``p`` is
    ``p * score.log()`` here.

    Args:
        log_weights: Natural logarithms, any shape; ``-inf`` is weight zero.
        k: How many to draw.
        generator: Source of randomness; the default CPU generator if None.

    Returns:
        A LongTensor of shape ``(k,)``: distinct indices into ``log_weights.flatten()``, in no
        particular order.

    Raises:
        ValueError: If a log-weight is NaN or ``+inf``, or ``k`` is negative or larger than the
            number of log-weights.
    """
    flat = log_weights.reshape(-1)
    _check_size(k, flat.numel(), "log_weights")
    if flat.numel() and not float(flat.max()) < float("inf"):
        raise ValueError("log_weights must be finite or -inf, and at least one is nan or +inf")

    def race(block: slice, cells: Tensor, bound: Tensor | None) -> tuple[Tensor, Tensor]:
        keys = clocks((cells.numel(),), generator).to(cells.device).double()
        keys.log_().sub_(flat[block])
        index = indices_of(cells)
        return index, keys if len(index) == len(keys) else keys.index_select(0, index)

    return _draw(race, flat > -float("inf"), torch.zeros_like(flat, dtype=torch.bool), k, generator)


def draw_by_weight(
    weights: Tensor, taken: Tensor, k: int, generator: torch.Generator | None
) -> Tensor:
    """Draws ``k`` cells successively by weight, and uniformly once no weight is positive.

    Args:
        weights: Any shape, finite and not negative, 0 at cells that are ``taken``.
        taken: Bool tensor of the same shape: what must not be drawn.
        k: At most the number of cells that are not taken.
        generator: Source of randomness; the default CPU generator if None.

    Returns:
        A LongTensor of ``k`` distinct flat indices, in no particular order.
    """
    flat, taken = weights.reshape(-1), taken.reshape(-1)
    drawn: list[Tensor] = []
    available = count(flat)
    while (some := draw_round(flat, available, k, generator)).numel():
        drawn.append(some)
        k -= some.numel()
        if k == 0:
            return joined(drawn)
        available -= some.numel()
        taken = taken.index_fill(0, some, True)
        flat = flat.index_fill(0, some, 0)

    def race(block: slice, cells: Tensor, bound: Tensor | None) -> tuple[Tensor, Tensor]:
        noise = uniform_noise((cells.numel(),), generator)
        near = cells
        if bound is not None:
            # E >= u, so a key E / w under the bound has u under bound · w, up to rounding. Of most
            # cells, which are far above, no clock need be made then.
            limit = flat[block].double().mul_(bound * (1 + 2**-20))
            near = (noise.to(cells.device) < limit).logical_and_(cells)
        index = indices_of(near)
        # On the generator's device: a division is rounded alike on every one, a logarithm is not.
        clock = clocks_of(noise.index_select(0, index.to(noise.device))).to(cells.device)
        # float64, where no quotient of float32 numbers overflows or vanishes.
        return index, clock.double().div_(flat[block].index_select(0, index))

    return joined([*drawn, _draw(race, flat > 0, taken, k, generator)])


def _draw(
    race: Callable[[slice, Tensor, Tensor | None], tuple[Tensor, Tensor]],
    positive: Tensor,
    taken: Tensor,
    k: int,
    generator: torch.Generator | None,
) -> Tensor:
    """Draws the ``k`` positive cells of smallest key, given what makes the keys of a block.

    Where there are too few, the rest comes uniformly from the others that are not taken.
    """
    n_positive = count(positive)
    if k >= n_positive:
        others = uniform_subset(~(positive | taken), k - n_positive, generator)
        return torch.cat([indices_of(positive), indices_of(others)])
    if k == 0:
        return torch.empty(0, dtype=torch.long, device=positive.device)
    if 2 * k <= n_positive:
        return k_smallest(race, positive, k)

    def backwards(block: slice, cells: Tensor, _: Tensor | None) -> tuple[Tensor, Tensor]:
        index, keys = race(block, cells, None)
        return index, keys.neg_()

    # Most are drawn: the few that are not are found with less memory.
    drawn = positive.clone()
    drawn[k_smallest(backwards, positive, n_positive - k)] = False
    return indices_of(drawn)


@torch.no_grad()
def uniform_subset(cells: Tensor, k: int, generator: torch.Generator | None = None) -> Tensor:
    """Marks ``k`` of the True cells of ``cells``, every subset of that size equally likely.

    A few cells are drawn with replacement, repeats thrown away, until there are ``k`` different
    ones. For many, every cell is taken or not by the toss of a coin, which makes every subset of
    the size that comes out equally likely; then the few that are missing or too many are drawn.

    Args:
        cells: Bool tensor of any shape and size.
        k: Between 0 and the number of True cells.
        generator: Source of randomness; the default CPU generator if None.

    Returns:
        A new bool tensor of the same shape with exactly ``k`` True, all of them in ``cells``.

    Raises:
        ValueError: If ``k`` is negative or larger than the number of True cells.
    """
    available = count(cells)
    _check_size(k, available, "cells")
    if k == 0:
        return torch.zeros_like(cells)
    if k == available:
        return cells.clone()
    if 16 * k >= available:
        chosen = _toss_coins(cells, k / available, generator)
        missing = k - count(chosen)
        if missing >= 0:
            return chosen.logical_or_(uniform_subset(cells & ~chosen, missing, generator))
        return chosen.logical_xor_(uniform_subset(chosen, -missing, generator))
    if 8 * available < cells.numel():
        # Most draws would miss, so number the candidates instead.
        index = indices_of(cells)
        chosen = torch.zeros(cells.numel(), dtype=torch.bool, device=cells.device)
        chosen[index[uniform_subset(torch.ones_like(index, dtype=torch.bool), k, generator)]] = True
        return chosen.view(cells.shape)
    taken = ~cells.reshape(-1)
    n = taken.numel()
    missing = k
    while missing:
        step = block_size(taken)
        for start in range(0, missing, step):
            noise = uniform_noise((min(step, missing - start),), generator)
            taken[noise.mul_(n).long().clamp_(max=n - 1).to(taken.device)] = True
        missing = k - (count(taken) - (n - available))
    return taken.logical_and_(cells.reshape(-1)).view(cells.shape)


def _toss_coins(cells: Tensor, probability: float, generator: torch.Generator | None) -> Tensor:
    """Marks each True cell of ``cells`` with the given probability."""
    chosen = cells.reshape(-1).clone()
    step = block_size(chosen)
    for start in range(0, chosen.numel(), step):
        block = chosen[start : start + step]
        noise = uniform_noise((block.numel(),), generator, torch.float32)
        block.logical_and_((noise < probability).to(block.device))
    return chosen.view(cells.shape)


def _check_size(k: int, available: int, name: str) -> None:
    if not 0 <= k <= available:
        raise ValueError(f"k = {k} must lie between 0 and the {available} {name} there are")
