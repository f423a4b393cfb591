"""Repeated and memorized events: generated events that are equal to each other, or close to events of the training sample.

Two events are equal if all their observables and all their fields, such as the energies of all cells, agree to four significant digits;
the conditions of a generated event do not count. Closeness to a training event is that of the observables.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from hepgan.errors import DataError
from hepgan.evaluation.metrics import permutations, statistics
from hepgan.evaluation.metrics.statistics import Estimate, Floats, normal_scores
from hepgan.evaluation.observables.shower_shapes import Array
from hepgan.random_streams import numpy_generator

PERMUTATIONS = 400
DIGITS = 4
CLOSE = 0.01
"""Fraction of reference events that count as close to a training event."""
MAX_TESTED = 2000
MAX_TRAINING = 50_000


def duplicates(
    reference: Mapping[str, Floats],
    generated: Mapping[str, Floats],
    fields: tuple[Mapping[str, Array], Mapping[str, Array]] = ({}, {}),
    *,
    seed: int,
) -> Estimate:
    """Returns the fraction of generated events that repeat an earlier one; the baseline is that of the reference.

    The p-value is that of the number of pairs of equal events, from permutations of events between the samples, so that discrete
    observables, which repeat by nature, give no false alarm.

    Args:
        reference: Values ``[E]`` by observable.
        generated: The same.
        fields: Fields ``[E, …]`` of both samples by name, such as cells.
        seed: Seed of the permutations.
    """
    keys = np.concatenate([_keys(reference), _keys(generated)])
    keys = _refined(keys, fields)
    n, m = (len(next(iter(values.values()))) for values in (reference, generated))
    kinds, inverse, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    of_generated = np.repeat([False, True], [n, m])
    rows = np.flatnonzero(counts[inverse.ravel()] > 1)
    kind = inverse.ravel()[rows]
    rng = numpy_generator(seed, "evaluation", "duplicates")

    def repeats(labels: npt.NDArray[np.bool_]) -> tuple[float, float]:
        """Returns the fraction of events that repeat one, and the number of pairs."""
        counts = np.bincount(kind[labels[rows]], minlength=len(kinds)).astype(float)
        return float(np.clip(counts - 1, 0, None).sum()) / m, float(
            (counts * (counts - 1)).sum() / 2
        )

    value, pairs = repeats(of_generated)
    repeated = n - len(np.unique(keys[:n], axis=0))
    null = np.array([repeats(rng.permutation(of_generated))[1] for _ in range(PERMUTATIONS)])
    return Estimate(
        value,
        float(np.sqrt(value * m + 1)) / m,
        repeated / n,
        float(np.sqrt(repeated + 1)) / n,
        permutations.gamma_p_value(pairs, null) if pairs else 1.0,
    )


def _refined(
    keys: npt.NDArray[np.int64], fields: tuple[Mapping[str, Array], Mapping[str, Array]]
) -> npt.NDArray[np.int64]:
    """Returns the hashes ``keys[E, 2]`` of both samples, with those of the fields where they are equal: different events differ in them."""
    inverse, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)[1:]
    rows = np.flatnonzero(counts[inverse.ravel()] > 1)
    if len(rows) == 0:
        return keys
    refined = keys.copy()
    for name, first in fields[0].items():
        chosen = rows[rows < len(first)], rows[rows >= len(first)] - len(first)
        values = np.concatenate([first[chosen[0]], fields[1][name][chosen[1]]])
        columns = values.reshape(len(rows), -1).astype(np.float64).T
        refined[rows] = _keys({str(i): each for i, each in enumerate(columns)}, refined[rows])
    return refined


def _keys(
    values: Mapping[str, Floats], start: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.int64]:
    """Returns ``[E, 2]`` hashes of the values, rounded to four significant digits, and of the hashes ``start``."""
    if start is None:
        start = np.zeros((len(next(iter(values.values()))), 2), dtype=np.int64)
    hashes = start.view(np.uint64).copy()
    with np.errstate(over="ignore"):
        for each in values.values():
            finite = np.where(np.isfinite(each), each, -1e300)
            magnitude = np.floor(np.log10(np.where(finite == 0, 1.0, np.abs(finite))))
            digits = np.round(finite / 10.0 ** (magnitude - DIGITS + 1))
            bits = (digits * 1000 + magnitude).astype(np.int64).view(np.uint64)
            for i, factor in enumerate((0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)):
                hashes[:, i] = (hashes[:, i] ^ bits) * np.uint64(factor)
                hashes[:, i] ^= hashes[:, i] >> np.uint64(29)
    return hashes.view(np.int64)


def copies(
    reference: Mapping[str, Floats],
    generated: Mapping[str, Floats],
    training: Mapping[str, Floats],
    *,
    seed: int,
) -> Estimate:
    """Returns the fraction of generated events that are closer to a training event than all but 1 % of the reference events.

    Distances are Euclidean, of the normal scores of the observables.

    Raises:
        DataError: there are too few events.
    """
    rng = numpy_generator(seed, "evaluation", "copies")
    sizes = [
        (values, most)
        for values, most in (
            (reference, MAX_TESTED), (generated, MAX_TESTED), (training, MAX_TRAINING)
        )
    ]  # fmt: skip
    rows = [rng.permutation(len(next(iter(values.values()))))[:most] for values, most in sizes]
    if min(map(len, rows)) < 10 / CLOSE / 10:
        raise DataError(f"needs {round(1 / CLOSE)} events in each sample")
    columns = [
        normal_scores(
            np.concatenate(
                [values[name][each] for (values, _), each in zip(sizes, rows, strict=True)]
            )
        )
        for name in reference
    ]
    first, second, known = np.split(
        np.stack(columns, axis=1).astype(np.float32), np.cumsum([len(each) for each in rows])[:2]
    )
    distances = [_nearest(each, known) for each in (first, second)]
    close = np.quantile(distances[0], CLOSE)
    return statistics.tail_fraction(*(each <= close for each in distances))


def _nearest(x: npt.NDArray[np.float32], known: npt.NDArray[np.float32]) -> Floats:
    """Returns the squared distance of each of ``x[E, d]`` to its nearest neighbor in ``known[T, d]``."""
    best = np.full(len(x), np.inf)
    square = np.sum(x**2, axis=1, dtype=np.float64)
    for start in range(0, len(known), 5000):
        block = known[start : start + 5000]
        cross = np.sum(block**2, axis=1) - 2 * x @ block.T
        best = np.minimum(best, square + cross.min(axis=1))
    return np.asarray(np.clip(best, 0, None))
