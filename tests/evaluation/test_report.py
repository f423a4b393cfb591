"""The verdict on samples with known faults, and the page that tells it."""

import html.parser
import json
import math
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError
from hepgan.evaluation import Evaluation, evaluate, plots
from hepgan.evaluation.histograms import REFERENCE
from hepgan.evaluation.metrics import classifier, dependence
from hepgan.evaluation.metrics.scores import REGISTERED, RegisteredMetric, Score, SkippedMetric
from hepgan.evaluation.metrics.statistics import Estimate
from hepgan.evaluation.observables.geometry import LayerGeometry
from hepgan.evaluation.report import page
from hepgan.evaluation.report.page import as_json, write_report

SCHEMA = Schema(
    {"layer_0": Field((3, 12), "MeV"), "layer_1": Field((6, 6), "MeV")},
    {"energy": Field((), "GeV")},
    incident="energy",
)
GEOMETRY = {
    "layer_0": LayerGeometry(cell=(160.0, 5.0)),
    "layer_1": LayerGeometry(cell=(40.0, 40.0)),
}


def showers(seed: int, events: int = 1500) -> dict[str, np.ndarray]:
    """Showers in small: a share of the energy in each layer, spread over cells, some dark."""
    rng = np.random.default_rng(seed)
    energy = rng.uniform(1, 100, events)
    first = rng.beta(8, 24, events) * (1.5 - energy / 100)
    whole = 1000 * energy * rng.normal(0.995, 0.002, events)
    found = {"energy": energy}
    for name, share in (("layer_0", first), ("layer_1", 1 - first)):
        rows, columns = SCHEMA.fields[name].shape
        at = np.abs(np.arange(rows) - rows / 2 + 0.5)[:, None] + np.abs(
            np.arange(columns) - columns / 2 + 0.5
        )
        cells = rng.gamma(2.0, np.exp(-at)[None].repeat(events, axis=0))
        cells *= rng.random(cells.shape) < 0.9
        cells /= cells.sum(axis=(1, 2), keepdims=True)
        found[name] = (cells * (share * whole)[:, None, None]).astype(np.float32)
    return found


def as_events(samples: dict[str, np.ndarray]) -> ak.Array:
    return ak.Array({k: ak.from_numpy(v, regulararray=True) for k, v in samples.items()})


def verdict(generated: dict[str, np.ndarray]) -> Evaluation:
    return evaluate(
        as_events(showers(1)), as_events(generated), schema=SCHEMA, geometry=GEOMETRY,
        seed=1, quick=True, device="cpu",
    )  # fmt: skip


@pytest.fixture(scope="module")
def alike() -> Evaluation:
    return verdict(showers(2))


@pytest.fixture(scope="module")
def report(alike: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    history = [
        {"step": i, "generator_loss": 1 / (i + 1), "discriminator_loss": 0.7} for i in range(50)
    ]
    provenance = {"seed": 1, "layout": "DENSE|8##DENSE|8", "<&>": "a<b"}
    return alike.write(tmp_path_factory.mktemp("alike"), history=history, provenance=provenance)


@pytest.fixture
def pictureless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hepgan.evaluation.report.figures.draw", lambda *_args, **_options: [])


def test_the_reference_against_itself_is_indistinguishable(alike) -> None:
    assert not alike.distinguishable, alike.verdict
    assert "indistinguishable" in alike.verdict
    assert {skip.observable for skip in alike.skipped} <= {"depth"}  # constant in these showers


@pytest.mark.usefixtures("pictureless")
def test_the_full_report_trains_the_calochallenge_classifier_three_times_for_scores_and_baselines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = classifier.SETUPS["challenge"]._replace(width=32, rate=1e-3, epochs=3)
    monkeypatch.setitem(classifier.SETUPS, "challenge", small)
    trained: list[tuple[str, int]] = []
    separability = classifier.separability

    def counted(*samples: np.ndarray, **options: object) -> classifier.Separability:
        trained.append((str(options["network"]), int(str(options["trainings"]))))
        return separability(*samples, **options)

    monkeypatch.setattr(classifier, "separability", counted)
    told: list[str] = []
    found = evaluate(
        as_events(showers(1)), {"generated": as_events(showers(2))}, schema=SCHEMA, geometry=GEOMETRY,
        seed=1, quick=False, progress=lambda text, _fraction, _remark: told.append(text),
    )  # fmt: skip
    assert not found.distinguishable, found.verdict
    # all observables, with two points of the learning curve; log cells; each with its baseline
    assert trained.count(("quick", 3)) == 4 + 2
    assert trained.count(("challenge", 3)) == 4
    assert trained.count(("image", 3)) == 2
    assert len(trained) == 12
    assert {"auc_low", "auc_log", "auc_high"} <= {score.metric for score in found.scores}
    assert {"training: auc_low", "training: baseline of auc_low"} <= set(told)


@pytest.mark.usefixtures("pictureless")
def test_energies_scaled_by_one_percent_are_named(tmp_path: Path) -> None:
    sample = showers(3)
    found = verdict({k: v if k == "energy" else v * np.float32(1.01) for k, v in sample.items()})
    assert found.distinguishable
    assert found.samples["generated"].shown_by[0] == "E_tot_over_E_inc"
    assert "E_tot_over_E_inc" in found.verdict


@pytest.mark.usefixtures("pictureless")
def test_a_layer_shuffled_between_events_is_named(tmp_path: Path) -> None:
    sample = showers(4)
    sample["layer_1"] = sample["layer_1"][np.random.default_rng(0).permutation(1500)]
    found = verdict(sample)
    assert found.distinguishable
    assert "E_tot_over_E_inc" in found.samples["generated"].shown_by[:3]


@pytest.mark.usefixtures("pictureless")
def test_a_dead_row_is_named(tmp_path: Path) -> None:
    sample = showers(5)
    sample["layer_0"][:, :, 9] = 0
    found = verdict(sample)
    assert found.distinguishable
    assert "layer_0.spectrum" in found.samples["generated"].shown_by
    pulls = {s.observable: s.value for s in found.scores if s.metric == "mean_image"}
    assert pulls["layer_0.spectrum"] > 20 > pulls["layer_1.spectrum"]


@pytest.mark.usefixtures("pictureless")
def test_bad_input_is_named_and_the_rest_is_evaluated(tmp_path: Path) -> None:
    sample = showers(6)
    sample["layer_0"][3, 1, 1] = np.nan
    sample["layer_1"] = sample["layer_1"].reshape(1500, 36)
    found = verdict(sample)
    reasons = {skip.observable: skip.reason for skip in found.skipped}
    assert "first in entry 3" in reasons["layer_0"]
    assert "shape (36,)" in reasons["layer_1"]
    assert any(score.observable == "layer_0.energy" for score in found.scores)
    page = found.write(tmp_path).read_text()
    assert "Remarks on the input" in page
    assert "Skipped metrics" not in page
    assert "first in entry 3" in page


@pytest.mark.usefixtures("pictureless")
def test_an_empty_layer_and_few_events_are_skipped(tmp_path: Path) -> None:
    sample = {k: v[:120] for k, v in showers(7).items()}
    sample["layer_1"] = np.zeros_like(sample["layer_1"])
    found = verdict(sample)
    missing = {(skip.metric, skip.observable) for skip in found.skipped}
    assert ("distribution", "layer_1.center_x") in missing
    assert ("auc_low", "all") in missing
    assert found.distinguishable


def test_samples_without_common_fields_or_events_raise(tmp_path: Path) -> None:
    events = as_events(showers(8))
    options = {"seed": 1, "quick": True}
    with pytest.raises(DataError, match="no field in common"):
        evaluate(
            events,
            {"g": as_events({"x": np.zeros(5)})},
            schema=SCHEMA,
            geometry=GEOMETRY,
            **options,
        )
    with pytest.raises(DataError, match="reference has no events"):
        evaluate(events[:0], {"g": events}, schema=SCHEMA, geometry=GEOMETRY, **options)


class Page(html.parser.HTMLParser):
    """Collects what a page refers to and whether its tags are closed."""

    void = frozenset({"meta", "link", "br", "img"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attributes}
        self.links += [v or "" for k, v in attributes if k in {"href", "src", "xlink:href"}]
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in self.void:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.texts.append(data)


def test_the_page_is_self_contained_and_small(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.open == []
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert page.tags.count("svg") > 20
    assert len(text.encode()) < 5_000_000
    assert (
        text.index('class="verdict')
        < text.index("<table")
        < text.index("<svg")
        < text.index('class="provenance"')
    )
    assert "a&lt;b" in text


HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "--></style></svg><b onclick=alert(1)>",
    "{{ 7 * 191 }}{% raw %}",
    "javascript:alert(1)//$\\frac",
)


def test_names_from_files_stay_text_wherever_they_appear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    field, image, condition, vector, sample = HOSTILE
    label = RegisteredMetric(lambda *_args, **_options: Estimate(0, 1, 0, 1), HOSTILE[1])
    monkeypatch.setitem(REGISTERED, HOSTILE[0], label)
    rng = np.random.default_rng(9)
    schema = Schema(
        {
            field: Field((), HOSTILE[1]),
            image: Field((4, 4), "MeV"),
            vector: Field((2,), HOSTILE[2]),
        },
        {condition: Field((), "GeV")},
        incident=condition,
    )
    geometry = {image: LayerGeometry(cell=(1.0, 1.0), axes=(HOSTILE[0], HOSTILE[1]))}
    events = [
        as_events({name: rng.exponential(size=(300, *f.shape)) for name, f in schema.all.items()})
        for _ in range(2)
    ]
    skipped = [SkippedMetric(name, f"absent {name}", name, name) for name in HOSTILE]
    found = evaluate(
        events[0],
        {sample: events[1]},
        schema=schema,
        geometry=geometry,
        quick=True,
        skipped=skipped,
    )
    names = {name: {name: name} for name in HOSTILE} | {
        f"file {i}": n for i, n in enumerate(HOSTILE)
    }
    history = [{"step": i, **dict.fromkeys(HOSTILE, float(i))} for i in range(3)]
    page = Page()
    path = found.write(
        tmp_path, title=HOSTILE[0], provenance=names, history=history, warnings=HOSTILE,
        training=dict(zip(HOSTILE, HOSTILE, strict=True)),
    )  # fmt: skip
    text = path.read_text(encoding="utf-8")
    page.feed(text)
    assert page.open == []
    assert set(page.tags) <= {
        "html", "head", "meta", "link", "title", "style", "body", "main", "nav", "a", "section", "h1", "h2", "p", "ul", "li",
        "code", "div", "table", "thead", "tbody", "tr", "th", "td", "abbr", "figure", "figcaption", "details", "summary", "dl",
        "dt", "dd", "pre", "script", "svg", "g", "path", "defs", "use", "clippath", "rect", "image",
    }  # fmt: skip
    assert page.tags.count("script") == 1
    assert not [name for name in page.attributes if name.startswith("on")]
    assert all(link.startswith(("#", "data:")) for link in page.links)
    shown = " ".join(page.texts)
    assert "1337" not in shown  # 7 · 191
    assert all(name in shown for name in HOSTILE)


@pytest.mark.usefixtures("pictureless")
def test_evaluate_writes_nothing_and_its_repr_is_a_table(
    alike: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = verdict(showers(2))
    assert list(tmp_path.iterdir()) == []
    assert found.scores == alike.scores
    assert found.verdict in repr(found)
    assert "auc_high" in repr(found)
    assert found._repr_html_().count("<tr>") == len(repr(found).splitlines()) - 1


def test_one_layout_of_a_figure_serves_all_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    curve = {"cells": np.array([[0.0, 0.3, 1.0], [0.0, 0.5, 1.0]])}
    alone, layouts = plots.png(plots.roc(curve)), []
    solve = ConstrainedLayoutEngine.execute

    def execute(engine: ConstrainedLayoutEngine, figure: Figure) -> None:
        layouts.append(figure)
        solve(engine, figure)

    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", execute)
    figure = plots.roc(curve)
    files = plots.files(figure)
    assert layouts == [figure]
    assert files["png"] == alone
    assert files["svg"].startswith(b"<?xml")
    assert files["pdf"].startswith(b"%PDF")
    assert isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine)


def test_every_figure_can_be_drawn_by_another_process_with_the_settings_of_this_one(
    alike: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = []

    def draw(function: Any, items: Any, **_: Any) -> list[dict[str, bytes]]:
        function, first = pickle.loads(pickle.dumps((function, items[0])))
        pickle.dumps(items)
        with rc_context({"font.size": 3, "lines.linewidth": 9}):
            pixels.append(function(first)["png"])
        pixels.append(plots.png(items[0]()))
        return [{"svg": b"<svg></svg>"} for _ in items]

    monkeypatch.setattr("hepgan.evaluation.report.figures.on_processes", draw)
    alike.write(tmp_path)
    assert pixels[0] == pixels[1]


def test_every_figure_is_on_the_page_and_in_the_folder(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    plots = list((report.parent / "plots").glob("*.png"))
    assert len(plots) == text.count("<figure")
    assert all(plot.read_bytes().startswith(b"\x89PNG") for plot in plots)


def test_scores_json_holds_every_score_with_its_baseline(alike: Evaluation, report: Path) -> None:
    found = json.loads((report.parent / "scores.json").read_text())
    assert found["n_reference"] == found["n_generated"] == 1500
    assert len(found["scores"]) == len(alike.scores)
    metrics = {score["metric"] for score in found["scores"]}
    assert {"auc_low", "auc_high", "fpd", "kpd", "separation", "precision"} <= metrics
    assert all({"value", "error", "baseline"} <= set(score) for score in found["scores"])


def test_a_missing_number_is_null() -> None:
    score = Score("separation", "x", float("inf"), 0.0, 0.0, 10, 10)
    assert as_json([score], [SkippedMetric("fpd", "all", "why")])["scores"][0]["value"] is None


def test_an_empty_report_is_still_a_page(tmp_path: Path) -> None:
    page = write_report(
        tmp_path,
        title="<t>",
        verdicts=[(True, "no")],
        scores=[],
        skipped=[],
        pictures=[],
        provenance={},
    )
    assert "&lt;t&gt;" in page.read_text()


def test_importing_the_package_loads_neither_matplotlib_nor_torch() -> None:
    code = "import sys, hepgan.evaluation; print([m for m in ('matplotlib', 'torch', 'mplhep') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_shows_the_page_without_overflow_or_errors(
    report: Path, tmp_path: Path, width: int
) -> None:
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        needed = "CI" in os.environ and sys.platform == "linux"
        assert not needed, "continuous integration must have a browser: install chromium"
        pytest.skip("chromium is not installed")
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<iframe id="f" src="{report.as_uri()}" style="width:{width}px;height:900px;border:0"></iframe>'
        '<p id="out"></p><script>window.onload = () => { const d = document.getElementById("f").contentDocument;'
        'const b = [...d.querySelectorAll("svg")].filter(s => s.getBoundingClientRect().width < 100);'
        'document.getElementById("out").textContent ='
        " `wide ${d.documentElement.scrollWidth} broken ${b.length} sorted ${order(d)} end`; };"
        "const order = (d) => { const table = d.querySelector('#observables ~ .scroll table');"
        "const heads = [...table.querySelectorAll('thead th')];"
        "const column = heads.findIndex((h) => h.textContent === 'n_sigma');"
        "const values = () => [...table.tBodies[0].rows].map((r) => Number(r.cells[column].dataset.sort));"
        "const sorted = (sign) => values().every((v, i, all) => i === 0 || sign * (v - all[i - 1]) >= 0);"
        "const first = sorted(-1); heads[0].click(); const mixed = sorted(-1); heads[column].click();"
        "const down = sorted(-1); heads[column].click(); return [first, mixed, down, sorted(1)]; };</script>"
    )
    done = subprocess.run(
        [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            "--no-first-run", "--allow-file-access-from-files", "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", frame.as_uri(),
        ],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    found = re.search(r"wide (\d+) broken (\d+) sorted (\S+) end", done.stdout)
    assert found is not None, done.stdout[:500]
    assert int(found[1]) <= width
    assert int(found[2]) == 0
    # the worst first; a click on a title sorts by its column, a second one reverses the order
    assert found[3] == "true,false,true,true"
    assert "CONSOLE" not in done.stderr


def test_polar_images_have_round_edges_and_color_bars_without_overlapping_labels() -> None:
    cells = np.random.default_rng(1).uniform(250, 2000, (10, 3))
    figure = plots.mean_images({REFERENCE: cells}, r_edges=[0, 1, 2, 4], unit="MeV")
    figure.canvas.draw()
    (image, bar) = figure.axes
    assert image.collections[0].get_array().size == 80 * 3
    np.testing.assert_array_equal(
        np.asarray(image.collections[0].get_array()).reshape(3, 10, 8)[..., 5], cells.T
    )
    labels = [label.get_text() for label in bar.get_xticklabels(which="both") if label.get_text()]
    assert (
        {"200", "500", "1,000"} <= set(labels) <= {"100", "200", "500", "1,000", "2,000", "5,000"}
    )


def test_a_condition_without_effect_has_no_significance_and_the_report_is_written(
    tmp_path: Path,
) -> None:
    """Of many small deviates, the largest is expected: its probability would be above 1."""
    assert dependence._corrected(0.3, 50) == 0
    assert dependence._corrected(6.0, 50) > 4
    rng = np.random.default_rng(1)
    schema = Schema({"x": Field((4,))}, {"pdg": Field(dtype="int32"), "energy": Field()})
    reference, generated = (
        ak.Array(
            {
                "x": rng.normal(0, 1, (600, 4)),
                "pdg": rng.choice([211, 2212, -211], 600).astype("i4"),
                "energy": rng.uniform(1, 2, 600),
            }
        )
        for _ in range(2)
    )
    evaluate(reference, generated, schema=schema).write(tmp_path)
    text = (tmp_path / "scores.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=pytest.fail)


def test_numbers_that_json_has_not_are_none() -> None:
    table = {"a": [1.0, math.nan, (math.inf, "x")], "b": {"c": -math.inf, "d": 0}}
    assert page._without_nan(table) == {"a": [1.0, None, [None, "x"]], "b": {"c": None, "d": 0}}
