"""Profiles of showers: energy in depth and radius, response and resolution in energy, and differences of correlations.

Profiles are ``Hist(source, axis)`` whose bins hold the mean over events and, as the variance, the square of its error.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import hist
import numpy as np
import scipy.optimize
import scipy.stats
from hist import Hist

from hepgan.evaluation.histograms import REFERENCE
from hepgan.evaluation.metrics import per_observable, statistics
from hepgan.evaluation.metrics.histogram_tests import HistogramTest
from hepgan.evaluation.metrics.statistics import Estimate, Floats
from hepgan.evaluation.observables.geometry import Layer
from hepgan.evaluation.observables.shower_shapes import Array
from hepgan.evaluation.sample import Sample
from hepgan.random_streams import numpy_generator

MAX_RINGS = 20
"""Largest number of bins of a radial profile, unless the cells are rings themselves."""

POINTS = 8
"""Points along each axis over which the energy of a rectangular cell is spread."""

MAX_DISCRETE_ENERGIES = 30
"""Largest number of different incident energies that have a bin each."""

EVENTS_PER_BIN = 150
"""Reference events in each bin of the incident energy, on average."""

CORE = 2.0
"""Half width of the core of a response, in its standard deviations."""

_CORE_WIDTH = float(scipy.stats.truncnorm(-CORE, CORE).std())
"""Standard deviation of a unit Gaussian within ± ``CORE``."""

REPLICAS = 40
"""Bootstrap replicas for the errors of a response."""


class ShowerProfile(NamedTuple):
    """Mean energy of events along an axis.

    Attributes:
        histogram: ``Hist(source, axis)``.
        tests: χ² tests by generated source, with the covariance between the bins.
    """

    histogram: "Hist[Any]"
    tests: Mapping[str, HistogramTest]


def as_test(chi_square: Estimate) -> HistogramTest | None:
    """Returns the test of a χ²/ndf with its baseline; ``None`` if there are no degrees of freedom."""
    if not chi_square.baseline_error or chi_square.p_value is None:
        return None
    ndf = round(2 / chi_square.baseline_error**2)
    return HistogramTest(chi_square.value * ndf, ndf, chi_square.p_value)


def longitudinal(
    samples: Mapping[str, Sample], layers: Sequence[Layer], *, unit: str
) -> ShowerProfile:
    """Returns the mean energy of each layer."""
    numbers = [f"{layer.number:g}" for layer in layers]
    labels = numbers if len(set(numbers)) == len(numbers) else [layer.name for layer in layers]
    axis = hist.axis.StrCategory(labels, name="layer", label="layer")
    energies = {
        name: np.stack([_sums(layer.cells(sample.events)) for layer in layers], axis=1)
        for name, sample in samples.items()
    }
    return _profile(energies, samples, axis, np.ones(len(layers)), f"mean energy [{unit}]")


def radial(
    samples: Mapping[str, Sample], layers: Sequence[Layer], *, unit: str
) -> ShowerProfile | None:
    """Returns the mean energy per radius about the axis r = 0, of all layers together; ``None`` if cells have no common radius.

    The energy of a rectangular cell is spread evenly over its area.
    """
    if len({layer.length for layer in layers}) > 1:
        return None
    points = [_radii(layer) for layer in layers]
    known = [radii for radii in points if radii is not None]
    if len(known) < len(layers):
        return None
    edges = _ring_edges(np.concatenate([radii.ravel() for radii in known]))
    axis = hist.axis.Variable(edges, name="r", label=f"r [{layers[0].length}]")
    rings = {name: np.zeros((sample.number, axis.size)) for name, sample in samples.items()}
    for layer, radii in zip(layers, known, strict=True):
        ring = np.clip(np.searchsorted(edges, radii, side="right") - 1, 0, axis.size - 1)
        onto = np.stack([np.bincount(each, minlength=axis.size) for each in ring]) / ring.shape[1]
        for name, sample in samples.items():
            rings[name] += np.asarray(layer.cells(sample.events) @ onto.astype(np.float32), float)
    title = f"mean dE/dr [{unit}/{layers[0].length}]"
    return _profile(rings, samples, axis, 1 / np.diff(edges), title)


def _radii(layer: Layer) -> Floats | None:
    """Returns the distances ``[K, points]`` of points in each cell from r = 0; ``None`` if the layer has fewer than two axes."""
    if "r" in layer.positions:
        return np.asarray(layer.positions["r"], float)[:, None]
    if len(layer.positions) < 2:
        return None
    points = (np.arange(POINTS) + 0.5) / POINTS - 0.5
    x, y = (
        np.asarray(at, float)[:, None] + np.multiply.outer(_edges(layer, at), points)
        for at in itertools.islice(layer.positions.values(), 2)
    )
    radii: Floats = np.hypot(x[:, :, None], y[:, None, :]).reshape(len(x), -1)
    return radii


def _edges(layer: Layer, at: Sequence[float]) -> Floats:
    """Returns ``[K]`` edges of the cells along the axis on which they are ``at``."""
    if layer.sizes:
        return np.asarray(layer.sizes)
    return np.full(len(at), np.diff(np.unique(at)).min())


def _ring_edges(radii: Floats) -> Floats:
    """Returns edges between the different radii if they are few, or else regular ones."""
    values = np.unique(radii.round(6))
    if len(values) <= MAX_RINGS:
        inner = (values[1:] + values[:-1]) / 2
        last = 2 * values[-1] - inner[-1] if len(inner) else 2 * values[-1]
        return np.concatenate([[0.0], inner, [last or 1.0]])
    # the corners of a grid hold little: the last ring takes everything beyond the largest circle
    outer = float(np.quantile(radii, 0.8))
    return np.concatenate([np.linspace(0, outer, MAX_RINGS), [float(values[-1]) * 1.001]])


def _sums(cells: Array) -> Floats:
    return np.asarray(cells.sum(axis=1, dtype=np.float64))


def _profile(
    per_event: Mapping[str, Floats],
    samples: Mapping[str, Sample],
    axis: Any,
    factors: Floats,
    title: str,
) -> ShowerProfile:
    """Returns the profile of ``per_event[E, bins]`` energies by source; ``factors`` multiply the bins."""
    sources = hist.axis.StrCategory(list(samples), name="source")
    histogram: Hist[Any] = Hist(sources, axis, storage=hist.storage.Weight(), label=title)
    tests = {}
    for i, (name, values) in enumerate(per_event.items()):
        mean, variance = statistics.weighted_mean(values, samples[name].weights)
        view = histogram.view()[i]
        view["value"], view["variance"] = mean * factors, variance * factors**2
        if name != REFERENCE:
            both = (per_event[REFERENCE], values)
            weights = (samples[REFERENCE].weights, samples[name].weights)
            if min(map(len, both)) > 1 and (
                test := as_test(statistics.clustered_chi_square(*both, weights))
            ):
                tests[name] = test
    return ShowerProfile(histogram, tests)


class Response(NamedTuple):
    """Response in bins of the incident energy: Gaussian core of the distribution in each.

    Attributes:
        energy: ``[bins]`` mean incident energies.
        mean: ``[bins]`` means of the cores.
        mean_error: ``[bins]`` their errors.
        resolution: ``[bins]`` standard deviations of the cores over their means.
        resolution_error: ``[bins]`` their errors.
    """

    energy: Floats
    mean: Floats
    mean_error: Floats
    resolution: Floats
    resolution_error: Floats


class Resolution(NamedTuple):
    """Fit of σ/E = a/√E ⊕ b/E ⊕ c, with E in GeV; each term with its error."""

    stochastic: tuple[float, float]
    noise: tuple[float, float]
    constant: tuple[float, float]


def energy_edges(energies: Floats) -> Floats:
    """Returns bins of the incident energy: one for each energy if they are few, or else logarithmic or regular ones."""
    values = np.unique(energies)
    if len(values) <= MAX_DISCRETE_ENERGIES:
        inner = (
            np.sqrt(values[1:] * values[:-1]) if values[0] > 0 else (values[1:] + values[:-1]) / 2
        )
        return np.concatenate(
            [
                [values[0] - abs(values[0]) / 2 - 1e-9],
                inner,
                [values[-1] + abs(values[-1]) / 2 + 1e-9],
            ]
        )
    bins = int(np.clip(len(energies) // EVENTS_PER_BIN, 3, 12))
    low, high = float(values[0]), float(values[-1])
    if low > 0 and high > 10 * low:
        return np.geomspace(low, high, bins + 1)
    return np.linspace(low, high, bins + 1)


def response(
    energies: Floats, values: Floats, weights: Floats, edges: Floats, *, seed: int
) -> Response:
    """Returns the response ``values[E]`` in bins of ``energies[E]``; bins with fewer than 10 events are left out."""
    rng = numpy_generator(seed, "evaluation", "response")
    there = np.isfinite(values) & (energies >= edges[0]) & (energies <= edges[-1])
    bins = np.clip(np.searchsorted(edges, energies, side="right") - 1, 0, len(edges) - 2)
    columns = []
    for i in range(len(edges) - 1):
        inside = there & (bins == i)
        core, each = values[inside], weights[inside]
        if len(core) < 10 or core.min() == core.max() or each.min() < 0 or each.sum() <= 0:
            continue
        mean, width = gaussian_core(core, each)
        rows = rng.integers(0, len(core), (REPLICAS, len(core)))
        replicas = np.array([gaussian_core(core[r], each[r]) for r in rows])
        if mean == 0 or width == 0:
            continue
        relative = replicas[:, 1] / replicas[:, 0]
        center = float(each @ energies[inside] / each.sum())
        columns.append(
            (center, mean, replicas[:, 0].std(), width / abs(mean), float(np.nanstd(relative)))
        )
    return Response(*np.array(columns, dtype=float).reshape(-1, 5).T)


def gaussian_core(values: Floats, weights: Floats) -> tuple[float, float]:
    """Returns mean and standard deviation of the Gaussian core: of the values within ± 2 σ, corrected for the truncation."""
    mean, width = _moments(values, weights)
    for _ in range(20):
        inside = np.abs(values - mean) <= CORE * width
        if inside.sum() < 3 or weights[inside].sum() <= 0:
            break
        before = mean, width
        mean, width = _moments(values[inside], weights[inside])
        width /= _CORE_WIDTH
        if np.allclose(before, (mean, width), rtol=1e-6, atol=0):
            break
    return mean, width


def _moments(values: Floats, weights: Floats) -> tuple[float, float]:
    fraction = weights / weights.sum()
    mean = float(fraction @ values)
    return mean, float(np.sqrt(fraction @ (values - mean) ** 2))


def fit_resolution(response: Response) -> Resolution | None:
    """Returns the fit of the resolution against the energy [GeV]; ``None`` with fewer than four points."""
    good = (response.energy > 0) & (response.resolution_error > 0)
    if good.sum() < 4:
        return None
    energy, resolution = response.energy[good], response.resolution[good]
    error = 2 * resolution * response.resolution_error[good]
    matrix = np.stack([1 / energy, 1 / energy**2, np.ones_like(energy)], axis=1) / error[:, None]
    squares, _ = scipy.optimize.nnls(matrix, resolution**2 / error)
    used = squares > 0
    covariance = np.zeros((3, 3))
    if used.any():
        covariance[np.ix_(used, used)] = np.linalg.pinv(matrix[:, used].T @ matrix[:, used])
    terms = np.sqrt(squares)
    errors = np.where(used, np.sqrt(np.diag(covariance)) / (2 * np.where(used, terms, 1.0)), 0.0)
    a, b, c = ((float(term), float(error)) for term, error in zip(terms, errors, strict=True))
    return Resolution(a, b, c)


def resolution_curve(fit: Resolution, energy: Floats) -> Floats:
    """Returns σ/E of a fit at energies [GeV]."""
    a, b, c = (term for term, _ in fit)
    return np.asarray(np.sqrt(a**2 / energy + b**2 / energy**2 + c**2))


class CorrelationDifference(NamedTuple):
    """Correlation of two observables in the reference and in a generated sample.

    Attributes:
        first: Observable.
        second: Observable.
        reference: Correlation coefficient in the reference.
        generated: In the generated sample.
        n_sigma: Difference in units of its error, for any distribution (``per_observable.correlation_pulls``).
        source: Name of the generated sample.
    """

    first: str
    second: str
    reference: float
    generated: float
    n_sigma: float
    source: str


class Correlations(NamedTuple):
    """Correlation matrices of observables.

    Attributes:
        names: ``[d]`` observables.
        matrices: ``[d, d]`` correlation coefficients by source.
        differences: Pairs of all generated samples, the most significant difference first.
    """

    names: Sequence[str]
    matrices: Mapping[str, Floats]
    differences: Sequence[CorrelationDifference]


def correlations(samples: Mapping[str, Sample], names: Sequence[str]) -> Correlations | None:
    """Returns the correlations of the observables ``names`` that vary in every sample; ``None`` if fewer than two do."""
    columns = {name: {s: _filled(one.values[name]) for s, one in samples.items()} for name in names}
    used = [
        name
        for name, by_source in columns.items()
        if all(np.ptp(v) > 0 for v in by_source.values())
    ]
    if len(used) < 2:
        return None
    stacked = {s: np.stack([columns[name][s] for name in used], axis=1) for s in samples}
    matrices = {
        s: per_observable.correlations(stacked[s], one.weights) for s, one in samples.items()
    }
    reference, differences = matrices[REFERENCE], []
    for source, matrix in matrices.items():
        if source == REFERENCE:
            continue
        pulls = per_observable.correlation_pulls(
            stacked[REFERENCE], stacked[source], (samples[REFERENCE].weights, samples[source].weights)
        )  # fmt: skip
        differences += [
            CorrelationDifference(
                used[i],
                used[j],
                float(reference[i, j]),
                float(matrix[i, j]),
                float(pulls[i, j]),
                source,
            )
            for i, j in itertools.combinations(range(len(used)), 2)
        ]
    differences.sort(key=lambda each: -abs(each.n_sigma))
    return Correlations(used, matrices, differences)


def _filled(values: Floats) -> Floats:
    there = np.isfinite(values)
    return np.where(there, values, values[there].mean() if there.any() else 0.0)
