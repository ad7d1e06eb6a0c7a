"""What sparse training costs beside dense training, as ratios from one run.

    python benchmarks/training.py            # the sizes the limits are stated for, some minutes
    python benchmarks/training.py --small    # the same at toy sizes, in seconds: says nothing

Four questions, the first three answered by timing two things in turn, in alternating order, so that
a machine that is slowed down by something else slows both:

1. How much longer is an optimizer step with a `Sparsifier` than without one, updates apart?
2. What share of the training time do the CH2-L3n topology updates take?
3. How long is the update of one layer, and how much memory does it need, beside CH2-L3n's scores
   written down plainly: the four dense matrix products of their definition, with and without the
   elementwise part between them? And beside a whole update written down plainly, with what it
   removes and what it draws?
4. How many seconds does the first mask of a large layer take, for every kind of it?
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from measuring import peak_memory, seconds, summary
from torch import Tensor, nn
from transformers import MarianConfig, MarianMTModel

from chts_hf import CHTsConfig, Sparsifier
from chts_hf.machine import machine_kind
from chts_hf.topology import ch_scores, initial_mask

INTERVAL = 100  # steps between two updates that the share of the updates is stated for
LIMITS = {"step": 1.05, "updates": 0.02, "layer_time": 1.0, "layer_memory": 2.0, "mask": 2.0}
OUTPUT = Path(__file__).resolve().parent.parent / "docs/results/benchmark_training.json"


@dataclass(frozen=True)
class Size:
    """What is measured: the model, its batch, how often, and the single layers (out, in)."""

    width: int
    feed_forward: int
    layers: int
    vocabulary: int
    sentences: int
    sentence_length: int
    pairs: int
    update_every: int
    repeats: int
    matrices: tuple[tuple[int, int], ...]
    first_mask: tuple[int, int]


# 32 sentences of 32 tokens on each side make a batch of 1024 tokens.
FULL = Size(
    512, 2048, 6, 8000, 32, 32, 24, 6, 15, ((512, 512), (2048, 512), (512, 2048)), (16384, 4096)
)
SMALL = Size(64, 128, 1, 100, 4, 8, 12, 4, 5, ((64, 64), (128, 64), (64, 128)), (256, 64))
WARM_UP = 3  # pairs that are run and not counted


# -- questions 1 and 2: the training step and the updates ------------------------------------


def make_model(size: Size) -> MarianMTModel:
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=size.vocabulary,
        d_model=size.width,
        encoder_ffn_dim=size.feed_forward,
        decoder_ffn_dim=size.feed_forward,
        encoder_layers=size.layers,
        decoder_layers=size.layers,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        max_position_embeddings=2 * size.sentence_length,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        forced_eos_token_id=None,
    )
    return MarianMTModel(config).train()


class Trainee:
    """A model in training, with a sparsifier or without, whose steps can be timed."""

    def __init__(self, size: Size, *, sparse: bool) -> None:
        self.model = make_model(size)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        self.sparsifier: Sparsifier | None = None
        if sparse:
            config = CHTsConfig(method="chts", sparsity=0.9, update_interval=size.update_every)
            steps = 100 * (size.pairs + WARM_UP)  # so that every update here is an early, full one
            self.sparsifier = Sparsifier(self.model, self.optimizer, config, total_steps=steps)

    def step(self, batch: dict[str, Tensor]) -> tuple[float, float]:
        """Return the seconds of an optimizer step, and those of them in `Sparsifier.step`."""
        started = time.perf_counter()
        self.model(**batch).loss.backward()
        self.optimizer.step()
        inside = 0.0 if self.sparsifier is None else seconds(self.sparsifier.step)
        self.optimizer.zero_grad()
        return time.perf_counter() - started, inside


def measure_training(size: Size) -> dict[str, Any]:
    dense, sparse = Trainee(size, sparse=False), Trainee(size, sparse=True)
    assert sparse.sparsifier is not None
    shape = (size.sentences, size.sentence_length)
    ratios, dense_steps, sparse_steps, quiet, updates = [], [], [], [], []
    for pair in range(WARM_UP + size.pairs):
        ids = torch.randint(2, size.vocabulary, shape)
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
        updates_before = sparse.sparsifier.stats()["updates"]
        order = (dense, sparse) if pair % 2 else (sparse, dense)
        times = {trainee: trainee.step(batch) for trainee in order}
        if pair < WARM_UP:
            continue
        step, inside = times[sparse]
        if sparse.sparsifier.stats()["updates"] > updates_before:
            updates.append(inside)
            continue
        quiet.append(inside)
        dense_steps.append(times[dense][0])
        sparse_steps.append(step)
        ratios.append(step / times[dense][0])
    # What the step does in every step is counted there, and not again as the update's.
    update = statistics.median(updates) - statistics.median(quiet)
    step = statistics.median(sparse_steps)
    return {
        "dense_step_seconds": summary(dense_steps),
        "sparse_step_seconds": summary(sparse_steps),
        "step_ratio": summary(ratios),
        "update_seconds": summary(updates),
        "updates_share": update / (update + INTERVAL * step),
        "updates_share_interval": INTERVAL,
        "links": sparse.sparsifier.stats()["links"],
        "sparsified_weights": sparse.sparsifier.stats()["weights"],
    }


# -- question 3: one layer -------------------------------------------------------------------


def plain_products(mask: Tensor) -> Tensor:
    """The four products of CH2-L3n without its elementwise part."""
    links = mask.float()
    rows, columns = links @ links.T, links.T @ links
    return rows @ links + (columns @ links.T).T


def plain_formula(mask: Tensor) -> Tensor:
    """CH2-L3n as its definition is written: the four products and what lies between them."""
    links = mask.float()
    sides = []
    for one in (links, links.T):
        shared = one @ one.T
        outside = (one.sum(dim=1) - shared - 1).clamp(min=0)
        similarity = torch.where(shared > 0, (1 + shared) / (1 + outside), 0)
        sides.append(similarity @ one)
    return (sides[0] + sides[1].T).masked_fill(mask, 0)


def plain_update(weight: Tensor, mask: Tensor, zeta: float, delta: float) -> Tensor:
    """A whole update as its definition is written: the scores, and two Gumbel-top-k draws."""

    def drawn(log_weights: Tensor, k: int) -> Tensor:
        gumbel = -torch.rand_like(log_weights, dtype=torch.float64).log_().neg_().log_()
        chosen = torch.zeros_like(mask)
        chosen.view(-1)[(log_weights + gumbel).view(-1).topk(k).indices] = True
        return chosen

    magnitude = weight.abs() * mask
    importance = magnitude / magnitude.sum(0) + magnitude / magnitude.sum(1, keepdim=True)
    n = round(zeta * int(mask.sum()))
    kept = drawn(delta / (1 - delta) * importance.log(), int(mask.sum()) - n)
    return kept | drawn(plain_formula(kept).log(), n)


class OneLayer(nn.Module):
    """A module with a single target, so that a sparsifier's update is that layer's update."""

    def __init__(self, out_features: int, in_features: int) -> None:
        super().__init__()
        self.layer = nn.Linear(in_features, out_features, bias=False)


def measure_layer(shape: tuple[int, int], repeats: int) -> dict[str, Any]:
    mask = initial_mask(shape, 0.9, kind="brf", generator=torch.Generator().manual_seed(0))
    config = CHTsConfig(sparsity=0.9, update_interval=1, targets={"layer": "layer"})
    model = OneLayer(*shape)
    sparsifier = Sparsifier(model, None, config, total_steps=10_000)
    weight = model.layer.weight.detach()
    contenders: dict[str, Callable[[], object]] = {
        "products": lambda: plain_products(mask),
        "formula": lambda: plain_formula(mask),
        "scores": lambda: ch_scores(mask, predictor="CH2-L3n"),
        "plain update": lambda: plain_update(weight, mask, config.zeta, delta=0.5),
        "update": sparsifier.step,
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for repeat in range(WARM_UP + repeats):
        names = list(contenders) if repeat % 2 else list(reversed(contenders))
        for name in names:
            elapsed = seconds(contenders[name])
            if repeat >= WARM_UP:
                times[name].append(elapsed)
    largest = 4 * max(shape[0] ** 2, shape[1] ** 2, shape[0] * shape[1])  # float32
    memory = {name: peak_memory(function) for name, function in contenders.items()}
    return {
        "shape": shape,
        "seconds": {name: summary(values) for name, values in times.items()},
        "time_ratio": {
            f"{name} / {plain}": statistics.median(
                a / b for a, b in zip(times[name], times[plain], strict=True)
            )
            for name in ("scores", "update")
            for plain in ("products", "formula", "plain update")
        },
        "largest_matrix_bytes": largest,
        "peak_bytes": memory,
        "memory_ratio": {name: peak / largest for name, peak in memory.items()},
    }


# -- question 4: first masks -----------------------------------------------------------------

FIRST_MASKS: dict[str, tuple[str, dict[str, Any]]] = {  # kind and options
    "ER": ("er", {}),
    "BSW": ("bsw", {"beta": 0.25}),
    "BRF, fixed degrees": ("brf", {"r": 0.25}),
    "BRF, uniform degrees": ("brf", {"r": 0.25, "degrees": "uniform"}),
    "BSF": ("bsf", {}),
    "magnitude": ("magnitude", {}),
    "relative importance": ("relative_importance", {}),
}
OF_WEIGHTS = ("magnitude", "relative importance")


def measure_first_masks(shape: tuple[int, int], repeats: int) -> dict[str, dict[str, float]]:
    """Seconds for the first mask of a layer at 90 % sparsity, by name."""
    weight = torch.randn(shape)
    times: dict[str, list[float]] = {name: [] for name in FIRST_MASKS}
    for repeat in range(1 + repeats):
        for name, (kind, options) in FIRST_MASKS.items():
            if name in OF_WEIGHTS:
                options = {"weight": weight}
            generator = torch.Generator().manual_seed(repeat)
            started = time.perf_counter()
            initial_mask(shape, 0.9, kind, generator, **options)
            if repeat:
                times[name].append(time.perf_counter() - started)
    return {name: summary(values) for name, values in times.items()}


# -- the report ------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    return {
        "kind": machine_kind(),
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def print_report(
    training: dict[str, Any],
    layers: Sequence[dict[str, Any]],
    shape: tuple[int, int],
    masks: dict[str, dict[str, float]],
) -> None:
    def line(what: str, value: float, limit: str) -> None:
        verdict = "within" if value <= LIMITS[limit] else "ABOVE"
        print(f"{what:<58} {value:8.4f}   {verdict} {LIMITS[limit]:g}")

    line("training step with sparsifier / without", training["step_ratio"]["median"], "step")
    line(f"share of updates at interval {INTERVAL}", training["updates_share"], "updates")
    for layer in layers:
        sides = " x ".join(map(str, layer["shape"]))
        for ratio, value in layer["time_ratio"].items():
            line(f"{sides}: {ratio}, time", value, "layer_time")
        for name in ("plain update", "scores", "update"):
            ratio = layer["memory_ratio"][name]
            line(f"{sides}: {name} / largest matrix, memory", ratio, "layer_memory")
    for name, times in masks.items():
        line(f"{shape[0]} x {shape[1]}: first mask, {name}, seconds", times["median"], "mask")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure what sparse training costs.")
    parser.add_argument("--small", action="store_true", help="toy sizes, to see that it runs")
    parser.add_argument("--output", type=Path, help="JSON file; with --small none by default")
    arguments = parser.parse_args(argv)
    size = SMALL if arguments.small else FULL
    output = arguments.output or (None if arguments.small else OUTPUT)

    training = measure_training(size)
    layers = [measure_layer(shape, size.repeats) for shape in size.matrices]
    masks = measure_first_masks(size.first_mask, min(5, size.repeats))
    print_report(training, layers, size.first_mask, masks)
    if output is not None:
        report = {
            "machine": machine(),
            "size": {name: getattr(size, name) for name in Size.__dataclass_fields__},
            "limits": LIMITS,
            "training": training,
            "layers": layers,
            "first_mask_seconds": masks,
        }
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        print(f"written to {output}")


if __name__ == "__main__":
    main()
