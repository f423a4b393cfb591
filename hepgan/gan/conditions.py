"""Conditions of the events to generate: a number, a range or values to draw from, or one value per event."""

import dataclasses
import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

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
    """Range of a condition from which each event's value is drawn uniformly, with the scale ``log`` uniformly in its logarithm.

    >>> Range(1, 100)
    Range(low=1, high=100, scale='linear')
    """

    low: float
    high: float
    scale: Literal["linear", "log"] = "linear"


@dataclasses.dataclass(frozen=True)
class Choice:
    """Values of a condition, such as classes, from which each event's value is drawn with equal probability.

    >>> Choice((-211, 211))
    Choice(values=(-211, 211))
    """

    values: Sequence[float]


Condition = float | Range | Choice | npt.ArrayLike
"""A number, a ``Range``, a ``Choice``, or an array with one value per event."""

_Checked = float | Range | Choice | npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Conditions:
    """Conditions of ``n`` events, drawn block by block, so that memory does not grow with ``n``.

    Attributes:
        values: Checked value of each condition: a number, a range, a choice, or an array ``[n]``.
        n: Number of events.
        encoding: Encoding that holds the ranges and types of the conditions.
    """

    values: Mapping[str, _Checked]
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
        values: dict[str, _Checked] = {
            name: _checked(name, conditions.get(name), scale, encoding.schema.conditions[name].unit)
            for name, scale in encoding.scales.items()
        }
        return cls(values, _number_of_events(values, n), encoding)

    @property
    def drawn(self) -> Iterator[str]:
        """Sentences on the conditions that are drawn, such as "energy: uniform in 1 … 100 GeV"."""
        for name, value in self.values.items():
            unit = self.encoding.schema.conditions[name].unit
            if isinstance(value, Range):
                distribution = "uniform in the logarithm," if value.scale == "log" else "uniform in"
                yield f"{name}: {distribution} {value.low:g} … {value.high:g} {unit}".rstrip()
            elif isinstance(value, Choice):
                values = f"{', '.join(f'{each:.10g}' for each in value.values)} {unit}".rstrip()
                yield f"{name}: {values}" + (" with equal probability" * (len(value.values) > 1))

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
            if isinstance(value, (Range, Choice)):
                rng = numpy_generator(seed, "sample", "condition", name, number)
                column = _drawn(value, rng, size)
            elif isinstance(value, np.ndarray):
                column = value[start : start + size]
            else:
                column = np.full(size, value)
            # Rounded to the branch's type first, so that the GAN gets exactly the value that is written to the file.
            dtype = self.encoding.schema.conditions[name].dtype or "float32"
            block[name] = to_dtype(column, dtype, name)
        return block


def _checked(name: str, value: Condition | None, scale: ConditionScale, unit: str) -> _Checked:
    if value is None:
        if scale.classes:
            return Choice(sorted(scale.classes))
        low, high = scale.range
        option, argument = (":log", ', scale="log"') if scale.scale == "log" else ("", "")
        raise DataError(
            f"the condition '{name}' is missing; it may be {f'{scale} {unit}'.rstrip()}: pass {name}=hepgan.Range({low:g}, {high:g}{argument}),"
            f" or --condition {name}={low:g}:{high:g}{option}, or --conditions-from FILE.root"
        )
    if isinstance(value, Range):
        return _checked_range(name, value, scale)
    if isinstance(value, Choice):
        values = _checked_array(name, list(value.values), scale)
        if values.ndim != 1 or not values.size:
            raise DataError(f"the condition {name} = {value!r} needs one or more numbers")
        return Choice(values.tolist())
    if isinstance(value, tuple):
        text = ", ".join(f"{part:g}" if isinstance(part, float) else repr(part) for part in value)
        raise DataError(
            f"the condition {name} = ({text}) is ambiguous; write hepgan.Range({text}) for a range, hepgan.Choice(({text})) for values to"
            " draw from, or a list or an array for one value per event"
        )
    array = _checked_array(name, value, scale)
    return array if array.ndim else float(array)


def _checked_array(
    name: str, value: npt.ArrayLike, scale: ConditionScale
) -> npt.NDArray[np.float64]:
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
    return array


def _checked_range(name: str, value: Range, scale: ConditionScale) -> Range:
    try:
        low, high = float(value.low), float(value.high)
    except (TypeError, ValueError) as error:
        raise DataError(f"the condition {name} = {value!r} is not a range of numbers") from error
    if scale.classes:
        few = sorted(scale.classes)[:2]
        raise DataError(
            f"{name} = {low:g}:{high:g} is a range, but {name} is a class, {scale}; leave it out to draw all of them, or list some:"
            f" --condition {name}={','.join(map(str, few))} ({name}=hepgan.Choice({few}))"
        )
    if not low <= high:
        raise DataError(f"the range {name} = {low:g}:{high:g} should be in increasing order")
    if not scale.allows_range(low, high):
        raise DataError(
            f"the range {name} = {low:g}:{high:g} is not inside the range that this GAN was trained on, {scale}"
        )
    if value.scale not in ("linear", "log") or (value.scale == "log" and low <= 0):
        raise DataError(
            f"the range {name} = {low:g}:{high:g} has the scale '{value.scale}'; choose linear, or log for positive limits"
        )
    return Range(low, high, value.scale)


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


def _drawn(value: Range | Choice, rng: np.random.Generator, size: int) -> npt.NDArray[np.float64]:
    if isinstance(value, Choice):
        values = np.array(value.values, dtype=np.float64)
        return values[rng.integers(0, len(values) - 1, size, endpoint=True)]
    if value.scale == "log":
        logarithm = rng.uniform(np.log(value.low), np.log(value.high), size)
        return np.exp(logarithm).clip(value.low, value.high)
    return rng.uniform(value.low, value.high, size)
