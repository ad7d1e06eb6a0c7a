"""Whether runs had the same data: by what its sentences are or, if unknown, by where it was.

The same sentences may come from the Hub or from local files, under any names. So a record holds a
digest of each split's sentences (``corpus``), and where that is there, where they were read from is
no difference. Older records have none; theirs is compared by its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: The recipe's arguments that say where the data is (beside ``data_dir``, which is never compared).
LOCATION = (
    "dataset_name", "dataset_config_name", "train_file", "validation_file", "test_file",
)  # fmt: skip


def know_their_data(records: Iterable[Mapping[str, Any]]) -> bool:
    """Whether all of these records have digests of their sentences."""
    return all(record.get("corpus") for record in records)


def without_location(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What a run was told, but for where the data was."""
    return {name: value for name, value in recipe.items() if name not in LOCATION}
