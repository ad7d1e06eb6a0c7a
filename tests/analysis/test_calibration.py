"""p-values mean what they say: rare in noise, and there where a geometry is."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs the extra `analysis`")

from chts_hf.analysis import Chain, analyse, erdos_renyi, rewire  # noqa: E402
from chts_hf.analysis.hyperbolic_model import hyperbolic_network  # noqa: E402
from chts_hf.analysis.measures import Comparison, Row, compare, judge  # noqa: E402

MEASURES = ("clustering", "path_length", "modularity", "greedy_routability", "angular_separation")
SIZES, LINKS = (24, 24, 24), 90
NETWORKS, NULLS = 40, 9
#: With nine random networks p <= 0.1 has a chance of 10 %: more than 10 of 40 is one in 700.
MOST = 10


def test_a_value_among_its_likes_has_every_p_equally_often():
    drawn = np.random.default_rng(0).standard_normal((4000, 20))
    two_sided = np.array([compare(row[0], list(row[1:])).p for row in drawn])
    assert np.bincount(np.round(two_sided * 20).astype(int))[1:] == pytest.approx(200, rel=0.3)
    one_sided = [judge(_rows(row, row)) for row in drawn]
    ps = np.array([verdict.p for verdict in one_sided if verdict is not None])
    assert np.bincount(np.round(ps * 20).astype(int))[1:] == pytest.approx(200, rel=0.3)
    # Both parts must hold: where they have nothing to do with each other, that is rarer still.
    both = [judge(_rows(a, b)) for a, b in zip(drawn[::2], drawn[1::2], strict=True)]
    assert np.mean([verdict.hyperbolic for verdict in both if verdict is not None]) < 0.01


def _rows(routability: np.ndarray, separation: np.ndarray) -> list[Row]:
    return [
        Row(name, values[0], 0.0, {"degrees": Comparison(0.0, 0.0, None, tuple(values[1:]))})
        for name, values in (
            ("greedy_routability", routability),
            ("angular_separation", separation),
        )
    ]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["er", "degrees"])
def test_networks_of_a_null_model_rarely_differ_from_it(model):
    rng = np.random.default_rng(1)
    found: dict[str, list[float]] = {}
    for seed in range(NETWORKS):
        network = _uniform(rng) if model == "er" else _of_hubs(rng)
        rows = analyse(network, MEASURES, nulls=NULLS, seed=seed, models=(model,))
        for row in rows:
            found.setdefault(row.measure, []).append(row.nulls[model].p)
        if (verdict := judge(rows)) is not None:
            found.setdefault("hyperbolic", []).append(verdict.p)
    assert found.keys() >= {*MEASURES, "small_world"}
    for name, ps in found.items():
        p = np.array(ps, dtype=float)  # None is NaN
        assert (p <= 0.1 + 1e-12).sum() <= MOST, name
        if name != "hyperbolic":
            assert np.nanmean(p) == pytest.approx(0.55, abs=4 * 0.29 / np.sqrt(NETWORKS)), name


@pytest.mark.slow
def test_networks_drawn_in_the_disk_are_recognised():
    # As large as in benchmarks/calibration.py; of smaller ones some are missed.
    for seed in range(3):
        chain, _ = hyperbolic_network((64, 64, 64), 410, np.random.default_rng(seed))
        verdict = judge(analyse(chain, MEASURES[3:], nulls=19, seed=seed, models=("degrees",)))
        assert verdict is not None
        assert verdict.hyperbolic, verdict


def _uniform(rng: np.random.Generator) -> Chain:
    places = np.arange(SIZES[0] * SIZES[1]).reshape(SIZES[1], SIZES[0])
    return Chain("er", ("a", "b"), tuple(erdos_renyi(places < LINKS, rng) for _ in range(2)))


def _of_hubs(rng: np.random.Generator) -> Chain:
    """The degrees of a network drawn in the disk, and nothing else of it."""
    chain, _ = hyperbolic_network(SIZES, LINKS, rng)
    return Chain("hubs", chain.layers, tuple(rewire(mask, rng, 64) for mask in chain.masks))
