"""Metrics of single observables, spectra, correlations and digits."""

import math
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
from hist import Hist

from hepgan.errors import DataError
from hepgan.evaluation import histograms
from hepgan.evaluation.formatting import percent
from hepgan.evaluation.metrics import digits, fpd, permutations, statistics
from hepgan.evaluation.metrics.scores import Finding
from hepgan.evaluation.metrics.statistics import Estimate, Floats
from hepgan.evaluation.observables.base import Observable
from hepgan.evaluation.sample import Sample
from hepgan.random_streams import numpy_generator

Estimates = dict[str, Estimate]

MIN_VALUES = 50
"""Values required in each sample."""


class Finite(NamedTuple):
    """Finite values of an observable and their weights; ``None`` if all weights are equal."""

    values: Floats
    weights: Floats | None


def finite(sample: Sample, observable: str) -> Finite:
    """Returns the finite values of an observable."""
    values = sample.values[observable]
    valid = np.isfinite(values)
    return Finite(values[valid], sample.weights[valid] if sample.weighted else None)


def of_values(
    reference: Finite, generated: Finite, histogram: "Hist[Any]", *, source: str, seed: int
) -> Estimates:
    """Returns the separation power, χ², Kolmogorov and Wasserstein distances; missing values count in the first two.

    Raises:
        DataError: there are too few values, or all values are equal.
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
    outside = {} if weights else {"tails": statistics.tails(x, y)}
    return {
        "separation": statistics.separation(p, q, seed=seed),
        "chi_square": statistics.chi_square(p, q),
        "kolmogorov": statistics.kolmogorov(x, y, weights),
        "wasserstein": _divided(distance, unit),
        **outside,
    }


def _divided(distance: Estimate, unit: float) -> Estimate:
    value, error, baseline, baseline_error, *_ = distance
    return Estimate(value / unit, error / unit, baseline / unit, baseline_error / unit)


def _weights(reference: Finite, generated: Finite) -> tuple[Floats, Floats] | None:
    if reference.weights is None and generated.weights is None:
        return None
    w, v = (
        np.ones(len(s.values)) if s.weights is None else s.weights for s in (reference, generated)
    )
    if min(w.sum(), v.sum()) <= 0:
        raise DataError("has values only in events whose weights do not have a positive sum")
    return w, v


def of_spectrum(
    reference: Floats,
    generated: Floats,
    weights: tuple[Floats, Floats],
    histogram: "Hist[Any]",
    *,
    seed: int,
) -> Estimates:
    """Returns separation power and χ² of the spectrum of ``cells[E, K]``, and the largest pull in the mean image.

    Raises:
        DataError: there are too few events, or all cells are empty.
    """
    if min(len(reference), len(generated)) < MIN_VALUES:
        raise DataError(
            f"needs {MIN_VALUES} events in each sample, but there are {len(reference)} and {len(generated)}"
        )
    if not reference.any() and not generated.any():
        raise DataError("has no hit cell in either sample")
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
    """Returns the largest pull over cells of the mean square root of ``cells[E, K]``, with its p-value.

    Square roots reduce the influence of few events on the mean; cells that are rarely hit are not used.
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


def cell_finding(observable: Observable, reference: Floats, generated: Floats) -> Finding | None:
    """Returns cells of ``cells[E, K]`` that are hit in one sample only, or ``None``."""
    hit, other = (np.count_nonzero(cells, axis=0) for cells in (reference, generated))
    n, m = len(reference), len(generated)
    layer = observable.name.removesuffix(".spectrum")
    for rate, number, text in (
        (np.where(other == 0, hit / n, 0.0), m, "dead: hit in {} of the reference's events"),
        (np.where(hit == 0, other / m, 0.0), n, "never hit in the reference, but in {} of the generated events"),
    ):  # fmt: skip
        cells = np.flatnonzero(rate * number >= MIN_VALUES)
        if len(cells):
            first = int(cells[np.argmax(rate[cells])])
            at = np.unravel_index(first, observable.shape or (len(rate),))
            name = f"cell [{', '.join(map(str, at))}]"
            subject = f"{name} is" if len(cells) == 1 else f"{len(cells)} cells such as {name} are"
            return Finding(
                "mean_image",
                observable.name,
                f"{layer}: {subject} {text.format(percent(float(rate[first])))}",
            )
    return None


def correlation_distance(
    reference: Floats,
    generated: Floats,
    weights: tuple[Floats, Floats] | None = None,
    *,
    seed: int,
) -> Estimate:
    """Returns the root mean square difference of the correlation coefficients of ``[E, d]`` features, with bootstrap errors.

    Raises:
        DataError: fewer than two features vary, or there are too few events.
    """
    varies = (np.ptp(reference, axis=0) > 0) & (np.ptp(generated, axis=0) > 0)
    if varies.sum() < 2 or min(len(reference), len(generated)) < MIN_VALUES:
        raise DataError(
            f"correlations need two observables that vary and {MIN_VALUES} events in each sample"
        )
    x, y = reference[:, varies], generated[:, varies]
    w, v = weights or (np.ones(len(x)), np.ones(len(y)))
    rng = numpy_generator(seed, "evaluation", "correlation")
    size = statistics.equivalent_size(w, v)

    def resampled(values: Floats, each: Floats, size: int) -> Floats:
        rows = rng.integers(0, len(values), size)
        return correlations(values[rows], each[rows])

    labels, n = permutations.pool(w, v, seed=seed), len(x)
    groups = [labels.groups[:n], labels.groups[n:]]
    sums = [
        moment_sums(values, each, group, labels.labels.shape[1])
        for values, each, group in zip((x, y), (w, v), groups, strict=True)
    ]
    together = sums[0] + sums[1]
    null_distances = [
        _rms(_of_moments((1 - row) @ together) - _of_moments(row @ together))
        for row in labels.labels[: CORRELATION_PERMUTATIONS + 1]
    ]
    toys = range(statistics.TOYS // 4)
    differences = [_rms(resampled(x, w, len(x)) - resampled(y, v, len(y))) for _ in toys]
    null = [_rms(resampled(x, w, len(x)) - resampled(x, w, size)) for _ in toys]
    return Estimate(
        _rms(correlations(x, w) - correlations(y, v)),
        float(np.std(differences)),
        float(np.mean(null)),
        float(np.std(null)),
        permutations.gamma_p_value(null_distances[0] ** 2, np.square(null_distances[1:])),
    )


CORRELATION_PERMUTATIONS = 200


def moment_sums(values: Floats, weights: Floats, groups: Any, number: int) -> Floats:
    """Returns the ``[G, 1 + d + d²]`` sums over groups of the weights, of ``values[E, d]`` and of their products."""
    d = values.shape[1]
    result = np.zeros((number, 1 + d + d * d))
    for group in np.unique(groups):
        x, w = values[groups == group], weights[groups == group]
        result[group] = np.concatenate([[w.sum()], w @ x, (x.T @ (w[:, None] * x)).ravel()])
    return result


def _of_moments(sums: Floats) -> Floats:
    """Returns the ``[d, d]`` correlation coefficients from the sums of ``moment_sums``."""
    d = round(math.sqrt(len(sums) - 0.75) - 0.5)
    mean = sums[1 : 1 + d] / sums[0]
    covariance = sums[1 + d :].reshape(d, d) / sums[0] - np.outer(mean, mean)
    return _normalized(covariance)


def _rms(difference: Floats) -> float:
    """Returns the root mean square of the off-diagonal elements of ``[d, d]``."""
    d = len(difference)
    return float(np.sqrt(np.sum(difference**2) / (d * (d - 1))))


def of_digits(reference: Floats, generated: Floats, *, seed: int) -> Estimates:
    """Returns confidence, class balance and Fréchet distance of ``images[E, 784]`` according to the digit classifier.

    The balance is half the sum of the absolute differences of the ten class fractions.

    Raises:
        DataError: there are too few images.
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
    """Returns the standard deviation, or 1 if the values do not vary."""
    deviation = float(values.std())
    return deviation if deviation > 1e-12 * abs(float(values.mean())) else 1.0


def correlations(values: Floats, weights: Floats) -> Floats:
    """Returns the ``[d, d]`` correlation coefficients of ``values[E, d]``; 0 where a feature does not vary."""
    fraction = (weights / weights.sum())[:, None]
    residuals = values - np.sum(fraction * values, axis=0)
    return _normalized(residuals.T @ (fraction * residuals))


def correlation_pulls(
    reference: Floats, generated: Floats, weights: tuple[Floats, Floats]
) -> Floats:
    """Returns the ``[d, d]`` differences of the correlation coefficients of ``[E, d]`` features, generated minus reference, in units of their errors.

    An event with the standardized values u and v has the influence u v − r (u² + v²) / 2 on a correlation coefficient r. Events of equal
    distributions can be exchanged, so that the error of the difference of the mean influences is that of a random assignment of the
    events to the samples: no moment of the distribution has to exist, and large pulls are as rare as those of a Gaussian (Hoeffding,
    J. Am. Stat. Assoc. 58 (1963) 13). Where the difference of the coefficients themselves is smaller, it counts instead: influences also
    differ between samples that differ in their widths alone.

    Pulls are 0 where a feature does not vary or both coefficients are 1 or −1.
    """
    samples = [
        (values - w @ values / w.sum(), w / w.mean())
        for values, w in zip((reference, generated), weights, strict=True)
    ]
    first, second = (values.T @ (w[:, None] * values) / len(w) for values, w in samples)
    n, m = len(reference), len(generated)
    both = (n * first + m * second) / (n + m)
    variance = np.diag(both)
    scale = np.sqrt(np.where(variance > 0, variance, 1.0))
    r = np.clip(both / np.outer(scale, scale), -1, 1)
    change = (second - first) / np.outer(scale, scale)
    spread = np.diag(change)
    influence = change - r / 2 * (spread[:, None] + spread)
    d = len(scale)
    products, cubes, fourth = np.zeros((d, d)), np.zeros((d, d)), np.zeros(d)
    for values, w in samples:
        for start in range(0, len(w), BLOCK):
            u = values[start : start + BLOCK] / scale
            a = w[start : start + BLOCK, None] ** 2
            products += (a * u**2).T @ u**2
            cubes += (a * u**3).T @ u
            fourth += (a * u**4).sum(axis=0)
    fourths = fourth[:, None] + fourth
    squares = products * (1 + r**2 / 2) - r * (cubes + cubes.T) + r**2 / 4 * fourths
    known = (squares > ROUNDING * fourths) & (np.outer(variance, variance) > 0)
    error = np.sqrt(np.where(known, squares, 1.0) * (1 / n + 1 / m) / (n + m))
    difference = np.clip(_normalized(second), -1, 1) - np.clip(_normalized(first), -1, 1)
    smaller = np.minimum(np.abs(difference), np.abs(influence))
    return np.where(known, np.copysign(smaller, difference) / error, 0.0)


BLOCK = 8192
"""Events that are processed together, to bound the memory."""
ROUNDING = 1e-10
"""Fraction of its terms below which a sum of squares is a rounding error."""


def _normalized(covariance: Floats) -> Floats:
    variance = np.clip(np.diag(covariance), 0, None)
    scale = np.sqrt(np.where(variance > 0, variance, 1.0))
    return np.where(np.outer(variance, variance) > 0, covariance / np.outer(scale, scale), 0.0)
