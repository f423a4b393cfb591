"""Tests of two histograms of hist or boost-histogram for a common shape, with weights and flow bins.

| test | sensitive to | p-value |
|---|---|---|
| ``chi_square_test`` | any difference | exact for large counts |
| ``kolmogorov_test`` | differences that extend over many bins | conservative: binning reduces the distance |
"""

import math
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
from hist import BaseHist

from hepgan.errors import DataError
from hepgan.evaluation.metrics import statistics
from hepgan.evaluation.metrics.statistics import Counts


class HistogramTest(NamedTuple):
    """Result of a test of two histograms.

    Attributes:
        statistic: χ², or the largest distance of the cumulative distributions.
        ndf: Degrees of freedom of χ²; the effective number of entries n m / (n + m) of the Kolmogorov test.
        p_value: Probability of a statistic at least as large if both histograms have the same shape.
    """

    statistic: float
    ndf: float
    p_value: float


def chi_square_test(
    first: "BaseHist[Any]",
    second: "BaseHist[Any]",
    *,
    flow: bool = True,
    min_entries: float = statistics.MIN_ENTRIES,
) -> HistogramTest:
    """Returns the χ² test of the shapes of two histograms (N. Gagunashvili, arXiv:physics/0605123).

    >>> import hist
    >>> axis = hist.axis.Regular(2, 0, 2)
    >>> first, second = (hist.Hist(axis, data=data) for data in ([20, 30], [40, 60]))
    >>> chi_square_test(first, second, flow=False)
    HistogramTest(statistic=0.0, ndf=1, p_value=1.0)

    Args:
        first: Histogram of any dimension, weighted or unweighted.
        second: The same axes.
        flow: Whether underflow and overflow count as bins.
        min_entries: Effective entries required of each bin in both histograms; bins with fewer are merged with their neighbors.

    Raises:
        DataError: the axes differ, or a histogram has no entries.
    """
    p, q = _counts(first, second, flow=flow)
    groups = statistics.merge_sparse_bins(
        [p.values, q.values], [p.variances, q.variances], min_entries=min_entries
    )
    chi2, ndf, _ = statistics.shape_chi_square(p, q, groups)
    return HistogramTest(chi2, ndf, float(scipy.stats.chi2.sf(chi2, ndf)) if ndf else 1.0)


def kolmogorov_test(
    first: "BaseHist[Any]", second: "BaseHist[Any]", *, flow: bool = True
) -> HistogramTest:
    """Returns the Kolmogorov test of the shapes of two one-dimensional histograms.

    Weighted histograms count with their effective number of entries, (Σ w)² / Σ w².

    Args:
        first: Histogram, weighted or unweighted.
        second: The same axis.
        flow: Whether underflow and overflow count as bins.

    Raises:
        DataError: the axes differ, a histogram has no entries, or there is more than one axis.
    """
    if len(first.axes) != 1:
        raise DataError(
            f"the Kolmogorov test needs one axis, but the histogram has {len(first.axes)}; project it"
        )
    p, q = _counts(first, second, flow=flow)
    n, m = (c.values.sum() ** 2 / c.variances.sum() for c in (p, q))
    cumulative = [np.cumsum(c.values) / c.values.sum() for c in (p, q)]
    distance = float(np.max(np.abs(cumulative[0] - cumulative[1])))
    effective = float(n * m / (n + m))
    p_value = float(scipy.stats.kstwobign.sf(math.sqrt(effective) * distance))
    return HistogramTest(distance, effective, p_value)


def _counts(
    first: "BaseHist[Any]", second: "BaseHist[Any]", *, flow: bool
) -> tuple[Counts, Counts]:
    if first.axes != second.axes:
        raise DataError(
            f"the axes of the two histograms differ: {first.axes!r} and {second.axes!r}; fill both with the same axes"
        )
    pair = []
    for which, histogram in (("first", first), ("second", second)):
        values = np.asarray(histogram.values(flow=flow), float).ravel()
        variances = histogram.variances(flow=flow)
        if variances is None:
            raise DataError(
                f"the {which} histogram was filled with weights, but does not store their squares; use"
                " hist.storage.Weight()"
            )
        if not values.sum() > 0:
            raise DataError(
                f"the contents of the {which} histogram sum to {values.sum():g}; there is no shape to compare"
            )
        pair.append(Counts(values, np.asarray(variances, float).ravel()))
    return pair[0], pair[1]
