"""The hyperbolic disk of a network as a picture."""

from __future__ import annotations

import numpy as np

from chts_hf.analysis.embedding import hyperbolic_distance
from chts_hf.analysis.graph import Network
from chts_hf.analysis.network import Floats, Ints
from chts_hf.analysis.report.svg import COLOURS, wrap

#: Links drawn at most; a sample of them beyond.
MOST_LINKS = 1500
_SIDE, _MARGIN = 520, 22
_HUES = COLOURS - 1


def disk(network: Network, alt: str, most: float | None = None) -> str:
    """Nodes at their angle and radius, coloured by community, with links along geodesics.

    The six largest communities are filled in a colour each, the next six open in the same colours,
    the others grey; links within one have its colour too. At the rim stand the communities'
    numbers, the largest being 1, where their members have a sector. A node is the larger the more
    links it has. Empty where the network has no place in the disk.

    Args:
        network: the network.
        alt: what a person who doesn't see it should know.
        most: the links of the largest node, for pictures that share a scale; None: of this network.
    """
    embedding = network.embedding
    if embedding is None:
        return ""
    communities = network.communities[embedding.nodes]
    degree = network.degree[embedding.nodes]
    scale = (_SIDE / 2 - _MARGIN - 6) / max(float(embedding.radius.max()), 1e-9)
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
    parts = [f'<circle class="rim" cx="{_SIDE / 2}" cy="{_SIDE / 2}" r="{_SIDE / 2 - _MARGIN}"/>']
    same = communities[i] == communities[j]
    for k in np.argsort(same, kind="stable"):
        a, b = i[k], j[k]
        parts.append(
            f'<path class="link stroke-{_hue(communities[a]) if same[k] else "grey"}" '
            f'd="M{x[a]:.1f} {y[a]:.1f}Q{bend_x[k]:.1f} {bend_y[k]:.1f} {x[b]:.1f} {y[b]:.1f}"/>'
        )
    # Of many nodes each is small, or the rim would be one band.
    crowd = float(np.clip(np.sqrt(400 / len(degree)), 0.55, 1))
    size = crowd * (1.8 + 5.2 * np.sqrt(degree / (most or degree.max())))
    for node in np.argsort(-degree, kind="stable"):  # small ones above large ones
        parts.append(
            f'<circle class="node {_style(communities[node])}" cx="{x[node]:.1f}" '
            f'cy="{y[node]:.1f}" r="{size[node]:.1f}"><title>level '
            f"{network.chain.levels[embedding.nodes[node]]}, {degree[node]:.0f} links, community "
            f"{communities[node] + 1}</title></circle>"
        )
    parts += _numbers(embedding.angle, communities)
    return wrap("".join(parts), (_SIDE, _SIDE), alt, "disk")


def communities_in_disk(network: Network) -> int:
    """How many communities of two nodes or more there are in the disk."""
    if network.embedding is None:
        return 0
    members = np.bincount(network.communities[network.embedding.nodes])
    return int(np.count_nonzero(members > 1))


def _numbers(angle: Floats, communities: Ints) -> list[str]:
    """The communities' numbers at the middle of their sectors; none for scattered ones."""
    parts: list[str] = []
    taken: list[complex] = []
    for community in range(int(communities.max()) + 1):
        members = np.exp(1j * angle[communities == community])
        if len(members) < 2 or abs(members.mean()) < 0.5:
            continue
        middle = complex(members.mean() / abs(members.mean()))
        if any(abs(middle - other) < 0.07 for other in taken):
            continue
        taken.append(middle)
        x, y = _places(float(np.angle(middle)), _SIDE / 2 - _MARGIN / 2 + 1)
        parts.append(f'<text class="mid small" x="{x:.1f}" y="{y + 4:.1f}">{community + 1}</text>')
    return parts


def _hue(community: int) -> str:
    return str(community % _HUES) if community < 2 * _HUES else "grey"


def _style(community: int) -> str:
    hue = _hue(community)
    return f"open stroke-{hue}" if _HUES <= community < 2 * _HUES else f"fill-{hue}"


def _places(angle: Floats | float, radius: Floats | float) -> tuple[Floats, Floats]:
    return _SIDE / 2 + radius * np.cos(angle), _SIDE / 2 - radius * np.sin(angle)
