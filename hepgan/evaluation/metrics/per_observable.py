"""Two samples -> estimates by metric: what ``metrics.measure`` puts together, one function a kind of quantity."""

import math
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
from hist import Hist

from hepgan.errors import DataError
from hepgan.evaluation import histograms
from hepgan.evaluation.metrics import digits, fpd, statistics
from hepgan.evaluation.metrics.statistics import Estimate, Floats
from hepgan.evaluation.sample import Sample
from hepgan.random_streams import numpy_generator

Estimates = dict[str, Estimate]

MIN_VALUES = 50
"""Values that a distribution needs in each sample."""


class Finite(NamedTuple):
    """The values of one observable in the events that have one, and their weights; ``None`` where all are the same."""

    values: Floats
    weights: Floats | None


def finite(sample: Sample, observable: str) -> Finite:
    """The finite values of an observable."""
    values = sample.values[observable]
    there = np.isfinite(values)
    return Finite(values[there], sample.weights[there] if sample.weighted else None)


def of_values(
    reference: Finite, generated: Finite, histogram: "Hist[Any]", *, source: str, seed: int
) -> Estimates:
    """Separation, χ², Kolmogorov and Wasserstein distances of values; the histogram's missing ones count in the first two.

    Raises:
        DataError: too few values, or one and the same value everywhere.
    """
    x, y = reference.values, generated.values
    if min(len(x), len(y)) < MIN_VALUES:
        raise DataError(
            f"needs {MIN_VALUES} values in each sample, but there are {len(x)} and {len(y)}"
        )
    if x.min() == x.max() == y.min() == y.max():
        raise DataError(f"is {x[0]:g} in every event of both samples")
    p, q = (statistics.counts_of(histogram, name) for name in (histograms.REFERENCE, source))
    weights = _weights(reference, generated)
    distance = statistics.wasserstein(x, y, weights, seed=seed)
    unit = std_or_one(x)
    return {
        "separation": statistics.separation(p, q, seed=seed),
        "chi_square": statistics.chi_square(p, q),
        "kolmogorov": statistics.kolmogorov(x, y, weights),
        "wasserstein": Estimate(*(number / unit for number in distance[:4])),
    }


def _weights(reference: Finite, generated: Finite) -> tuple[Floats, Floats] | None:
    if reference.weights is None and generated.weights is None:
        return None
    w, v = (
        np.ones(len(s.values)) if s.weights is None else s.weights for s in (reference, generated)
    )
    if min(w.sum(), v.sum()) <= 0:
        raise DataError("has values in events whose weights' sum is not positive")
    return w, v


def of_spectrum(
    reference: Floats,
    generated: Floats,
    weights: tuple[Floats, Floats],
    histogram: "Hist[Any]",
    *,
    seed: int,
) -> Estimates:
    """Separation and χ² of the spectrum of ``cells[E, K]``, and the largest pull in the mean image.

    Raises:
        DataError: too few events, or cells that are all empty.
    """
    if min(len(reference), len(generated)) < MIN_VALUES:
        raise DataError(
            f"needs {MIN_VALUES} events in each sample, but there are {len(reference)} and {len(generated)}"
        )
    if not reference.any() and not generated.any():
        raise DataError("has no lit cell in either sample")
    x, y = (
        histograms.bin_occupancies(cells, histogram.axes[1]) for cells in (reference, generated)
    )
    return {
        "separation": statistics.clustered_separation(x, y, weights, seed=seed),
        "chi_square": statistics.clustered_chi_square(x, y, weights),
        **mean_image(reference, generated, weights),
    }


def mean_image(
    reference: Floats, generated: Floats, weights: tuple[Floats, Floats] | None = None
) -> Estimates:
    """The largest pull among cells of the mean root of ``cells[E, K]``, with the chance of one as large.

    Roots, because the mean of a cell's energy hangs on few events; cells that hardly ever light up are left out.
    """
    x, y = np.sqrt(np.abs(reference)), np.sqrt(np.abs(generated))
    used = (x > 0).sum(axis=0) + (y > 0).sum(axis=0) >= MIN_VALUES
    number = int(used.sum())
    if number == 0:
        return {}
    w, v = weights or (np.ones(len(x)), np.ones(len(y)))
    (mean, variance), (other, doubt) = (
        statistics.weighted_mean(x[:, used], w),
        statistics.weighted_mean(y[:, used], v),
    )
    noise = np.sqrt(np.where(variance + doubt > 0, variance + doubt, 1.0))
    value = float(np.max(np.abs(mean - other) / noise))
    p_value = -math.expm1(number * math.log1p(-min(2 * scipy.stats.norm.sf(value), 1 - 1e-16)))
    low, baseline, high = (
        scipy.stats.norm.isf((1 - q ** (1 / number)) / 2) for q in (0.16, 0.5, 0.84)
    )
    return {"mean_image": Estimate(value, 1.0, float(baseline), float(high - low) / 2, p_value)}


def correlation_distance(
    reference: Floats,
    generated: Floats,
    weights: tuple[Floats, Floats] | None = None,
    *,
    seed: int,
) -> Estimate:
    """Root mean square difference of the correlation coefficients of ``[E, d]`` features; resampled error and baseline.

    Raises:
        DataError: fewer than two features that vary, or too few events.
    """
    varies = (np.ptp(reference, axis=0) > 0) & (np.ptp(generated, axis=0) > 0)
    if varies.sum() < 2 or min(len(reference), len(generated)) < MIN_VALUES:
        raise DataError(
            "correlations need two observables that vary and fifty events in each sample"
        )
    x, y = reference[:, varies], generated[:, varies]
    w, v = weights or (np.ones(len(x)), np.ones(len(y)))
    rng = numpy_generator(seed, "evaluation", "correlation")
    size = statistics.equivalent_size(w, v)

    def resampled(values: Floats, each: Floats, size: int) -> Floats:
        rows = rng.integers(0, len(values), size)
        return correlations(values[rows], each[rows])

    toys = range(statistics.TOYS // 4)
    spread_ = [_rms(resampled(x, w, len(x)) - resampled(y, v, len(y))) for _ in toys]
    null = [_rms(resampled(x, w, len(x)) - resampled(x, w, size)) for _ in toys]
    return Estimate(
        _rms(correlations(x, w) - correlations(y, v)),
        float(np.std(spread_)),
        float(np.mean(null)),
        float(np.std(null)),
    )


def _rms(difference: Floats) -> float:
    """Root mean square of what is off the diagonal of ``[d, d]``."""
    d = len(difference)
    return float(np.sqrt(np.sum(difference**2) / (d * (d - 1))))


def of_digits(reference: Floats, generated: Floats, *, seed: int) -> Estimates:
    """Confidence, class balance and Fréchet distance of ``images[E, 784]`` in the digit classifier's eyes.

    Balance is half the sum of the absolute differences of the ten classes' shares.

    Raises:
        DataError: too few images.
    """
    x, y = (digits.digit_scores(images.reshape(-1, 28, 28)) for images in (reference, generated))
    (n, m), rng = (len(x.classes), len(y.classes)), numpy_generator(seed, "evaluation", "digits")

    def toys(first: Floats, second: Floats) -> Floats:
        draws = (
            rng.multinomial(n, first, statistics.TOYS) / n,
            rng.multinomial(m, second, statistics.TOYS) / m,
        )
        return np.asarray(np.abs(draws[0] - draws[1]).sum(axis=1) / 2)

    null = toys(x.fractions, x.fractions)
    balance = float(np.abs(x.fractions - y.fractions).sum() / 2)
    return {
        "digit_confidence": Estimate(
            y.confidence,
            float(y.confidences.std() / np.sqrt(m)),
            x.confidence,
            float(x.confidences.std() / np.sqrt(n)),
        ),
        "digit_balance": Estimate(
            balance,
            float(toys(x.fractions, y.fractions).std()),
            float(null.mean()),
            float(null.std()),
        ),
        "digit_frechet": fpd.extrapolated_frechet(x.features, y.features, seed=seed),
    }


def std_or_one(values: Floats) -> float:
    """Standard deviation, or 1 where values do not vary."""
    deviation = float(values.std())
    return deviation if deviation > 1e-12 * abs(float(values.mean())) else 1.0


def correlations(values: Floats, weights: Floats) -> Floats:
    """``[d, d]`` coefficients of ``values[E, d]``; 0 where a feature does not vary."""
    share = (weights / weights.sum())[:, None]
    rest = values - np.sum(share * values, axis=0)
    covariance = rest.T @ (share * rest)
    variance = np.clip(np.diag(covariance), 0, None)
    scale = np.sqrt(np.where(variance > 0, variance, 1.0))
    return np.where(np.outer(variance, variance) > 0, covariance / np.outer(scale, scale), 0.0)
