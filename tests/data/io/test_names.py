"""Schemas, files, observables, plots and reports accept any name that ROOT allows, and names that hepgan uses itself."""

import html.parser
import tomllib
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import tomli_w
import torch
import uproot
from click.testing import CliRunner
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hepgan.cli import main
from hepgan.cli.generate import _condition
from hepgan.config import to_table
from hepgan.data.encoding.encoding import Encoding, EncodingSettings
from hepgan.data.io import inspection, reader, writer
from hepgan.data.io.branches import root_name
from hepgan.data.io.chunks import as_events
from hepgan.data.io.names import file_names, printable
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError, RunError
from hepgan.evaluation import histograms, observables_for, plots
from hepgan.evaluation.cleaning import without_weight
from hepgan.evaluation.metrics.scores import SkippedMetric
from hepgan.evaluation.observables.geometry import LayerGeometry
from hepgan.evaluation.profiles import Response
from hepgan.evaluation.report.figures import Picture
from hepgan.evaluation.report.page import write_report
from hepgan.gan.conditions import Range
from hepgan.processors.chunk_results import ChunkId
from hepgan.processors.outputs import part_name, particle_schema

DTYPES = [
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"
]  # fmt: skip
NAMES = st.text(min_size=1, max_size=12) | st.sampled_from(
    ["x_0", "x[0]", "x_1", "$", "a$b$", "hits/x.y", "E_inc", "E_tot", "weight", "n_x", "source", "value",
     "x.mean", "x.spectrum", "s_0.energy", "\x00", "\x1b[31m", "'\"\\", "_x", "..", "con", "<b>&amp;"]
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(NAMES, unique=True, max_size=20))
def test_file_names_are_distinct_and_safe(names: list[str]) -> None:
    safe_names = file_names(names)
    assert list(safe_names) == names
    assert len({name.casefold() for name in safe_names.values()}) == len(names)
    for name in safe_names.values():
        assert name.isascii()
        assert name.isprintable()
        assert len(name) < 120
        assert not set(name) & set('/\\:*?"<>|$;')
        assert not name.startswith(".")


@settings(deadline=None)
@given(st.text())
def test_printable_text_has_no_control_characters_and_can_be_encoded(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()


@settings(deadline=None)
@given(
    st.dictionaries(NAMES, st.sampled_from([(), (1,), (3,), (17,), (2, 2), (2, 2, 2)]), min_size=1),
    st.sampled_from(["", "GeV"]),
)
def test_every_value_has_an_observable_of_its_own(
    shapes: dict[str, tuple[int, ...]], unit: str
) -> None:
    schema = Schema({name: Field(shape, unit) for name, shape in shapes.items()})
    observables = observables_for(schema)
    assert all(name == observable.name for name, observable in observables.items())
    rng = np.random.default_rng(1)
    events = {name: rng.uniform(1, 2, (3, *shape)) for name, shape in shapes.items()}
    values = [o.function(events) for o in observables.values()]
    for name in schema.fields:  # every value is in some observable
        columns = events[name].reshape(3, -1).T
        singles = [v.reshape(3, -1).T for v in values]
        assert all(any((c == s).all(1).any() for s in singles) for c in columns), name


def test_a_vector_next_to_a_field_with_the_name_of_its_column_loses_no_value() -> None:
    schema = Schema({"x": Field((4,)), "x_0": Field()})
    assert list(observables_for(schema)) == ["x_0 (x[0])", "x_1", "x_2", "x_3", "x_0"]


def test_a_field_with_the_name_of_a_shower_observable_gets_another_name() -> None:
    schema = Schema({"layer": Field((3, 3), "GeV"), "E_tot": Field(), "E_inc": Field()})
    observables = observables_for(schema, {"layer": LayerGeometry()})
    assert observables["E_tot"].label == "total energy"
    assert {"E_tot (field)", "E_inc (field)"} <= set(observables)


HOSTILE = [
    "a$b",
    "$\\frac{",
    "_hidden",
    "\x1b[31m\x00",
    "\udcff",
    "<script>",
    "x" * 500,
    "{0}",
    "%s",
]


def test_every_figure_accepts_any_name() -> None:
    rng = np.random.default_rng(1)
    samples = {name: rng.normal(size=90) for name in ["reference", *HOSTILE]}
    unit = HOSTILE[1]
    observable = observables_for(Schema({"$": Field((), unit)}))
    filled = histograms.compare(
        {"$": samples["reference"]},
        {n: {"$": v} for n, v in samples.items() if n not in {"reference", "\udcff"}},
        observable,
    )
    two = {"reference": np.ones((2, 2)), "$": np.full((2, 2), 2.0)}
    profile = Response(*np.geomspace(1, 100, 50).reshape(5, 10))
    figures = [
        plots.observable(filled["$"]),
        plots.mean_images(two, names=("$", "$"), unit=unit),
        plots.correlations(two, HOSTILE[:2]),
        plots.losses([{"step": i, **dict.fromkeys(HOSTILE, float(i))} for i in range(2)]),
        plots.roc({name: np.ones((2, 3)) for name in HOSTILE}),
        plots.response(dict.fromkeys(samples, profile), {}, unit=unit, to_gev=1.0),
    ]
    for figure in figures:
        assert "<svg" in plots.svg(figure)
    # also of a name with "_", which matplotlib would hide
    assert len(figures[0].axes[0].get_legend().get_texts()) == len(HOSTILE)


def test_a_report_escapes_any_name(tmp_path: Path) -> None:
    pictures = [
        Picture(n, "group", n, False, "<svg></svg>", {"png": b"png"}) for n in [*HOSTILE, "A", "a"]
    ]
    skipped = [SkippedMetric("overall", name, name, name) for name in HOSTILE]
    page = write_report(
        tmp_path, title=HOSTILE[3], verdicts=[(True, name) for name in HOSTILE], scores=[],
        skipped=skipped, pictures=pictures, provenance={name: name for name in HOSTILE},
    )  # fmt: skip
    text = page.read_text(encoding="utf-8")
    assert all(c.isprintable() or c == "\n" for c in text)
    assert len(list((tmp_path / "plots").iterdir())) == len(pictures)
    tags: list[str] = []
    parser = html.parser.HTMLParser()
    parser.handle_starttag = lambda tag, _attributes: tags.append(tag)  # type: ignore[method-assign]
    parser.feed(text)
    assert tags.count("script") == 1  # the page's own


@settings(deadline=None)
@given(st.lists(NAMES, unique=True, min_size=2, max_size=6), st.data())
def test_a_schema_with_any_names_survives_toml(names: list[str], data: st.DataObject) -> None:
    kinds = st.sampled_from([Field(), Field((2,), fill=0.0), Field((2,), fill=0.0, count=names[0])])
    fields = {name: data.draw(kinds) if name != names[0] else Field() for name in names}
    fields[names[1]] = Field(branches=tuple(names))
    try:
        schema = Schema(fields)
    except RunError as error:  # the length of one list has the name of another field
        assume("is there already" not in str(error))
        raise
    assert Schema.from_table(tomllib.loads(tomli_w.dumps(to_table(schema)))) == schema


@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
@pytest.mark.parametrize(
    "tree", ["a;1", ";", "", "/a", "a/", "a//b", "a\x00", "\udcff", "d/a b:c*[0]"]
)
def test_any_tree_name_is_read_back_or_rejected(tmp_path: Path, format: str, tree: str) -> None:
    events, schema = as_events({"x": np.ones(2)}), Schema({"x": Field()})
    if tree.startswith("d"):
        writer.write(tmp_path / "a.root", events, schema, tree=tree, format=format)
        assert reader.read({str(tmp_path / "a.root"): tree}, schema)["x"].tolist() == [1, 1]
        return
    with pytest.raises(DataError, match="the tree name .* is invalid"):
        writer.write(tmp_path / "a.root", events, schema, tree=tree, format=format)


@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(NAMES, unique=True, min_size=1, max_size=4))
def test_any_branch_names_are_read_back_or_rejected(
    tmp_path: Path, format: str, names: list[str]
) -> None:
    schema = Schema({name: Field() for name in names})
    events = as_events({name: np.full(3, i, "f4") for i, name in enumerate(names)})
    path = tmp_path / "names.root"
    try:
        writer.write(path, events, schema, tree="t", format=format, overwrite=True)
    except DataError as error:
        message = str(error)
    else:
        message = ""
    if message:
        assert message.isprintable()
        return
    back = reader.read(path, schema)
    for i, name in enumerate(names):
        assert back[name].tolist() == [i] * 3
        assert uproot.open(path)["t"][root_name(name)].array().tolist() == [i] * 3
        assert (
            set(name).isdisjoint("[]\x00") if format == "TTree" else set(name).isdisjoint("/. \\")
        )


def test_nested_branches_are_written_under_roots_name_and_read_by_root_and_uproot(
    tmp_path: Path,
) -> None:
    schema = Schema({"x": Field(branches=("hits/hits.fX",)), "y": Field(branches=("muons/pt",))})
    writer.write(
        tmp_path / "a.root", as_events({"x": np.ones(3), "y": np.zeros(3)}), schema, tree="t"
    )
    assert uproot.open(tmp_path / "a.root")["t"].keys() == ["hits.fX", "muons.pt"]
    assert reader.read(tmp_path / "a.root", schema)["x"].tolist() == [1] * 3


def test_two_fields_of_one_branch_are_not_written(tmp_path: Path) -> None:
    schema = Schema({"a": Field(), "b": Field(branches=("a",))})
    with pytest.raises(DataError, match="'a' and 'b' would both be written to the branch 'a'"):
        writer.write(
            tmp_path / "a.root", as_events({"a": np.ones(1), "b": np.zeros(1)}), schema, tree="t"
        )


def test_a_weight_never_overwrites_a_field_of_that_name(tmp_path: Path) -> None:
    schema = Schema({"weight": Field()})
    writer.write(tmp_path / "a.root", as_events({"weight": np.arange(3.0)}), schema, tree="t")
    with pytest.raises(DataError, match="the schema has a field 'weight'"):
        reader.read(tmp_path / "a.root", schema, weight="2 * weight")
    other = Schema({"mass": Field(branches=("weight",))})
    events = reader.read(tmp_path / "a.root", other, weight="2 * weight")
    assert (events["mass"].tolist(), events["weight"].tolist()) == ([0, 1, 2], [0, 2, 4])


def test_a_field_named_weight_raises_with_weights() -> None:
    skipped: list[SkippedMetric] = []
    schema = without_weight(Schema({"weight": Field(), "x": Field()}), skipped)
    assert list(schema.all) == ["x"]
    assert [skip.observable for skip in skipped] == ["weight"]


def test_the_count_of_a_list_never_overwrites_a_field_of_that_name() -> None:
    with pytest.raises(RunError, match=r"\[schema.fields.hits\] .* 'n_hits', .* count = 'n_hits'"):
        Schema({"n_hits": Field(), "hits": Field((3,), fill=0.0)})
    with pytest.raises(RunError, match="'n_hits' twice"):
        Schema({"hits": Field((3,), fill=0.0)}, {"n_hits": Field()})
    schema = Schema({"n_hits": Field(), "hits": Field((3,), fill=0.0, count="n")})
    assert list(schema.fields) == ["n_hits", "hits", "n"]


def test_lists_of_one_collection_share_a_count_and_its_branch(tmp_path: Path) -> None:
    pt = ak.values_astype(ak.Array([[1, 2, 3], [], [4]]), "float32")
    with uproot.recreate(tmp_path / "a.root") as file:
        types = {"pt": "var * float32", "eta": "var * float32"}
        tree = file.mktree("t", types, counter_name=lambda _: "nMuon")
        tree.extend({"pt": pt, "eta": -pt})
    lists = {name: Field((2,), fill=0.0, count="nMuon") for name in ("pt", "eta")}
    schema = reader.resolve(tmp_path / "a.root", Schema(lists))
    assert schema.features == 5
    events = reader.read(tmp_path / "a.root", schema)
    assert events["nMuon"].tolist() == [2, 0, 1]
    for format in ("TTree", "RNTuple"):
        back = tmp_path / f"{format}.root"
        writer.write(back, events, schema, tree="t", format=format)
        arrays = uproot.open(back)["t"].arrays()
        assert arrays["eta"].tolist() == [[-1, -2], [], [-4]]
        assert arrays["nMuon"].tolist() == [2, 0, 1]
        assert reader.read(back, schema).tolist() == events.tolist()


def test_lists_of_different_lengths_cannot_share_a_count(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("t", {"a": "var * float32", "b": "var * float32"}).extend(
            {"a": ak.Array([[1.0], [1.0, 2.0]]), "b": ak.Array([[1.0], [1.0]])}
        )
    lists = {name: Field((3,), fill=0.0, count="n") for name in "ab"}
    with pytest.raises(DataError, match="count 'n' differ in length in entry 1 .* 'b'"):
        reader.read(tmp_path / "a.root", Schema(lists))
    with pytest.raises(
        RunError, match="truncated to 2 values, other fields with the count 'n' to 3"
    ):
        Schema({**lists, "b": Field((2,), fill=0.0, count="n")})


def test_a_counter_that_is_a_separate_field_is_not_the_count(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("t", {"hits": "var * float32"}).extend({"hits": ak.Array([[1.0, 2.0], []])})
    schema = Schema({"hits": Field((1,), fill=0.0), "nhits": Field()})
    schema = reader.resolve(tmp_path / "a.root", schema)
    events = reader.read(tmp_path / "a.root", schema)
    assert (events["n_hits"].tolist(), events["nhits"].tolist()) == ([1, 0], [2, 0])
    writer.write(tmp_path / "b.root", events, schema, tree="t")
    assert reader.read(tmp_path / "b.root", schema).tolist() == events.tolist()


def test_names_that_are_not_utf_8_are_rejected() -> None:
    with pytest.raises(RunError, match=r"the name '\\udcff', which a TOML file cannot hold"):
        Schema({"\udcff": Field()})
    Schema({"x": Field(branches=("\udcff",))})


def test_names_in_errors_are_escaped_on_the_terminal(tmp_path: Path) -> None:
    writer.write(
        tmp_path / "a.root", as_events({"x": np.ones(1)}), Schema({"x": Field()}), tree="t"
    )
    result = CliRunner().invoke(main, ["inspect", f"{tmp_path}/a.root", "--tree", "\x1b[31m\udcff"])
    assert result.exit_code == 2
    assert "no tree '\\u001b[31m\\udcff'" in result.output


def test_a_proposed_schema_escapes_any_name_and_can_be_read(tmp_path: Path) -> None:
    names = ["\x1b[31m", "\x9b", "\udcff", "a]\n[x", "$"]
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("t", dict.fromkeys(names, "f4")).extend(dict.fromkeys(names, np.ones(2, "f4")))
    shown = CliRunner().invoke(main, ["inspect", f"{tmp_path}/a.root"])
    assert shown.exit_code == 0, shown.output
    assert all(c.isprintable() or c == "\n" for c in shown.output)
    proposed = inspection.schema_toml(inspection.inspect(tmp_path / "a.root")[0])
    schema = Schema.from_table(tomllib.loads(proposed)["schema"])
    assert set(schema.fields) <= set(names)
    assert "its name is not valid UTF-8" in proposed
    assert reader.read(tmp_path / "a.root", schema).fields == list(schema.fields)


def test_a_condition_on_the_command_line_may_have_any_name() -> None:
    assert _condition("a=b=1:2") == ("a=b", Range(1.0, 2.0))


def test_parts_of_different_files_have_different_names() -> None:
    names = {part_name(ChunkId("events", f"{i}/a.root", "t", "", 0)) for i in range(1000)}
    assert len(names) == 1000
    digest = names.pop().split("-")[1]
    assert len(digest) == 32  # 16 bytes: a collision in 10^9 files has a chance of 10^-21
    assert len(part_name(ChunkId("events", "x" * 250, "t", "", 0))) < 200


def test_particle_columns_never_overwrite_a_field() -> None:
    for name in ("entry", "particle", "inside"):
        with pytest.raises(DataError, match=f"the GAN has a field '{name}'"):
            particle_schema(Schema({name: Field()}), flagged=True)


def test_generated_lists_have_their_generated_lengths(tmp_path: Path) -> None:
    lists = ak.values_astype(ak.Array([[1, 2, 3], [], [4], [5, 6]] * 10), "float32")
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("t", {"hits": "var * float32"}).extend({"hits": lists})
    schema = reader.resolve(tmp_path / "a.root", Schema({"hits": Field((3,), fill=-1.0)}))
    events = reader.read(tmp_path / "a.root", schema)
    settings = EncodingSettings(({"step": "standardize"},))
    encoding = Encoding.fit(events, schema, settings, seed=1)
    x, c = encoding.encode(events, seed=1)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    generated = encoding.decode(x + 0.5 * noise, c)
    lengths = ak.to_numpy(generated["n_hits"])
    assert set(lengths) == {0, 1, 2, 3}
    behind = np.arange(3) >= lengths[:, None]
    assert (ak.to_numpy(generated["hits"])[behind] == -1).all()  # no noise
    writer.write(tmp_path / "b.root", generated, schema, tree="t")
    arrays = uproot.open(tmp_path / "b.root")["t"].arrays()
    assert ak.num(arrays["hits"]).tolist() == arrays["nhits"].tolist() == lengths.tolist()
    assert reader.read(tmp_path / "b.root", schema).tolist() == generated.tolist()


@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_lists_keep_their_type_up_to_its_limits(tmp_path: Path, format: str, dtype: str) -> None:
    kind = np.dtype(dtype)
    limits = np.iinfo(kind) if kind.kind in "iu" else np.finfo(kind) if kind.kind == "f" else None
    ends = [limits.min, limits.max] if limits else [False, True]
    lists = ak.unflatten(ak.from_numpy(np.array([*ends, *ends[:1]], kind)), [2, 0, 1])
    with uproot.recreate(tmp_path / "a.root") as file:
        if format == "TTree":
            file.mktree("t", {"x": lists.type.content}).extend({"x": lists})
        else:
            file.mkrntuple("t", ak.zip({"x": lists}, depth_limit=1))
    schema = reader.resolve(tmp_path / "a.root", Schema({"x": Field((2,), fill=0.0)}))
    events = reader.read(tmp_path / "a.root", schema, check=False)
    writer.write(tmp_path / "b.root", events, schema, tree="t", format=format)
    with uproot.open(tmp_path / "a.root") as a, uproot.open(tmp_path / "b.root") as b:
        assert a["t"]["x"].typename == b["t"]["x"].typename
        assert b["t"]["x"].array().tolist() == lists.tolist()
