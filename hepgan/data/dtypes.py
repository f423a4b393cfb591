"""Conversion of values to the types of a file."""

from typing import Any

import numpy as np

from hepgan.errors import DataError

Array = np.ndarray[Any, Any]


def to_dtype(values: Array, dtype: str, name: str, *, first: int = 0) -> Array:
    """Converts ``values[E, …]`` to ``dtype``, clipped to its range.

    Values are rounded to the nearest integer; booleans are true from 0.5 upwards. NaN and infinity are kept in a floating-point type.

    >>> to_dtype(np.array([-3.0, 1.6, 300.0]), "uint8", "image")
    array([  0,   2, 255], dtype=uint8)

    Args:
        values: Numbers or booleans.
        dtype: NumPy name of a boolean, integer or floating-point type.
        name: Name of the field, for error messages.
        first: Number of the first event, for error messages.

    Raises:
        DataError: NaN or infinity would be converted to an integer or a boolean.
    """
    kind = np.dtype(dtype)
    if kind == values.dtype:
        return values
    if values.dtype.kind == "f" and kind.kind in "biu":
        bad = ~np.isfinite(values)
        if bad.any():
            event = first + int(np.argwhere(bad)[0, 0])
            raise DataError(
                f"field '{name}' is {values[bad][0]} in event {event}, which {kind} cannot represent; "
                "declare the field as float32, or drop such events"
            )
    if kind.kind == "b":
        return np.asarray(values >= 0.5)
    if values.dtype.kind == "b":
        return values.astype(kind)
    if kind.kind in "iu":
        return _to_integer(values, kind)
    if values.dtype.kind == "f" and kind.itemsize < values.dtype.itemsize:
        largest = np.finfo(kind).max
        values = np.where(np.isfinite(values), np.clip(values, -largest, largest), values)
    return values.astype(kind)


def _to_integer(values: Array, kind: np.dtype[Any]) -> Array:
    limits = np.iinfo(kind)
    if values.dtype.kind in "iu":
        own = np.iinfo(values.dtype)
        return np.clip(values, max(own.min, limits.min), min(own.max, limits.max)).astype(kind)
    rounded = np.rint(values.astype(np.float64))
    # 2^63 - 1 is not a float64, but the power of 2 next to each limit is.
    below, above = rounded < limits.min, rounded >= 2.0 ** (limits.bits - (kind.kind == "i"))
    integers = np.where(below | above, 0, rounded).astype(kind)
    integers[below], integers[above] = limits.min, limits.max
    return integers
