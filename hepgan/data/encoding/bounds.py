"""Physical limits of generated values: those that the schema declares, or else the sign of the training data."""

import dataclasses
import math
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hepgan.data.encoding.base import Noise
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Clips decoded values to the limits of their columns; comes before all other steps.

    A column without a declared limit keeps the sign of the training data: non-negative values stay non-negative, non-positive ones
    non-positive. A column of zeros has the sign of its field, and a field of zeros is not negative.

    Attributes:
        limits: ``[2, F]`` smallest and largest value.
        limited: ``[2, F]`` booleans: which of them apply.
    """

    limits: Tensor
    limited: Tensor

    @classmethod
    def fit(cls, schema: Schema, low: Tensor, high: Tensor) -> Self:
        """Returns the limits of fields whose training data range from ``low[F]`` to ``high[F]``."""
        limits, limited = torch.zeros(2, len(low)), torch.zeros(2, len(low), dtype=torch.bool)
        start = 0
        for field in schema.fields.values():
            place = slice(start, start + field.size)
            start += field.size
            dark = (low[place] == 0) & (high[place] == 0)
            first, last = low[place].min(), high[place].max()
            signs = (
                torch.where(dark, first >= 0, low[place] >= 0),
                torch.where(dark, (first < 0) & (last <= 0), high[place] <= 0),
            )
            for end, (declared, sign) in enumerate(zip(_representable(field), signs, strict=True)):
                limits[end, place] = 0.0 if declared is None else declared
                limited[end, place] = sign if declared is None else True
        return cls(limits, limited)

    def encode(self, x: Tensor, c: Tensor, noise: Noise) -> Tensor:
        """Returns ``x`` as it is: ``check_bounds`` has looked at it."""
        return x

    def decode(self, x: Tensor, c: Tensor) -> Tensor:
        """Clips; NaN stays NaN."""
        low, high = self.limits.to(x)
        x = torch.where(self.limited[0] & (x < low), low, x)
        return torch.where(self.limited[1] & (x > high), high, x)


def check_bounds(
    values: npt.NDArray[Any], field: Field, name: str, *, first: int = 0
) -> npt.NDArray[Any]:
    """Returns ``values[E, …]``, which lie within the declared limits of ``field``.

    Args:
        values: The field's values.
        field: Its limits.
        name: Its name, for the message.
        first: The number of the first event, for the message.

    Raises:
        DataError: a value that does not; names the field and the first event.
    """
    for limit, beyond, word in (
        (field.minimum, np.less, "below its minimum"),
        (field.maximum, np.greater, "above its maximum"),
    ):
        if limit is None or not values.size:
            continue
        # The limit as the file may hold it lies a rounding error away.
        outside = beyond(values, limit) & beyond(values, np.float32(limit))
        if field.fill is not None:  # what lies behind a list's end is no value
            outside &= values != field.fill
        if outside.any():
            event = int(np.argwhere(outside)[0, 0])
            raise DataError(
                f"field '{name}' is {values[outside][0]:g} in event {first + event}, {word} of {limit:g};"
                f" change [schema.fields.{name}], or leave such events out with a selection"
            )
    return values


def _representable(field: Field) -> tuple[float | None, float | None]:
    """The declared limits as the nearest values inside of them that the field can hold."""
    low, high = field.minimum, field.maximum
    if np.dtype(field.dtype or "float32").kind in "iu":
        low = None if low is None else float(math.ceil(low))
        high = None if high is None else float(math.floor(high))
    return (
        None if low is None else _inside(low, np.inf),
        None if high is None else _inside(high, -np.inf),
    )


def _inside(limit: float, towards: float) -> float:
    """The float32 that is ``limit`` or the next one ``towards`` infinity."""
    near = np.float32(limit)
    past = float(near) < limit if towards > 0 else float(near) > limit
    return float(np.nextafter(near, np.float32(towards)) if past else near)
