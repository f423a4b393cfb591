"""Kernel physics distance (KPD): an unbiased squared maximum mean discrepancy with the kernel (x·y / d + 1)^4.

Definition: arXiv:2211.10295, as the CaloChallenge uses it (arXiv:2410.21611): features are divided by their largest magnitude
in the reference, and the result is the median over batches of 5000 events. Papers quote it times 1000. The kernel is summed once over
pairs of groups of events; batches, jackknife and baseline are then sums of a few numbers.
"""

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

Float32s = npt.NDArray[np.float32]
Groups = npt.NDArray[np.int64]


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
    every = np.arange(GROUPS)
    draws = [rng.permutation(GROUPS) for _ in range(BATCHES)]
    # small samples can afford larger batches
    batch = BATCH if sums.n >= GROUP else GROUPS // 2
    value = np.median([distance(sums, d[:batch], rng.permutation(GROUPS)[:batch]) for d in draws])
    left_out = [distance(sums, np.delete(every, i), np.delete(every, i)) for i in every]
    within = KernelSums(sums.xx, sums.xx, sums.xx, sums.n, sums.n)
    null = [distance(within, d[: GROUPS // 2], d[GROUPS // 2 :]) for d in draws]
    # halves have half the events, and fluctuations about a distance of zero scale as 1/N
    baseline_error = float(np.std(null)) / 2
    return Estimate(
        float(value),
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


def kernel_sums(x: list[Float32s], y: list[Float32s]) -> KernelSums:
    """Returns the sums over all pairs of events of the groups ``x`` and ``y`` of ``[E, d]`` features."""
    return KernelSums(_within(x), _within(y), _between(x, y), len(x[0]), len(y[0]))


def _grouped(features: Floats, rng: np.random.Generator) -> list[Float32s]:
    size = min(GROUP, len(features) // GROUPS)
    rows = rng.permutation(len(features))[: GROUPS * size].reshape(GROUPS, size)
    return [features[group].astype(np.float32) for group in rows]


def distance(sums: KernelSums, one: Groups, other: Groups) -> float:
    """Returns the unbiased squared discrepancy between the groups ``one`` of the reference and ``other`` of the generated sample."""
    n, m = len(one) * sums.n, len(other) * sums.m
    xx, yy = sums.xx[np.ix_(one, one)].sum(), sums.yy[np.ix_(other, other)].sum()
    between = sums.xy[np.ix_(one, other)].sum() / (n * m)
    return float(xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * between)


def _between(x: list[Float32s], y: list[Float32s]) -> Floats:
    return np.array([[_kernel(a, b).sum(dtype=np.float64) for b in y] for a in x])


def _within(x: list[Float32s]) -> Floats:
    sums = np.zeros((len(x), len(x)))
    for i, a in enumerate(x):
        for j in range(i):
            sums[i, j] = sums[j, i] = _kernel(a, x[j]).sum(dtype=np.float64)
        kernel = _kernel(a, a)
        sums[i, i] = kernel.sum(dtype=np.float64) - np.trace(kernel, dtype=np.float64)
    return sums


def _kernel(a: Float32s, b: Float32s) -> Float32s:
    kernel = a @ b.T
    kernel *= 1 / a.shape[1]
    kernel += 1
    kernel *= kernel
    kernel *= kernel
    return kernel
