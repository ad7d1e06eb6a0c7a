"""What a run leaves behind for its report: counts at every update, masks at chosen ones.

In the folder ``topology/`` of a run: ``layers.json`` (what was sparsified, and how), one line per
topology update in ``history.jsonl``, and ``masks-STEP.safetensors`` with all masks as packed bits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from chts_hf.analysis.links import LinkHistory
from chts_hf.analysis.network import Chain, Mask, as_mask
from chts_hf.bits import pack_bits, unpack_bits

FOLDER = "topology"
_LAYERS, _HISTORY = "layers.json", "history.jsonl"


@dataclass(frozen=True)
class History:
    """A run's recorded topology.

    Attributes:
        layers: layer → {"kind", "shape"}.
        chains: names of layers that follow each other, with the chain's name.
        config: the method's settings.
        records: one per recorded update: "step", "update", "sparsity", "itop_rate", "anp",
            "layers": layer → counts, and where it was measured "measures": chain → measures, as
            :func:`chts_hf.analysis.measures.beside_null` gives them.
        frames: steps at which masks were kept, ascending.
        folder: where their files are.
    """

    layers: dict[str, dict[str, Any]]
    chains: dict[str, list[str]]
    config: dict[str, Any]
    records: list[dict[str, Any]]
    frames: list[int]
    folder: Path = field(repr=False)

    def masks(self, step: int) -> dict[str, Mask]:
        """Layer → (out, in) mask after that step.

        Raises:
            ValueError: no masks were kept at this step.
        """
        if step not in self.frames:
            raise ValueError(f"no masks were kept at step {step}; there are {self.frames}")
        masks = {}
        with safe_open(_mask_file(self.folder, step), framework="pt") as file:
            for name, layer in self.layers.items():
                shape = tuple(layer["shape"])
                masks[name] = as_mask(unpack_bits(file.get_tensor(name), shape))
        return masks

    def links(self) -> dict[str, LinkHistory]:
        """Layer → what its links had been through at the last record; empty before the first."""
        return {
            name: LinkHistory.of_records(self.layers[name]["shape"], name, self.records)
            for name in (self.records[-1]["layers"] if self.records else {})
        }

    def chain(self, name: str, masks: Mapping[str, Mask]) -> Chain:
        """One of :attr:`chains`, with these masks."""
        layers = self.chains[name]
        return Chain(name, tuple(layers), tuple(masks[layer] for layer in layers))


class HistoryWriter:
    """Writes the folder; a run that is resumed goes on where its checkpoint was.

    Args:
        run_folder: the Trainer's output folder.
        step: the step that training begins at; what was recorded after it is forgotten.
    """

    def __init__(self, run_folder: str | Path, step: int) -> None:
        self.folder = Path(run_folder) / FOLDER
        self.folder.mkdir(parents=True, exist_ok=True)
        history = self.folder / _HISTORY
        lines = history.read_text(encoding="utf-8").splitlines() if history.is_file() else []
        kept = [line for line in lines if step > 0 and json.loads(line)["step"] <= step]
        history.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        for frame in _frames(self.folder):
            if step == 0 or frame > step:
                _mask_file(self.folder, frame).unlink()

    def describe(
        self,
        layers: Mapping[str, Mapping[str, Any]],
        chains: Mapping[str, Sequence[str]],
        config: Mapping[str, Any],
    ) -> None:
        """Write what the layers are."""
        content = {"layers": layers, "chains": chains, "config": config}
        text = json.dumps(content, indent=1, default=list)
        (self.folder / _LAYERS).write_text(text + "\n", encoding="utf-8")

    def record(self, values: Mapping[str, Any]) -> None:
        """Append one line."""
        with (self.folder / _HISTORY).open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def frame(self, step: int, masks: Mapping[str, Tensor]) -> None:
        """Keep (out, in) masks."""
        packed = {name: pack_bits(mask) for name, mask in masks.items()}
        save_file(packed, _mask_file(self.folder, step))


def read_history(run_folder: str | Path) -> History | None:
    """Read what :class:`HistoryWriter` wrote; None where nothing was recorded."""
    folder = Path(run_folder) / FOLDER
    if not (folder / _LAYERS).is_file():
        return None
    content = json.loads((folder / _LAYERS).read_text(encoding="utf-8"))
    lines = (folder / _HISTORY).read_text(encoding="utf-8").splitlines()
    return History(
        content["layers"],
        content["chains"],
        content["config"],
        [json.loads(line) for line in lines],
        _frames(folder),
        folder,
    )


def _mask_file(folder: Path, step: int) -> Path:
    return folder / f"masks-{step:08d}.safetensors"


def _frames(folder: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("masks-")) for path in folder.glob("masks-*"))
