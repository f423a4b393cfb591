"""Damaged and forged RNTuples are rejected before uproot loops over their item counts."""

import struct
import time
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
import xxhash

from hepgan.data.io import reader
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError

SCHEMA = Schema({"a": Field()})


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "a.root"
    events = ak.Array({"a": np.arange(4.0), "b": ak.Array([[1], [2, 3], [], [4]])})
    with uproot.recreate(path) as file:
        writer = file.mkrntuple("t", events.layout.form)
        writer.extend(events)
        writer.extend(events)
    return path


def locations(path: Path) -> dict[str, tuple[int, int]]:
    """Returns the first byte and the length of each envelope."""
    with uproot.open(path) as file:
        tree = file["t"]
        positions = {
            which: (tree.members[f"fSeek{which}"], tree.members[f"fLen{which}"])
            for which in ("Header", "Footer")
        }
        locator = tree.footer.cluster_group_records[0].page_list_link.locator
        return positions | {"Pages": (locator.offset, locator.num_bytes)}


def forge(path: Path, which: str, at: int, content: bytes) -> None:
    """Overwrites bytes of an envelope and updates its checksum."""
    start, length = locations(path)[which]
    data = bytearray(path.read_bytes())
    data[start + at : start + at + len(content)] = content
    checksum = xxhash.xxh3_64_intdigest(bytes(data[start : start + length - 8]))
    data[start + length - 8 : start + length] = struct.pack("<Q", checksum)
    path.write_bytes(data)


def test_envelopes_of_a_good_file_pass(written: Path) -> None:
    assert reader.read(written, SCHEMA)["a"].to_list() == [0, 1, 2, 3] * 2


@pytest.mark.parametrize(
    ("which", "at", "content"),
    [
        pytest.param("Pages", 24, struct.pack("<Iq", 2**32 - 1, 0), id="clusters of no bytes"),
        pytest.param("Pages", 28, struct.pack("<q", 0), id="a cluster of no bytes"),
        pytest.param("Footer", 40, struct.pack("<qI", -(2**40), 2**31), id="fields beyond the file"),
        pytest.param("Header", 16, struct.pack("<I", 2**31), id="a name beyond the file"),
    ],
)  # fmt: skip
def test_counts_larger_than_the_file_raise_within_a_second(
    written: Path, which: str, at: int, content: bytes
) -> None:
    forge(written, which, at, content)
    start = time.process_time()
    with pytest.raises(DataError, match=r"a.root' cannot be read: it is damaged"):
        reader.read(written, SCHEMA)
    assert time.process_time() - start < 1


@pytest.mark.parametrize("which", ["Header", "Footer", "Pages"])
def test_the_checksum_detects_a_flipped_bit_of_an_envelope(written: Path, which: str) -> None:
    start, length = locations(written)[which]
    good = written.read_bytes()
    for at in range(0, length, 7):
        bad = bytearray(good)
        bad[start + at] ^= 16
        written.write_bytes(bad)
        with pytest.raises(DataError, match="the checksum of the envelope at byte"):
            reader.read(written, SCHEMA)
