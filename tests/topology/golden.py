"""Access to the reference vectors in tests/golden."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parent.parent / "golden"


def arrays(name: str) -> dict[str, Tensor]:
    with np.load(FOLDER / name) as file:
        return {key: torch.from_numpy(file[key]) for key in file}


def schedules() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / "schedules.json").read_text())
    return loaded
