"""Coalescent embedding of a layered network in the hyperbolic disk (Muscoloni et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chts_hf.analysis.network import Floats, Ints, Sparse, largest_component

#: Landmarks of the Isomap; below this number of nodes it is exact.
LANDMARKS = 128
#: Fewer nodes than that have no place in the disk.
NODES_NEEDED = 4


@dataclass(frozen=True, eq=False)
class Embedding:
    """Where the nodes lie in the disk.

    Attributes:
        nodes: which nodes of the network, ascending: those of its largest component.
        angle: in [0, 2π), one per node of ``nodes``.
        radius: hyperbolic distance from the centre.
        matrix: the adjacency matrix among these nodes.
    """

    nodes: Ints
    angle: Floats
    radius: Floats
    matrix: Sparse


def repulsion_attraction(matrix: Sparse) -> Sparse:
    """Link lengths by repulsion and attraction (RA1, Muscoloni et al. 2017).

    ``RA1(i, j) = (d_i + d_j + d_i d_j) / (1 + cn_ij)``: hubs repel, shared neighbours attract. In a
    network of layers linked nodes share no neighbour, so cn is 0 and only the repulsion is left.
    Counting the paths of length three in its place was tried: it makes shortcuts of the densest
    places, and Isomap no longer finds the angles that a network was made with.

    Args:
        matrix: symmetric adjacency matrix of ones.

    Returns:
        A sparse matrix of lengths on the links.
    """
    degree = np.asarray(matrix.sum(axis=0)).ravel()
    common = (matrix @ matrix).multiply(matrix).tocoo()
    links = matrix.tocoo()
    i, j = links.coords
    links.data = degree[i] + degree[j] + degree[i] * degree[j]
    if common.nnz:
        shared = common.tocsr()
        links.data = links.data / (1 + np.asarray(shared[i, j]).ravel())
    return links.tocsr()


def isomap(lengths: Sparse, dimensions: int, rng: np.random.Generator) -> Floats:
    """Isomap of a connected weighted graph (Tenenbaum et al. 2000), by landmarks where it is big.

    Classical scaling of the shortest-path lengths between landmarks, the other nodes placed by
    their distances to them (de Silva and Tenenbaum 2003). With all nodes as landmarks it is Isomap
    itself; the landmarks are drawn uniformly.

    Returns:
        (nodes, dimensions), the first dimension the one of the largest eigenvalue.
    """
    from scipy.linalg import eigh
    from scipy.sparse.csgraph import dijkstra

    nodes = lengths.shape[0]
    landmarks = np.sort(rng.permutation(nodes)[:LANDMARKS])
    squared = dijkstra(lengths, directed=False, indices=landmarks) ** 2
    between = squared[:, landmarks]
    mean = between.mean(axis=0)
    kernel = -0.5 * (between - mean - mean[:, None] + mean.mean())
    last = len(landmarks) - 1
    values, vectors = eigh(kernel, subset_by_index=[max(0, last - dimensions + 1), last])
    values, vectors = values[::-1], vectors[:, ::-1]
    scale = np.sqrt(np.maximum(values, 1e-12))
    return -0.5 * (squared - mean[:, None]).T @ (vectors / scale)


def equidistant(angle: Floats) -> Floats:
    """Angles of the same order, spread evenly over the circle; ties in the nodes' order."""
    spread = np.empty(len(angle))
    spread[np.argsort(angle, kind="stable")] = np.arange(len(angle)) * (2 * np.pi / len(angle))
    return spread


def radii(degree: Floats, gamma: float) -> Floats:
    """Radii by degree: the more links, the nearer to the centre (Papadopoulos et al. 2012).

    ``r_i = 2β ln i + 2(1 - β) ln N``, with i the node's place by descending degree and
    ``β = 1 / (γ - 1)`` the popularity fading of a power law with exponent γ. Nodes of equal degree
    share the mean of their places, so that the order of the nodes does not matter.

    Args:
        degree: the degrees.
        gamma: exponent of the degree distribution; β is held within [0, 1].
    """
    from scipy.stats import rankdata

    return popularity_radii(rankdata(-degree, method="average"), gamma)


def popularity_radii(place: Floats, gamma: float) -> Floats:
    """``2β ln i + 2(1 - β) ln N`` for the places i of N nodes; see :func:`radii`."""
    beta = float(np.clip(1 / max(gamma - 1, 1e-9), 0, 1))
    found: Floats = 2 * beta * np.log(place) + 2 * (1 - beta) * np.log(len(place))
    return found


def coalescent_embedding(
    matrix: Sparse, rng: np.random.Generator, gamma: float | None = None
) -> Embedding:
    """Embed a network in the hyperbolic disk: RA1 lengths, Isomap, equidistant angles.

    Args:
        matrix: symmetric adjacency matrix of ones.
        rng: draws the landmarks.
        gamma: exponent of the degree distribution for the radii; None: maximum likelihood over all
            degrees, ``1 + n / Σ ln(2 d_i / (2 d_min - 1))`` (Clauset et al. 2009).

    Returns:
        Coordinates of the largest component.

    Raises:
        ValueError: it has fewer than four nodes.
    """
    nodes = largest_component(matrix)
    if len(nodes) < NODES_NEEDED:
        raise ValueError(
            f"the largest component has {len(nodes)} nodes; {NODES_NEEDED} are needed to embed it"
        )
    part = matrix[nodes][:, nodes].tocsr()
    place = isomap(repulsion_attraction(part), 2, rng)
    angle = equidistant(np.mod(np.arctan2(place[:, 1], place[:, 0]), 2 * np.pi))
    degree = np.asarray(part.sum(axis=0)).ravel()
    if gamma is None:
        gamma = 1 + len(degree) / float(np.log(2 * degree / (2 * degree.min() - 1)).sum())
    return Embedding(nodes, angle, radii(degree, gamma), part)


def hyperbolic_distance(embedding: Embedding, i: Ints, j: Ints) -> Floats:
    """Hyperbolic distances, ``cosh x = cosh r_i cosh r_j - sinh r_i sinh r_j cos Δθ``.

    Args:
        embedding: the nodes' places.
        i: numbers of nodes within ``embedding.nodes``.
        j: as ``i``; the two are broadcast.
    """
    between = embedding.angle[i] - embedding.angle[j]
    return distance_in_disk(embedding.radius[i], embedding.radius[j], between)


def distance_in_disk(r: Floats, s: Floats, between: Floats) -> Floats:
    """Hyperbolic distances of points at radii r and s with so large an angle between them."""
    half = np.sin(between / 2) ** 2
    # cosh(r - s) + 2 sinh r sinh s sin²(Δθ/2): the same without the cancellation.
    found: Floats = np.arccosh(np.maximum(np.cosh(r - s) + 2 * np.sinh(r) * np.sinh(s) * half, 1.0))
    return found
