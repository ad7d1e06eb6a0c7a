"""What sparse training costs on several processes, and what it saves on the wire.

    python benchmarks/distributed.py            # 1, 2 and 4 processes over gloo, some minutes
    python benchmarks/distributed.py --small    # toy sizes, to see that it runs

In each process the same model trains twice, side by side: with DDP's own exchange of gradients and
with that of links alone. Steps of the two alternate, so that what slows the machine slows both, and
only ratios within one line should be compared. Processes beyond the machine's cores wait for each
other: then the time of an update does not fall with their number, and the work per rank, which is
printed beside it, says what would.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from measuring import peak_memory
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from transformers import MarianConfig, MarianMTModel

from chts_hf import CHTsConfig, Sparsifier, shared_update
from chts_hf.distributed import ranks, sharing
from chts_hf.distributed.exchange import SparseExchange, register_sparse_exchange
from chts_hf.machine import machine_kind

OUTPUT = Path(__file__).resolve().parent.parent / "docs/results/benchmark_distributed.json"
WARM_UP = 2


@dataclass(frozen=True)
class Size:
    """The model, its batch per process, and how often each thing is measured."""

    width: int
    feed_forward: int
    layers: int
    sentences: int
    length: int
    steps: int
    updates: int


FULL = Size(256, 1024, 3, 4, 16, 12, 4)
SMALL = Size(32, 64, 1, 2, 4, 4, 2)


class Trainee:
    """A model in sparse training, with or without the exchange of links alone."""

    def __init__(self, size: Size, *, exchange: bool) -> None:
        torch.manual_seed(0)
        self.model = MarianMTModel(
            MarianConfig(
                vocab_size=1000,
                d_model=size.width,
                encoder_ffn_dim=size.feed_forward,
                decoder_ffn_dim=size.feed_forward,
                encoder_layers=size.layers,
                decoder_layers=size.layers,
                encoder_attention_heads=4,
                decoder_attention_heads=4,
                max_position_embeddings=2 * size.length,
                pad_token_id=0,
                eos_token_id=1,
                decoder_start_token_id=0,
                forced_eos_token_id=None,
            )
        )
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3)
        config = CHTsConfig(sparsity=0.9, update_interval=1_000_000 - 1)
        self.sparsifier = Sparsifier(self.model, self.optimizer, config, total_steps=10**8)
        self.exchange: SparseExchange | None = None
        self.trained: torch.nn.Module = self.model
        if ranks.is_distributed():
            self.trained = DistributedDataParallel(self.model)
            if exchange:
                self.exchange = register_sparse_exchange(self.trained, self.sparsifier)

    def step(self, batch: dict[str, Tensor]) -> None:
        self.trained(**batch).loss.backward()
        self.optimizer.step()
        self.sparsifier.step()
        self.optimizer.zero_grad()


def timed(function: Callable[[], object]) -> float:
    """Return the seconds from all ranks' start to the last one's end."""
    if ranks.is_distributed():
        dist.barrier()
    started = time.perf_counter()
    function()
    if ranks.is_distributed():
        dist.barrier()
    return time.perf_counter() - started


@contextmanager
def timed_blocks() -> Iterator[list[float]]:
    """Collect the processor's seconds of each block that this rank makes."""
    make = shared_update.update_block
    seconds: list[float] = []

    def timed_make(*arguments: Any) -> Any:
        started = time.thread_time()
        result = make(*arguments)
        seconds.append(time.thread_time() - started)
        return result

    with patch.object(shared_update, "update_block", timed_make):
        yield seconds


def measure(size: Size) -> dict[str, Any]:
    dense, links = Trainee(size, exchange=False), Trainee(size, exchange=True)
    times: dict[str, list[float]] = {"dense": [], "links": []}
    torch.manual_seed(1 + ranks.rank())
    for repeat in range(WARM_UP + size.steps):
        ids = torch.randint(2, 1000, (size.sentences, size.length))
        batch = {"input_ids": ids, "labels": ids}
        pairs = [("dense", dense), ("links", links)]
        for name, trainee in pairs if repeat % 2 else reversed(pairs):
            seconds = timed(partial(trainee.step, batch))
            if repeat >= WARM_UP:
                times[name].append(seconds)
    sparsifier = dense.sparsifier
    updates, own, making = [], [], []
    with timed_blocks() as blocks:
        for _ in range(size.updates):
            blocks.clear()
            started = time.thread_time()
            updates.append(timed(sparsifier._update))
            own.append(time.thread_time() - started)
            making.append(sum(blocks))
    checks = [timed(sparsifier.check_ranks) for _ in range(size.updates)]
    costs = [
        sum(sharing.update_cost(target.shape) for target in targets)
        for targets, _ in sparsifier._blocks
    ]
    owners = sharing.assign(costs, ranks.world_size())
    load = [sum(c for c, o in zip(costs, owners, strict=True) if o == r) for r in set(owners)]
    steps = size.steps + WARM_UP
    count = links.exchange
    result = {
        "processes": ranks.world_size(),
        "step_seconds": statistics.median(times["dense"]),
        "step_seconds_links_only": statistics.median(times["links"]),
        "step_ratio": statistics.median(
            a / b for a, b in zip(times["links"], times["dense"], strict=True)
        ),
        "update_seconds": statistics.median(updates),
        "update_processor_seconds": statistics.median(own),
        "update_blocks_processor_seconds": statistics.median(making),
        "update_share_of_work": max(load) / sum(costs),
        "check_seconds": statistics.median(checks),
        "mask_bytes_sent_per_update": sum(
            2 * -(-target.weight.numel() // 8) for target in sparsifier.targets
        ),
        "peak_rss_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        # Above what is held between steps.
        "update_peak_bytes": peak_memory(sparsifier._update),
        "dense_step_peak_bytes": peak_memory(partial(dense.step, batch)),
        "largest_layer_bytes": max(4 * target.weight.numel() for target in sparsifier.targets),
        "sparsified_weights": sparsifier.stats()["weights"],
    }
    if count is not None:
        result |= {
            "gradient_bytes_per_step": count.dense_bytes // steps,
            "gradient_bytes_per_step_links_only": count.sent_bytes // steps,
            "gradient_bytes_ratio": count.sent_bytes / count.dense_bytes,
            "gradient_bytes_per_step_other_weights": count.other_bytes // steps,
        }
    return result


def run_rank(rank: int, processes: int, port: int, size: Size, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if processes > 1:
        dist.init_process_group("gloo", rank=rank, world_size=processes)
    result = measure(size)
    (Path(folder) / f"{rank}.json").write_text(json.dumps(result), encoding="utf-8")
    if processes > 1:
        dist.destroy_process_group()


def run(processes: int, size: Size) -> dict[str, Any]:
    """Measure with so many processes, and return what the slowest of them found."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["chts_hf", "transformers.models.marian.modeling_marian"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        workers = [
            context.Process(target=run_rank, args=(rank, processes, port, size, folder))
            for rank in range(processes)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
            if worker.exitcode != 0:
                raise RuntimeError(f"a process ended with code {worker.exitcode}")
        found = [json.loads(file.read_text()) for file in sorted(Path(folder).glob("*.json"))]
    return {name: max(one[name] for one in found) for name in found[0]}


def _per_layer(result: dict[str, Any], what: str) -> float:
    return float(result[f"{what}_peak_bytes"] / result["largest_layer_bytes"])


def print_report(results: Sequence[dict[str, Any]]) -> None:
    for r in results:
        print(f"{r['processes']} processes")
        print(f"  step, links only / all        {r['step_ratio']:8.3f}")
        if "gradient_bytes_ratio" in r:
            print(f"  gradient bytes, links / all   {r['gradient_bytes_ratio']:8.3f}")
        print(f"  update, seconds               {r['update_seconds']:8.3f}")
        print(f"  update, processor's, per rank {r['update_processor_seconds']:8.3f}")
        print(f"    of which its own blocks     {r['update_blocks_processor_seconds']:8.3f}")
        print(f"  update, busiest rank's share  {r['update_share_of_work']:8.3f}")
        print(f"  memory, update / largest layer{_per_layer(r, 'update'):8.2f}")
        print(f"  memory, step / largest layer  {_per_layer(r, 'dense_step'):8.2f}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure sparse training on several processes.")
    parser.add_argument("--small", action="store_true", help="toy sizes, to see that it runs")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--output", type=Path, help="JSON file; with --small none by default")
    arguments = parser.parse_args(argv)
    size = SMALL if arguments.small else FULL
    output = arguments.output or (None if arguments.small else OUTPUT)
    results = [run(processes, size) for processes in arguments.processes]
    print_report(results)
    if output is not None:
        report = {
            "machine": {
                "kind": machine_kind(),
                "backend": "gloo",
                "threads_per_process": 1,
                "load_when_done": os.getloadavg()[0],
                "python": platform.python_version(),
                "torch": torch.__version__,
            },
            "size": asdict(size),
            "results": results,
        }
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        print(f"written to {output}")


if __name__ == "__main__":
    main()
