"""The measures by name, and each beside the same measure of random networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from tqdm.auto import tqdm

from chts_hf.analysis import structure
from chts_hf.analysis.communities import bipartite_modularity
from chts_hf.analysis.degrees import fit_power_law
from chts_hf.analysis.graph import Network
from chts_hf.analysis.hyperbolic import angular_separation, greedy_routability
from chts_hf.analysis.network import Chain, largest_component
from chts_hf.analysis.nulls import NULL_MODELS, null_chain
from chts_hf.analysis.paths import mean_and_error, path_lengths, sample_nodes

#: Sources of shortest paths, in networks with more nodes than that.
PATH_SOURCES = 256
#: Greedy routing goes to all nodes where nodes times links stay below the first (about a second);
#: else to as many as that allows, and to the second at least.
ROUTING_WORK, ROUTING_TARGETS = 20_000_000, 64
#: What a verdict on hyperbolicity needs. It asks for more than in random networks, not for other
#: values, so that the p-values of these measures are one-sided.
HYPERBOLIC = ("greedy_routability", "angular_separation")


@dataclass(frozen=True)
class Value:
    """A measured number and its standard error.

    Attributes:
        value: the number.
        error: of sampled nodes, or of a fit. 0 for what is exact, and for what is a single draw of
            the seed: modularity and angular separation.
    """

    value: float
    error: float = 0.0


@dataclass(frozen=True)
class Measure:
    """One measure of a network.

    Attributes:
        name: what it goes by.
        summary: what it says, in a few words.
        function: network → value; NaN where it means nothing.
        by_degrees: it follows from the degrees of each layer, so that rewiring leaves it alone.
    """

    name: str
    summary: str
    function: Callable[[Network], Value]
    by_degrees: bool = False


def _links(network: Network) -> Value:
    return Value(float(sum(np.count_nonzero(mask) for mask in network.chain.masks)))


def _density(network: Network) -> Value:
    return Value(_links(network).value / sum(mask.size for mask in network.chain.masks))


def _exponent(network: Network) -> Value:
    law = fit_power_law(network.degree.astype(np.int64), network.generator(2), samples=0)
    return Value(float("nan")) if law is None else Value(law.exponent, law.error)


def _path_length(network: Network) -> Value:
    component = largest_component(network.matrix)
    part = network.matrix[component][:, component]
    sources = sample_nodes(len(component), PATH_SOURCES, network.generator(3))
    return Value(*mean_and_error(path_lengths(part, sources), len(component)))


def _modularity(network: Network) -> Value:
    side = network.chain.levels % 2
    return Value(bipartite_modularity(network.matrix, side, network.communities))


def _routability(network: Network) -> Value:
    embedding = network.embedding
    if embedding is None:
        return Value(float("nan"))
    nodes = len(embedding.nodes)
    most = max(ROUTING_TARGETS, ROUTING_WORK // embedding.matrix.nnz)
    targets = sample_nodes(nodes, most, network.generator(4))
    return Value(*mean_and_error(greedy_routability(embedding, targets), nodes))


def _separation(network: Network) -> Value:
    embedding = network.embedding
    if embedding is None:
        return Value(float("nan"))
    communities = network.communities[embedding.nodes]
    return Value(angular_separation(embedding.angle, communities, network.generator(5)))


def _of_chain(function: Callable[[Chain], float]) -> Callable[[Network], Value]:
    return lambda network: Value(function(network.chain))


#: All measures, in the order in which tables show them.
MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        m.name: m
        for m in (
            Measure("links", "links", _links, by_degrees=True),
            Measure("density", "links / weights", _density, by_degrees=True),
            Measure(
                "anp",
                "neurons between these layers that have links on both sides, share",
                _of_chain(structure.active_neuron_rate),
                by_degrees=True,
            ),
            Measure("exponent", "power-law exponent of the degrees' tail", _exponent, True),
            Measure(
                "clustering",
                "share of paths of three links that close to a square",
                _of_chain(structure.bipartite_clustering),
            ),
            Measure("path_length", "characteristic path length", _path_length),
            Measure("modularity", "Barber's modularity of Leiden communities", _modularity),
            Measure(
                "degree_correlation",
                "degrees of one layer against those of the next, Spearman",
                _of_chain(structure.degree_correlation),
                by_degrees=True,
            ),
            Measure(
                "hub_paths",
                "share of credit-assignment paths through the top 10 % of neurons",
                _of_chain(structure.hub_paths),
            ),
            Measure("greedy_routability", "GR-score in the hyperbolic disk", _routability),
            Measure("angular_separation", "ASI of the communities in the disk", _separation),
        )
    }
)


@dataclass(frozen=True)
class Comparison:
    """A measure beside its distribution over networks of one null model.

    Attributes:
        mean: over the random networks.
        deviation: their standard deviation.
        p: ``(1 + number of random networks at least as far from their mean) / (1 + their number)``:
            both directions count. None where the null model keeps the measure as it is.
        values: of the random networks.
    """

    mean: float
    deviation: float
    p: float | None
    values: tuple[float, ...]


@dataclass(frozen=True)
class Row:
    """One measure of one network, beside the null models' (``nulls``: model → comparison)."""

    measure: str
    value: float
    error: float
    nulls: Mapping[str, Comparison]

    @property
    def one_sided(self) -> bool:
        """Whether only larger values count as far from the random networks'."""
        return self.measure in HYPERBOLIC

    def p(self, model: str) -> float | None:
        """The p-value to show beside a null model: one-sided where the measure is.

        Returns:
            ``(1 + random networks with at least this value) / (1 + their number)`` for what
            :data:`HYPERBOLIC` names, else :attr:`Comparison.p`.

        Raises:
            KeyError: the measure was not compared with this null model.
        """
        comparison = self.nulls[model]
        if not self.one_sided:
            return comparison.p
        above = sum(other >= self.value for other in comparison.values)
        return (1 + above) / (1 + len(comparison.values))


def compare(value: float, random: Sequence[float]) -> Comparison:
    """Place a value within those of random networks; see :class:`Comparison`.

    Raises:
        ValueError: there is no random network.
    """
    if not random:
        raise ValueError("a comparison needs at least one random network")
    sample = np.array(random)
    mean, deviation = float(sample.mean()), float(sample.std())
    if not np.isfinite([value, mean]).all():
        return Comparison(mean, deviation, None, tuple(random))
    if np.allclose(sample, value, rtol=1e-9, atol=1e-12):
        return Comparison(mean, deviation, None, tuple(random))
    # The value takes part in the mean, so that all networks are alike if the null model is true.
    centre = float(np.append(sample, value).mean())
    farther = int((np.abs(sample - centre) >= abs(value - centre) * (1 - 1e-12)).sum())
    return Comparison(mean, deviation, (1 + farther) / (1 + len(sample)), tuple(random))


def analyse(
    chain: Chain,
    measures: Sequence[str] = tuple(MEASURES),
    nulls: int = 19,
    seed: int = 0,
    models: Sequence[str] = tuple(NULL_MODELS),
) -> list[Row]:
    """Measure a network and as many random ones of each null model; on a terminal, count them.

    Args:
        chain: the layers.
        measures: names of :data:`MEASURES`. With ``clustering`` and ``path_length`` both there, a
            row ``small_world`` follows: ``σ = (C / C_null) / (L / L_null)`` (Humphries and Gurney
            2008), above 1 where the network is more clustered than its paths are longer. The means
            C_null and L_null are the first model's, also for the other's networks.
        nulls: random networks per null model; the smallest possible p is ``1 / (nulls + 1)``.
        seed: of all random choices.
        models: names of :data:`chts_hf.analysis.nulls.NULL_MODELS`.

    Returns:
        A row per measure; measures that mean nothing here (NaN) are left out.

    Raises:
        ValueError: there is no such measure or null model.

    Example:
        >>> rows = analyse(single_layer("fc", mask), ["clustering", "path_length"], nulls=19)
    """
    unknown = [name for name in measures if name not in MEASURES]
    if unknown:
        raise ValueError(f"no measure {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    values = measure(Network(chain, seed), measures)
    random: dict[str, list[dict[str, Value]]] = {}
    for model in models:
        networks = (
            Network(null_chain(chain, model, np.random.default_rng([seed, 7, i])), seed)
            for i in tqdm(range(nulls), f"{chain.name}: {model}", leave=False, disable=None)
        )
        kept = {n: v for n, v in values.items() if model == "degrees" and MEASURES[n].by_degrees}
        moving = [name for name in values if name not in kept]
        random[model] = [kept | measure(network, moving) for network in networks]
    rows = []
    for name, found in values.items():
        beside = {
            model: compare(found.value, [sample[name].value for sample in samples])
            for model, samples in random.items()
            if all(name in sample for sample in samples) and samples
        }
        rows.append(Row(name, found.value, found.error, beside))
    return rows + _small_world(values, random)


def measure(network: Network, measures: Sequence[str] | Mapping[str, Value]) -> dict[str, Value]:
    """Take measures of one network; those that mean nothing for it (NaN) are left out."""
    if np.count_nonzero(network.degree) < 4:
        return {name: MEASURES[name].function(network) for name in measures if name == "links"}
    values = {name: MEASURES[name].function(network) for name in measures}
    return {name: found for name, found in values.items() if np.isfinite(found.value)}


def _small_world(
    values: Mapping[str, Value], random: Mapping[str, Sequence[Mapping[str, Value]]]
) -> list[Row]:
    parts = {"clustering", "path_length"}
    if not parts <= values.keys():
        return []
    ratio = values["clustering"].value / values["path_length"].value
    beside: dict[str, Comparison] = {}
    scale = float("nan")
    for model, samples in random.items():
        if not all(parts <= sample.keys() for sample in samples):
            continue  # a random network of so few links may have neither
        clustering = float(np.mean([s["clustering"].value for s in samples]))
        length = float(np.mean([s["path_length"].value for s in samples]))
        if clustering == 0:
            continue
        # One unit for all: the first model's mean. Which it is does not change any p.
        scale = length / clustering if np.isnan(scale) else scale
        sigma = [scale * s["clustering"].value / s["path_length"].value for s in samples]
        beside[model] = compare(ratio * scale, sigma)
    return [Row("small_world", ratio * scale, 0.0, beside)] if beside else []


def beside_null(
    chain: Chain, measures: Sequence[str], nulls: int, seed: int = 0
) -> dict[str, float]:
    """Measures of a network, each followed by its mean over the random networks that tell most.

    Args:
        chain: the layers.
        measures: names of :data:`MEASURES`; ``small_world`` comes along as in :func:`analyse`.
        nulls: random networks.
        seed: of all random choices.

    Returns:
        ``{"modularity": …, "modularity_rewired": …}``: with the same degrees; ``{"anp": …,
        "anp_er": …}``: as many links drawn uniformly, where rewiring keeps the measure. Without
        the mean where a random network lacks the measure.
    """
    found: dict[str, float] = {}
    for model, suffix in (("degrees", "rewired"), ("er", "er")):
        names = [name for name in measures if MEASURES[name].by_degrees == (model == "er")]
        for row in analyse(chain, names, nulls, seed, (model,)) if names else ():
            found[row.measure] = row.value
            if model in row.nulls:
                found[f"{row.measure}_{suffix}"] = row.nulls[model].mean
    return found


@dataclass(frozen=True)
class Verdict:
    """Whether a network is hyperbolic beyond its degrees.

    Attributes:
        hyperbolic: both parts hold: it is routed through better, and its communities are better
            separated by angle, than in networks of the same degrees.
        p: the larger of the two p-values: both must hold, so that this is the test's level
            (intersection-union, Berger 1982).
        parts: measure → its p-value, one-sided: see :meth:`Row.p`.
        routability: GR-score, and its mean over the rewired networks.
        separation: ASI, and its mean over the rewired networks.
    """

    hyperbolic: bool
    p: float
    parts: Mapping[str, float]
    routability: tuple[float, float]
    separation: tuple[float, float]


def hyperbolicity(chain: Chain, nulls: int = 19, seed: int = 0, level: float = 0.05) -> Verdict:
    """Test a network against degree-preserving rewirings of itself, embedded in the same way.

    Args:
        chain: the layers.
        nulls: rewired networks; at least ``1 / level - 1``.
        seed: of all random choices.
        level: the chance to call a random network of these degrees hyperbolic, at most.

    Raises:
        ValueError: so few rewired networks can never reach the level.
    """
    if 1 / (nulls + 1) > level + 1e-12:
        raise ValueError(
            f"nulls = {nulls} gives no p below {1 / (nulls + 1):.3g}; level {level:g} needs at "
            f"least {int(np.ceil(1 / level - 1 - 1e-9))}"
        )
    verdict = judge(analyse(chain, HYPERBOLIC, nulls, seed, ("degrees",)), level)
    if verdict is None:
        raise ValueError(f"{chain.name} has too few links for a place in the disk")
    return verdict


def judge(rows: Sequence[Row], level: float = 0.05) -> Verdict | None:
    """The verdict from rows of :func:`analyse`; None where a part of it was not measured."""
    found = {row.measure: row for row in rows}
    parts = [found[name] for name in HYPERBOLIC if name in found and "degrees" in found[name].nulls]
    if len(parts) < len(HYPERBOLIC):
        return None
    ps = {row.measure: p for row in parts if (p := row.p("degrees")) is not None}
    p = max(ps.values())
    routability, separation = ((row.value, row.nulls["degrees"].mean) for row in parts)
    return Verdict(p <= level + 1e-12, p, ps, routability, separation)
