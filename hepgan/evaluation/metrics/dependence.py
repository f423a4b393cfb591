"""Dependence of the observables on the conditions: correlations, and the strength with which generated events follow a condition.

The response to a condition compares, over all observables, the slopes b of a regression on the condition's columns and those of the other
conditions, which is made in each sample on its own: Σ b_generated b_reference / Σ b_reference². It is 1 for a generator that follows the
condition and 0 for one that ignores it. Slopes do not depend on the distribution of a condition as long as they describe the dependence;
correlations do, so that samples with different distributions of a condition are not compared in them.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.optimize
import scipy.stats

from hepgan.data.weights import effective_sample_size
from hepgan.evaluation.metrics import permutations, slices, statistics
from hepgan.evaluation.metrics.conditions import (
    Condition,
    ConditionCorrelation,
    ConditionResponse,
)
from hepgan.evaluation.metrics.permutations import Pool
from hepgan.evaluation.metrics.statistics import Floats, normal_scores, weighted_mean

MIN_SIGNIFICANCE = 4.0
"""Significance of a dependence in the reference from which a response is tested."""
SIGMAS = 4.0
"""Number of standard errors from 1 at which a response is remarkable."""

Booleans = npt.NDArray[np.bool_]
Columns = Mapping[str, Floats]
"""Columns ``[E]`` of a condition by name, the reference first."""


DIFFERENT = 1e-4
"""p-value below which both samples have different distributions of a condition."""


class _Moments(NamedTuple):
    """Sums over groups of products of columns of the design ``[G, D, D]``, and of columns and observables ``[G, D, K]``."""

    design: Floats
    observables: Floats


def scores_of(values: Mapping[str, Floats]) -> Floats:
    """Returns the ``[E, K]`` normal scores of observables; 0 for missing values."""
    return np.stack([normal_scores(each) for each in values.values()], axis=1)


def correlations(
    pooled: Pool,
    names: list[str],
    scores: Floats,
    condition: Condition,
    columns: Columns,
    smallest: Floats,
) -> Iterator[ConditionCorrelation]:
    """Yields the correlation of each observable with each column of a condition.

    Args:
        pooled: Both samples.
        names: Names of the observables.
        scores: Their ``[E, K]`` normal scores.
        condition: The condition.
        columns: Its columns.
        smallest: ``[P]`` smallest p-value of each permutation so far; updated in place.
    """
    n, w = pooled.n_reference, pooled.weights
    u = _standardized(scores, w)
    for column, values in columns.items():
        v = _standardized(values[:, None], w)
        if not v.any():
            continue
        r = weighted_mean(u * v, w)[0]
        z = permutations.differences(pooled, u * v - r / 2 * (u**2 + v**2))
        p_values = permutations.two_sided(z)
        np.minimum(smallest, p_values.min(axis=1), out=smallest)
        first, second = (
            _correlation(scores[part], values[part], w[part])
            for part in (slice(None, n), slice(n, None))
        )
        for k, name in enumerate(names):
            yield ConditionCorrelation(
                name, condition.name, column,
                float(first[0][k]), float(first[1][k]), float(second[0][k]), float(second[1][k]),
                float(p_values[0, k]),
            )  # fmt: skip


def _correlation(u: Floats, v: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Returns the correlation coefficients of ``u[E, K]`` with ``v[E]`` and their errors (influence function)."""
    u, v = _standardized(u, weights), _standardized(v[:, None], weights)
    r = weighted_mean(u * v, weights)[0]
    variance = weighted_mean(u * v - r / 2 * (u**2 + v**2), weights)[1]
    return np.asarray(r), np.sqrt(variance)


def _standardized(values: Floats, weights: Floats) -> Floats:
    mean = weighted_mean(values, weights)[0]
    residuals = values - mean
    deviation = np.sqrt(np.clip(weights @ residuals**2 / weights.sum(), 0, None))
    return np.asarray(residuals / np.where(deviation > 1e-12, deviation, 1.0))


def different(pooled: Pool, condition: Condition, values: Floats) -> bool:
    """Returns whether the samples have different distributions of a condition with the ``values[E]``."""
    n = pooled.n_reference
    w, v = pooled.weights[:n], pooled.weights[n:]
    if condition.kind == "class":
        classes = np.unique(values, return_inverse=True)[1].ravel()
        onto = np.eye(classes.max() + 1)[classes]
        first, second = (
            statistics.Counts(each @ onto[part], each**2 @ onto[part])
            for part, each in ((slice(None, n), w), (slice(n, None), v))
        )
        p_value = statistics.chi_square(first, second).p_value or 0.0
    else:
        distance = statistics.kolmogorov(values[:n], values[n:], (w, v)).value
        sizes = effective_sample_size(w), effective_sample_size(v)
        size = math.sqrt(sizes[0] * sizes[1] / (sizes[0] + sizes[1]))
        p_value = float(scipy.stats.kstwobign.sf(size * distance))
    return p_value < DIFFERENT


def response(
    pooled: Pool,
    scores: Floats,
    condition: Condition,
    columns: Mapping[str, Columns],
    *,
    same_distribution: bool = True,
) -> ConditionResponse | None:
    """Returns the response of the generated sample to a condition, or ``None`` if the condition does not vary.

    Args:
        pooled: Both samples.
        scores: ``[E, K]`` normal scores of the observables.
        condition: The condition.
        columns: Columns of all conditions, by condition.
        same_distribution: Whether both samples have the same distribution of the condition; otherwise a wrong strength gets no remark.
    """
    own = _design(columns[condition.name].values(), condition.kind == "number")
    others = _design(
        (column for name, each in columns.items() if name != condition.name
         for column in each.values()),
        squares=True,
    )  # fmt: skip
    basis = _orthonormal(slices.residuals(own, others))
    if basis.shape[1] == 0:
        return None
    fixed = _orthonormal(slices.residuals(others, np.empty((0, 0)))) if others.size else others
    parts = [np.ones((len(scores), 1)), basis, *([fixed] if others.size else [])]
    design = np.concatenate(parts, axis=1)
    weights, n, j = pooled.weights, pooled.n_reference, basis.shape[1]
    moments = _moments(pooled, design, scores)
    of_generated = pooled.labels[0] > 0
    noise = _noise(design[:n], scores[:n], weights[:n])[1 : j + 1]
    value, error = _jackknifed(moments, of_generated, float(noise.sum()), j)
    reference = _slopes(_Moments(*(each[~of_generated].sum(axis=0) for each in moments)), j)
    z = float(np.max(np.abs(reference) / np.sqrt(np.where(noise > 0, noise, np.inf))))
    significance = _corrected(z, noise.size)
    remark = ""
    if significance >= MIN_SIGNIFICANCE:
        remark = _swapped(condition, columns, pooled, slices.residuals(scores, others))
        remark = remark or (_remark(value, error) if same_distribution else "")
    return ConditionResponse(condition.name, value, error, significance, remark)


def _moments(pooled: Pool, design: Floats, scores: Floats) -> _Moments:
    d, k = design.shape[1], scores.shape[1]
    weighted = pooled.weights[:, None] * design
    squares, products = (
        np.stack([pooled.sums(column[:, None] * other) for column in weighted.T], axis=1)
        for other in (design, scores)
    )
    return _Moments(squares.reshape(-1, d, d), products.reshape(-1, d, k))


def _slopes(moments: _Moments, number: int) -> Floats:
    """Returns the ``[…, J, K]`` coefficients of the first ``number`` columns after the constant."""
    inverse = np.linalg.pinv(moments.design, rcond=1e-9, hermitian=True)
    return np.asarray((inverse @ moments.observables)[..., 1 : number + 1, :])


def _noise(design: Floats, scores: Floats, weights: Floats) -> Floats:
    """Returns the ``[D, K]`` variances of the coefficients, for residuals of any distribution (White, Econometrica 48 (1980) 817)."""
    inverse = np.linalg.pinv(design.T @ (weights[:, None] * design), rcond=1e-9, hermitian=True)
    residuals = scores - design @ (inverse @ (design.T @ (weights[:, None] * scores)))
    return np.asarray(((weights[:, None] * design @ inverse) ** 2).T @ residuals**2)


def _design(columns: Any, squares: bool) -> Floats:
    parts = [np.asarray(column, dtype=np.float64) for column in columns]
    if squares:
        parts += [column**2 for column in parts if len(np.unique(column[:100])) > 2]
    return np.stack(parts, axis=1) if parts else np.empty((0, 0))


def _orthonormal(columns: Floats) -> Floats:
    """Returns a basis ``[E, J]`` of the columns' span with mean squares of 1."""
    values, vectors = np.linalg.eigh(columns.T @ columns / len(columns))
    kept = values > 1e-6
    return np.asarray(columns @ vectors[:, kept] / np.sqrt(values[kept]))


def _jackknifed(
    moments: _Moments, of_generated: Booleans, noise: float, number: int
) -> tuple[float, float]:
    """Returns the response and its error from leaving out each group in turn."""
    parts = [_Moments(*(each[rows] for each in moments)) for rows in (~of_generated, of_generated)]
    totals = [_Moments(*(each.sum(axis=0) for each in part)) for part in parts]
    slopes = [_slopes(total, number) for total in totals]

    def ratio(reference: Floats, generated: Floats) -> Floats:
        strength = np.maximum(np.sum(reference**2, axis=(-2, -1)) - noise, noise)
        return np.asarray(np.sum(reference * generated, axis=(-2, -1)) / strength)

    variance = 0.0
    for i in range(2):
        without = _slopes(
            _Moments(*(total - part for total, part in zip(totals[i], parts[i], strict=True))),
            number,
        )
        left_out = ratio(without, slopes[1]) if i == 0 else ratio(slopes[0], without)
        g = len(left_out)
        variance += (g - 1) / g * float(np.sum((left_out - left_out.mean()) ** 2))
    return float(ratio(*slopes)), math.sqrt(variance)


def _corrected(z: float, tests: int) -> float:
    """Returns the significance of the largest of several Gaussian deviates, at least 0."""
    log_p = min(scipy.stats.norm.logsf(z) + math.log(2 * tests), math.log(0.5))
    return float(scipy.stats.norm.isf(math.exp(log_p))) if log_p > -600 else z


def _remark(value: float, error: float) -> str:
    low, high = value - SIGMAS * error, value + SIGMAS * error
    if high < 0:
        return "reversed"
    if low < 0.1 and high < 0.7:
        return "ignored"
    if high < 1:
        return "weak"
    return "strong" if low > 1 else ""


def _swapped(
    condition: Condition, columns: Mapping[str, Columns], pooled: Pool, scores: Floats
) -> str:
    """Returns the names of swapped classes: those whose generated means fit the reference's means of other classes."""
    own = columns[condition.name]
    if condition.kind != "class" or not own:
        return ""
    indicators = dict(own)
    if len(own) == 1:  # the other of two classes
        ((name, second),) = own.items()
        every = [f"{condition.name} = {each}" for each in condition.classes]
        others = [each for each in every if each != name]
        if len(others) != 1:
            return ""
        indicators = {others[0]: 1 - second, name: second}
    n, names = pooled.n_reference, list(indicators)
    means, errors = [], []
    for part in (slice(None, n), slice(n, None)):
        class_means = [
            weighted_mean(scores[part][rows > 0], pooled.weights[part][rows > 0])
            for rows in (indicators[name][part] for name in names)
            if (rows > 0).sum() > 1
        ]
        if len(class_means) < len(names):
            return ""
        means.append(np.array([mean for mean, _ in class_means]))
        errors.append(np.array([variance for _, variance in class_means]))
    noise = errors[0][None] + errors[1][:, None]
    cost = np.sum(
        (means[1][:, None] - means[0][None]) ** 2 / np.where(noise > 0, noise, 1.0), axis=2
    )
    rows, best = scipy.optimize.linear_sum_assignment(cost)
    gain = float(np.trace(cost) - cost[rows, best].sum())
    moved = [names[i].removeprefix(f"{condition.name} = ") for i in rows if best[i] != i]
    # the mean cost of an observable is 1 where the classes fit
    if not moved or gain < 25 * scores.shape[1] ** 0.5 or cost[rows, best].sum() > gain / 2:
        return ""
    return f"swapped: {', '.join(moved)}"
