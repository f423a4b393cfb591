"""Observables and their evaluation in chunks of events."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import awkward as ak
import numpy as np
import numpy.typing as npt

from hepgan.data.schema import Field
from hepgan.errors import DataError, RunError
from hepgan.evaluation.observables.shower_shapes import Array

Values = dict[str, npt.NDArray[np.float64]]
"""``[E]`` values by observable; NaN where an event has no value."""


@dataclasses.dataclass(frozen=True)
class Observable:
    """Function of events that samples are compared in.

    Attributes:
        name: Name in histograms and scores.
        function: Function of events (``Mapping[str, Array]``, numpy or torch) that returns ``[E]``, or ``[E, K]`` for a spectrum.
        label: Axis label.
        unit: Unit of the values.
        feature: Transformation in the CaloChallenge's high-level features: log10(v + 1e-8), v/100, 1 − v, or not included.
        spectrum: Whether it has several values per event.
        step: Spacing of the values if they are discrete; 0 if they are continuous.
        shape: Shape of the cells of a spectrum, row-major; empty if unknown.
    """

    name: str
    function: Callable[[Mapping[str, Array]], Array]
    label: str
    unit: str = ""
    feature: Literal["none", "log10", "length", "complement"] = "none"
    spectrum: bool = False
    step: float = 0.0
    shape: tuple[int, ...] = ()

    def values(self, events: Mapping[str, Array]) -> Array:
        """Returns the values ``[E]`` or, for a spectrum, ``[E, K]``.

        Raises:
            RunError: the function returns another shape.
        """
        values, number = self.function(events), len(next(iter(events.values())))
        shape = np.shape(values)
        if len(shape) != 1 + self.spectrum or shape[0] != number:
            expected = "several values" if self.spectrum else "one value"
            raise RunError(
                f"the observable '{self.name}' returned the shape {shape} for {number} events, instead of {expected} per event"
            )
        return values

    @property
    def title(self) -> str:
        """Label followed by the unit in brackets."""
        return f"{self.label} [{self.unit}]" if self.unit else self.label


class Registered(NamedTuple):
    """A registered observable and the fields that it needs."""

    observable: Observable
    fields: tuple[str, ...]


class SharedEvents(dict[str, Array]):
    """Events ``{field: [E, *shape]}`` whose observables share the results of functions under ``once``, such as layer energies."""

    def __init__(self, events: Mapping[str, Array]) -> None:
        super().__init__(events)
        self.results: dict[Callable[[Mapping[str, Array]], Array], Array] = {}


def once(
    function: Callable[[Mapping[str, Array]], Array],
) -> Callable[[Mapping[str, Array]], Array]:
    """Returns a function of events that is evaluated once for each ``SharedEvents``, and as before for other mappings."""

    @functools.wraps(function)
    def shared(events: Mapping[str, Array]) -> Array:
        if not isinstance(events, SharedEvents):
            return function(events)
        if shared not in events.results:
            events.results[shared] = function(events)
        return events.results[shared]

    return shared


REGISTERED: dict[str, Registered] = {}
"""Observables added by ``register_observable``, by name."""


def register_observable(
    name: str,
    *,
    fields: Sequence[str],
    label: str = "",
    unit: str = "",
    spectrum: bool = False,
    step: float = 0.0,
) -> Callable[[Callable[[Mapping[str, Array]], Array]], Callable[[Mapping[str, Array]], Array]]:
    """Returns a decorator that registers a function of events as an observable.

    The observable is added to the standard ones of every schema with the given ``fields``: to histograms, scores, reports and
    validation.

    Args:
        name: Name of the observable.
        fields: Fields and conditions that the function reads.
        label: Axis label; by default the name.
        unit: Unit of the values.
        spectrum: Whether the function returns several values per event, ``[E, K]``.
        step: Spacing of discrete values.

    Raises:
        DataError: another function is registered under this name.
    """

    def register(
        function: Callable[[Mapping[str, Array]], Array],
    ) -> Callable[[Mapping[str, Array]], Array]:
        known = REGISTERED.get(name)
        if known and known.observable.function.__qualname__ != function.__qualname__:
            raise DataError(f"an observable '{name}' is already registered; choose another name")
        REGISTERED[name] = Registered(
            Observable(name, function, label or name, unit, spectrum=spectrum, step=step),
            tuple(fields),
        )
        return function

    return register


def arrays(events: ak.Array | Mapping[str, Array], names: Mapping[str, Field]) -> dict[str, Array]:
    """Returns ``{field: [E, *shape]}`` numpy views of awkward events; mappings of arrays are returned unchanged.

    Raises:
        DataError: a field is missing, jagged or of another shape.
    """
    if isinstance(events, Mapping):
        return {name: events[name] for name in names}
    result = {}
    for name, field in names.items():
        if name not in events.fields:
            raise DataError(
                f"the events have no field '{name}'; they have {', '.join(events.fields)}"
            )
        try:
            result[name] = ak.to_numpy(events[name], allow_missing=False)
        except ValueError as error:
            raise DataError(
                f"field '{name}' is not a regular array of shape {field.shape}"
            ) from error
        if result[name].shape[1:] != field.shape:
            raise DataError(
                f"field '{name}' has shape {result[name].shape[1:]} in the events, but {field.shape} in the schema"
            )
    return result


def chunks(events: Mapping[str, Array], *, size: int = 10_000) -> Iterator[dict[str, Array]]:
    """Yields slices of ``size`` events in double precision, so that memory stays bounded."""
    for start in range(0, len(next(iter(events.values()))), size):
        yield {
            name: np.asarray(values[start : start + size], dtype=np.float64)
            for name, values in events.items()
        }


def evaluate_observables(
    events: Mapping[str, Array], observables: Mapping[str, Observable]
) -> Values:
    """Returns the ``[E]`` double-precision values of each observable; spectra are not included."""
    single = {name: o for name, o in observables.items() if not o.spectrum}
    parts: dict[str, list[Array]] = {name: [] for name in single}
    for chunk in chunks(events):
        for name, observable in single.items():
            parts[name].append(observable.values(chunk))
    return {name: np.concatenate(part) for name, part in parts.items()}
