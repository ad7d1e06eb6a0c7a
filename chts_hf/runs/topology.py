"""A recipe's options for what it records of the topology, and the recorder they ask for."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import Trainer

from chts_hf import CHTsCallback
from chts_hf.analysis.logger import TopologyLogger
from chts_hf.runs.arguments import option


@dataclass
class TopologyArguments:
    """What is kept of the masks and measured on them; a part of each recipe's data arguments."""

    record_topology: bool = option(
        False, "Keep counts and masks of the run in output_dir/topology, for `chts-hf report`."
    )
    topology_measures: list[str] | None = option(
        None,
        "With record_topology: measures of `chts-hf analyze` (modularity …) to take in training, "
        "beside their values in random networks, for the Trainer's loggers.",
    )
    topology_steps: list[int] | None = option(
        None, "Training steps to take them at, 0 the first; a few, evenly spread, if not given."
    )


def record_topology(arguments: TopologyArguments, sparse: CHTsCallback, trainer: Trainer) -> None:
    """Attach the recorder to a Trainer, if the arguments ask for it.

    Args:
        arguments: what is recorded.
        sparse: the callback that has the masks; it comes before in the Trainer's list.
        trainer: before training.

    Raises:
        ValueError: there is no such measure, a step is below 0, or steps are given and no measures.
    """
    if arguments.record_topology:
        TopologyLogger(
            sparse,
            measures=arguments.topology_measures or (),
            measure_steps=arguments.topology_steps,
        ).attach(trainer)
