"""Custom observables and metrics."""

import json
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import torch

import hepgan
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError, RunError
from hepgan.evaluation.metrics import scores
from hepgan.evaluation.metrics.statistics import Estimate
from hepgan.evaluation.observables import base
from hepgan.evaluation.observables.standard import observables_for
from hepgan.evaluation.sample import Sample
from hepgan.pipeline import load, prepare

SCHEMA = Schema({"x": Field(unit="mm"), "y": Field()})


def sample(seed: int) -> ak.Array:
    rng = np.random.default_rng(seed)
    return ak.Array({"x": rng.normal(size=400), "y": rng.normal(size=400)})


def test_a_custom_observable_and_metric_are_in_scores_histograms_and_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hepgan.evaluation.report.figures.draw", lambda *_args, **_options: [])

    @hepgan.register_observable("radius", fields=["x", "y"], unit="mm")
    def radius(events):
        return (events["x"] ** 2 + events["y"] ** 2) ** 0.5

    @hepgan.register_metric("mean_radius", label="<mean> radius")
    def mean_radius(reference: Sample, generated: Sample, *, seed: int) -> Estimate:
        return Estimate(float(generated.values["radius"].mean()), 0.05, 1.25, 0.05)

    try:
        evaluation = hepgan.evaluate(sample(1), sample(2), schema=SCHEMA, quick=True, device="cpu")
        page = evaluation.write(tmp_path).read_text()
        written = json.loads((tmp_path / "scores.json").read_text())["scores"]
    finally:
        del base.REGISTERED["radius"], scores.REGISTERED["mean_radius"]
    assert any(s.observable == "radius" and s.metric == "separation" for s in evaluation.scores)
    assert evaluation.histograms["radius"].axes.name == ("source", "radius")
    own = next(s for s in written if s["metric"] == "mean_radius")
    assert own["value"] == pytest.approx(np.sqrt(np.pi / 2), abs=0.15)  # Rayleigh distribution
    assert "&lt;mean&gt; radius" in page


def test_a_custom_observable_is_used_only_for_schemas_with_its_fields() -> None:
    hepgan.register_observable("z2", fields=["z"])(lambda events: events["z"] ** 2)
    try:
        assert "z2" not in observables_for(SCHEMA)
        assert "z2" in observables_for(Schema({"z": Field()}))
    finally:
        del base.REGISTERED["z2"]


def test_evaluate_computes_only_the_metrics_and_observables_asked_for() -> None:
    options = {"schema": SCHEMA, "device": "cpu"}
    evaluation = hepgan.evaluate(
        sample(1), sample(2), metrics=["kolmogorov", "auc_high"], observables=["y"], **options
    )
    computed = {(s.metric, s.observable) for s in evaluation.scores}
    assert computed == {("kolmogorov", "y"), ("auc_high", "all")}
    assert list(evaluation.histograms) == ["y"]
    evaluation = hepgan.evaluate(sample(1), sample(2), metrics=["wasserstein"], **options)
    assert {s.observable for s in evaluation.scores} == {"x", "y"}
    assert "generated was not tested" in evaluation.verdict
    with pytest.raises(DataError, match="unknown metric 'kolmogorof'; did you mean 'kolmogorov'"):
        hepgan.evaluate(sample(1), sample(2), metrics=["kolmogorof"], **options)
    with pytest.raises(DataError, match="no observable 'yy'; did you mean 'y'"):
        hepgan.evaluate(sample(1), sample(2), observables=["yy"], **options)


def test_an_observable_whose_field_is_missing_is_listed_as_skipped() -> None:
    evaluation = hepgan.evaluate(
        sample(1), sample(2)[["x"]], schema=SCHEMA, observables=["x", "y"],
        metrics=["chi_square"], device="cpu",
    )  # fmt: skip
    assert {s.observable for s in evaluation.scores} == {"x"}
    assert ("y", "left out: a sample lacks its fields") in {
        (skip.observable, skip.reason) for skip in evaluation.skipped
    }
    with pytest.raises(DataError, match="lack the fields of the observables y"):
        hepgan.evaluate(sample(1), sample(2)[["x"]], schema=SCHEMA, observables=["y"])


def test_a_metric_without_error_and_baseline_raises_with_its_name() -> None:
    hepgan.register_metric("bare")(lambda reference, generated, *, seed: 3.0)
    try:
        with pytest.raises(RunError, match="the metric 'bare' returned 3.0; return a hepgan.Est"):
            hepgan.evaluate(sample(1), sample(2), schema=SCHEMA, metrics=["bare"])
    finally:
        del scores.REGISTERED["bare"]


def test_an_observable_of_the_wrong_shape_raises_with_its_name() -> None:
    hepgan.register_observable("pair", fields=["x"])(lambda events: events["x"][:, None])
    try:
        with pytest.raises(RunError, match=r"'pair' returned the shape \(400, 1\) for 400 events"):
            hepgan.evaluate(sample(1), sample(2), schema=SCHEMA)
    finally:
        del base.REGISTERED["pair"]


def test_a_discriminator_needs_observables_that_return_tensors(tiny_run: Path) -> None:
    hepgan.register_observable("twice", fields=["a"])(lambda events: 2 * np.asarray(events["a"]))
    try:
        run = load(tiny_run, {"gan.discriminator_input": "observables"})
        with pytest.raises(RunError, match="'twice' returned ndarray of shape .* for tensors of"):
            prepare(run, device=torch.device("cpu"))
    finally:
        del base.REGISTERED["twice"]


def test_registering_a_name_twice_raises() -> None:
    with pytest.raises(DataError, match="'fpd' already exists"):
        hepgan.register_metric("fpd")(lambda reference, generated, *, seed: Estimate(0, 0, 0, 0))
