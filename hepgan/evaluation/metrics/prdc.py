"""Precision, recall, density and coverage of a sample among its nearest neighbours (arXiv:1904.06991, 2002.09797).

Precision: share of generated events within reach of the reference; recall: share of reference events within reach of the
generated; an event's reach is the distance to its k-th nearest neighbour in its own sample. Density counts how many reference events'
reach a generated event is in, over k; coverage is the share of reference events with a generated one in reach. Alike
samples have a density and coverage near 1 and a precision and recall that depend on k and N: compare with the baseline.
"""

import math
from typing import NamedTuple

import numpy as np

from hepgan.errors import DataError
from hepgan.evaluation.metrics.statistics import Estimate, Floats
from hepgan.random_streams import numpy_generator

K = 5
BATCHES = 20
"""Fewer would leave the error of their mean too uncertain."""
MIN_EVENTS = 30
MAX_BATCH = 1000


class PRDC(NamedTuple):
    """The four numbers of one batch."""

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(reference: Floats, generated: Floats, *, k: int = K) -> PRDC:
    """The four numbers for ``reference[E, d]`` and ``generated[G, d]``, which should be standardised."""
    reach_reference = _kth_neighbor_distances(reference, k)
    reach_generated = _kth_neighbor_distances(generated, k)
    distance = _distances(reference, generated)
    within = distance <= reach_reference[:, None]
    return PRDC(
        precision=float(within.any(axis=0).mean()),
        recall=float((distance <= reach_generated[None, :]).any(axis=1).mean()),
        density=float(within.sum() / (k * len(generated))),
        coverage=float(within.any(axis=1).mean()),
    )


def prdc_scores(reference: Floats, generated: Floats, *, seed: int) -> dict[str, Estimate]:
    """Means over batches with the error of the mean; the baseline is reference against reference, batch for batch.

    Raises:
        DataError: fewer than 30 events a batch.
    """
    rng = numpy_generator(seed, "evaluation", "neighbors")
    size = min(MAX_BATCH, len(reference) // (2 * BATCHES), len(generated) // BATCHES)
    if size < MIN_EVENTS:
        needed = MIN_EVENTS * BATCHES
        raise DataError(
            f"precision and recall need {2 * needed} reference and {needed} generated events, but there are"
            f" {len(reference)} and {len(generated)}"
        )
    first = rng.permutation(len(reference))[: 2 * BATCHES * size].reshape(2, BATCHES, size)
    second = rng.permutation(len(generated))[: BATCHES * size].reshape(BATCHES, size)
    found = np.array(
        [prdc(reference[a], generated[b]) for a, b in zip(first[0], second, strict=True)]
    )
    null = np.array([prdc(reference[a], reference[b]) for a, b in zip(*first, strict=True)])
    return {
        name: Estimate(*_mean(name, found[:, i], size), *_mean(name, null[:, i], size))
        for i, name in enumerate(PRDC._fields)
    }


def _mean(name: str, batches: Floats, size: int) -> tuple[float, float]:
    """Mean over batches with its error, which for a share is at least that of so many events with one more on either side."""
    mean = float(batches.mean())
    error = float(batches.std(ddof=1)) / math.sqrt(BATCHES)
    if name == "density":
        return mean, error
    number = BATCHES * size
    share = (mean * number + 1) / (number + 2)
    return mean, max(error, math.sqrt(share * (1 - share) / number))


def _distances(x: Floats, y: Floats) -> Floats:
    square = np.sum(x**2, axis=1)[:, None] + np.sum(y**2, axis=1)[None, :] - 2 * x @ y.T
    distances: Floats = np.sqrt(np.clip(square, 0, None))
    return distances


def _kth_neighbor_distances(x: Floats, k: int) -> Floats:
    own = _distances(x, x)
    np.fill_diagonal(own, 0.0)
    # the event itself is the nearest
    reach: Floats = np.partition(own, k, axis=1)[:, k]
    return reach
