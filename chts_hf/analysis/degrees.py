"""Degrees of neurons, and whether a power law describes them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from chts_hf.analysis.network import Floats, Ints, Mask


def degrees(mask: Mask) -> tuple[Ints, Ints]:
    """Links of each output (row) and of each input (column)."""
    return np.count_nonzero(mask, axis=1), np.count_nonzero(mask, axis=0)


def ccdf(degree: Ints) -> tuple[Ints, Floats]:
    """The distinct positive degrees, ascending, and the share of neurons of at least each."""
    values, counts = np.unique(degree[degree > 0], return_counts=True)
    return values, counts[::-1].cumsum()[::-1] / max(counts.sum(), 1)


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
            power law is better.
    """

    exponent: float
    error: float
    k_min: int
    distance: float
    p: float
    tail: int
    against_exponential: float

    @property
    def plausible(self) -> bool:
        """Whether the data do not refuse the law and a tail of 50 neurons or more supports it."""
        return self.p >= 0.1 and self.tail >= 50 and self.against_exponential > 0


def fit_power_law(degree: Ints, rng: np.random.Generator, samples: int = 20) -> PowerLaw | None:
    """Fit a discrete power law to the tail of degrees (package ``powerlaw``, Alstott et al. 2014).

    Args:
        degree: the degrees; zeros are left out.
        rng: draws the samples for p: the data's own values below k_min, the law's above.
        samples: how many; the standard error of p is at most ``0.5 / √samples``. 0: p is NaN.

    Returns:
        None where there are fewer than three distinct degrees: nothing to fit.
    """
    positive = degree[degree > 0]
    if len(np.unique(positive)) < 3:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of searches that leave the sensible range on their way
        return _fit_tail(positive, rng, samples)


def _fit_tail(positive: Ints, rng: np.random.Generator, samples: int) -> PowerLaw:
    fit = _fit(positive)
    k_min, law = int(fit.xmin), fit.power_law
    tail = positive >= k_min
    farther = 0
    for _ in range(samples):
        above = rng.random(len(positive)) < tail.mean()
        sample = _draw(law.alpha, k_min, len(positive), rng)
        if not tail.all():
            sample = np.where(above, sample, rng.choice(positive[~tail], len(positive)))
        if len(np.unique(sample)) >= 3:
            farther += bool(_fit(sample).power_law.D >= law.D)
    ratio, _ = fit.distribution_compare("power_law", "exponential", normalized_ratio=True)
    return PowerLaw(
        float(law.alpha),
        float((law.alpha - 1) / np.sqrt(tail.sum())),
        k_min,
        float(law.D),
        farther / samples if samples else float("nan"),
        int(tail.sum()),
        float(ratio),
    )


def _fit(degree: Ints) -> Any:
    import powerlaw

    # The package stops at an exponent of 3 unless told otherwise; a narrow tail has a larger one.
    ranges = {"alpha": [1.01, 20]}
    return powerlaw.Fit(degree, discrete=True, verbose=False, parameter_ranges=ranges)


def _draw(exponent: float, k_min: int, size: int, rng: np.random.Generator) -> Ints:
    """Whole numbers that follow the law, cut off where no degree of a layer lies."""
    k = np.arange(k_min, k_min + 200_000)
    share = np.cumsum(k ** -float(exponent))
    found: Ints = k[np.searchsorted(share, rng.random(size) * share[-1])]
    return found
