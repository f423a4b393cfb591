"""``hepgan evaluate`` of any ROOT files: bad input, weights, names, and known faults in real showers."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
import uproot

from hepgan import pipeline as library
from hepgan.cli.evaluate import _names
from hepgan.data.io import reader
from hepgan.errors import DataError
from hepgan.evaluation import histograms, observables_for
from hepgan.evaluation.metrics import compute
from hepgan.evaluation.metrics.scores import MetricResults
from hepgan.evaluation.metrics.verdict import SampleEvaluation, evaluate_sample
from hepgan.evaluation.report.evaluation import Evaluation
from hepgan.evaluation.sample import build_sample

Columns = dict[str, np.ndarray]

CONFIG = """
seed = 1
[data]
files = ["x.root"]
[schema]
incident = "energy"
[schema.fields.layer_0]
shape = [3, 4]
unit = "MeV"
[schema.fields.layer_1]
shape = [2, 4]
unit = "MeV"
[schema.conditions.energy]
unit = "GeV"
[encoding]
steps = []
[encoding.conditions.energy]
range = [1.0, 100.0]
[gan]
latent = [4]
generator = "DENSE|N|LINEAR"
discriminator = "DENSE|1|LINEAR"
[train]
steps = 1
batch_size = 8
generator = { learning_rate = 1e-4 }
discriminator = { learning_rate = 1e-4 }
"""


def showers(seed: int, number: int = 400) -> Columns:
    rng = np.random.default_rng(seed)
    energy = rng.uniform(1, 100, number)
    cells = rng.gamma(2.0, 1.0, (number, 20))
    cells *= (energy / cells.sum(axis=1) * 995)[:, None]
    return {
        "energy": energy.astype("f4"),
        "layer_0": cells[:, :12].reshape(-1, 3, 4).astype("f4"),
        "layer_1": cells[:, 12:].reshape(-1, 2, 4).astype("f4"),
    }


def write(path: Path, columns: Columns, tree: str = "showers") -> str:
    with uproot.recreate(path) as file:
        types = {
            n: np.dtype((c.dtype, c.shape[1:])) if c.ndim > 1 else c.dtype
            for n, c in columns.items()
        }
        file.mktree(tree, types)
        file[tree].extend(columns)
    return str(path)


@pytest.fixture
def evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Evaluation]:
    """Evaluates generated columns against good ones, without figures."""
    monkeypatch.setattr("hepgan.evaluation.report.figures.draw", lambda *_args, **_options: [])
    config = tmp_path / "run.toml"
    config.write_text(CONFIG)
    reference = write(tmp_path / "good.root", {**showers(1), "w": np.full(400, 2.0)})

    def evaluate(columns: Columns, tree: str = "showers", **options: object) -> Evaluation:
        generated = {"made": write(tmp_path / "made.root", columns, tree)}
        return library.evaluate(
            reference, generated, tmp_path / "out",
            seed=1, quick=True, config=str(config), device="cpu", **options,
        )  # fmt: skip

    return evaluate


def reasons(verdict: Evaluation) -> dict[str, str]:
    return {skip.observable: skip.reason for skip in verdict.skipped}


def test_a_missing_branch_is_named_and_the_rest_is_evaluated(
    evaluated: Callable[..., Evaluation], tmp_path: Path
) -> None:
    evaluation = evaluated({n: c for n, c in showers(2).items() if n != "layer_1"})
    assert "no branch 'layer_1'" in reasons(evaluation)["layer_1"]
    assert any(score.observable == "layer_0.energy" for score in evaluation.scores)
    assert "no branch &#39;layer_1&#39;" in (tmp_path / "out" / "report.html").read_text()


def test_a_different_shape_is_named_and_the_rest_is_evaluated(
    evaluated: Callable[..., Evaluation],
) -> None:
    columns = showers(2)
    columns["layer_1"] = columns["layer_1"][:, :, :3].copy()
    evaluation = evaluated(columns)
    assert "6 values" in reasons(evaluation)["layer_1"]
    assert not evaluation.distinguishable


def test_the_report_names_the_files_and_their_hashes(
    evaluated: Callable[..., Evaluation], tmp_path: Path
) -> None:
    evaluated(showers(2))
    page = tmp_path / "out" / "report.html"
    for name in ("good.root", "made.root"):
        digest = hashlib.sha256((page.parent.parent / name).read_bytes()).hexdigest()
        assert digest in page.read_text()


def test_trees_may_have_different_names(evaluated: Callable[..., Evaluation]) -> None:
    evaluation = evaluated(showers(2), tree="Events")
    assert not evaluation.distinguishable
    assert not any("left out" in skip.reason for skip in evaluation.skipped)


@pytest.mark.parametrize(
    ("field", "factor", "said"),
    [
        ("layer_0", 1e-3, "in GeV instead of MeV"),
        ("layer_1", 1e3, "in keV instead of MeV"),
        ("energy", 1e3, "in MeV instead of GeV"),
    ],
)
def test_a_wrong_unit_is_named(
    evaluated: Callable[..., Evaluation], field: str, factor: float, said: str
) -> None:
    columns = showers(2)
    columns[field] = (columns[field] * factor).astype("f4")
    evaluation = evaluated(columns)
    assert said in reasons(evaluation)[field]
    assert evaluation.distinguishable


def test_a_field_of_another_magnitude_is_not_mistaken_for_another_unit(
    evaluated: Callable[..., Evaluation],
) -> None:
    columns = showers(2)
    columns["layer_0"] = (columns["layer_0"] * 30).astype("f4")
    assert "layer_0" not in reasons(evaluated(columns))


def test_nan_is_named_and_its_events_are_left_out(evaluated: Callable[..., Evaluation]) -> None:
    columns = showers(2)
    columns["layer_0"][7, 1, 1] = np.nan
    columns["energy"][9] = np.inf
    evaluation = evaluated(columns)
    assert "in 1 of 400 events, first in entry 7" in reasons(evaluation)["layer_0"]
    assert "first in entry 9" in reasons(evaluation)["energy"]
    assert {score.n_generated for score in evaluation.scores} == {398}


def test_too_few_events_give_skipped_metrics_and_no_verdict(
    evaluated: Callable[..., Evaluation],
) -> None:
    evaluation = evaluated({n: c[:20] for n, c in showers(2).items()})
    assert evaluation.scores == ()
    assert "could not be compared" in evaluation.verdict
    assert "there are 400 and 20" in reasons(evaluation)["E_tot"]


def test_weights_are_expressions_of_branches(
    evaluated: Callable[..., Evaluation], tmp_path: Path
) -> None:
    columns = showers(2, 2000)
    # Half of the events above 50 GeV are dropped, and the others get twice the weight to compensate.
    selected = (columns["energy"] < 50) | (np.arange(2000) % 2 == 0)
    columns = {n: c[selected] for n, c in columns.items()}
    evaluation = evaluated(columns, weights=("w", "1 + (energy >= 50)"))
    assert not evaluation.distinguishable, evaluation.verdict
    with uproot.open(tmp_path / "out" / "histograms.root") as file:
        total = file["reference/E_inc"].values(flow=True).sum()
    assert total == pytest.approx(800)


def test_the_same_sample_without_its_weights_is_distinguishable(
    evaluated: Callable[..., Evaluation],
) -> None:
    columns = showers(2, 2000)
    selected = (columns["energy"] < 50) | (np.arange(2000) % 2 == 0)
    evaluation = evaluated({n: c[selected] for n, c in columns.items()})
    assert "E_inc" in evaluation.samples["made"].shown_by


def test_a_weight_with_an_unknown_branch_raises(evaluated: Callable[..., Evaluation]) -> None:
    with pytest.raises(DataError, match="no branch 'nothere'"):
        evaluated(showers(2), weights=(None, "2 * nothere"))


def test_samples_are_named_by_the_differing_part_of_their_paths() -> None:
    assert list(_names(("a/x.root", "b/y.root"))) == ["x", "y"]
    assert list(_names(("a/x.root", "b/x.root"))) == ["a/x", "b/x"]
    assert list(_names(("a/x.root:one", "a/x.root:two"))) == ["one", "two"]
    assert list(_names(("a/reference.root",))) == ["a/reference"]
    assert list(_names(("reference.root",))) == ["generated reference"]
    with pytest.raises(click.UsageError, match="twice"):
        _names(("x.root", "x.root"))


def scaled(sample: Columns) -> Columns:
    return {n: c if n == "energy" else c * np.float32(1.01) for n, c in sample.items()}


def shuffled(layer: str, sample: Columns) -> Columns:
    order = np.random.default_rng(0).permutation(len(sample[layer]))
    return {**sample, layer: sample[layer][order]}


def dead(layer: str, row: int, sample: Columns) -> Columns:
    cells = sample[layer].copy()
    cells[:, row] = 0
    return {**sample, layer: cells}


def test_copies_of_a_training_file_are_named_and_slices_are_those_that_are_chosen(
    evaluated: Callable[..., Evaluation], tmp_path: Path
) -> None:
    memorized = showers(7)
    training = write(tmp_path / "training.root", memorized)
    found = evaluated(memorized, training=training, by=["energy=1,50,100"])
    (score,) = (score for score in found.scores if score.metric == "copies")
    assert score.value == 1
    assert "100 % of the events are close to a training event (1 % expected)" in found.verdict
    labels = {one.slice.label for one in found.slices["made"]}
    assert labels == {"energy = 1 … 50 GeV", "energy = 50 … 100 GeV"}
    written = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert written["verdicts"]["made"]["distinguishable"] is True
    (overall,) = (one for one in found.worth["made"] if one.observable == "all")
    assert overall.amplification is not None


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_faults_of_real_showers_are_named_and_real_ones_are_indistinguishable(seed: int) -> None:
    preset = library.load("showers")
    files = preset.data.files
    sample = histograms.to_arrays(reader.read(files, reader.resolve(files, preset.schema)))
    order = np.random.default_rng(seed).permutation(len(sample["energy"]))
    reference, other = ({n: c[rows] for n, c in sample.items()} for rows in np.split(order, 2))
    observables = observables_for(preset.schema, preset.geometry)

    def evaluate_generated(generated: Columns) -> SampleEvaluation:
        filled = histograms.compare(reference, generated, observables)
        first, second = (build_sample(events, observables) for events in (reference, generated))
        context = compute.MetricContext(first, second, observables, filled, "generated", seed, True)
        return evaluate_sample(compute.compute_metrics(context), "generated")

    assert not evaluate_generated(other).distinguishable
    assert evaluate_generated(scaled(other)).shown_by[0] == "E_tot_over_E_inc"
    for layer in preset.schema.fields:
        broken = evaluate_generated(shuffled(layer, other)).shown_by
        assert "E_tot_over_E_inc" in broken[:3]
        assert f"{layer}.fraction" in broken
        row = preset.schema.fields[layer].shape[0] // 2
        assert f"{layer}.spectrum" in evaluate_generated(dead(layer, row, other)).shown_by[:5]


def test_the_provenance_names_the_preset_that_gave_schema_and_geometry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hepgan.evaluation.report.figures.draw", lambda *_args, **_options: [])
    monkeypatch.setattr(
        "hepgan.evaluation.metrics.compute.compute_metrics",
        lambda *_args, **_options: MetricResults([], [], {}),
    )
    images = np.random.default_rng(1).integers(0, 256, (50, 28, 28)).astype("u1")
    columns = {"image": images, "label": np.zeros(50, "u1")}
    path = write(tmp_path / "images.root", columns, "mnist")
    library.evaluate(path, {"other": path}, tmp_path / "out", seed=1, quick=True, device="cpu")
    assert "the preset dcgan" in (tmp_path / "out" / "report.html").read_text()
