from __future__ import annotations

import math
import time
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from chts_hf.topology import INITIAL_TOPOLOGIES, initial_mask, link_count, relative_importance

SHAPES = [(24, 24), (96, 12), (12, 96), (1, 50), (50, 1), (7, 10), (1, 1), (33, 128)]
SPARSITIES = [0.0, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999]
NETWORK_MODELS: list[tuple[str, dict[str, Any]]] = [
    ("er", {}),
    ("bsw", {}),
    ("bsw", {"beta": 0.0}),
    ("bsw", {"beta": 1.0}),
    ("brf", {}),
    ("brf", {"degrees": "uniform"}),
    ("brf", {"r": 0.0}),
    ("brf", {"r": 0.01}),
    ("brf", {"r": 1.0}),
    ("bsf", {}),
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def assert_valid(mask: Tensor, shape: tuple[int, int], sparsity: float) -> None:
    assert mask.dtype == torch.bool
    assert tuple(mask.shape) == shape
    assert mask.is_contiguous()
    assert int(mask.sum()) == round((1 - sparsity) * shape[0] * shape[1])


@pytest.mark.parametrize(("kind", "options"), NETWORK_MODELS)
@pytest.mark.parametrize("shape", SHAPES)
def test_counts_and_coverage(shape: tuple[int, int], kind: str, options: dict[str, Any]) -> None:
    for seed, sparsity in enumerate(SPARSITIES):
        mask = initial_mask(shape, sparsity, kind, seeded(seed), **options)
        assert_valid(mask, shape, sparsity)
        links = int(mask.sum())
        if kind != "er":
            # No neuron is without links on a side that has no more neurons than there are links.
            assert int(mask.any(dim=1).sum()) == shape[0] or links < shape[0]
            assert int(mask.any(dim=0).sum()) == shape[1] or links < shape[1]


@settings(max_examples=150, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    sparsity=st.floats(0, 0.999),
    model=st.sampled_from(NETWORK_MODELS),
    seed=st.integers(0, 1000),
)
def test_counts_and_coverage_of_any_layer(
    shape: tuple[int, int], sparsity: float, model: tuple[str, dict[str, Any]], seed: int
) -> None:
    kind, options = model
    mask = initial_mask(shape, sparsity, kind, seeded(seed), **options)
    assert_valid(mask, shape, sparsity)
    if kind != "er" and int(mask.sum()) >= max(shape):
        assert bool(mask.any(dim=0).all())
        assert bool(mask.any(dim=1).all())


@pytest.mark.parametrize(("kind", "options"), NETWORK_MODELS)
def test_the_generator_decides(kind: str, options: dict[str, Any]) -> None:
    first = initial_mask((60, 50), 0.8, kind, seeded(1), **options)
    torch.rand(5)
    assert torch.equal(first, initial_mask((60, 50), 0.8, kind, seeded(1), **options))
    regular = options in ({"beta": 0.0}, {"r": 0.0})
    other = initial_mask((60, 50), 0.8, kind, seeded(2), **options)
    assert torch.equal(first, other) == regular


# -- ER


def test_er_is_uniform() -> None:
    assert chi_square(cell_counts("er", {}), 4096) < chi_square_bound(4096)


# -- BRF


def ring_distance(shape: tuple[int, int]) -> Tensor:
    n_out, n_in = shape
    centre = (torch.arange(n_out, dtype=torch.float64) + 0.5) * n_in / n_out - 0.5
    straight = (torch.arange(n_in) - centre[:, None]).abs()
    return torch.minimum(straight, n_in - straight)


def cell_counts(kind: str, options: dict[str, Any]) -> Tensor:
    """How often each cell of a layer is a link, over many layers."""
    counts = torch.zeros(64 * 64)
    for seed in range(40):
        counts += initial_mask((64, 64), 0.9, kind, seeded(seed), **options).flatten()
    return counts


def chi_square(counts: Tensor, cells: int) -> float:
    mean = float(counts.sum()) / cells
    return float(((counts - mean) ** 2 / (mean * (1 - mean / 40))).sum())


def chi_square_bound(cells: int) -> float:
    return cells + 5 * math.sqrt(2 * cells)


def test_brf_one_is_uniform_and_brf_a_quarter_is_not() -> None:
    assert chi_square(cell_counts("brf", {"r": 1.0}), 4096) < chi_square_bound(4096)
    assert chi_square(cell_counts("brf", {"r": 0.25}), 4096) > chi_square_bound(4096)
    assert chi_square(cell_counts("brf", {"r": 0.8}), 4096) > chi_square_bound(4096)


@pytest.mark.parametrize("shape", [(40, 40), (80, 40), (40, 80), (30, 44), (44, 30)])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.8, 0.9])
@pytest.mark.parametrize("degrees", ["fixed", "uniform"])
def test_brf_zero_links_the_nearest(shape: tuple[int, int], sparsity: float, degrees: str) -> None:
    mask = initial_mask(shape, sparsity, "brf", seeded(), r=0.0, degrees=degrees)
    distance = ring_distance(shape)
    moved = 0
    for row, distances in zip(mask, distance, strict=True):
        nearest = distances.sort().values[: int(row.sum())]
        moved += not torch.allclose(distances[row].sort().values, nearest)
    # Random degrees may leave inputs between the receptive fields, which a link moves to.
    assert moved <= (0 if degrees == "fixed" else shape[0] // 4)


@pytest.mark.parametrize("shape", [(64, 64), (128, 32), (32, 128)])
def test_brf_fixed_degrees_are_equal(shape: tuple[int, int]) -> None:
    for sparsity in SPARSITIES:
        degrees = initial_mask(shape, sparsity, "brf", seeded()).sum(dim=1)
        if int(degrees.sum()) >= shape[0]:
            assert int(degrees.max() - degrees.min()) <= 1


@pytest.mark.parametrize("sparsity", [0.3, 0.9])
def test_brf_uniform_degrees_spread_evenly(sparsity: float) -> None:
    n_out, n_in = 2000, 200
    degrees = initial_mask((n_out, n_in), sparsity, "brf", seeded(), degrees="uniform").sum(dim=1)
    mean = (1 - sparsity) * n_in
    half = min(mean - 1, n_in - mean)
    assert mean - half - 1.01 <= int(degrees.min())
    assert int(degrees.max()) <= mean + half + 1.01
    # the quartiles of a uniform distribution
    quartiles = degrees.double().quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
    expected = torch.tensor([mean - half / 2, mean, mean + half / 2], dtype=torch.float64)
    assert float((quartiles - expected).abs().max()) < 0.1 * half


@pytest.mark.parametrize("r", [0.2, 0.25, 0.5])
def test_brf_draws_by_distance(r: float) -> None:
    """Inclusion probabilities of two draws, exactly; there are too few links for repairs."""
    n_out, n_in = 10, 40
    weights = (1 + ring_distance((n_out, n_in))[0]) ** (-(1 - r) / r)
    p = weights / weights.sum()
    others = p.repeat(n_in, 1).fill_diagonal_(0)
    included = p + (p[:, None] * others / (1 - p)[:, None]).sum(dim=0)
    layers = 200
    counts = torch.zeros(n_out, n_in)
    for seed in range(layers):
        mask = initial_mask((n_out, n_in), 0.95, "brf", seeded(seed), r=r)
        for u, row in enumerate(mask):
            counts[u] += row.roll(-4 * u)  # outputs lie four inputs apart

    def strays(rates: Tensor, draws: int) -> float:
        likely = included * draws > 5
        spread = (included * (1 - included) / draws).sqrt()
        return float(((rates - included).abs() / spread)[..., likely].max())

    assert strays(counts.sum(dim=0) / (layers * n_out), layers * n_out) < 5
    assert strays(counts / layers, layers) < 5  # each output on its own, those at the ends too


def test_brf_distances_go_around_the_ring() -> None:
    """The first output sits at 1.5 of 40 inputs: 4 to 21 are as near as 39 down to 22."""
    first = torch.stack(
        [initial_mask((10, 40), 0.95, "brf", seeded(s), r=0.5)[0] for s in range(200)]
    )
    right, left = int(first[:, 4:22].sum()), int(first[:, 22:].sum())
    assert right + left > 100
    assert abs(right - left) < 5 * math.sqrt(right + left)


# -- BSW


@pytest.mark.parametrize("shape", [(48, 48), (96, 16), (16, 96), (30, 45)])
def test_bsw_zero_is_a_regular_ring(shape: tuple[int, int]) -> None:
    for sparsity in (0.0, 0.5, 0.75, 0.9):
        mask = initial_mask(shape, sparsity, "bsw", seeded(), beta=0.0)
        larger = mask if shape[0] >= shape[1] else mask.T
        for side, difference in ((1, 1), (0, 2)):
            degrees = larger.sum(dim=side)
            assert int(degrees.max() - degrees.min()) <= difference
        distance = ring_distance((larger.shape[0], larger.shape[1]))
        for row, distances in zip(larger, distance, strict=True):
            nearest = distances.sort().values[: int(row.sum())]
            torch.testing.assert_close(distances[row].sort().values, nearest)


@pytest.mark.parametrize("beta", [0.1, 0.25, 0.6, 1.0])
@pytest.mark.parametrize("shape", [(200, 100), (100, 200)])
def test_bsw_rewires_its_share_along_the_larger_side(shape: tuple[int, int], beta: float) -> None:
    lattice = initial_mask(shape, 0.9, "bsw", seeded(), beta=0.0)
    mask = initial_mask(shape, 0.9, "bsw", seeded(), beta=beta)
    moved = int((mask & ~lattice).sum())
    assert abs(moved - beta * int(lattice.sum())) <= 1
    larger = 1 if shape[0] > shape[1] else 0
    assert torch.equal(mask.sum(dim=larger), lattice.sum(dim=larger))


def test_bsw_rewires_uniformly() -> None:
    counts = torch.zeros(40, 40)
    for seed in range(60):
        counts += initial_mask((40, 40), 0.9, "bsw", seeded(seed), beta=0.5)
    outside = ~initial_mask((40, 40), 0.9, "bsw", seeded(), beta=0.0)
    rates = counts[outside] / 60
    expected = 2 / 36  # two of four links of each node go to one of 36 others
    assert float(rates.mean()) == pytest.approx(expected, rel=0.01)  # repairs move a few
    variance = expected * (1 - expected) / 60
    assert float(((rates - expected) ** 2).mean()) == pytest.approx(variance, rel=0.15)


# -- BSF


@pytest.mark.parametrize("shape", [(1500, 1500), (3000, 1000)])
def test_bsf_degrees_follow_a_power_law(shape: tuple[int, int]) -> None:
    """Barabasi and Albert: P(degree) falls with the third power, by Hill's estimator."""
    mask = initial_mask(shape, 0.98, "bsf", seeded())
    for side in (0, 1):
        degrees = mask.sum(dim=side).double().sort(descending=True).values
        tail = degrees.numel() // 5
        exponent = 1 + 1 / float((degrees[:tail] / degrees[tail]).log().mean())
        assert 2.6 < exponent < 3.4
        assert float(degrees[0]) > 5 * float(degrees.mean())
        # a new node's links are half the mean degree: exactly on the outputs, else on average
        assert float(degrees[-1]) > (0.4 if side else 0.15) * float(degrees.mean())
    random = initial_mask(shape, 0.98, "er", seeded()).sum(dim=1).double().sort().values.flip(0)
    tail = random.numel() // 5
    assert 1 + 1 / float((random[:tail] / random[tail]).log().mean()) > 4


# -- from tensors


def test_magnitude_and_relative_importance() -> None:
    weight = torch.randn(20, 30)
    for kind, scores in (
        ("magnitude", weight.abs()),
        ("relative_importance", relative_importance(weight)),
    ):
        mask = initial_mask((20, 30), 0.7, kind, weight=weight)
        assert_valid(mask, (20, 30), 0.7)
        assert float(scores[mask].min()) > float(scores[~mask].max())
    assert initial_mask((20, 30), 0.0, "magnitude", weight=weight).all()


def test_csti_links_correlated_features() -> None:
    samples = torch.randn(400, 6, dtype=torch.float64)
    samples[:, 4] = -samples[:, 1] + 0.01 * torch.randn(400, dtype=torch.float64)
    samples[:, 5] = 3.0  # constant, so that its correlations are nan
    correlation = torch.corrcoef(samples.T)
    assert bool(correlation.isnan().any())
    # 5 features with themselves and the pair (1, 4) both ways, repeated for outputs 6 to 11
    mask = initial_mask((12, 6), 1 - 14 / 72, "csti", correlation=correlation)
    expected = torch.eye(6, dtype=torch.bool)
    expected[1, 4] = expected[4, 1] = True
    expected[5, 5] = False
    assert torch.equal(mask, expected.repeat(2, 1))
    own = torch.rand(3, 6)
    assert torch.equal(
        initial_mask((3, 6), 0.5, "csti", correlation=own),
        initial_mask((3, 6), 0.5, "magnitude", weight=own),
    )


# -- errors


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="unknown initial topology 'ba'; known are er, bsw, brf"):
        initial_mask((4, 4), 0.5, "ba")
    with pytest.raises(ValueError, match="unknown option 'beta': .*'brf' takes r, degrees"):
        initial_mask((4, 4), 0.5, "brf", beta=0.1)
    with pytest.raises(ValueError, match="unknown option 'r': .*'er' takes no options"):
        initial_mask((4, 4), 0.5, "er", r=0.1)
    with pytest.raises(ValueError, match="'weight' is missing"):
        initial_mask((4, 4), 0.5, "magnitude")
    with pytest.raises(ValueError, match=r"weight has shape \(4, 5\), the layer \(4, 4\)"):
        initial_mask((4, 4), 0.5, "magnitude", weight=torch.ones(4, 5))
    with pytest.raises(ValueError, match=r"correlation has shape \(4, 5\)"):
        initial_mask((4, 4), 0.5, "csti", correlation=torch.ones(4, 5))
    for sparsity in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match="sparsity = "):
            initial_mask((4, 4), sparsity)
    for shape in ((0, 4), (4,)):
        with pytest.raises(ValueError, match="shape = "):
            initial_mask(shape, 0.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="r = 1.5 must lie between 0 and 1"):
        initial_mask((4, 4), 0.5, "brf", r=1.5)
    with pytest.raises(ValueError, match="beta = -0.1 must lie between 0 and 1"):
        initial_mask((4, 4), 0.5, "bsw", beta=-0.1)
    with pytest.raises(ValueError, match="degrees = 'equal' must be 'fixed' or 'uniform'"):
        initial_mask((4, 4), 0.5, "brf", degrees="equal")


def test_link_count() -> None:
    assert link_count(1000, 0.9) == 100
    assert link_count(1000, 0.0) == 1000
    assert link_count(512 * 512, 0.95) == 13107
    with pytest.raises(ValueError, match="sparsity = 1.1"):
        link_count(10, 1.1)


# -- size


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(INITIAL_TOPOLOGIES))
@pytest.mark.parametrize("shape", [(16384, 4096), (4096, 16384)])
def test_a_large_layer_is_made_quickly(shape: tuple[int, int], kind: str) -> None:
    options: dict[str, Any] = {}
    if kind in ("magnitude", "relative_importance"):
        options["weight"] = torch.randn(shape)
    if kind == "csti":
        options["correlation"] = torch.rand(shape)
    start = time.process_time()
    mask = initial_mask(shape, 0.9, kind, seeded(), **options)
    # Under two seconds on two idle cores; the bound leaves room for a machine that is busy.
    assert time.process_time() - start < 5
    assert int(mask.count_nonzero()) == link_count(mask.numel(), 0.9)
