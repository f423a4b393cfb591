"""The trained GANs that come with the package: small, usable right after installation, and as good as their recorded scores."""

from pathlib import Path

import numpy as np
import pytest
import uproot
from click.testing import CliRunner

from hepgan import GAN, load_run, read
from hepgan.cli import main
from hepgan.evaluation.metrics import digits, fpd
from hepgan.gan.pretrained import FOLDER, folders, scores
from hepgan.pipeline import preset_scores
from hepgan.pipeline.training import read_events
from hepgan.processors import embed
from hepgan.processors.model_cache import load_cached

LAYERS = ("layer_0", "layer_1", "layer_2")


def test_pretrained_gans_are_at_most_eight_megabytes_in_total() -> None:
    assert set(folders()) == {"mnist", "showers", "showers-fast"}
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 8e6


def test_pretrained_showers_have_the_requested_energy_and_response(tmp_path: Path) -> None:
    out = tmp_path / "out.root"
    arguments = ["generate", "showers", "-n", "500", "--condition", "energy=50", "--seed", "1"]
    result = CliRunner().invoke(main, [*arguments, "-o", str(out)])
    assert result.exit_code == 0, result.output
    with uproot.open(out) as file:
        cells = file["showers"].arrays([*LAYERS, "energy"], library="np")
    assert set(cells["energy"]) == {50.0}
    generated = sum(cells[layer].reshape(500, -1).sum(1, dtype="f8") for layer in LAYERS) / 50_000
    settings = load_run("showers")
    real = read(list(settings.data.files), settings.schema, cut="(energy > 46) & (energy < 54)")
    sums = sum(np.asarray(real[layer]).reshape(len(real), -1).sum(1, dtype="f8") for layer in LAYERS)  # fmt: skip
    response = sums / (1000 * np.asarray(real["energy"]))
    assert generated.mean() == pytest.approx(response.mean(), rel=0.01)
    # A few showers that leak determine the standard deviation.
    widths = [np.diff(np.quantile(x, [0.16, 0.84])) for x in (generated, response)]
    assert widths[0] == pytest.approx(widths[1], rel=0.25)
    for layer in LAYERS:  # weights are rounded to be packed
        occupancies = [(np.asarray(events[layer]) > 0.01).mean() for events in (real, cells)]
        assert occupancies[1] == pytest.approx(occupancies[0], rel=0.05)


def test_pretrained_digits_are_as_good_as_their_recorded_scores() -> None:
    gan = GAN.load("mnist")
    assert gan.tree == "mnist"
    events = read_events(load_run("mnist"))
    images = [events["train"]["image"][:1965], events["test"]["image"], gan.sample(1965, seed=9)["image"]]  # fmt: skip
    other, real, generated = (digits.digit_scores(np.asarray(image)) for image in images)
    recorded = {score["metric"]: score["value"] for score in scores("mnist")["scores"]}
    assert generated.confidence == pytest.approx(recorded["digit_confidence"], abs=0.01)
    baseline = fpd.frechet_distance(real.features, other.features)
    assert fpd.frechet_distance(real.features, generated.features) < 2 * baseline


def test_presets_are_listed_with_their_scores() -> None:
    text = CliRunner().invoke(main, ["presets"]).output
    recorded = {score["metric"]: score["value"] for score in scores("showers")["scores"]}
    assert f"hepgan generate showers: AUC of cells {recorded['auc_low']:.3g}" in text
    best = preset_scores()["mnist"]["scores"]["digit_confidence"]
    assert f"confidence {best['mean']:.3g} ± {best['sd']:.3g} ({best['baseline']:.3g})" in text


def test_processors_load_pretrained_gans_by_name() -> None:
    embedded = embed("mnist")
    assert set(embedded.files) == {"gan.json", "generator.safetensors"}
    generated = [
        load_cached(model, "cpu").sample(3, seed=1)["image"] for model in ("mnist", embedded)
    ]
    np.testing.assert_array_equal(*generated)


def test_a_folder_takes_precedence_over_a_pretrained_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "showers").mkdir()
    result = CliRunner().invoke(
        main, ["generate", "showers", "-n", "1", "--seed", "1", "-o", "a.root"]
    )
    assert "does not exist; give the folder of a finished run" in result.output
