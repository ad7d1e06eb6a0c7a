"""Several processes that train together, without a new interpreter for each."""

from __future__ import annotations

import multiprocessing
import os
import socket
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def run_ranks(
    function: Callable[..., Any], ranks: int, *arguments: Any, timeout: float = 240
) -> list[Any]:
    """Call ``function(rank, *arguments)`` in so many processes of one gloo group.

    The processes come from a server that has imported everything already, so they start at once.
    The function must be defined at the top of a module. Returns what each rank returned; an
    exception of a rank comes back as its traceback, and a rank that died or did not end within
    ``timeout`` seconds as another string.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["chts_hf", "tests.builders", "tests.processes"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(
                target=_rank, args=(function, rank, ranks, port, folder, arguments), daemon=True
            )
            for rank in range(ranks)
        ]
        for process in processes:
            process.start()
        end = time.monotonic() + timeout
        try:
            for process in processes:
                process.join(max(0.0, end - time.monotonic()))
        finally:
            for process in processes:
                process.kill()
        files = [Path(folder) / f"{rank}.pt" for rank in range(ranks)]
        return [torch.load(file, weights_only=False) if file.exists() else "died" for file in files]


def _rank(
    function: Callable[..., Any], rank: int, ranks: int, port: int, folder: str, arguments: Any
) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "true",
    }
    torch.manual_seed(0)
    dist.init_process_group("gloo", rank=rank, world_size=ranks)
    try:
        result = function(rank, *arguments)
    except Exception:
        result = traceback.format_exc()
    torch.save(result, Path(folder) / f"{rank}.pt")
    if dist.is_initialized() and not isinstance(result, str):
        dist.destroy_process_group()
    os._exit(0)  # a group that one rank has left would wait at the interpreter's end
