"""HDF5 files; the headers of datasets are checked against the content of the file before values are read."""

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
"""Events per chunk: 160 MB of the CaloChallenge's largest showers."""

LARGEST_CHUNK = 2**28
"""Maximum size of an HDF5 chunk [bytes], which is decompressed as a whole."""


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Context manager that opens the HDF5 file at ``path``.

    Raises:
        DataError: the file is missing, truncated, damaged or not HDF5, or h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise DataError("reading HDF5 needs h5py: pip install 'hepgan[hdf5]'") from error
    with _data_errors(path):
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


def dataset(file: Any, name: str, shape: tuple[int | None, ...], path: Path) -> Any:
    """Returns the dataset ``name`` of shape ``[E, *shape]``, unread; ``None`` in the shape stands for any length.

    Raises:
        DataError: it is missing, damaged, has another shape or no numbers, or stores values in other files.
    """
    import h5py

    with _data_errors(path):
        names = list(map(str, file))  # h5py returns names that are not UTF-8 as bytes
        link = file.get(name, getlink=True) if name in names else None
    if link is None:
        raise DataError(
            f"no dataset '{name}' in '{path}'; there are: {', '.join(names)}{did_you_mean(name, names)}"
        )
    if not isinstance(link, h5py.HardLink):
        raise DataError(f"'{name}' of '{path}' is a link; give the file that contains the dataset")
    expected = ", ".join(["events", *("any" if n is None else str(n) for n in shape)])
    with _data_errors(path):
        data = file[name]
        fits = isinstance(data, h5py.Dataset) and data.shape is not None
        fits = fits and data.dtype.kind in "fiu" and data.ndim == 1 + len(shape)
        fits = fits and all(n in (None, m) for n, m in zip(shape, data.shape[1:], strict=True))
        what = f"of {data.dtype} {list(data.shape or ())}" if hasattr(data, "dtype") else "a group"  # fmt: skip
    if not fits:
        raise DataError(f"dataset '{name}' of '{path}' is {what}, but must be numbers [{expected}]")
    with _data_errors(path):
        _check_storage(data, f"dataset '{name}' of '{path}'", path.stat().st_size)
    return data


def _check_storage(data: Any, name: str, size: int) -> None:
    """Raises a ``DataError`` if the dataset declares more data than a file of ``size`` bytes stores."""
    if data.external is not None or data.is_virtual:
        raise DataError(f"{name} stores its values in other files; copy it into one with h5repack")
    if (stored := data.id.get_storage_size()) > size:
        raise DataError(
            f"{name} is damaged: it declares {stored:,} bytes, but the file has {size:,}"
        )
    if data.chunks is None:
        bytes_needed = math.prod(data.shape) * data.dtype.itemsize
        if stored < bytes_needed:
            raise DataError(
                f"{name} has {data.shape[0]:,} events, {bytes_needed:,} bytes, but only {stored:,} were written; "
                "write or copy it again"
            )
        return
    if (chunk := math.prod(data.chunks) * data.dtype.itemsize) > LARGEST_CHUNK:
        raise DataError(
            f"{name} has chunks of {chunk:,} bytes, more than {LARGEST_CHUNK:,}; write smaller ones with h5repack"
        )
    needed = math.prod(math.ceil(n / c) for n, c in zip(data.shape, data.chunks, strict=True))
    if (written := data.id.get_num_chunks()) < needed:
        raise DataError(
            f"{name} has {data.shape[0]:,} events in {needed:,} chunks, but only {written:,} were written; "
            "write or copy it again"
        )


def iterate_rows(
    datasets: Mapping[str, Any], path: Path, *, rows: int = ROWS
) -> Iterator[tuple[range, dict[str, np.ndarray[Any, Any]]]]:
    """Yields chunks of ``rows`` events from datasets of equal length, in native byte order and checked for NaN and infinity.

    Raises:
        DataError: the lengths differ, or a value is not finite or cannot be read.
    """
    lengths = {name: len(data) for name, data in datasets.items()}
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"'{name}' {length}" for name, length in lengths.items())
        raise DataError(f"the datasets of '{path}' have different numbers of events: {text}")
    events = next(iter(lengths.values()))
    for start in range(0, events, rows):
        stop = min(start + rows, events)
        with _data_errors(path):
            piece = {name: _native(data[start:stop]) for name, data in datasets.items()}
        for name, values in piece.items():
            check_values(values, [name], np.arange(start, stop), str(path))
        yield range(start, stop), piece


def _native(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _data_errors(path: Path) -> contextlib.AbstractContextManager[None]:
    return data_errors(str(path), library="h5py")
