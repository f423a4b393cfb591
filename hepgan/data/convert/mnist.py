"""MNIST and Fashion-MNIST: IDX files, raw or gzipped, to ROOT."""

import gzip
import math
import struct
import zlib
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

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
