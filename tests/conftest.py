"""What every test starts from: no network, one thread, caches of its own, seeded generators."""

from __future__ import annotations

import logging
import os
import random
import shutil
import tempfile

import numpy as np
import pytest
import torch

# The Hugging Face libraries read these on import; processes that a test starts inherit them.
_CACHE = tempfile.mkdtemp(prefix="chts_hf_tests_")
os.environ["HF_HOME"] = _CACHE
for _variable in ("HF_DATASETS_CACHE", "HF_EVALUATE_CACHE", "HF_HUB_CACHE", "HF_MODULES_CACHE"):
    os.environ.pop(_variable, None)
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure() -> None:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def pytest_unconfigure() -> None:
    shutil.rmtree(_CACHE, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """A test that draws without a seed of its own must not depend on the tests before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _heard() -> None:
    """Recipes set their process's log level: what one test did must not silence the next."""
    logging.getLogger("chts_hf").setLevel(logging.NOTSET)
