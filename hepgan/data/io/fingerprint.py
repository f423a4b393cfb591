"""Fingerprints of input files: to check that a resumed training reads what it started with, and for reports."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from hepgan.data.io.files import Files, data_errors, is_url, open_file, sources

BLOCK = 2**16
BLOCKS = 128
"""Number of evenly spaced blocks that are read from a large file, including the first and the last: 8 MB."""


def of_file(path: str) -> str:
    """Returns a fingerprint of the content of ``path``, independent of its name, folder and times.

    Files up to 8 MB are read completely. For larger files it depends on the size and some blocks: the first block holds the UUID of a ROOT
    file, the last ones its directory and compressed sizes, so that a rewritten file has another fingerprint. For a remote file it
    depends on the UUID and the size.

    Raises:
        DataError: the file cannot be read.
    """
    if is_url(path):
        with open_file(path) as file, data_errors(path):
            return f"{file.file.uuid} {file.file.fEND}"
    digest = hashlib.blake2b(digest_size=16)
    with data_errors(path), Path(path).open("rb") as bytes_:
        size = bytes_.seek(0, 2)
        digest.update(str(size).encode())
        for start in _starts(size):
            bytes_.seek(start)
            digest.update(bytes_.read(BLOCK))
    return digest.hexdigest()


def sha256(files: Files) -> dict[str, str]:
    """Returns the paths that ``files`` names, each with the SHA-256 of the content; empty for a remote file.

    Raises:
        DataError: there is no such file, or one cannot be read.
    """
    digests = dict.fromkeys((source.path for source in sources(files)), "")
    for path in digests:
        if Path(path).is_file():
            with data_errors(path), Path(path).open("rb") as file:
                digests[path] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _starts(size: int) -> Iterator[int]:
    if size <= BLOCK * BLOCKS:
        yield from range(0, size, BLOCK)
        return
    for number in range(BLOCKS):
        yield (size - BLOCK) * number // (BLOCKS - 1)
