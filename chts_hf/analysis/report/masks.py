"""The masks of a run as data for the page's slider."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chts_hf.analysis.network import Floats, Ints, Mask
from chts_hf.analysis.report.data import RunData

#: Layers shown at most, and the largest side that is drawn link by link.
MOST_LAYERS = 6
MOST_CELLS = 512
_BLOCKS = 192


@dataclass(frozen=True, eq=False)
class Order:
    """Neurons in the order of the disk.

    Attributes:
        nodes: their numbers, those without a place in the disk last.
        placed: how many have a place.
    """

    nodes: Ints
    placed: int


def shown_layers(masks: dict[str, Mask], wanted: list[str]) -> list[str]:
    """The layers to show: those wanted, then evenly spread over the model."""
    rest = [name for name in masks if name not in wanted]
    free = max(0, MOST_LAYERS - len(wanted))
    spread = np.linspace(0, len(rest) - 1, min(free, len(rest))).round().astype(int)
    return wanted[:MOST_LAYERS] + [rest[i] for i in dict.fromkeys(spread.tolist())]


def mask_data(
    run: RunData, wanted: list[str], orders: dict[str, tuple[Order, Order]]
) -> dict[str, Any]:
    """What the page's script draws from.

    Args:
        run: the run.
        wanted: layers that must be among those shown.
        orders: layer → order of its rows and of its columns in the disk.

    Returns:
        ``steps``, the layer to ``open`` with, and per layer ``rows``, ``columns``, ``coding`` of
        its ``frames`` in base64 (:func:`encode`), ``captions``, and the two orders with how many of
        each have a place in the disk.
    """
    every = [run.masks(step) for step in run.frames]
    layers = []
    for name in shown_layers(every[0], wanted):
        masks = [masks[name] for masks in every]
        links = max(masks[0].shape) <= MOST_CELLS
        cells = masks if links else [blocks(mask) for mask in masks]
        rows, columns = cells[0].shape
        coding = encoding(masks) if links else "blocks"
        row_order, column_order = orders.get(name, (None, None)) if links else (None, None)
        layers.append(
            {
                "name": name,
                "rows": rows,
                "columns": columns,
                "coding": coding,
                "frames": [encode(cell, coding) for cell in cells],
                "captions": [_caption(masks[0], mask) for mask in masks],
                "row_order": row_order and row_order.nodes.tolist(),
                "column_order": column_order and column_order.nodes.tolist(),
                "rows_placed": row_order.placed if row_order else rows,
                "columns_placed": column_order.placed if column_order else columns,
            }
        )
    sizes = [every[0][layer["name"]].size for layer in layers]
    return {"steps": run.frames, "open": int(np.argmax(sizes)), "layers": layers}


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


def encoding(masks: Sequence[Mask]) -> str:
    """The shorter of the codings "gaps" and "bits" for these masks."""
    gaps, bits = (sum(len(_raw(mask, coding)) for mask in masks) for coding in ("gaps", "bits"))
    return "gaps" if gaps < bits else "bits"


def encode(cells: Mask | Floats, coding: str) -> str:
    """Cells as base64.

    Args:
        cells: a mask, or for "blocks" numbers from 0 to 255.
        coding: "bits", one per cell; "gaps", a byte for the absent links before each link, 255
            standing for as many without a link behind them; "blocks", a byte per cell.
    """
    return base64.b64encode(_raw(cells, coding)).decode("ascii")


def _raw(cells: Mask | Floats, coding: str) -> bytes:
    if coding == "blocks":
        return cells.astype(np.uint8).tobytes()
    if coding == "bits":
        return np.packbits(cells.astype(bool)).tobytes()
    before = np.diff(np.flatnonzero(cells), prepend=-1) - 1
    skips, rest = np.divmod(before, 255)
    found = np.full(len(before) + int(skips.sum()), 255, dtype=np.uint8)
    found[np.cumsum(skips + 1) - 1] = rest
    return found.tobytes()


def _caption(first: Mask, mask: Mask) -> str:
    links, kept = int(np.count_nonzero(mask)), int(np.count_nonzero(mask & first))
    return (
        f"{links:,} links ({links / mask.size:.1%} of the weights); {kept / max(links, 1):.0%} of "
        "them were there at the start."
    )
