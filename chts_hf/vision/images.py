"""Images to classify: from the Hub, from files, or the digits that come with scikit-learn."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import ClassLabel, DatasetDict, load_dataset
from torch import Tensor
from torch.utils.data import Dataset

from chts_hf.runs.gzipped import unzipped

#: The value of ``dataset_name`` that means scikit-learn's digits.
DIGITS = "digits"

#: Short name → name on the Hub and configuration there.
HUB_NAMES: dict[str, tuple[str, str | None]] = {
    "mnist": ("ylecun/mnist", None),
    "fashion_mnist": ("zalando-datasets/fashion_mnist", None),
    "emnist_balanced": ("claudiogsc/emnist_balanced", None),
    "cifar10": ("uoft-cs/cifar10", None),
}

# The type byte of an IDX file → NumPy's type; numbers are big-endian.
_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


@dataclass(frozen=True)
class Images(Dataset[dict[str, Tensor]]):
    """Labelled images of one size.

    Attributes:
        pixels: float32 of shape (n, channels, height, width), values in [0, 1].
        labels: int64 of shape (n,), from 0 on.
        names: the classes' names; their number is that of the classes.
    """

    pixels: Tensor
    labels: Tensor
    names: Sequence[str]

    def __post_init__(self) -> None:
        """Check that the parts fit together.

        Raises:
            ValueError: they do not.
        """
        if self.pixels.ndim != 4 or len(self.pixels) != len(self.labels):
            raise ValueError(
                f"images of shape {tuple(self.pixels.shape)} and labels of shape "
                f"{tuple(self.labels.shape)} do not go together"
            )
        if len(self.labels) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(
            self.names
        ):
            raise ValueError(
                f"labels go from {int(self.labels.min())} to {int(self.labels.max())}, and there "
                f"are {len(self.names)} classes"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"pixel_values": self.pixels[index], "labels": self.labels[index]}

    def select(self, indices: Tensor | slice) -> Images:
        """The images at some places, in that order."""
        return Images(self.pixels[indices], self.labels[indices], self.names)


def channel_statistics(images: Images) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel's pixels."""
    dimensions = (0, 2, 3)
    mean, std = images.pixels.mean(dimensions), images.pixels.std(dimensions)
    return mean.tolist(), std.tolist()


def feature_correlation(images: Images) -> Tensor:
    """Pearson correlations of all pairs of pixels over the images.

    Returns:
        (features, features), for ``init="csti"``; nan for a pixel that never changes.
    """
    return torch.corrcoef(images.pixels.flatten(1).T.double()).float()


def hold_out(images: Images, count: int, seed: int) -> tuple[Images, Images]:
    """Split images at random into those to train with and ``count`` to validate with.

    Raises:
        ValueError: nothing would be left on one side.
    """
    if not 0 < count < len(images):
        raise ValueError(f"{count} of {len(images)} training images cannot be held out")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return images.select(order[count:]), images.select(order[:count])


def load_digits() -> dict[str, Images]:
    """Load scikit-learn's digits: 1 797 grey images of 8 × 8 pixels, every fifth one for testing.

    Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository, 1998 (CC BY 4.0).

    Returns:
        "train" and "test".

    Raises:
        ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError("the digits come with scikit-learn: pip install scikit-learn") from error
    digits = datasets.load_digits()
    pixels = torch.from_numpy(digits.images).float()[:, None] / 16
    whole = Images(pixels, torch.from_numpy(digits.target).long(), [str(i) for i in range(10)])
    testing = torch.arange(len(whole)) % 5 == 4
    return {"train": whole.select(~testing), "test": whole.select(testing)}


def load_hub(name: str, config_name: str | None = None, **load_kwargs: Any) -> dict[str, Images]:
    """Load a data set by its Hub name, or by one of the short names in :data:`HUB_NAMES`.

    Args:
        name: the data set, as for :func:`datasets.load_dataset`; it has one column of images and
            one of class labels.
        config_name: its configuration.
        **load_kwargs: handed to :func:`datasets.load_dataset`.

    Returns:
        Its splits.

    Raises:
        ValueError: there is no such column.
    """
    repository, known_config = HUB_NAMES.get(name, (name, None))
    return from_datasets(load_dataset(repository, config_name or known_config, **load_kwargs))


def from_datasets(splits: DatasetDict) -> dict[str, Images]:
    """Turn a loaded data set of PIL images into tensors.

    Raises:
        ValueError: it has no column of images or none of class labels.
    """
    found = {}
    for split, rows in splits.items():
        image = _column(rows.features, "Image", ("image", "img"))
        label = _column(rows.features, "ClassLabel", ("label", "labels", "fine_label"))
        labels = torch.tensor(rows[label])
        feature = rows.features[label]
        names = (
            list(feature.names)
            if isinstance(feature, ClassLabel)
            else [str(one) for one in range(int(labels.max()) + 1)]
        )
        pixels = np.stack([np.asarray(one) for one in rows[image]])
        found[split] = Images(_to_pixels(pixels), labels, names)
    return found


def load_files(
    image_files: Mapping[str, str | None], label_files: Mapping[str, str | None], folder: Path
) -> dict[str, Images]:
    """Read local files, one pair for each split.

    Args:
        image_files: split → an IDX file of images, plain or ``.gz``, as MNIST is distributed in; or
            an ``.npz`` file with arrays ``x_SPLIT`` and ``y_SPLIT``, or ``images`` and ``labels``.
        label_files: split → the IDX file of its labels; none beside an ``.npz`` file.
        folder: where they are.

    Returns:
        The splits that have files.

    Raises:
        ValueError: a file is not there, damaged, or of another format.
    """
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for split, name in image_files.items():
        if name is None:
            continue
        path, labels = folder / name, label_files.get(split)
        if path.suffix == ".npz":
            found[split] = _read_npz(path, split)
        elif labels is None:
            raise ValueError(f"{path} is no .npz file, so {split}_labels must name its labels")
        else:
            found[split] = read_idx(path), read_idx(folder / labels)
    classes = 1 + max((int(labels.max()) for _, labels in found.values()), default=0)
    names = [str(one) for one in range(classes)]
    return {
        split: Images(_to_pixels(pixels), torch.from_numpy(labels.astype(np.int64)), names)
        for split, (pixels, labels) in found.items()
    }


def read_idx(path: Path) -> np.ndarray:
    """Read a file in the IDX format of MNIST, plain or compressed with gzip.

    Raises:
        ValueError: it is not there, no IDX file, or shorter or longer than it says.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = unzipped(data, path)
    # Two zero bytes, the type of the numbers, the number of dimensions, then their sizes.
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _IDX_TYPES:
        raise ValueError(f"{path} is no IDX file: it begins with {data[:4]!r}")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise ValueError(f"{path} has {len(data)} bytes; its header alone has {start}")
    kind, shape = np.dtype(_IDX_TYPES[data[2]]), struct.unpack(f">{data[3]}I", data[4:start])
    expected = start + kind.itemsize * int(np.prod(shape))
    if len(data) != expected:
        raise ValueError(f"{path} has {len(data)} bytes; its header asks for {expected}")
    return np.frombuffer(data, kind, offset=start).reshape(shape)


def _read_npz(path: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no .npz file, or was cut off")
    try:
        return _labelled(path, split)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _labelled(path: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        for images, labels in ((f"x_{split}", f"y_{split}"), ("images", "labels")):
            if images in arrays and labels in arrays:
                return arrays[images], arrays[labels].ravel()
        raise ValueError(
            f"{path} has the arrays {', '.join(arrays)}; expected x_{split} and y_{split}, or "
            "images and labels"
        )


def _to_pixels(images: np.ndarray) -> Tensor:
    """(n, h, w) or (n, h, w, c), bytes or floats in [0, 1], → (n, c, h, w) in [0, 1]."""
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4:
        raise ValueError(f"images of shape {images.shape}; expected (n, height, width[, channels])")
    scale = 255 if images.dtype.kind in "ui" else 1
    pixels = torch.from_numpy(np.ascontiguousarray(images.astype(np.float32))) / scale
    if pixels.numel() and not 0 <= float(pixels.min()) <= float(pixels.max()) <= 1:
        raise ValueError("pixels must be bytes, or numbers in [0, 1]")
    return pixels.permute(0, 3, 1, 2).contiguous()


def _column(features: Mapping[str, Any], kind: str, usual: Sequence[str]) -> str:
    for name, feature in features.items():
        if type(feature).__name__ == kind:
            return name
    for name in usual:
        if name in features:
            return name
    raise ValueError(f"no column of type {kind} among {', '.join(features)}")
