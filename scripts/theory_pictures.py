"""Draw the pictures of docs/theory.md with the code that they explain.

    python scripts/theory_pictures.py

Everything is made from seeds: the same pictures come out again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from chts_hf.analysis import Network, rewire, single_layer
from chts_hf.analysis.network import Mask
from chts_hf.analysis.report.disk import disk
from chts_hf.analysis.report.svg import wrap
from chts_hf.topology import ch_scores
from chts_hf.topology.ring import brf

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
# An <img> sees no page around it, so that each picture brings its own colours for both schemes.
STYLE = """<style>
svg{--ink:#1c1e21;--soft:#5b6168;--rule:#dcdfe3;--card:#fff;--grey:#8a9097}
svg{--c0:#0072b2;--c1:#d55e00;--c2:#008060;--c3:#a8479b;--c4:#946b00;--c5:#332288}
@media (prefers-color-scheme:dark){
svg{--ink:#e9ecef;--soft:#a8b0b8;--rule:#343a40;--card:#1c2024;--grey:#868e96}
svg{--c0:#56b4e9;--c1:#f28e3b;--c2:#2fc79a;--c3:#dd8cc4;--c4:#f0e442;--c5:#d8f3ff}}
text{fill:var(--ink);font:14px system-ui,sans-serif}.mid{text-anchor:middle}
.small{font-size:12px;fill:var(--soft)}
.rim{fill:none;stroke:var(--rule);stroke-width:1.5}
.link{fill:none;stroke-width:.7;stroke-opacity:.35}.node{stroke:var(--card);stroke-width:.5}
.open{fill:var(--card);stroke-width:1.3}
%s</style>"""
STYLE %= "".join(
    f".fill-{i}{{fill:var(--c{i})}}.stroke-{i}{{stroke:var(--c{i})}}" for i in range(6)
) + (".fill-grey{fill:var(--grey)}.stroke-grey{stroke:var(--grey)}")


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    _write("theory_link_prediction.svg", link_prediction())
    ring = brf((96, 64), 620, torch.Generator().manual_seed(0), r=0.1).numpy()
    for name, mask in (("ring", ring), ("random", rewire(ring, np.random.default_rng(0)))):
        alt = f"Coalescent embedding of a {name} mask"
        _write(f"theory_disk_{name}.svg", disk(Network(single_layer(name, mask), 0), alt))


def link_prediction() -> str:
    """A small layer in two communities, and the scores of all its absent links."""
    mask = np.zeros((6, 6), dtype=bool)
    mask[:3, :3] = mask[3:, 3:] = True
    mask[0, 2] = mask[4, 3] = False  # two links missing inside the communities
    mask[2, 3] = True  # one link between them
    scores = ch_scores(torch.from_numpy(mask), "CH2-L3n").numpy()
    alt = "A layer in two communities and the scores of its absent links"
    return wrap(_layer(mask, scores) + _grid(mask, scores), (720, 390), alt)


def _layer(mask: Mask, scores: np.ndarray) -> str:
    """Inputs on the left, outputs on the right; the best absent links dashed."""
    parts = ['<text x="20" y="24">the layer: links, and the two best absent ones</text>']
    place = [60 + 52 * i for i in range(6)]
    for out, into in np.argwhere(mask):
        parts.append(_line(place[into], place[out], "stroke-grey", "2"))
    best = np.argsort(-scores, axis=None)[:2]
    for out, into in zip(*np.unravel_index(best, scores.shape), strict=True):
        parts.append(_line(place[into], place[out], "stroke-1", '3" stroke-dasharray="7 6'))
    for x, name in ((60, "input"), (300, "output")):
        for i, y in enumerate(place):
            parts.append(f'<circle class="fill-{0 if i < 3 else 2}" cx="{x}" cy="{y}" r="11"/>')
            side = x - 22 if x == 60 else x + 22
            parts.append(f'<text class="mid" x="{side}" y="{y + 5}">{i}</text>')
        parts.append(f'<text class="mid small" x="{x}" y="370">{name}s</text>')
    return "".join(parts)


def _line(left: int, right: int, style: str, width: str) -> str:
    return (
        f'<line x1="60" y1="{left}" x2="300" y2="{right}" class="{style}" stroke-width="{width}"/>'
    )


def _grid(mask: Mask, scores: np.ndarray) -> str:
    """The mask as a table: links filled, absent links with their score."""
    side, left, top = 46, 420, 50
    parts = [f'<text x="{left - 30}" y="24">its mask: links, and CH2-L3n scores</text>']
    for out in range(6):
        parts.append(f'<text class="mid" x="{left - 18}" y="{top + side * out + 28}">{out}</text>')
        parts.append(f'<text class="mid" x="{left + side * out + 22}" y="{top + 296}">{out}</text>')
        for into in range(6):
            x, y = left + side * into, top + side * out
            linked = mask[out, into]
            shade = scores[out, into] / scores.max()
            fill = (
                'class="fill-0"' if linked else f'class="fill-1" fill-opacity="{0.75 * shade:.2f}"'
            )
            parts.append(
                f'<rect x="{x}" y="{y}" width="{side - 3}" height="{side - 3}" rx="4" {fill} '
                'stroke="var(--rule)"/>'
            )
            if not linked:
                parts.append(
                    f'<text class="mid" x="{x + 22}" y="{y + 28}">{scores[out, into]:.1f}</text>'
                )
    return "".join(parts)


def _write(name: str, content: str) -> None:
    """Give a picture its colours."""
    head, body = content.split(">", 1)
    (IMAGES / name).write_text(f"{head}>{STYLE}{body}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
