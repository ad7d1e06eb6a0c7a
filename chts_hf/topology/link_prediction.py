"""Cannistraci-Hebb link prediction on the bipartite graph of a layer.

A mask of shape (out, in) is the adjacency matrix ``A`` of a bipartite graph. The score of an absent
link (u, v) looks at its local community: the nodes on paths of length three ``u - v' - u' - v``.
Seen from a seed node x, a node z on the same side has ``i`` internal links (the neighbours it
shares with x) and ``e = max(0, d_z - i - 1)`` external ones, where ``d_z`` is its degree. Internal
links speak for a new link, external ones against it:

- CH2: ``f = (1 + i) / (1 + e)``
- CH3: ``f = 1 / (1 + e)``
- CH3.1: ``f = (1 + i) / (1 + e) ** (1 + e / (1 + e))``

with ``f = 0`` where ``i = 0``. With ``F_D[u, u'] = f`` on the side of the outputs and
``F_T[v, v'] = f`` on that of the inputs, the score is

- node-based (L3n; Zhang et al., NeurIPS 2025): ``S = F_D A + (F_T A^T)^T``
- path-based (L3p; Zhang et al., ICLR 2024): ``S[u, v] = sum over u', v' of``
  ``A[u, v'] A[u', v'] A[u', v] sqrt(F_D[u, u'] F_T[v, v'])``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from chts_hf.topology.csr import csr_matrix, pattern
from chts_hf.topology.selection import DEVICE_BLOCK_BYTES, count, on_cpu

# Rows of a similarity matrix that exist at once on a CPU: enough for a matrix product to run at
# full speed, but no more than a fifth of them where it is small, so that blocks stay blocks.
_ROWS = 256
_BYTES_PER_ELEMENT = 16  # of a similarity matrix while it is made: some four float32 at once


def _rows_at_once(mask: Tensor) -> int:
    """How many of a mask's rows to compare with all others together, at least 1."""
    n = mask.shape[0]
    if not on_cpu(mask):
        return max(1, DEVICE_BLOCK_BYTES // (_BYTES_PER_ELEMENT * max(1, n)))
    return min(_ROWS, max(1, n // 5))


# Up to this density, in layers of that many weights and more, a product that skips the zeros is the
# quicker one, by a CPU's sparse library.
_SPARSE_PRODUCT_DENSITY = 0.08
_SPARSE_PRODUCT_WEIGHTS = 1 << 18

# Elements of the float64 matrices of one output node's paths that exist at once (32 MiB).
_PATH_ELEMENTS = 1 << 22


def _ch2(shared: Tensor, degree: Tensor) -> Tensor:
    # sign(i) + i is 1 + i where i > 0, where 1 + e = max(1, d - i), and 0 elsewhere.
    shared.add_(shared.sign())
    return shared.div_((degree + 1 - shared).clamp_(min=1))


def _ch3(shared: Tensor, degree: Tensor) -> Tensor:
    outside = (degree - shared).clamp_(min=1)
    return shared.sign_().div_(outside)


def _ch3_1(shared: Tensor, degree: Tensor) -> Tensor:
    # With o = 1 + e, the exponent 1 + e / (1 + e) is 2 - 1 / o.
    outside = (degree - shared).clamp_(min=1)
    power = outside.pow(2 - outside.reciprocal())
    return shared.add_(shared.sign()).div_(power)


_Similarity = Callable[[Tensor, Tensor], Tensor]
"""From shared neighbours (overwritten) and the degrees that broadcast against them to f."""

_NODE_BASED: dict[str, _Similarity] = {"CH2-L3n": _ch2, "CH3-L3n": _ch3, "CH3.1-L3n": _ch3_1}
_PATH_BASED: dict[str, _Similarity] = {"CH2-L3p": _ch2, "CH3-L3p": _ch3}

PREDICTORS: tuple[str, ...] = (*_NODE_BASED, *_PATH_BASED)
"""The names :func:`ch_scores` knows."""


@torch.no_grad()
def ch_scores(mask: Tensor, predictor: str = "CH2-L3n") -> Tensor:
    """Scores every absent link by how well its local community is closed in itself.

    Formulas and sources: see the module's description. Node-based scores cost four dense matrix
    products of a side's similarity with the mask or less (on a CPU, in large layers and up to a
    density of 8 %, products that skip its zeros), and no more memory than the mask as float32, the
    result, and blocks of at most 256 rows; on other devices, blocks of as many rows as fit 256 MB,
    all of most layers, in fewer operations. Path-based scores cost one product per output node,
    ``links * out * in`` multiplications in all at the most.

    Args:
        mask: Bool tensor of shape (out, in), True at links.
        predictor: One of :data:`PREDICTORS`.

    Returns:
        Scores of the mask's shape on its device, not negative, 0 at links and where no path of
        length three leads; float32 for node-based, float64 for path-based predictors. (Where a
        GPU is allowed TF32, node-based scores have its three digits; counts stay exact.)

    Raises:
        ValueError: If the predictor is unknown or the mask is not a bool matrix.

    Example:
        >>> mask = torch.tensor([[True, True], [True, False]])
        >>> ch_scores(mask)
        tensor([[0., 0.],
                [0., 4.]])
    """
    if predictor not in PREDICTORS:
        raise ValueError(f"unknown predictor {predictor!r}; known are {', '.join(PREDICTORS)}")
    if mask.dtype != torch.bool or mask.ndim != 2:
        raise ValueError(
            f"mask must be a bool matrix, got {mask.dtype} of shape {tuple(mask.shape)}"
        )
    # Under autocast the products would round to bfloat16, where counts are exact to 256 only.
    with torch.autocast(mask.device.type, enabled=False):
        if predictor in _NODE_BASED:
            scores = _node_based(mask, _NODE_BASED[predictor])
        else:
            scores = _path_based(mask, _PATH_BASED[predictor])
    return scores.masked_fill_(mask, 0)


def _node_based(mask: Tensor, similarity: _Similarity) -> Tensor:
    scores = torch.zeros(mask.shape, device=mask.device)
    links = count(mask)
    if _skips_zeros(mask, links):
        ones = torch.ones(links)  # the values of both
        by_row, by_column = _sparse(mask, ones), _sparse(mask.T, ones)
        _add_one_side_sparsely(mask, by_row, by_column, scores, similarity)
        _add_one_side_sparsely(mask.T, by_column, by_row, scores.T, similarity)
    else:
        adjacency = mask.to(torch.float32)
        _add_one_side(adjacency, scores, similarity)
        _add_one_side(adjacency.T, scores.T, similarity)
    return scores


def _skips_zeros(mask: Tensor, links: int) -> bool:
    """Whether sparse products are to be had, and quicker."""
    if not on_cpu(mask) or not torch.backends.mkl.is_available():
        return False
    if mask.numel() < _SPARSE_PRODUCT_WEIGHTS:
        return False
    return links <= _SPARSE_PRODUCT_DENSITY * mask.numel()


def _sparse(mask: Tensor, ones: Tensor) -> Tensor:
    start, column, _ = pattern(mask)
    rows, columns = mask.shape
    return csr_matrix(start, column.int(), ones, (rows, columns))


def _add_one_side(adjacency: Tensor, scores: Tensor, similarity: _Similarity) -> None:
    """Adds ``F A`` to the scores, where F is the similarity of the row nodes.

    Shared neighbours are symmetric, so only blocks on and right of the diagonal are counted, and
    used for both of their orientations.
    """
    degree = adjacency.sum(dim=1)
    n = adjacency.shape[0]
    size = _rows_at_once(adjacency)
    for start in range(0, n, size):
        stop = min(start + size, n)
        rows = adjacency[start:stop]
        shared = rows @ adjacency[start:].T
        if stop < n:
            beyond = shared[:, stop - start :].clone()
            scores[stop:].addmm_(similarity(beyond, degree[start:stop, None]).T, rows)
        scores[start:stop].addmm_(similarity(shared, degree[start:]), adjacency[start:])


def _add_one_side_sparsely(
    mask: Tensor, by_row: Tensor, by_column: Tensor, scores: Tensor, similarity: _Similarity
) -> None:
    """As :func:`_add_one_side`, by products with the mask as a sparse matrix and transposed.

    A sparse matrix stands on the left of a product, so blocks of the similarity lie on their side.
    """
    degree = by_row.crow_indices().diff()[:, None].float()
    n = mask.shape[0]
    size = _rows_at_once(mask)
    for start in range(0, n, size):
        rows = slice(start, min(start + size, n))
        # In one expression, so that no block outlives its use.
        scores[rows] += _product(
            by_column,
            similarity(_product(by_row, mask[rows].T.contiguous().float()), degree),
        ).T


def _product(sparse: Tensor, dense: Tensor) -> Tensor:
    # In place: ``sparse @ dense`` holds its result twice for a while.
    return torch.empty(sparse.shape[0], dense.shape[1]).addmm_(sparse, dense, beta=0)


def _path_based(mask: Tensor, similarity: _Similarity) -> Tensor:
    if mask.shape[1] > mask.shape[0]:
        # The definition is symmetric; the similarity held as a whole is then that of fewer nodes.
        return _path_based(mask.T, similarity).T.contiguous()
    adjacency = mask.to(torch.float64)
    in_degree = adjacency.sum(dim=0)
    out_degree = adjacency.sum(dim=1)
    between_inputs = similarity(adjacency.T @ adjacency, in_degree).sqrt_()
    scores = torch.zeros_like(adjacency)
    for u in range(mask.shape[0]):
        middle = mask[u].nonzero().squeeze(1)
        shared = adjacency[:, middle].sum(dim=1)
        others = shared.nonzero().squeeze(1)
        from_u = similarity(shared[others], out_degree[others]).sqrt_()
        to_v = between_inputs[:, middle].T
        for part in range(0, others.numel(), max(1, _PATH_ELEMENTS // mask.shape[1])):
            rows = slice(part, part + max(1, _PATH_ELEMENTS // mask.shape[1]))
            second = adjacency[others[rows]]
            paths = (second[:, middle] @ to_v).mul_(second)
            scores[u] += from_u[rows] @ paths
    return scores
