"""Conditions of the events to generate: numbers, ranges to draw from, or one value for each event."""

import dataclasses
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hepgan.data.encoding.base import ConditionScale
from hepgan.data.encoding.encoding import Encoding, check_condition
from hepgan.data.io.dtypes import to_dtype
from hepgan.errors import DataError
from hepgan.gan.noise import BLOCK
from hepgan.random_streams import numpy_generator

Condition = float | tuple[float, float] | npt.ArrayLike


@dataclasses.dataclass(frozen=True)
class Conditions:
    """Conditions of ``n`` events, drawn block by block, so that memory does not grow with ``n``.

    Attributes:
        values: For each condition a number, a range ``(low, high)``, or an array ``[n]``, all checked.
        n: How many events.
        encoding: Gives the conditions' ranges and types.
    """

    values: Mapping[str, float | tuple[float, float] | npt.NDArray[np.float64]]
    n: int
    encoding: Encoding

    @classmethod
    def of(
        cls, conditions: Mapping[str, Condition], n: int | None, encoding: Encoding
    ) -> "Conditions":
        """Checks what a user asks for.

        Raises:
            DataError: a condition is missing, unknown, not a number, of more than one dimension or outside the range that
                was trained, or the number of events is not clear.
        """
        for name in conditions:
            if name not in encoding.scales:
                known = ", ".join(encoding.scales) or "none"
                raise DataError(f"the GAN has no condition '{name}' (it has: {known})")
        values = {
            name: _checked(name, conditions.get(name), scale, encoding.schema.conditions[name].unit)
            for name, scale in encoding.scales.items()
        }
        return cls(values, _number(values, n), encoding)

    def block(self, number: int, *, seed: int) -> dict[str, npt.NDArray[Any]]:
        """Returns each condition's values ``[<= BLOCK]`` of a block of events, in the type of its branch."""
        start = number * BLOCK
        size = min(BLOCK, self.n - start)
        found = {}
        for name, value in self.values.items():
            if isinstance(value, tuple):
                rng = numpy_generator(seed, "sample", "condition", name, number)
                drawn = _drawn(value, self.encoding.scales[name], rng, size)
            elif isinstance(value, np.ndarray):
                drawn = value[start : start + size]
            else:
                drawn = np.full(size, value)
            # As the file will hold them, so that the GAN is asked for exactly what is written.
            found[name] = to_dtype(
                drawn, self.encoding.schema.conditions[name].dtype or "float32", name
            )
        return found


def _checked(
    name: str, value: Condition | None, scale: ConditionScale, unit: str
) -> float | tuple[float, float] | npt.NDArray[np.float64]:
    if value is None:
        if scale.scale == "onehot":
            return scale.range  # drawn evenly from all classes
        low, high = scale.range
        raise DataError(
            f"the condition '{name}' is missing; it may be {low:g} to {high:g} {unit}".rstrip()
        )
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"the condition {name} = {value!r} is not a number") from error
    if isinstance(value, tuple):
        return _checked_range(name, array, scale)
    if array.ndim > 1:
        raise DataError(
            f"the condition '{name}' has shape {list(array.shape)}; give a number, a range (low, high) or one value an event"
        )
    check_condition(name, torch.from_numpy(np.atleast_1d(array).copy()), scale)
    return array if array.ndim else float(array)


def _checked_range(
    name: str, values: npt.NDArray[np.float64], scale: ConditionScale
) -> tuple[float, float]:
    if values.shape != (2,):
        raise DataError(f"the range of {name} has {values.size} numbers; write (low, high)")
    low, high = values.tolist()
    if not low <= high:
        raise DataError(f"the range {name} = {low:g}:{high:g} should rise")
    if not scale.allows(torch.from_numpy(values)).all():
        whole = f"{scale.range[0]:g}:{scale.range[1]:g}"
        raise DataError(
            f"the range {name} = {low:g}:{high:g} is not in {whole}, what this GAN is made for"
        )
    return low, high


def _number(values: Mapping[str, object], n: object) -> int:
    """Returns how many events are asked for."""
    if not isinstance(n, numbers.Integral | type(None)) or isinstance(n, bool):
        raise DataError(f"n = {n!r} should be an integer, such as 1000")
    lengths = {len(value) for value in values.values() if isinstance(value, np.ndarray)}
    if n is not None:
        lengths.add(int(n))
    if not lengths:
        raise DataError("how many events should be made? give n")
    if len(lengths) > 1:
        given = ", ".join(f"{k} {len(v)}" for k, v in values.items() if isinstance(v, np.ndarray))
        asked = f", but n = {n}" if n is not None else ""
        raise DataError(
            f"how many events should be made? the conditions have lengths {given}{asked}"
        )
    count = lengths.pop()
    if count < 1:
        raise DataError(f"n = {count} should be 1 or more")
    return count


def _drawn(
    limits: tuple[float, float], scale: ConditionScale, rng: np.random.Generator, size: int
) -> npt.NDArray[np.float64]:
    low, high = limits
    if scale.scale == "onehot":
        return rng.integers(int(low), int(high), size, endpoint=True).astype(np.float64)
    return rng.uniform(low, high, size)
