"""The hyperbolic disk of a network as a picture."""

from __future__ import annotations

import numpy as np

from chts_hf.analysis.embedding import hyperbolic_distance
from chts_hf.analysis.graph import Network
from chts_hf.analysis.network import Floats
from chts_hf.analysis.report.svg import COLOURS, wrap

#: Links drawn at most; a sample of them beyond.
MOST_LINKS = 1500
_SIDE = 520


def disk(network: Network, alt: str) -> str:
    """Nodes at their angle and radius, coloured by community, with links along geodesics.

    The six largest communities have a colour, links within one have it too; a node is the larger
    the more links it has. Empty where the network has no place in the disk.
    """
    embedding = network.embedding
    if embedding is None:
        return ""
    communities = network.communities[embedding.nodes]
    degree = network.degree[embedding.nodes]
    scale = (_SIDE / 2 - 12) / max(float(embedding.radius.max()), 1e-9)
    x, y = _places(embedding.angle, embedding.radius * scale)
    upper = embedding.matrix.tocoo()
    i, j = upper.coords
    i, j = i[i < j], j[i < j]
    chosen = np.sort(network.generator(6).permutation(len(i))[:MOST_LINKS])
    i, j = i[chosen], j[chosen]
    # How near a geodesic comes to the centre: about the Gromov product of its ends.
    product = (embedding.radius[i] + embedding.radius[j] - hyperbolic_distance(embedding, i, j)) / 2
    middle = (
        embedding.angle[j] + (np.angle(np.exp(1j * (embedding.angle[i] - embedding.angle[j])))) / 2
    )
    bend_x, bend_y = _places(middle, np.maximum(product, 0) * scale)
    parts = [f'<circle class="rim" cx="{_SIDE / 2}" cy="{_SIDE / 2}" r="{_SIDE / 2 - 6}"/>']
    same = communities[i] == communities[j]
    for k in np.argsort(same, kind="stable"):
        a, b = i[k], j[k]
        parts.append(
            f'<path class="link stroke-{_colour(communities[a]) if same[k] else "grey"}" '
            f'd="M{x[a]:.1f} {y[a]:.1f}Q{bend_x[k]:.1f} {bend_y[k]:.1f} {x[b]:.1f} {y[b]:.1f}"/>'
        )
    size = 1.6 + 4.2 * np.sqrt(degree / degree.max())
    for node in np.argsort(degree, kind="stable"):
        parts.append(
            f'<circle class="node fill-{_colour(communities[node])}" cx="{x[node]:.1f}" '
            f'cy="{y[node]:.1f}" r="{size[node]:.1f}"><title>level '
            f"{network.chain.levels[embedding.nodes[node]]}, {degree[node]:.0f} links, community "
            f"{communities[node] + 1}</title></circle>"
        )
    return wrap("".join(parts), (_SIDE, _SIDE), alt, "disk")


def _colour(community: int) -> str:
    return str(community) if community < COLOURS - 1 else "grey"


def _places(angle: Floats, radius: Floats) -> tuple[Floats, Floats]:
    return _SIDE / 2 + radius * np.cos(angle), _SIDE / 2 - radius * np.sin(angle)
