"""Degrees of neurons, and whether a power law describes them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from chts_hf.analysis.network import Chain, Floats, Ints, Mask


def degrees(mask: Mask) -> tuple[Ints, Ints]:
    """Links of each output (row) and of each input (column)."""
    return np.count_nonzero(mask, axis=1), np.count_nonzero(mask, axis=0)


def level_degrees(chain: Chain) -> dict[str, Ints]:
    """Links of the neurons of each level, those before and after them together.

    Returns:
        "all" neurons, then "inputs", "hidden 1" …, "outputs" of the chain.
    """
    first, *between = chain.masks
    levels = [degrees(first)[1]]
    for before, after in zip([first, *between], between, strict=False):
        levels.append(degrees(before)[0] + degrees(after)[1])
    levels.append(degrees(chain.masks[-1])[0])
    names = ["inputs", *(f"hidden {i}" for i in range(1, len(levels) - 1)), "outputs"]
    return {"all": np.concatenate(levels), **dict(zip(names, levels, strict=True))}


def ccdf(degree: Ints) -> tuple[Ints, Floats]:
    """The distinct positive degrees, ascending, and the share of neurons of at least each."""
    values, counts = np.unique(degree[degree > 0], return_counts=True)
    return values, counts[::-1].cumsum()[::-1] / max(counts.sum(), 1)


#: Exponents that are tried.
_EXPONENTS = (1.01, 20.0)


@dataclass(frozen=True)
class PowerLaw:
    """A power law ``P(k) ∝ k^-γ`` for k ≥ k_min, and how well it describes degrees.

    Attributes:
        exponent: γ, by maximum likelihood.
        error: its standard error.
        k_min: the degree from which on it holds, where the fit is best.
        distance: Kolmogorov-Smirnov distance between the tail and the law.
        p: share of samples from the fitted law, each fitted anew, that lie farther from their own
            fit; below 0.1 the power law is refused (Clauset et al. 2009).
        tail: neurons with at least k_min links.
        against_exponential: log-likelihood ratio to an exponential, normalised; positive where the
            power law is better, NaN where ``powerlaw`` has no digits left to tell.
    """

    exponent: float
    error: float
    k_min: int
    distance: float
    p: float
    tail: int
    against_exponential: float

    @property
    def verdict(self) -> str:
        """What the numbers say, in words."""
        if self.plausible:
            return "a power law is plausible"
        if self.p < 0.1:
            return "no power law"
        if self.against_exponential <= 0:
            return "an exponential tail fits as well or better"
        if self.tail < 50:
            return "too few neurons in the tail to tell"
        return "not told from an exponential tail"

    def share_from(self, k: Ints) -> Floats:
        """The share of the tail with at least k links by the law: ``ζ(γ, k) / ζ(γ, k_min)``."""
        from scipy.special import zeta

        found: Floats = zeta(self.exponent, k.astype(float)) / zeta(self.exponent, self.k_min)
        return found

    @property
    def plausible(self) -> bool:
        """Whether the data do not refuse the law and a tail of 50 neurons or more supports it."""
        return self.p >= 0.1 and self.tail >= 50 and self.against_exponential > 0


def fit_power_law(degree: Ints, rng: np.random.Generator, samples: int = 100) -> PowerLaw | None:
    """Fit a discrete power law to the tail of degrees (Clauset et al. 2009).

    Exponent and k_min are those of the package ``powerlaw`` (Alstott et al. 2014), which compares
    the law with an exponential here. It tries one k_min after the other, so that one sample takes
    it as long as a hundred take here, and its distances lose all digits where the exponent is large
    and k_min far out.

    Args:
        degree: the degrees; zeros are left out.
        rng: draws the samples for p: the data's own values below k_min, the law's above.
        samples: how many; the standard error of p is at most ``0.5 / √samples``. 0: p is NaN.

    Returns:
        None where there are fewer than three distinct degrees, or every tail falls faster than
        ``k^-20``: nothing to fit.
    """
    positive = degree[degree > 0]
    fit = _fit(positive)
    if fit is None:
        return None
    tail = positive >= fit.k_min
    size = (samples, len(positive))
    drawn = _draw(fit.exponent, fit.k_min, samples * len(positive), rng).reshape(size)
    if not tail.all():
        above = rng.random(size) < tail.mean()
        drawn = np.where(above, drawn, rng.choice(positive[~tail], size))
    farther = 0
    for sample in drawn:
        again = _fit(sample)
        farther += again is not None and again.distance >= fit.distance
    return PowerLaw(
        fit.exponent,
        float((fit.exponent - 1) / np.sqrt(tail.sum())),
        fit.k_min,
        fit.distance,
        farther / samples if samples else float("nan"),
        int(tail.sum()),
        _against_exponential(positive, fit.k_min),
    )


class _Fit(NamedTuple):
    exponent: float
    k_min: int
    distance: float


def _fit(degree: Ints) -> _Fit | None:
    """The likeliest exponent for every k_min, all at once; the k_min whose law is nearest.

    The distance is the largest difference of the shares of at least k, over all whole k ≥ k_min.
    """
    from scipy.special import zeta

    k, counts = np.unique(degree, return_counts=True)
    if len(k) < 3:
        return None
    starts = k[:-2].astype(np.float64)  # through two degrees goes some law always
    tail = counts[::-1].cumsum()[::-1]
    log_sum = (counts * np.log(k))[::-1].cumsum()[::-1]
    mean_log = (log_sum / tail)[:-2]

    def loss(exponent: Floats) -> Floats:
        found: Floats = np.log(zeta(exponent, starts)) + exponent * mean_log
        return found

    # The loss is convex in the exponent: golden-section search.
    low, high = np.full(len(starts), _EXPONENTS[0]), np.full(len(starts), _EXPONENTS[1])
    golden = (np.sqrt(5) - 1) / 2
    for _ in range(45):
        left, right = high - golden * (high - low), low + golden * (high - low)
        smaller = loss(left) < loss(right)
        low, high = np.where(smaller, low, left), np.where(smaller, right, high)
    exponent = (low + high) / 2
    # At the end of the range there is no likeliest exponent: such a tail falls faster.
    inside = (exponent > _EXPONENTS[0] + 1e-6) & (exponent < _EXPONENTS[1] - 1e-6)
    if not inside.any():
        return None

    # Between two degrees of the data the shares of the data stand still, so that the law is
    # farthest from them at a degree or one above it.
    first, at = np.triu_indices(len(starts), m=len(k))
    law, start = exponent[first], zeta(exponent, starts)[first]
    shares = np.append(tail, 0)
    difference = np.zeros((len(starts), len(k)))
    for above in (0, 1):
        data = shares[at + above] / tail[first]
        apart = np.abs(data - zeta(law, k[at] + float(above)) / start)
        difference[first, at] = np.maximum(difference[first, at], apart)
    distance = np.where(inside, difference.max(axis=1), np.inf)
    best = int(distance.argmin())
    return _Fit(float(exponent[best]), int(k[best]), float(distance[best]))


def _against_exponential(degree: Ints, k_min: int) -> float:
    """The log-likelihood ratio to an exponential, normalised, by the package."""
    import powerlaw

    # The package stops at an exponent of 3 unless told otherwise; a narrow tail has a larger one.
    ranges = {"alpha": list(_EXPONENTS)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of searches that leave the sensible range on their way
        fit = powerlaw.Fit(
            degree, xmin=k_min, discrete=True, verbose=False, parameter_ranges=ranges
        )
        ratio, _ = fit.distribution_compare("power_law", "exponential", normalized_ratio=True)
    return float(ratio)


def _draw(exponent: float, k_min: int, size: int, rng: np.random.Generator) -> Ints:
    """Whole numbers that follow the law, cut off where no degree of a layer lies."""
    k = np.arange(k_min, k_min + 200_000)
    share = np.cumsum(k ** -float(exponent))
    found: Ints = k[np.searchsorted(share, rng.random(size) * share[-1])]
    return found
