"""Fréchet physics distance (FPD), and the Fréchet distance of digits.

Definition: arXiv:2211.10295, as the CaloChallenge uses it (arXiv:2410.21611): features are divided by their largest magnitude
in the reference, and the distances for ten sample sizes, from 40 % to all events and equidistant in 1/N, are extrapolated to infinite N.
Papers quote FPD times 1000. Published code draws samples with replacement and allows no negative fit; here samples are
drawn without replacement, so that the mean distance of equal distributions is 0. Moments are computed once per group of events and then
added, so that extrapolation and errors need no further pass over the events.
"""

import functools
from typing import NamedTuple

import numpy as np
import scipy.linalg

from hepgan.errors import DataError
from hepgan.evaluation.metrics import permutations, statistics
from hepgan.evaluation.metrics.statistics import Estimate, Floats
from hepgan.random_streams import numpy_generator

GROUPS = 40
SIZES = np.unique(np.round(1 / np.linspace(2.5 / GROUPS, 1 / GROUPS, 10)).astype(int))
"""Sizes of the extrapolated samples, in groups."""
DRAWS = 20
"""Number of samples of each size."""
PERMUTATIONS = 200
TRIMMED = 0.005
"""Fraction of the reference at either end of a feature at which the trimmed distance clips it."""


class Moments(NamedTuple):
    """Additive sums over events: number, sum ``[d]`` and sum of products ``[d, d]``."""

    number: float
    first: Floats
    second: Floats


def moments_of(features: Floats, weights: Floats | None = None) -> Moments:
    """Returns the moments of ``features[E, d]``, of events with ``weights[E]``."""
    number = len(features)
    if weights is None:
        return Moments(float(number), features.sum(axis=0), features.T @ features)
    weighted = features * (weights * (number / weights.sum()))[:, None]
    return Moments(float(number), weighted.sum(axis=0), weighted.T @ features)


def frechet_distance(
    reference: Floats,
    generated: Floats,
    weights: tuple[Floats | None, Floats | None] = (None, None),
) -> float:
    """Returns |μ1 − μ2|² + tr(Σ1 + Σ2 − 2 sqrt(Σ1 Σ2)) of ``[E, d]`` samples, which has an upward bias in 1/E.

    The ``weights[E]`` of both may be negative.
    """
    shift, (w, v) = reference.mean(axis=0), weights
    return _frechet(moments_of(reference - shift, w), moments_of(generated - shift, v))


def fpd(reference: Floats, generated: Floats, *, seed: int) -> Estimate:
    """Returns the Fréchet physics distance of ``[E, d]`` features: ``extrapolated_frechet`` of the normalized features.

    Raises:
        DataError: there are too few events for the number of features.
    """
    return extrapolated_frechet(*normalize(reference, generated), seed=seed)


def extrapolated_frechet(reference: Floats, generated: Floats, *, seed: int) -> Estimate:
    """Returns the Fréchet distance of ``[E, d]`` features without its bias in 1/E.

    The baseline is the distance between halves of the reference, averaged over splits.

    Raises:
        DataError: there are too few events for the number of features.
    """
    d = reference.shape[1]
    if min(len(reference), len(generated)) < 4 * d + 2 * GROUPS:
        raise DataError(
            f"a Fréchet distance of {d} features needs {4 * d + 2 * GROUPS} events in each sample, but there are"
            f" {len(reference)} and {len(generated)}"
        )
    rng = numpy_generator(seed, "evaluation", "frechet")
    first, second = _groups(reference, rng), _groups(generated, rng)
    left_out = [
        _frechet(_summed(_without(first, i)), _summed(_without(second, i))) for i in range(GROUPS)
    ]
    null = np.array([_null(first, rng) for _ in range(GROUPS)])
    p_value = _p_value(first, second, rng)
    # halves have half the events, and fluctuations about a distance of zero scale as 1/N
    baseline_error = float(null[:, 0].std(ddof=1)) / 2
    return Estimate(
        _extrapolated(first, second, rng),
        statistics.jackknife_error(np.array(left_out), baseline_error),
        float(null[:, 1].mean()),
        baseline_error,
        p_value,
    )


def trimmed_fpd(reference: Floats, generated: Floats, *, seed: int) -> Estimate:
    """Returns the FPD of ``[E, d]`` features clipped at their 0.5 % and 99.5 % quantiles in the reference: stable with heavy tails.

    Raises:
        DataError: there are too few events for the number of features.
    """
    low, high = np.quantile(reference, [TRIMMED, 1 - TRIMMED], axis=0)
    return fpd(reference.clip(low, high), generated.clip(low, high), seed=seed)


def normalize(reference: Floats, generated: Floats) -> tuple[Floats, Floats]:
    """Divides the features of both samples by their largest magnitude in the reference."""
    largest = np.abs(reference).max(axis=0)
    largest[largest == 0] = 1.0
    return reference / largest, generated / largest


def _groups(features: Floats, rng: np.random.Generator) -> list[Moments]:
    shift = features.mean(axis=0)
    order = rng.permutation(len(features))
    groups = [moments_of(features[rows] - shift) for rows in np.array_split(order, GROUPS)]
    # products about the mean avoid cancellation; the shift is added back below
    return [Moments(g.number, g.first + g.number * shift, _about(g, shift)) for g in groups]


def _about(group: Moments, shift: Floats) -> Floats:
    cross = np.outer(group.first, shift)
    return group.second + cross + cross.T + group.number * np.outer(shift, shift)


def _without(groups: list[Moments], index: int) -> list[Moments]:
    return groups[:index] + groups[index + 1 :]


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


def _null(groups: list[Moments], rng: np.random.Generator) -> tuple[float, float]:
    """Returns the distance of two halves, and the distance without its 1/N term: 2 F(N) − F(N/2)."""
    one, other = _halves(groups, rng)
    whole = _frechet(_summed(one), _summed(other))
    quarters = [
        _frechet(_summed(a), _summed(b))
        for a, b in zip(_halves(one, rng), _halves(other, rng), strict=True)
    ]
    return whole, 2 * whole - float(np.mean(quarters))


def _p_value(first: list[Moments], second: list[Moments], rng: np.random.Generator) -> float:
    """Returns the p-value of the distance from permutations of the groups of both samples."""
    both = first + second
    numbers = np.array([group.number for group in both])
    firsts = np.stack([group.first for group in both])
    seconds = np.stack([group.second for group in both])
    total = _summed(both)
    assignments = [np.arange(GROUPS)]
    assignments += [rng.permutation(2 * GROUPS)[:GROUPS] for _ in range(PERMUTATIONS)]
    distances = []
    for rows in assignments:
        one = Moments(
            float(numbers[rows].sum()), firsts[rows].sum(axis=0), seconds[rows].sum(axis=0)
        )
        other = Moments(
            total.number - one.number, total.first - one.first, total.second - one.second
        )
        distances.append(_frechet(one, other))
    return permutations.gamma_p_value(distances[0], np.array(distances[1:]))


def _extrapolated(first: list[Moments], second: list[Moments], rng: np.random.Generator) -> float:
    """Returns the intercept of a linear fit of the distance against 1/N over ``SIZES``."""
    one, other = (_shuffled(groups, rng) for groups in (first, second))
    distances = [
        np.mean(
            [
                _frechet(_summed(_some(one, size, draw)), _summed(_some(other, size, draw)))
                for draw in range(DRAWS if size < GROUPS else 1)
            ]
        )
        for size in SIZES
    ]
    return float(np.polynomial.Polynomial.fit(1 / SIZES, distances, 1)(0.0))


def _shuffled(groups: list[Moments], rng: np.random.Generator) -> list[Moments]:
    return [groups[i] for i in rng.permutation(len(groups))]


def _some(groups: list[Moments], size: int, draw: int) -> list[Moments]:
    """Returns a cyclic slice, so that every group is drawn equally often."""
    start = draw * len(groups) // DRAWS
    return (groups + groups)[start : start + size]


def _frechet(one: Moments, other: Moments) -> float:
    (mean1, cov1), (mean2, cov2) = _fit(one), _fit(other)
    if not (np.isfinite(cov1).all() and np.isfinite(cov2).all()):
        return float("nan")  # scipy would raise
    factor = _factor(cov1)
    # tr sqrt(Σ1 Σ2) is the sum of the square roots of the eigenvalues of Aᵀ Σ2 A for any A with A Aᵀ = Σ1
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
