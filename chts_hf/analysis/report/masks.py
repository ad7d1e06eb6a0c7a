"""The masks of a run as data for the page's slider."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from chts_hf.analysis.network import Floats, Ints, Mask
from chts_hf.analysis.report.data import RunData

#: Layers shown at most, and the largest side that is drawn link by link.
MOST_LAYERS = 6
MOST_CELLS = 512
_BLOCKS = 192


def shown_layers(masks: dict[str, Mask], wanted: list[str]) -> list[str]:
    """The layers to show: those wanted, then evenly spread over the model."""
    rest = [name for name in masks if name not in wanted]
    free = max(0, MOST_LAYERS - len(wanted))
    spread = np.linspace(0, len(rest) - 1, min(free, len(rest))).round().astype(int)
    return wanted[:MOST_LAYERS] + [rest[i] for i in dict.fromkeys(spread.tolist())]


def mask_data(
    run: RunData, wanted: list[str], angle: dict[str, tuple[Ints, Ints]]
) -> dict[str, Any]:
    """What the page's script draws from.

    Args:
        run: the run.
        wanted: layers that must be among those shown.
        angle: layer → order of its rows and columns by angle in the disk.

    Returns:
        ``steps``, and per layer ``rows``, ``columns``, ``bits`` (a bit per weight, else a byte per
        block of weights), ``frames`` in base64, ``captions``, and the two orders.
    """
    every = [run.masks(step) for step in run.frames]
    layers = []
    for name in shown_layers(every[0], wanted):
        masks = [masks[name] for masks in every]
        bits = max(masks[0].shape) <= MOST_CELLS
        cells = masks if bits else [blocks(mask) for mask in masks]
        rows, columns = cells[0].shape
        orders = angle.get(name) if bits else None
        layers.append(
            {
                "name": name,
                "rows": rows,
                "columns": columns,
                "bits": bits,
                "frames": [_encode(cell, bits) for cell in cells],
                "captions": [_caption(masks[0], mask) for mask in masks],
                "row_order": None if orders is None else orders[0].tolist(),
                "column_order": None if orders is None else orders[1].tolist(),
            }
        )
    return {"steps": run.frames, "layers": layers}


def blocks(mask: Mask) -> Floats:
    """Density of a mask over blocks, at most 192 a side, on a scale from 0 to 255."""
    rows, columns = (min(side, _BLOCKS) for side in mask.shape)
    row_edges = np.linspace(0, mask.shape[0], rows + 1).round().astype(int)
    column_edges = np.linspace(0, mask.shape[1], columns + 1).round().astype(int)
    sums = np.add.reduceat(mask.astype(np.float64), row_edges[:-1], axis=0)
    sums = np.add.reduceat(sums, column_edges[:-1], axis=1)
    density = sums / np.diff(row_edges)[:, None] / np.diff(column_edges)
    # Square root: most blocks of a sparse mask are nearly empty, and would all look white.
    return np.ceil(np.sqrt(density) * 255)


def _encode(cells: Mask | Floats, bits: bool) -> str:
    raw = np.packbits(cells.astype(bool)) if bits else cells.astype(np.uint8)
    return base64.b64encode(raw.tobytes()).decode("ascii")


def _caption(first: Mask, mask: Mask) -> str:
    links, kept = int(np.count_nonzero(mask)), int(np.count_nonzero(mask & first))
    return (
        f"{links:,} links ({links / mask.size:.1%} of the weights); {kept / max(links, 1):.0%} of "
        "them were there at the start."
    )
