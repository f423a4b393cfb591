"""Kernel distances: unbiased squared maximum mean discrepancies, of the kernel (x·y / d + 1)^4 (KPD) and of −|x − y| (energy distance).

Definition: arXiv:2211.10295, as the CaloChallenge uses it (arXiv:2410.21611): features are divided by their largest magnitude
in the reference, and the result is the median over batches of 5000 events. Papers quote it times 1000. The kernel is summed once over
pairs of groups of events; batches, jackknife and baseline are then sums of a few numbers.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hepgan.errors import DataError
from hepgan.evaluation.metrics import permutations, statistics
from hepgan.evaluation.metrics.fpd import normalize
from hepgan.evaluation.metrics.statistics import Estimate, Floats
from hepgan.random_streams import numpy_generator

MIN_EVENTS = 100
GROUPS = 20
GROUP = 1000
"""Largest group; at most 20,000 events are used."""
BATCH = 5
"""Groups per batch."""
BATCHES = 100
PERMUTATIONS = 400

ENERGY_GROUP = 250
"""Largest group of the energy distance."""

Float32s = npt.NDArray[np.float32]
Groups = npt.NDArray[np.int64]
Kernel = Callable[[Float32s, Float32s], Float32s]
"""Function of ``a[E, d]`` and ``b[F, d]`` that returns ``[E, F]``."""


class KernelSums(NamedTuple):
    """Sums of the kernel over pairs of events of two groups, ``[20, 20]`` each, without pairs of an event with itself.

    Attributes:
        xx: Pairs within the reference.
        yy: Pairs within the generated sample.
        xy: Pairs between both samples.
        n: Events per group of the reference.
        m: Events per group of the generated sample.
    """

    xx: Floats
    yy: Floats
    xy: Floats
    n: int
    m: int


def kpd(reference: Floats, generated: Floats, *, seed: int) -> Estimate:
    """Returns the kernel physics distance of ``[E, d]`` features; the baseline compares halves of the reference.

    Raises:
        DataError: fewer than 100 events in a sample.
    """
    if min(len(reference), len(generated)) < MIN_EVENTS:
        raise DataError(
            f"KPD needs {MIN_EVENTS} events in each sample, but there are {len(reference)} and {len(generated)}"
        )
    rng = numpy_generator(seed, "evaluation", "kernel distance")
    sums = kernel_sums(*(_grouped(values, rng) for values in normalize(reference, generated)))
    draws = [rng.permutation(GROUPS) for _ in range(BATCHES)]
    # small samples can afford larger batches
    batch = BATCH if sums.n >= GROUP else GROUPS // 2
    value = np.median([distance(sums, d[:batch], rng.permutation(GROUPS)[:batch]) for d in draws])
    return _estimate(float(value), sums, draws, rng)


def energy_distance(reference: Floats, generated: Floats, *, seed: int) -> Estimate:
    """Returns the energy distance of ``[E, d]`` features in units of the mean distance between two reference events.

    Samples of N events of the reference are at a distance of 1/N from it on average.

    Raises:
        DataError: fewer than 100 events in a sample.
    """
    if min(len(reference), len(generated)) < MIN_EVENTS:
        raise DataError(
            f"the energy distance needs {MIN_EVENTS} events in each sample, but there are {len(reference)} and {len(generated)}"
        )
    rng = numpy_generator(seed, "evaluation", "energy distance")
    sums = kernel_sums(
        *(_grouped(values, rng, ENERGY_GROUP) for values in (reference, generated)),
        kernel=_negative_distance,
    )
    number = GROUPS * sums.n
    unit = -float(sums.xx.sum()) / (number * (number - 1))
    if not unit > 0:
        raise DataError("all reference events are equal")
    every = np.arange(GROUPS)
    scaled = KernelSums(sums.xx / unit, sums.yy / unit, sums.xy / unit, sums.n, sums.m)
    draws = [rng.permutation(GROUPS) for _ in range(BATCHES)]
    return _estimate(distance(scaled, every, every), scaled, draws, rng)


def _estimate(
    value: float, sums: KernelSums, draws: list[Groups], rng: np.random.Generator
) -> Estimate:
    """Returns a distance with its jackknife error, its baseline from halves of the reference, and its p-value."""
    every = np.arange(GROUPS)
    left_out = [distance(sums, np.delete(every, i), np.delete(every, i)) for i in every]
    within = KernelSums(sums.xx, sums.xx, sums.xx, sums.n, sums.n)
    null = [distance(within, d[: GROUPS // 2], d[GROUPS // 2 :]) for d in draws]
    # halves have half the events, and fluctuations about a distance of zero scale as 1/N
    baseline_error = float(np.std(null)) / 2
    return Estimate(
        value,
        statistics.jackknife_error(np.array(left_out), baseline_error),
        float(np.median(null)),
        baseline_error,
        _p_value(sums, rng),
    )


def _p_value(sums: KernelSums, rng: np.random.Generator) -> float:
    """Returns the p-value of the distance of all events from permutations of the groups of both samples.

    Groups of both samples have the same weight in a permutation, whatever their numbers of events.
    """
    n, m = sums.n, sums.m
    within = [
        each / (size**2 - size * np.eye(GROUPS)) for each, size in ((sums.xx, n), (sums.yy, m))
    ]  # mean kernel of each pair of groups
    means = np.block([[within[0], sums.xy / (n * m)], [sums.xy.T / (n * m), within[1]]])

    def statistic(order: Groups) -> float:
        one, other = order[:GROUPS], order[GROUPS:]
        inner = means[np.ix_(one, one)].mean() + means[np.ix_(other, other)].mean()
        return float(inner - 2 * means[np.ix_(one, other)].mean())

    value = statistic(np.arange(2 * GROUPS))
    null = np.array([statistic(rng.permutation(2 * GROUPS)) for _ in range(PERMUTATIONS)])
    return permutations.gamma_p_value(value, null)


def kernel_sums(
    x: list[Float32s], y: list[Float32s], *, kernel: Kernel | None = None
) -> KernelSums:
    """Returns the sums over all pairs of events of the groups ``x`` and ``y`` of ``[E, d]`` features; by default of KPD's kernel."""
    function = kernel or _kernel
    return KernelSums(
        _within(x, function), _within(y, function), _between(x, y, function), len(x[0]), len(y[0])
    )


def _grouped(features: Floats, rng: np.random.Generator, largest: int = GROUP) -> list[Float32s]:
    size = min(largest, len(features) // GROUPS)
    rows = rng.permutation(len(features))[: GROUPS * size].reshape(GROUPS, size)
    return [features[group].astype(np.float32) for group in rows]


def distance(sums: KernelSums, one: Groups, other: Groups) -> float:
    """Returns the unbiased squared MMD between the groups ``one`` of the reference and ``other`` of the generated sample."""
    n, m = len(one) * sums.n, len(other) * sums.m
    xx, yy = sums.xx[np.ix_(one, one)].sum(), sums.yy[np.ix_(other, other)].sum()
    between = sums.xy[np.ix_(one, other)].sum() / (n * m)
    return float(xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * between)


def _between(x: list[Float32s], y: list[Float32s], function: Kernel) -> Floats:
    return np.array([[function(a, b).sum(dtype=np.float64) for b in y] for a in x])


def _within(x: list[Float32s], function: Kernel) -> Floats:
    sums = np.zeros((len(x), len(x)))
    for i, a in enumerate(x):
        for j in range(i):
            sums[i, j] = sums[j, i] = function(a, x[j]).sum(dtype=np.float64)
        kernel = function(a, a)
        sums[i, i] = kernel.sum(dtype=np.float64) - np.trace(kernel, dtype=np.float64)
    return sums


def _kernel(a: Float32s, b: Float32s) -> Float32s:
    kernel = a @ b.T
    kernel *= 1 / a.shape[1]
    kernel += 1
    kernel *= kernel
    kernel *= kernel
    return kernel


def _negative_distance(a: Float32s, b: Float32s) -> Float32s:
    square = np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1) - 2 * a @ b.T
    distances: Float32s = -np.sqrt(np.clip(square, 0, None))
    if a is b:
        np.fill_diagonal(distances, 0)
    return distances
