"""Sliced Wasserstein distance: the mean Wasserstein distance of projections of all features onto random directions.

Each projection is binned in quantiles of both samples together; permutations of groups of events give the p-value and the baseline.
"""

import numpy as np

from hepgan.errors import DataError
from hepgan.evaluation.metrics import permutations
from hepgan.evaluation.metrics.statistics import Estimate, Floats
from hepgan.random_streams import numpy_generator

DIRECTIONS = 64
PERMUTATIONS = 200
BINS = 100
MIN_EVENTS = 50


def sliced_wasserstein(
    reference: Floats, generated: Floats, weights: tuple[Floats, Floats], *, seed: int
) -> Estimate:
    """Returns the sliced Wasserstein distance of ``[E, d]`` features in units of their standard deviation.

    Raises:
        DataError: fewer than 50 events in a sample.
    """
    n, m = len(reference), len(generated)
    if min(n, m) < MIN_EVENTS:
        raise DataError(f"needs {MIN_EVENTS} events in each sample, but there are {n} and {m}")
    rng = numpy_generator(seed, "evaluation", "sliced wasserstein")
    both = permutations.pool(*weights, seed=seed)
    features = np.concatenate([reference, generated])
    deviation = features.std(axis=0)
    features = (features - features.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    directions = rng.normal(size=(features.shape[1], DIRECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    labels = both.labels[: PERMUTATIONS + 1]
    groups = labels.shape[1]
    totals = np.zeros(len(labels))
    left_out = np.zeros(groups)
    for direction in directions.T:
        values = features @ direction
        edges = np.quantile(values, np.linspace(0, 1, BINS + 1))
        codes = np.searchsorted(edges[1:-1], values, side="right")
        table = np.bincount(both.groups * BINS + codes, both.weights, minlength=groups * BINS)
        table = table.reshape(groups, BINS)
        widths = np.diff((edges[1:] + edges[:-1]) / 2)
        first = labels @ table
        second = table.sum(axis=0) - first
        totals += _distance(first, second, widths)
        of_generated = labels[0][:, None]
        left_out += _distance(
            first[0] - of_generated * table, second[0] - (1 - of_generated) * table, widths
        )
    value, *null = totals / DIRECTIONS
    left_out /= DIRECTIONS
    baseline = np.array(null)
    variance = 0.0
    for part in (labels[0] == 0, labels[0] == 1):
        each = left_out[part]
        variance += (len(each) - 1) / len(each) * float(np.sum((each - each.mean()) ** 2))
    return Estimate(
        float(value),
        float(np.sqrt(max(variance, baseline.var()))),
        float(baseline.mean()),
        float(baseline.std()),
        permutations.gamma_p_value(float(value), baseline),
    )


def _distance(first: Floats, second: Floats, widths: Floats) -> Floats:
    """Returns the Wasserstein distances of ``[P, bins]`` histograms whose centers have the distances ``widths``."""
    gaps = [
        each.cumsum(axis=1)[:, :-1] / np.maximum(each.sum(axis=1, keepdims=True), 1e-300)
        for each in (first, second)
    ]
    return np.asarray(np.abs(gaps[0] - gaps[1]) @ widths)
