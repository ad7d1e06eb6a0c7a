"""Images from everywhere become the same tensors."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image
from PIL import Image as PILImage

from chts_hf.vision import Images, images

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (6, 5, 4), dtype=np.uint8)
LABELS = np.array([0, 2, 1, 1, 0, 2], dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.tobytes()


def assert_same(found: Images, pixels: np.ndarray) -> None:
    assert found.pixels.dtype == torch.float32
    expected = torch.from_numpy(pixels.astype(np.float32) / 255)
    assert torch.equal(found.pixels, expected.reshape(found.pixels.shape))
    assert found.labels.tolist() == LABELS.tolist()
    assert len(found.names) == 3


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_files(tmp_path: Path, pack: object) -> None:
    (tmp_path / "images").write_bytes(pack(idx(PIXELS)))  # type: ignore[operator]
    (tmp_path / "labels").write_bytes(pack(idx(LABELS)))  # type: ignore[operator]
    splits = images.load_files({"train": "images", "test": None}, {"train": "labels"}, tmp_path)
    assert list(splits) == ["train"]
    assert splits["train"].pixels.shape == (6, 1, 5, 4)
    assert_same(splits["train"], PIXELS)
    item = splits["train"][1]
    assert torch.equal(item["pixel_values"], splits["train"].pixels[1])
    assert int(item["labels"]) == 2


def test_npz_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=PIXELS, y_train=LABELS, x_test=PIXELS[:2], y_test=[1, 2])
    splits = images.load_files({"train": "a.npz", "test": "a.npz"}, {}, tmp_path)
    assert_same(splits["train"], PIXELS)
    assert len(splits["test"]) == 2
    assert len(splits["test"].names) == 3


def test_colours_come_first(tmp_path: Path) -> None:
    colours = RANDOM.random((6, 5, 4, 3)).astype(np.float32)
    np.savez(tmp_path / "a.npz", images=colours, labels=LABELS)
    found = images.load_files({"test": "a.npz"}, {}, tmp_path)["test"]
    assert found.pixels.shape == (6, 3, 5, 4)
    assert torch.equal(found.pixels, torch.from_numpy(colours).permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"PNG\0 and more", "is no IDX file: it begins with b'PNG"),
        (idx(PIXELS)[:-1], "has 135 bytes; its header asks for 136"),
        (idx(PIXELS) + b"x", "has 137 bytes; its header asks for 136"),
        (idx(PIXELS)[:6], "has 6 bytes; its header alone has 16"),
        (gzip.compress(idx(PIXELS))[:-30], "a' is not a readable gzip file: .*ended before"),
        (
            gzip.compress(idx(PIXELS))[:10] + b"\xff" * 99,
            "a' is not a readable gzip file: Error -3",
        ),
    ],
)
def test_bad_idx_files(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        images.read_idx(tmp_path / "a")


def test_bad_npz_files(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x_test=PIXELS, y_test=LABELS)
    whole = path.read_bytes()
    for content in (whole[:-30], b"{}", b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.npz is no \.npz file, or was cut off"):
            images.load_files({"test": "a.npz"}, {}, tmp_path)
    refused = 0
    for position in range(len(whole)):  # one bit of each byte
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        try:
            found = images.load_files({"test": "a.npz"}, {}, tmp_path)["test"]
        except ValueError:
            refused += 1
        else:
            assert_same(found, PIXELS)
    assert refused > len(whole) / 2


def test_files_that_do_not_go_together(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(idx(PIXELS))
    (tmp_path / "labels").write_bytes(idx(LABELS[:4]))
    with pytest.raises(ValueError, match="do not go together"):
        images.load_files({"train": "images"}, {"train": "labels"}, tmp_path)
    with pytest.raises(ValueError, match="train_labels must name its labels"):
        images.load_files({"train": "images"}, {}, tmp_path)
    np.savez(tmp_path / "a.npz", a=PIXELS)
    with pytest.raises(ValueError, match="has the arrays a; expected x_test and y_test"):
        images.load_files({"test": "a.npz"}, {}, tmp_path)
    np.savez(tmp_path / "b.npz", images=PIXELS.astype(np.float32), labels=LABELS)
    with pytest.raises(ValueError, match=r"numbers in \[0, 1\]"):
        images.load_files({"test": "b.npz"}, {}, tmp_path)


@pytest.mark.parametrize("names", [("image", "label"), ("img", "fine")])
def test_data_sets_of_the_hub(names: tuple[str, str]) -> None:
    image, label = names
    classes = ClassLabel(names=["ant", "bee", "cow"])
    rows = Dataset.from_dict(
        {image: [PILImage.fromarray(one) for one in PIXELS], label: LABELS.tolist()},
        features=Features({image: Image(), label: classes}),
    )
    found = images.from_datasets(DatasetDict({"test": rows}))["test"]
    assert_same(found, PIXELS)
    assert found.names == ["ant", "bee", "cow"]


def test_short_names_are_those_of_data_sets_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def load(repository: str, config_name: str | None) -> DatasetDict:
        asked.append((repository, config_name))
        return DatasetDict()

    monkeypatch.setattr(images, "load_dataset", load)
    for name in ("mnist", "fashion_mnist", "emnist_balanced", "cifar10", "me/mine"):
        images.load_hub(name)
    images.load_hub("me/mine", "small")
    assert asked == [
        ("ylecun/mnist", None),
        ("zalando-datasets/fashion_mnist", None),
        ("claudiogsc/emnist_balanced", None),
        ("uoft-cs/cifar10", None),
        ("me/mine", None),
        ("me/mine", "small"),
    ]


def test_a_data_set_without_images_is_refused() -> None:
    with pytest.raises(ValueError, match="no column of type Image among text"):
        images.from_datasets(DatasetDict({"test": Dataset.from_dict({"text": ["a"]})}))


def test_digits() -> None:
    splits = images.load_digits()
    assert [len(splits[name]) for name in ("train", "test")] == [1438, 359]
    assert splits["train"].pixels.shape[1:] == (1, 8, 8)
    assert float(splits["train"].pixels.max()) == 1
    assert splits["test"].labels.unique().tolist() == list(range(10))


def test_what_is_held_out_is_no_longer_trained_with() -> None:
    whole = images.load_digits()["train"]
    train, validation = images.hold_out(whole, 238, seed=0)
    assert (len(train), len(validation)) == (1200, 238)
    both = torch.cat([train.pixels, validation.pixels]).flatten(1)
    assert torch.equal(both.sum(0), whole.pixels.flatten(1).sum(0))
    assert torch.equal(images.hold_out(whole, 238, seed=0)[1].labels, validation.labels)
    assert not torch.equal(images.hold_out(whole, 238, seed=1)[1].labels, validation.labels)
    with pytest.raises(ValueError, match="1438 of 1438"):
        images.hold_out(whole, 1438, seed=0)


def test_labels_have_names() -> None:
    with pytest.raises(ValueError, match="labels go from 0 to 2, and there are 2"):
        Images(torch.zeros(6, 1, 2, 2), torch.tensor(LABELS.tolist()), ["a", "b"])


def test_statistics() -> None:
    pixels = torch.rand(40, 2, 3, 3)
    pixels[:, 0, 1, 1] = 0.5
    some = Images(pixels, torch.zeros(40, dtype=torch.long), ["a"])
    mean, std = images.channel_statistics(some)
    assert mean[1] == pytest.approx(float(pixels[:, 1].mean()))
    assert std[1] == pytest.approx(float(pixels[:, 1].std()))
    correlation = images.feature_correlation(some)
    assert correlation.shape == (18, 18)
    a, b = pixels[:, 0, 0, 0], pixels[:, 1, 2, 2]
    expected = ((a - a.mean()) * (b - b.mean())).mean() / (a.std(False) * b.std(False))
    assert float(correlation[0, 17]) == pytest.approx(float(expected), abs=1e-5)
    assert bool(correlation[4].isnan().all())  # a pixel that never changes
