"""A file written by ROOT itself (``files/root_types.C``) is read with the values of its formulas."""

from pathlib import Path
from types import SimpleNamespace

import awkward as ak
import numpy as np
import pytest
import uproot

from hepgan.data.io import inspection, reader, writer
from hepgan.data.io.branches import (
    BranchHandle,
    branch_type,
    index_branches,
    interpretation_of,
    read_branch,
)
from hepgan.data.io.chunks import _column
from hepgan.data.io.reader import ReadOptions
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError

FILE = Path(__file__).parents[2] / "files" / "root_types.root"
K = np.arange(60)
SIX = (10 * K[:, None] + np.arange(6)).reshape(-1, 2, 3)
EXPECTED = {
    "b": (K % 3 == 0), "i8": K - 30, "u8": 4 * K, "i16": 1000 * (K - 30), "u16": 1000 * K,
    "i32": 100_000 * (K - 30), "u32": 200_000 * K, "i64": 100_000 * (K - 30), "u64": 100_000 * K,
    "f": K / 8, "d": K / 8, "h": K, "q": K, "layer": SIX, "pixel": K[:, None] + np.arange(4),
    "n": K % 8, "point.x": K, "point.y": -K, "point.charge": K % 2,
}  # fmt: skip
IN_NTUPLE = ("b", "u8", "i64", "f", "layer")


def field(name: str) -> Schema:
    return Schema({"x": Field(EXPECTED[name].shape[1:], branches=(name,))})


@pytest.mark.parametrize("name", EXPECTED)
def test_branches_of_every_type_are_read(name: str) -> None:
    values = ak.to_numpy(reader.read(FILE, field(name), tree="ana/types")["x"])
    np.testing.assert_array_equal(values, EXPECTED[name])
    kinds = {"b": "bool", "h": "float32", "q": "float64", "f": "float32", "d": "float64"}
    sized = {"i": f"int{name[1:]}", "u": f"uint{name[1:]}"}
    if name in kinds or name[1:].isdigit():
        assert values.dtype == kinds.get(name, sized.get(name[0]))


@pytest.mark.parametrize("name", IN_NTUPLE)
def test_fields_of_an_ntuple_are_read(name: str) -> None:
    values = ak.to_numpy(reader.read(FILE, field(name), tree="ntuple")["x"])
    np.testing.assert_array_equal(values, EXPECTED[name])


def test_all_branches_are_read_together_in_any_chunks() -> None:
    schema = Schema(
        {n: Field(EXPECTED[n].shape[1:]) for n in ("layer", "pixel")},
        {"x": Field(branches=("point.x",)), "f": Field()},
    )
    for step in (1, 7, 30, "1 kB", "1 GB"):
        chunks = list(
            reader.iterate(
                FILE,
                schema,
                step_size=step,
                options=ReadOptions(tree="ana/types", weight="point.y * f"),
            )
        )
        events = ak.concatenate([chunk.events for chunk in chunks])
        np.testing.assert_array_equal(events["layer"], SIX)
        np.testing.assert_array_equal(events["x"], K)
        np.testing.assert_array_equal(events["weight"], -K * (K / 8))


@pytest.mark.parametrize(
    ("name", "tree", "sign"),
    [("hits", "ana/types", 1), ("cells", "ana/types", -1), ("cells", "ntuple", -1)],
)
def test_jagged_branches_are_read(name: str, tree: str, sign: int) -> None:
    events = reader.read(FILE, Schema({"x": Field((7,), branches=(name,), fill=99.0)}), tree=tree)
    np.testing.assert_array_equal(events["n_x"], K % 8)
    index = np.arange(7)
    expected = np.where(index < (K % 8)[:, None], sign * (K[:, None] + index / 8), 99)
    np.testing.assert_array_equal(events["x"], expected)


def test_cuts_can_use_jagged_branches_and_leaves() -> None:
    events = reader.read(
        FILE, field("f"), tree="ana/types", cut="(len(hits) > 3) & (point.charge == 1)"
    )
    np.testing.assert_array_equal(ak.to_numpy(events["x"]), K[(K % 8 > 3) & (K % 2 == 1)] / 8)


def test_older_cycles_can_be_read() -> None:
    assert len(reader.read(FILE, field("f"), tree="ana/types")) == 60
    assert len(reader.read(FILE, field("f"), tree="ana/types;1")) == 30


@pytest.mark.parametrize(
    ("name", "tree", "message"),
    [
        (
            "arrayed",
            "ana/types",
            "array of Float16_t or Double32_t with a range, .* store it as float",
        ),
        ("nested", "ana/types", "neither a number nor an array of numbers"),
        ("text", "ana/types", "neither a number nor an array of numbers"),
        ("text", "ntuple", "neither a number nor an array of numbers"),
        ("maybe", "ntuple", "neither a number nor an array of numbers"),
        ("point", "ana/types", "neither a number nor an array of numbers"),
        ("point.z", "ana/types", "no branch 'point.z' .* did you mean 'point"),
        ("f", "empty", "tree 'empty' of .* has no entries; give files with entries"),
    ],
)
def test_branches_that_cannot_be_read_raise(name: str, tree: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        reader.read(FILE, Schema({"x": Field(branches=(name,))}), tree=tree)


def test_inspect_lists_leaves_and_skips_text() -> None:
    types, empty, ntuple = inspection.inspect(FILE)
    assert (types.name, types.format, types.entries) == ("ana/types", "TTree", 60)
    names = {branch.name: branch.type for branch in types.branches}
    assert {"point.x", "point.y", "point.charge"} <= set(names)
    assert names["text"] is None
    assert names["arrayed"] is None
    assert (empty.entries, ntuple.format) == (0, "RNTuple")


def test_lists_that_exceed_their_values_raise(tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    with uproot.recreate(path, compression=None) as file:
        lists = ak.Array([[1, 2], [3], [], [4]])
        file.mktree("t", {"b": "var * int64"}).extend({"b": lists})
    data = bytearray(path.read_bytes())
    offsets = next(
        i
        for i in range(len(data) - 16)
        if np.diff(np.frombuffer(data, ">i4", 4, offset=i)).tolist() == [16, 8, 0]
    )
    data[offsets + 4 + 2] ^= 64
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"branch 'b' of '.*a.root' is damaged \(.*stop\[i\] > len"):
        reader.read(path, Schema({"b": Field((2,), fill=0)}))


def as_float16(values: np.ndarray, bits: int) -> np.ndarray:
    """Returns the bytes ``[E, 3]`` that ROOT writes for Float16_t without a range: exponent, and mantissa of ``bits`` with sign."""
    plain = np.abs(values.astype(np.float32)).view(np.uint32)
    mantissa = (((plain >> (23 - bits - 1)) & ((1 << (bits + 1)) - 1)) + 1) >> 1
    mantissa = np.minimum(mantissa, (1 << bits) - 1) | (
        (values < 0).astype(np.uint32) << (bits + 1)
    )
    return np.stack([plain >> 23 & 0xFF, mantissa >> 8, mantissa & 0xFF], axis=1).astype("u1")


@pytest.mark.parametrize(("declared", "stored"), [(8, 8), (12, 12), (14, 14), (16, 12), (32, 12)])
def test_truncated_numbers_keep_the_number_of_bits_of_root(
    tmp_path: Path, declared: int, stored: int
) -> None:
    values = np.random.default_rng(1).normal(size=500) * 10.0 ** np.arange(-10, 15).repeat(20)
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("t", {"x": np.dtype(("u1", 3))}).extend({"x": as_float16(values, stored)})
    with uproot.open(tmp_path / "a.root") as file:
        branch = SimpleNamespace(interpretation=uproot.AsFloat16(0, 0, declared))
        read_back = file["t"]["x"].array(interpretation_of(branch), library="np")
    np.testing.assert_allclose(read_back, values, rtol=2.0**-stored)


def test_double32_of_more_than_14_bits_is_a_float_and_32_bits_reach_the_upper_end() -> None:
    plain = interpretation_of(SimpleNamespace(interpretation=uproot.AsDouble32(0, 0, 16)))
    assert plain.from_dtype.str == ">f4"
    whole = interpretation_of(SimpleNamespace(interpretation=uproot.AsDouble32(-2, 5, 32)))
    assert whole.low + (2**32 - 1) * (whole.high - whole.low) / 2**32 == pytest.approx(5, abs=1e-12)
    jagged = uproot.AsJagged(uproot.AsFloat16(0, 0, 16), 10)
    assert interpretation_of(SimpleNamespace(interpretation=jagged)).content.num_bits == 12


@pytest.mark.parametrize("step", [2, "1 GB"])
def test_collections_of_records_are_read_and_written_as_lists(
    tmp_path: Path, step: int | str
) -> None:
    muons = ak.Array([[{"pt": 1.0, "at": {"x": 2}}, {"pt": 3.0, "at": {"x": 4}}], []] * 3)
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mkrntuple("t", ak.zip({"Muon": muons}, depth_limit=1))
    fields = {
        "pt": Field((2,), branches=("Muon.pt",), fill=0.0, count="n"),
        "x": Field((2,), branches=("Muon.at.x",), fill=0.0, count="n"),
    }
    schema = reader.resolve(tmp_path / "a.root", Schema(fields))
    chunks = reader.iterate(tmp_path / "a.root", schema, step_size=step)
    events = ak.concatenate([chunk.events for chunk in chunks])
    assert events["n"].tolist() == [2, 0] * 3
    assert events["x"].tolist() == [[2, 4], [0, 0]] * 3
    assert {b.name: b.type for b in inspection.inspect(tmp_path / "a.root")[0].branches}[
        "Muon.pt"
    ].jagged
    writer.write(tmp_path / "b.root", events, schema, tree="t")
    arrays = uproot.open(tmp_path / "b.root")["t"].arrays()
    assert arrays["Muon.at.x"].tolist() == [[2, 4], []] * 3


def test_lengths_of_lists_in_an_rntuple_are_unsigned(monkeypatch: pytest.MonkeyPatch) -> None:
    # As ROOT's RNTupleImporter writes counters; uproot writes none.
    form = ak.forms.NumpyForm("int64", form_key="column-0-cardinality")
    field = SimpleNamespace(
        to_akform=lambda: (form, []), typename="ROOT::RNTupleCardinality<std::uint32_t>"
    )
    monkeypatch.setattr("hepgan.data.io.branches.is_rntuple", lambda _: True)
    assert branch_type(BranchHandle(field, "nMuon"), "nMuon", "a.root").dtype == np.uint32
    arrays = {"nMuon": np.array([0, 2])}
    schema = Schema({"nMuon": Field(dtype="uint32")})
    assert _column("nMuon", schema.fields["nMuon"], arrays, 0, "a.root")["nMuon"].dtype == np.uint32


def test_leaves_of_a_branch_with_a_dot_in_its_name_are_read() -> None:
    with uproot.open(FILE) as file:
        tree = file["ana/types"]
        named = tree["point"].bases[0]
        named._members["fName"] = "po.nt"  # such a file can be tested without ROOT
        places = index_branches(tree)
        assert branch_type(places["po.nt.x"], "po.nt.x", "x.root").dtype == np.float32
        values = read_branch(places["po.nt.x"], start=0, stop=60, jagged=False)
        np.testing.assert_array_equal(values, EXPECTED["point.x"])
