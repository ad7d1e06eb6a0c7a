"""What a run leaves behind for its report: counts at every update, masks at chosen ones.

In the folder ``topology/`` of a run: ``layers.json`` (what was sparsified, and how), one line per
topology update in ``history.jsonl``, and ``masks-STEP.safetensors`` with all masks as packed bits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from chts_hf.analysis.links import LinkHistory, returned_at_random
from chts_hf.analysis.network import Chain, Mask, as_mask
from chts_hf.bits import pack_bits, unpack_bits
from chts_hf.whole_file import whole_file

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
            ValueError: no masks were kept at this step, or their file is damaged.
        """
        if step not in self.frames:
            raise ValueError(f"no masks were kept at step {step}; there are {self.frames}")
        path = _mask_file(self.folder, step)
        masks = {}
        try:
            with safe_open(path, framework="pt") as file:
                for name, layer in self.layers.items():
                    shape = tuple(layer["shape"])
                    masks[name] = as_mask(unpack_bits(file.get_tensor(name), shape))
        except (SafetensorError, ValueError) as error:
            raise ValueError(
                f"{path} is damaged ({error}); delete it, and the other steps' masks are shown"
            ) from error
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

    Raises:
        ValueError: a line of the history to go on with is damaged, and not by a stop in its midst.
    """

    def __init__(self, run_folder: str | Path, step: int) -> None:
        self.folder = Path(run_folder) / FOLDER
        self.folder.mkdir(parents=True, exist_ok=True)
        history = self.folder / _HISTORY
        records = _records(history) if step > 0 and history.is_file() else []
        kept = [record for record in records if record["step"] <= step]
        _write(history, "".join(f"{json.dumps(record)}\n" for record in kept))
        for cut_off in self.folder.glob("*.part"):
            cut_off.unlink()
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
        _write(self.folder / _LAYERS, text + "\n")

    def record(self, values: Mapping[str, Any]) -> None:
        """Append one line."""
        with (self.folder / _HISTORY).open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def frame(self, step: int, masks: Mapping[str, Tensor]) -> None:
        """Keep (out, in) masks."""
        packed = {name: pack_bits(mask) for name, mask in masks.items()}
        with whole_file(_mask_file(self.folder, step)) as part:
            save_file(packed, part)


def read_history(run_folder: str | Path) -> History | None:
    """Read what :class:`HistoryWriter` wrote; None where nothing was recorded.

    Raises:
        ValueError: a file is damaged; half a last line, of a run that was killed, is left out.
    """
    folder = Path(run_folder) / FOLDER
    if not (folder / _LAYERS).is_file():
        return None
    path = folder / _LAYERS
    content = _json_object(path.read_text(encoding="utf-8", errors="replace"))
    if content is None:
        raise ValueError(
            f"{path} is no JSON: it is damaged. Resume the run, which writes it anew, or move "
            f"{folder} away, and the checkpoints are shown"
        )
    layers, records = content["layers"], _records(folder / _HISTORY)
    for record in records:
        _correct(record["layers"], layers)
    return History(layers, content["chains"], content["config"], records, _frames(folder), folder)


def _records(path: Path) -> list[dict[str, Any]]:
    """The lines of a history. A run that was killed may have left half of the last one."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    found = [_json_object(line) for line in lines]
    if found and found[-1] is None:
        found.pop()
    if None in found:
        raise ValueError(
            f"{path} is damaged: line {found.index(None) + 1} is no JSON. Delete this line to go "
            "on without its update"
        )
    return [record for record in found if record is not None]


def _correct(layers: Mapping[str, dict[str, Any]], known: Mapping[str, Mapping[str, Any]]) -> None:
    """Count anew what regrowth at random would bring back.

    Older versions took too many places for absent where the density falls.
    """
    for name, counts in layers.items():
        if "regrown" in counts:
            places = math.prod(known[name]["shape"])
            changed = (counts[key] for key in ("links", "removed", "regrown"))
            counts["expected_overlap"] = returned_at_random(places, *changed)


def _json_object(text: str) -> dict[str, Any] | None:
    """What a text says; None where it is no JSON object."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _write(path: Path, text: str) -> None:
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def _mask_file(folder: Path, step: int) -> Path:
    return folder / f"masks-{step:08d}.safetensors"


def _frames(folder: Path) -> list[int]:
    return sorted(
        int(path.stem.removeprefix("masks-")) for path in folder.glob("masks-*.safetensors")
    )
