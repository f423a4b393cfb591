"""Observables in slices of the conditions: response, resolution and profiles, each with a test of the distributions.

The test is of Lepage's type: sums of the pooled ranks (location) and of their squares (scale) of the events in the slice, which has no
binning and no assumption about the distribution. Missing values count as the smallest. The dependence on the conditions within the
slice is regressed out first, so that the spread of a condition does not hide a difference.
"""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import scipy.stats

from hepgan.data.weights import effective_sample_size
from hepgan.evaluation.metrics import permutations
from hepgan.evaluation.metrics.conditions import Slice
from hepgan.evaluation.metrics.permutations import Indices, Pool
from hepgan.evaluation.metrics.statistics import Floats, weighted_mean

MIN_VALUES = 20
"""Events required of each sample in a slice."""


class SliceScore(NamedTuple):
    """Observable in a slice of a condition.

    Attributes:
        slice: The slice.
        observable: Name of the observable.
        n_reference: Events of the reference in the slice.
        n_generated: Events of the generated sample in the slice.
        mean_reference: Mean of the reference.
        mean_reference_error: Statistical error.
        mean_generated: Mean of the generated sample.
        mean_generated_error: Statistical error.
        width_reference: Standard deviation of the reference.
        width_reference_error: Statistical error.
        width_generated: Standard deviation of the generated sample.
        width_generated_error: Statistical error.
        p_value: Probability of a difference in location and scale at least as large if the distributions are equal.
    """

    slice: Slice
    observable: str
    n_reference: int
    n_generated: int
    mean_reference: float
    mean_reference_error: float
    mean_generated: float
    mean_generated_error: float
    width_reference: float
    width_reference_error: float
    width_generated: float
    width_generated_error: float
    p_value: float


class Moments(NamedTuple):
    """Mean and standard deviation with their errors."""

    mean: float
    mean_error: float
    width: float
    width_error: float


def slice_scores(
    pooled: Pool,
    part: Slice,
    condition: Floats,
    values: Mapping[str, Floats],
    design: Floats,
    smallest: Floats,
) -> Iterator[SliceScore]:
    """Yields the scores of each observable in one slice.

    Args:
        pooled: Both samples.
        part: The slice.
        condition: Values ``[E]`` of its condition, the reference first.
        values: Values ``[E]`` by observable.
        design: Columns ``[E, C]`` of all conditions.
        smallest: ``[P]`` smallest p-value of each permutation so far; updated in place.
    """
    rows = np.flatnonzero(part.contains(condition))
    n = int(np.searchsorted(rows, pooled.n_reference))
    if min(n, len(rows) - n) < MIN_VALUES:
        return
    ranks = np.stack([_ranks(every[rows]) for every in values.values()], axis=1)
    ranks = residuals(ranks, design[rows])
    for k, (name, every) in enumerate(values.items()):
        chosen = every[rows]
        # χ² with two degrees of freedom
        p_values = np.exp(-lepage(pooled, ranks[:, k], rows) / 2)
        np.minimum(smallest, p_values, out=smallest)
        first, second = (
            moments(chosen[each], pooled.weights[rows[each]])
            for each in (slice(None, n), slice(n, None))
        )
        if first is None or second is None:
            continue
        yield SliceScore(
            part, name, n, len(rows) - n,
            first.mean, first.mean_error, second.mean, second.mean_error,
            first.width, first.width_error, second.width, second.width_error,
            float(p_values[0]),
        )  # fmt: skip


def lepage(pooled: Pool, values: Floats, rows: Indices) -> Floats:
    """Returns the ``[P]`` sum of squares of the standardized differences in location and scale of the ranks of ``values[E]``."""
    location = _ranks(values)
    scale = location**2 - 1 / 3
    square = float(location @ location)
    if square > 0:  # ties make both scores correlated
        scale = scale - location * float(scale @ location) / square
    z = permutations.differences(pooled, np.stack([location, scale], axis=1), rows)
    return np.asarray((z**2).sum(axis=1))


def _ranks(values: Floats) -> Floats:
    """Returns the ranks of ``values[E]`` between −1 and 1; missing values are the smallest."""
    ranks = scipy.stats.rankdata(np.where(np.isfinite(values), values, -np.inf))
    return np.asarray(2 * ranks / (len(ranks) + 1) - 1)


def residuals(values: Floats, design: Floats) -> Floats:
    """Returns ``values[E, K]`` without their linear dependence on the columns ``design[E, C]``."""
    centered = values - values.mean(axis=0)
    if design.size == 0:
        return np.asarray(centered)
    others = design - design.mean(axis=0)
    return np.asarray(centered - others @ np.linalg.lstsq(others, centered, rcond=None)[0])


def moments(values: Floats, weights: Floats) -> Moments | None:
    """Returns mean and standard deviation of the finite values, or ``None`` if there are fewer than two."""
    valid = np.isfinite(values)
    if valid.sum() < 2 or not weights[valid].sum() > 0:
        return None
    x, w = values[valid], weights[valid]
    mean, variance = weighted_mean(x, w)
    square, error = weighted_mean((x - mean) ** 2, w)
    width = math.sqrt(max(square, 0.0))
    n = max(2.0, effective_sample_size(w))
    return Moments(
        float(mean),
        math.sqrt(variance * n / (n - 1)),
        width * math.sqrt(n / (n - 1)),
        math.sqrt(error) / (2 * width) if width > 0 else 0.0,
    )
