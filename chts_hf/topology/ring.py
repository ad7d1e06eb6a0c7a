"""Initial topologies on a ring: nearest neighbours, rewired (BSW) or drawn by distance (BRF).

Both sides of the bipartite graph lie on one ring. Row u of n_rows sits at
``(u + 1/2) * n_columns / n_rows - 1/2`` among the columns, the diagonal of the mask, and distances
are counted in columns, around the ring.
"""

from __future__ import annotations

import torch
from torch import Tensor

from chts_hf.topology.noise import noise_device, uniform_noise
from chts_hf.topology.rows import (
    cover_columns,
    equal_degrees,
    row_blocks,
    smallest_per_row,
    uniform_degrees,
)
from chts_hf.topology.sampling import quick_clocks


def brf(
    shape: tuple[int, int],
    n_links: int,
    generator: torch.Generator | None = None,
    *,
    r: float = 0.25,
    degrees: str = "fixed",
) -> Tensor:
    """Bipartite receptive field: links are drawn close to the diagonal (Zhang et al., 2025).

    Each output node draws its inputs without replacement with probability proportional to
    ``(1 + distance to the diagonal) ** (-(1 - r) / r)``. Then, if there are as many links as
    inputs, an input that was left without any gets one
    (:func:`chts_hf.topology.rows.cover_columns`).

    Args:
        shape: (out, in).
        n_links: How many links.
        generator: Source of randomness; the default CPU generator if None.
        r: Randomness in [0, 1]: 0 links every output to its nearest inputs, 1 is uniform.
        degrees: Of the output nodes: "fixed", equal up to one link, or "uniform", every degree
            of a range around the mean equally likely.

    Returns:
        Bool mask of the shape with exactly ``n_links`` links.
    """
    _check_share("r", r)
    n_out, n_in = shape
    if degrees == "fixed":
        degree = equal_degrees(n_out, n_links)
    elif degrees == "uniform":
        degree = uniform_degrees(n_out, n_links, n_in, generator)
    else:
        raise ValueError(f"degrees = {degrees!r} must be 'fixed' or 'uniform'")
    if r == 0:
        return cover_columns(nearest(shape, degree).to(noise_device(generator)), generator)
    mask = torch.empty(shape, dtype=torch.bool, device=noise_device(generator))
    for rows in row_blocks(*shape):
        keys = quick_clocks((rows.stop - rows.start, n_in), generator).log_()
        if r < 1:
            keys.add_(_distance(rows, shape, keys.device).log1p_(), alpha=(1 - r) / r)
        mask[rows] = smallest_per_row(keys, degree[rows].to(keys.device))
    return cover_columns(mask, generator)


def bsw(
    shape: tuple[int, int],
    n_links: int,
    generator: torch.Generator | None = None,
    *,
    beta: float = 0.25,
) -> Tensor:
    """Bipartite small world: a ring lattice, of which a part is rewired (Zhang et al., 2025).

    Every node of the larger side is linked to its nearest nodes on the smaller side, all with the
    same degree up to one. Then each gives up a share ``beta`` of its links for as many uniformly
    drawn nodes that it was not linked to (as far as there are such nodes), as Watts and Strogatz
    (1998) rewire a ring. Then, if there are links enough for all, a node of the smaller side that
    was left without any gets one (:func:`chts_hf.topology.rows.cover_columns`).

    Args:
        shape: (out, in).
        n_links: How many links.
        generator: Source of randomness; the default CPU generator if None.
        beta: The share of rewired links, in [0, 1]; 0 is the regular lattice.

    Returns:
        Bool mask of the shape with exactly ``n_links`` links.
    """
    _check_share("beta", beta)
    if shape[1] > shape[0]:
        wide = bsw((shape[1], shape[0]), n_links, generator, beta=beta)
        return wide.T.contiguous()
    degree = equal_degrees(shape[0], n_links)
    # Shares of running totals, so that roundings neither add up nor exceed a node's degree.
    before = torch.cat([degree.new_zeros(1), degree.cumsum(0)]).double()
    rewired = (before * beta).round().long().diff().minimum(shape[1] - degree)
    mask = torch.zeros(shape, dtype=torch.bool, device=noise_device(generator))
    for rows in row_blocks(*shape):
        columns, linked = (part.to(mask.device) for part in _nearest_columns(shape, degree, rows))
        count = rewired[rows].to(mask.device)
        lattice = mask[rows].scatter(1, columns, linked)
        if int(count.max()) == 0:
            mask[rows] = lattice
            continue
        lost = smallest_per_row(_noise_where(linked, generator), count)
        found = smallest_per_row(_noise_where(~lattice, generator), count)
        mask[rows] = found | torch.zeros_like(found).scatter_(1, columns, linked & ~lost)
    return cover_columns(mask, generator)


def nearest(shape: tuple[int, int], degree: Tensor) -> Tensor:
    """Links each row to the columns nearest to the diagonal, of two equally near to the left one.

    Args:
        shape: (rows, columns).
        degree: LongTensor of shape (rows,), at most ``columns`` each.

    Returns:
        Bool mask of the shape, on the CPU.
    """
    mask = torch.zeros(shape, dtype=torch.bool)
    for rows in row_blocks(*shape):
        mask[rows] = mask[rows].scatter(1, *_nearest_columns(shape, degree, rows))
    return mask


def _nearest_columns(shape: tuple[int, int], degree: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
    """Returns the nearest columns of the given rows, and which of them are within the degree."""
    n_rows, n_columns = shape
    row, k = torch.arange(rows.start, rows.stop)[:, None], degree[rows, None]
    # The k whole numbers nearest to c are those in [c - k/2, c + k/2); in integers, exactly.
    twice_n_rows_times_first = (2 * row + 1) * n_columns - n_rows - k * n_rows
    first = -(-twice_n_rows_times_first).div(2 * n_rows, rounding_mode="floor")
    offset = torch.arange(max(1, int(k.max())))
    return (first + offset) % n_columns, offset < k


def _noise_where(cells: Tensor, generator: torch.Generator | None) -> Tensor:
    """Returns uniform numbers, under 1 at the True cells and 2 elsewhere."""
    noise = uniform_noise(tuple(cells.shape), generator, torch.float32)
    return noise.masked_fill_(~cells, 2)


def _distance(rows: slice, shape: tuple[int, int], device: torch.device) -> Tensor:
    """Distance of every column to the given rows, as float32 of shape (rows, columns)."""
    n_rows, n_columns = shape
    row = torch.arange(rows.start, rows.stop, dtype=torch.float64, device=device)
    centre = ((row + 0.5) * n_columns / n_rows - 0.5).float()
    straight = (torch.arange(n_columns, device=device) - centre[:, None]).abs_()
    return torch.minimum(straight, n_columns - straight)


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} = {value} must lie between 0 and 1")
