#!/usr/bin/env python
"""How often the comparisons with random networks find something: in noise, and in a geometry.

::

    python benchmarks/calibration.py --json docs/results/benchmark_calibration.json

Networks of 64-64-64 neurons with a tenth of the links. Those that *are* drawn from a null model
must have p <= 0.05 in about 5 % of the cases, for every measure; those drawn in the hyperbolic disk
should be recognised. Beside them, the first masks that CHTs begins with.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from chts_hf import CHTsConfig, Sparsifier
from chts_hf.analysis import MEASURES, Chain, analyse, chains_of, erdos_renyi, layer_masks, rewire
from chts_hf.analysis.hyperbolic_model import hyperbolic_network
from chts_hf.analysis.measures import Row, judge
from chts_hf.targets import find_pairs
from chts_hf.topology.ring import brf
from chts_hf.vision import MLPConfig, MLPForImageClassification
from chts_hf.vision.images import load_digits

SIZES = (64, 64, 64)
LINKS = 410
LEVEL = 0.05
TEMPERATURES = (0.1, 0.4, 0.7)
EVERY = tuple(MEASURES)
GEOMETRY = ("greedy_routability", "angular_separation", "clustering", "path_length", "modularity")

#: Of all networks drawn here: none of the streams that the analysis draws from.
SEED = 20_000


class Kind(NamedTuple):
    """A kind of network and what is asked of it."""

    null_model: str
    draw: Callable[[np.random.Generator], Chain]
    measures: Sequence[str]
    networks: int


def main() -> None:
    parser = argparse.ArgumentParser(
        description="How often networks that are known have p <= 0.05."
    )
    parser.add_argument(
        "--networks", type=int, default=60, help="of noise; with a geometry a third"
    )
    parser.add_argument("--nulls", type=int, default=19, help="random networks beside each")
    parser.add_argument("--json", type=Path, help="write the results here too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = calibrate(arguments.networks, arguments.nulls)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


def calibrate(networks: int, nulls: int) -> dict[str, Any]:
    """Kind of network → null model and, of each measure, the share with p <= 0.05."""
    trained = [train(seed) for seed in range(4)]
    third = max(1, networks // 3)
    kinds = {
        "uniform": Kind("er", uniform, EVERY, networks),
        "uniform, degrees kept": Kind("degrees", uniform, EVERY, networks),
        "trained, rewired": Kind("degrees", lambda rng: rewired(trained, rng), EVERY, networks),
        **{
            f"disk, T = {temperature:g}": Kind(
                "degrees", partial(drawn_in_disk, temperature=temperature), GEOMETRY, third
            )
            for temperature in TEMPERATURES
        },
        "disk, T = 0.1, a third of the links": Kind(
            "degrees",
            partial(drawn_in_disk, temperature=0.1, links=LINKS // 3),
            GEOMETRY,
            third,
        ),
        "BRF": Kind("degrees", receptive_fields, GEOMETRY, third),
    }
    return {
        "sizes": SIZES,
        "links": LINKS,
        "nulls": nulls,
        "level": LEVEL,
        "kinds": {
            name: {"null_model": kind.null_model, "rates": rates(kind, number, nulls)}
            for number, (name, kind) in enumerate(kinds.items())
        },
    }


def rates(kind: Kind, number: int, nulls: int) -> dict[str, dict[str, float]]:
    """Measure → the share of networks with p <= 0.05, and the mean p.

    With n random networks p has the values 1/(n + 1), 2/(n + 1) … 1, each as likely as the others
    where the null model is true, so that its mean is (n + 2)/(2n + 2).
    """
    found: dict[str, list[float]] = {}
    for i in range(kind.networks):
        chain = kind.draw(np.random.default_rng([SEED, number, i]))
        rows = analyse(chain, kind.measures, nulls, i, (kind.null_model,))
        for name, p in p_values(rows, kind.null_model).items():
            found.setdefault(name, []).append(p)
    return {name: summary(ps) for name, ps in found.items()}


def p_values(rows: Sequence[Row], model: str) -> dict[str, float]:
    """Measure → p; with rewired networks also the verdict's, and both one-sided ones in it."""
    ps = {r.measure: p for r in rows if (p := _p(r, model)) is not None}
    verdict = judge(rows)
    if verdict is not None:
        ps |= {f"{name}, one-sided": p for name, p in verdict.parts.items()}
        ps["hyperbolic"] = verdict.p
    return ps


def _p(row: Row, model: str) -> float | None:
    return row.nulls[model].p if model in row.nulls else None


def summary(ps: Sequence[float]) -> dict[str, float]:
    rate = float(np.mean(np.array(ps) <= LEVEL + 1e-12))
    return {"rate": rate, "mean_p": round(float(np.mean(ps)), 4), "networks": len(ps)}


def uniform(rng: np.random.Generator) -> Chain:
    full = np.arange(SIZES[0] * SIZES[1]).reshape(SIZES[1], SIZES[0]) < LINKS
    return Chain("uniform", ("a", "b"), tuple(erdos_renyi(full, rng) for _ in SIZES[1:]))


def rewired(chains: Sequence[Chain], rng: np.random.Generator) -> Chain:
    chain = chains[int(rng.integers(len(chains)))]
    return Chain("rewired", chain.layers, tuple(rewire(mask, rng, 64) for mask in chain.masks))


def drawn_in_disk(rng: np.random.Generator, temperature: float, links: int = LINKS) -> Chain:
    return hyperbolic_network(SIZES, links, rng, temperature=temperature)[0]


def receptive_fields(rng: np.random.Generator) -> Chain:
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    masks = [brf((64, 64), LINKS, generator) for _ in SIZES[1:]]
    return Chain("BRF", ("a", "b"), tuple(mask.numpy() for mask in masks))


def train(seed: int, epochs: int = 20) -> Chain:
    """The hidden layers of an MLP after 20 epochs of scikit-learn's digits by CHTs."""
    torch.manual_seed(seed)
    images = load_digits()["train"]
    config = MLPConfig(image_size=(8, 8), hidden_sizes=SIZES[1:], num_labels=10)
    model = MLPForImageClassification(config)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    batches = len(images) // 32
    chts = CHTsConfig(sparsity=0.9, update_interval=batches, rescale_init=True, seed=seed)
    sparsifier = Sparsifier(model, optimizer, chts, total_steps=epochs * batches)
    for _ in range(epochs):
        for places in torch.randperm(len(images))[: batches * 32].split(32):
            batch = images.select(places)
            model(batch.pixels, labels=batch.labels).loss.backward()
            optimizer.step()
            sparsifier.step()
            optimizer.zero_grad()
    sparsifier.close()
    masks = layer_masks(sparsifier.targets, sparsifier.masks)
    return chains_of(sparsifier.targets, find_pairs(sparsifier.targets), masks)[0]


if __name__ == "__main__":
    main()
