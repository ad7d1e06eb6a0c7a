"""How much faster a sparse model generates on this machine's CPU, as ratios from one run.

    python benchmarks/inference.py            # the sizes the goals are stated for, some minutes
    python benchmarks/inference.py --small    # the same at toy sizes, in seconds: says nothing

A Marian model with random masks generates with beam search, dense and sparse in turn and in
alternating order, from the same weights: whatever slows the machine down slows both. A third copy,
"swapped", is dense too, with the order of the factors that the sparse model's dense layers have: it
shows what is due to that and what to the zeros. The tokens are compared too. Beside each ratio
stands what part of the time the sparsified layers take, and from it the ratio that products in no
time at all would give: the rest is attention, the output head, beam search and Python, which no
sparsity shortens. Memory is measured in processes of its own: the most that is resident while
generating, above what the libraries need. `--compile` runs the models' decoders through
torch.compile as well, which takes minutes.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import gc
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from measuring import seconds, summary
from torch import Tensor
from transformers import MarianConfig, MarianMTModel

from chts_hf import find_targets
from chts_hf.inference import SparseLinear, to_sparse_inference
from chts_hf.machine import machine_kind

OUTPUT = Path(__file__).resolve().parent.parent / "docs/results/benchmark_inference.json"
SPARSITIES = (0.9, 0.95)
BATCHES = (1, 8)
BEAMS = 4
# (width, sparsity) → how many times as fast as dense it should be.
GOALS = {(512, 0.9): 1.5, (512, 0.95): 2.0, (1024, 0.9): 2.5, (1024, 0.95): 4.0}


@dataclass(frozen=True)
class Size:
    """A model, and how often what is measured."""

    width: int
    layers: int
    vocabulary: int
    source_length: int
    new_tokens: int
    pairs: int

    @property
    def feed_forward(self) -> int:
        return 4 * self.width


FULL = (Size(512, 6, 8000, 24, 16, 7), Size(1024, 6, 8000, 24, 16, 5))
SMALL = (Size(128, 2, 500, 8, 4, 3),)


def make_model(size: Size, sparsity: float) -> MarianMTModel:
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=size.vocabulary,
        d_model=size.width,
        encoder_layers=size.layers,
        decoder_layers=size.layers,
        encoder_attention_heads=size.width // 64,
        decoder_attention_heads=size.width // 64,
        encoder_ffn_dim=size.feed_forward,
        decoder_ffn_dim=size.feed_forward,
        init_std=size.width**-0.5,
        tie_word_embeddings=False,  # a random model that is tied repeats what it reads
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
        decoder_start_token_id=0,
        forced_eos_token_id=None,
    )
    model = MarianMTModel(config).eval()
    with torch.no_grad():
        for target in find_targets(model):
            target.weight.mul_(torch.rand_like(target.weight) >= sparsity)
    return model


def generate(model: Any, size: Size, batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(batch)
    ids = torch.randint(3, size.vocabulary, (batch, size.source_length), generator=generator)
    tokens = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        num_beams=BEAMS,
        do_sample=False,
        min_new_tokens=size.new_tokens,
        max_new_tokens=size.new_tokens,
    )
    assert isinstance(tokens, Tensor)
    return tokens


def measure_speed(
    models: dict[str, MarianMTModel], size: Size, batch: int, layers: Sequence[str] = ()
) -> dict[str, Any]:
    """Dense / sparse and swapped / sparse, in turns, and what part of the time some layers take."""
    times: dict[str, list[float]] = {name: [] for name in models}
    tokens = {name: generate(model, size, batch) for name, model in models.items()}  # warms up too
    for pair in range(size.pairs):
        for name in sorted(models, reverse=pair % 2 == 1):
            times[name].append(seconds(lambda name=name: generate(models[name], size, batch)))  # type: ignore[misc]
    ratios = {
        name: [a / b for a, b in zip(times[name], times["sparse"], strict=True)]
        for name in ("dense", "swapped")
    }
    shares = {}
    if layers:
        share = {name: layer_share(model, layers, size, batch) for name, model in models.items()}
        shares = {
            "share_in_layers": share,
            "speedup_if_layers_took_no_time": 1 / (1 - share["dense"]),
        }
    return {
        "batch": batch,
        "beams": BEAMS,
        "speedup": summary(ratios["dense"]),
        "speedup_over_swapped": summary(ratios["swapped"]),
        "same_tokens": all(torch.equal(tokens["dense"], other) for other in tokens.values()),
        **shares,
        "dense_ms_per_token": 1000 * statistics.median(times["dense"]) / size.new_tokens,
    }


def layer_share(model: Any, names: Sequence[str], size: Size, batch: int) -> float:
    """The part of a generation's time that passes in some layers."""
    spent = 0.0
    started = 0.0

    def before(*_: object) -> None:
        nonlocal started
        started = time.perf_counter()

    def after(*_: object) -> None:
        nonlocal spent
        spent += time.perf_counter() - started

    hooks = []
    for name in names:
        layer = model.get_submodule(name)
        hooks += [layer.register_forward_pre_hook(before), layer.register_forward_hook(after)]
    whole = seconds(lambda: generate(model, size, batch))
    for hook in hooks:
        hook.remove()
    return spent / whole


def measure_model(size: Size, sparsity: float, compiled: bool) -> dict[str, Any]:
    dense = make_model(size, sparsity)
    names = [target.parameter_name.removesuffix(".weight") for target in find_targets(dense)]
    sparse = copy.deepcopy(dense)
    converting = seconds(lambda: to_sparse_inference(sparse))
    kernels = [
        layer.kernel if isinstance(layer, SparseLinear) else "dense"
        for layer in map(sparse.get_submodule, names)
    ]
    swapped = to_sparse_inference(copy.deepcopy(dense), kernels=("swapped",))
    models = {"dense": dense, "sparse": sparse, "swapped": swapped}
    result = {
        "width": size.width,
        "feed_forward": size.feed_forward,
        "sparsity": sparsity,
        "goal": GOALS.get((size.width, sparsity)),
        "kernels": {kernel: kernels.count(kernel) for kernel in sorted(set(kernels))},
        "conversion_seconds": converting,
        "generation": [measure_speed(models, size, batch, names) for batch in BATCHES],
    }
    if compiled:
        for model in models.values():
            decoder = model.get_decoder()
            decoder.forward = torch.compile(decoder.forward, dynamic=True)
        # Without the hooks that tell layers' times, which would break its graphs.
        result["generation_compiled"] = [measure_speed(models, size, batch) for batch in BATCHES]
    return result


# -- memory: each measurement in a process of its own ------------------------------------------


def resident(field: str) -> int:
    """Bytes resident now ("VmRSS") or at most since the last reset ("VmHWM"); Linux only."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"no {field} in /proc/self/status")


def release() -> None:
    """Give freed memory back to the system, where the C library can."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def print_memory(size: Size, sparsity: float, kind: str) -> None:
    """Runs in the process that is measured."""
    generate(make_model(SMALL[0], 0.9), SMALL[0], 1)  # what the libraries take when used
    release()
    base = resident("VmRSS")
    model = make_model(size, sparsity)
    if kind == "sparse":
        to_sparse_inference(model)
    release()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    generate(model, size, BATCHES[0])
    print(resident("VmHWM") - base)


def measure_memory(index: int, small: bool, sparsity: float, threads: int) -> dict[str, Any] | None:
    if not Path("/proc/self/clear_refs").exists():
        return None
    peak = {}
    for kind in ("dense", "sparse"):
        command = [sys.executable, __file__, "--memory", kind, str(index), str(sparsity)]
        command += ["--threads", str(threads)] + ["--small"] * small
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        peak[kind] = int(ran.stdout.split()[-1])
    return {
        "bytes_above_libraries": peak,
        "sparse_over_dense": peak["sparse"] / peak["dense"],
    }


# -- the report --------------------------------------------------------------------------------


def print_result(result: dict[str, Any]) -> None:
    shape = f"d {result['width']}, FFN {result['feed_forward']}, {result['sparsity']:.0%} sparse"
    for key in ("generation", "generation_compiled"):
        for run in result.get(key, ()):
            speed, goal = run["speedup"], result["goal"]
            verdict = "" if goal is None else f", goal {goal:g}"
            alone = run.get("speedup_if_layers_took_no_time")
            bound = "" if alone is None else f"; at most {alone:.2f} by these layers alone"
            print(
                f"{shape}, batch {run['batch']}{', compiled' * key.endswith('compiled')}: "
                f"{speed['median']:.2f} x dense ({speed['quartile_low']:.2f} to "
                f"{speed['quartile_high']:.2f}{verdict}), "
                f"{run['speedup_over_swapped']['median']:.2f} x swapped{bound}; tokens "
                f"{'the same' if run['same_tokens'] else 'DIFFER'}",
                flush=True,
            )
    if result.get("memory"):
        print(f"{shape}: memory {result['memory']['sparse_over_dense']:.2f} x dense", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure how fast sparse models generate.")
    parser.add_argument("--small", action="store_true", help="toy sizes, to see that it runs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="with torch.compile too; slow")
    parser.add_argument("--output", type=Path, help="JSON file; with --small none by default")
    parser.add_argument("--memory", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    sizes = SMALL if arguments.small else FULL
    if arguments.memory:
        kind, index, sparsity = arguments.memory
        print_memory(sizes[int(index)], float(sparsity), kind)
        return
    results = []
    for index, size in enumerate(sizes):
        for sparsity in SPARSITIES:
            result = measure_model(size, sparsity, arguments.compile)
            result["memory"] = measure_memory(index, arguments.small, sparsity, arguments.threads)
            print_result(result)
            results.append(result)
    output = arguments.output or (None if arguments.small else OUTPUT)
    if output is not None:
        machine = {
            "kind": machine_kind(),
            "threads": arguments.threads,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }
        report = {"machine": machine, "sizes": [asdict(s) for s in sizes], "models": results}
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        print(f"written to {output}")


if __name__ == "__main__":
    main()
