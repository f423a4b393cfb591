"""Checks for values that a network cannot take: NaN, infinity, integers that float32 cannot represent."""

from collections.abc import Sequence
from typing import Any

import awkward as ak
import numpy as np

from hepgan.errors import DataError

EXACT = 2**24  # float32 represents every integer up to this one
LARGEST = float(np.finfo(np.float32).max)

Array = np.ndarray[Any, Any]


def check_values(
    values: Array, branches: Sequence[str], entries: Array, path: str, *, what: str = "branch"
) -> None:
    """Checks that float32 can represent all ``values[E, …]``.

    Args:
        values: Values that were read.
        branches: Name of the branch, or one name for each value of an event.
        entries: ``int64[E]``, entries of the events, for error messages.
        path: Path of the file, for error messages.
        what: Kind of quantity, for error messages.

    Raises:
        DataError: a value cannot be represented; names the branch, its first such entry and the number of such values.
    """
    if values.size == 0 or _all_fit(values):
        return
    bad = ~_fits(values)
    if not bad.any():
        return
    first = int(np.flatnonzero(bad.reshape(-1))[0])
    row, column = divmod(first, max(1, bad[0].size))
    branch = branches[column] if len(branches) > 1 else branches[0]
    value = values.reshape(-1)[first]
    number = int(bad.sum())
    such = f" ({number} such values)" if number > 1 else ""
    found = f"{what} '{branch}' of '{path}' is {value} in entry {entries[row]}"
    if values.dtype.kind == "f":
        raise DataError(
            f"{found}, which is not a finite float32{such}; drop such events with a cut, or repair the file"
        )
    raise DataError(
        f"{found}, which float32 cannot represent{such}; leave the branch out: integers above 2^24 lose digits"
    )


def check_lists(array: Any, branch: str, path: str) -> None:
    """Raises a ``DataError`` if the offsets of a jagged array exceed its values, as in a damaged file."""
    if isinstance(array, ak.Array) and (fault := ak.validity_error(array)):
        raise DataError(
            f"branch '{branch}' of '{path}' is damaged ({fault.splitlines()[0]}); copy or write it again"
        )


def _all_fit(values: Array) -> bool:
    """Quick check in one pass without a temporary array; ``False`` means that an exact check is needed."""
    if values.dtype.kind == "b" or (values.dtype.kind in "iu" and values.dtype.itemsize < 4):
        return True
    if values.dtype == np.float32:
        with np.errstate(all="ignore"):
            return bool(np.isfinite(values.sum()))
    low, high = values.min(), values.max()  # both are NaN where one value is
    bound = EXACT if values.dtype.kind in "iu" else LARGEST
    return bool(low >= -bound and high <= bound)


def _fits(values: Array) -> Array:
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            return np.asarray(np.abs(values) <= LARGEST)
    size = np.abs(values.astype(np.int64)).astype(np.uint64) if values.dtype.kind == "i" else values
    lowest = size & (~size + np.asarray(1, size.dtype))
    return np.asarray(size // np.maximum(lowest, 1) < EXACT)  # the odd part


def count_not_float32(values: Array) -> int:
    """Returns the number of ``values`` that float32 cannot represent, by the criterion of ``check_values``."""
    return 0 if values.size == 0 or _all_fit(values) else int((~_fits(values)).sum())
