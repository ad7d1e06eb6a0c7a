"""What a run folder holds that a report can show."""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from chts_hf.analysis.checkpoint import Topology, load_topology
from chts_hf.analysis.history import History, read_history
from chts_hf.analysis.links import LinkHistory
from chts_hf.analysis.network import Chain, Mask, single_layer
from chts_hf.checkpoint.mask_file import MASK_FILE


@dataclass(frozen=True)
class RunData:
    """A run, as far as its files tell.

    Attributes:
        name: of the run.
        log: the Trainer's ``log_history``; empty if there is none.
        results: ``all_results.json``; empty if there is none.
        config: the method's settings; empty if unknown.
        records: what :class:`chts_hf.analysis.TopologyLogger` wrote at updates; empty without it.
        frames: steps whose masks are there, ascending.
        masks: step → layer → mask; what was asked for last is held, not read again.
        chains: chain's name → its layers.
        links: layer → what its links have been through, as far as it is known.
    """

    name: str
    log: list[dict[str, Any]]
    results: dict[str, Any]
    config: dict[str, Any]
    records: list[dict[str, Any]]
    frames: list[int]
    masks: Callable[[int], dict[str, Mask]] = field(repr=False)
    chains: dict[str, list[str]]
    links: Callable[[], dict[str, LinkHistory]] = field(repr=False)

    def series(self, *keys: str) -> tuple[list[float], list[float]]:
        """Steps and values of the first of ``keys`` that was logged, one value per step."""
        for key in keys:
            points: dict[float, float] = {}
            for entry in self.log:
                if key in entry and "step" in entry:
                    # The last step may be there twice; the first is the one made in training.
                    points.setdefault(entry["step"], entry[key])
            if points:
                return list(points), list(points.values())
        return [], []

    def recorded(self, key: str) -> tuple[list[float], list[float]]:
        """Steps and values of a number of the records."""
        points = [(r["step"], r[key]) for r in self.records if key in r]
        return [p[0] for p in points], [p[1] for p in points]

    def networks(self, step: int) -> list[Chain]:
        """The chains of layers at a step, and where there are none, each layer by itself."""
        masks = self.masks(step)
        return [
            Chain(n, tuple(layers), tuple(masks[layer] for layer in layers))
            for n, layers in self.chains.items()
        ] or [single_layer(layer, mask) for layer, mask in masks.items()]

    def chain(self, step: int, name: str | None = None) -> Chain:
        """A chain of layers at a step: the one named, else the one with the most weights.

        Raises:
            ValueError: there is no chain of that name.
        """
        if name is not None and name not in self.chains:
            raise ValueError(f"no chain {name!r}; there are {', '.join(self.chains) or 'none'}")
        chains = [chain for chain in self.networks(step) if name in (None, chain.name)]
        return max(chains, key=lambda chain: sum(mask.size for mask in chain.masks))


def read_run(folder: str | Path) -> RunData:
    """Read a run's folder: whatever of it is there.

    Masks come from ``topology/``, else from the checkpoints within the folder, else from the folder
    itself, if it is a checkpoint.

    Raises:
        ValueError: there is no such folder, nothing in it that a report could show, a damaged file,
            or what was left by two runs, so that one would be shown with the other's numbers.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"there is no folder {str(folder)!r}")
    history = read_history(folder)
    logs = _log_histories(folder)
    log, results = next(iter(logs.values()), []), _json(folder / "all_results.json")
    config: dict[str, Any] = results.get("chts", {})
    if history is not None:
        _refuse_two_runs(history, logs)
        source: History | _Checkpoints = history
        config = history.config
        records, chains = history.records, history.chains
    else:
        source = _Checkpoints(folder)
        records, chains = [], source.chains()
    if not log and not source.frames:
        raise ValueError(
            f"{str(folder)!r} holds nothing to show: no trainer_state.json, no topology/ and no "
            f"{MASK_FILE}. Train with checkpoints (save_strategy), or with a "
            "chts_hf.analysis.TopologyLogger beside the callback"
        )
    name = folder.resolve().name
    # A page looks at the first and the last masks again and again.
    masks = lru_cache(maxsize=2)(source.masks)
    return RunData(name, log, results, config, records, source.frames, masks, chains, source.links)


class _Checkpoints:
    """The masks of a run that was not recorded: those of its checkpoints."""

    def __init__(self, folder: Path) -> None:
        found = {_step(path): path for path in folder.glob("checkpoint-*")}
        if (folder / MASK_FILE).is_file():
            found = {_step(folder): folder}
        self._folders = {s: p for s, p in sorted(found.items()) if (p / MASK_FILE).is_file()}
        self.frames = list(self._folders)

    def masks(self, step: int) -> dict[str, Mask]:
        return self._last.masks if step == self.frames[-1] else self._read(step).masks

    def links(self) -> dict[str, LinkHistory]:
        return self._last.links if self.frames else {}

    def chains(self) -> dict[str, list[str]]:
        return {c.name: list(c.layers) for c in self._last.chains} if self.frames else {}

    @cached_property
    def _last(self) -> Topology:
        return self._read(self.frames[-1])

    def _read(self, step: int) -> Topology:
        return load_topology(self._folders[step])


def _step(folder: Path) -> int:
    number = re.search(r"-(\d+)$", folder.resolve().name)
    return int(number[1]) if number else 0


def _log_histories(folder: Path) -> dict[Path, list[dict[str, Any]]]:
    """File → the Trainer's entries in it; first those of the end, then of the last checkpoint."""
    checkpoints = sorted(folder.glob("checkpoint-*"), key=_step, reverse=True)
    paths = [place / "trainer_state.json" for place in (folder, *checkpoints)]
    return {path: state.get("log_history", []) for path in paths if (state := _json(path))}


def _refuse_two_runs(history: History, logs: Mapping[Path, Sequence[Mapping[str, Any]]]) -> None:
    """Refuse records of one run beside the log of another one, trained in the same folder.

    What a run records after an update, its log repeats until the next one: how many weights ever
    were links depends on all its updates.
    """
    records = history.records
    steps = [record["step"] for record in records]
    for path, log in logs.items():
        for entry in log:
            at = bisect_right(steps, entry.get("step", 0)) - 1
            # Of what came between two updates that were not recorded, and after the last, no rule.
            if not 0 <= at < len(records) - 1:
                continue
            recorded, following = records[at : at + 2]
            if following["update"] != recorded["update"] + 1:
                continue
            # A dense run logs none, beside its losses.
            logged = entry.get("topology/itop_rate", 0.0 if "loss" in entry else None)
            if logged is None or math.isclose(logged, recorded["itop_rate"], rel_tol=1e-6):
                continue
            raise ValueError(
                f"{history.folder} and {path} are of two runs: at step {entry['step']} the ITOP "
                f"rate is {recorded['itop_rate']:.4g} in one and {logged:.4g} in the other. Move "
                f"away what is of the run that you don't mean, or name one of its checkpoints "
                "instead of the folder"
            )


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
