"""Weights of training events: normalization, effective sample size, and the check that their net weight can be trained on."""

from typing import NamedTuple

import awkward as ak
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hepgan.data.schema import Schema
from hepgan.errors import DataError

WEIGHT = "weight"
"""Field that holds the weights of the events, unless the schema declares it."""

LEAST_EFFECTIVE = 100
"""Smallest effective number of weighted events to which an encoding is fitted."""

Floats = npt.NDArray[np.float64]


def effective_sample_size(weights: Floats) -> float:
    """Returns the effective sample size (Kish), (Σ w)² / Σ w².

    >>> effective_sample_size(np.array([1.0, 1.0, 1.0, -1.0]))
    1.0
    """
    return float(weights.sum() ** 2 / np.sum(weights**2))


class WeightSums(NamedTuple):
    """Sums of the weights of events; those of two chunks can be merged.

    Attributes:
        events: Number of events.
        negative: Number of events with negative weights.
        total: Sum of the weights.
        square: Sum of their squares.
        absolute: Sum of their absolute values.
        low: Smallest weight.
        high: Largest weight.
    """

    events: int = 0
    negative: int = 0
    total: float = 0.0
    square: float = 0.0
    absolute: float = 0.0
    low: float = np.inf
    high: float = -np.inf

    @classmethod
    def of(cls, weights: Floats) -> "WeightSums":
        """Returns the sums of ``weights[E]``."""
        if len(weights) == 0:
            return cls()
        return cls(
            len(weights), int((weights < 0).sum()), float(weights.sum()), float((weights**2).sum()),
            float(np.abs(weights).sum()), float(weights.min()), float(weights.max()),
        )  # fmt: skip

    def merge(self, other: "WeightSums") -> "WeightSums":
        """Returns the sums of both samples."""
        return WeightSums(
            self.events + other.events, self.negative + other.negative,
            self.total + other.total, self.square + other.square, self.absolute + other.absolute,
            min(self.low, other.low), max(self.high, other.high),
        )  # fmt: skip

    @property
    def effective(self) -> float:
        """Effective number of events, (Σ w)² / Σ w²."""
        return self.total**2 / self.square if self.square > 0 else 0.0

    @property
    def equal(self) -> bool:
        """True if all weights are equal and positive: the events are unweighted."""
        return 0 < self.low == self.high

    def check(self, *, least: float = 0.0) -> None:
        """Checks that the net weight is positive, and that the effective number of events is at least ``least``.

        Raises:
            DataError: it is not.
        """
        # A sum of rounding errors is 0, too.
        if self.events and not self.total > 1e-9 * self.absolute:
            raise DataError(
                f"the weights of {self.events:,} events, {self.negative:,} of them negative, sum to {self.total:.4g}, but the sum must be"
                " positive; check the weight, or use more events"
            )
        if self.effective < least:
            raise DataError(
                f"{self.events:,} weighted events are worth {self.effective:.3g} unweighted ones, (Σ w)² / Σ w², but a fit needs at least"
                f" {least:g}; use more events, or exclude those with extreme weights with a cut"
            )

    def normalized(self, weights: Floats) -> Floats:
        """Returns ``weights`` divided by the mean weight."""
        return np.asarray(weights * (self.events / self.total))

    def __str__(self) -> str:
        negative = f", {self.negative / self.events:.1%} of them negative" if self.negative else ""
        return (
            f"{self.events:,} events with weights{negative}, effective number {self.effective:,.0f}"
        )


def event_weights(events: ak.Array, schema: Schema) -> Floats | None:
    """Returns the field ``weight`` ``[E]`` of events; ``None`` if there is none besides the fields of the schema.

    Raises:
        DataError: a weight is NaN or infinite.
    """
    if WEIGHT not in events.fields or WEIGHT in schema.all:
        return None
    weights = np.asarray(ak.to_numpy(events[WEIGHT]), dtype=np.float64)
    if not (finite := np.isfinite(weights)).all():
        at = int(np.argmin(finite))
        raise DataError(
            f"the weight of event {at} is {weights[at]:g}; exclude such events with a cut"
        )
    return weights


def normalized_weights(events: ak.Array, schema: Schema, *, least: float = 0.0) -> Tensor | None:
    """Returns the weights ``[E]`` of events divided by their mean, so that they add up to E; ``None`` if all are equal.

    Raises:
        DataError: a weight is NaN or infinite, the sum of the weights is not positive, or the effective number of events is less than
            ``least``.
    """
    weights = event_weights(events, schema)
    if weights is None or (sums := WeightSums.of(weights)).equal:
        return None
    sums.check(least=least)
    return torch.from_numpy(sums.normalized(weights))


def with_weights_of(reference: ak.Array, generated: ak.Array, schema: Schema) -> ak.Array:
    """Returns ``generated`` events to compare with ``reference`` events, in turn generated for the conditions of each of these.

    Generated events have weight 1, but conditions that are taken from weighted events do not have their distribution: such events get
    the weight of the reference event.
    """
    weights = event_weights(reference, schema)
    if weights is None or not schema.conditions:
        return generated
    repeated = np.resize(weights, len(generated))
    return ak.with_field(generated, repeated, WEIGHT)
