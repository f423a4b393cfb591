"""Common fields of several samples; detection of missing fields, unit mismatches and non-finite values."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import awkward as ak
import numpy as np

from hepgan.data.schema import Schema
from hepgan.data.units import ENERGY_UNITS
from hepgan.data.weights import WEIGHT
from hepgan.errors import DataError
from hepgan.evaluation.histograms import REFERENCE
from hepgan.evaluation.metrics.scores import OVERALL, SkippedMetric
from hepgan.evaluation.metrics.statistics import Floats
from hepgan.evaluation.observables.shower_shapes import Array
from hepgan.evaluation.observables.standard import arrays

UNIT_TOLERANCE = 0.3
"""Decades from a power of 1000 within which the ratio of two means counts as a unit mismatch."""


class SampleArrays(NamedTuple):
    """Fields ``[E, …]`` of a sample and the weights ``[E]``, or ``None`` for unweighted events."""

    fields: dict[str, Array]
    weights: Floats | None


def skipped_fields(reasons: Mapping[str, str], *, source: str) -> list[SkippedMetric]:
    """Returns an entry for each field or branch that cannot be read from a sample; ``reasons`` holds the reasons by name."""
    return [
        SkippedMetric(OVERALL, name, f"left out: {reason}", source)
        for name, reason in reasons.items()
    ]


def drop_fields(schema: Schema, names: set[str], skipped: list[SkippedMetric]) -> Schema:
    """Returns the schema without some fields.

    Raises:
        DataError: no field remains; the message contains the reasons.
    """
    remaining = schema.without(names)
    if remaining is None:
        reasons = "; ".join(dict.fromkeys(f"{skip.source}: {skip.reason}" for skip in skipped))
        raise DataError(f"the samples have no field in common that the schema names ({reasons})")
    return remaining


def without_weight(schema: Schema, skipped: list[SkippedMetric]) -> Schema:
    """Returns the schema without a field named ``weight``, which is appended to ``skipped``.

    Raises:
        DataError: no other field remains.
    """
    if WEIGHT not in schema.all:
        return schema
    reason = f"left out: the field '{WEIGHT}' is reserved for the event weights when a weight expression is given"
    skipped.append(SkippedMetric(OVERALL, WEIGHT, reason, REFERENCE))
    return drop_fields(schema, {WEIGHT}, skipped)


def common_schema(
    samples: Mapping[str, ak.Array], schema: Schema, skipped: list[SkippedMetric]
) -> Schema:
    """Returns the schema of the fields that all samples have in its shape; other fields are appended to ``skipped``.

    Raises:
        DataError: a sample has no events, or the samples have no field in common.
    """
    known = {(skip.observable, skip.source) for skip in skipped}
    lost = {skip.observable for skip in skipped}
    for source, events in samples.items():
        if len(events) == 0:
            raise DataError(f"{source} has no events to compare; give a file with some")
        for name, field in schema.all.items():
            try:
                arrays(events, {name: field})
            except DataError as error:
                lost.add(name)
                if (name, source) not in known:
                    skipped.append(SkippedMetric(OVERALL, name, f"left out: {error}", source))
    return drop_fields(schema, lost, skipped)


def drop_non_finite(
    events: ak.Array, schema: Schema, source: str, skipped: list[SkippedMetric]
) -> SampleArrays:
    """Returns the arrays of a sample without events that contain NaN or infinity; affected fields are appended to ``skipped``.

    Raises:
        DataError: no event remains.
    """
    columns = arrays(events, schema.all)
    if WEIGHT in events.fields and WEIGHT not in schema.all:
        columns[WEIGHT] = ak.to_numpy(events[WEIGHT]).astype(np.float64)
    number = len(events)
    good = np.ones(number, dtype=bool)
    for name, values in columns.items():
        finite = np.isfinite(values.reshape(number, -1)).all(axis=1)
        if not finite.all():
            many, first = int((~finite).sum()), int(np.argmin(finite))
            reason = f"NaN or infinite in {many:,} of {number:,} events, first in entry {first}: left out"
            skipped.append(SkippedMetric(OVERALL, name, reason, source))
            good &= finite
    if not good.any():
        raise DataError(f"{source} has no event without NaN or infinity")
    if not good.all():
        columns = {name: values[good] for name, values in columns.items()}
    weights = columns.pop(WEIGHT) if WEIGHT not in schema.all and WEIGHT in columns else None
    return SampleArrays(columns, weights)


def unit_mismatches(samples: Mapping[str, SampleArrays], schema: Schema) -> list[SkippedMetric]:
    """Returns an entry for each field whose mean magnitude differs from the reference's by about a power of 1000."""
    means = {
        source: {
            name: float(np.abs(values).mean(dtype=float)) for name, values in sample.fields.items()
        }
        for source, sample in samples.items()
    }
    skipped = []
    for source, sample in means.items():
        for name, mean in sample.items():
            expected = means[REFERENCE][name]
            steps = math.log10(mean / expected) / 3 if mean > 0 and expected > 0 else 0.0
            if round(steps) and abs(steps - round(steps)) < UNIT_TOLERANCE / 3:
                reason = _suspicion(mean / expected, round(steps), schema.all[name].unit)
                skipped.append(SkippedMetric(OVERALL, name, reason, source))
    return skipped


def _suspicion(ratio: float, steps: int, unit: str) -> str:
    energies = sorted(ENERGY_UNITS, key=lambda name: ENERGY_UNITS[name])
    index = energies.index(unit) - steps if unit in energies else -1
    other = f" in {energies[index]}" if 0 <= index < len(energies) else " in another unit"
    expected = f" instead of {unit}" if unit else ""
    return (
        f"is {ratio:.4g} times the reference's on average: its unit may be wrong,{other}{expected}"
    )
