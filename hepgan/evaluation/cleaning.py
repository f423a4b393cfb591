"""What samples have in common, and what is wrong with them: fields, units, finite values."""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import awkward as ak
import numpy as np

from hepgan.data.io import reader
from hepgan.data.io.files import sources
from hepgan.data.schema import ENERGY_UNITS, Schema
from hepgan.errors import DataError
from hepgan.evaluation.histograms import REFERENCE
from hepgan.evaluation.metrics.scores import OVERALL, SkippedMetric
from hepgan.evaluation.metrics.statistics import Floats
from hepgan.evaluation.observables.shower_shapes import Array
from hepgan.evaluation.observables.standard import arrays

WEIGHT = "weight"
"""The events' field that holds their weights, where the schema does not name it."""

UNIT_TOLERANCE = 0.3
"""Decades about a power of 1000 within which two means look like one quantity in two units."""


class SampleArrays(NamedTuple):
    """The fields ``[E, …]`` of a sample, and the events' weights ``[E]`` where they have some."""

    fields: dict[str, Array]
    weights: Floats | None


def skipped_branches(branches: Mapping[str, str]) -> list[SkippedMetric]:
    """Gaps for branches of the reference that cannot be read; ``branches`` has the reasons by name."""
    return [
        SkippedMetric(OVERALL, name, f"left out: {reason}", REFERENCE)
        for name, reason in branches.items()
    ]


def available_schema(
    path: str, schema: Schema, *, source: str
) -> tuple[Schema, list[SkippedMetric]]:
    """As many of the schema's fields as a ROOT file has; what it lacks are skipped.

    Args:
        path: A file, or ``file.root:tree``.
        schema: What an event is.
        source: The sample's name.

    Raises:
        DataError: the file cannot be read, or none of the fields are there.
    """
    skipped: list[SkippedMetric] = []
    with reader.first_tree(path) as first:
        for name, field in schema.in_branches.items():
            try:
                first.resolve(Schema({name: field}))
            except DataError as error:
                skipped.append(SkippedMetric(OVERALL, name, f"left out: {error}", source))
    return drop_fields(schema, {skip.observable for skip in skipped}, skipped), skipped


def file_fingerprints(files: str) -> str:
    """The files that ``files`` names with their SHA-256, for a report; what is not on this machine has none."""
    found = []
    for path in (source.path for source in sources(files)):
        if Path(path).is_file():
            with Path(path).open("rb") as file:
                path = f"{path} (SHA-256 {hashlib.file_digest(file, 'sha256').hexdigest()})"
        found.append(path)
    return ", ".join(found)


def drop_fields(schema: Schema, names: set[str], skipped: list[SkippedMetric]) -> Schema:
    """The schema without some fields.

    Raises:
        DataError: no field is left; tells the skipped' reasons.
    """
    left = schema.without(names)
    if left is None:
        reasons = "; ".join(dict.fromkeys(f"{skip.source}: {skip.reason}" for skip in skipped))
        raise DataError(f"the samples have no field in common that the schema names ({reasons})")
    return left


def without_weight(schema: Schema, skipped: list[SkippedMetric]) -> Schema:
    """Returns the schema without a field that is called as the events' weights are, which is added to the skipped.

    Raises:
        DataError: no other field is left.
    """
    if WEIGHT not in schema.all:
        return schema
    reason = f"left out: the field '{WEIGHT}' holds the events' weights where an expression for them is given"
    skipped.append(SkippedMetric(OVERALL, WEIGHT, reason, REFERENCE))
    return drop_fields(schema, {WEIGHT}, skipped)


def common_schema(
    samples: Mapping[str, ak.Array], schema: Schema, skipped: list[SkippedMetric]
) -> Schema:
    """The schema without what some sample does not have in the schema's shape, which is added to the skipped.

    Raises:
        DataError: a sample without events, or nothing in common.
    """
    told = {(skip.observable, skip.source) for skip in skipped}
    lost = {skip.observable for skip in skipped}
    for source, events in samples.items():
        if len(events) == 0:
            raise DataError(f"{source} has no events to compare; give a file with some")
        for name, field in schema.all.items():
            try:
                arrays(events, {name: field})
            except DataError as error:
                lost.add(name)
                if (name, source) not in told:
                    skipped.append(SkippedMetric(OVERALL, name, f"left out: {error}", source))
    return drop_fields(schema, lost, skipped)


def drop_non_finite(
    events: ak.Array, schema: Schema, source: str, skipped: list[SkippedMetric]
) -> SampleArrays:
    """The arrays of a sample without events that hold a NaN or an infinity, which are named among the skipped.

    Raises:
        DataError: no event is left.
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
    """A skip for each field whose mean magnitude in a sample is about 1000, 1000², … times the reference's or less."""
    means = {
        source: {
            name: float(np.abs(values).mean(dtype=float)) for name, values in found.fields.items()
        }
        for source, found in samples.items()
    }
    skipped = []
    for source, found in means.items():
        for name, mean in found.items():
            expected = means[REFERENCE][name]
            steps = math.log10(mean / expected) / 3 if mean > 0 and expected > 0 else 0.0
            if round(steps) and abs(steps - round(steps)) < UNIT_TOLERANCE / 3:
                reason = _suspicion(mean / expected, round(steps), schema.all[name].unit)
                skipped.append(SkippedMetric(OVERALL, name, reason, source))
    return skipped


def _suspicion(ratio: float, steps: int, unit: str) -> str:
    energies = sorted(ENERGY_UNITS, key=lambda name: ENERGY_UNITS[name])
    place = energies.index(unit) - steps if unit in energies else -1
    other = f" in {energies[place]}" if 0 <= place < len(energies) else " in another unit"
    expected = f" instead of {unit}" if unit else ""
    return f"is {ratio:.4g} times the reference's on average: it looks given{other}{expected}"
