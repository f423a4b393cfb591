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

from hepgan.data.convert.common import Conversion, need_sources
from hepgan.data.io.chunks import as_events
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError

LARGEST = 2**30
"""Bytes of an array; the largest published set of this kind, EMNIST, has 547 million."""

DEFLATE = 1032
"""A gzip file can stand for so many times its size."""

MOST_DIMENSIONS = 32
"""NumPy's own limit, until its version 2."""

TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read_idx(path: str | PathLike[str]) -> np.ndarray[Any, Any]:
    """The array in an IDX file, raw or gzipped (the format: http://yann.lecun.com/exdb/mnist).

    Raises:
        DataError: it is missing, no IDX file, or its length is not what its header says.
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
        raise DataError(f"'{path}' is truncated: its header says {rank} dimensions; copy it again")
    shape = struct.unpack(f">{rank}I", sizes)
    needed = math.prod(shape) * dtype.itemsize
    if needed > LARGEST:
        raise DataError(
            f"'{path}' is of {list(shape)}, {needed:,} bytes, and IDX files of more than {LARGEST:,} bytes are not read; split it"
        )
    # Of a file that is cut short no more is taken than it can hold.
    data = np.empty(min(needed, size * DEFLATE) + 1, np.uint8)
    held = _filled(file, data)
    if held != needed:
        found = f"more than {needed}" if held > needed else held
        raise DataError(
            f"'{path}' holds {found} bytes of data, but its header says {list(shape)}, {needed} bytes; copy it again"
        )
    values = data[:needed].view(dtype).reshape(shape)
    return values.astype(dtype.newbyteorder("="), copy=False)


def _filled(file: BufferedIOBase, data: np.ndarray[Any, Any]) -> int:
    """Reads into ``data`` until it is full or the file ends; returns the number of bytes."""
    view, held = data.data, 0
    while more := file.readinto(view[held:]):
        held += more
    return held


def digits(sources: Sequence[Path]) -> Conversion:
    """Images ``[28][28]`` of grey levels and their labels, from an IDX file of images and, where given, one of labels.

    Raises:
        DataError: as ``read_idx``; also where the files are not of images and labels, or not of one length.
    """
    need_sources(sources, "an IDX file of images and one of labels")
    arrays = {array.ndim: array for array in map(read_idx, sources)}
    if set(arrays) not in ({3}, {1, 3}) or len(sources) != len(arrays):
        shapes = ", ".join(f"'{source}' {list(read_idx(source).shape)}" for source in sources)
        raise DataError(
            f"MNIST is one file of images [n, 28, 28] and one of labels [n], but there are: {shapes}"
        )
    images = arrays[3]
    if len(images) == 0:
        raise DataError(f"'{sources[0]}' holds no images")
    columns, labels = {"image": images}, {}
    if 1 in arrays:
        if len(arrays[1]) != len(images):
            raise DataError(
                f"there are {len(images)} images but {len(arrays[1])} labels; give files that belong together"
            )
        columns["label"], labels = arrays[1], {"label": Field(dtype=arrays[1].dtype.name)}
    shape = images.shape[1:]
    schema = Schema({"image": Field(shape, dtype=images.dtype.name)}, labels)
    pixels = {"image": f"pixel{{0..{math.prod(shape) - 1}}}"}
    return Conversion("mnist", schema, pixels, iter([as_events(columns)]))
