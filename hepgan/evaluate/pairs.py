"""Two samples -> estimates by metric: what ``metrics.measure`` puts together, one function a kind of quantity."""

import math
from typing import Any

import numpy as np
import scipy.stats
from hist import Hist

from hepgan.errors import DataError
from hepgan.evaluate import compare, digits, frechet, statistics
from hepgan.evaluate.statistics import Estimate, Floats

Estimates = dict[str, Estimate]

FEWEST = 50
"""Values that a distribution needs in each sample."""

SURE = 0.95
"""Images are digits when the digit classifier is so sure of the reference."""


def of_values(
    reference: Floats, generated: Floats, histogram: "Hist[Any]", *, source: str, seed: int
) -> Estimates:
    """Separation, χ², Kolmogorov and Wasserstein distances of ``[E]`` values; missing ones count in the first two.

    Raises:
        DataError: too few values, or one and the same value everywhere.
    """
    x, y = reference[np.isfinite(reference)], generated[np.isfinite(generated)]
    if min(len(x), len(y)) < FEWEST:
        raise DataError(
            f"needs {FEWEST} values in each sample, but there are {len(x)} and {len(y)}"
        )
    if x.min() == x.max() == y.min() == y.max():
        raise DataError(f"is {x[0]:g} in every event of both samples")
    counts = (statistics.counts_of(histogram, name) for name in (compare.REFERENCE, source))
    p, q = counts
    distance = statistics.wasserstein(x, y, seed=seed)
    unit = spread(x)
    return {
        "separation": statistics.separation(p, q, seed=seed),
        "chi_square": statistics.chi_square(p, q),
        "kolmogorov": statistics.kolmogorov(x, y),
        "wasserstein": Estimate(*(number / unit for number in distance[:4])),
    }


def of_spectrum(
    reference: Floats, generated: Floats, histogram: "Hist[Any]", *, seed: int
) -> Estimates:
    """Separation and χ² of the spectrum of ``cells[E, K]``, and the largest pull in the mean image.

    Raises:
        DataError: too few events, or cells that are all empty.
    """
    if min(len(reference), len(generated)) < FEWEST:
        raise DataError(
            f"needs {FEWEST} events in each sample, but there are {len(reference)} and {len(generated)}"
        )
    if not reference.any() and not generated.any():
        raise DataError("has no lit cell in either sample")
    occupations = [
        compare.occupations(cells, histogram.axes[1]) for cells in (reference, generated)
    ]
    return {
        "separation": statistics.clustered_separation(*occupations, seed=seed),
        "chi_square": statistics.clustered_chi_square(*occupations),
        **mean_image(reference, generated),
    }


def mean_image(reference: Floats, generated: Floats) -> Estimates:
    """The largest pull among cells of the mean root of ``cells[E, K]``, with the chance of one as large.

    Roots, because the mean of a cell's energy hangs on few events; cells that hardly ever light up are left out.
    """
    x, y = np.sqrt(np.abs(reference)), np.sqrt(np.abs(generated))
    used = (x > 0).sum(axis=0) + (y > 0).sum(axis=0) >= FEWEST
    number = int(used.sum())
    if number == 0:
        return {}
    x, y = x[:, used], y[:, used]
    n, m = len(x), len(y)
    pooled = ((n - 1) * x.var(axis=0) + (m - 1) * y.var(axis=0)) / (n + m - 2)
    noise = np.sqrt(np.where(pooled > 0, pooled, 1.0) * (1 / n + 1 / m))
    value = float(np.max(np.abs(x.mean(axis=0) - y.mean(axis=0)) / noise))
    p_value = -math.expm1(number * math.log1p(-min(2 * scipy.stats.norm.sf(value), 1 - 1e-16)))
    low, floor, high = (
        scipy.stats.norm.isf((1 - q ** (1 / number)) / 2) for q in (0.16, 0.5, 0.84)
    )
    return {"mean_image": Estimate(value, 1.0, float(floor), float(high - low) / 2, p_value)}


def correlation_distance(reference: Floats, generated: Floats, *, seed: int) -> Estimate:
    """Root mean square difference of the correlation coefficients of ``[E, d]`` features; resampled error and floor.

    Raises:
        DataError: fewer than two features that vary, or too few events.
    """
    varies = (np.ptp(reference, axis=0) > 0) & (np.ptp(generated, axis=0) > 0)
    if varies.sum() < 2 or min(len(reference), len(generated)) < FEWEST:
        raise DataError(
            "correlations need two observables that vary and fifty events in each sample"
        )
    x, y = reference[:, varies], generated[:, varies]
    rng = np.random.default_rng(seed)

    def distance(a: Floats, b: Floats) -> float:
        difference = _correlations(a) - _correlations(b)
        d = len(difference)
        return float(np.sqrt(np.sum(difference**2) / (d * (d - 1))))

    def resampled(values: Floats, size: int) -> Floats:
        return values[rng.integers(0, len(values), size)]

    n, m, toys = len(x), len(y), range(statistics.TOYS // 4)
    spread_ = [distance(resampled(x, n), resampled(y, m)) for _ in toys]
    null = [distance(resampled(x, n), resampled(x, m)) for _ in toys]
    return Estimate(
        distance(x, y), float(np.std(spread_)), float(np.mean(null)), float(np.std(null))
    )


def are_digits(images: Floats) -> bool:
    """Whether the digit classifier takes ``images[E, 784]`` of the reference for digits."""
    if images.shape[1] != 28 * 28 or images.min() < 0 or not 1 < images.max() <= 255:
        return False
    return digits.digit_scores(images[:1000].reshape(-1, 28, 28)).confidence > SURE


def of_digits(reference: Floats, generated: Floats, *, seed: int) -> Estimates:
    """Confidence, class balance and Fréchet distance of ``images[E, 784]`` in the digit classifier's eyes.

    Balance is half the sum of the absolute differences of the ten classes' shares.

    Raises:
        DataError: too few images.
    """
    x, y = (digits.digit_scores(images.reshape(-1, 28, 28)) for images in (reference, generated))
    (n, m), rng = (len(x.classes), len(y.classes)), np.random.default_rng(seed)

    def toys(first: Floats, second: Floats) -> Floats:
        draws = (
            rng.multinomial(n, first, statistics.TOYS) / n,
            rng.multinomial(m, second, statistics.TOYS) / m,
        )
        return np.asarray(np.abs(draws[0] - draws[1]).sum(axis=1) / 2)

    null = toys(x.shares, x.shares)
    balance = float(np.abs(x.shares - y.shares).sum() / 2)
    return {
        "digit_confidence": Estimate(
            y.confidence,
            float(y.confidences.std() / np.sqrt(m)),
            x.confidence,
            float(x.confidences.std() / np.sqrt(n)),
        ),
        "digit_balance": Estimate(
            balance, float(toys(x.shares, y.shares).std()), float(null.mean()), float(null.std())
        ),
        "digit_frechet": frechet.extrapolated_frechet(x.features, y.features, seed=seed),
    }


def spread(values: Floats) -> float:
    """Standard deviation, or 1 where values do not vary."""
    deviation = float(values.std())
    return deviation if deviation > 1e-12 * abs(float(values.mean())) else 1.0


def _correlations(values: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):  # a resampled column may be constant
        found = np.corrcoef(values, rowvar=False)
    return np.where(np.isfinite(found), found, 0.0)
