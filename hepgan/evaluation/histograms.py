"""Histograms of two or more samples: one ``Hist(source, observable)`` per observable.

Axes are chosen from the reference alone, independent of the generated events. No value is dropped: values outside the axis are in
the flow bins, missing values (the center of an empty layer) in the overflow. A spectrum is filled once per event and bin,
weighted with the number of cells of the event in that bin, so that its variances include the correlation between cells.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import awkward as ak
import hist
import numpy as np
import numpy.typing as npt
import uhi.io.json
from hist import Hist

from hepgan.atomic import write_text
from hepgan.errors import DataError
from hepgan.evaluation.observables.shower_shapes import Array
from hepgan.evaluation.observables.standard import Observable, chunks

Events: TypeAlias = Mapping[str, Array] | ak.Array
Axis = Any
"""An axis of hist or boost-histogram with edges."""

REFERENCE = "reference"
BINS = 40
DECADES = 7
RESERVED_AXIS_NAMES = frozenset({"source", "weight", "sample", "threads"})
"""Our own axis, and keywords of ``Hist.fill``."""
"""Decades below the largest value that the axis of a spectrum covers."""


def compare(
    reference: Events,
    generated: Events | Mapping[str, Events],
    observables: Mapping[str, Observable],
    *,
    axes: Mapping[str, Axis] | None = None,
    weights: Mapping[str, npt.NDArray[np.float64]] | None = None,
) -> dict[str, "Hist[Any]"]:
    """Returns ``Hist(source, observable)`` by observable; sources are ``reference`` and ``generated``, or the names of the samples.

    The second axis is named after the observable (see ``axis_name``).

    Args:
        reference: Events.
        generated: Events, or several samples by name.
        observables: Observables to fill.
        axes: Axes of some observables; the others are chosen from the reference.
        weights: ``[E]`` event weights by sample; other samples are unweighted.

    Raises:
        DataError: there is no observable, a sample has no events, or a generated sample is called ``reference``.
    """
    if not observables:
        raise DataError(
            "there is no observable to compare; pass some, such as observables_for(schema)"
        )
    others = named_samples(generated)
    if REFERENCE in others:
        raise DataError(f"a generated sample is called '{REFERENCE}'; give it another name")
    samples = {REFERENCE: to_arrays(reference), **others}
    for name, fields in samples.items():
        if not fields or len(next(iter(fields.values()))) == 0:
            raise DataError(f"{name} has no events to compare")
    chosen = dict(axes or {})
    automatic = {name: o for name, o in observables.items() if name not in chosen}
    all_axes = {**axes_for(samples[REFERENCE], automatic), **chosen}
    filled = [
        fill(
            s,
            observables,
            all_axes,
            source=name,
            sources=list(samples),
            weights=(weights or {}).get(name),
        )
        for name, s in samples.items()
    ]
    return {name: sum((part[name] for part in filled[1:]), filled[0][name]) for name in observables}


def named_samples(generated: Events | Mapping[str, Events]) -> dict[str, dict[str, Array]]:
    """Returns generated samples by name; a single sample is named ``generated``."""
    if isinstance(generated, Mapping):
        first = next(iter(generated.values()), None)
        if isinstance(first, (Mapping, ak.Array)):
            return {name: to_arrays(events) for name, events in generated.items()}
    return {"generated": to_arrays(generated)}


def to_arrays(events: Events) -> dict[str, Array]:
    """Returns all fields as numpy arrays.

    Raises:
        DataError: a field is jagged.
    """
    if not isinstance(events, ak.Array):
        return dict(events)
    arrays = {}
    for name in events.fields:
        try:
            arrays[name] = ak.to_numpy(events[name])
        except ValueError as error:
            raise DataError(f"the field '{name}' is jagged; pad it before comparing") from error
    return arrays


def fill(
    events: Mapping[str, Array],
    observables: Mapping[str, Observable],
    axes: Mapping[str, Axis],
    *,
    source: str,
    sources: Sequence[str] = (REFERENCE, "generated"),
    weights: npt.NDArray[np.float64] | None = None,
) -> dict[str, "Hist[Any]"]:
    """Returns the histograms of one sample or chunk; histograms of chunks and of samples can be added."""
    histograms = {
        name: Hist(
            hist.axis.StrCategory(list(sources), name="source"),
            axes[name],
            storage=hist.storage.Weight(),
        )
        for name in observables
    }
    if weights is None:
        weights = np.ones(len(next(iter(events.values()))))
    start = 0
    for chunk in chunks(events):
        for name, observable in observables.items():
            values = observable.values(chunk)
            each = weights[start : start + len(values)]
            if observable.spectrum:
                counts = bin_occupancies(values, axes[name]) * each[:, None]
                view = histograms[name].view(flow=True)[list(sources).index(source)]
                view["value"] += counts.sum(axis=0)
                view["variance"] += (counts**2).sum(axis=0)
            else:
                histograms[name].fill(source, values, weight=each)
        start += len(values)
    return histograms


def bin_occupancies(values: npt.NDArray[np.float64], axis: Axis) -> npt.NDArray[np.float64]:
    """Returns the ``[E, bins + 2]`` number of entries of ``values[E, K]`` per event and bin, flow bins first and last."""
    events, bins = len(values), axis.size + 2
    indices = (
        axis.index(values.ravel()).reshape(values.shape) + 1 + bins * np.arange(events)[:, None]
    )
    return np.bincount(indices.ravel(), minlength=events * bins).reshape(events, bins).astype(float)


def axis_name(observable: str) -> str:
    """Returns the name of an observable's axis: its own name, or with ``_`` appended if hist reserves the name."""
    return f"{observable}_" if observable in RESERVED_AXIS_NAMES else observable


def axes_for(
    events: Mapping[str, Array], observables: Mapping[str, Observable], *, bins: int = BINS
) -> dict[str, Axis]:
    """Returns an axis for each observable that covers nearly all of ``events``, independent of outliers."""
    parts: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in observables}
    for i, chunk in enumerate(chunks(events)):
        for name, observable in observables.items():
            if not observable.spectrum:
                parts[name].append(observable.values(chunk))
            elif i == 0:  # one chunk has enough cells to choose an axis
                parts[name].append(observable.values(chunk).ravel())
    return {
        name: axis_for(np.concatenate(parts[name]), observable, bins=bins)
        for name, observable in observables.items()
    }


def axis_for(values: npt.NDArray[np.float64], observable: Observable, *, bins: int = BINS) -> Axis:
    """Returns the axis of an observable: centered on discrete values, logarithmic above two decades, or regular."""
    values = values[np.isfinite(values)]
    name, label = axis_name(observable.name), observable.title
    if len(values) == 0 or values.min() == values.max():
        middle = float(values[0]) if len(values) else 0.0
        half = 0.05 * abs(middle) or 0.5
        return hist.axis.Regular(3, middle - half, middle + half, name=name, label=label)
    step = observable.step or float(np.all(values == np.round(values)))
    if step and not observable.spectrum:
        return _lattice_axis(values, step, bins, name, label)
    if _spans_decades(values, observable):
        return _log_axis(values, bins, name, label)
    low, high = _robust_range(values)
    return hist.axis.Regular(bins, low, high, name=name, label=label)


def save_histograms(path: Path, histograms: Mapping[str, "Hist[Any]"]) -> None:
    """Writes histograms as UHI JSON.

    Raises:
        RunError: the file cannot be written.
    """
    write_text(path, json.dumps(dict(histograms), default=uhi.io.json.default))


def load_histograms(path: Path) -> dict[str, "Hist[Any]"]:
    """Reads histograms written by ``save_histograms``."""
    text = path.read_text(encoding="utf-8")
    histograms = json.loads(text, object_hook=uhi.io.json.object_hook)
    return {name: Hist(histogram) for name, histogram in histograms.items()}


def _lattice_axis(
    values: npt.NDArray[np.float64], step: float, bins: int, name: str, label: str
) -> Axis:
    low, high = values.min(), values.max()
    if high - low > bins * step:
        low, high = np.quantile(values, [0.001, 0.999])
    first = math.floor(low / step + 0.5)
    points = math.floor(high / step + 0.5) - first + 1
    width = max(1, math.ceil(points / bins))
    count = math.ceil(points / width)
    low = (first - 0.5) * step
    return hist.axis.Regular(count, low, low + count * width * step, name=name, label=label)


def _spans_decades(values: npt.NDArray[np.float64], observable: Observable) -> bool:
    positive = values[values > 0]
    if values.min() < 0 or len(positive) == 0:
        return False
    if observable.spectrum:
        return bool(positive.max() > 1000 * positive.min())
    low, middle, high = np.quantile(positive, [0.01, 0.5, 0.99])
    # uniform values stay on a regular axis, also those that begin near zero
    return bool(high > 10 * low and middle < high / 4)


def _log_axis(values: npt.NDArray[np.float64], bins: int, name: str, label: str) -> Axis:
    positive = values[values > 0]
    high = 1.02 * positive.max()
    low = max(float(np.quantile(positive, 0.001)), high / 10**DECADES)
    return hist.axis.Variable(np.geomspace(low, high, bins + 1), name=name, label=label)


def _robust_range(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, [0.001, 0.999])
    margin = 0.1 * (high - low) or 1e-9 * max(abs(low), 1.0)
    start = max(low - margin, values.min() - margin / 4)
    if start < 0 <= values.min():
        start = 0.0
    return float(start), float(min(high + margin, values.max() + margin / 4))
