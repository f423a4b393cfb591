"""``hepgan evaluate`` of ROOT files, ours or not: bad input, weights, names, and known faults in real showers."""

import hashlib
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
from hepgan.evaluation.report.evaluation import Evaluation, SampleEvaluation, evaluate_sample
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
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Evaluation]:
    """Evaluates generated columns against good ones, without pictures."""
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
    judged: Callable[..., Evaluation], tmp_path: Path
) -> None:
    found = judged({n: c for n, c in showers(2).items() if n != "layer_1"})
    assert "no branch 'layer_1'" in reasons(found)["layer_1"]
    assert any(score.observable == "layer_0.energy" for score in found.scores)
    assert "no branch &#x27;layer_1&#x27;" in (tmp_path / "out" / "report.html").read_text()


def test_a_different_shape_is_named_and_the_rest_is_evaluated(
    judged: Callable[..., Evaluation],
) -> None:
    columns = showers(2)
    columns["layer_1"] = columns["layer_1"][:, :, :3].copy()
    found = judged(columns)
    assert "6 values" in reasons(found)["layer_1"]
    assert not found.distinguishable


def test_the_report_names_the_files_and_their_hashes(
    judged: Callable[..., Evaluation], tmp_path: Path
) -> None:
    judged(showers(2))
    page = tmp_path / "out" / "report.html"
    for name in ("good.root", "made.root"):
        digest = hashlib.sha256((page.parent.parent / name).read_bytes()).hexdigest()
        assert digest in page.read_text()


def test_trees_may_have_different_names(judged: Callable[..., Evaluation]) -> None:
    found = judged(showers(2), tree="Events")
    assert not found.distinguishable
    assert not any("left out" in skip.reason for skip in found.skipped)


@pytest.mark.parametrize(
    ("field", "factor", "said"),
    [
        ("layer_0", 1e-3, "in GeV instead of MeV"),
        ("layer_1", 1e3, "in keV instead of MeV"),
        ("energy", 1e3, "in MeV instead of GeV"),
    ],
)
def test_a_wrong_unit_is_named(
    judged: Callable[..., Evaluation], field: str, factor: float, said: str
) -> None:
    columns = showers(2)
    columns[field] = (columns[field] * factor).astype("f4")
    found = judged(columns)
    assert said in reasons(found)[field]
    assert found.distinguishable


def test_a_field_of_another_magnitude_is_not_mistaken_for_another_unit(
    judged: Callable[..., Evaluation],
) -> None:
    columns = showers(2)
    columns["layer_0"] = (columns["layer_0"] * 30).astype("f4")
    assert "layer_0" not in reasons(judged(columns))


def test_nan_is_named_and_its_events_are_left_out(judged: Callable[..., Evaluation]) -> None:
    columns = showers(2)
    columns["layer_0"][7, 1, 1] = np.nan
    columns["energy"][9] = np.inf
    found = judged(columns)
    assert "in 1 of 400 events, first in entry 7" in reasons(found)["layer_0"]
    assert "first in entry 9" in reasons(found)["energy"]
    assert {score.n_generated for score in found.scores} == {398}


def test_too_few_events_give_skipped_metrics_and_no_verdict(
    judged: Callable[..., Evaluation],
) -> None:
    found = judged({n: c[:20] for n, c in showers(2).items()})
    assert found.scores == []
    assert "could not be compared" in found.verdict
    assert "there are 400 and 20" in reasons(found)["E_tot"]


def test_weights_are_expressions_of_branches(
    judged: Callable[..., Evaluation], tmp_path: Path
) -> None:
    columns = showers(2, 2000)
    # Half of the energies above 50 GeV are given twice the weight that undoes it.
    kept = (columns["energy"] < 50) | (np.arange(2000) % 2 == 0)
    columns = {n: c[kept] for n, c in columns.items()}
    found = judged(columns, weights=("w", "1 + (energy >= 50)"))
    assert not found.distinguishable, found.verdict
    with uproot.open(tmp_path / "out" / "histograms.root") as file:
        total = file["reference/E_inc"].values(flow=True).sum()
    assert total == pytest.approx(800)


def test_the_same_sample_without_its_weights_is_distinguishable(
    judged: Callable[..., Evaluation],
) -> None:
    columns = showers(2, 2000)
    kept = (columns["energy"] < 50) | (np.arange(2000) % 2 == 0)
    found = judged({n: c[kept] for n, c in columns.items()})
    assert "E_inc" in found.samples["made"].shown_by


def test_a_weight_with_an_unknown_branch_raises(judged: Callable[..., Evaluation]) -> None:
    with pytest.raises(DataError, match="no branch 'nothere'"):
        judged(showers(2), weights=(None, "2 * nothere"))


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


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_faults_of_real_showers_are_named_and_real_ones_are_indistinguishable(seed: int) -> None:
    preset = library.load("showers")
    files = preset.data.files
    sample = histograms.to_arrays(reader.read(files, reader.resolve(files, preset.schema)))
    order = np.random.default_rng(seed).permutation(len(sample["energy"]))
    reference, other = ({n: c[rows] for n, c in sample.items()} for rows in np.split(order, 2))
    observables = observables_for(preset.schema, preset.geometry)

    def judge(generated: Columns) -> SampleEvaluation:
        filled = histograms.compare(reference, generated, observables)
        first, second = (build_sample(events, observables) for events in (reference, generated))
        plan = compute.MetricContext(first, second, observables, filled, "generated", seed, True)
        return evaluate_sample(compute.compute_metrics(plan), "generated")

    assert not judge(other).distinguishable
    assert judge(scaled(other)).shown_by[0] == "E_tot_over_E_inc"
    for layer in preset.schema.fields:
        broken = judge(shuffled(layer, other)).shown_by
        assert "E_tot_over_E_inc" in broken[:3]
        assert f"{layer}.fraction" in broken
        row = preset.schema.fields[layer].shape[0] // 2
        assert f"{layer}.spectrum" in judge(dead(layer, row, other)).shown_by[:5]


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
