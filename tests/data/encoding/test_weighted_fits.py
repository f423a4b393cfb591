"""Fits of encodings to weighted events: constants against duplicated events, and decoded events against the weighted distribution."""

import dataclasses
from typing import Any

import awkward as ak
import numpy as np
import pytest
import scipy.stats
import torch

from hepgan.data.encoding.base import Moments
from hepgan.data.encoding.conditions import ConditionScale
from hepgan.data.encoding.density.ranks import Ranks
from hepgan.data.encoding.density.spectrum import Spectrum
from hepgan.data.encoding.encoding import Encoding, EncodingSettings
from hepgan.data.encoding.weighted import covariance, cumulated, least_squares, quantiles
from hepgan.data.schema import Schema
from hepgan.data.weights import WeightSums, normalized_weights
from hepgan.errors import DataError

SCHEMA = Schema.from_table({"fields": {"v": {"shape": [2]}}, "conditions": {"k": {}}})
SCALES = {"k": ConditionScale((0.0, 1.0))}
NETWORKS: dict[str, Any] = {"hidden": 16, "steps": 200}
CHAINS: dict[str, tuple[dict[str, Any], ...]] = {
    "standardize": ({"step": "standardize"},),
    "robust_standardize": ({"step": "robust_standardize"},),
    "whiten": ({"step": "whiten"},),
    "marginals": ({"step": "marginals"},),
    "copula": ({"step": "copula"},),
    "regress": ({"step": "regress", "condition": "k", "condition_on_first": ["v"]},),
}


def table(number: int, seed: int = 1) -> ak.Array:
    rng = np.random.default_rng(seed)
    k = rng.random(number)
    v = rng.normal(size=(number, 2)) @ np.array([[1.0, 0.7], [0.0, 0.6]]) + k[:, None]
    return ak.zip({"v": v, "k": k}, depth_limit=1)


def weighted(events: ak.Array, weights: np.ndarray) -> ak.Array:
    return ak.with_field(events, weights, "weight")


def fitted(events: ak.Array, steps: tuple[dict[str, Any], ...]) -> Encoding:
    return Encoding.fit(events, SCHEMA, EncodingSettings(steps, SCALES), seed=1)


@pytest.mark.parametrize("name", [*CHAINS, "autoregressive"])
def test_equal_weights_give_the_encoding_of_unweighted_events(name: str) -> None:
    steps = CHAINS.get(name, ({"step": "autoregressive", "hidden": 8, "steps": 20},))
    events = table(400)
    equal = fitted(weighted(events, np.full(400, 0.1)), steps)
    assert equal.fingerprint() == fitted(events, steps).fingerprint()


@pytest.mark.parametrize("name", CHAINS)
def test_a_weight_of_two_is_as_good_as_a_duplicated_event(name: str) -> None:
    events = table(3000)
    double = np.arange(3000) % 3 == 0
    copies = ak.concatenate([events, events[double]])
    one = fitted(weighted(events, np.where(double, 0.5, 0.25)), CHAINS[name])
    other = fitted(copies, CHAINS[name])
    probe = table(200, seed=2)
    x, y = (encoding.encode(probe, seed=1)[0] for encoding in (one, other))
    unweighted = fitted(events, CHAINS[name]).encode(probe, seed=1)[0]
    # Principal components have no sign of their own.
    difference, apart = (float((x.abs() - z.abs()).abs().median()) for z in (y, unweighted))
    assert difference < 2e-3
    assert difference < 0.3 * apart


def test_windows_of_a_condition_hold_the_effective_number_of_events() -> None:
    events = weighted(table(4000), np.where(np.arange(4000) % 2, 1.0, 0.0))
    some = events[1::2]
    steps = ({"step": "marginals", "condition": "k", "windows": 3, "per_window": 500},)
    probe = table(200, seed=2)
    x, y = (
        Encoding.fit(each, SCHEMA, EncodingSettings(steps, SCALES), seed=1).encode(probe, seed=1)[0]
        for each in (events, some[["v", "k"]])
    )
    assert float((x - y).abs().median()) < 0.02


def test_ranks_of_weighted_values_are_those_of_duplicated_ones() -> None:
    rng = np.random.default_rng(3)
    x = torch.from_numpy(np.where(rng.random(2000) < 0.2, 0.0, rng.normal(size=2000)))
    double = torch.arange(2000) % 2 == 0
    weights = torch.where(double, 2.0, 1.0).double()
    one = Ranks.fit(x, weights * 2000 / weights.sum())
    other = Ranks.fit(torch.cat([x, x[double]]))
    drawn, probe = torch.full((50,), 0.5), torch.linspace(-2, 2, 50)
    assert torch.allclose(one.encode(probe, drawn), other.encode(probe, drawn), atol=0.02)


def test_moments_of_chunks_with_a_net_weight_of_zero_merge_to_those_of_all_events() -> None:
    rng = np.random.default_rng(4)
    x = torch.from_numpy(rng.normal(3, 2, (1000, 2)))
    weights = torch.ones(1000, dtype=torch.float64)
    weights[:100:2] = -1
    parts = [slice(0, 100), slice(100, 1000)]
    merged = Moments.of(x[parts[0]], weights[parts[0]]).merge(
        Moments.of(x[parts[1]], weights[parts[1]])
    )
    mean = (weights @ x) / weights.sum()
    variance = (weights @ (x - mean) ** 2) / weights.sum() * 1000 / 999
    assert torch.allclose(merged.mean, mean)
    assert torch.allclose(merged.std, variance.sqrt())


def test_streamed_weighted_moments_are_those_in_memory() -> None:
    events = weighted(table(1000), np.random.default_rng(5).normal(1, 1, 1000))
    settings = EncodingSettings(CHAINS["standardize"], SCALES)
    streamed = Encoding.fit_stream(
        lambda: [events[:300], events[300:]], SCHEMA, settings, seed=1, sample=800
    )
    whole = Encoding.fit(events, SCHEMA, settings, seed=1)
    x, y = (each.encode(events, seed=1)[0] for each in (streamed, whole))
    assert torch.allclose(x, y, atol=1e-5)
    assert streamed.effective_events == pytest.approx(whole.effective_events)


def test_covariance_with_negative_weights_is_positive_definite() -> None:
    rng = np.random.default_rng(6)
    x = torch.from_numpy(rng.normal(size=(40, 12)))
    weights = torch.where(torch.arange(40) % 3 == 0, -1.0, 2.0).double()
    found = torch.linalg.eigvalsh(covariance(x, weights * 40 / weights.sum()))
    assert found.min() > 0


def test_least_squares_with_negative_weights_solves_the_normal_equations() -> None:
    rng = np.random.default_rng(7)
    x = torch.from_numpy(rng.normal(size=(500, 3)))
    y = torch.from_numpy(rng.normal(size=(500, 2)))
    weights = torch.where(torch.arange(500) % 10 == 0, -1.0, 1.0).double()
    expected = torch.linalg.solve(x.T @ (weights[:, None] * x), x.T @ (weights[:, None] * y))
    assert torch.allclose(least_squares(x, y, weights), expected)


def test_cumulated_weights_do_not_fall_and_keep_positive_weights() -> None:
    weights = torch.tensor([1.0, -2.0, 3.0, -1.0, 2.0])
    sums = cumulated(weights)
    assert sums[0] == 0
    assert sums[-1] == 3
    assert (sums.diff() >= 0).all()
    assert torch.equal(cumulated(weights.abs()), torch.tensor([0.0, 1, 3, 6, 7, 9]))


def test_quantiles_with_equal_weights_are_those_without() -> None:
    x = torch.randn(100, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    levels = torch.tensor([0.0, 0.25, 0.5, 1.0])
    one, other = (quantiles(x, levels, w) for w in (None, torch.ones(100)))
    assert torch.allclose(one, other)


def nlo_like(number: int, seed: int) -> tuple[ak.Array, np.ndarray]:
    """Events with weights ±: 15 % negative ones; net, v0 is uniform in 0 … 2 except in 1 … 1.2, where weights cancel, and tilted by v1.

    Also returns unweighted events of that distribution.
    """
    rng = np.random.default_rng(seed)
    v0 = rng.uniform(0, 2, number)
    v1 = rng.normal(v0, 0.5)
    hole = (v0 > 1) & (v0 < 1.2)
    negative = rng.random(number) < np.where(hole, 0.5, 0.1)
    size = np.where(hole, 1.0, 1 / 0.8) * (0.5 + v0)
    events = {"v": np.stack([v0, v1], 1), "k": rng.random(number)}
    weights = np.where(negative, -size, size)
    truth = rng.random(number) < np.where(hole, 0, (0.5 + v0) / 2.5)
    return weighted(ak.zip(events, depth_limit=1), weights), np.stack([v0, v1], 1)[truth]


@pytest.mark.parametrize("name", ["autoregressive", "copula"])
def test_decoded_normal_numbers_follow_the_weighted_distribution(name: str) -> None:
    events, _ = nlo_like(8000, 1)
    _, truth = nlo_like(8000, 2)
    steps = {
        "autoregressive": ({"step": "autoregressive", **NETWORKS},),
        "copula": ({"step": "copula"},),
    }[name]
    encoding = fitted(events, steps)
    noise = torch.randn(4000, 2, generator=torch.Generator().manual_seed(1))
    c = torch.rand(4000, 1, generator=torch.Generator().manual_seed(2))
    generated = ak.to_numpy(encoding.decode(noise, c)["v"])
    unweighted = ak.to_numpy(events["v"])
    for column in (0, 1):
        near = scipy.stats.ks_2samp(generated[:, column], truth[:, column]).statistic
        far = scipy.stats.ks_2samp(unweighted[:, column], truth[:, column]).statistic
        assert near < 0.05 < far
    in_hole = (generated[:, 0] > 1.02) & (generated[:, 0] < 1.18)
    assert in_hole.mean() < 0.04  # 0.08 without weights; the copula has wide knots
    correlations = [np.corrcoef(sample.T)[0, 1] for sample in (generated, truth)]
    assert correlations[0] == pytest.approx(correlations[1], abs=0.07)


@pytest.mark.parametrize("name", ["standardize", "copula", "autoregressive"])
def test_an_event_with_a_negative_weight_is_encoded_and_decoded(name: str) -> None:
    events, _ = nlo_like(3000, 1)
    steps = CHAINS.get(name, ({"step": "autoregressive", "hidden": 8, "steps": 50},))
    encoding = fitted(events, steps)
    some = events[ak.to_numpy(events["weight"]) < 0][:100]
    decoded = encoding.decode(*encoding.encode(some, seed=1))
    difference = np.abs(ak.to_numpy(decoded["v"]) - ak.to_numpy(some["v"]))
    assert np.quantile(difference, 0.9) < 0.02


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, np.nan, 1.0], "the weight of event 1 is nan"),
        ([1.0, np.inf, 1.0], "the weight of event 1 is inf"),
        ([1.0, -1.0, 0.0], "sum to 0, but the sum must be positive"),
        ([1.0, 2.0, 1.0], "are worth 2.67 unweighted ones"),
    ],
)
def test_weights_that_cannot_work_raise(weights: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        fitted(weighted(table(3), np.array(weights)), CHAINS["standardize"])


def test_a_class_without_a_net_weight_raises() -> None:
    schema = Schema.from_table({"fields": {"v": {"shape": [2]}}, "conditions": {"pdg": {}}})
    pdg = np.where(np.arange(400) % 4 == 0, 22, 11)
    events = ak.zip({"v": ak.to_numpy(table(400)["v"]), "pdg": pdg}, depth_limit=1)
    events = weighted(events, np.where(pdg == 22, np.where(np.arange(400) % 8, 1.0, -1.0), 1.0))
    scales = {"pdg": ConditionScale(scale="classes", values=(11, 22))}
    with pytest.raises(DataError, match="pdg = 22 sum to 0"):
        Encoding.fit(events, schema, EncodingSettings(CHAINS["standardize"], scales), seed=1)


def test_a_schema_with_a_field_weight_has_no_event_weights() -> None:
    schema = Schema.from_table({"fields": {"weight": {}}})
    events = ak.zip({"weight": np.arange(1.0, 4.0)}, depth_limit=1)
    assert normalized_weights(events, schema) is None


def test_sums_of_chunks_are_those_of_all_weights() -> None:
    weights = np.random.default_rng(8).normal(1, 1, 1000)
    merged = WeightSums.of(weights[:300]).merge(WeightSums()).merge(WeightSums.of(weights[300:]))
    expected = WeightSums.of(weights)
    assert merged == pytest.approx(expected)
    assert merged.effective == pytest.approx(weights.sum() ** 2 / (weights**2).sum())


def test_the_effective_number_of_events_is_saved() -> None:
    events, _ = nlo_like(2000, 1)
    encoding = fitted(events, CHAINS["standardize"])
    loaded = Encoding.unpack(encoding.schema, *encoding.pack())
    assert loaded.effective_events == encoding.effective_events
    assert f"effective number {encoding.effective_events:,.0f}" in repr(loaded)
    assert dataclasses.replace(loaded, effective_events=0.0).about_events == "2,000 events"


def test_spectra_of_weighted_showers_are_those_of_duplicated_ones() -> None:
    rng = np.random.default_rng(10)
    generated, reference = (torch.from_numpy(rng.exponential(s, (2000, 3))) for s in (1.0, 1.3))
    generated[:, 2] = reference[:, 2] = 30.0  # which holds most of the energy
    double = reference[:, 0] > 1
    weights = torch.where(double, 2.0, 1.0).double()
    layer = torch.zeros(3, dtype=torch.int64)
    copies = [torch.cat([x, x[double]]) for x in (generated, reference)]
    one = Spectrum.fit(generated, reference, layer, 0.1, weights * 2000 / weights.sum())
    other, plain = Spectrum.fit(*copies, layer, 0.1), Spectrum.fit(generated, reference, layer, 0.1)
    mapped = [spectrum.to_reference(generated.float())[:, :2] for spectrum in (one, other, plain)]
    difference, apart = (float((mapped[0] - m).abs().mean()) for m in mapped[1:])
    assert difference < 0.3 * apart


def test_energy_tree_follows_weighted_totals_and_splits() -> None:
    rng = np.random.default_rng(9)
    total, fraction = rng.uniform(1, 3, 4000), rng.uniform(0.1, 0.9, 4000)
    cells = total[:, None] * np.stack([fraction, 1 - fraction], 1)
    signs = np.where(rng.random(4000) < 0.1, -1, 1)
    events = weighted(ak.zip({"cells": cells}, depth_limit=1), total * fraction * signs)
    schema = Schema.from_table({"fields": {"cells": {"shape": [2], "unit": "GeV"}}})
    step = {"step": "energy_tree", "threshold": 1e-3, "hidden": 8, "steps": 150, "spectrum": False}
    encoding = Encoding.fit(events, schema, EncodingSettings((step,)), seed=1)
    noise = torch.randn(4000, 2, generator=torch.Generator().manual_seed(1))
    generated = ak.to_numpy(encoding.decode(noise, noise[:, :0])["cells"])
    sums = generated.sum(1)
    # Densities proportional to the total in 1 … 3, and to the fraction in 0.1 … 0.9.
    assert sums.mean() == pytest.approx(13 / 6, abs=0.04)  # 2 without weights
    expected = (0.9**3 - 0.1**3) / 3 / ((0.9**2 - 0.1**2) / 2)
    assert (generated[:, 0] / sums).mean() == pytest.approx(expected, abs=0.02)  # 0.5 without
