"""Any name that ROOT allows, and names of hepgan's own, through schemas, files, observables, plots and reports."""

import html.parser
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hepgan.data.names import file_names, printable
from hepgan.data.schema import Field, Schema
from hepgan.evaluate import compare, observables_for, plots
from hepgan.evaluate.geometry import LayerGeometry
from hepgan.evaluate.pictures import Picture
from hepgan.evaluate.report import write_report
from hepgan.evaluate.scores import Gap

NAMES = st.text(min_size=1, max_size=12) | st.sampled_from(
    ["x_0", "x[0]", "x_1", "$", "a$b$", "hits/x.y", "E_inc", "E_tot", "weight", "n_x", "source", "value",
     "x.mean", "x.spectrum", "s_0.energy", "\x00", "\x1b[31m", "\udcff", "'\"\\", "_x", "..", "con", "<b>&amp;"]
)  # fmt: skip


@given(st.lists(NAMES, unique=True, max_size=20))
def test_file_names_are_distinct_and_safe(names: list[str]) -> None:
    found = file_names(names)
    assert list(found) == names
    assert len({name.casefold() for name in found.values()}) == len(names)
    for name in found.values():
        assert name.isascii()
        assert name.isprintable()
        assert len(name) < 120
        assert not set(name) & set('/\\:*?"<>|$;')
        assert not name.startswith(".")


@given(st.text())
def test_printable_text_has_no_control_characters_and_can_be_encoded(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()


@given(
    st.dictionaries(NAMES, st.sampled_from([(), (1,), (3,), (17,), (2, 2), (2, 2, 2)]), min_size=1),
    st.sampled_from(["", "GeV"]),
)
def test_every_value_has_an_observable_of_its_own(
    shapes: dict[str, tuple[int, ...]], unit: str
) -> None:
    schema = Schema({name: Field(shape, unit) for name, shape in shapes.items()})
    found = observables_for(schema)
    assert all(name == observable.name for name, observable in found.items())
    rng = np.random.default_rng(1)
    events = {name: rng.uniform(1, 2, (3, *shape)) for name, shape in shapes.items()}
    values = [o.function(events) for o in found.values()]
    for name in schema.fields:  # each value is in some observable as it is
        columns = events[name].reshape(3, -1).T
        singles = [v.reshape(3, -1).T for v in values]
        assert all(any((c == s).all(1).any() for s in singles) for c in columns), name


def test_a_vector_beside_a_field_of_its_columns_name_loses_no_value() -> None:
    schema = Schema({"x": Field((4,)), "x_0": Field()})
    assert list(observables_for(schema)) == ["x_0 (x[0])", "x_1", "x_2", "x_3", "x_0"]


def test_a_field_called_as_a_showers_observable_is_beside_it() -> None:
    schema = Schema({"layer": Field((3, 3), "GeV"), "E_tot": Field(), "E_inc": Field()})
    found = observables_for(schema, {"layer": LayerGeometry()})
    assert found["E_tot"].label == "total energy"
    assert {"E_tot (field)", "E_inc (field)"} <= set(found)


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


def test_any_name_can_stand_in_every_figure() -> None:
    rng = np.random.default_rng(1)
    samples = {name: rng.normal(size=90) for name in ["reference", *HOSTILE]}
    unit = HOSTILE[1]
    observable = observables_for(Schema({"$": Field((), unit)}))
    histograms = compare.compare(
        {"$": samples["reference"]},
        {n: {"$": v} for n, v in samples.items() if n not in {"reference", "\udcff"}},
        observable,
    )
    two = {"reference": np.ones((2, 2)), "$": np.full((2, 2), 2.0)}
    profile = np.geomspace(1, 100, 90), rng.normal(1, 0.1, 90), np.ones(90)
    figures = [
        plots.observable(histograms["$"]),
        plots.mean_images(two, names=("$", "$"), unit=unit),
        plots.correlations(two, HOSTILE[:2]),
        plots.losses([{"step": i, **dict.fromkeys(HOSTILE, float(i))} for i in range(2)]),
        plots.roc({name: np.ones((2, 3)) for name in HOSTILE}),
        plots.response(dict.fromkeys(samples, profile), unit=unit),
    ]
    for figure in figures:
        assert "<svg" in plots.svg(figure)
    # also of a name with "_", which matplotlib would hide
    assert len(figures[0].axes[0].get_legend().get_texts()) == len(HOSTILE)


def test_a_report_holds_any_name_escaped(tmp_path: Path) -> None:
    pictures = [Picture(n, "group", n, False, "<svg></svg>", b"png") for n in [*HOSTILE, "A", "a"]]
    gaps = [Gap("overall", name, name, name) for name in HOSTILE]
    page = write_report(
        tmp_path, title=HOSTILE[3], verdicts=[(True, name) for name in HOSTILE], scores=[],
        gaps=gaps, pictures=pictures, provenance={name: name for name in HOSTILE},
    )  # fmt: skip
    text = page.read_text(encoding="utf-8")
    assert all(c.isprintable() or c == "\n" for c in text)
    assert "<script>" not in text
    assert len(list((tmp_path / "plots").iterdir())) == len(pictures)
    tags: list[str] = []
    parser = html.parser.HTMLParser()
    parser.handle_starttag = lambda tag, _attributes: tags.append(tag)  # type: ignore[method-assign]
    parser.feed(text)
    assert "script" not in tags
