"""Distances between two one-dimensional samples, each with its error and baseline.

| distance | of | use |
|---|---|---|
| ``separation``, ``clustered_separation`` | histograms, spectra | the usual number in papers; 0 for equal, 1 for disjoint samples; bias about bins / 2N |
| ``chi_square`` | histograms | test of any difference; the p-value is exact for large counts |
| ``clustered_chi_square`` | spectra | the same if each event has several entries |
| ``kolmogorov`` | values | test of a difference in the bulk; no binning |
| ``wasserstein`` | values | distance in the unit of the quantity; suitable as an objective |
| ``tails`` | values | fraction beyond three standard deviations; cut and long tails |

The baseline is the value for reference against reference with the same numbers of events; its error is the standard deviation
over samples. Events may have weights, including negative ones: distribution functions, sums and variances are then weighted.
The Kolmogorov distance of weighted events has no p-value.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.stats
from hist import Hist

from hepgan.data.weights import effective_sample_size
from hepgan.random_streams import numpy_generator

Floats = npt.NDArray[np.float64]

TOYS = 100
MIN_ENTRIES = 10.0
"""Effective entries that χ² requires of each merged bin in both samples."""


TAIL_SIGMAS = 3.0
"""Standard deviations beyond which values are in the tails."""

# moments of the limiting Kolmogorov distribution
KOLMOGOROV_MEAN = math.sqrt(math.pi / 2) * math.log(2)
KOLMOGOROV_STD = math.sqrt(math.pi**2 / 12 - KOLMOGOROV_MEAN**2)


class Estimate(NamedTuple):
    """Distance with its statistical error, its baseline with error, and a p-value or ``None``.

    Where the baseline is known from theory, ``measured`` is the measured one with its error.
    """

    value: float
    error: float
    baseline: float
    baseline_error: float
    p_value: float | None = None
    measured: tuple[float, float] | None = None


class Counts(NamedTuple):
    """Bin contents of one source, including the flow bins.

    Attributes:
        values: ``[bins]`` sums of weights.
        variances: ``[bins]`` sums of squared weights.
    """

    values: Floats
    variances: Floats


def counts_of(histogram: "Hist[Any]", source: str) -> Counts:
    """Returns the bin contents of ``source``, flow bins first and last."""
    index = histogram.axes["source"].index(source)
    view = histogram.view(flow=True)[index]
    return Counts(np.asarray(view["value"], float), np.asarray(view["variance"], float))


def weighted_mean(values: Floats, weights: Floats) -> tuple[Any, Any]:
    """Returns the mean of ``values[E, …]`` over events and the variance of that mean."""
    fraction = weights / weights.sum()
    mean = np.tensordot(fraction, values, axes=1)
    return mean, np.tensordot(fraction**2, (values - mean) ** 2, axes=1)


def normal_scores(values: Floats) -> Floats:
    """Returns the Gaussian quantile of the rank of each of ``values[E]``; 0 for missing values.

    >>> normal_scores(np.array([3.0, 1.0, 2.0])).round(2).tolist()
    [0.97, -0.97, 0.0]
    """
    valid = np.isfinite(values)
    scores = np.zeros(len(values))
    ranks = scipy.stats.rankdata(values[valid])
    scores[valid] = scipy.stats.norm.ppf((ranks - 0.5) / max(1, len(ranks)))
    return scores


def separation_power(p: Floats, q: Floats) -> Any:
    """Returns ½ Σ (p − q)² / (p + q) of the normalized distributions along the last axis; negative bins count as empty."""
    p, q = np.clip(p, 0, None), np.clip(q, 0, None)
    p = p / p.sum(axis=-1, keepdims=True)
    q = q / q.sum(axis=-1, keepdims=True)
    both = p + q
    return 0.5 * np.sum((p - q) ** 2 / np.where(both > 0, both, 1.0), axis=-1)


def separation(reference: Counts, generated: Counts, *, seed: int) -> Estimate:
    """Returns the separation power; error and baseline come from toys of the bin contents."""
    rng = numpy_generator(seed, "evaluation", "separation")
    shape = reference.values / reference.values.sum()
    null = Counts(shape * generated.values.sum(), np.abs(shape) * generated.variances.sum())
    p_toys = _toys(reference, rng)
    toys = separation_power(p_toys, _toys(generated, rng))
    baselines = separation_power(p_toys, _toys(null, rng))
    value = float(separation_power(reference.values, generated.values))
    return _resampled(value, toys, baselines)


def _resampled(value: float, toys: Floats, baselines: Floats) -> Estimate:
    """Returns the estimate of a distance that is quadratic in the difference, from toys of both samples and of the reference alone.

    Toys fluctuate on top of the fluctuations of the samples: their variance exceeds that of the value by twice the baseline's.
    """
    variance = max(float(toys.var() - 2 * baselines.var()), float(baselines.var()))
    return Estimate(value, math.sqrt(variance), float(baselines.mean()), float(baselines.std()))


def _toys(counts: Counts, rng: np.random.Generator) -> Floats:
    """Returns ``[toys, bins]`` scaled Poisson numbers with the bins' means and variances; Gaussian ones for less than one event."""
    values, variances = counts
    scale = variances / np.where(values > 0, values, 1.0)
    entries = np.where(values > 0, values, 0.0) / np.where(scale > 0, scale, 1.0)
    size = (TOYS, len(values))
    gaussian = rng.normal(values, np.sqrt(variances), size)
    return np.where(entries >= 1, rng.poisson(entries, size) * scale, gaussian)


def clustered_separation(
    reference: Floats, generated: Floats, weights: tuple[Floats, Floats], *, seed: int
) -> Estimate:
    """Returns the separation power of two spectra from their ``[E, bins]`` bin occupancies per event; events are resampled."""
    rng = numpy_generator(seed, "evaluation", "clustered separation")
    p, q = (s * w[:, None] for s, w in zip((reference, generated), weights, strict=True))

    def toys(sample: Floats, size: int) -> Floats:
        n = len(sample)
        return np.stack(
            [np.bincount(rng.integers(0, n, size), minlength=n) @ sample for _ in range(TOYS)]
        )

    p_toys = toys(p, len(p))
    differences = separation_power(p_toys, toys(q, len(q)))
    null = separation_power(p_toys, toys(p, equivalent_size(*weights)))
    return _resampled(float(separation_power(p.sum(axis=0), q.sum(axis=0))), differences, null)


def equivalent_size(reference: Floats, generated: Floats) -> int:
    """Returns the number of reference events with the effective sample size of the generated sample."""
    ratio = effective_sample_size(generated) / effective_sample_size(reference)
    return max(1, round(len(reference) * ratio))


def chi_square(reference: Counts, generated: Counts) -> Estimate:
    """Returns the two-sample χ²/ndf of the shapes of weighted histograms, with its p-value; sparse bins are merged."""
    groups = merge_sparse_bins(
        [reference.values, generated.values], [reference.variances, generated.variances]
    )
    chi2, ndf, variance = shape_chi_square(reference, generated, groups)
    if ndf < 1:
        return Estimate(0.0, 0.0, 1.0, 0.0, 1.0)
    return _chi_square(chi2, ndf, variance)


class ShapeChiSquare(NamedTuple):
    """χ² of the shapes of two histograms, its degrees of freedom, and its variance to first order in the bin contents."""

    chi2: float
    ndf: int
    variance: float


def shape_chi_square(
    first: Counts, second: Counts, groups: npt.NDArray[np.int64]
) -> ShapeChiSquare:
    """Returns χ² of the shapes of two weighted histograms with bins merged into ``groups``.

    Σ (W1 w2 − W2 w1)² / (W1² v2 + W2² v1) with ndf = groups − 1 (arXiv:physics/0605123); groups without entries do not count.
    """
    (w1, v1), (w2, v2) = (
        (np.bincount(groups, c.values), np.bincount(groups, c.variances)) for c in (first, second)
    )
    total1, total2 = w1.sum(), w2.sum()
    noise = total1**2 * v2 + total2**2 * v1
    filled = noise > 0
    pull = np.where(filled, (total1 * w2 - total2 * w1) / np.where(filled, noise, 1.0), 0.0)
    variance = 0.0
    for total, w, v in ((total1, w2, v2), (-total2, w1, v1)):
        scale = np.where(w != 0, v / np.where(w != 0, w, 1.0), 0.0)  # the noise grows with w
        variance += float(np.sum((2 * pull * total - pull**2 * total**2 * scale) ** 2 * v))
    return ShapeChiSquare(float(np.sum(pull**2 * noise)), max(int(filled.sum()) - 1, 0), variance)


def clustered_chi_square(
    reference: Floats, generated: Floats, weights: tuple[Floats, Floats]
) -> Estimate:
    """Returns χ²/ndf of the mean bin occupancies, from ``[E, bins]`` occupancies per event, with the covariance between bins.

    Cells of one event are correlated, and so are bins: with the full covariance of the means this is
    Hotelling's two-sample statistic. Directions without variance (such as a fixed number of cells) are not counted.
    """
    samples = [s * w[:, None] for s, w in zip((reference, generated), weights, strict=True)]
    groups = merge_sparse_bins(
        [s.sum(axis=0) for s in samples], [(s**2).sum(axis=0) for s in samples]
    )
    onto = np.eye(groups.max() + 1)[groups]
    first, second = (
        _mean_covariance(s @ onto, w) for s, w in zip((reference, generated), weights, strict=True)
    )
    noise = first[1] + second[1]
    scale = np.sqrt(np.where(np.diag(noise) > 0, np.diag(noise), 1.0))
    power, axes = np.linalg.eigh(noise / np.outer(scale, scale))
    kept = power > 1e-9 * power.max()
    if not kept.any() or power.max() <= 0:
        return Estimate(0.0, 0.0, 1.0, 0.0, 1.0)
    pulls = (axes.T @ ((first[0] - second[0]) / scale))[kept] / np.sqrt(power[kept])
    return _chi_square(float(np.sum(pulls**2)), int(kept.sum()))


def _mean_covariance(values: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Returns the mean of ``values[E, bins]`` over events and the covariance of that mean."""
    fraction, n = weights / weights.sum(), len(weights)
    mean = fraction @ values
    residuals = (values - mean) * fraction[:, None]
    return mean, residuals.T @ residuals * (n / (n - 1))


def merge_sparse_bins(
    values: list[Floats], variances: list[Floats], *, min_entries: float = MIN_ENTRIES
) -> npt.NDArray[np.int64]:
    """Returns the group of each bin: neighbors are merged until each group is expected to have enough effective entries.

    Expectations are those of the samples' mean distribution, so that a range that is empty in one sample remains visible.
    """
    size = min(v.sum() ** 2 / max(s.sum(), 1e-300) for v, s in zip(values, variances, strict=True))
    fractions = sum(v / v.sum() for v in values) / len(values)
    noise = sum(s / v.sum() ** 2 for v, s in zip(values, variances, strict=True)) / len(values) ** 2
    groups = np.zeros(len(values[0]), dtype=np.int64)
    group, fraction, variance = 0, 0.0, 0.0
    for i in range(len(groups)):
        groups[i] = group
        fraction, variance = fraction + fractions[i], variance + noise[i]
        if (
            fraction > 0
            and size * fraction >= min_entries
            and fraction**2 >= min_entries * variance
        ):
            group, fraction, variance = group + 1, 0.0, 0.0
    return np.minimum(groups, max(group - 1, 0))


def kolmogorov(
    reference: Floats, generated: Floats, weights: tuple[Floats, Floats] | None = None
) -> Estimate:
    """Returns the largest distance between the two distribution functions; the p-value is conservative if values repeat."""
    w, v = weights or (np.ones(len(reference)), np.ones(len(generated)))
    x, f, g = _distributions(reference, generated, w, v)
    at = int(np.argmax(np.abs(f - g)))
    variance = sum(
        weighted_mean(1.0 * (sample <= x[at]), each)[1]
        for sample, each in ((reference, w), (generated, v))
    )
    n, m = effective_sample_size(w), effective_sample_size(v)
    effective = math.sqrt(n * m / (n + m))
    value = float(abs(f[at] - g[at]))
    return Estimate(
        value,
        math.sqrt(variance),
        KOLMOGOROV_MEAN / effective,
        KOLMOGOROV_STD / effective,
        None if weights else float(scipy.stats.kstwobign.sf(effective * value)),
    )


def wasserstein(
    reference: Floats,
    generated: Floats,
    weights: tuple[Floats, Floats] | None = None,
    *,
    seed: int,
) -> Estimate:
    """Returns the area between the two distribution functions, in the unit of the values.

    The error is that of the dual form E[φ(x)] − E[φ(y)], where φ' is the sign of the difference; the baseline is resampled.
    """
    w, v = weights or (np.ones(len(reference)), np.ones(len(generated)))
    x, f, g = _distributions(reference, generated, w, v)
    potential = np.concatenate([[0.0], np.cumsum(np.sign(f - g)[:-1] * np.diff(x))])
    variance = sum(
        weighted_mean(np.interp(sample, x, potential), each)[1]
        for sample, each in ((reference, w), (generated, v))
    )
    baselines = _resampled_baseline(
        reference, w, equivalent_size(w, v), numpy_generator(seed, "evaluation", "wasserstein")
    )
    return Estimate(
        _area(x, f - g), math.sqrt(variance), float(baselines.mean()), float(baselines.std())
    )


def tails(reference: Floats, generated: Floats) -> Estimate:
    """Returns the fraction of generated values beyond three standard deviations of both samples together; the baseline is the reference's.

    The p-value is that of the binomial number of generated values among all values in the tails, so that cut tails are seen as well as
    long ones.
    """
    both = np.concatenate([reference, generated])
    return tail_fraction(*in_tails(both, len(reference)))


def in_tails(values: Floats, n_reference: int) -> tuple[Any, Any]:
    """Returns booleans for both samples: whether each value is beyond ``TAIL_SIGMAS`` standard deviations of all of ``values[E]``."""
    outside = np.abs(values - values.mean()) > TAIL_SIGMAS * values.std()
    return outside[:n_reference], outside[n_reference:]


def any_in_tails(columns: Sequence[Floats], n_reference: int) -> tuple[Any, Any]:
    """Returns booleans for both samples: whether a finite value of an event in any of the columns ``[E]`` is in the tails."""
    outside = np.zeros(len(columns[0]), dtype=bool)
    for values in columns:
        valid = np.flatnonzero(np.isfinite(values))
        if len(valid):
            outside[valid] |= np.concatenate(in_tails(values[valid], len(valid)))
    return outside[:n_reference], outside[n_reference:]


def tail_fraction(reference: Any, generated: Any) -> Estimate:
    """Returns the fraction of events in the tails, from booleans ``[E]`` of both samples."""
    n, m, k, outside = len(reference), len(generated), int(reference.sum()), int(generated.sum())
    p_values = binomial_p_values(k + outside, m / (n + m))
    return Estimate(
        outside / m,
        math.sqrt((outside + 1) * (m - outside + 1) / (m + 2) ** 3),
        k / n,
        math.sqrt((k + 1) * (n - k + 1) / (n + 2) ** 3),
        float(p_values[outside]),
    )


def binomial_p_values(number: int, probability: float) -> Floats:
    """Returns the two-sided p-value of each of 0 … ``number`` successes."""
    k = np.arange(number + 1)
    lower = scipy.stats.binom.cdf(k, number, probability)
    upper = scipy.stats.binom.sf(k - 1, number, probability)
    return np.asarray(np.minimum(1.0, 2 * np.minimum(lower, upper)))


def jackknife_error(left_out: Floats, quadratic: float) -> float:
    """Returns the jackknife error of a distance from its values with each group of events left out in turn.

    Near a distance of zero the term quadratic in the fluctuations dominates, and the jackknife counts its variance twice
    (Efron and Stein, Ann. Statist. 9 (1981) 586); ``quadratic`` is the error of that term, from reference against reference.
    """
    groups = len(left_out)
    variance = float((groups - 1) ** 2 / groups * np.var(left_out, ddof=1))
    return math.sqrt(max(variance - quadratic**2, quadratic**2))


def _distributions(
    reference: Floats, generated: Floats, w: Floats, v: Floats
) -> tuple[Floats, Floats, Floats]:
    x = np.unique(np.concatenate([reference, generated]))
    return x, _distribution(reference, w, x), _distribution(generated, v, x)


def _distribution(sample: Floats, weights: Floats, x: Floats) -> Floats:
    order = np.argsort(sample)
    sums = np.concatenate([[0.0], np.cumsum(weights[order])])
    cumulative: Floats = sums[np.searchsorted(sample[order], x, side="right")] / sums[-1]
    return cumulative


def _area(x: Floats, difference: Floats) -> float:
    return float(np.sum(np.abs(difference[:-1]) * np.diff(x)))


def _resampled_baseline(
    reference: Floats, weights: Floats, size: int, rng: np.random.Generator
) -> Floats:
    order, n = np.argsort(reference), len(reference)
    sorted_values, sorted_weights = reference[order], weights[order]

    def resampled(count: int) -> Floats:
        sums = np.cumsum(np.bincount(rng.integers(0, n, count), minlength=n) * sorted_weights)
        return np.asarray(sums / sums[-1])

    return np.array(
        [_area(sorted_values, resampled(n) - resampled(size)) for _ in range(TOYS // 4)]
    )


def _chi_square(chi2: float, ndf: int, variance: float | None = None) -> Estimate:
    """Returns χ²/ndf with its p-value; ``variance`` is that of χ² to first order, by default of pulls of unit width."""
    # χ² of non-centrality λ has the expectation ndf + λ and the variance 2 ndf + 4 λ; the first-order one is 4 χ²
    first_order = 4 * chi2 if variance is None else variance
    error = math.sqrt(2 * ndf + max(first_order - 4 * ndf, 0.0)) / ndf
    p_value = float(scipy.stats.chi2.sf(chi2, ndf))
    return Estimate(chi2 / ndf, error, 1.0, math.sqrt(2 / ndf), p_value)
