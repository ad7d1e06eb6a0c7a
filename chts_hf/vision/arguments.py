"""The arguments of the image classification recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from transformers import TrainingArguments

from chts_hf.config import CHTsConfig
from chts_hf.runs import arguments as runs
from chts_hf.runs.arguments import option, parse, require_positive
from chts_hf.runs.topology import TopologyArguments
from chts_hf.vision.images import DIGITS


@dataclass
class ModelArguments:
    """The MLP: one to go on with, or the sizes of a new one."""

    model_name_or_path: str | None = option(
        None, "An MLP to go on with: a folder, or a name on the Hub."
    )
    hidden_sizes: list[int] = field(
        default_factory=lambda: [1568, 1568, 1568],
        metadata={"help": "From scratch: neurons of each hidden layer."},
    )
    activation: str = option("relu", "From scratch: activation behind each hidden layer.")


@dataclass
class DataArguments(TopologyArguments):
    """The images."""

    dataset_name: str | None = option(
        None,
        "mnist, fashion_mnist, emnist_balanced, cifar10, another data set on the Hub, or (the "
        f"default) {DIGITS!r} for scikit-learn's.",
    )
    dataset_config_name: str | None = option(None, "The configuration of that data set.")
    data_dir: str | None = option(None, "The folder that the local files are in.")
    train_images: str | None = option(
        None, "Training images: an IDX file, plain or .gz, or an .npz with x_train and y_train."
    )
    train_labels: str | None = option(None, "Their labels: an IDX file; none beside an .npz.")
    test_images: str | None = option(None, "Test images, likewise; an .npz with x_test, y_test.")
    test_labels: str | None = option(None, "Their labels, likewise.")
    validation_samples: int = option(
        1000,
        "So many training images are held out to validate with, the same for every seed; 0: none.",
    )
    max_train_samples: int | None = option(None, "Use only so many of the other training images.")
    max_predict_samples: int | None = option(None, "Use only so many test images.")

    def __post_init__(self) -> None:
        """Check what does not need the data.

        Raises:
            ValueError: two sources of data, or a number below 1.
        """
        self.dataset_name = self.dataset_name or None  # "" takes back what a file says
        local = self.train_images or self.test_images
        if self.dataset_name and local:
            raise ValueError("give either dataset_name or local files (train_images …), not both")
        if not local:
            self.dataset_name = self.dataset_name or DIGITS
        require_positive(self, "max_train_samples", "max_predict_samples")
        if self.validation_samples < 0:
            raise ValueError(
                f"validation_samples is {self.validation_samples}; it must be at least 0"
            )


#: Everything a run is told.
Arguments = runs.Arguments[ModelArguments, DataArguments, TrainingArguments]


def read_arguments(argv: Sequence[str]) -> Arguments:
    """Read YAML files and options, later ones winning; see :func:`chts_hf.runs.arguments.parse`.

    ``chts.seed`` is the run's ``seed`` unless it is given.

    Raises:
        ValueError: an unknown name, or a value that is refused.
    """
    classes = (ModelArguments, DataArguments, TrainingArguments)
    parsed = parse(classes, argv, "Train an MLP on images, sparsely.")
    model, data, training = parsed.values
    section = {"seed": training.seed, **parsed.section}
    return Arguments(model, data, training, CHTsConfig.from_dict(section), parsed.setting)
