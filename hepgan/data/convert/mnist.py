"""MNIST and Fashion-MNIST: IDX files, raw or gzipped, to ROOT."""

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from hepgan.data.chunks import as_events
from hepgan.data.convert.common import Converted, need_sources
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError

TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read_idx(path: str | PathLike[str]) -> np.ndarray[Any, Any]:
    """The array in an IDX file, raw or gzipped (the format: http://yann.lecun.com/exdb/mnist).

    Raises:
        DataError: it is missing, no IDX file, or its length is not what its header says.
    """
    data = _bytes(Path(path))
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in TYPES or not data[3]:
        raise DataError(f"'{path}' is not an IDX file: it starts with {data[:4]!r}")
    rank = data[3]
    if len(data) < 4 + 4 * rank:
        raise DataError(f"'{path}' is truncated: its header says {rank} dimensions; copy it again")
    shape = struct.unpack(f">{rank}I", data[4 : 4 + 4 * rank])
    dtype = np.dtype(TYPES[data[2]])
    held, needed = len(data) - 4 - 4 * rank, math.prod(shape) * dtype.itemsize
    if held != needed:
        raise DataError(
            f"'{path}' holds {held} bytes of data, but its header says {list(shape)}, {needed} bytes; copy it again"
        )
    values = np.frombuffer(data, dtype, offset=4 + 4 * rank).reshape(shape)
    return values.astype(dtype.newbyteorder("="))


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except FileNotFoundError as error:
        raise DataError(f"'{path}' does not exist; check the path") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"'{path}' cannot be read ({error}); copy it again") from error


def digits(sources: Sequence[Path]) -> Converted:
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
    return Converted("mnist", schema, pixels, iter([as_events(columns)]))
