"""Values as the types that a file holds."""

from typing import Any

import numpy as np

from hepgan.errors import DataError

Array = np.ndarray[Any, Any]


def to_dtype(values: Array, dtype: str, name: str, *, first: int = 0) -> Array:
    """Returns ``values[E, …]`` as the type called ``dtype``, clipped to what it can hold.

    Integers are rounded to the nearest; a boolean is true from 0.5 upwards. NaN and infinity stay what they are in a floating-point
    type.

    >>> to_dtype(np.array([-3.0, 1.6, 300.0]), "uint8", "image")
    array([  0,   2, 255], dtype=uint8)

    Args:
        values: Numbers or booleans.
        dtype: NumPy's name of a boolean, integer or floating-point type.
        name: The field, for the message.
        first: The number of the first event, for the message.

    Raises:
        DataError: NaN or infinity should become an integer or a boolean; names the field and the first event.
    """
    kind = np.dtype(dtype)
    if kind == values.dtype:
        return values
    if values.dtype.kind == "f" and kind.kind in "biu":
        bad = ~np.isfinite(values)
        if bad.any():
            event = first + int(np.argwhere(bad)[0, 0])
            raise DataError(
                f"field '{name}' is {values[bad][0]} in event {event}, which no {kind} can hold; "
                "declare the field as float32, or leave such events out"
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
        there = np.iinfo(values.dtype)
        return np.clip(values, max(there.min, limits.min), min(there.max, limits.max)).astype(kind)
    whole = np.rint(values.astype(np.float64))
    # 2^63 - 1 is no float64, but the power of 2 behind each limit is.
    below, above = whole < limits.min, whole >= 2.0 ** (limits.bits - (kind.kind == "i"))
    found = np.where(below | above, 0, whole).astype(kind)
    found[below], found[above] = limits.min, limits.max
    return found
