"""Events ready to be compared: arrays, weights, and the value of each observable, evaluated once."""

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
        weights: ``[E]``; ones where events have none.
        values: ``[E]`` by observable, without spectra.
    """

    events: Mapping[str, Array]
    weights: Floats
    values: Values

    @property
    def number(self) -> int:
        """How many events there are."""
        return len(self.weights)

    @property
    def weighted(self) -> bool:
        """Whether some event counts for more than another."""
        return bool(np.any(self.weights != self.weights[0]))


def build_sample(
    events: Mapping[str, Array],
    observables: Mapping[str, Observable],
    weights: Floats | None = None,
) -> Sample:
    """The sample of ``events`` with their observables.

    Raises:
        DataError: the weights' sum is not positive.
    """
    number = len(next(iter(events.values())))
    found = np.ones(number) if weights is None else np.asarray(weights, dtype=np.float64)
    if not found.sum() > 0:
        raise DataError(
            f"the weights of {number} events have the sum {found.sum():g}; only samples with a positive sum have shapes"
        )
    return Sample(events, found, evaluate_observables(events, observables))


def unweight(sample: Sample, *, seed: int) -> Sample:
    """Events without weights that are distributed as the weighted ones: each is kept with a chance in proportion to its weight.

    Raises:
        DataError: some weights are negative.
    """
    if not sample.weighted:
        return sample
    if sample.weights.min() < 0:
        raise DataError(
            f"{int((sample.weights < 0).sum()):,} of {sample.number:,} events have negative weights:"
            " what needs single events cannot be computed"
        )
    chance = sample.weights / sample.weights.max()
    kept = numpy_generator(seed, "evaluation", "unweighted").random(sample.number) < chance
    return Sample(
        {name: values[kept] for name, values in sample.events.items()},
        np.ones(int(kept.sum())),
        {name: values[kept] for name, values in sample.values.items()},
    )
