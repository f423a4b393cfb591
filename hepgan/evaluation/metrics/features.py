"""Low-level and high-level feature vectors of events, for distances and classifiers.

For showers, both are the CaloChallenge's (arXiv:2410.21611): the low-level features are log10 of the incident energy and each cell divided by it;
the high-level features are log10 of the incident, layers' and total energies, centers and widths over 100, sparsities. For other events,
they are all pixels and all observables.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from hepgan.evaluation.metrics.conditions import Condition, columns_of
from hepgan.evaluation.metrics.statistics import Floats, normal_scores
from hepgan.evaluation.observables.shower_shapes import Array
from hepgan.evaluation.observables.standard import Observable, Values, chunks

if TYPE_CHECKING:
    from hepgan.evaluation.sample import Sample

Pair = tuple[Floats, Floats]
Float32s = npt.NDArray[np.float32]

MIN_FRACTION = 1e-6
"""Fraction of the incident energy that is added to each cell before the logarithm (quick classifier)."""

FEATURES = {
    "log10": lambda v: np.log10(np.maximum(v, 0) + 1e-8),
    "length": lambda v: v / 100,
    "complement": lambda v: 1 - v,
    "none": lambda v: v,
}


def high_level(reference: Values, generated: Values, observables: Mapping[str, Observable]) -> Pair:
    """Returns the ``[E, d]`` high-level features of both samples from the values of their observables.

    Missing values are replaced by the mean of the reference, and a column flags them.
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


def all_observables(
    reference: "Sample",
    generated: "Sample",
    observables: Mapping[str, Observable],
    conditions: Mapping[str, Condition],
) -> tuple[list[str], Pair]:
    """Returns names and ``[E, d]`` normal scores of all observables, flags of missing values, and columns of the conditions.

    Normal scores are ranks among both samples mapped to a Gaussian: neither a heavy tail nor a logarithm hides a difference.
    """
    names, columns = [], []
    n = reference.number
    for name, observable in observables.items():
        if observable.spectrum or name in conditions or (conditions and name == "E_inc"):
            continue
        values = np.concatenate([reference.values[name], generated.values[name]])
        names.append(name)
        columns.append(normal_scores(values))
        missing = ~np.isfinite(values)
        if missing.any():
            names.append(f"{name} is missing")
            columns.append(missing * 1.0)
    for name, (x, y) in condition_columns(reference, generated, conditions).items():
        names.append(name)
        columns.append(np.concatenate([x, y]))
    both = np.stack(columns, axis=1)
    return names, (both[:n], both[n:])


def condition_columns(
    reference: "Sample", generated: "Sample", conditions: Mapping[str, Condition]
) -> dict[str, Pair]:
    """Returns the columns ``[E]`` of the conditions in both samples by name."""
    return {
        column: pair
        for name, condition in conditions.items()
        for column, pair in columns_of(
            condition, reference.events[name], generated.events[name]
        ).items()
    }


def with_columns(features: Pair, columns: Mapping[str, Pair]) -> Pair:
    """Returns ``[E, d]`` features of both samples with further columns appended."""
    x, y = (
        np.column_stack([each, *(pair[i] for pair in columns.values())])
        for i, each in enumerate(features)
    )
    return x, y


def standardize(reference: Floats, generated: Floats) -> Pair:
    """Standardizes both samples by mean and standard deviation of the reference; constant columns are only centered."""
    mean, std = reference.mean(axis=0), reference.std(axis=0)
    std[std <= 1e-12 * np.maximum(np.abs(mean), 1e-300)] = 1.0
    return (reference - mean) / std, (generated - mean) / std


def low_level(
    reference: Mapping[str, Array],
    generated: Mapping[str, Array],
    observables: Mapping[str, Observable],
    *,
    network: Literal["quick", "challenge"],
) -> tuple[Float32s, Float32s]:
    """Returns the ``[E, 1 + cells]`` low-level features; for the quick network, logarithms of cells, standardized."""
    x, y = (
        np.concatenate([_rows(c, observables, network).astype(np.float32) for c in chunks(e)])
        for e in (reference, generated)
    )
    if network == "quick" or "E_inc" not in observables:
        mean, std = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
        constant = std <= 1e-6 * np.maximum(np.abs(mean), 1e-30)
        scale = np.where(constant, 1.0, std)
        for sample in (x, y):  # in place: cells take most of the memory
            sample -= mean.astype(np.float32)
            sample /= scale.astype(np.float32)
    return x, y


def _rows(
    chunk: Mapping[str, Array], observables: Mapping[str, Observable], network: str
) -> Floats:
    cells = np.concatenate([o.function(chunk) for o in observables.values() if o.spectrum], axis=1)
    if "E_inc" not in observables:
        return np.asarray(cells, dtype=np.float64)
    incident = np.asarray(observables["E_inc"].function(chunk))
    ratio = observables.get("E_tot_over_E_inc")
    if ratio is not None:  # converts the incident energy to the unit of the cells
        response = ratio.function(chunk)
        valid = np.isfinite(response) & (response > 0)
        factor = (
            np.median(cells.sum(axis=1)[valid] / response[valid] / incident[valid])
            if valid.any()
            else 1.0
        )
        cells = cells / (factor * incident)[:, None]
    if network == "quick":
        cells = np.log10(np.clip(cells, 0, None) + MIN_FRACTION)
    return np.concatenate([np.log10(incident)[:, None], cells], axis=1)
