"""Bands of an ensemble: several generated samples, from trainings with other seeds or other training events.

In each bin, the band predicts the fraction of the reference's events from the mean and the spread of the ensemble (Student's t for their
number) and the statistical error of the reference. If the ensemble has the reference's distribution up to its spread, 68 % of the
reference's bins lie within the band; a smaller coverage means a bias that all trainings share.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
from hist import Hist

from hepgan.errors import DataError
from hepgan.evaluation.histograms import REFERENCE
from hepgan.evaluation.metrics.statistics import Floats, counts_of
from hepgan.evaluation.metrics.worth import LEVEL

MIN_SAMPLES = 3
MIN_EVENTS = 10.0
"""Effective events of the reference from which a bin counts for the coverage."""


class EnsembleBand(NamedTuple):
    """Band of one observable.

    Attributes:
        mean: ``[bins]`` mean fraction of events per bin, flow bins first and last.
        low: Lower edge of the band.
        high: Upper edge of the band.
        reference: Fractions of the reference.
        coverage: Fraction of the filled bins in which the reference lies within the band; 0.68 is expected.
        coverage_error: Statistical error for independent bins.
    """

    mean: Floats
    low: Floats
    high: Floats
    reference: Floats
    coverage: float
    coverage_error: float


def ensemble_bands(
    histograms: "Mapping[str, Hist[Any]]", samples: Sequence[str] = ()
) -> dict[str, EnsembleBand]:
    """Returns the band of each observable from the histograms of ``compare`` or of an ``Evaluation``.

    Args:
        histograms: Histograms by observable.
        samples: Names of the samples of the ensemble; by default all generated ones.

    Raises:
        DataError: there are fewer than three samples.
    """
    return {name: _band(histogram, samples) for name, histogram in histograms.items()}


def _band(histogram: "Hist[Any]", samples: Sequence[str]) -> EnsembleBand:
    names = list(samples) or [name for name in histogram.axes["source"] if name != REFERENCE]
    number = len(names)
    if number < MIN_SAMPLES:
        raise DataError(
            f"an ensemble needs {MIN_SAMPLES} generated samples, but there {'is' if number == 1 else 'are'} {number}"
        )
    counts = [counts_of(histogram, name) for name in (REFERENCE, *names)]
    (reference, noise), *others = (
        (c.values / c.values.sum(), c.variances / c.values.sum() ** 2) for c in counts
    )
    fractions = np.stack([each for each, _ in others])
    mean = fractions.mean(axis=0)
    own = np.mean([variance for _, variance in others], axis=0)
    # the spread contains the statistical errors of the samples, which are known
    between = np.clip(fractions.var(axis=0, ddof=1) - own, 0, None) * (1 + 1 / number)
    variance = between + own / number + noise
    # only the part between the trainings is estimated from few numbers (Satterthwaite)
    part = np.where(between > 0, between, 1.0)
    freedom = np.where(between > 0, (number - 1) * (variance / part) ** 2, np.inf)
    half = scipy.stats.t.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(variance)
    counted = (reference > 0) & (reference**2 >= MIN_EVENTS * noise)
    inside = np.abs(reference - mean) <= half
    filled = int(counted.sum())
    coverage = float(inside[counted].mean()) if filled else math.nan
    error = math.sqrt(LEVEL * (1 - LEVEL) / filled) if filled else math.nan
    return EnsembleBand(mean, mean - half, mean + half, reference, coverage, error)
