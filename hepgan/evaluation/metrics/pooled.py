"""Tests of both samples together: conditions, slices, and the number of independent tests of an evaluation."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
from hist import Hist

from hepgan.evaluation import histograms
from hepgan.evaluation.metrics import dependence, permutations, slices, statistics
from hepgan.evaluation.metrics.conditions import (
    Condition,
    ConditionCorrelation,
    ConditionResponse,
    columns_of,
)
from hepgan.evaluation.metrics.permutations import Pool
from hepgan.evaluation.metrics.slices import SliceScore
from hepgan.evaluation.metrics.statistics import Floats
from hepgan.evaluation.observables.base import chunks
from hepgan.evaluation.observables.standard import Observable
from hepgan.evaluation.sample import Sample
from hepgan.progress import ProgressCallback, no_progress

KOLMOGOROV_BINS = 200


class PooledTests(NamedTuple):
    """Results of ``pooled_tests``.

    Attributes:
        slices: Scores in slices of the conditions.
        correlations: Correlations of observables with conditions.
        responses: Responses to conditions.
        smallest: ``[P]`` smallest p-value of all tests in each permutation; the first is that of the samples.
        different: Conditions whose distributions differ. They change observables in slices and correlations: only slices of a
            single value of such a condition are compared, and only if it is the only one.
    """

    slices: list[SliceScore]
    correlations: list[ConditionCorrelation]
    responses: list[ConditionResponse]
    smallest: Floats
    different: list[str]


def pooled_tests(
    reference: Sample,
    generated: Sample,
    observables: Mapping[str, Observable],
    filled: "Mapping[str, Hist[Any]]",
    conditions: Mapping[str, Condition],
    *,
    seed: int,
    progress: ProgressCallback = no_progress,
) -> PooledTests:
    """Returns the tests in slices of the conditions, and the smallest p-value of all tests of observables in each permutation."""
    both = permutations.pool(reference.weights, generated.weights, seed=seed)
    values = {
        name: np.concatenate([reference.values[name], generated.values[name]])
        for name, o in observables.items()
        if not o.spectrum
    }
    results = PooledTests([], [], [], np.ones(len(both.labels)), [])
    for name, each in values.items():
        _test_distribution(both, each, filled[name].axes[1], results.smallest)
    for observable in observables.values():
        if observable.spectrum:
            _test_cells(both, reference, generated, observable, filled, results.smallest)
    depending = {
        name: each
        for name, each in values.items()
        if name not in conditions
        and name != "E_inc"
        and len(np.unique(each[np.isfinite(each)])) > 1
    }
    if both.unweighted and depending:
        outside = statistics.any_in_tails(list(depending.values()), len(both.groups))[0]
        _test_tails(both, np.flatnonzero(outside), results.smallest)
    if not conditions or not depending:
        return results
    pairs = {name: (reference.events[name], generated.events[name]) for name in conditions}
    columns: dict[str, dict[str, Floats]] = {
        name: {
            column: np.concatenate(pair)
            for column, pair in columns_of(condition, *pairs[name]).items()
        }
        for name, condition in conditions.items()
    }
    scores = dependence.scores_of(depending)
    design = np.stack([c for each in columns.values() for c in each.values()], axis=1)
    at = {name: np.concatenate(pair).astype(np.float64) for name, pair in pairs.items()}
    results.different.extend(
        name for name, each in conditions.items() if dependence.different(both, each, at[name])
    )
    for i, (name, condition) in enumerate(conditions.items()):
        progress(f"slices of {name}", i / len(conditions), "")
        if not results.different:
            results.correlations.extend(
                dependence.correlations(
                    both, list(depending), scores, condition, columns[name], results.smallest
                )
            )
        response = dependence.response(
            both, scores, condition, columns, same_distribution=name not in results.different
        )
        if response is not None:
            results.responses.append(response)
        for part in condition.slices:
            if not results.different or (results.different == [name] and part.low == part.high):
                results.slices.extend(
                    slices.slice_scores(both, part, at[name], depending, design, results.smallest)
                )
    return results


def _test_distribution(both: Pool, values: Floats, axis: Any, smallest: Floats) -> None:
    """Updates the smallest p-values with χ², the Kolmogorov distance and the tails of one observable."""
    codes = axis.index(np.where(np.isfinite(values), values, np.inf)) + 1
    first, second = _counts(both, codes, axis.size + 2)
    variances = _counts(both, codes, axis.size + 2, power=2)
    np.minimum(smallest, _chi_square(first, second, variances), out=smallest)
    valid = np.isfinite(values)
    if valid.any() and both.unweighted:
        rows = np.flatnonzero(valid)
        outside = np.concatenate(statistics.in_tails(values[rows], len(rows)))
        _test_tails(both, rows[outside], smallest)
    edges = np.unique(
        np.quantile(values[valid], np.linspace(0, 1, KOLMOGOROV_BINS + 1)[1:-1])
        if valid.any()
        else []
    )
    if len(edges) < 2:
        return
    rows = np.flatnonzero(valid)
    codes = np.searchsorted(edges, values[rows])
    first, second = _counts(both, codes, len(edges) + 1, rows)
    n, m = first.sum(axis=1), second.sum(axis=1)
    q, r = (c.sum(axis=1) for c in _counts(both, codes, len(edges) + 1, rows, power=2))
    enough = (n > 0) & (m > 0)
    n, m = np.where(enough, n, 1), np.where(enough, m, 1)
    gap = np.abs(first.cumsum(axis=1) / n[:, None] - second.cumsum(axis=1) / m[:, None])
    effective = np.sqrt(1 / np.where(enough, q / n**2 + r / m**2, 1.0))
    p_values = scipy.stats.kstwobign.sf(effective * gap.max(axis=1))
    np.minimum(smallest, np.where(enough, p_values, 1.0), out=smallest)


def _test_tails(both: Pool, rows: Any, smallest: Floats) -> None:
    """Updates the smallest p-values with the number of generated events among ``rows``."""
    counts = both.labels @ np.bincount(both.groups[rows], minlength=both.labels.shape[1])
    generated = 1 - both.n_reference / len(both.groups)
    p_values = statistics.binomial_p_values(len(rows), generated)
    np.minimum(smallest, p_values[np.round(counts).astype(int)], out=smallest)


def _counts(
    both: Pool, codes: Any, bins: int, rows: Any = None, *, power: int = 1
) -> tuple[Floats, Floats]:
    """Returns the ``[P, bins]`` sums of weights of generated and of reference events in each bin."""
    groups = both.groups if rows is None else both.groups[rows]
    weights = both.weights if rows is None else both.weights[rows]
    number = both.labels.shape[1]
    sums = np.bincount(groups * bins + codes, weights**power, minlength=number * bins)
    table = sums.reshape(number, bins)
    generated = both.labels @ table
    return generated, np.clip(table.sum(axis=0) - generated, 0, None)


def _chi_square(first: Floats, second: Floats, variances: tuple[Floats, Floats]) -> Floats:
    """Returns the p-values of the two-sample χ² of ``[P, bins]``, with bins merged as in the true assignment."""
    groups = statistics.merge_sparse_bins([first[0], second[0]], [variances[0][0], variances[1][0]])
    onto = np.eye(int(groups.max()) + 1)[groups]
    w1, w2, v1, v2 = (each @ onto for each in (second, first, variances[1], variances[0]))
    ndf = w1.shape[1] - 1
    if ndf < 1:
        return np.ones(len(first))
    t1, t2 = (w.sum(axis=1, keepdims=True) for w in (w1, w2))
    noise = t1**2 * v2 + t2**2 * v1
    chi2 = np.sum((t1 * w2 - t2 * w1) ** 2 / np.where(noise > 0, noise, 1.0), axis=1)
    return np.asarray(scipy.stats.chi2.sf(chi2, ndf))


def _test_cells(
    both: Pool,
    reference: Sample,
    generated: Sample,
    observable: Observable,
    filled: "Mapping[str, Hist[Any]]",
    smallest: Floats,
) -> None:
    """Updates the smallest p-values with the spectrum of the cells and with the mean image."""
    axis = filled[observable.name].axes[1]
    occupancies, roots = [], []
    for sample in (reference, generated):
        for chunk in chunks(sample.events):
            cells = np.asarray(observable.function(chunk), dtype=np.float64)
            occupancies.append(histograms.bin_occupancies(cells, axis).astype(np.float32))
            roots.append(np.sqrt(np.abs(cells)).astype(np.float32))
    image = np.concatenate(roots)
    used = (image > 0).sum(axis=0) >= MIN_HITS
    if used.any():
        z = permutations.differences(both, image[:, used])
        p_values = -np.expm1(used.sum() * np.log1p(-permutations.two_sided(np.abs(z).max(axis=1)).clip(0, 1 - 1e-16)))  # fmt: skip
        np.minimum(smallest, p_values, out=smallest)
    counts = np.concatenate(occupancies)
    counts = counts[:, counts.std(axis=0) > 0].astype(np.float64)
    if counts.shape[1]:
        values, vectors = np.linalg.eigh(np.corrcoef(counts, rowvar=False).reshape(counts.shape[1], -1))  # fmt: skip
        kept = values > 1e-6
        standardized = (counts - counts.mean(axis=0)) / counts.std(axis=0)
        z = permutations.differences(both, standardized @ vectors[:, kept])
        np.minimum(smallest, scipy.stats.chi2.sf((z**2).sum(axis=1), kept.sum()), out=smallest)


MIN_HITS = 50
"""Hits that a cell needs to be compared."""
