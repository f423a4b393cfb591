"""What the converters share: their result, and HDF5 files with errors that say what is wrong."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
import numpy as np

from hepgan.data.checks import check_values
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError, did_you_mean

MOST_BRANCHES = 10_000  # the time to write a tree grows with their square: five minutes for so many
ROWS = 5_000  # events a chunk: 160 MB of the CaloChallenge's largest showers


class Converted(NamedTuple):
    """What a converter makes: chunks of events for one tree, and the branches of its one-branch-a-pixel form."""

    tree: str
    schema: Schema
    pixels: Mapping[str, str]
    chunks: Iterator[ak.Array]


def in_pixels(found: Converted) -> Schema:
    """The schema with a scalar branch for every value, named as is usual for the format.

    Raises:
        DataError: there would be more branches than can be written in reasonable time.
    """
    values = sum(field.size for field in found.schema.all.values())
    if values > MOST_BRANCHES:
        raise DataError(
            f"a branch a value would be {values} branches, and trees of more than {MOST_BRANCHES} take hours to write; "
            "leave --pixel-branches out"
        )

    def spread(name: str, field: Field) -> Field:
        pattern = found.pixels.get(name, f"{name}_{{0..{field.size - 1}}}" if field.shape else name)
        return dataclasses.replace(field, branches=(pattern,), stored=())

    schema = found.schema
    return Schema(
        {name: spread(name, field) for name, field in schema.fields.items()},
        {name: spread(name, field) for name, field in schema.conditions.items()},
    )


def need_sources(sources: Sequence[Path], what: str) -> None:
    """Raise a ``DataError`` where there are no sources, or one is no file."""
    if not sources:
        raise DataError(f"no source is named; give {what}")
    for source in sources:
        if not source.exists():
            raise DataError(f"'{source}' does not exist; check the path")
        if source.is_dir():
            raise DataError(f"'{source}' is a folder; name the files in it")


@contextlib.contextmanager
def opened_hdf5(path: Path) -> Iterator[Any]:
    """The open HDF5 file at ``path``.

    Raises:
        DataError: it is missing, truncated or no HDF5 file, or h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise DataError("reading HDF5 needs h5py: pip install 'hepgan[hdf5]'") from error
    try:
        file = h5py.File(path, "r")
    except FileNotFoundError as error:
        raise DataError(f"'{path}' does not exist; check the path") from error
    except OSError as error:
        raise DataError(
            f"'{path}' is not an HDF5 file or is truncated ({error}); copy it again"
        ) from error
    with file:
        yield file


def dataset(file: Any, name: str, shape: tuple[int, ...], path: Path) -> Any:
    """The dataset ``name`` of shape ``[E, *shape]``, unread.

    Raises:
        DataError: it is missing (names those there) or of another shape or no numbers.
    """
    if name not in file:
        there = ", ".join(file)
        raise DataError(
            f"no dataset '{name}' in '{path}'; there are: {there}{did_you_mean(name, file)}"
        )
    found = file[name]
    wanted = ", ".join(["events", *map(str, shape)])
    if not hasattr(found, "shape") or found.dtype.kind not in "fiu" or found.shape[1:] != shape:
        what = f"of {found.dtype} {list(found.shape)}" if hasattr(found, "shape") else "a group"
        raise DataError(f"dataset '{name}' of '{path}' is {what}, but should be numbers [{wanted}]")
    return found


def rows_of(
    datasets: Mapping[str, Any], path: Path, *, rows: int = ROWS
) -> Iterator[tuple[range, dict[str, np.ndarray[Any, Any]]]]:
    """Pieces of ``rows`` events of datasets of one length, checked for NaN and infinity; none where there are no events.

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
        try:
            piece = {name: np.asarray(data[start:stop]) for name, data in datasets.items()}
        except OSError as error:
            raise DataError(
                f"'{path}' is damaged at event {start} or after ({error}); copy it again"
            ) from error
        for name, values in piece.items():
            check_values(values, [name], np.arange(start, stop), str(path))
        yield range(start, stop), piece
