"""Events as rows of numbers for distances and classifiers: the low-level and the high-level vector.

For showers both are the CaloChallenge's (arXiv:2410.21611): low-level log10 of the incident energy and each cell over it;
high-level log10 of the incident, layers' and total energies, centers and widths over 100, sparsities. For other events
the low level is every pixel, the high level every observable.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from hepgan.evaluation.metrics.statistics import Floats
from hepgan.evaluation.observables.shower_shapes import Array
from hepgan.evaluation.observables.standard import Observable, Values, chunks

Pair = tuple[Floats, Floats]
Float32s = npt.NDArray[np.float32]

MIN_FRACTION = 1e-6
"""A cell's share of the incident energy below which the quick classifier need not tell cells apart."""

FEATURES = {
    "log10": lambda v: np.log10(np.maximum(v, 0) + 1e-8),
    "length": lambda v: v / 100,
    "complement": lambda v: 1 - v,
    "none": lambda v: v,
}


def high_level(reference: Values, generated: Values, observables: Mapping[str, Observable]) -> Pair:
    """``[E, d]`` features of both samples from their values.

    A missing value becomes the reference's mean, and a column beside it says which are missing.
    """
    named = [o for o in observables.values() if not o.spectrum]
    chosen = [o for o in named if o.feature != "none"] or named
    columns: list[Pair] = []
    for observable in chosen:
        x, y = (FEATURES[observable.feature](v[observable.name]) for v in (reference, generated))
        x, y = (np.where(np.isfinite(v), v, np.nan) for v in (x, y))
        missing = np.isnan(x), np.isnan(y)
        if missing[0].any() or missing[1].any():
            middle = 0.0 if missing[0].all() else float(np.nanmean(x))
            x, y = np.where(missing[0], middle, x), np.where(missing[1], middle, y)
            columns.append((missing[0].astype(float), missing[1].astype(float)))
        columns.append((x, y))
    first, second = zip(*columns, strict=True)
    return np.stack(first, axis=1), np.stack(second, axis=1)


def standardize(reference: Floats, generated: Floats) -> Pair:
    """Both samples with the reference's mean taken off, over its standard deviation; constant columns stay unscaled."""
    mean, spread = reference.mean(axis=0), reference.std(axis=0)
    spread[spread <= 1e-12 * np.maximum(np.abs(mean), 1e-300)] = 1.0
    return (reference - mean) / spread, (generated - mean) / spread


def low_level(
    reference: Mapping[str, Array],
    generated: Mapping[str, Array],
    observables: Mapping[str, Observable],
    *,
    network: Literal["quick", "challenge"],
) -> tuple[Float32s, Float32s]:
    """``[E, 1 + cells]`` of both samples. For the quick network cells are logarithms and all is standardised."""
    x, y = (
        np.concatenate([_rows(c, observables, network) for c in chunks(e)])
        for e in (reference, generated)
    )
    if network == "quick" or "E_inc" not in observables:
        x, y = standardize(x, y)
    return x.astype(np.float32), y.astype(np.float32)


def _rows(
    chunk: Mapping[str, Array], observables: Mapping[str, Observable], network: str
) -> Floats:
    cells = np.concatenate([o.function(chunk) for o in observables.values() if o.spectrum], axis=1)
    if "E_inc" not in observables:
        return np.asarray(cells, dtype=np.float64)
    incident = np.asarray(observables["E_inc"].function(chunk))
    ratio = observables.get("E_tot_over_E_inc")
    if ratio is not None:  # the incident energy in the cells' unit
        share = ratio.function(chunk)
        there = np.isfinite(share) & (share > 0)
        factor = (
            np.median(cells.sum(axis=1)[there] / share[there] / incident[there])
            if there.any()
            else 1.0
        )
        cells = cells / (factor * incident)[:, None]
    if network == "quick":
        cells = np.log10(np.clip(cells, 0, None) + MIN_FRACTION)
    return np.concatenate([np.log10(incident)[:, None], cells], axis=1)
