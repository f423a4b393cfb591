"""Conditions as columns of ``c[E, C]``: linear, logarithmic, as a fraction of the maximum, or one-hot."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal

import awkward as ak
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hepgan.errors import DataError, RunError

MAX_CLASSES = 1000
"""Maximum number of classes of a one-hot condition; each takes a column of ``c``."""


@dataclasses.dataclass(frozen=True)
class ConditionScale:
    """Map between a scalar condition and columns of ``c[E, C]``.

    Attributes:
        range: Smallest and largest allowed value in the unit of the condition; equal if there is only one value.
        scale: ``linear`` and ``log`` map the range to [-1, 1]; ``fraction`` divides by the largest value; ``onehot`` makes one
            column for each integer in the range.
    """

    range: tuple[float, float]
    scale: Literal["linear", "log", "fraction", "onehot"] = "linear"

    def __post_init__(self) -> None:
        low, high = self.range
        whole = self.scale != "onehot" or (float(low).is_integer() and float(high).is_integer())
        limits = torch.finfo(torch.float32)
        representable = max(abs(low), abs(high), high - low) <= limits.max
        positive = {"log": low, "fraction": high}.get(self.scale, 1.0) >= limits.tiny
        if not (representable and low <= high and whole and positive):
            raise RunError(
                f"a condition's range {list(self.range)} does not suit its scale '{self.scale}'"
            )
        if self.columns > MAX_CLASSES:
            raise RunError(
                f"a condition's range {list(self.range)} has {self.columns:.6g} classes, but the scale 'onehot' allows"
                f" at most {MAX_CLASSES}; use 'linear', or train one GAN per class"
            )

    @property
    def columns(self) -> int:
        """Number of columns of ``c``."""
        return int(self.range[1] - self.range[0]) + 1 if self.scale == "onehot" else 1

    def allows(self, values: Tensor) -> Tensor:
        """Returns ``[E]`` booleans: whether each value lies in the range (and is an integer, for ``onehot``)."""
        low, high = self.range
        # A limit stored as float32 may lie a rounding error outside the range.
        tolerance = 1e-6 * max(abs(low), abs(high))
        inside = (values >= low - tolerance) & (values <= high + tolerance)
        return inside & (values == values.round()) if self.scale == "onehot" else inside

    def encode(self, values: Tensor) -> Tensor:
        """Returns ``c[E, columns]`` for ``values[E]``."""
        low, high = self.range
        if self.scale == "onehot":
            classes = (values - low).round().long()
            return torch.nn.functional.one_hot(classes, self.columns).to(values.dtype)
        if self.scale == "fraction":
            return (values / high)[:, None]
        if self.scale == "log":
            values, low, high = torch.log(values), math.log(low), math.log(high)
        if low == high:
            return (values - low)[:, None]
        return (2 * (values - low) / (high - low) - 1)[:, None]

    def decode(self, c: Tensor) -> Tensor:
        """Returns the values ``[E]`` of ``c[E, columns]``."""
        low, high = self.range
        if self.scale == "onehot":
            return c.argmax(1).to(c.dtype) + low
        if self.scale == "fraction":
            return c[:, 0] * high
        if self.scale == "log":
            low, high = math.log(low), math.log(high)
            return torch.exp(low + (c[:, 0] + 1) / 2 * (high - low))
        return low + (c[:, 0] + 1) / 2 * (high - low)


def encode_conditions(
    values: Mapping[str, npt.ArrayLike] | ak.Array, scales: Mapping[str, ConditionScale]
) -> Tensor:
    """Returns ``c[E, C]`` in float64.

    Raises:
        DataError: a condition is missing, outside its range, or differs in length from the others.
    """
    names = values.fields if isinstance(values, ak.Array) else values
    parts = []
    for name, scale in scales.items():
        if name not in names:
            raise DataError(f"the condition '{name}' is missing; give it in {list(scale.range)}")
        numbers = torch.from_numpy(np.array(values[name], dtype=np.float64, ndmin=1))
        check_condition(name, numbers, scale)
        parts.append(scale.encode(numbers))
    if not parts:
        return torch.empty(
            len(values) if isinstance(values, ak.Array) else 0, 0, dtype=torch.float64
        )
    if len({len(part) for part in parts}) > 1:
        raise DataError("the conditions differ in length: " + ", ".join(f"{len(p)}" for p in parts))
    return torch.cat(parts, 1)


def check_condition(name: str, values: Tensor, scale: ConditionScale) -> None:
    """Checks that all ``values[E]`` lie in the range of the condition.

    Raises:
        DataError: a value is outside; names the first.
    """
    outside = ~scale.allows(values)
    if outside.any():
        low, high = scale.range
        problem = "is not a class" if scale.scale == "onehot" else "is outside the trained range"
        raise DataError(
            f"{name} = {values[outside][0].item():g} {problem} of {low:g} to {high:g}; give a value in this range"
        )
