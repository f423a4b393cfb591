"""Permutations of groups of events between two samples: exact null distributions of many correlated tests at once.

Under the null hypothesis events of both samples are exchangeable, and so are equally large groups of them. Sums over groups are computed
once; a permutation then only adds other groups, whatever the number of events. The smallest p-value of all tests in each permutation
gives the number of independent tests that they are worth (Westfall and Young, Resampling-Based Multiple Testing, 1993).
"""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.stats

from hepgan.evaluation.metrics.statistics import Floats
from hepgan.random_streams import numpy_generator

Indices = npt.NDArray[np.int64]

GROUPS = 200
"""Approximate number of groups of both samples together."""
MIN_GROUPS = 20
"""Groups of the smaller sample, unless it has fewer events."""
PERMUTATIONS = 1000
BLOCK = 64
"""Columns that are processed together, to bound the memory."""
TAIL = 0.05
"""Quantile of the smallest p-value at which the number of independent tests is determined."""


class Pool(NamedTuple):
    """Events of two samples, in groups that may be exchanged.

    Attributes:
        weights: ``[E]`` weights of all events, the reference first.
        n_reference: Number of events of the reference.
        groups: ``[E]`` index of the group of each event.
        labels: ``[P, G]`` 1 where a group counts as generated; the first row is the true assignment, the others are permutations.
    """

    weights: Floats
    n_reference: int
    groups: Indices
    labels: Floats

    @property
    def unweighted(self) -> bool:
        """True if all weights are equal."""
        return bool(np.all(self.weights == self.weights[0]))

    def sums(self, values: Floats, rows: Indices | None = None) -> Floats:
        """Returns the ``[G, K]`` sums over groups of ``values[E, K]``, or of those of the events ``rows``."""
        groups = self.groups if rows is None else self.groups[rows]
        number = self.labels.shape[1]
        columns = values.reshape(len(values), -1).T
        return np.stack([np.bincount(groups, c, minlength=number) for c in columns], axis=1)


def pool(weights: Floats, others: Floats, *, seed: int) -> Pool:
    """Returns the pool of two samples with the given event weights."""
    n, m = len(weights), len(others)
    rng = numpy_generator(seed, "evaluation", "groups of the permutations")
    size = max(1.0, min((n + m) / GROUPS, min(n, m) / MIN_GROUPS))
    first, second = max(1, round(n / size)), max(1, round(m / size))
    groups = np.concatenate(
        [rng.permutation(n) * first // n, first + rng.permutation(m) * second // m]
    )
    true = np.repeat([0.0, 1.0], [first, second])
    labels = np.stack([true, *(rng.permutation(true) for _ in range(PERMUTATIONS))])
    return Pool(np.concatenate([weights, others]), n, groups, labels)


def differences(pooled: Pool, values: npt.NDArray[Any], rows: Indices | None = None) -> Floats:
    """Returns ``[P, K]`` differences of the means of ``values[E, K]``, generated minus reference, in units of their standard errors.

    Args:
        pooled: The pool.
        values: Contributions of all events, or of those of ``rows``.
        rows: Indices of the events that count.
    """
    weights = pooled.weights if rows is None else pooled.weights[rows]
    counts, square = pooled.sums(np.stack([weights, weights**2], axis=1), rows).T
    n, q = pooled.labels @ counts, pooled.labels @ square
    m, r = counts.sum() - n, square.sum() - q
    enough = (n > 0) & (m > 0)
    n, m = np.where(enough, n, 1.0)[:, None], np.where(enough, m, 1.0)[:, None]
    size = np.where(enough[:, None], q[:, None] / n**2 + r[:, None] / m**2, np.inf)
    parts = []
    for start in range(0, values.shape[1], BLOCK):
        block = np.asarray(values[:, start : start + BLOCK], dtype=np.float64)
        residuals = block - weights @ block / weights.sum()
        variance = weights @ residuals**2 / weights.sum()
        sums = pooled.sums(weights[:, None] * residuals, rows)
        generated = pooled.labels @ sums
        shift = generated / n - (sums.sum(axis=0) - generated) / m
        parts.append(shift / np.sqrt(size * np.where(variance > 0, variance, np.inf)))
    return np.concatenate(parts, axis=1)


def effective_tests(smallest: Floats) -> float:
    """Returns the number of independent tests whose smallest p-value has the 5 % quantile of ``smallest[P]``."""
    quantile = min(float(np.quantile(smallest, TAIL)), 0.99)
    return max(1.0, math.log1p(-TAIL) / math.log1p(-max(quantile, 1e-12)))


def two_sided(z: Floats) -> Floats:
    """Returns two-sided p-values of Gaussian deviates."""
    return np.asarray(2 * scipy.stats.norm.sf(np.abs(z)))


def gamma_p_value(value: float, null: Floats) -> float:
    """Returns the probability of a value at least as large, from a gamma distribution with the first three moments of ``null``.

    Quadratic distances are weighted sums of χ² variables under the null hypothesis, which it approximates far into the tail.
    """
    mean, deviation = float(null.mean()), float(null.std(ddof=1))
    if not deviation > 0:
        return 1.0 if value <= mean else 0.0
    skewness = max(float(scipy.stats.skew(null)), 0.05)
    return float(scipy.stats.pearson3.sf((value - mean) / deviation, skewness))
