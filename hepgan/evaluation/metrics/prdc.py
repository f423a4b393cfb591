"""Precision, recall, density and coverage from nearest neighbors (arXiv:1904.06991, 2002.09797).

The radius of an event is the distance to its k-th nearest neighbor in the same sample. Precision is the fraction of generated
events within the radius of a reference event, recall the fraction of reference events within the radius of a generated event.
Density is the mean number of reference events whose radius contains a generated event, divided by k; coverage is the fraction of
reference events with a generated event within their radius. For equal distributions, density and coverage are near 1; precision
and recall depend on k and N: compare with the baseline.
"""

import math
from typing import NamedTuple

import numpy as np
import scipy.stats

from hepgan.errors import DataError
from hepgan.evaluation.metrics.statistics import Estimate, Floats
from hepgan.random_streams import numpy_generator

K = 5
BATCHES = 20
"""With fewer batches, the error of the mean would be too uncertain."""
MIN_EVENTS = 30
MAX_BATCH = 1000


class PRDC(NamedTuple):
    """Precision, recall, density and coverage of one batch."""

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(reference: Floats, generated: Floats, *, k: int = K) -> PRDC:
    """Returns the four metrics of ``reference[E, d]`` and ``generated[G, d]``, which should be standardized."""
    radius_reference = _kth_neighbor_distances(reference, k)
    radius_generated = _kth_neighbor_distances(generated, k)
    distance = _distances(reference, generated)
    within = distance <= radius_reference[:, None]
    return PRDC(
        precision=float(within.any(axis=0).mean()),
        recall=float((distance <= radius_generated[None, :]).any(axis=1).mean()),
        density=float(within.sum() / (k * len(generated))),
        coverage=float(within.any(axis=1).mean()),
    )


def prdc_scores(reference: Floats, generated: Floats, *, seed: int) -> dict[str, Estimate]:
    """Returns the means over batches with their errors; the baseline is reference against reference, batch by batch.

    Raises:
        DataError: there are fewer than 30 events per batch.
    """
    rng = numpy_generator(seed, "evaluation", "neighbors")
    size = min(MAX_BATCH, len(reference) // (2 * BATCHES), len(generated) // BATCHES)
    if size < MIN_EVENTS:
        needed = MIN_EVENTS * BATCHES
        raise DataError(
            f"precision and recall need {2 * needed:,} reference and {needed:,} generated events, but there are"
            f" {len(reference)} and {len(generated)}"
        )
    first = rng.permutation(len(reference))[: 2 * BATCHES * size].reshape(2, BATCHES, size)
    second = rng.permutation(len(generated))[: BATCHES * size].reshape(BATCHES, size)
    batches = np.array(
        [prdc(reference[a], generated[b]) for a, b in zip(first[0], second, strict=True)]
    )
    null = np.array([prdc(reference[a], reference[b]) for a, b in zip(*first, strict=True)])
    return {
        name: Estimate(
            *_mean(name, batches[:, i], size),
            *_mean(name, null[:, i], size),
            _paired_p_value(batches[:, i] - null[:, i]),
        )
        for i, name in enumerate(PRDC._fields)
    }


def _paired_p_value(differences: Floats) -> float:
    """Returns the p-value of Student's test of the differences between batches with the same reference events."""
    deviation = float(differences.std(ddof=1))
    if not deviation > 0:
        return 1.0 if not differences.any() else 0.0
    t = float(differences.mean()) / deviation * math.sqrt(len(differences))
    return float(2 * scipy.stats.t.sf(abs(t), len(differences) - 1))


def _mean(name: str, batches: Floats, size: int) -> tuple[float, float]:
    """Returns the mean over batches with its error; for fractions, at least the binomial error with one event added on either side."""
    mean = float(batches.mean())
    error = float(batches.std(ddof=1)) / math.sqrt(BATCHES)
    if name == "density":
        return mean, error
    number = BATCHES * size
    fraction = (mean * number + 1) / (number + 2)
    return mean, max(error, math.sqrt(fraction * (1 - fraction) / number))


def _distances(x: Floats, y: Floats) -> Floats:
    square = np.sum(x**2, axis=1)[:, None] + np.sum(y**2, axis=1)[None, :] - 2 * x @ y.T
    distances: Floats = np.sqrt(np.clip(square, 0, None))
    return distances


def _kth_neighbor_distances(x: Floats, k: int) -> Floats:
    own = _distances(x, x)
    np.fill_diagonal(own, 0.0)
    # index 0 is the event itself
    radius: Floats = np.partition(own, k, axis=1)[:, k]
    return radius
