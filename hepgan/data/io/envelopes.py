"""Checks of RNTuple envelopes (header, footer, page lists) before uproot reads them.

uproot verifies the checksum of an envelope last and trusts the number of items of each list; a wrong number keeps it busy for minutes.
Here the checksum is verified first, and each list must have at least as many bytes as its items need. Format: ROOT's
BinaryFormatSpecification.md.
"""

import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import xxhash

LARGEST = 2**25
"""Maximum size of all envelopes together [bytes]: enough for the page lists of files of about 100 GB."""

Bytes = memoryview
Item = Callable[[Bytes, int, int], int]
"""Function of the data, the first byte of an item and the end of the enclosing frame; returns the byte after the item."""


def check_envelopes(ntuple: Any) -> None:
    """Raises a ``ValueError`` if an envelope of uproot's ``ntuple`` is damaged."""
    anchor = ntuple.members
    _check_header(
        _envelope(ntuple, anchor["fSeekHeader"], anchor["fNBytesHeader"], anchor["fLenHeader"])
    )
    footer = _envelope(ntuple, anchor["fSeekFooter"], anchor["fNBytesFooter"], anchor["fLenFooter"])
    version = tuple(anchor[f"fVersion{part}"] for part in ("Epoch", "Major", "Minor", "Patch"))
    _check_footer(footer, attributes=version >= (1, 0, 1, 0))
    links = [group.page_list_link for group in ntuple.footer.cluster_group_records]
    if (total := sum(link.env_uncomp_size for link in links)) > LARGEST:
        raise ValueError(f"page lists of {total:,} bytes exceed the maximum of {LARGEST:,}")
    for link in links:
        locator = link.locator
        pages = _envelope(ntuple, locator.offset, locator.num_bytes, link.env_uncomp_size)
        clusters = _list(pages, 16, len(pages), _record)
        _list(pages, clusters, len(pages), _columns)


def _envelope(ntuple: Any, offset: int, packed: int, unpacked: int) -> Bytes:
    """Returns the content of an envelope after verifying its checksum, without the checksum."""
    if not packed <= unpacked <= LARGEST:
        raise ValueError(f"an envelope of {packed:,} bytes, {unpacked:,} unpacked")
    locator = SimpleNamespace(offset=offset, num_bytes=packed)
    chunk, _ = ntuple.read_locator(locator, unpacked)
    data = memoryview(chunk.raw_data).cast("B")
    (checksum,) = struct.unpack_from("<Q", data, len(data) - 8)
    if checksum != xxhash.xxh3_64_intdigest(data[:-8]):
        raise ValueError(f"the checksum of the envelope at byte {offset} is wrong")
    return data[:-8]


def _check_header(data: Bytes) -> None:
    at = 16  # type and length, feature flags
    for _ in range(3):  # name, description, writer
        (length,) = struct.unpack_from("<I", data, at)
        at += 4 + length
    _schema(data, at)


def _check_footer(data: Bytes, *, attributes: bool) -> None:
    at = _schema(
        data, 32
    )  # type and length, feature flags, the header's checksum, the schema extension's size
    for _ in range(1 + attributes):  # cluster groups, linked attribute sets
        at = _list(data, at, len(data), _record)


def _schema(data: Bytes, at: int) -> int:
    for _ in range(4):  # fields, columns, alias columns, extra types
        at = _list(data, at, len(data), _record)
    return at


def _list(data: Bytes, at: int, stop: int, item: Item) -> int:
    """Checks the items of a list frame; returns the byte after it."""
    size, number = struct.unpack_from("<qI", data, at)
    position, end = at + 12, at - int(size)
    if not position <= end <= stop or number * 8 > end - position:
        raise ValueError(f"a list of {number:,} items in {-size:,} bytes")
    for _ in range(number):
        position = item(data, position, end)
    return end


def _record(data: Bytes, at: int, stop: int) -> int:
    (size,) = struct.unpack_from("<q", data, at)
    if not 8 <= size <= stop - at:
        raise ValueError(f"a record of {size:,} bytes in {stop - at:,} bytes")
    return at + int(size)


def _columns(data: Bytes, at: int, stop: int) -> int:
    """Checks a cluster, a list of columns that are lists of pages; returns the byte after it."""
    return _list(data, at, stop, _pages)


def _pages(data: Bytes, at: int, stop: int) -> int:
    size, number = struct.unpack_from("<qI", data, at)
    if not 12 <= -size <= stop - at or number * 16 > -size - 12:
        raise ValueError(f"a list of {number:,} pages in {-size:,} bytes")
    return at - int(size)
