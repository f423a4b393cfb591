"""Conditions of the events to generate: a number, a range to draw from, or one value per event."""

import dataclasses
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hepgan.data.dtypes import to_dtype
from hepgan.data.encoding.conditions import ConditionScale, check_condition
from hepgan.data.encoding.encoding import Encoding
from hepgan.errors import DataError
from hepgan.gan.noise import BLOCK
from hepgan.random_streams import check_seed, numpy_generator


@dataclasses.dataclass(frozen=True)
class Range:
    """Range of a condition from which each event's value is drawn uniformly; of classes, those from ``low`` to ``high``.

    >>> Range(1, 100)
    Range(low=1, high=100)
    """

    low: float
    high: float


Condition = float | Range | npt.ArrayLike
"""A number, a ``Range``, or an array with one value per event."""


@dataclasses.dataclass(frozen=True)
class Conditions:
    """Conditions of ``n`` events, drawn block by block, so that memory does not grow with ``n``.

    Attributes:
        values: Checked value of each condition: a number, a range, or an array ``[n]``.
        n: Number of events.
        encoding: Encoding that holds the ranges and types of the conditions.
    """

    values: Mapping[str, float | Range | npt.NDArray[np.float64]]
    n: int
    encoding: Encoding

    @classmethod
    def of(
        cls, conditions: Mapping[str, Condition], n: int | None, encoding: Encoding
    ) -> "Conditions":
        """Returns the checked conditions of a request.

        Raises:
            DataError: a condition is missing, unknown, not a number, a tuple, of more than one dimension or outside the
                trained range, or the number of events is not defined.
        """
        for name in conditions:
            if name not in encoding.scales:
                known = ", ".join(encoding.scales) or "none"
                raise DataError(f"the GAN has no condition '{name}' (it has: {known})")
        values = {
            name: _checked(name, conditions.get(name), scale, encoding.schema.conditions[name].unit)
            for name, scale in encoding.scales.items()
        }
        return cls(values, _number_of_events(values, n), encoding)

    @property
    def blocks(self) -> range:
        """Numbers of the blocks of events."""
        return range(-(-self.n // BLOCK))

    def columns(self, *, seed: int) -> dict[str, npt.NDArray[Any]]:
        """Returns the values ``[n]`` of each condition, in the type of its branch.

        Raises:
            RunError: the seed is not an integer from 0 to 2^64 − 1.
        """
        check_seed(seed)
        blocks = [self.block(number, seed=seed) for number in self.blocks]
        return {name: np.concatenate([block[name] for block in blocks]) for name in self.values}

    def block(self, number: int, *, seed: int) -> dict[str, npt.NDArray[Any]]:
        """Returns the values ``[<= BLOCK]`` of each condition in a block of events, in the type of its branch."""
        start = number * BLOCK
        size = min(BLOCK, self.n - start)
        block = {}
        for name, value in self.values.items():
            if isinstance(value, Range):
                rng = numpy_generator(seed, "sample", "condition", name, number)
                column = _drawn(value, self.encoding.scales[name], rng, size)
            elif isinstance(value, np.ndarray):
                column = value[start : start + size]
            else:
                column = np.full(size, value)
            # Rounded to the branch's type first, so that the GAN gets exactly the value that is written to the file.
            dtype = self.encoding.schema.conditions[name].dtype or "float32"
            block[name] = to_dtype(column, dtype, name)
        return block


def _checked(
    name: str, value: Condition | None, scale: ConditionScale, unit: str
) -> float | Range | npt.NDArray[np.float64]:
    if value is None:
        if scale.classes:
            return Range(*scale.range)  # all classes with equal probability
        low, high = scale.range
        raise DataError(
            f"the condition '{name}' is missing; it may be {f'{scale} {unit}'.rstrip()}: pass {name}=hepgan.Range({low:g}, {high:g}), or"
            f" --condition {name}={low:g}:{high:g}"
        )
    if isinstance(value, Range):
        return _checked_range(name, value, scale)
    if isinstance(value, tuple):
        text = ", ".join(f"{part:g}" if isinstance(part, float) else repr(part) for part in value)
        raise DataError(
            f"the condition {name} = ({text}) is ambiguous; write hepgan.Range({text}) for a range, or a list or an array"
            " for one value per event"
        )
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"the condition {name} = {value!r} is not a number") from error
    if array.ndim > 1:
        raise DataError(
            f"the condition '{name}' has shape {list(array.shape)}; give a number, a hepgan.Range(low, high) or one value"
            " per event"
        )
    check_condition(name, torch.from_numpy(np.atleast_1d(array).copy()), scale)
    return array if array.ndim else float(array)


def _checked_range(name: str, value: Range, scale: ConditionScale) -> Range:
    try:
        low, high = float(value.low), float(value.high)
    except (TypeError, ValueError) as error:
        raise DataError(f"the condition {name} = {value!r} is not a range of numbers") from error
    if not low <= high:
        raise DataError(f"the range {name} = {low:g}:{high:g} should be in increasing order")
    if not scale.allows_range(low, high):
        raise DataError(
            f"the range {name} = {low:g}:{high:g} is not inside the range that this GAN was trained on, {scale}"
        )
    return Range(low, high)


def _number_of_events(values: Mapping[str, object], n: object) -> int:
    if not isinstance(n, numbers.Integral | type(None)) or isinstance(n, bool):
        raise DataError(f"n = {n!r} should be an integer, such as 1000")
    lengths = {len(value) for value in values.values() if isinstance(value, np.ndarray)}
    if n is not None:
        lengths.add(int(n))
    if not lengths:
        raise DataError(
            "the number of events is not defined: pass n, or an array for one condition"
        )
    if len(lengths) > 1:
        arrays = ", ".join(f"{k} {len(v)}" for k, v in values.items() if isinstance(v, np.ndarray))
        requested = f", but n = {n}" if n is not None else ""
        raise DataError(
            f"the number of events is not defined: the conditions have lengths {arrays}{requested}"
        )
    count = lengths.pop()
    if count < 1:
        raise DataError(f"n = {count} should be 1 or more")
    return count


def _drawn(
    value: Range, scale: ConditionScale, rng: np.random.Generator, size: int
) -> npt.NDArray[np.float64]:
    if scale.classes:
        classes = np.array([c for c in sorted(scale.classes) if value.low <= c <= value.high])
        return classes[rng.integers(0, len(classes) - 1, size, endpoint=True)].astype(np.float64)
    return rng.uniform(value.low, value.high, size)
