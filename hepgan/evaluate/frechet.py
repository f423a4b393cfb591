"""Distances between two samples of feature vectors: FPD, KPD and the Fréchet distance of Gaussian fits.

Definitions: arXiv:2211.10295, as the CaloChallenge uses them (arXiv:2410.21611): features are divided by the largest
magnitude that the reference has, FPD is extrapolated in 1/N to infinite N, KPD is an unbiased squared maximum mean discrepancy
with the kernel (x·y / d + 1)^4. Papers print both times 1000. Moments of groups of events are summed once and then only
added, so that extrapolation and errors cost no further pass over the events.
"""

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.linalg

from hepgan.errors import DataError
from hepgan.evaluate.statistics import Estimate, Floats

GROUPS = 20
SPLITS = 4

Singles = npt.NDArray[np.float32]


class Moments(NamedTuple):
    """Sums over events, which add: number, sum ``[d]`` and sum of products ``[d, d]``."""

    number: float
    first: Floats
    second: Floats


def moments_of(features: Floats) -> Moments:
    """The moments of ``features[E, d]``."""
    return Moments(float(len(features)), features.sum(axis=0), features.T @ features)


def frechet_distance(reference: Floats, generated: Floats) -> float:
    """|μ1 − μ2|² + tr(Σ1 + Σ2 − 2 sqrt(Σ1 Σ2)) of ``[E, d]`` samples, biased upwards by a term in 1/E."""
    shift = reference.mean(axis=0)
    return _frechet(moments_of(reference - shift), moments_of(generated - shift))


def fpd(reference: Floats, generated: Floats, *, seed: int) -> Estimate:
    """Fréchet physics distance of ``[E, d]`` features: ``extrapolated_frechet`` after normalising.

    Raises:
        DataError: too few events for so many features.
    """
    return extrapolated_frechet(*_normalised(reference, generated), seed=seed)


def extrapolated_frechet(reference: Floats, generated: Floats, *, seed: int) -> Estimate:
    """Fréchet distance of ``[E, d]`` features without its bias in 1/E.

    The error joins a jackknife over groups of events (first order) and the spread of the floor (second order); the floor is
    one half of the reference against the other, over several splits.

    Raises:
        DataError: too few events for so many features.
    """
    d = reference.shape[1]
    if min(len(reference), len(generated)) < 4 * d + 2 * GROUPS:
        raise DataError(
            f"a Fréchet distance of {d} features needs {4 * d + 2 * GROUPS} events in each sample, but there are"
            f" {len(reference)} and {len(generated)}"
        )
    rng = np.random.default_rng(seed)
    first, second = _groups(reference, rng), _groups(generated, rng)
    value = _extrapolated(first, second, rng)
    left_out = [
        _frechet(_summed(_without(first, i)), _summed(_without(second, i))) for i in range(GROUPS)
    ]
    null = [_extrapolated(*_halves(first, rng), rng, splits=1) for _ in range(2 * SPLITS)]
    linear = np.sqrt((GROUPS - 1) * np.var(left_out))
    floor_error = float(np.std(null))
    # half as many events make the floor's spread, which goes as 1/E, twice that of the value
    return Estimate(
        value, float(np.hypot(linear, floor_error / 2)), float(np.mean(null)), floor_error
    )


def kpd(
    reference: Floats, generated: Floats, *, seed: int, batches: int = 10, batch_size: int = 5000
) -> Estimate:
    """Kernel physics distance of ``[E, d]`` features: median over batches, its error from their spread.

    Raises:
        DataError: fewer than 100 events in a sample.
    """
    if min(len(reference), len(generated)) < 100:
        raise DataError(
            f"KPD needs 100 events in each sample, but there are {len(reference)} and {len(generated)}"
        )
    x, y = (values.astype(np.float32) for values in _normalised(reference, generated))
    rng = np.random.default_rng(seed)

    def median(a: Singles, b: Singles, disjoint: bool) -> tuple[float, float]:
        # batches that were the whole sample would all be the same and know nothing of the error
        size = min(batch_size, len(a) // 2, len(b) // 2)
        values = []
        for _ in range(batches):
            order = rng.permutation(len(a))
            rows = order[size : 2 * size] if disjoint else rng.permutation(len(b))[:size]
            values.append(_mmd(a[order[:size]], b[rows]))
        quartiles = np.quantile(values, [0.16, 0.5, 0.84])
        return float(quartiles[1]), float((quartiles[2] - quartiles[0]) / 2)

    value, error = median(x, y, disjoint=False)
    return Estimate(value, error, *median(x, x, disjoint=True))


def _normalised(reference: Floats, generated: Floats) -> tuple[Floats, Floats]:
    largest = np.abs(reference).max(axis=0)
    largest[largest == 0] = 1.0
    return reference / largest, generated / largest


def _groups(features: Floats, rng: np.random.Generator) -> list[Moments]:
    shift = features.mean(axis=0)
    order = rng.permutation(len(features))
    groups = [moments_of(features[rows] - shift) for rows in np.array_split(order, GROUPS)]
    # products about the sample's own mean keep the digits; the mean is put back into the first moment alone
    return [Moments(g.number, g.first + g.number * shift, _about(g, shift)) for g in groups]


def _about(group: Moments, shift: Floats) -> Floats:
    cross = np.outer(group.first, shift)
    return group.second + cross + cross.T + group.number * np.outer(shift, shift)


def _without(groups: list[Moments], place: int) -> list[Moments]:
    return groups[:place] + groups[place + 1 :]


def _halves(groups: list[Moments], rng: np.random.Generator) -> tuple[list[Moments], list[Moments]]:
    order = rng.permutation(len(groups))
    middle = len(groups) // 2
    return [groups[i] for i in order[:middle]], [groups[i] for i in order[middle:]]


def _summed(groups: list[Moments]) -> Moments:
    return Moments(
        sum(g.number for g in groups),
        functools.reduce(np.add, [g.first for g in groups]),
        functools.reduce(np.add, [g.second for g in groups]),
    )


def _extrapolated(
    first: list[Moments], second: list[Moments], rng: np.random.Generator, *, splits: int = SPLITS
) -> float:
    """2 F(N) − F(N/2), which has no term in 1/N."""
    whole = _frechet(_summed(first), _summed(second))
    halves = []
    for _ in range(splits):
        for one, other in zip(_halves(first, rng), _halves(second, rng), strict=True):
            halves.append(_frechet(_summed(one), _summed(other)))
    return 2 * whole - float(np.mean(halves))


def _frechet(one: Moments, other: Moments) -> float:
    (mean1, cov1), (mean2, cov2) = _fit(one), _fit(other)
    factor = _factor(cov1)
    # sqrt(Σ1 Σ2) has the trace of the roots of Aᵀ Σ2 A's eigenvalues for any A with A Aᵀ = Σ1
    squares = scipy.linalg.eigvalsh(factor.T @ cov2 @ factor)
    cross = np.sqrt(np.clip(squares, 0, None)).sum()
    return float(np.sum((mean1 - mean2) ** 2) + np.trace(cov1) + np.trace(cov2) - 2 * cross)


def _fit(moments: Moments) -> tuple[Floats, Floats]:
    n = moments.number
    mean = moments.first / n
    return mean, (moments.second - n * np.outer(mean, mean)) / (n - 1)


def _factor(covariance: Floats) -> Floats:
    try:
        return np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
    except np.linalg.LinAlgError:  # a constant or repeated feature
        values, vectors = np.linalg.eigh(covariance)
        return np.asarray(vectors * np.sqrt(np.clip(values, 0, None)), dtype=np.float64)


def _mmd(x: Singles, y: Singles) -> float:
    n, m = len(x), len(y)
    inside = (_kernel_sum(x, x, own=True) / (n * (n - 1))) + (
        _kernel_sum(y, y, own=True) / (m * (m - 1))
    )
    return inside - 2 * _kernel_sum(x, y, own=False) / (n * m)


def _kernel_sum(x: Singles, y: Singles, *, own: bool) -> float:
    """Sum of (x·y / d + 1)^4 over pairs, without an event's pair with itself; in slices, to bound the memory."""
    d, found = x.shape[1], 0.0
    for start in range(0, len(x), 1000):
        rows = x[start : start + 1000]
        kernel = rows @ y.T
        kernel *= 1 / d
        kernel += 1
        kernel *= kernel
        kernel *= kernel
        found += float(kernel.sum(dtype=np.float64))
    if own:
        found -= float(((np.sum(x.astype(np.float64) ** 2, axis=1) / d + 1) ** 4).sum())
    return found
