"""Distances between two samples in one quantity, each with its error and its floor.

| distance | of | when |
|---|---|---|
| ``separation``, ``clustered_separation`` | histograms, spectra | the number that papers quote; 0 alike, 1 apart; biased by about bins / 2N |
| ``chi_square`` | histograms | is there any difference? The p-value is exact for large counts |
| ``clustered_chi_square`` | spectra | the same where each event fills many cells |
| ``kolmogorov`` | values | a difference in the bulk; no bins to choose |
| ``wasserstein`` | values | how far apart, in the quantity's unit; what to minimise |

The floor is what reference against reference gives with the same numbers of events, with its spread from sample to sample.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.stats
from hist import Hist

Floats = npt.NDArray[np.float64]

TOYS = 100
FEWEST = 10.0
"""χ² merges bins until each has at least so many effective entries in both samples."""


# moments of the limiting Kolmogorov distribution
KOLMOGOROV_MEAN = math.sqrt(math.pi / 2) * math.log(2)
KOLMOGOROV_SPREAD = math.sqrt(math.pi**2 / 12 - KOLMOGOROV_MEAN**2)


class Estimate(NamedTuple):
    """A distance with its statistical error, its floor and the floor's spread; a p-value where there is one."""

    value: float
    error: float
    floor: float
    floor_error: float
    p_value: float | None = None


class Counts(NamedTuple):
    """One source's histogram with its flow bins.

    Attributes:
        values: ``[bins]`` sums of weights.
        variances: ``[bins]`` sums of squared weights.
    """

    values: Floats
    variances: Floats

    @property
    def effective(self) -> float:
        """How many entries of weight 1 would know as much."""
        variance = float(self.variances.sum())
        return float(self.values.sum()) ** 2 / variance if variance > 0 else 0.0


def counts_of(histogram: "Hist[Any]", source: str) -> Counts:
    """The counts of ``source`` in ``Hist(source, value)``, flow bins first and last."""
    index = histogram.axes["source"].index(source)
    view = histogram.view(flow=True)[index]
    return Counts(np.asarray(view["value"], float), np.asarray(view["variance"], float))


def separation_power(p: Floats, q: Floats) -> Any:
    """½ Σ (p − q)² / (p + q) of distributions along the last axis, normalised here."""
    p = p / p.sum(axis=-1, keepdims=True)
    q = q / q.sum(axis=-1, keepdims=True)
    both = p + q
    return 0.5 * np.sum((p - q) ** 2 / np.where(both > 0, both, 1.0), axis=-1)


def separation(reference: Counts, generated: Counts, *, seed: int) -> Estimate:
    """Separation power, its error and floor from multinomial toys with the samples' effective numbers of entries."""
    rng = np.random.default_rng(seed)
    p = np.clip(reference.values / reference.values.sum(), 0, None)
    q = np.clip(generated.values / generated.values.sum(), 0, None)
    n, m = (max(1, round(counts.effective)) for counts in (reference, generated))
    p_toys, q_toys = rng.multinomial(n, p, TOYS), rng.multinomial(m, q, TOYS)
    spread = separation_power(p_toys.astype(float), q_toys.astype(float))
    null = separation_power(p_toys.astype(float), rng.multinomial(m, p, TOYS).astype(float))
    value = float(separation_power(p, q))
    return Estimate(value, float(spread.std()), float(null.mean()), float(null.std()))


def clustered_separation(reference: Floats, generated: Floats, *, seed: int) -> Estimate:
    """Separation power of two spectra from occupations of bins by events, ``[E, bins]`` each; whole events are resampled."""
    rng = np.random.default_rng(seed)

    def toys(sample: Floats, size: int) -> Floats:
        n = len(sample)
        return np.stack(
            [np.bincount(rng.integers(0, n, size), minlength=n) @ sample for _ in range(TOYS)]
        )

    n, m = len(reference), len(generated)
    p_toys = toys(reference, n)
    spread = separation_power(p_toys, toys(generated, m))
    null = separation_power(p_toys, toys(reference, m))
    value = float(separation_power(reference.sum(axis=0), generated.sum(axis=0)))
    return Estimate(value, float(spread.std()), float(null.mean()), float(null.std()))


def chi_square(reference: Counts, generated: Counts) -> Estimate:
    """Two-sample χ²/ndf of weighted histograms' shapes with its p-value; bins are merged until each is full enough.

    Σ (W1 w2 − W2 w1)² / (W1² v2 + W2² v1) with ndf = bins − 1 (arXiv:physics/0605123).
    """
    groups = merged(
        [reference.values, generated.values], [reference.variances, generated.variances]
    )
    (w1, v1), (w2, v2) = (
        (np.bincount(groups, c.values), np.bincount(groups, c.variances))
        for c in (reference, generated)
    )
    ndf = len(w1) - 1
    if ndf < 1:
        return Estimate(0.0, 0.0, 1.0, 0.0, 1.0)
    total1, total2 = w1.sum(), w2.sum()
    chi2 = float(np.sum((total1 * w2 - total2 * w1) ** 2 / (total1**2 * v2 + total2**2 * v1)))
    return _chi_square(chi2, ndf)


def clustered_chi_square(reference: Floats, generated: Floats) -> Estimate:
    """χ²/ndf between the mean occupations of bins by events, ``[E, bins]`` each, with the covariance between bins.

    Cells of one event rise and fall together, so bins are not independent: with the full covariance of the means this is
    Hotelling's two-sample statistic. Directions without variance (such as a fixed number of cells) are left out.
    """
    samples = [reference, generated]
    groups = merged([s.sum(axis=0) for s in samples], [(s**2).sum(axis=0) for s in samples])
    onto = np.eye(groups.max() + 1)[groups]
    means = [(s @ onto).mean(axis=0) for s in samples]
    noise = sum(np.atleast_2d(np.cov(s @ onto, rowvar=False)) / len(s) for s in samples)
    scale = np.sqrt(np.where(np.diag(noise) > 0, np.diag(noise), 1.0))
    power, axes = np.linalg.eigh(noise / np.outer(scale, scale))
    kept = power > 1e-9 * power.max()
    if not kept.any() or power.max() <= 0:
        return Estimate(0.0, 0.0, 1.0, 0.0, 1.0)
    pulls = (axes.T @ ((means[0] - means[1]) / scale))[kept] / np.sqrt(power[kept])
    return _chi_square(float(np.sum(pulls**2)), int(kept.sum()))


def merged(values: list[Floats], variances: list[Floats]) -> npt.NDArray[np.int64]:
    """The group of each bin: neighbours together until each group has enough effective entries in every sample."""
    groups = np.zeros(len(values[0]), dtype=np.int64)
    group, sums = 0, np.zeros((len(values), 2))
    for i in range(len(groups)):
        groups[i] = group
        sums += [[w[i], v[i]] for w, v in zip(values, variances, strict=True)]
        if np.all(sums[:, 0] ** 2 >= FEWEST * sums[:, 1]) and np.all(sums[:, 1] > 0):
            group, sums = group + 1, np.zeros_like(sums)
    return np.minimum(groups, max(group - 1, 0))


def kolmogorov(reference: Floats, generated: Floats) -> Estimate:
    """Largest distance of the two distribution functions; the p-value is conservative where values repeat."""
    _, f, g = _distributions(reference, generated)
    n, m = len(reference), len(generated)
    at = int(np.argmax(np.abs(f - g)))
    value = float(abs(f[at] - g[at]))
    error = math.sqrt(f[at] * (1 - f[at]) / n + g[at] * (1 - g[at]) / m)
    effective = math.sqrt(n * m / (n + m))
    p_value = float(scipy.stats.kstwobign.sf(effective * value))
    return Estimate(
        value, error, KOLMOGOROV_MEAN / effective, KOLMOGOROV_SPREAD / effective, p_value
    )


def wasserstein(reference: Floats, generated: Floats, *, seed: int) -> Estimate:
    """Area between the two distribution functions, in the values' unit.

    The error is that of the dual form E[φ(x)] − E[φ(y)], where φ' is the sign of the distance; the floor is resampled.
    """
    x, f, g = _distributions(reference, generated)
    value = _area(x, f - g)
    potential = np.concatenate([[0.0], np.cumsum(np.sign(f - g)[:-1] * np.diff(x))])
    error = math.sqrt(
        sum(
            np.interp(sample, x, potential).var() / len(sample) for sample in (reference, generated)
        )
    )
    floors = _resampled_floor(np.sort(reference), len(generated), np.random.default_rng(seed))
    return Estimate(value, error, float(floors.mean()), float(floors.std()))


def wasserstein_distance(reference: Floats, generated: Floats) -> float:
    """Area between the two distribution functions, in the values' unit."""
    x, f, g = _distributions(reference, generated)
    return _area(x, f - g)


def _distributions(reference: Floats, generated: Floats) -> tuple[Floats, Floats, Floats]:
    x = np.unique(np.concatenate([reference, generated]))
    f, g = (
        np.searchsorted(np.sort(sample), x, side="right") / len(sample)
        for sample in (reference, generated)
    )
    return x, f, g


def _area(x: Floats, difference: Floats) -> float:
    return float(np.sum(np.abs(difference[:-1]) * np.diff(x)))


def _resampled_floor(ordered: Floats, size: int, rng: np.random.Generator) -> Floats:
    n = len(ordered)

    def resampled(count: int) -> Floats:
        drawn = np.bincount(rng.integers(0, n, count), minlength=n)
        return np.cumsum(drawn) / count

    return np.array([_area(ordered, resampled(n) - resampled(size)) for _ in range(TOYS // 4)])


def _chi_square(chi2: float, ndf: int) -> Estimate:
    spread = math.sqrt(2 / ndf)
    # χ² of non-centrality λ = χ² − ndf has the variance 2 ndf + 4 λ
    error = math.sqrt(2 * ndf + 4 * max(chi2 - ndf, 0.0)) / ndf
    return Estimate(chi2 / ndf, error, 1.0, spread, float(scipy.stats.chi2.sf(chi2, ndf)))
