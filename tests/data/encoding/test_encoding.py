"""The encoding against what it promises: the way back, normal coordinates, sums by construction."""

import dataclasses
import math
from typing import Any

import awkward as ak
import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_encodings import (
    COLUMNS,
    COPULA,
    ENERGY,
    FRACTIONS,
    LOG,
    SHARES,
    SHOWERS,
    SUMS,
    THRESHOLD,
    columns,
    fit,
    showers,
)

from hepgan.data.encoding import copula
from hepgan.data.encoding.conditions import ConditionScale
from hepgan.data.encoding.encoding import Encoding, EncodingSettings
from hepgan.data.schema import Schema
from hepgan.errors import CheckpointError, DataError, RunError


def assert_same(decoded: ak.Array, events: ak.Array, names: list[str], rtol: float = 1e-4) -> None:
    for name in names:
        np.testing.assert_allclose(
            ak.to_numpy(decoded[name]), ak.to_numpy(events[name]), rtol=rtol, atol=1e-5
        )


@pytest.mark.parametrize(
    "steps",
    [
        [{"step": "scale"}],
        [{"step": "scale", "range": [0.0, 100.0]}],
        [{"step": "standardize"}],
        [{"step": "standardize", "per_column": False}],
        [{"step": "log", "threshold": 0.001}],
        [{"step": "logit", "fields": ["b"]}, {"step": "standardize"}],
        [{"step": "robust_standardize"}],
        [{"step": "power", "exponent": 0.3}],
        [{"step": "threshold", "threshold": 0.001}],
        [{"step": "zero_noise"}],
        [{"step": "total_fractions"}],
        [{"step": "marginals"}],
        [{"step": "marginals", "knots": 6}],
        [{"step": "whiten"}],
        [{"step": "copula"}],
        [{"step": "log", "threshold": 0.001, "fields": ["a"]}, {"step": "copula"}],
    ],
    ids=str,
)
def test_decode_undoes_encode(steps: list[dict[str, Any]]) -> None:
    events = columns()
    encoding = fit(events, COLUMNS, *steps)
    assert_same(encoding.decode(*encoding.encode(events, seed=2)), events, ["a", "b"])


ROBUST = {"step": "robust_standardize"}


@pytest.mark.parametrize(
    "steps",
    [
        FRACTIONS[:2],
        FRACTIONS[:3],
        FRACTIONS,
        [*FRACTIONS, SHARES, ROBUST],
        [*FRACTIONS, {"step": "power", "exponent": 0.5}, {"step": "standardize"}],
        [FRACTIONS[0], FRACTIONS[2]],
        [SUMS],
        [SUMS, LOG],
        [SUMS, LOG, {"step": "standardize"}],
        [SUMS, LOG, COPULA],
        [
            SUMS,
            LOG,
            COPULA | {"condition_on_first": ["appended"]},
            {"step": "regress", "condition": "energy"},
        ],
        [LOG, COPULA],
    ],
    ids=str,
)
def test_showers_with_empty_layers_round_trip(steps: list[dict[str, Any]]) -> None:
    events = showers()
    encoding = fit(events, SHOWERS, *steps, **ENERGY)
    decoded = encoding.decode(*encoding.encode(events, seed=2))
    assert_same(decoded, events, ["front", "back", "energy"], rtol=1e-3)
    for name in ("front", "back"):
        np.testing.assert_array_equal(
            ak.to_numpy(decoded[name]) > 0, ak.to_numpy(events[name]) > THRESHOLD
        )


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                {"step": "standardize"},
                {"step": "whiten"},
                {"step": "marginals"},
                {"step": "scale", "clip": False},
                {"step": "robust_standardize"},
                {"step": "power", "exponent": 0.7},
                {"step": "zero_noise"},
            ]
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 2**31),
)
def test_any_chain_of_steps_round_trips(steps: list[dict[str, Any]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    events = ak.zip(
        {"a": rng.normal(5, 2, 200).astype("f4"), "b": rng.normal(0, 1, (200, 2)).astype("f4")},
        depth_limit=1,
    )
    encoding = fit(events, COLUMNS, *steps)
    assert_same(encoding.decode(*encoding.encode(events, seed=2)), events, ["a", "b"], rtol=2e-3)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([FRACTIONS[1:2], FRACTIONS[1:3], FRACTIONS[1:], FRACTIONS[2:]]),
    st.lists(st.sampled_from([ROBUST, {"step": "standardize"}, {"step": "whiten"}]), max_size=2),
    st.integers(0, 2**31),
    st.floats(0, 1),
)
def test_any_chain_of_fractions_round_trips_showers(
    first: list[dict[str, Any]], then: list[dict[str, Any]], seed: int, empty: float
) -> None:
    """Whole events may be empty. Energies come back to float32 of the largest of all."""
    events = showers(60, seed)
    dark = np.random.default_rng(seed).random(60) < empty
    for name in ("front", "back"):
        cells = ak.to_numpy(events[name]).copy()
        cells[dark] = 0
        cells[cells < THRESHOLD] = 0
        events[name] = cells
    encoding = fit(events, SHOWERS, *first, *then, **ENERGY)
    decoded = encoding.decode(*encoding.encode(events, seed=2))
    for name in ("front", "back"):
        expected = ak.to_numpy(events[name])
        tolerance = 1e-5 * expected + 1e-5 * max(1, expected.max())
        assert (np.abs(ak.to_numpy(decoded[name]) - expected) <= tolerance).all()


def test_fractions_equal_layer_energies_over_their_sums() -> None:
    events = showers()
    x, _ = fit(events, SHOWERS, *FRACTIONS[1:], **ENERGY).encode(events, seed=1)
    front, back = ak.to_numpy(events["front"]).sum((1, 2)), ak.to_numpy(events["back"]).sum(1)
    total, incident = front + back, 1000 * ak.to_numpy(events["energy"])
    expected = np.stack([front / total, back / total, total / incident], 1)
    np.testing.assert_allclose(x[:, 10:], expected, rtol=1e-5)
    np.testing.assert_allclose(x[:, :6].sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(x[:, 6:10].sum(1), back > 0, rtol=1e-5)


def test_decoded_fractions_add_up_to_the_decoded_sums() -> None:
    encoding = fit(showers(), SHOWERS, *FRACTIONS[1:], **ENERGY)
    generated = torch.rand(300, encoding.features, generator=torch.Generator().manual_seed(1)) - 0.2
    energy = np.linspace(1, 100, 300)
    decoded = encoding.decode(generated, encoding.encode_conditions({"energy": energy}))
    total = ak.to_numpy(decoded["front"]).sum((1, 2)) + ak.to_numpy(decoded["back"]).sum(1)
    nonzero = (
        (generated[:, :6] > 0).any(1)
        & (generated[:, 6:10] > 0).any(1)
        & (generated[:, 10:12] > 0).any(1)
    )
    expected = np.clip(generated[:, 12].numpy(), 0, None) * 1000 * energy
    np.testing.assert_allclose(total[nonzero.numpy()], expected[nonzero.numpy()], rtol=1e-5)


def test_robust_scale_equals_scipys() -> None:
    events = columns()
    x, _ = fit(events, COLUMNS, {"step": "robust_standardize"}).encode(events, seed=1)
    values = ak.to_numpy(events["a"])
    width = scipy.stats.iqr(values, scale="normal")
    np.testing.assert_allclose(x[:, 0], (values - np.median(values)) / width, rtol=1e-5, atol=1e-6)


def test_noise_added_to_constant_columns_is_removed_by_decoding() -> None:
    pixels = np.zeros((400, 4), "f4")
    pixels[:, 1], pixels[:, 2] = 255, np.arange(400)
    schema = Schema.from_table({"fields": {"image": {"shape": [4]}}})
    events = ak.zip({"image": pixels}, depth_limit=1)
    encoding = fit(events, schema, {"step": "zero_noise", "width": 0.01})
    x, c = encoding.encode(events, seed=1)
    noise = (x - torch.from_numpy(pixels)).numpy()[:, [0, 1, 3]]
    assert scipy.stats.kstest(noise[:, 0], "uniform", (-0.005, 0.01)).pvalue > 1e-3
    assert (noise.std(0) > 0.002).all()
    np.testing.assert_array_equal(x[:, 2], pixels[:, 2])
    np.testing.assert_array_equal(ak.to_numpy(encoding.decode(x, c)["image"]), pixels)
    other = ak.zip({"image": pixels + np.float32(1)}, depth_limit=1)
    assert_same(encoding.decode(*encoding.encode(other, seed=1)), other, ["image"])


STREAMED = [
    [{"step": "scale"}],
    [{"step": "standardize"}],
    [{"step": "power", "exponent": 0.5}, {"step": "standardize", "per_column": False}],
    [{"step": "zero_noise"}, {"step": "scale"}, {"step": "standardize"}],
    [{"step": "robust_standardize"}, {"step": "whiten"}],
    [{"step": "copula"}],
]


@pytest.mark.parametrize("steps", STREAMED, ids=str)
@pytest.mark.parametrize("size", [1, 97, 800])
def test_fitting_a_stream_equals_fitting_its_events(steps: list[dict[str, Any]], size: int) -> None:
    events, passes = columns(), []

    def chunks() -> list[ak.Array]:
        passes.append(1)
        return [events[i : i + size] for i in range(0, len(events), size)]

    chain = EncodingSettings(tuple(steps))
    whole = Encoding.fit(events, COLUMNS, chain, seed=1)
    streamed = Encoding.fit_stream(chunks, COLUMNS, chain, seed=1)
    for a, b in zip(whole.pack()[1].values(), streamed.pack()[1].values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    adding = sum(s["step"] in ("scale", "standardize", "zero_noise") for s in steps)
    assert len(passes) == 1 + adding


def test_streams_use_all_events_for_ranges_and_an_even_sample_for_ranks() -> None:
    events = columns(20_000)
    chain = EncodingSettings(({"step": "marginals"},))

    def chunks() -> list[ak.Array]:
        return [events[i : i + 700] for i in range(0, len(events), 700)]

    scaled = Encoding.fit_stream(
        chunks, COLUMNS, EncodingSettings(({"step": "scale"},)), seed=1, sample=50
    )
    x, _ = scaled.encode(events, seed=1)
    torch.testing.assert_close(x.amin(0), -torch.ones(3))
    torch.testing.assert_close(x.amax(0), torch.ones(3))
    encoding = Encoding.fit_stream(chunks, COLUMNS, chain, seed=1, sample=4000)
    scores, _ = encoding.encode(columns(3000), seed=1)
    for column in scores.T:
        assert scipy.stats.kstest(column.numpy(), "norm").pvalue > 1e-3


def test_encoding_does_not_depend_on_the_block_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events = showers(700)
    encoding = fit(events, SHOWERS, SUMS, {"step": "standardize"}, **ENERGY)
    whole = encoding.encode(events, seed=1)
    monkeypatch.setattr("hepgan.data.encoding.encoding.BLOCK", 1000)
    encoded = encoding.encode(events, seed=1)
    torch.testing.assert_close(encoded, whole)
    assert_same(encoding.decode(*encoded), encoding.decode(*whole), ["front", "back", "energy"])


def test_events_that_a_step_cannot_encode_raise_with_the_step() -> None:
    encoding = fit(showers(), SHOWERS, SUMS, **ENERGY)
    unseen = showers(300, seed=5)
    energy = ak.to_numpy(unseen["energy"]).copy()
    energy[217] = 1
    unseen["energy"] = energy
    with pytest.raises(DataError, match="step 'layer_sums' makes event 217 not finite"):
        encoding.encode(unseen, seed=1)


def test_dequantized_integers_round_trip_exactly() -> None:
    schema = Schema.from_table({"fields": {"n": {"dtype": "uint8"}}})
    events = ak.zip({"n": np.arange(256).astype("u1")}, depth_limit=1)
    encoding = fit(events, schema, {"step": "dequantize"}, {"step": "standardize"})
    decoded = encoding.decode(*encoding.encode(events, seed=2))
    assert ak.to_numpy(decoded["n"]).dtype == np.uint8
    np.testing.assert_array_equal(ak.to_numpy(decoded["n"]), np.arange(256))


def test_unseen_events_of_any_kind_round_trip() -> None:
    encoding = fit(showers(), SHOWERS, SUMS, LOG, COPULA, **ENERGY)
    unseen = showers(400, seed=9)
    decoded = encoding.decode(*encoding.encode(unseen, seed=4))
    assert_same(decoded, unseen, ["front", "back", "energy"], rtol=1e-3)


def test_copula_decorrelates_unseen_events() -> None:
    encoding = fit(showers(6000), SHOWERS, SUMS, LOG, COPULA, **ENERGY)
    x, _ = encoding.encode(showers(3000, seed=11), seed=4)
    covariance = np.cov(x.numpy().T)
    assert np.abs(covariance - np.eye(len(covariance))).max() < 0.2


def test_marginals_make_unseen_events_normal_at_each_condition() -> None:
    def sample(seed: int) -> ak.Array:
        rng = np.random.default_rng(seed)
        energy = rng.uniform(1, 100, 6000)
        values = rng.gamma(2 + energy / 20, energy)
        return ak.zip({"energy": energy.astype("f4"), "v": values.astype("f4")}, depth_limit=1)

    schema = Schema.from_table({"fields": {"v": {}}, "conditions": {"energy": {"unit": "GeV"}}})
    encoding = fit(
        sample(1),
        schema,
        {"step": "log", "threshold": 1e-3},
        {"step": "marginals", "condition": "energy"},
        **ENERGY,
    )
    x, c = encoding.encode(sample(2), seed=4)
    for low, high in ((-1, 0.2), (0.2, 0.7), (0.7, 1)):
        part = x[(c[:, 0] >= low) & (c[:, 0] < high), 0].numpy()
        assert scipy.stats.kstest(part, "norm").pvalue > 1e-3


def test_copula_alone_reproduces_marginals_and_rank_correlations() -> None:
    rng = np.random.default_rng(2)
    mean, covariance = [0, 0, 0], [[1, 0.8, 0.3], [0.8, 1, 0.5], [0.3, 0.5, 1]]
    z = rng.multivariate_normal(mean, covariance, 8000)
    events = ak.zip(
        {"a": np.exp(z[:, 0]).astype("f4"), "b": (z[:, 1:] ** 3).astype("f4")}, depth_limit=1
    )
    encoding = fit(events, COLUMNS, {"step": "copula"})
    noise = torch.randn(8000, 3, generator=torch.Generator().manual_seed(7))
    generated = encoding.decode(noise, torch.empty(8000, 0))
    a, b = ak.to_numpy(generated["a"]), ak.to_numpy(generated["b"])
    assert scipy.stats.ks_2samp(a, np.exp(z[:, 0])).pvalue > 1e-3
    rank = scipy.stats.spearmanr(np.column_stack([a, b])).statistic
    expected = 6 / math.pi * np.arcsin(np.array(covariance) / 2)
    np.testing.assert_allclose(rank, expected, atol=0.04)


def test_correlation_with_many_zeros_is_reproduced() -> None:
    """Two cells that are zero half of the time, from a Gaussian copula of correlation 0.8: censoring must not dilute it."""
    rng = np.random.default_rng(4)
    z = rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], 8000)
    cells = np.where(z > 0, np.exp(z), 0.0).astype("f4")
    schema = Schema.from_table({"fields": {"cells": {"shape": [2], "unit": "MeV"}}})
    events = ak.zip({"cells": cells}, depth_limit=1)
    copula = {"step": "copula", "censored_zeros": True, "sweeps": 10}
    encoding = fit(events, schema, {"step": "log", "threshold": 0.5}, copula)
    noise = torch.randn(20000, 2, generator=torch.Generator().manual_seed(7))
    generated = ak.to_numpy(encoding.decode(noise, torch.empty(20000, 0))["cells"])
    both = (generated > 0).all(1).mean()
    assert both == pytest.approx(0.25 + math.asin(0.8) / (2 * math.pi), abs=0.015)
    without_sweeps = fit(events, schema, {"step": "log", "threshold": 0.5}, copula | {"sweeps": 0})
    diluted = ak.to_numpy(without_sweeps.decode(noise, torch.empty(20000, 0))["cells"])
    assert (diluted > 0).all(1).mean() < both - 0.02


def test_frequency_of_empty_layers_follows_the_energy() -> None:
    rng = np.random.default_rng(2)
    energy = rng.uniform(1, 100, 6000)
    sums = energy * rng.lognormal(2.0, 0.5, 6000) * (rng.random(6000) > 1 / np.sqrt(energy))
    back = sums[:, None] * rng.dirichlet(np.full(4, 20.0), 6000)
    front = 900 * energy * (1 + 0.01 * rng.standard_normal(6000))
    front = front[:, None] * rng.dirichlet(np.full(6, 20.0), 6000)
    fields = {"energy": energy, "front": front.reshape(-1, 2, 3), "back": back}
    events = ak.zip({name: v.astype("f4") for name, v in fields.items()}, depth_limit=1)
    encoding = fit(events, SHOWERS, SUMS, LOG, COPULA | {"windows": 24}, **ENERGY)
    noise = torch.randn(4000, encoding.features, generator=torch.Generator().manual_seed(1))
    for at in (2.0, 5.0, 50.0):
        c = encoding.encode_conditions({"energy": np.full(4000, at)})
        empty = ak.to_numpy(encoding.decode(noise, c)["back"]).sum(1) == 0
        assert empty.mean() == pytest.approx(1 / math.sqrt(at), abs=0.06)


@pytest.mark.parametrize(("slack", "response"), [(0.5, 0.4), (0.005, 0.003), (0.005, 0.19)])
def test_energies_round_trip_at_any_response(slack: float, response: float) -> None:
    events = showers()
    for name in ("front", "back"):
        events[name] = events[name] * np.float32(response)
    sums = SUMS | {"slack": slack, "threshold": 1e-5}
    encoding = fit(events, SHOWERS, sums, LOG | {"threshold": 1e-5}, COPULA, **ENERGY)
    decoded = encoding.decode(*encoding.encode(events, seed=2))
    totals = [
        ak.to_numpy(e["front"]).sum((1, 2)) + ak.to_numpy(e["back"]).sum(1)
        for e in (events, decoded)
    ]
    np.testing.assert_allclose(totals[1], totals[0], rtol=2e-3)


def test_regress_follows_a_dependence_that_varies_with_the_condition() -> None:
    """b leans on a with a slope of E from -0.8 to 0.8, and is as wide as E is large."""
    schema = Schema.from_table({"fields": {"a": {}, "b": {}}, "conditions": {"e": {}}})
    rng = np.random.default_rng(3)
    e, a, w = rng.uniform(-0.8, 0.8, 20000), *rng.standard_normal((2, 20000))
    events = ak.zip({"e": e, "a": a, "b": e * a + np.exp(e) * w}, depth_limit=1)
    scale = {"e": ConditionScale((-0.8, 0.8))}
    encoding = fit(
        events, schema, {"step": "regress", "condition": "e", "condition_on_first": ["a"]}, **scale
    )
    x = encoding.encode(events, seed=1)[0].numpy()
    noise = torch.randn(20000, 2, generator=torch.Generator().manual_seed(1))
    generated = encoding.decode(noise, encoding.encode_conditions({"e": e}))
    for low in (-0.8, -0.2, 0.4):
        window = (e >= low) & (e < low + 0.4)
        np.testing.assert_allclose(np.cov(x[window].T), np.eye(2), atol=0.08)
        slope, spread = (
            np.polyfit(s["a"][window], s["b"][window], 1)[0] for s in (events, generated)
        )
        assert spread == pytest.approx(slope, abs=0.06)
        assert np.std(generated["b"][window]) == pytest.approx(
            np.std(events["b"][window]), rel=0.06
        )


def test_layer_sums_hold_for_any_network_output() -> None:
    encoding = fit(showers(), SHOWERS, SUMS, LOG, COPULA, **ENERGY)
    noise = 3 * torch.randn(500, encoding.features, generator=torch.Generator().manual_seed(1))
    energy = np.linspace(1, 100, 500)
    c = encoding.encode_conditions({"energy": energy})
    generated = encoding.decode(noise, c)
    total = ak.to_numpy(generated["front"]).sum((1, 2)) + ak.to_numpy(generated["back"]).sum(1)
    assert (total <= 1.0051 * 1000 * energy).all()
    sums = encoding.steps[3].decode(noise, c)[:, -1]
    fraction = 1.005 * np.clip(-np.expm1(-sums.numpy()), 0, None)
    np.testing.assert_allclose(total, fraction * 1000 * energy, rtol=1e-3, atol=2 * THRESHOLD)


def test_cells_below_the_threshold_are_exactly_zero() -> None:
    encoding = fit(showers(), SHOWERS, SUMS, LOG, COPULA, **ENERGY)
    noise = torch.randn(500, encoding.features, generator=torch.Generator().manual_seed(1))
    generated = encoding.decode(noise, encoding.encode_conditions({"energy": np.full(500, 3.0)}))
    for name in ("front", "back"):
        cells = ak.to_numpy(generated[name])
        assert (cells >= 0).all()
        assert not ((cells > 0) & (cells < 0.5 * THRESHOLD)).any()
    assert (ak.to_numpy(generated["back"]) == 0).any()


def test_decoding_is_differentiable() -> None:
    encoding = fit(showers(), SHOWERS, SUMS, LOG, COPULA, **ENERGY)
    x = torch.randn(20, encoding.features, requires_grad=True)
    decoded = encoding.decode_tensors(x, encoding.encode_conditions({"energy": np.full(20, 30.0)}))
    sum(t.log1p().sum() for t in decoded.values()).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert (x.grad != 0).any(0).all()


def test_saved_encoding_decodes_the_same() -> None:
    encoding = fit(showers(), SHOWERS, SUMS, LOG, COPULA, **ENERGY)
    again = Encoding.unpack(SHOWERS, *encoding.pack())
    x = torch.randn(50, encoding.features)
    c = encoding.encode_conditions({"energy": np.full(50, 30.0)})
    for name, values in encoding.decode_tensors(x, c).items():
        torch.testing.assert_close(again.decode_tensors(x, c)[name], values, rtol=1e-4, atol=1e-4)


def test_damaged_description_raises() -> None:
    table, tensors = fit(columns(), COLUMNS, {"step": "whiten"}).pack()
    tensors.pop("encoding.1.mean")
    with pytest.raises(CheckpointError, match=r"encoding.1.mean"):
        Encoding.unpack(COLUMNS, table, tensors)


@pytest.mark.parametrize("scale", ["linear", "log", "onehot"])
def test_conditions_round_trip(scale: Any) -> None:
    s = ConditionScale((1.0, 9.0), scale)
    values = torch.tensor([1.0, 4.0, 9.0])
    assert s.encode(values).shape == (3, s.columns)
    torch.testing.assert_close(s.decode(s.encode(values)), values)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"step": "whitten"}, r"unknown step 'whitten'; did you mean 'whiten'\?"),
        ({"step": "log"}, "needs the setting 'threshold'"),
        (
            {"step": "log", "treshold": 1.0},
            "has no setting 'treshold'; its settings are threshold, fields",
        ),
        ({"step": "log", "threshold": "x"}, r"encoding.steps\[0\].threshold = 'x' should be float"),
        ({"step": "scale", "fields": ["c"]}, "names 'c', but the fields are a, b"),
        ({"step": "copula", "condition": "energy"}, "'energy', which is not a scalar condition"),
        ({"step": "layer_sums", "incident": "e", "threshold": 1.0}, "'e' is not a condition"),
        (
            {"step": "whiten", "condition_on_first": ["appended"]},
            "no previous step appends a column",
        ),
        ({"step": "regress", "condition": "e"}, "'e', which is not a scalar condition"),
        (
            {"step": "regress", "condition": "e", "degree": -1},
            r"the step 'regress': encoding.steps\[0\].degree = -1 should be at least 0 and at most 5",
        ),
        (
            {"step": "regress", "condition": "e", "condition_on_first": []},
            r"steps\[0\], the step 'regress': condition_on_first = \[\] is empty",
        ),
        ({"step": "scale", "range": [2.0, 1.0]}, "is not increasing"),
        ({"step": "power", "exponent": 2.0}, "should be at least 0.01 and at most 1"),
        ({"step": "zero_noise", "width": 0.0}, "should be above 0"),
        ({"step": "incident_fraction", "incident": "e"}, "'e' is not a condition"),
    ],
)
def test_invalid_steps_raise(step: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError, match=message):
        fit(columns(), COLUMNS, step)


def test_values_outside_the_range_raise() -> None:
    with pytest.raises(DataError, match="is outside the range; widen 'range'"):
        fit(columns(), COLUMNS, {"step": "scale", "range": [0.0, 1.0]})


def test_a_condition_without_a_range_raises() -> None:
    with pytest.raises(RunError, match=r"'energy' needs a range: \[encoding.conditions.energy\]"):
        fit(showers(), SHOWERS, SUMS)


def test_an_energy_outside_the_range_raises() -> None:
    encoding = fit(showers(), SHOWERS, SUMS, **ENERGY)
    with pytest.raises(DataError, match=r"energy = 150 is outside the trained range of 1 to 100"):
        encoding.encode_conditions({"energy": [50.0, 150.0]})


def test_wrong_units_raise() -> None:
    wrong = dataclasses.replace(SHOWERS.conditions["energy"], unit="")
    schema = dataclasses.replace(SHOWERS, conditions={"energy": wrong})
    with pytest.raises(RunError, match="needs units of energy"):
        fit(showers(), schema, SUMS, **ENERGY)


def test_deposits_above_the_incident_energy_raise() -> None:
    events = showers()
    events["energy"] = ak.to_numpy(events["energy"]) / 2
    scale = {"energy": ConditionScale((0.1, 100.0), "log")}
    with pytest.raises(DataError, match="deposits .* of its incident energy"):
        fit(events, SHOWERS, SUMS, **scale)


def test_a_banded_sweep_equals_a_sweep_column_by_column(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(200, 37, generator=generator, dtype=torch.float64)
    mix = torch.randn(37, 37, generator=generator, dtype=torch.float64)
    precision = mix @ mix.T + torch.eye(37)
    censored = torch.rand(200, 37, generator=generator) < 0.6
    censored[:, 5] = False
    uniforms = torch.rand(200, 37, generator=generator).clamp(1e-6, 1 - 1e-6)
    limit, mean = torch.zeros_like(scores), 0.1 * torch.ones(37, dtype=torch.float64)

    def swept(band: int) -> torch.Tensor:
        monkeypatch.setattr(copula, "BAND", band)
        return copula._gibbs_sweep(scores, limit, censored, mean, precision, uniforms)

    plain = swept(1)
    torch.testing.assert_close(swept(8), plain, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(plain[~censored], scores[~censored], rtol=1e-5, atol=1e-6)
    assert (plain[censored] <= 1e-6).all()
