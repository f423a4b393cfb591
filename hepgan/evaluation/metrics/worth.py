"""Worth of generated events in events of the reference.

The squared distance Σ (p − t)² / t of the bin fractions p of a sample from the true fractions t has the mean (K − 1) / N for N events of the
reference in K bins. A generator whose fractions are off by a bias adds Σ (bias)² / t. N generated events are therefore worth

    1 / N_worth = 1 / N + Σ (bias)² / t / (K − 1)

events of the reference, and any number of them at most (K − 1) / Σ (bias)² / t, the limit. The bias is estimated from the two-sample χ²
of bins that hold equal fractions, which has a non-central χ² distribution; limits of its non-centrality give intervals with the
right coverage, also where no bias is seen. The amplification is the limit divided by the number of events that the generator was trained on
(arXiv:2008.06545). For all observables together, the energy distance takes the place of the squared distance (arXiv:2211.10295 for
kernels): its mean for N events is E|x − x'| / N.
"""

import math
from typing import NamedTuple

import numpy as np
import scipy.optimize
import scipy.stats

from hepgan.data.weights import effective_sample_size
from hepgan.evaluation.metrics.statistics import Floats

BINS = 20
LEVEL = 0.6827
"""Coverage of the intervals."""
MIN_PER_BIN = 20.0
"""Effective events that every bin holds on average in both samples."""


class Interval(NamedTuple):
    """Estimate with a central interval; infinite where no difference is seen."""

    value: float
    low: float
    high: float


class Worth(NamedTuple):
    """Worth of a generated sample.

    Attributes:
        observable: Name of the observable; ``all`` for all together.
        equivalent: Number of reference events that the sample is worth.
        limit: Number of reference events that an infinite sample would be worth.
        amplification: The limit in units of the number of training events, or ``None`` if that is unknown.
    """

    observable: str
    equivalent: Interval
    limit: Interval
    amplification: Interval | None


def worth(
    observable: str,
    reference: Floats,
    generated: Floats,
    weights: tuple[Floats, Floats],
    *,
    n_training: float | None = None,
) -> Worth | None:
    """Returns the worth of a generated sample for one observable from its values ``[E]`` in both samples.

    Returns ``None`` if the observable has fewer than two distinct values or there are too few events.
    """
    w, v = weights
    n, m = effective_sample_size(w), effective_sample_size(v)
    bins = min(BINS, int(min(n, m) / MIN_PER_BIN))
    edges = _edges(np.concatenate([reference, generated]), bins)
    if len(edges) == 0:
        return None
    p, q = (
        np.bincount(np.searchsorted(edges, x, side="right"), each, minlength=len(edges) + 1)
        / each.sum()
        for x, each in ((reference, w), (generated, v))
    )
    pooled = (n * p + m * q) / (n + m)
    filled = pooled > 0
    size, ndf = n * m / (n + m), int(filled.sum()) - 1
    chi2 = size * float(np.sum((p - q)[filled] ** 2 / pooled[filled]))
    return of_limit(observable, _limit(chi2, ndf, size), m, n_training)


def of_limit(observable: str, limit: Interval, number: float, n_training: float | None) -> Worth:
    """Returns the worth of ``number`` generated events whose limit is known."""
    equivalent = Interval(*(1 / (1 / number + 1 / each) for each in limit))
    amplification = Interval(*(each / n_training for each in limit)) if n_training else None
    return Worth(observable, equivalent, limit, amplification)


def _edges(values: Floats, bins: int) -> Floats:
    """Returns the inner edges of bins with equal numbers of events; missing values are in the last bin."""
    if bins < 2:
        return np.array([])
    ordered = np.sort(np.where(np.isfinite(values), values, np.inf))
    positions = np.round(np.arange(1, bins) * len(ordered) / bins).astype(int)
    inner = np.unique(ordered[positions])
    return np.asarray(inner[inner > ordered[0]])


def _limit(chi2: float, ndf: int, size: float) -> Interval:
    """Returns ndf / bias², where χ² has the non-centrality ``size`` · bias²."""
    tail = (1 - LEVEL) / 2
    non_centralities = (
        max(0.0, chi2 - ndf), _non_centrality(chi2, ndf, tail), _non_centrality(chi2, ndf, 1 - tail)
    )  # fmt: skip
    return Interval(*(ndf * size / each if each > 0 else math.inf for each in non_centralities))


def _non_centrality(chi2: float, ndf: int, probability: float) -> float:
    """Returns the non-centrality for which a smaller χ² has the given probability, or 0 if there is none."""

    def excess(non_centrality: float) -> float:
        return float(scipy.stats.ncx2.cdf(chi2, ndf, non_centrality)) - probability

    if scipy.stats.chi2.cdf(chi2, ndf) <= probability:
        return 0.0
    high = max(1.0, chi2)
    while excess(high) > 0:
        high *= 2
    return float(scipy.optimize.brentq(excess, 1e-12, high))


def of_energy_distance(
    observable: str, value: float, error: float, number: float, n_training: float | None
) -> Worth:
    """Returns the worth for all observables together from the energy distance in units of the mean distance."""
    interval = (max(0.0, each) for each in (value, value + error, value - error))
    limit = Interval(*(1 / each if each > 0 else math.inf for each in interval))
    return of_limit(observable, limit, number, n_training)
