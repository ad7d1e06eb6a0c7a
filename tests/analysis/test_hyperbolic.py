"""The disk: angles found again, distances, routing, separation, and the verdict."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs the extra `analysis`")

from chts_hf.analysis import (  # noqa: E402
    Chain,
    adjacency,
    angular_separation,
    coalescent_embedding,
    greedy_routability,
    hyperbolicity,
    single_layer,
)
from chts_hf.analysis import embedding as e  # noqa: E402
from tests.analysis.networks import hyperbolic_mask, ring_mask, small_chain  # noqa: E402


def test_link_lengths_are_ra1():
    mask = np.array([[1, 1], [0, 1]]) > 0  # degrees: inputs 1, 2; outputs 2, 1
    lengths = e.repulsion_attraction(adjacency(single_layer("x", mask))).toarray()
    assert lengths[0, 2] == 1 + 2 + 1 * 2
    assert lengths[1, 2] == 2 + 2 + 2 * 2
    assert lengths[0, 3] == 0
    triangle = (np.ones((3, 3)) - np.eye(3)) * 1.0
    from scipy.sparse import csr_array

    assert e.repulsion_attraction(csr_array(triangle)).toarray()[0, 1] == (2 + 2 + 4) / 2


def test_isomap_places_a_path_on_a_line():
    from scipy.sparse import csr_array

    path = csr_array(np.diag(np.array([1.0, 2.0, 3.0]), 1) + np.diag(np.array([1.0, 2.0, 3.0]), -1))
    place = e.isomap(path, 1, np.random.default_rng(0))[:, 0]
    assert np.abs(place - place[0]) == pytest.approx([0, 1, 3, 6])


def test_landmarks_place_nodes_nearly_as_all_nodes_do(monkeypatch):
    mask, _ = hyperbolic_mask((120, 80), 900, seed=0)
    matrix = adjacency(single_layer("x", mask))
    exact = coalescent_embedding(matrix, np.random.default_rng(0))
    monkeypatch.setattr(e, "LANDMARKS", 60)
    sampled = coalescent_embedding(matrix, np.random.default_rng(0))
    assert _agreement(exact.angle, sampled.angle) > 0.9


@pytest.mark.parametrize("seed", [0, 1])
def test_the_angles_a_network_was_made_with_are_found_again(seed):
    mask, angle = hyperbolic_mask((128, 96), 1000, seed)
    found = coalescent_embedding(adjacency(single_layer("x", mask)), np.random.default_rng(seed))
    assert _agreement(angle[found.nodes], found.angle) > 0.9
    degree = np.asarray(found.matrix.sum(axis=0)).ravel()
    assert found.radius[degree.argmax()] == found.radius.min()


def _agreement(one: np.ndarray, other: np.ndarray) -> float:
    """Mean resultant length of the differences: 1 for the same angles up to a turn and a mirror."""
    a, b = np.exp(1j * one), np.exp(1j * other)
    return float(max(abs((a * b).mean()), abs((a * b.conj()).mean())))


def test_distances_in_the_disk():
    place = e.Embedding(np.arange(3), np.array([0.0, np.pi, 0.0]), np.array([1.0, 2.0, 2.5]), None)
    found = e.hyperbolic_distance(place, np.array([0, 0, 1]), np.array([1, 2, 1]))
    assert found == pytest.approx([3.0, 1.5, 0.0])  # across the centre, along a ray, to itself
    assert e.equidistant(np.array([3.0, 0.1, 1.0])) == pytest.approx(
        [4 * np.pi / 3, 0, 2 * np.pi / 3]
    )


def test_radii_follow_popularity():
    # β = 1 / (3 - 1): r_i = ln i + ln N. The two nodes of degree 2 share the places 2 and 3.
    found = e.radii(np.array([2.0, 5.0, 2.0, 1.0]), gamma=3)
    assert found == pytest.approx(np.log([2.5, 1, 2.5, 4]) + np.log(4))
    # γ → ∞, β → 0: all at the rim, 2 ln N.
    assert e.radii(np.array([2.0, 5.0]), gamma=1e9) == pytest.approx([2 * np.log(2)] * 2)


def test_an_embedding_has_the_radii_of_its_degrees():
    mask, _ = hyperbolic_mask((30, 20), 120, seed=0)
    for gamma in (None, 2.5):
        found = coalescent_embedding(
            adjacency(single_layer("x", mask)), np.random.default_rng(0), gamma
        )
        degree = np.asarray(found.matrix.sum(axis=0)).ravel()
        likeliest = 1 + len(degree) / np.log(2 * degree / (2 * degree.min() - 1)).sum()
        assert found.radius == pytest.approx(e.radii(degree, gamma or likeliest))


def test_greedy_routing_on_a_ring_that_is_laid_out_well_and_badly():
    n = 12
    half = n // 2
    mask = (np.eye(half) + np.roll(np.eye(half), 1, axis=1)).astype(bool)  # a ring of 12 nodes
    matrix = adjacency(single_layer("x", mask))
    angle = np.empty(n)
    # outputs i between inputs i and i + 1
    angle[:half], angle[half:] = np.arange(half) * 2, np.arange(half) * 2 + 1
    angle *= 2 * np.pi / n
    good = e.Embedding(np.arange(n), angle, np.ones(n), matrix)
    assert greedy_routability(good, np.arange(n)) == pytest.approx(np.ones(n))
    shuffled = e.Embedding(
        np.arange(n), np.random.default_rng(0).permutation(angle), np.ones(n), matrix
    )
    assert greedy_routability(shuffled, np.arange(n)).mean() < 0.7


def test_angular_separation_of_sectors_and_of_a_mixture():
    angle = np.linspace(0, 6, 40)
    rng = np.random.default_rng(0)
    sectors = np.repeat([0, 1, 2, 3], 10)
    assert angular_separation(angle, sectors, rng) == 1
    assert angular_separation(angle, np.roll(sectors, 3), rng) == 1  # around the circle's end
    assert angular_separation(angle, np.tile([0, 1, 2, 3], 10), rng) < 0.1


def test_networks_with_a_geometry_are_called_hyperbolic():
    disk, _ = hyperbolic_mask((96, 64), 620, seed=0)
    for mask in (disk, ring_mask((64, 48), 400, r=0.1)):
        verdict = hyperbolicity(single_layer("x", mask))
        assert verdict.hyperbolic, verdict
        assert verdict.p == pytest.approx(0.05)


def test_random_networks_are_not_called_hyperbolic():
    # At most 5 % by the test's level, and far fewer, as both of its parts must hold.
    rng = np.random.default_rng(0)
    for seed in range(2):
        masks = (rng.random((48, 32)) < 0.13, rng.random((32, 48)) < 0.13)
        assert not hyperbolicity(Chain("c", ("a", "b"), masks), seed=seed).hyperbolic


def test_hubs_alone_are_not_a_geometry():
    # Degrees of a power law, otherwise random: what the null model is there to rule out.
    from chts_hf.analysis import rewire

    mask, _ = hyperbolic_mask((96, 64), 620, seed=2)
    assert not hyperbolicity(single_layer("x", rewire(mask, np.random.default_rng(5)))).hyperbolic


def test_too_few_null_networks_are_refused():
    with pytest.raises(ValueError, match="needs at least 19"):
        hyperbolicity(small_chain(), nulls=10)
