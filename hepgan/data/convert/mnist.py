"""MNIST and Fashion-MNIST: IDX files, raw or gzipped, to ROOT."""

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from io import BufferedIOBase
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from hepgan.data.convert.common import Conversion, check_sources
from hepgan.data.io.chunks import as_events
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError

LARGEST = 2**30
"""Maximum size of an array [bytes]; the largest published data set of this kind, EMNIST, has 547 million."""

DEFLATE = 1032
"""Maximum compression ratio of gzip."""

MOST_DIMENSIONS = 32
"""Limit of NumPy before version 2."""

TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read_idx(path: str | PathLike[str]) -> np.ndarray[Any, Any]:
    """Reads the array of an IDX file, raw or gzipped (format: http://yann.lecun.com/exdb/mnist).

    Raises:
        DataError: the file is missing, is not an IDX file, or its length differs from its header.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with _opened(path) as file:
            return _read(file, path, size)
    except FileNotFoundError as error:
        raise DataError(f"'{path}' does not exist; check the path") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"'{path}' cannot be read ({error}); copy it again") from error


def _opened(path: Path) -> BufferedIOBase:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb")


def _read(file: BufferedIOBase, path: Path, size: int) -> np.ndarray[Any, Any]:
    head = file.read(4)
    if (
        len(head) < 4
        or head[:2] != b"\0\0"
        or head[2] not in TYPES
        or not 0 < head[3] <= MOST_DIMENSIONS
    ):
        raise DataError(f"'{path}' is not an IDX file: it starts with {head!r}")
    rank, dtype = head[3], np.dtype(TYPES[head[2]])
    sizes = file.read(4 * rank)
    if len(sizes) < 4 * rank:
        raise DataError(
            f"'{path}' is truncated: its header declares {rank} dimensions; copy it again"
        )
    shape = struct.unpack(f">{rank}I", sizes)
    needed = math.prod(shape) * dtype.itemsize
    if needed > LARGEST:
        raise DataError(
            f"'{path}' has the shape {list(shape)}, {needed:,} bytes, more than the maximum of {LARGEST:,}; split it"
        )
    # A truncated file must not allocate more memory than it can fill.
    data = np.empty(min(needed, size * DEFLATE) + 1, np.uint8)
    length = _fill(file, data)
    if length != needed:
        content = f"more than {needed}" if length > needed else length
        raise DataError(
            f"'{path}' has {content} bytes of data, but its header declares {list(shape)}, {needed} bytes; copy it again"
        )
    values = data[:needed].view(dtype).reshape(shape)
    return values.astype(dtype.newbyteorder("="), copy=False)


def _fill(file: BufferedIOBase, data: np.ndarray[Any, Any]) -> int:
    """Reads into ``data`` until it is full or the file ends; returns the number of bytes."""
    view, length = data.data, 0
    while more := file.readinto(view[length:]):
        length += more
    return length


def digits(sources: Sequence[Path]) -> Conversion:
    """Reads images ``[28][28]`` of gray levels from an IDX file, and their labels from a second one if given.

    Raises:
        DataError: as ``read_idx``; also if the files are not images and labels, or differ in length.
    """
    check_sources(sources, "an IDX file of images and one of labels")
    arrays = {array.ndim: array for array in map(read_idx, sources)}
    if set(arrays) not in ({3}, {1, 3}) or len(sources) != len(arrays):
        shapes = ", ".join(f"'{source}' {list(read_idx(source).shape)}" for source in sources)
        raise DataError(
            f"MNIST needs one file of images [n, 28, 28] and one of labels [n], but there are: {shapes}"
        )
    images = arrays[3]
    if len(images) == 0:
        raise DataError(f"'{sources[0]}' holds no images")
    columns, labels = {"image": images}, {}
    if 1 in arrays:
        if len(arrays[1]) != len(images):
            raise DataError(
                f"there are {len(images)} images but {len(arrays[1])} labels; give matching files"
            )
        columns["label"], labels = arrays[1], {"label": Field(dtype=arrays[1].dtype.name)}
    shape = images.shape[1:]
    schema = Schema({"image": Field(shape, dtype=images.dtype.name)}, labels)
    pixels = {"image": f"pixel{{0..{math.prod(shape) - 1}}}"}
    return Conversion("mnist", schema, pixels, iter([as_events(columns)]))
