"""Envelopes of RNTuples (header, footer, lists of pages), checked before uproot reads them.

uproot looks at an envelope's checksum last, and trusts the number of items of each list: with a wrong one it runs for minutes. Here the
checksum comes first, and each list has at least as many bytes as its items need. The format: ROOT's BinaryFormatSpecification.md.
"""

import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import xxhash

LARGEST = 2**25
"""Bytes of all envelopes together: the pages of files of about 100 GB."""

Bytes = memoryview
Item = Callable[[Bytes, int, int], int]
"""Data, first byte, and the end of what surrounds it -> the byte after the item."""


def check_envelopes(ntuple: Any) -> None:
    """Reads the envelopes of an RNTuple of uproot, and raises a ``ValueError`` where one is damaged."""
    told = ntuple.members
    _check_header(_envelope(ntuple, told["fSeekHeader"], told["fNBytesHeader"], told["fLenHeader"]))
    footer = _envelope(ntuple, told["fSeekFooter"], told["fNBytesFooter"], told["fLenFooter"])
    version = tuple(told[f"fVersion{part}"] for part in ("Epoch", "Major", "Minor", "Patch"))
    _check_footer(footer, attributes=version >= (1, 0, 1, 0))
    links = [group.page_list_link for group in ntuple.footer.cluster_group_records]
    if (total := sum(link.env_uncomp_size for link in links)) > LARGEST:
        raise ValueError(f"lists of pages of {total:,} bytes")
    for link in links:
        place = link.locator
        pages = _envelope(ntuple, place.offset, place.num_bytes, link.env_uncomp_size)
        clusters = _list(pages, 16, len(pages), _record)
        _list(pages, clusters, len(pages), _columns)


def _envelope(ntuple: Any, offset: int, packed: int, unpacked: int) -> Bytes:
    """Returns the content of an envelope whose checksum is right, without the checksum."""
    if not packed <= unpacked <= LARGEST:
        raise ValueError(f"an envelope of {packed:,} bytes, {unpacked:,} unpacked")
    where = SimpleNamespace(offset=offset, num_bytes=packed)
    chunk, _ = ntuple.read_locator(where, unpacked)
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
    """Returns the byte after a list frame whose items have been looked at."""
    size, number = struct.unpack_from("<qI", data, at)
    place, end = at + 12, at - int(size)
    if not place <= end <= stop or number * 8 > end - place:
        raise ValueError(f"a list of {number:,} items in {-size:,} bytes")
    for _ in range(number):
        place = item(data, place, end)
    return end


def _record(data: Bytes, at: int, stop: int) -> int:
    (size,) = struct.unpack_from("<q", data, at)
    if not 8 <= size <= stop - at:
        raise ValueError(f"a record of {size:,} bytes, where there are {stop - at:,}")
    return at + int(size)


def _columns(data: Bytes, at: int, stop: int) -> int:
    """A cluster: a list of columns, each a list of pages."""
    return _list(data, at, stop, _pages)


def _pages(data: Bytes, at: int, stop: int) -> int:
    size, number = struct.unpack_from("<qI", data, at)
    if not 12 <= -size <= stop - at or number * 16 > -size - 12:
        raise ValueError(f"a list of {number:,} pages in {-size:,} bytes")
    return at - int(size)
