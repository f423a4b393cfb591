"""ROOT files and events: round trips, and the text of errors."""

import http.server
import os
import re
import threading
import tomllib
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hepgan.data.io import inspection, reader, writer
from hepgan.data.io.chunks import as_events, stack_columns
from hepgan.data.io.files import BROKEN, Source, sources, split_tree
from hepgan.data.io.reader import ReadOptions
from hepgan.data.io.validation import check_values
from hepgan.data.schema import Field, Schema, expand_ranges
from hepgan.errors import DataError, RunError

DTYPES = [
    "bool",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float32",
    "float64",
]
LAYERS = Schema({"layer": Field((3, 4))}, {"energy": Field()})


def layers(events=100, seed=1):
    rng = np.random.default_rng(seed)
    return as_events(
        {
            "layer": rng.exponential(size=(events, 3, 4)).astype("f4"),
            "energy": rng.uniform(1, 100, events).astype("f4"),
        }
    )


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.root"
    writer.write(path, layers(), LAYERS, tree="showers")
    return path


def write_tree(path, branches, *, tree="t", pieces=1, types=None):
    """Writes a tree with plain uproot, as an independent writer."""
    with uproot.recreate(path) as out:
        types = types or {k: np.dtype((v.dtype, v.shape[1:])) for k, v in branches.items()}
        writer = out.mktree(tree, types)
        for rows in np.array_split(np.arange(len(next(iter(branches.values())))), pieces):
            writer.extend({k: v[rows] for k, v in branches.items()})
    return path


@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_written_events_are_read_back(tmp_path, format, data):
    dtype = data.draw(st.sampled_from(DTYPES))
    shape = data.draw(st.sampled_from([(), (1,), (5,), (2, 3), (2, 3, 4)]))
    elements = {"min_value": -1000, "max_value": 1000} if dtype.startswith("f") else None
    values = data.draw(hnp.arrays(dtype, (data.draw(st.integers(1, 7)), *shape), elements=elements))
    schema = Schema({"x": Field(shape)})
    path = tmp_path / "x.root"
    writer.write(path, as_events({"x": values}), schema, tree="d/t", format=format, overwrite=True)
    back = ak.to_numpy(reader.read(path, schema, check=False)["x"])
    assert back.dtype == values.dtype
    np.testing.assert_array_equal(back, values)


@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
def test_resolved_schema_writes_the_same_branches_shapes_and_types(tmp_path, format):
    first, second = tmp_path / "first.root", tmp_path / "second.root"
    values = {"layer_0": np.ones((4, 6), "f8"), "n": np.arange(4, dtype="i2")}
    with uproot.recreate(first) as out:
        if format == "TTree":
            out.mktree("t", {"layer_0": np.dtype(("f8", (6,))), "n": "i2"}).extend(values)
        else:
            out.mkrntuple(
                "t",
                ak.zip(
                    {k: ak.from_numpy(v, regulararray=True) for k, v in values.items()},
                    depth_limit=1,
                ),
            )
    schema = reader.resolve(
        first, Schema({"layer": Field((2, 3), branches=("layer_0",))}, {"n": Field()})
    )
    assert schema.fields["layer"].stored == (6,)
    assert schema.fields["layer"].dtype == "float64"
    writer.write(second, reader.read(first, schema), schema, tree="t", format=format)
    with uproot.open(first) as a, uproot.open(second) as b:
        assert a["t"].typenames() == b["t"].typenames()
        assert a["t"].classname == b["t"].classname


def test_scalar_branches_and_an_array_branch_are_the_same_field(tmp_path):
    image = np.random.default_rng(1).integers(0, 256, (50, 4, 5), dtype="uint8")
    many = Schema({"image": Field((4, 5), branches=("pixel{0..19}",))})
    one = Schema({"image": Field((4, 5))})
    writer.write(tmp_path / "many.root", as_events({"image": image}), many, tree="t")
    writer.write(tmp_path / "one.root", as_events({"image": image}), one, tree="t")
    assert len(uproot.open(tmp_path / "many.root")["t"].keys()) == 20
    a = ak.to_numpy(reader.read(tmp_path / "many.root", many)["image"])
    b = ak.to_numpy(reader.read(tmp_path / "one.root", one)["image"])
    np.testing.assert_array_equal(a, image)
    np.testing.assert_array_equal(b, image)
    assert a.dtype == b.dtype == np.uint8


def test_the_last_range_of_a_pattern_varies_fastest():
    assert expand_ranges(["p{0..1}_{8..10}"]) == ("p0_8", "p0_9", "p0_10", "p1_8", "p1_9", "p1_10")


@given(st.integers(1, 40), st.integers(1, 300))
@settings(max_examples=20, deadline=None)
def test_stacking_in_blocks_equals_stacking(columns, rows):
    data = [np.random.default_rng(i).normal(size=rows).astype("f4") for i in range(columns)]
    np.testing.assert_array_equal(stack_columns(data, np.dtype("f4")), np.stack(data, axis=1))


def test_integers_are_rounded_and_clipped_to_their_type(tmp_path):
    schema = Schema({"n": Field(dtype="uint8"), "b": Field(dtype="bool")})
    events = as_events(
        {"n": np.array([-1.0, 1.5, 1.51, 254.9, 1e9]), "b": np.array([0.0, 0.4, 0.5, 1, 1])}
    )
    writer.write(tmp_path / "n.root", events, schema, tree="t")
    back = reader.read(tmp_path / "n.root", schema)
    assert back["n"].to_list() == [0, 2, 2, 255, 255]
    assert back["b"].to_list() == [False, False, True, True, True]


# Which files and trees


def test_lists_globs_and_filesets_are_read_in_order_with_counts(tmp_path):
    for name, events in (("b", 3), ("a", 5), ("c", 2)):
        writer.write(
            tmp_path / f"{name}.root", layers(events, seed=ord(name)), LAYERS, tree="showers"
        )
    glob = reader.read(tmp_path / "*.root", LAYERS)
    assert list(glob.attrs["files"].values()) == [5, 3, 2]
    listed = reader.read([f"{tmp_path}/b.root:showers", f"{tmp_path}/a.root"], LAYERS)
    assert list(listed.attrs["files"].values()) == [3, 5]
    fileset = {"set": {"files": {f"{tmp_path}/b.root": "showers", f"{tmp_path}/a.root": "showers"}}}
    assert ak.all(reader.read(fileset, LAYERS)["energy"] == listed["energy"])
    assert reader.num_entries(tmp_path / "*.root") == glob.attrs["files"]


def test_names_with_ports_and_queries_keep_them():
    assert split_tree("http://host:80/a.root") == ("http://host:80/a.root", None)
    assert split_tree("root://host//a.root:d/t;2") == ("root://host//a.root", "d/t;2")
    assert split_tree("https://host/a.root?x=1:t") == ("https://host/a.root?x=1", "t")


def test_a_file_with_a_glob_character_in_its_name_is_that_file(tmp_path):
    path = tmp_path / "a[1].root"
    path.touch()
    assert sources(str(path)) == [Source(str(path), None)]


def test_the_newest_cycle_is_read_and_older_ones_on_request(tmp_path):
    path = tmp_path / "cycles.root"
    with uproot.recreate(path) as out:
        out.mktree("d/t", {"x": "f4"}).extend({"x": np.zeros(2, "f4")})
        out.mktree("d/t", {"x": "f4"}).extend({"x": np.ones(3, "f4")})
    x = Schema({"x": Field()})
    assert reader.read(path, x)["x"].to_list() == [1, 1, 1]
    assert reader.read(path, x, tree="d/t;1")["x"].to_list() == [0, 0]
    with pytest.raises(DataError, match=r"no cycle 'd/t;7' in '.*cycles.root'"):
        reader.read(path, x, tree="d/t;7")


class _Ranges(http.server.SimpleHTTPRequestHandler):
    """Server of byte ranges, which Python's own server does not support; counts the bytes."""

    sent = 0

    def do_GET(self):
        content = Path(self.translate_path(self.path)).read_bytes()
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not match:
            self.send_error(400, "one range is needed")
            return
        start, stop = int(match[1]), min(int(match[2]) + 1, len(content))
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        self.wfile.write(content[start:stop])
        type(self).sent += stop - start

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    def handler(*args):
        return _Ranges(*args, directory=str(tmp_path))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_http_reads_only_the_needed_ranges(server, tmp_path):
    values = {
        "x": np.arange(3, dtype="f4"),
        "noise": np.random.default_rng(1).random((3, 500_000)).astype("f4"),
    }
    write_tree(tmp_path / "big.root", values)
    events = reader.read(f"{server}/big.root:t", Schema({"x": Field()}))
    assert events["x"].to_list() == [0, 1, 2]
    assert _Ranges.sent < 1_000_000 < (tmp_path / "big.root").stat().st_size


# Chunks


@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
@pytest.mark.parametrize("step", [1, 7, 20, 1000, "1 kB", "1 MB"])
def test_chunks_concatenate_to_the_file(tmp_path, format, step):
    path = tmp_path / "chunks.root"
    events = layers(100)
    writer.write(
        path, (events[i : i + 20] for i in range(0, 100, 20)), LAYERS, tree="t", format=format
    )
    chunks = list(reader.iterate(path, LAYERS, step_size=step))
    assert [c.start for c in chunks] == np.cumsum([0, *(len(c.events) for c in chunks)])[
        :-1
    ].tolist()
    assert ak.all(ak.concatenate([c.events for c in chunks])["layer"] == events["layer"])
    if step == 20:
        assert [c.start for c in chunks] == [0, 20, 40, 60, 80]


@pytest.mark.parametrize("step", [0, -1, "0 MB", ". MB", "1 XB", "MB"])
def test_an_invalid_step_size_raises(file, step):
    with pytest.raises(DataError, match="is not a (size|number of entries)"):
        next(reader.iterate(file, LAYERS, step_size=step))


def test_entry_stop_limits_the_number_of_entries(tmp_path, file):
    other = tmp_path / "b.root"
    writer.write(other, layers(), LAYERS, tree="showers")
    for stop in (1, 100, 130, 900):
        whole = reader.read([file, other], LAYERS, entry_stop=stop)
        parts = list(
            reader.iterate(
                [file, other], LAYERS, options=ReadOptions(entry_stop=stop), step_size=30
            )
        )
        assert len(whole) == sum(len(c.events) for c in parts) == min(stop, 200)


def test_entry_stop_counts_entries_before_the_cut(tmp_path, file):
    other = tmp_path / "other.root"
    writer.write(other, layers(), LAYERS, tree="showers")
    energy = np.concatenate([ak.to_numpy(reader.read(f, LAYERS)["energy"]) for f in (file, other)])
    cut, stop = float(np.median(energy)), len(energy) // 2 + 3
    events = reader.read([file, other], LAYERS, cut=f"energy > {cut!r}", entry_stop=stop)
    np.testing.assert_array_equal(events["energy"], energy[:stop][energy[:stop] > cut])


def test_cuts_and_weights_equal_those_of_numpy(tmp_path):
    rng = np.random.default_rng(3)
    x, y, v = rng.normal(size=200), rng.normal(size=200).astype("f4"), rng.normal(size=(200, 3))
    path = write_tree(tmp_path / "s.root", {"x": x, "y": y, "v": v, "a.b": x})
    schema = Schema({"y": Field()})
    (chunk,) = reader.iterate(
        path,
        schema,
        options=ReadOptions(cut="(x > 0.2) & (abs(y) < 1) | (sum(v) > 2)", weight="-2*x + v[1]"),
    )
    keep = (x > 0.2) & (abs(y) < 1) | (v.sum(axis=1) > 2)
    np.testing.assert_array_equal(chunk.entries, np.flatnonzero(keep))
    np.testing.assert_array_equal(chunk.events["y"], y[keep])
    np.testing.assert_allclose(chunk.events["weight"], (-2 * x + v[:, 1])[keep])
    assert (ak.to_numpy(chunk.events["weight"]) < 0).any()
    assert len(reader.read(path, schema, cut="0 < a.b < 1")) == ((x > 0) & (x < 1)).sum()


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        ("x >", r"the cut: a branch or number is missing before the end\n  x >\n     \^"),
        ("__import__('os')", "no function '__import__'"),
        ("x.__class__ > 1", "no branch 'x.__class__'"),
        ("x ^ 2 > 1", r"write \*\* for a power"),
        ("eta > 0", "no branch 'eta' for a cut or weight"),
        ("v > 0", r"gives \[3\] values per entry"),
        ("x > 1e9", "drops every event"),
        ("1", "the cut '1' contains no branch; leave it out"),
    ],
)
def test_an_invalid_cut_raises(tmp_path, cut, message):
    path = write_tree(tmp_path / "s.root", {"x": np.ones(5), "y": np.ones(5), "v": np.ones((5, 3))})
    with pytest.raises(DataError, match=message):
        reader.read(path, Schema({"x": Field()}), cut=cut)


@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
def test_jagged_branches_are_padded_and_truncated_to_their_shape_with_counts(tmp_path, format):
    path = tmp_path / "jagged.root"
    lists = ak.values_astype(ak.Array([[1, 2, 3], [], [4], [5, 6, 7, 8, 9]]), "float32")
    with uproot.recreate(path) as out:
        if format == "TTree":
            out.mktree("t", {"hits": "var * float32"}).extend({"hits": lists})
        else:
            out.mkrntuple("t", {"hits": lists})
    with pytest.raises(DataError, match=r"'hits' needs 4 values .* entry 0 of '.*' has 3; give"):
        reader.read(path, Schema({"hits": Field((4,))}))
    with pytest.raises(DataError, match=r"'hits' of '.*' is jagged, but field 'hits' is a number"):
        reader.read(path, Schema({"hits": Field()}))
    schema = reader.resolve(path, Schema({"hits": Field((4,), fill=-1.0)}))
    events = reader.read(path, schema)
    assert events["hits"].to_list() == [[1, 2, 3, -1], [-1] * 4, [4, -1, -1, -1], [5, 6, 7, 8]]
    assert events["n_hits"].to_list() == [3, 0, 1, 4]
    writer.write(tmp_path / "back.root", events, schema, tree="t", format=format)
    back = uproot.open(tmp_path / "back.root")["t"].arrays(["hits"])["hits"]
    assert back.to_list() == [[1, 2, 3], [], [4], [5, 6, 7, 8]]


@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
def test_vectors_that_all_have_the_values_of_a_field_are_read_as_arrays(
    tmp_path: Path, format: str
) -> None:
    path, cells = tmp_path / "vectors.root", np.arange(300, dtype="f4").reshape(25, 12)
    with uproot.recreate(path) as out:
        if format == "TTree":
            out.mktree("t", {"cells": "var * float32"}).extend({"cells": ak.Array(cells.tolist())})
        else:
            out.mkrntuple("t", {"cells": ak.values_astype(ak.Array(cells.tolist()), "float32")})
    schema = Schema({"cells": Field((3, 4))})
    assert np.array_equal(reader.read(path, schema)["cells"], cells.reshape(25, 3, 4))
    chunks = reader.iterate(path, schema, step_size=2)
    assert np.array_equal(
        np.concatenate([chunk.events["cells"] for chunk in chunks]), cells.reshape(25, 3, 4)
    )
    (summary,) = inspection.inspect(path)
    assert inspection.propose_fields(summary).fields["cells"] == Field((12,))
    schema = reader.resolve(path, schema)
    writer.write(tmp_path / "back.root", reader.read(path, schema), schema, tree="t", format=format)
    back = reader.read(tmp_path / "back.root", schema)
    assert np.array_equal(back["cells"], cells.reshape(25, 3, 4))


# Bad input: one sentence with what, where and what to do


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"'.*nothing.root' does not exist; check the path"):
        reader.read(tmp_path / "nothing.root", LAYERS)
    with pytest.raises(DataError, match=r"no file matches '.*\*.root'"):
        reader.read(tmp_path / "*.root", LAYERS)
    with pytest.raises(DataError, match=r"is a folder; give the ROOT files"):
        reader.read(tmp_path, LAYERS)
    with pytest.raises(DataError, match=r"no input file"):
        reader.read([], LAYERS)


def test_an_unreachable_server_is_named():
    with pytest.raises(DataError, match=r"'http://127.0.0.1:9/a.root' cannot be re"):
        reader.read("http://127.0.0.1:9/a.root", LAYERS)


def test_a_file_that_is_not_root_is_named(tmp_path):
    (tmp_path / "text.root").write_text("energy,layer\n1,2\n")
    (tmp_path / "empty.root").touch()
    with pytest.raises(DataError, match=r"text.root' is not a ROOT file: it starts with b'ener'"):
        reader.read(tmp_path / "text.root", LAYERS)
    with pytest.raises(DataError, match=r"empty.root' is empty"):
        reader.read(tmp_path / "empty.root", LAYERS)


@pytest.mark.parametrize("fraction", [0.001, 0.01, 0.3, 0.6, 0.99])
def test_a_truncated_file_raises_with_its_size(file, fraction):
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(DataError, match=r"a.root' is truncated"):
        reader.read(file, LAYERS)


@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
def test_flipped_bits_give_a_data_error_or_plain_numbers(tmp_path, format):
    path = tmp_path / "flipped.root"
    writer.write(path, layers(), LAYERS, tree="t", format=format)
    good = path.read_bytes()
    rng = np.random.default_rng(5)
    failed = 0
    for _ in range(150):
        bad = bytearray(good)
        for offset in rng.integers(8, len(good), 3):
            bad[offset] ^= 1 << int(rng.integers(8))
        path.write_bytes(bad)
        try:
            events = reader.read(path, LAYERS)
        except DataError:
            failed += 1
        else:
            assert set(LAYERS.all) <= set(events.fields)
    assert failed > 0


def test_a_missing_tree_raises_with_the_existing_ones(tmp_path, file):
    with pytest.raises(
        DataError,
        match=r"no tree 'shower' in '.*a.root'; there are: showers; did you mean 'showers'",
    ):
        reader.read(file, LAYERS, tree="shower")
    with uproot.recreate(tmp_path / "two.root") as out:
        out.mktree("one", {"x": "f4"})
        out.mktree("two", {"x": "f4"})
    with pytest.raises(DataError, match=r"several trees; name one of them: one, two"):
        reader.read(tmp_path / "two.root", LAYERS)
    with pytest.raises(DataError, match=r"tree 'one' of '.*two.root' has no entries"):
        reader.read(tmp_path / "two.root:one", Schema({"x": Field()}))
    with uproot.recreate(tmp_path / "none.root") as out:
        out["text"] = "no tree"
    with pytest.raises(DataError, match=r"holds no tree"):
        reader.read(tmp_path / "none.root", LAYERS)


@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
def test_missing_branch_raises_with_the_nearest_name(tmp_path, format):
    path = tmp_path / "a.root"
    writer.write(path, layers(), LAYERS, tree="t", format=format)
    with pytest.raises(
        DataError, match=r"no branch 'enrgy' for field 'enrgy' in '.*a.root'; did you mean 'energy'"
    ):
        reader.read(path, Schema({"enrgy": Field()}))
    with pytest.raises(DataError, match=r"no branch 'zzz' .* there are: layer, energy"):
        reader.read(path, Schema({"zzz": Field()}))
    with pytest.raises(DataError, match=r"no branch 'cell_0' and 11 more for field 'layer'"):
        reader.read(path, Schema({"layer": Field((3, 4), branches=("cell_{0..11}",))}))


def test_a_shape_mismatch_raises_with_both_shapes(file):
    with pytest.raises(
        DataError,
        match=r"holds 12 values per entry \(\[3, 4\]\), but field 'layer' of shape \[3, 5\] needs 15",
    ):
        reader.read(file, Schema({"layer": Field((3, 5))}))
    with pytest.raises(
        DataError, match=r"needs 3 values, but 2 branches are listed \(energy … layer\)"
    ):
        reader.read(file, Schema({"x": Field((3,), branches=("energy", "layer"))}))
    with pytest.raises(DataError, match=r"branch 'layer' of .* should hold one number per entry"):
        reader.read(file, Schema({"x": Field((2,), branches=("energy", "layer"))}))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_nan_and_infinity_raise_with_branch_entry_and_count(tmp_path, bad, dtype):
    values = np.ones((50, 2, 3), dtype)
    values[17, 1, 2] = values[20] = bad
    path = write_tree(tmp_path / "nan.root", {"v": values, "good": np.ones(50)})
    with pytest.raises(
        DataError, match=r"branch 'v' of '.*nan.root' is -?(nan|inf) in entry 17, .*7 such values"
    ):
        reader.read(path, Schema({"v": Field((2, 3))}))
    with pytest.raises(DataError, match=r"in entry 17"):
        list(reader.iterate(path, Schema({"v": Field((2, 3))}), step_size=5))
    assert len(reader.read(path, Schema({"good": Field()}))) == 50
    assert len(reader.read(path, Schema({"v": Field((2, 3))}), entry_stop=17)) == 17


def test_large_finite_values_are_read(tmp_path):
    path = write_tree(tmp_path / "large.root", {"v": np.full(100, 3e38, "f4")})
    assert len(reader.read(path, Schema({"v": Field()}))) == 100


def test_integers_above_2_24_raise_with_their_branch(tmp_path):
    numbers = np.array([1, 2**24, 2**24 + 2, 2**24 + 1, 2**40 + 1])
    path = write_tree(tmp_path / "event.root", {"event": numbers, "huge": np.full(5, 1e39)})
    with pytest.raises(
        DataError, match=r"'event' of '.*' is 16777217 in entry 3, .*2 such values.*lose digits"
    ):
        reader.read(path, Schema({"event": Field()}))
    with pytest.raises(DataError, match=r"'huge' of '.*' is 1e\+39 in entry 0"):
        reader.read(path, Schema({"huge": Field()}))
    assert len(reader.read(path, Schema({"event": Field()}), entry_stop=3)) == 3


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 62))
def test_exactly_the_integers_that_float32_changes_raise(number, zeros):
    value = np.array([number >> zeros << zeros])
    exact = int(np.float32(value[0])) == int(value[0])
    if exact:
        check_values(value, ["n"], np.arange(1), "a.root")
    else:
        with pytest.raises(DataError, match="lose digits"):
            check_values(value, ["n"], np.arange(1), "a.root")


def test_large_unsigned_integers_raise():
    check_values(np.array([2**63, 2**64 - 2**40], "u8"), ["n"], np.arange(2), "a.root")
    with pytest.raises(DataError, match="is 9223372036854775809 in entry 1"):
        check_values(np.array([5, 2**63 + 1], "u8"), ["n"], np.arange(2), "a.root")


@pytest.mark.parametrize("stop", [0, -1])
def test_an_entry_stop_below_1_raises(file, stop):
    with pytest.raises(DataError, match=f"entry_stop = {stop} is not a number of entries"):
        reader.read(file, LAYERS, entry_stop=stop)


def test_fill_of_a_scalar_raises(file):
    with pytest.raises(DataError, match="'energy' has a 'fill', .* is a scalar"):
        reader.read(file, Schema({"energy": Field(fill=0.0)}))


def test_files_with_different_types_or_shapes_raise(tmp_path):
    a = write_tree(tmp_path / "a.root", {"v": np.ones((3, 4), "f4")})
    b = write_tree(tmp_path / "b.root", {"v": np.ones((3, 4), "f8")})
    c = write_tree(tmp_path / "c.root", {"v": np.ones((3, 5), "f4")})
    schema = Schema({"v": Field((4,))})
    with pytest.raises(
        DataError, match=r"field 'v' is float64 in '.*b.root' but float32 in '.*a.root'"
    ):
        reader.read([a, b], schema)
    with pytest.raises(DataError, match=r"'v' of '.*c.root' holds 5 values"):
        list(reader.iterate([a, c], schema))


def test_bad_files_are_skipped_with_a_warning_and_reported(tmp_path, file):
    (tmp_path / "bad.root").write_bytes(file.read_bytes()[:-100])
    files = [tmp_path / "bad.root", file]
    with pytest.warns(UserWarning, match=r"file left out: '.*bad.root' is truncated"):
        events = reader.read(files, LAYERS, on_bad_file="skip")
    assert len(events) == 100
    assert list(events.attrs["skipped"]) == [str(tmp_path / "bad.root")]
    skipped = {}
    chunks = reader.iterate(files, LAYERS, options=ReadOptions(on_bad_file="skip"), skipped=skipped)
    with pytest.warns(UserWarning, match=r"left out"):
        assert sum(len(c.events) for c in chunks) == 100
    assert "is truncated" in skipped[str(tmp_path / "bad.root")]
    with (
        pytest.warns(UserWarning, match=r"left out"),
        pytest.raises(DataError, match=r"none of the 1 files"),
    ):
        reader.read(files[0], LAYERS, on_bad_file="skip")


def test_a_file_that_changes_while_it_is_read_raises(file):
    chunks = reader.iterate(file, LAYERS, step_size=10)
    next(chunks)
    os.utime(file, (1, 1))
    with pytest.raises(DataError, match=r"a.root' changed while it was read"):
        list(chunks)


def test_strings_raise(tmp_path):
    with uproot.recreate(tmp_path / "s.root") as out:
        out.mktree("t", {"s": "string", "x": "f4"}).extend(
            {"s": ak.Array(["a", "b"]), "x": np.ones(2, "f4")}
        )
    with pytest.raises(DataError, match=r"branch 's' of '.*' holds .* neither a number nor"):
        reader.read(tmp_path / "s.root", Schema({"s": Field()}))


def test_an_existing_file_is_not_overwritten(file):
    before = file.read_bytes()
    with pytest.raises(
        DataError, match=r"a.root' exists; choose another file, or replace it with --over"
    ):
        writer.write(file, layers(), LAYERS, tree="t")
    assert file.read_bytes() == before
    writer.write(file, layers(3), LAYERS, tree="t", overwrite=True)
    assert len(reader.read(file, LAYERS)) == 3


def test_a_failed_write_leaves_no_file_and_keeps_the_old_one(tmp_path, file):
    def chunks():
        yield layers()
        raise KeyboardInterrupt

    before = file.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        writer.write(file, chunks(), LAYERS, tree="t", overwrite=True)
    with pytest.raises(
        DataError, match=r"the events have no field 'other'; they have: layer, energy"
    ):
        writer.write(tmp_path / "b.root", layers(), Schema({"other": Field()}), tree="t")
    with pytest.raises(DataError, match=r"shape \[3, 4\], but the schema declares \[12\]"):
        writer.write(tmp_path / "b.root", layers(), Schema({"layer": Field((12,))}), tree="t")
    with pytest.raises(DataError, match=r"no events to write"):
        writer.write(tmp_path / "b.root", [], LAYERS, tree="t")
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_bytes() == before
    with pytest.raises(RunError, match=r"b.root cannot be written: No such file or directory"):
        writer.write(tmp_path / "no" / "b.root", layers(), LAYERS, tree="t")


def test_nan_in_an_integer_branch_is_not_written(tmp_path):
    with pytest.raises(
        DataError, match=r"field 'n' is nan in event 1, which uint8 cannot represent"
    ):
        writer.write(
            tmp_path / "n.root",
            as_events({"n": np.array([1, np.nan])}),
            Schema({"n": Field(dtype="uint8")}),
            tree="t",
        )


# Samples


def test_samples_match_their_data_card():
    digits = reader.read(
        "sample:mnist.root", Schema({"image": Field((28, 28))}, {"label": Field()})
    )
    assert str(digits.type) == "10000 * {image: 28 * 28 * uint8, label: uint8}"
    assert np.bincount(ak.to_numpy(digits["label"])).min() > 850
    cells = {"layer_0": Field((3, 96)), "layer_1": Field((12, 12)), "layer_2": Field((12, 6))}
    showers = reader.read("sample:showers.root", Schema(cells, {"energy": Field()}))
    assert len(showers) == 10_000
    total = sum(
        ak.to_numpy(showers[name]).astype("f8").reshape(10_000, -1).sum(axis=1) for name in cells
    )
    # Deposits in the window are 0.9965 of the energy (data card of the simulation).
    assert abs((total / 1000 / ak.to_numpy(showers["energy"])).mean() - 0.9965) < 0.002
    with pytest.raises(
        DataError,
        match=r"no sample 'shower.root'; there are: angles.root, mnist.root, showers.root",
    ):
        reader.read("sample:shower.root", LAYERS)


def test_samples_fit_in_the_package():
    assert (
        sum(p.stat().st_size for p in Path(sources("sample:mnist.root")[0].path).parent.iterdir())
        < 12e6
    )
    assert Exception not in BROKEN


# A look into a file


@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
def test_inspect_gives_types_and_ranges(tmp_path, format):
    path = tmp_path / "a.root"
    events = layers()
    writer.write(path, events, LAYERS, tree="d/t", format=format)
    (tree,) = inspection.inspect(path)
    assert (tree.name, tree.format, tree.entries, tree.inspected) == ("d/t", format, 100, 100)
    assert [b.name for b in tree.branches] == ["layer", "energy"]
    assert tree.branches[0].type.shape == (3, 4)
    assert tree.branches[1].high == ak.max(events["energy"])
    assert "float32[3][4]" in inspection.summary_table([tree])


@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
def test_the_proposed_schema_reads_the_file(tmp_path, format):
    path = tmp_path / "a.root"
    schema = Schema(
        {"cell": Field((20,), branches=("cell_{0..19}",)), "layer": Field((3, 4))},
        {"energy": Field(), "TotalEnergy": Field()},
    )
    rng = np.random.default_rng(1)
    events = as_events({n: rng.random((5, *f.shape)) for n, f in schema.all.items()})
    writer.write(path, events, schema, tree="t", format=format)
    text = inspection.schema_toml(inspection.inspect(path)[0])
    assert "# [schema.conditions.TotalEnergy]" in text
    text = text.replace(
        "# [schema", "[schema"
    )  # quantities of the incident particle are commented out
    proposed = Schema.from_table(tomllib.loads(text)["schema"])
    assert proposed == schema
    back = reader.read(path, proposed)
    assert all(ak.all(back[name] == events[name]) for name in schema.all)


def test_inspect_reports_values_that_a_network_cannot_take(tmp_path):
    values = {
        "v": np.array([[1, np.nan], [np.inf, 0]]),
        "same": np.full(2, 7.0),
        "n": np.array([3, 4]),
    }
    (tree,) = inspection.inspect(write_tree(tmp_path / "x.root", values))
    v = tree.branches[0]
    assert (v.low, v.high, v.not_finite, v.zeros) == (0, 1, 2, 0.5)
    text = inspection.summary_table([tree])
    assert "2 NaN or infinite" in text
    assert "7 … 7  constant" in text
    reason = "left out, 2 values are NaN or infinite in the first 2 entries"
    assert inspection.schema_toml(tree) == (
        "[schema.fields.same]\n\n[schema.fields.n]\n\n"
        f"# {reason}:\n# [schema.fields.v]\n# shape = [2]"
    )


@pytest.mark.parametrize("name", ["a.parquet", "a", "a.root.bak"])
def test_an_output_that_does_not_end_with_root_raises(tmp_path, name):
    with pytest.raises(DataError, match=r"does not end with \.root"):
        writer.write(tmp_path / name, layers(), LAYERS, tree="t")
    assert not list(tmp_path.iterdir())
