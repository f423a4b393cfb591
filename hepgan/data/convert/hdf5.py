"""HDF5 files, whose headers are checked against what the file holds before anything is read."""

import contextlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hepgan.data.io.files import data_errors
from hepgan.data.io.validation import check_values
from hepgan.errors import DataError, did_you_mean

ROWS = 5_000
"""Events of a piece: 160 MB of the CaloChallenge's largest showers."""

LARGEST_CHUNK = 2**28
"""Bytes of an HDF5 chunk, which is decompressed as a whole."""


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Context manager that yields the open HDF5 file at ``path``.

    Raises:
        DataError: it is missing, truncated, damaged or no HDF5 file, or h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise DataError("reading HDF5 needs h5py: pip install 'hepgan[hdf5]'") from error
    with _reading(path):
        try:
            file = h5py.File(path, "r")
        except (FileNotFoundError, PermissionError):
            raise
        except OSError as error:
            raise DataError(
                f"'{path}' is not an HDF5 file or is truncated ({error}); copy it again"
            ) from error
    with file:
        yield file


def dataset(file: Any, name: str, shape: tuple[int, ...], path: Path) -> Any:
    """Returns the dataset ``name`` of shape ``[E, *shape]``, unread.

    Raises:
        DataError: it is missing (names those there), of another shape or no numbers; or it is damaged, or its values are not all in
            this file.
    """
    import h5py

    with _reading(path):
        there = list(map(str, file))  # a name that is no UTF-8 comes as bytes
        link = file.get(name, getlink=True) if name in there else None
    if link is None:
        raise DataError(
            f"no dataset '{name}' in '{path}'; there are: {', '.join(there)}{did_you_mean(name, there)}"
        )
    if not isinstance(link, h5py.HardLink):
        raise DataError(f"'{name}' of '{path}' is a link; give a file that holds the dataset")
    wanted = ", ".join(["events", *map(str, shape)])
    with _reading(path):
        found = file[name]
        fits = isinstance(found, h5py.Dataset) and found.shape is not None
        fits = fits and found.dtype.kind in "fiu" and found.shape[1:] == shape and found.ndim > 0
        what = f"of {found.dtype} {list(found.shape or ())}" if hasattr(found, "dtype") else "a group"  # fmt: skip
    if not fits:
        raise DataError(f"dataset '{name}' of '{path}' is {what}, but should be numbers [{wanted}]")
    with _reading(path):
        _check_storage(found, f"dataset '{name}' of '{path}'", path.stat().st_size)
    return found


def _check_storage(found: Any, which: str, size: int) -> None:
    """Raises a ``DataError`` where the dataset says more than a file of ``size`` bytes holds."""
    if found.external is not None or found.is_virtual:
        raise DataError(f"{which} keeps its values in other files; copy it into one, with h5repack")
    if (stored := found.id.get_storage_size()) > size:
        raise DataError(f"{which} is damaged: it says {stored:,} bytes, the file has {size:,}")
    if found.chunks is None:
        bytes_needed = math.prod(found.shape) * found.dtype.itemsize
        if stored < bytes_needed:
            raise DataError(
                f"{which} is of {found.shape[0]:,} events, {bytes_needed:,} bytes, of which only {stored:,} were written; "
                "write or copy it again"
            )
        return
    if (chunk := math.prod(found.chunks) * found.dtype.itemsize) > LARGEST_CHUNK:
        raise DataError(
            f"{which} has chunks of {chunk:,} bytes, more than {LARGEST_CHUNK:,}; write smaller ones, with h5repack"
        )
    needed = math.prod(math.ceil(n / c) for n, c in zip(found.shape, found.chunks, strict=True))
    if (written := found.id.get_num_chunks()) < needed:
        raise DataError(
            f"{which} is of {found.shape[0]:,} events in {needed:,} chunks, of which only {written:,} were written; "
            "write or copy it again"
        )


def iterate_rows(
    datasets: Mapping[str, Any], path: Path, *, rows: int = ROWS
) -> Iterator[tuple[range, dict[str, np.ndarray[Any, Any]]]]:
    """Yields pieces of ``rows`` events of datasets of one length, in native byte order, checked for NaN and infinity.

    Raises:
        DataError: lengths differ, or a value is not finite or cannot be read.
    """
    lengths = {name: len(data) for name, data in datasets.items()}
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"'{name}' {length}" for name, length in lengths.items())
        raise DataError(f"the datasets of '{path}' have different numbers of events: {text}")
    events = next(iter(lengths.values()))
    for start in range(0, events, rows):
        stop = min(start + rows, events)
        with _reading(path):
            piece = {name: _native(data[start:stop]) for name, data in datasets.items()}
        for name, values in piece.items():
            check_values(values, [name], np.arange(start, stop), str(path))
        yield range(start, stop), piece


def _native(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _reading(path: Path) -> contextlib.AbstractContextManager[None]:
    return data_errors(str(path), library="h5py")
