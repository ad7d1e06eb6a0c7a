from __future__ import annotations

import math
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from chts_hf.topology import PREDICTORS, ch_scores, initial_mask, link_prediction
from tests.topology import golden

NODE_BASED = ("CH2-L3n", "CH3-L3n", "CH3.1-L3n")
PATH_BASED = ("CH2-L3p", "CH3-L3p")

FUNCTIONS: dict[str, Callable[[int, int], float]] = {
    "CH2": lambda i, e: (1 + i) / (1 + e),
    "CH3": lambda i, e: 1 / (1 + e),
    "CH3.1": lambda i, e: (1 + i) / (1 + e) ** (1 + e / (1 + e)),
}


def random_mask(shape: tuple[int, int], density: float, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < density


def by_enumeration(mask: Tensor, predictor: str) -> Tensor:
    """The definition, written out over the nodes of the graph."""
    name, kind = predictor.split("-")
    n_out, n_in = mask.shape
    inputs_of = [set(mask[u].nonzero().flatten().tolist()) for u in range(n_out)]
    outputs_of = [set(mask[:, v].nonzero().flatten().tolist()) for v in range(n_in)]

    def f(neighbours: list[set[int]], seed: int, z: int) -> float:
        i = len(neighbours[seed] & neighbours[z])
        e = max(0, len(neighbours[z]) - i - 1)
        return FUNCTIONS[name](i, e) if i else 0.0

    scores = torch.zeros(n_out, n_in, dtype=torch.float64)
    for u in range(n_out):
        for v in range(n_in):
            if mask[u, v]:
                continue
            if kind == "L3n":
                value = sum(f(inputs_of, u, other) for other in outputs_of[v])
                value += sum(f(outputs_of, v, other) for other in inputs_of[u])
            else:
                value = sum(
                    math.sqrt(f(inputs_of, u, other_u) * f(outputs_of, v, other_v))
                    for other_v in inputs_of[u]
                    for other_u in outputs_of[other_v] & outputs_of[v]
                )
            scores[u, v] = value
    return scores


@pytest.mark.parametrize("name", ["tiny", "square", "wide", "tall", "ultra"])
@pytest.mark.parametrize("predictor", PREDICTORS)
def test_equal_to_the_reference(name: str, predictor: str) -> None:
    vectors = golden.arrays("link_prediction.npz")
    expected = vectors[f"{name}/{predictor.replace('-', '_').replace('.', '_')}"]
    scores = ch_scores(vectors[f"{name}/mask"], predictor)
    tolerance = 1e-5 if predictor in NODE_BASED else 1e-10
    assert scores.dtype == (torch.float32 if predictor in NODE_BASED else torch.float64)
    torch.testing.assert_close(scores.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize(
    ("shape", "density"), [((9, 7), 0.5), ((5, 16), 0.3), ((16, 5), 0.6), ((12, 12), 0.15)]
)
def test_equal_to_the_definition(shape: tuple[int, int], density: float, predictor: str) -> None:
    for seed in range(3):
        mask = random_mask(shape, density, seed)
        expected = by_enumeration(mask, predictor)
        assert expected.max() > 0
        torch.testing.assert_close(
            ch_scores(mask, predictor).double(), expected, rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("predictor", NODE_BASED)
@pytest.mark.parametrize("shape", [(300, 50), (50, 300), (257, 256), (128, 129)])
@pytest.mark.parametrize("density", [0.1, 0.05])  # by dense products and by sparse ones
def test_blocks_add_up(
    shape: tuple[int, int], density: float, predictor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers of several row blocks, against the four matrix products written plainly."""
    monkeypatch.setattr(link_prediction, "_SPARSE_PRODUCT_WEIGHTS", 0)
    mask = random_mask(shape, density)
    a = mask.double()

    def similarity(adjacency: Tensor) -> Tensor:
        i = adjacency @ adjacency.T
        e = (adjacency.sum(1) - i - 1).clamp(min=0)
        name = predictor.split("-")[0]
        values = {
            "CH2": (1 + i) / (1 + e),
            "CH3": 1 / (1 + e),
            "CH3.1": (1 + i) / (1 + e) ** (1 + e / (1 + e)),
        }[name]
        return torch.where(i > 0, values, 0.0)

    expected = (similarity(a) @ a + (similarity(a.T) @ a.T).T).masked_fill(mask, 0)
    torch.testing.assert_close(ch_scores(mask, predictor).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_transposing_the_layer_transposes_the_scores(predictor: str) -> None:
    mask = random_mask((40, 23), 0.2)
    torch.testing.assert_close(ch_scores(mask.T, predictor), ch_scores(mask, predictor).T)


@pytest.mark.parametrize("shape", [(60, 60), (200, 30), (30, 200)])
def test_ch2_l3n_scores_sum_to_an_integer(shape: tuple[int, int]) -> None:
    for seed in range(5):
        total = float(ch_scores(random_mask(shape, 0.15, seed)).double().sum())
        assert total > 100
        assert abs(total - round(total)) < 1e-5 * total


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_extreme_masks(predictor: str) -> None:
    for mask in (torch.zeros(4, 6), torch.ones(4, 6), torch.eye(5), torch.ones(1, 7)):
        assert not ch_scores(mask.bool(), predictor).any()
    # One link short of complete: the missing one is scored, and alone.
    mask = torch.ones(4, 5, dtype=torch.bool)
    mask[2, 3] = False
    scores = ch_scores(mask, predictor)
    assert scores[2, 3] > 0
    assert torch.equal(scores > 0, ~mask)


def test_a_path_sum_in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = random_mask((30, 20), 0.3)
    whole = ch_scores(mask, "CH3-L3p")
    monkeypatch.setattr("chts_hf.topology.link_prediction._PATH_ELEMENTS", 50)
    torch.testing.assert_close(ch_scores(mask, "CH3-L3p"), whole)


def test_autocast_does_not_round_the_counts() -> None:
    mask = random_mask((40, 600), 0.9)  # more than 256 shared neighbours
    expected = ch_scores(mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ch_scores(mask), expected)


def test_the_mask_is_not_changed_and_no_graph_is_built() -> None:
    mask = random_mask((20, 20), 0.2)
    before = mask.clone()
    with torch.enable_grad():
        assert not ch_scores(mask).requires_grad
    assert torch.equal(mask, before)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="unknown predictor 'CH4'.*CH2-L3n, CH3-L3n"):
        ch_scores(torch.ones(2, 2, dtype=torch.bool), "CH4")
    with pytest.raises(ValueError, match="bool matrix, got torch.float32"):
        ch_scores(torch.ones(2, 2))
    with pytest.raises(ValueError, match="bool matrix"):
        ch_scores(torch.ones(2, dtype=torch.bool))


def peak_bytes(function: Callable[[], object]) -> int:
    """The most that is allocated at one time while the function runs, its result included."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        kept = function()
    assert kept is not None
    results = profile.profiler.kineto_results
    events = [event for event in results.events() if event.name() == "[memory]"]
    assert events
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


@pytest.mark.parametrize("shape", [(512, 512), (2048, 512), (512, 2048)])
@pytest.mark.parametrize("density", [0.1, 0.07])  # by dense products and by sparse ones
def test_memory_is_bounded(shape: tuple[int, int], density: float) -> None:
    """At most twice the largest of the plain products' matrices, beside the result."""
    mask = random_mask(shape, density)
    largest = 4 * max(shape) * max(shape)
    assert peak_bytes(lambda: ch_scores(mask)) - 4 * mask.numel() <= 2 * largest


def test_memory_of_path_based_scores_is_bounded() -> None:
    mask = random_mask((400, 150), 0.05)
    assert peak_bytes(lambda: ch_scores(mask, "CH3-L3p")) <= 8 * 6 * mask.numel()


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2048, 512), (512, 2048)])
@pytest.mark.parametrize("sparsity", [0.9, 0.93])
def test_no_slower_than_plain_products(shape: tuple[int, int], sparsity: float) -> None:
    mask = initial_mask(shape, sparsity, generator=torch.Generator().manual_seed(0))

    def plain() -> Tensor:
        a = mask.float()
        return (a @ a.T) @ a + ((a.T @ a) @ a.T).T

    def seconds(function: Callable[[], Tensor]) -> float:
        start = time.process_time()
        function()
        return time.process_time() - start

    times = [(seconds(plain), seconds(lambda: ch_scores(mask))) for _ in range(15)]
    # The fastest of many runs each; a tenth is left for a machine that does other things.
    assert min(ours for _, ours in times) < 1.1 * min(theirs for theirs, _ in times)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(64, 64), (64, 512), (512, 512)])
def test_small_layers_are_not_slower_for_being_sparse(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = random_mask(shape, 0.07)

    def seconds(largest_density: float) -> float:
        monkeypatch.setattr(link_prediction, "_SPARSE_PRODUCT_DENSITY", largest_density)
        start = time.process_time()
        for _ in range(5):
            ch_scores(mask)
        return time.process_time() - start

    times = [(seconds(0.08), seconds(0)) for _ in range(15)]
    assert min(chosen for chosen, _ in times) < 1.15 * min(dense for _, dense in times)


@pytest.mark.slow
def test_sparser_layers_are_faster() -> None:
    """With a hundredth of the links a CPU scores in well under half the time."""

    def seconds(sparsity: float) -> float:
        mask = initial_mask((1500, 1500), sparsity, generator=torch.Generator().manual_seed(0))
        ch_scores(mask)
        start = time.process_time()
        ch_scores(mask)
        return time.process_time() - start

    assert min(seconds(0.99) for _ in range(5)) < 0.5 * min(seconds(0.9) for _ in range(5))
