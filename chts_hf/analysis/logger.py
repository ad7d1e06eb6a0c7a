"""A callback that watches the topology while a model trains."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from chts_hf.analysis.history import HistoryWriter, read_history
from chts_hf.analysis.links import returned_at_random
from chts_hf.analysis.measures import MEASURES, beside_null
from chts_hf.analysis.network import Chain, Mask, as_mask, chains_of, single_layer
from chts_hf.apply import Turnover
from chts_hf.callback import LOGGED, CHTsCallback
from chts_hf.distributed.layout import Gathered
from chts_hf.sparsifier import Sparsifier
from chts_hf.targets import find_pairs

# What is logged as "anp" is of all layers, not of the neurons between the layers of chains.
_RENAMED = {"anp": "chain_anp", "anp_er": "chain_anp_er"}


class TopologyLogger(TrainerCallback):
    """Records what the network becomes, for ``chts-hf report`` and for the Trainer's loggers.

    At topology updates it writes one line of counts into ``topology/history.jsonl`` of the output
    folder; at a few of them, evenly spread from the first masks to the last, all masks as packed
    bits. The newest counts stand as ``topology/…`` in the Trainer's log entries; after
    :meth:`attach` every recorded update is also an entry of its own, for whatever logger the
    Trainer reports to.

    Expensive measures are taken where they were asked for, each beside its mean over random
    networks: ``topology/modularity`` and ``topology/modularity_rewired``, or ``…_er`` where the
    measure follows from the degrees, which rewiring keeps. Where a model has several
    chains of layers these are means over them; the history has each chain's. They stand in one log
    entry: after :meth:`attach` that of their update, or of the first masks; else the Trainer's
    next.

    It may stand anywhere in the list of callbacks. Of several processes only the first writes and
    measures; the others wait for it.

    Args:
        sparse: the callback that trains sparsely, of the same Trainer.
        every: record every so many updates.
        frames: how many times masks are kept, the first and the last among them.
        measures: names of :data:`chts_hf.analysis.measures.MEASURES`, taken of every chain of
            layers (of every layer where there is none). With ``clustering`` and ``path_length`` the
            small-worldness comes along. They need the extra ``analysis``; what is recorded without
            them does not.
        measure_steps: training steps to measure at, 0 being the first masks: at the first update
            from each on, and at the last where none follows. None: whenever masks are kept.
        nulls: random networks beside each measured one.
        seed: of the measures' random choices.

    Raises:
        ValueError: ``every`` or ``nulls`` is below 1, ``frames`` below 2, a step below 0, there is
            no such measure, or steps are given and no measures.

    Example:
        >>> sparse = CHTsCallback(CHTsConfig())
        >>> logger = TopologyLogger(sparse, measures=("modularity",), measure_steps=(0, 5000))
        >>> trainer = Seq2SeqTrainer(..., callbacks=[sparse])
        >>> logger.attach(trainer)
        >>> trainer.train()  # then: chts-hf report OUTPUT_FOLDER
    """

    def __init__(
        self,
        sparse: CHTsCallback,
        every: int = 1,
        frames: int = 16,
        measures: Sequence[str] = (),
        measure_steps: Sequence[int] | None = None,
        nulls: int = 3,
        seed: int = 0,
    ) -> None:
        unknown = [name for name in measures if name not in MEASURES]
        if unknown:
            raise ValueError(f"no measure {', '.join(unknown)}; there are {', '.join(MEASURES)}")
        if min(every, nulls) < 1 or frames < 2:
            raise ValueError(
                f"every = {every} and nulls = {nulls} must be at least 1, frames = {frames} at "
                "least 2"
            )
        if any(step < 0 for step in measure_steps or ()):
            raise ValueError(f"measure_steps = {list(measure_steps or ())} must be at least 0")
        if measure_steps and not measures:
            raise ValueError(
                f"measure_steps = {list(measure_steps)} without measures: say what to measure, of "
                f"{', '.join(MEASURES)}"
            )
        self.sparse = sparse
        self.every = every
        self.frames = frames
        self.measures = tuple(measures)
        self.measure_steps = None if measure_steps is None else tuple(measure_steps)
        self.nulls = nulls
        self.seed = seed
        self._writer: HistoryWriter | None = None
        self._trainer: weakref.ref[Trainer] | None = None
        self._updates = -1  # as many as were seen
        self._latest: dict[str, float] = {}
        self._measured: dict[str, float] = {}  # not logged yet
        self._first: dict[str, Mask] = {}

    def attach(self, trainer: Trainer) -> None:
        """Add this callback to a Trainer, and log every recorded update through it."""
        trainer.add_callback(self)
        self._trainer = weakref.ref(trainer)

    # -- events ------------------------------------------------------------------------------

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Forget a run before this one."""
        self._writer, self._updates, self._first = None, -1, {}
        self._latest, self._measured = {}, {}

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keep the first masks, once every callback has begun."""
        sparsifier = self._watched()
        if sparsifier is None or self._updates >= 0:
            return
        self._begin(sparsifier, args, state)
        if state.global_step == 0 and self._measures_now(sparsifier):
            self._log(control)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Record an update that has just happened."""
        sparsifier = self._watched()
        if sparsifier is None or sparsifier.updates == self._updates:
            return
        self._updates = sparsifier.updates
        last = self._updates >= self._total_updates(sparsifier)
        chosen = self._updates in self._kept(sparsifier) or self._measures_now(sparsifier)
        if not (self._updates % self.every == 0 or last or chosen):
            return
        self._record(sparsifier, state.global_step, state.is_world_process_zero)
        self._log(control)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Put the newest counts into the Trainer's entry."""
        # What the sparse callback has put there is of this very step.
        counts = {name: value for name, value in self._latest.items() if name not in LOGGED}
        newest = _entry(counts | self._measured)
        self._measured = {}
        for entry in (logs, state.log_history[-1] if state.log_history else None):
            if entry is not None:
                entry.update(newest)

    # -- inside ------------------------------------------------------------------------------

    def _watched(self) -> Sparsifier | None:
        sparsifier = self.sparse.sparsifier
        return sparsifier if sparsifier is not None and sparsifier.targets else None

    def _log(self, control: TrainerControl) -> None:
        """An entry of its own, by the Trainer that this is attached to."""
        trainer = self._trainer() if self._trainer is not None else None
        if trainer is not None:
            wanted = control.should_log
            trainer.log(_entry(self._latest | self._measured))  # on_log then forgets the measured
            control.should_log = wanted  # the Trainer's own entry is still to come

    def _begin(self, sparsifier: Sparsifier, args: TrainingArguments, state: TrainerState) -> None:
        self._updates = sparsifier.updates
        if not state.is_world_process_zero:
            if sparsifier.layout.sharded and state.global_step == 0:
                self._record(sparsifier, 0, False)  # which gathers what the first process writes
            return
        assert args.output_dir is not None  # the sparse callback needs it too
        self._writer = HistoryWriter(args.output_dir, state.global_step)
        self._writer.describe(
            {t.name: {"kind": t.kind, "shape": t.shape} for t in sparsifier.targets},
            {chain.name: chain.layers for chain in _chains(sparsifier)},
            sparsifier.config.to_dict(),
        )
        if state.global_step == 0:
            self._record(sparsifier, 0, True)
        else:
            self._first = self._first_masks(args.output_dir)

    def _first_masks(self, run_folder: str) -> dict[str, Mask]:
        """Those that the run began with, before it was resumed; empty if nobody kept them."""
        history = read_history(run_folder)
        return history.masks(0) if history is not None and 0 in history.frames else {}

    def _total_updates(self, sparsifier: Sparsifier) -> int:
        plan = sparsifier.plan
        return plan.last_step // plan.config.update_interval if plan.config.changes_topology else 0

    def _kept(self, sparsifier: Sparsifier) -> set[int]:
        """The updates after which masks are kept."""
        spread = np.linspace(0, self._total_updates(sparsifier), self.frames)
        return set(spread.round().astype(int).tolist())

    def _measures_now(self, sparsifier: Sparsifier) -> bool:
        """Whether the expensive measures are due after the latest update."""
        if not self.measures:
            return False
        if self.measure_steps is None:
            return self._updates in self._kept(sparsifier)
        last, interval = self._total_updates(sparsifier), sparsifier.config.update_interval
        return any(min(-(-s // interval), last) == self._updates for s in self.measure_steps)

    def _record(self, sparsifier: Sparsifier, step: int, writes: bool) -> None:
        stats = sparsifier.stats()
        masks, ever = _views(sparsifier, sparsifier.masks), _views(sparsifier, sparsifier.ever)
        if step == 0 and writes:
            self._first = {name: as_mask(mask) for name, mask in masks.items()}
        turnover = sparsifier.turnover
        layers = {
            name: self._counts(name, mask, ever[name], turnover.get(name, Turnover(0, 0, 0)))
            for name, mask in masks.items()
        }
        totals = {
            name: sum(counts[name] or 0 for counts in layers.values())
            for name in ("removed", "overlap", "from_start", "links")
        }
        self._latest = {name: stats[name] for name in ("sparsity", "itop_rate", "anp")}
        if self._first:
            self._latest["from_start"] = totals["from_start"] / max(totals["links"], 1)
        if totals["removed"]:
            self._latest["overlap"] = totals["overlap"] / totals["removed"]
        if not writes or self._writer is None:
            return
        record = {"step": step, "update": self._updates, **self._latest, "layers": layers}
        if self._updates in self._kept(sparsifier):
            self._writer.frame(step, masks)
        if self._measures_now(sparsifier):
            record["measures"] = found = self._measure(sparsifier, masks)
            names = dict.fromkeys(name for values in found.values() for name in values)
            self._measured = {
                _RENAMED.get(name, name): float(
                    np.mean([values[name] for values in found.values() if name in values])
                )
                for name in names
            }
        self._writer.record(record)

    def _counts(self, name: str, mask: Tensor, ever: Tensor, change: Turnover) -> dict[str, Any]:
        links = int(torch.count_nonzero(mask))
        first = self._first.get(name)
        at_random = returned_at_random(mask.numel(), links, change.removed, change.regrown)
        return {
            "links": links,
            "ever": int(torch.count_nonzero(ever)),
            "active_out": int(torch.count_nonzero(mask.any(dim=1))),
            "active_in": int(torch.count_nonzero(mask.any(dim=0))),
            "removed": change.removed,
            "regrown": change.regrown,
            "overlap": change.returned,
            "expected_overlap": at_random,
            "from_start": None if first is None else int(np.count_nonzero(as_mask(mask) & first)),
        }

    def _measure(
        self, sparsifier: Sparsifier, masks: dict[str, Tensor]
    ) -> dict[str, dict[str, float]]:
        arrays = {name: as_mask(mask) for name, mask in masks.items()}
        chains = chains_of(sparsifier.targets, find_pairs(sparsifier.targets), arrays) or [
            single_layer(name, mask) for name, mask in arrays.items()
        ]
        return {c.name: beside_null(c, self.measures, self.nulls, self.seed) for c in chains}


def _entry(values: Mapping[str, float]) -> dict[str, float]:
    return {f"topology/{name}": value for name, value in values.items()}


def _views(sparsifier: Sparsifier, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Target → its matrix, whole. Every process must ask, where the weights are sharded."""
    whole = Gathered(sparsifier.layout, parts)
    return {t.name: t.view(whole[t.parameter_name]) for t in sparsifier.targets}


def _chains(sparsifier: Sparsifier) -> list[Chain]:
    """The chains of layers; their names hold for any masks, and here none are looked at."""
    none = {t.name: np.zeros(t.shape, dtype=bool) for t in sparsifier.targets}
    return chains_of(sparsifier.targets, find_pairs(sparsifier.targets), none)
