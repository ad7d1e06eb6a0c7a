"""The images that a recipe's arguments ask for."""

from __future__ import annotations

from pathlib import Path

from chts_hf.vision import images
from chts_hf.vision.arguments import DataArguments
from chts_hf.vision.images import Images

#: Of the random split into training and validation images: the same whatever a run's seed.
_SPLIT_SEED = 0


def load_splits(data: DataArguments) -> dict[str, Images]:
    """Get the images from where the arguments say they are, and hold some out for validation.

    Returns:
        "train", "validation" and "test", those that there are.

    Raises:
        ValueError: a file or a data set is not what it should be.
    """
    if data.dataset_name == images.DIGITS:
        splits = images.load_digits()
    elif data.dataset_name is not None:
        splits = images.load_hub(data.dataset_name, data.dataset_config_name)
    else:
        splits = images.load_files(
            {"train": data.train_images, "test": data.test_images},
            {"train": data.train_labels, "test": data.test_labels},
            Path(data.data_dir or "."),
        )
    if "train" in splits and "validation" not in splits and data.validation_samples:
        splits["train"], splits["validation"] = images.hold_out(
            splits["train"], data.validation_samples, _SPLIT_SEED
        )
    for name, limit in (("train", data.max_train_samples), ("test", data.max_predict_samples)):
        if limit is not None and name in splits:
            splits[name] = splits[name].select(slice(limit))
    return splits
