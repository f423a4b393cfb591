"""What an observable is, and how it is evaluated over events in chunks."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import awkward as ak
import numpy as np
import numpy.typing as npt

from hepgan.data.schema import Field
from hepgan.errors import DataError
from hepgan.evaluation.observables.shower_shapes import Array

Values = dict[str, npt.NDArray[np.float64]]
"""Each observable's value in each event, ``[E]``; NaN where an event has none."""


@dataclasses.dataclass(frozen=True)
class Observable:
    """A quantity of events.

    Attributes:
        name: Key in mappings of observables, histograms and scores.
        function: Events (``Mapping[str, Array]``, numpy or torch) -> ``[E]``, or ``[E, K]`` for a spectrum.
        label: For axes.
        unit: Of the values.
        feature: How it enters the CaloChallenge's high-level vector: as log10(v + 1e-8), as v/100, as 1 − v, or not at all.
        spectrum: Whether it has many values an event.
        step: Distance of the values it can take where they are on a lattice; 0 where they are continuous.
    """

    name: str
    function: Callable[[Mapping[str, Array]], Array]
    label: str
    unit: str = ""
    feature: Literal["none", "log10", "length", "complement"] = "none"
    spectrum: bool = False
    step: float = 0.0

    @property
    def title(self) -> str:
        """Label with the unit in brackets."""
        return f"{self.label} [{self.unit}]" if self.unit else self.label


def arrays(events: ak.Array | Mapping[str, Array], names: Mapping[str, Field]) -> dict[str, Array]:
    """``{field: [E, *shape]}`` numpy views of awkward events; mappings of arrays pass as they are.

    Raises:
        DataError: a field that is missing, ragged or of another shape.
    """
    if isinstance(events, Mapping):
        return {name: events[name] for name in names}
    found = {}
    for name, field in names.items():
        if name not in events.fields:
            raise DataError(
                f"the events have no field '{name}'; they have {', '.join(events.fields)}"
            )
        try:
            found[name] = ak.to_numpy(events[name], allow_missing=False)
        except ValueError as error:
            raise DataError(
                f"field '{name}' is not a regular array of shape {field.shape}"
            ) from error
        if found[name].shape[1:] != field.shape:
            raise DataError(
                f"field '{name}' has shape {found[name].shape[1:]} in the events, but {field.shape} in the schema"
            )
    return found


def chunks(events: Mapping[str, Array], *, size: int = 10_000) -> Iterator[dict[str, Array]]:
    """Slices of ``size`` events, in double precision, so that no observable needs a second copy of all cells."""
    for start in range(0, len(next(iter(events.values()))), size):
        yield {
            name: np.asarray(values[start : start + size], dtype=np.float64)
            for name, values in events.items()
        }


def evaluate_observables(
    events: Mapping[str, Array], observables: Mapping[str, Observable]
) -> Values:
    """The value of each observable that has one value an event, ``[E]``, in double precision; spectra are left out."""
    single = {name: o for name, o in observables.items() if not o.spectrum}
    parts: dict[str, list[Array]] = {name: [] for name in single}
    for chunk in chunks(events):
        for name, observable in single.items():
            parts[name].append(observable.function(chunk))
    return {name: np.concatenate(part) for name, part in parts.items()}
