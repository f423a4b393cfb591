"""The presets at full length: minutes each, so `nox -s slow` runs them. Their short forms are in test_examples."""

import json
import time
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import torch

from hepgan.data.io import reader
from hepgan.evaluation import digit_scores
from hepgan.pipeline import load, run
from hepgan.pipeline.training import read_events

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
FIVE_MINUTES = 300


def auc_and_baseline(folder: Path) -> list[tuple[float, float]]:
    scores = json.loads((folder / "scores.json").read_text())["scores"]
    return [(s["value"], s["baseline"]) for s in scores if s["metric"] in ("auc_low", "auc_high")]


def test_showers_have_the_energies_of_unseen_showers(tmp_path: Path) -> None:
    settings, started = load("showers"), time.process_time()
    run(settings, tmp_path / "out", device=CPU)
    assert time.process_time() - started < FIVE_MINUTES
    unseen = read_events(settings)["test"]
    generated = reader.read(str(tmp_path / "out" / "generated.root"), settings.schema)
    energy = ak.to_numpy(unseen["energy"])
    np.testing.assert_array_equal(ak.to_numpy(generated["energy"]), energy)
    totals = []
    for events in (unseen, generated):
        layers = [ak.to_numpy(events[f"layer_{i}"]).reshape(len(energy), -1) for i in range(3)]
        totals.append(np.stack([layer.sum(1) for layer in layers]))
    response = [total.sum(0) / (1000 * energy) for total in totals]
    assert response[1].mean() == pytest.approx(response[0].mean(), rel=0.01)
    np.testing.assert_allclose(totals[1].mean(1), totals[0].mean(1), rtol=0.05)
    assert np.corrcoef(energy, totals[1].sum(0))[0, 1] > 0.99
    assert len(auc_and_baseline(tmp_path / "out")) == 2


def test_preset_digits_are_recognized_as_digits(tmp_path: Path) -> None:
    started = time.process_time()
    run(load("mnist"), tmp_path / "out", device=CPU)
    assert time.process_time() - started < FIVE_MINUTES
    generated = reader.read(str(tmp_path / "out" / "generated.root"), load("mnist").schema)
    images = ak.to_numpy(generated["image"])
    scores = digit_scores(images)
    assert scores.confidence > 0.85
    assert ((scores.fractions > 0.04) & (scores.fractions < 0.20)).all()
    assert (images[:, :3, :3] < 40).mean() > 0.98
    # It generates the requested digit.
    assert (scores.classes == ak.to_numpy(generated["label"])).mean() > 0.85
