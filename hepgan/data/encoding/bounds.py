"""Physical limits of generated values: those declared in the schema, otherwise the sign of the training data."""

import dataclasses
import math
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hepgan.data.encoding.base import NAMES, Noise, tensor_record
from hepgan.data.encoding.kernels import use_kernels
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError


@tensor_record
@dataclasses.dataclass(frozen=True)
class Bounds:
    """Clips decoded values to the limits of their columns; always the first step of an encoding.

    A column without a declared limit keeps the sign of the training data: non-negative values stay non-negative, non-positive values
    non-positive. A column of zeros gets the sign of its field; a field of zeros is non-negative.

    Attributes:
        limits: ``[2, F]`` smallest and largest value.
        limited: ``[2, F]`` booleans: whether each limit applies.
    """

    limits: Tensor
    limited: Tensor

    @classmethod
    def fit(cls, schema: Schema, low: Tensor, high: Tensor) -> Self:
        """Returns the limits of fields whose training data range from ``low[F]`` to ``high[F]``."""
        limits, limited = torch.zeros(2, len(low)), torch.zeros(2, len(low), dtype=torch.bool)
        start = 0
        for field in schema.fields.values():
            columns = slice(start, start + field.size)
            start += field.size
            zero = (low[columns] == 0) & (high[columns] == 0)
            field_low, field_high = low[columns].min(), high[columns].max()
            signs = (
                torch.where(zero, field_low >= 0, low[columns] >= 0),
                torch.where(zero, (field_low < 0) & (field_high <= 0), high[columns] <= 0),
            )
            for end, (declared, sign) in enumerate(
                zip(_representable_limits(field), signs, strict=True)
            ):
                limits[end, columns] = 0.0 if declared is None else declared
                limited[end, columns] = sign if declared is None else True
        return cls(limits, limited)

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Returns ``x`` unchanged; ``check_bounds`` has checked it."""
        return x

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Clips; NaN stays NaN."""
        low, high = self.limits.to(x)
        if use_kernels(x):
            unlimited = low.new_full((2, len(low)), torch.inf)
            unlimited[0] *= -1
            return x.clamp(*torch.where(self.limited, self.limits, unlimited))
        x = torch.where(self.limited[0] & (x < low), low, x)
        return torch.where(self.limited[1] & (x > high), high, x)


NAMES[Bounds] = "bounds"  # saved with every encoding, but not a step of run files


def check_bounds(
    values: npt.NDArray[Any], field: Field, name: str, *, first: int = 0
) -> npt.NDArray[Any]:
    """Returns ``values[E, …]`` after checking that they lie within the declared limits of ``field``.

    Args:
        values: Values of the field.
        field: Field with its limits.
        name: Name of the field, for the error message.
        first: Number of the first event, for the error message.

    Raises:
        DataError: a value outside the limits; names the field and the first such event.
    """
    for limit, beyond, word in (
        (field.minimum, np.less, "below its minimum"),
        (field.maximum, np.greater, "above its maximum"),
    ):
        if limit is None or not values.size:
            continue
        # A limit stored as float32 in the file differs by a rounding error.
        outside = beyond(values, limit) & beyond(values, np.float32(limit))
        if field.fill is not None:  # padding is not a value
            outside &= values != field.fill
        if outside.any():
            event = int(np.argwhere(outside)[0, 0])
            raise DataError(
                f"field '{name}' is {values[outside][0]:g} in event {first + event}, {word} of {limit:g};"
                f" change [schema.fields.{name}], or exclude such events with a selection"
            )
    return values


def _representable_limits(field: Field) -> tuple[float | None, float | None]:
    """Returns the declared limits, rounded inwards to values that the field can hold."""
    low, high = field.minimum, field.maximum
    if np.dtype(field.dtype or "float32").kind in "iu":
        low = None if low is None else float(math.ceil(low))
        high = None if high is None else float(math.floor(high))
    return (
        None if low is None else _round_towards(low, np.inf),
        None if high is None else _round_towards(high, -np.inf),
    )


def _round_towards(limit: float, direction: float) -> float:
    """Returns ``limit`` as float32, rounded towards ``direction`` (plus or minus infinity)."""
    near = np.float32(limit)
    past = float(near) < limit if direction > 0 else float(near) > limit
    return float(np.nextafter(near, np.float32(direction)) if past else near)
