"""Event weights, negative ones too: weighted toys against the unweighted sample that they stand for."""

import math
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import scipy.stats
import uproot

from hepgan.data.io.histograms import write_histograms
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError
from hepgan.evaluation import evaluate, histograms
from hepgan.evaluation.metrics import per_observable, statistics
from hepgan.evaluation.metrics.statistics import Counts
from hepgan.evaluation.observables.standard import Observable
from hepgan.evaluation.sample import build_sample, unweight

X = Observable("x", lambda e: e["x"], "x", "mm")
EDGES = np.concatenate([[-np.inf], np.linspace(-2, 3, 16), [np.inf]])


def tilted(rng: np.random.Generator, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Standard normal events with weights that make them normal about a half, a fifth of them with negative weights."""
    x = rng.normal(size=number)
    signs = np.where(rng.random(number) < 0.2, -1.0, 1.0) / 0.6
    return x, np.exp(0.5 * x - 0.125) * signs


def counts(x: np.ndarray, w: np.ndarray) -> Counts:
    return Counts(np.histogram(x, EDGES, weights=w)[0], np.histogram(x, EDGES, weights=w**2)[0])


def test_weighted_distances_equal_scipys() -> None:
    rng = np.random.default_rng(1)
    x, y, w, v = rng.normal(size=300), rng.normal(size=200), rng.random(300), rng.random(200)
    found = statistics.wasserstein(x, y, (w, v), seed=1)
    assert found.value == pytest.approx(scipy.stats.wasserstein_distance(x, y, w, v))
    repeated = statistics.kolmogorov(np.repeat(x, 2), y, (np.full(600, 0.5), np.ones(200)))
    assert repeated.value == pytest.approx(statistics.kolmogorov(x, y).value)
    assert repeated.p_value is None


def test_chi_square_with_negative_weights_is_uniform_under_the_null() -> None:
    rng = np.random.default_rng(2)
    p_values = []
    for _ in range(1000):
        x, w = tilted(rng, 3000)
        y = rng.normal(0.5, 1, 1500)
        p_values.append(statistics.chi_square(counts(x, w), counts(y, np.ones(1500))).p_value)
    assert scipy.stats.kstest(p_values, "uniform").pvalue > 1e-3


def test_chi_square_of_spectra_with_negative_weights_is_uniform_under_the_null() -> None:
    rng = np.random.default_rng(3)
    p_values = []
    for _ in range(300):
        samples, weights = [], []
        for number in (1500, 1000):
            cells = rng.exponential(1.0, (number, 1)) * rng.exponential(1.0, (number, 20))
            bins = np.digitize(cells, [0.1, 0.3, 1, 3])
            samples.append(np.stack([(bins == b).sum(axis=1) for b in range(5)], 1).astype(float))
            weights.append(np.where(rng.random(number) < 0.2, -1.0, 1.0))
        p_values.append(statistics.clustered_chi_square(*samples, tuple(weights)).p_value)
    assert scipy.stats.kstest(p_values, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("name", ["separation", "kolmogorov", "wasserstein"])
def test_errors_with_negative_weights_have_the_right_coverage(name: str) -> None:
    rng = np.random.default_rng(4)
    found = []
    for seed in range(200):
        x, w = tilted(rng, 4000)
        y = rng.normal(size=2000)
        weights = w, np.ones(2000)
        if name == "separation":
            estimate = statistics.separation(counts(x, w), counts(y, weights[1]), seed=seed)
        elif name == "kolmogorov":
            estimate = statistics.kolmogorov(x, y, weights)
        else:
            estimate = statistics.wasserstein(x, y, weights, seed=seed)
        found.append((estimate.value, estimate.error))
    values, errors = np.array(found).T
    assert ((values - values.mean()) / errors).std() == pytest.approx(1.0, abs=0.17)


def test_baselines_with_negative_weights_agree_with_toys_under_the_null() -> None:
    rng = np.random.default_rng(5)
    rows: list[tuple[float, ...]] = []
    for seed in range(150):
        (x, w), y = tilted(rng, 4000), rng.normal(0.5, 1, 1500)
        weights = w, np.ones(1500)
        one = statistics.separation(counts(x, w), counts(y, weights[1]), seed=seed)
        other = statistics.wasserstein(x, y, weights, seed=seed)
        rows.append((one.value, one.baseline, other.value, other.baseline))
    values = np.array(rows)
    for column in (0, 2):
        error = values[:, column].std() / math.sqrt(150)
        expected = values[:, column].mean()
        assert values[:, column + 1].mean() == pytest.approx(expected, abs=5 * error, rel=0.1)


def test_unweighting_gives_the_weighted_distribution() -> None:
    rng = np.random.default_rng(6)
    x = rng.normal(size=200_000)
    found = unweight(build_sample({"x": x}, {"x": X}, np.exp(0.5 * x)), seed=1)
    assert not found.weighted
    kept = found.values["x"]
    assert kept.mean() == pytest.approx(0.5, abs=4 / math.sqrt(len(kept)))
    assert kept.std() == pytest.approx(1.0, abs=4 / math.sqrt(2 * len(kept)))
    with pytest.raises(DataError, match="negative weights"):
        unweight(build_sample({"x": x[:3]}, {"x": X}, np.array([1.0, 1.0, -0.5])), seed=1)


def test_weighted_correlations_equal_numpys() -> None:
    rng = np.random.default_rng(7)
    values, w = rng.normal(size=(50, 4)) @ rng.normal(size=(4, 4)), rng.random(50)
    covariance = np.cov(values, rowvar=False, aweights=w)
    scale = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(
        per_observable.correlations(values, w), covariance / np.outer(scale, scale), atol=1e-12
    )


def test_histograms_hold_the_weights_and_root_reads_them_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    x, w = tilted(rng, 500)
    cells = Observable("cells", lambda e: e["x"][:, None] * np.ones(3), "cells", spectrum=True)
    found = histograms.compare(
        {"x": rng.normal(size=400)}, {"x": x}, {"x": X, "cells": cells}, weights={"generated": w}
    )
    counted = found["x"][{"source": "generated"}]
    assert counted.sum(flow=True).value == pytest.approx(w.sum())
    assert counted.sum(flow=True).variance == pytest.approx(np.sum(w**2))
    spectrum = found["cells"][{"source": "generated"}].sum(flow=True)
    assert spectrum.value == pytest.approx(3 * w.sum())
    write_histograms(tmp_path / "h.root", found)
    with uproot.open(tmp_path / "h.root") as file:
        for name, histogram in found.items():
            for i, source in enumerate(histogram.axes["source"]):
                read = file[f"{source}/{name}"]
                expected = histogram.view(flow=True)[i]
                np.testing.assert_array_equal(read.values(flow=True), expected["value"])
                np.testing.assert_array_equal(read.variances(flow=True), expected["variance"])
                np.testing.assert_allclose(read.axis().edges(), histogram.axes[1].edges)
                assert read.axis().member("fTitle") == histogram.axes[1].label
                assert read.member("fTsumw2") == pytest.approx(expected["variance"][1:-1].sum())


def test_a_weighted_sample_is_evaluated_and_metrics_of_single_events_are_skipped() -> None:
    rng = np.random.default_rng(9)
    schema = Schema({"x": Field(unit="mm"), "y": Field()})
    x, w = tilted(rng, 4000)
    weighted = ak.Array({"x": x, "y": rng.normal(size=4000), "weight": w})
    plain = {"x": rng.normal(0.5, 1, 2000), "y": rng.normal(size=2000)}
    options = {"seed": 1, "quick": True, "device": "cpu"}
    found = evaluate(weighted, {"plain": ak.Array(plain)}, schema=schema, **options)
    assert not found.distinguishable, found.verdict
    assert any("negative weights" in skip.reason for skip in found.skipped)
    assert {s.metric for s in found.scores} >= {"separation", "wasserstein", "correlation"}
    ignored = evaluate(weighted[["x", "y"]], {"plain": ak.Array(plain)}, schema=schema, **options)
    assert ignored.samples["plain"].shown_by == ("x",)
