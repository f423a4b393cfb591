"""Sample of events with weights and the values of its observables."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from hepgan.errors import DataError
from hepgan.evaluation.metrics.statistics import Floats
from hepgan.evaluation.observables.shower_shapes import Array
from hepgan.evaluation.observables.standard import Observable, Values, evaluate_observables
from hepgan.random_streams import numpy_generator


class Sample(NamedTuple):
    """A sample of ``E`` events.

    Attributes:
        events: Arrays ``[E, …]`` by field.
        weights: ``[E]`` weights; ones if the events are unweighted.
        values: ``[E]`` values by observable; spectra are not included.
    """

    events: Mapping[str, Array]
    weights: Floats
    values: Values

    @property
    def number(self) -> int:
        """Number of events."""
        return len(self.weights)

    @property
    def weighted(self) -> bool:
        """True if the weights differ between events."""
        return bool(np.any(self.weights != self.weights[0]))


def build_sample(
    events: Mapping[str, Array],
    observables: Mapping[str, Observable],
    weights: Floats | None = None,
) -> Sample:
    """Returns the sample of ``events`` with the values of its observables.

    Raises:
        DataError: the weights' sum is not positive.
    """
    number = len(next(iter(events.values())))
    array = np.ones(number) if weights is None else np.asarray(weights, dtype=np.float64)
    if not array.sum() > 0:
        raise DataError(
            f"the weights of {number} events sum to {array.sum():g}; the sum must be positive"
        )
    return Sample(events, array, evaluate_observables(events, observables))


def unweight(sample: Sample, *, seed: int) -> Sample:
    """Returns unweighted events with the same distribution: each event is kept with a probability proportional to its weight.

    Raises:
        DataError: some weights are negative.
    """
    if not sample.weighted:
        return sample
    if sample.weights.min() < 0:
        raise DataError(
            f"{int((sample.weights < 0).sum()):,} of {sample.number:,} events have negative weights:"
            " metrics of unweighted events cannot be computed"
        )
    chance = sample.weights / sample.weights.max()
    kept = numpy_generator(seed, "evaluation", "unweighted").random(sample.number) < chance
    return Sample(
        {name: values[kept] for name, values in sample.events.items()},
        np.ones(int(kept.sum())),
        {name: values[kept] for name, values in sample.values.items()},
    )
