from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chts_hf.topology import schedules
from tests.topology import golden

RISES: list[Callable[[float, float, float], float]] = [
    schedules.sigmoid_sparsity,
    schedules.cubic_sparsity,
    schedules.linear_sparsity,
    schedules.two_drops_sparsity,
]


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("s_shape", schedules.sigmoid_sparsity),
        ("granet", schedules.cubic_sparsity),
        ("linear", schedules.linear_sparsity),
    ],
)
def test_density_decay_equals_the_reference(
    name: str, function: Callable[[float, float, float], float]
) -> None:
    vectors = golden.schedules()
    decay = vectors["meta"]["density_decay"]
    assert decay["k"] == 6  # the default steepness
    for step, expected in vectors[name].items():
        tau = int(step) / decay["steps"]
        value = function(tau, decay["initial_sparsity"], decay["final_sparsity"])
        assert value == pytest.approx(expected, abs=1e-12)


def test_cosine_equals_the_reference() -> None:
    vectors = golden.schedules()
    cosine = vectors["meta"]["cosine_zeta"]
    for step, expected in vectors["cosine_zeta"].items():
        value = schedules.cosine(int(step), cosine["t_end"], cosine["zeta"])
        assert value == pytest.approx(expected, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(initial=st.floats(0, 0.999), final=st.floats(0, 0.999), tau=st.floats(0, 1))
def test_density_decay_is_exact_at_its_ends_and_stays_between(
    initial: float, final: float, tau: float
) -> None:
    for rise in RISES:
        assert rise(0.0, initial, final) == rise(-1.0, initial, final) == initial
        assert rise(1.0, initial, final) == rise(7.0, initial, final) == final
        low, high = min(initial, final), max(initial, final)
        assert low - 1e-12 <= rise(tau, initial, final) <= high + 1e-12


@pytest.mark.parametrize("rise", RISES)
def test_density_decay_rises_all_the_way(rise: Callable[[float, float, float], float]) -> None:
    values = [rise(i / 50, 0.5, 0.9) for i in range(51)]
    assert values == sorted(values)


def test_shapes_of_density_decay() -> None:
    assert schedules.sigmoid_sparsity(0.5, 0.5, 0.9) == pytest.approx(0.7)
    assert schedules.sigmoid_sparsity(0.25, 0.5, 0.9, k=0.01) == pytest.approx(0.6, abs=1e-4)
    assert schedules.sigmoid_sparsity(0.49, 0.5, 0.9, k=5000) == pytest.approx(0.5)
    assert schedules.cubic_sparsity(0.5, 0.0, 0.8) == pytest.approx(0.7)
    drops = [schedules.two_drops_sparsity(tau, 0.5, 0.9) for tau in (0.0, 0.49, 0.5, 0.99, 1.0)]
    assert drops == pytest.approx([0.5, 0.5, 0.7, 0.7, 0.9])


def test_ends_of_cosine_and_linear() -> None:
    assert schedules.cosine(0, 300, 0.3) == schedules.cosine(-5, 300, 0.3) == 0.3
    assert schedules.cosine(300, 300, 0.3) == schedules.cosine(301, 300, 0.3) == 0.0
    assert schedules.cosine(150, 300, 0.3) == pytest.approx(0.15)
    assert schedules.linear(0, 300, 0.5, 0.9) == schedules.linear(-1, 300, 0.5, 0.9) == 0.5
    assert schedules.linear(300, 300, 0.5, 0.9) == schedules.linear(999, 300, 0.5, 0.9) == 0.9
    assert schedules.linear(75, 300, 0.5, 0.9) == pytest.approx(0.6)
    # a window of no length is over
    assert schedules.cosine(0, 0, 0.3) == 0.0
    assert schedules.linear(0, 0, 0.5, 0.9) == 0.9


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="end = -1"):
        schedules.cosine(0, -1, 0.3)
    with pytest.raises(ValueError, match="end = -2"):
        schedules.linear(0, -2, 0.5, 0.9)
    with pytest.raises(ValueError, match="k = 0"):
        schedules.sigmoid_sparsity(0.5, 0.5, 0.9, k=0)
    for rise in RISES:
        with pytest.raises(ValueError, match="nan"):
            rise(math.nan, 0.5, 0.9)
