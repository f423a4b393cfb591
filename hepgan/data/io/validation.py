"""Values that no network can take: NaN, infinity, integers that float32 cannot hold."""

from collections.abc import Sequence
from typing import Any

import awkward as ak
import numpy as np

from hepgan.errors import DataError

EXACT = 2**24  # float32 holds every integer up to here
LARGEST = float(np.finfo(np.float32).max)

Array = np.ndarray[Any, Any]


def check_values(values: Array, branches: Sequence[str], entries: Array, path: str) -> None:
    """Raise for the first value of ``values[E, …]`` that is lost on the way to a float32 tensor.

    Args:
        values: What was read.
        branches: The branch, or one branch for each value of an event.
        entries: ``int64[E]``, for the message.
        path: The file, for the message.

    Raises:
        DataError: names branch, first entry and how many values are concerned.
    """
    if values.size == 0 or _all_fit(values):
        return
    bad = ~_fits(values)
    if not bad.any():
        return
    first = int(np.flatnonzero(bad.reshape(-1))[0])
    row, place = divmod(first, max(1, bad[0].size))
    branch = branches[place] if len(branches) > 1 else branches[0]
    value = values.reshape(-1)[first]
    number = int(bad.sum())
    many = f"; {number} values there are like it" if number > 1 else ""
    what = f"branch '{branch}' of '{path}' is {value} in entry {entries[row]}{many}"
    if values.dtype.kind == "f":
        raise DataError(
            f"{what}: not a finite float32; leave such events out with a selection or mend the file"
        )
    raise DataError(f"{what}: integers above 2^24 lose digits in float32; leave the branch out")


def check_lists(array: Any, branch: str, path: str) -> None:
    """Raises a ``DataError`` where the lists of a jagged array reach beyond its values, as in a damaged file."""
    if isinstance(array, ak.Array) and (fault := ak.validity_error(array)):
        raise DataError(
            f"branch '{branch}' of '{path}' is damaged ({fault.splitlines()[0]}); copy or write it again"
        )


def _all_fit(values: Array) -> bool:
    """A quick look, one pass without a temporary array: ``False`` only says that a closer one is due."""
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
    return np.asarray(size // np.maximum(lowest, 1) < EXACT)  # what is left of the trailing zeros


def count_not_float32(values: Array) -> int:
    """Returns how many of ``values`` are lost on the way to a float32 tensor, as ``check_values`` has it."""
    return 0 if values.size == 0 or _all_fit(values) else int((~_fits(values)).sum())
