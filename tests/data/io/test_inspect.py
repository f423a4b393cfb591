"""Summaries of files name bad branches, proposed schemas can be read, and wide trees take linear time."""

import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import hepgan
from hepgan.cli import main
from hepgan.config import from_table
from hepgan.data.encoding.conditions import ConditionScale
from hepgan.data.encoding.encoding import Encoding, EncodingSettings
from hepgan.data.io import inspection, reader
from hepgan.data.io.branches import BranchType
from hepgan.data.io.inspection import BranchSummary, TreeSummary, propose_fields
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError, RunError
from hepgan.evaluation.metrics import compute
from hepgan.evaluation.observables.standard import observables_for
from hepgan.evaluation.sample import build_sample
from hepgan.pipeline import evaluate, parse, propose

FLOAT = BranchType(np.dtype("float32"), (), jagged=False)


def write(path: Path, columns: dict[str, Any], format: str = "TTree") -> Path:
    arrays = {n: v if isinstance(v, ak.Array) else ak.from_numpy(v) for n, v in columns.items()}
    with uproot.recreate(path) as file:
        if format == "RNTuple":
            record = ak.zip(arrays, depth_limit=1)
            file.mkrntuple("t", record.layout.form).extend(record)
        else:
            file.mktree("t", {n: v.type.content for n, v in arrays.items()}).extend(columns)
    return path


def tree_of(*branches: BranchSummary) -> TreeSummary:
    return TreeSummary("t", "TTree", 10, 10, branches)


def proposed(text: str) -> Schema:
    return Schema.from_table(tomllib.loads(text)["schema"])


@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
def test_proposed_fields_can_be_read_and_others_are_commented_out_with_the_reason(
    tmp_path: Path, format: str
) -> None:
    n = 50
    lists = ak.unflatten(
        np.arange(np.tile([0, 1, 2, 3], n)[:n].sum(), dtype="f4"), np.tile([0, 1, 2, 3], n)[:n]
    )
    columns = {
        "pt": np.linspace(0, 1, n),
        "event": np.arange(n, dtype="u8") + 2**24 + 1,
        "broken": np.where(np.arange(n) == 7, np.nan, 1.0).astype("f4"),
        "huge": np.full(n, 1e300),
        "flag": np.arange(n) % 2 == 0,
        "hits": lists,
        "n_hits": np.arange(n, dtype="f4"),
        "image": np.arange(4.0 * n).reshape(n, 2, 2),
    }
    path = write(tmp_path / "a.root", columns, format)
    text = inspection.schema_toml(inspection.inspect(path)[0])
    schema = proposed(text)
    assert {"pt", "flag", "hits", "n_hits", "image"} <= set(schema.fields)
    assert not {"event", "broken", "huge"} & set(schema.fields)
    events = reader.read(path, schema)
    assert ak.all(events["image"] == columns["image"])
    for name, reason in (
        ("event", "25 values are integers above 2^24"),
        ("broken", "1 values are NaN or infinite"),
        ("huge", "50 values are beyond float32"),
    ):
        block = next(block for block in text.split("\n\n") if f".{name}]" in block)
        assert reason in block
        assert all(line.startswith("# ") for line in block.splitlines())
        with pytest.raises(DataError, match=name):
            reader.read(path, Schema.from_table({"fields": {name: {}}}))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(max_size=12)
            | st.sampled_from(['x"]\n[data]\nfiles = ["y"]\n#', "a\nb", "w\n"]),
            st.integers(0, 2),
            st.text(max_size=5),
        ),
        max_size=6,
    )
)
def test_no_branch_name_can_inject_toml(rows: list[tuple[str, int, str]]) -> None:
    branches = [BranchSummary(n, FLOAT, 0, 1, not_float32=bad, fault=f) for n, bad, f in rows]
    tree = tree_of(*branches)
    schema = tomllib.loads(inspection.schema_toml(tree)).get("schema", {})
    assert set(schema) <= {"fields"}
    assert schema.get("fields", {}).keys() == propose_fields(tree).fields.keys()
    good = {name for name, bad, fault in rows if not bad and not fault}
    assert set(schema.get("fields", {})) <= good | {n.rstrip("0123456789_") for n in good} | {
        "values"
    }
    table = inspection.summary_table([tree])
    assert len(table.splitlines()) <= len(rows) + 1


def test_scalars_are_fields_and_weights_labels_and_incident_particles_are_comments() -> None:
    names = ["pt1", "pt2", "phi", "genWeight", "w", "label", "e_inc", "truth_phi", "pdgId_true"]
    text = inspection.schema_toml(tree_of(*(BranchSummary(name, FLOAT, 0, 1) for name in names)))
    assert list(tomllib.loads(text)["schema"]["fields"]) == ["pt1", "pt2", "phi"]
    for comment in (
        '# event weight, not a quantity to generate:\n# [data]\n# weight = "`genWeight`"',
        "# class label, perhaps a condition:\n# [schema.conditions.label]",
        "# property of the incident particle, perhaps a condition:\n# [schema.conditions.e_inc]",
        "# or, if it is a property of the incident particle:\n# [schema.conditions.phi]",
    ):
        assert comment in text


def test_scales_are_proposed_for_conditions(tmp_path: Path) -> None:
    n = 200
    angles = np.linspace(-np.pi, np.pi, n, endpoint=False)
    columns = {
        "image": np.ones((n, 2, 2), dtype="f4"),
        "energy": np.linspace(1.002, 49.987, n),
        "pdg": np.where(np.arange(n) % 3, 22, -11).astype("i4"),
        "phi": angles,
        "theta": np.linspace(1e-6, 0.34906, n),
        "label": np.arange(n, dtype="i4"),
    }
    text = inspection.schema_toml(inspection.inspect(write(tmp_path / "a.root", columns))[0])
    lines = [line.removeprefix("# ") for line in text.splitlines() if not line.endswith(":")]
    table = tomllib.loads("\n".join(lines))
    settings = from_table(EncodingSettings, {"steps": [], **table["encoding"]}, where="encoding")
    assert settings.conditions == {
        "energy": ConditionScale((1.0, 49.99)),
        "pdg": ConditionScale(scale="classes", values=(-11, 22)),
        "phi": ConditionScale(scale="angle"),
        "theta": ConditionScale((0.0, 0.3491)),
        "label": ConditionScale((0.0, 199.0)),
    }
    schema = Schema.from_table(table["schema"])
    x, c = Encoding.fit(ak.Array(columns), schema, settings, seed=1).encode(
        ak.Array(columns), seed=1
    )
    assert (x.shape, c.shape) == ((n, 4), (n, 7))


def test_long_runs_of_numbered_branches_from_0_or_1_are_one_field() -> None:
    def fields(stem: str, first: int, number: int) -> list[str]:
        names = [f"{stem}{i}" for i in range(first, first + number)]
        proposal = propose_fields(tree_of(*(BranchSummary(name, FLOAT, 0, 1) for name in names)))
        schema = proposed(
            inspection.schema_toml(tree_of(*(BranchSummary(n, FLOAT, 0, 1) for n in names)))
        )
        assert schema.features == number
        return list(proposal.fields)

    assert fields("pixel", 0, 784) == ["pixel"]
    assert fields("cell_", 1, 8) == ["cell"]
    assert fields("x", 1, 7) == [f"x{i}" for i in range(1, 8)]
    assert fields("x", 5, 20) == [f"x{i}" for i in range(5, 25)]


@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
def test_an_unreadable_branch_is_reported_and_the_others_are_summarized(
    tmp_path: Path, format: str
) -> None:
    n = 2000
    rng = np.random.default_rng(1)
    columns = {name: rng.random(n).astype("f4") for name in ("a", "bad", "z")}
    path = write(tmp_path / "a.root", columns, format)
    raw = bytearray(path.read_bytes())
    with uproot.open(path) as file:
        tree = file["t"]
        if format == "TTree":
            offset = int(tree["bad"].member("fBasketSeek")[0]) + 100
        else:
            offset = int(tree.page_link_list[0][1].pages[0].locator.offset)
    raw[offset : offset + 200] = b"\xff" * 200
    path.write_bytes(raw)
    (summary,) = inspection.inspect(path)
    assert [b.name for b in summary.branches if not b.fault] == ["a", "z"]
    (line,) = [line for line in inspection.summary_table([summary]).splitlines() if "bad" in line]
    assert line.split()[:3] == ["bad", "float32", "unreadable"]
    result = CliRunner().invoke(main, ["inspect", str(path)])
    assert result.exit_code == 0
    assert "\n# bad: left out: " in result.output
    shown = result.output.partition("# the schema of hepgan init for the tree t\n")[2]
    assert set(proposed(shown).fields) == {"a", "z"}
    assert set(proposed(inspection.schema_toml(summary)).fields) == {"a", "z"}


@pytest.mark.parametrize("jagged", [True, False])
def test_a_branch_with_fewer_entries_than_its_tree_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jagged: bool
) -> None:
    """For example a jagged branch without baskets."""
    values = ak.Array([[1.0], [2.0]]) if jagged else np.zeros(2)
    path = write(tmp_path / "a.root", {"a": values})
    read_branch = inspection.read_branch
    monkeypatch.setattr(inspection, "read_branch", lambda *a, **k: read_branch(*a, **k)[:0])
    (summary,) = inspection.inspect(path)
    assert "gives 0 of 2 entries" in next(b for b in summary.branches if b.name == "a").fault
    assert "# left out, unreadable: a: gives 0 of 2 entries" in inspection.schema_toml(summary)


def test_evaluate_raises_for_a_tree_without_numbers(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("t", {"s": "string"}).extend({"s": ak.Array(["a", "b"])})
    path = str(tmp_path / "a.root")
    with pytest.raises(DataError, match="no branch of the tree 't' of '.*a.root' holds numbers"):
        evaluate(path, {"generated": path}, tmp_path / "out", seed=1)
    assert not (tmp_path / "out").exists()


def calls(work: Callable[[], object]) -> int:
    """Returns the number of function calls of this thread."""
    total = 0

    def count(*_: object) -> None:
        nonlocal total
        total += 1

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return total


@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
def test_work_is_linear_in_the_number_of_branches(tmp_path: Path, format: str) -> None:
    def work(number: int) -> Iterator[int]:
        columns = {f"v{i}x": np.zeros(3, "f4") for i in range(number)}
        path = write(tmp_path / f"{number}.root", columns, format)
        schema = Schema.from_table({"fields": {name: {} for name in columns}})
        yield calls(lambda: inspection.schema_toml(inspection.inspect(path)[0]))
        yield calls(lambda: reader.resolve(path, schema))
        yield calls(lambda: reader.read(path, schema))
        yield calls(lambda: list(reader.iterate(path, schema, step_size=2)))
        yield calls(lambda: reader.missing_fields(path, schema))

    for few, many in zip(work(20), work(120), strict=True):
        assert many < 7.5 * few


def test_distances_whose_time_grows_faster_than_the_number_of_observables_are_left_out_of_wide_trees() -> (
    None
):
    rng = np.random.default_rng(1)
    observables = observables_for(
        Schema({f"v{i}": Field() for i in range(compute.MAX_FEATURES + 1)})
    )
    first, second = (
        build_sample({name: rng.normal(size=60) for name in observables}, observables) for _ in "ab"
    )
    context = compute.MetricContext(first, second, observables, {}, "generated", 1, quick=True)
    with pytest.raises(
        DataError, match="501 observables are too many, at most 500 are compared together"
    ):
        compute._correlation(context)


def test_no_tree_name_can_inject_toml(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("t\n[data]", {"x": "f4"}).extend({"x": np.zeros(2, "f4")})
    result = CliRunner().invoke(main, ["inspect", str(tmp_path / "a.root")])
    text = result.output[result.output.index("# the schema") :]
    assert tomllib.loads(text) == {"schema": {"fields": {"x": {}}}}


def test_no_name_of_a_branch_that_is_left_out_can_inject_toml(tmp_path: Path) -> None:
    branches = {"x": np.arange(9.0), "y\n[data]\nfiles = []\n": np.ones(9)}
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("t", dict.fromkeys(branches, "f8")).extend(branches)
    result = CliRunner().invoke(main, ["inspect", str(tmp_path / "a.root")])
    shown = result.output[result.output.index("# the schema") :]
    assert tomllib.loads(shown) == {"schema": {"fields": {"x": {}}}}
    assert set(parse(propose(str(tmp_path / "a.root"))).schema.fields) == {"x"}


def test_inspect_shows_the_schema_and_the_scales_of_init() -> None:
    result = CliRunner().invoke(main, ["inspect", "sample:showers.root"])
    shown = tomllib.loads(result.output[result.output.index("# the schema") :])
    run = tomllib.loads(propose("sample:showers.root"))
    assert shown["schema"] == run["schema"]
    assert shown["encoding"]["conditions"] == run["encoding"]["conditions"]


def test_inspect_shows_a_schema_and_the_reason_if_init_proposes_none(tmp_path: Path) -> None:
    path = write(tmp_path / "a.root", {"x": np.arange(9.0), "weight": np.arange(9.0) - 4})
    result = CliRunner().invoke(main, ["inspect", str(path)])
    assert result.exit_code == 0
    assert (
        "# hepgan init proposes no run file for the tree t: the event weight 'weight'"
        in result.output
    )
    assert "[schema.fields.x]" in result.output


def test_infer_returns_the_schema_that_inspect_proposes() -> None:
    schema = Schema.infer("sample:showers.root")
    assert repr(schema) == (
        "Schema(layer_0[3, 96], layer_1[12, 12], layer_2[12, 6] | energy (incident))"
    )
    assert schema.incident == "energy"
    assert "<td>energy</td><td>incident energy</td>" in schema._repr_html_()
    assert len(hepgan.read("sample:showers.root", schema, entry_stop=3)) == 3


def test_infer_without_a_field_names_the_tree(tmp_path: Path) -> None:
    path = write(tmp_path / "a.root", {"weight": np.ones(3)})
    with pytest.raises(DataError, match=r"no branch of tree 't' of '.*a\.root' can be a field"):
        Schema.infer(path)


@pytest.mark.parametrize(
    ("incident", "message"),
    [("enrgy", "neither a condition nor a field; did you mean 'energy'"), ("x", "a scalar")],
)
def test_an_incident_energy_is_a_scalar_of_the_schema(incident: str, message: str) -> None:
    with pytest.raises(RunError, match=message):
        Schema({"x": Field((2,))}, {"energy": Field()}, incident)
