"""Measures against graphs counted by hand and against brute force."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs the extra `analysis`")

from chts_hf.analysis import (  # noqa: E402
    MEASURES,
    Chain,
    Network,
    adjacency,
    analyse,
    bipartite_modularity,
    ccdf,
    find_communities,
    fit_power_law,
    hyperbolicity,
    single_layer,
)
from chts_hf.analysis import structure as s  # noqa: E402
from chts_hf.analysis.degrees import _draw, level_degrees  # noqa: E402
from chts_hf.analysis.hyperbolic import greedy_routability  # noqa: E402
from chts_hf.analysis.links import itop_at_random, returned_at_random  # noqa: E402
from chts_hf.analysis.measures import beside_null, compare  # noqa: E402
from chts_hf.analysis.paths import (  # noqa: E402
    distances,
    mean_and_error,
    path_lengths,
)
from tests.analysis.networks import ring_mask, small_chain, two_blocks  # noqa: E402


def test_clustering_is_one_in_complete_graphs_and_zero_in_trees():
    assert s.bipartite_clustering(single_layer("x", np.ones((3, 4), bool))) == pytest.approx(1)
    assert s.bipartite_clustering(single_layer("x", two_blocks())) == pytest.approx(1)
    star = np.zeros((3, 3), bool)
    star[0], star[:, 0] = True, True  # a tree: no square
    assert s.bipartite_clustering(single_layer("x", star)) == 0
    assert s.bipartite_clustering(single_layer("x", np.zeros((3, 3), bool))) == 0


def test_clustering_equals_brute_force_on_a_chain():
    chain = small_chain()
    mask = s.side_by_side(chain)
    squares = sum(
        (shared := int((mask[a] & mask[b]).sum())) * (shared - 1) // 2
        for a, b in combinations(range(len(mask)), 2)
    )
    paths = sum((mask[i].sum() - 1) * (mask[:, j].sum() - 1) for i, j in np.argwhere(mask))
    assert s.bipartite_clustering(chain) == pytest.approx(4 * squares / paths)


def test_path_lengths_of_a_chain_of_nodes():
    # in0 - out0 - in1 - out1: distances 1, 2, 3.
    mask = np.array([[1, 1], [0, 1]]) > 0
    matrix = adjacency(single_layer("x", mask))
    assert distances(matrix, np.array([0])).ravel().tolist() == [0, 2, 1, 3]
    assert path_lengths(matrix, np.arange(4)).mean() == pytest.approx((6 + 4 + 4 + 6) / 12)
    lonely = adjacency(single_layer("x", np.eye(2, dtype=bool)))
    assert distances(lonely, np.array([0])).ravel().tolist() == [0, -1, 1, -1]


def test_sampling_errors_shrink_to_zero_at_the_whole_population():
    values = np.array([1.0, 2.0, 3.0, 4.0])
    mean, error = mean_and_error(values, 400)
    assert mean == 2.5
    assert error == pytest.approx(values.std(ddof=1) / 2 * np.sqrt(0.99))
    assert mean_and_error(values, 4)[1] == 0


def test_sampled_path_lengths_lie_within_their_error(monkeypatch):
    rng = np.random.default_rng(0)
    network = Network(single_layer("x", rng.random((150, 150)) < 0.02), 0)
    exact = MEASURES["path_length"].function(network)
    monkeypatch.setattr("chts_hf.analysis.measures.PATH_SOURCES", 60)
    sampled = MEASURES["path_length"].function(network)
    assert exact.error == pytest.approx(0, abs=1e-12) or exact.error < sampled.error
    assert abs(sampled.value - exact.value) < 4 * sampled.error


def test_routing_is_sampled_with_its_standard_error(monkeypatch):
    network = Network(single_layer("x", np.random.default_rng(0).random((60, 50)) < 0.08), 0)
    embedding = network.embedding
    assert embedding is not None
    nodes = len(embedding.nodes)
    scores = greedy_routability(embedding, np.arange(nodes))
    monkeypatch.setattr("chts_hf.analysis.measures.ROUTING_TARGETS", nodes)
    exact = MEASURES["greedy_routability"].function(network)
    assert (exact.value, exact.error) == (pytest.approx(scores.mean()), 0)
    monkeypatch.setattr("chts_hf.analysis.measures.ROUTING_WORK", 0)  # now it is sampled
    monkeypatch.setattr("chts_hf.analysis.measures.ROUTING_TARGETS", 40)
    sampled = MEASURES["greedy_routability"].function(network)
    expected = scores.std(ddof=1) / np.sqrt(40) * np.sqrt(1 - 40 / nodes)
    assert sampled.error == pytest.approx(expected, rel=0.35)  # of another sample's deviation
    assert 0 < abs(sampled.value - exact.value) < 4 * sampled.error


def test_small_worldness_is_clustering_over_path_length_beside_those_of_chance():
    rows = {row.measure: row for row in analyse(small_chain(), ["clustering", "path_length"], 3)}
    for model in ("er", "degrees"):
        clustering, length = (
            np.array(rows[name].nulls[model].values) for name in ("clustering", "path_length")
        )
        if model == "er":  # the unit of all
            scale = length.mean() / clustering.mean()
        of_chance = scale * clustering / length
        assert rows["small_world"].nulls[model].values == pytest.approx(tuple(of_chance))
        sigma = scale * rows["clustering"].value / rows["path_length"].value
        assert compare(sigma, list(of_chance)).p == rows["small_world"].nulls[model].p
        assert rows["small_world"].value == pytest.approx(sigma)
    # Rings of links are small worlds by any account: many squares, and paths not much longer.
    ring = single_layer("x", ring_mask((60, 60), 400, r=0.2))
    found = {row.measure: row for row in analyse(ring, ["clustering", "path_length"], 2)}
    assert found["small_world"].value > 1.5


def test_measures_beside_the_null_model_that_tells_most():
    found = beside_null(small_chain(), ["anp", "clustering", "path_length"], 3)
    rows = {row.measure: row for row in analyse(small_chain(), nulls=3)}
    assert list(found)[-2:] == ["anp", "anp_er"]
    for name in ("clustering", "path_length", "anp"):
        assert found[name] == rows[name].value
    for name in ("clustering", "path_length"):
        assert found[f"{name}_rewired"] == rows[name].nulls["degrees"].mean
    assert found["anp_er"] == rows["anp"].nulls["er"].mean
    beside = rows["small_world"].nulls["degrees"]
    # Here the rewired networks are the unit, there the uniform ones.
    assert found["small_world"] / found["small_world_rewired"] == pytest.approx(
        rows["small_world"].value / beside.mean
    )
    assert beside_null(single_layer("x", np.zeros((4, 4), bool)), ["clustering"], 1) == {}


def test_modularity_of_two_blocks_is_one_half_and_leiden_finds_them():
    chain = single_layer("x", two_blocks())
    matrix, side = adjacency(chain), chain.levels % 2
    found = find_communities(matrix, side, seed=0)
    # inputs 0 1 | 2 3, outputs 0 1 | 2 3
    assert len(set(found)) == 2
    assert found[0] == found[1] == found[4] == found[5] != found[2]
    assert bipartite_modularity(matrix, side, found) == pytest.approx(0.5)
    assert bipartite_modularity(matrix, side, np.zeros(8, int)) == pytest.approx(0)


def test_communities_are_the_same_for_the_same_seed():
    chain = small_chain()
    matrix, side = adjacency(chain), chain.levels % 2
    assert np.array_equal(find_communities(matrix, side, 3), find_communities(matrix, side, 3))


def test_degree_distributions_and_their_power_law():
    values, share = ccdf(np.array([0, 1, 1, 2, 4]))
    assert values.tolist() == [1, 2, 4]
    assert share.tolist() == [1, 0.5, 0.25]
    rng = np.random.default_rng(0)
    law = fit_power_law(_draw(2.5, 3, 2000, rng), rng, samples=0)
    assert law is not None
    assert law.exponent == pytest.approx(2.5, abs=4 * law.error)
    assert law.against_exponential > 2
    assert fit_power_law(np.array([3, 3, 4]), rng) is None


@pytest.mark.parametrize(("exponent", "k_min"), [(2.2, 1), (2.5, 6), (3.5, 10)])
def test_the_fit_is_the_packages(exponent, k_min):
    powerlaw = pytest.importorskip("powerlaw")
    rng = np.random.default_rng(4)
    degree = _draw(exponent, k_min, 300, rng)
    degree[:60] = rng.integers(1, k_min + 1, 60)
    law = fit_power_law(degree, rng, samples=0)
    ranges = {"alpha": [1.01, 20]}
    other = powerlaw.Fit(
        degree, discrete=True, estimate_discrete=False, verbose=False, parameter_ranges=ranges
    )
    assert law is not None
    assert law.k_min == other.xmin
    assert law.exponent == pytest.approx(other.power_law.alpha, abs=1e-3)
    assert law.error == pytest.approx(other.power_law.sigma, rel=1e-3)
    # The package looks at the degrees that occur, and not at the gaps between them.
    assert law.distance == pytest.approx(other.power_law.D, abs=2e-3)
    assert law.distance > other.power_law.D - 1e-6


def test_degrees_in_a_narrow_range_far_out_are_no_power_law():
    # Exponents so large, so far out, that 1 minus a share is 1: no digits are left for the shares
    # unless they are computed by themselves.
    degree = np.random.default_rng(2).poisson(200, 512)
    law = fit_power_law(degree, np.random.default_rng(0))
    assert law is not None
    assert 0.05 < law.distance < 0.5
    assert law.p < 0.1
    assert law.verdict == "no power law"
    # Two degrees are no tail: some law goes through both of them.
    three = np.repeat([1, 2, 3, 4], [180, 40, 30, 9])
    law = fit_power_law(three, np.random.default_rng(0), samples=0)
    assert law is None or law.k_min <= 2
    falls_faster = np.array([500] * 100 + [501] * 10 + [502])
    assert fit_power_law(falls_faster, np.random.default_rng(0)) is None


def test_p_is_spread_evenly_where_the_law_is_true():
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        law = fit_power_law(_draw(2.5, 2, 200, rng), rng, samples=20)
        assert law is not None
        found.append(law.p)
    assert sum(p < 0.1 for p in found) <= 4
    assert 0.25 < np.mean(found) < 0.9
    assert np.std(found) > 0.1


def test_degrees_of_levels_are_those_of_the_network():
    chain = small_chain()
    levels = level_degrees(chain)
    assert list(levels) == ["all", "inputs", "hidden 1", "outputs"]
    degree = Network(chain, 0).degree
    assert np.array_equal(levels["all"], degree)
    for i, name in enumerate(["inputs", "hidden 1", "outputs"]):
        assert np.array_equal(levels[name], degree[chain.levels == i])
    sides = level_degrees(single_layer("x", chain.masks[0]))
    assert sides["inputs"].tolist() == chain.masks[0].sum(axis=0).tolist()
    assert sides["outputs"].tolist() == chain.masks[0].sum(axis=1).tolist()


@pytest.mark.parametrize(("name", "plausible"), [("law", True), ("poisson", False)])
def test_a_power_law_is_told_from_a_poisson_distribution(name, plausible):
    rng = np.random.default_rng(1)
    degree = _draw(2.5, 2, 400, rng) if name == "law" else rng.poisson(30, 400) + 1
    law = fit_power_law(degree, rng)
    assert law is not None
    assert law.plausible is plausible


def test_degree_correlation_follows_the_hubs():
    hubs_first = np.triu(np.ones((4, 4), bool))  # neuron i has 4 - i links
    same, other = hubs_first.T, hubs_first.T[:, ::-1]
    assert s.degree_correlation(Chain("c", ("a", "b"), (hubs_first, same))) == pytest.approx(1)
    assert s.degree_correlation(Chain("c", ("a", "b"), (hubs_first, other))) == pytest.approx(-1)
    assert np.isnan(s.degree_correlation(single_layer("a", same)))


def test_hub_paths_count_paths_through_the_busiest_neuron():
    # Hidden neuron 0: 3 in, 2 out, 6 paths; neurons 1 and 2: one in, one out each.
    first = np.array([[1, 1, 1], [1, 0, 0], [0, 1, 0]]) > 0
    second = np.array([[1, 1, 0], [1, 0, 1]]) > 0
    chain = Chain("c", ("a", "b"), (first, second))
    assert s.hub_paths(chain, share=1 / 3) == pytest.approx(6 / 8)


def test_hubs_have_the_most_links_and_not_the_most_paths():
    # Hidden neuron 0: 5 links in, 1 out, 5 paths. Neuron 1: 2 in, 3 out, 6 paths, fewer links.
    first = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]) > 0
    second = np.array([[1, 1], [0, 1], [0, 1]]) > 0
    chain = Chain("c", ("a", "b"), (first, second))
    assert s.hub_paths(chain, share=0.5) == pytest.approx(5 / 11)


def test_living_neurons_have_links_on_both_sides():
    first = np.array([[1, 0], [0, 0], [1, 1]]) > 0
    second = np.array([[1, 1, 0]]) > 0
    chain = Chain("c", ("a", "b"), (first, second))
    assert [mark.tolist() for mark in s.alive(chain)] == [
        [True, True],
        [True, False, False],
        [True],
    ]
    assert s.active_neuron_rate(chain) == pytest.approx(1 / 3)


def test_the_overlap_of_chance():
    # 10 weights, 4 links, 2 removed: 8 absent places, 2 draws, each hits a place with 1/4.
    assert returned_at_random(10, 4, 2, 2) == pytest.approx(2 * 0.25)
    assert returned_at_random(10, 4, 0, 0) == 0
    # Links of everywhere stay: nothing is absent.
    assert returned_at_random(10, 10, 0, 0) == 0


def test_the_overlap_of_chance_is_that_of_uniform_regrowth_where_the_density_falls():
    rng = np.random.default_rng(0)
    weights, before, kept, regrown = 10_000, 5_000, 800, 300
    returned = [
        np.count_nonzero(kept + rng.choice(weights - kept, regrown, replace=False) < before)
        for _ in range(50)
    ]  # links stand first, and those that stay the first of them
    found = returned_at_random(weights, kept + regrown, before - kept, regrown)
    assert found == pytest.approx(np.mean(returned), rel=0.03)


def test_the_itop_rate_of_chance_is_that_of_uniform_regrowth():
    rng = np.random.default_rng(0)
    weights, links, replaced = 20_000, 2_000, 600
    mask = np.arange(weights) < links
    ever = mask.copy()
    records = [{"update": 0, "layers": {"a": {"links": links, "regrown": 0}}}]
    for update in range(1, 11):
        mask[rng.choice(np.flatnonzero(mask), replaced, replace=False)] = False
        mask[rng.choice(np.flatnonzero(~mask), replaced, replace=False)] = True
        ever |= mask
        records.append({"update": update, "layers": {"a": {"links": links, "regrown": replaced}}})
    found = itop_at_random(records, {"a": weights})
    assert found is not None
    assert found[0] == links / weights
    assert found[-1] == pytest.approx(ever.mean(), rel=0.01)
    assert itop_at_random(records[::2], {"a": weights}) is None
    assert itop_at_random([], {}) is None


def test_comparisons_count_networks_at_least_as_far_out():
    assert compare(10.0, [1.0] * 9 + [2.0] * 10).p == pytest.approx(1 / 20)
    assert compare(0.0, [-5.0, 5.0, 0.1]).p == pytest.approx(1)
    assert compare(3.0, [3.0, 3.0]).p is None
    beside = compare(10.0, [1.0, 2.0, 6.0])
    assert (beside.mean, beside.values) == (3, (1, 2, 6))
    assert beside.deviation == pytest.approx(np.sqrt((4 + 1 + 9) / 3))
    with pytest.raises(ValueError, match="at least one"):
        compare(1.0, [])


def test_analysis_puts_every_measure_beside_both_null_models():
    rows = {row.measure: row for row in analyse(small_chain(), nulls=2)}
    assert rows.keys() == {*MEASURES, "small_world"}
    for row in rows.values():
        assert row.nulls.keys() == {"er", "degrees"}
    assert rows["links"].nulls["degrees"].p is None
    assert rows["links"].value == sum(mask.sum() for mask in small_chain().masks)
    again = {row.measure: row for row in analyse(small_chain(), ["modularity"], nulls=2)}
    assert again["modularity"] == rows["modularity"]
    with pytest.raises(ValueError, match="no measure x; there are links"):
        analyse(small_chain(), ["x"])


def test_a_layer_without_links_is_measured_without_complaint():
    rows = analyse(single_layer("x", np.zeros((4, 4), bool)), nulls=1)
    assert [(row.measure, row.value) for row in rows] == [("links", 0.0)]


def test_links_that_do_not_hang_together_have_no_place_in_the_disk():
    rows = {row.measure: row for row in analyse(single_layer("x", np.eye(10, dtype=bool)), nulls=3)}
    assert (rows["links"].value, rows["clustering"].value, rows["path_length"].value) == (10, 0, 1)
    assert rows["modularity"].value == pytest.approx(0.9)
    assert not {"greedy_routability", "angular_separation"} & rows.keys()
    with pytest.raises(ValueError, match="x has too few links for a place in the disk"):
        hyperbolicity(single_layer("x", np.eye(10, dtype=bool)))


@pytest.mark.parametrize("seed", range(30))
def test_whatever_is_small_is_measured_without_complaint(seed):
    rng = np.random.default_rng(seed)
    into, between, out = rng.integers(1, 7, 3)
    density = rng.random() ** 2
    first, second = rng.random((between, into)) < density, rng.random((out, between)) < density
    chain = single_layer("x", first) if seed % 2 else Chain("c", ("a", "b"), (first, second))
    rows = analyse(chain, nulls=1, seed=seed)
    assert rows[0].value == sum(mask.sum() for mask in chain.masks)
    assert all(np.isfinite(row.value) for row in rows)


def test_a_random_network_that_is_too_small_is_no_comparison():
    mask = np.zeros((3, 3), bool)
    mask[0, 0] = mask[1, 1] = True  # two links drawn at random often share a neuron
    rows = {row.measure: row for row in analyse(single_layer("x", mask), nulls=5)}
    assert rows["path_length"].value == 1
    assert rows["path_length"].nulls.keys() == {"degrees"}
    assert rows["links"].nulls.keys() == {"er", "degrees"}
