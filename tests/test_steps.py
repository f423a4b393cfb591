"""Every step of an encoding by itself: its own columns come back, others are left alone, and odd input is defined."""

import inspect
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hepgan.data.encoding import Encoding, EncodingSettings
from hepgan.data.packing import STEPS
from hepgan.data.schema import Schema
from hepgan.data.steps import ConditionScale

NEEDED: dict[str, dict[str, Any]] = {
    "power": {"exponent": 0.5},
    "threshold": {"threshold": 0.001},
    "log": {"threshold": 0.001},
    "incident_fraction": {"incident": "energy", "fields": ["a", "b"]},
    "layer_sums": {"incident": "energy", "threshold": 1e-4},
    "regress": {"given": "energy", "first": ["a"]},
}
"""Settings without a default."""

SCHEMA = Schema.from_table(
    {
        "fields": {"a": {"unit": "GeV"}, "b": {"shape": [2], "unit": "GeV"}},
        "conditions": {"energy": {"unit": "GeV"}},
    }
)
ENERGY = {"energy": ConditionScale((1.0, 100.0), "log")}
PLACES = {"a": [0], "b": [1, 2]}


def options(step: str) -> set[str]:
    parameters = inspect.signature(STEPS[step].fit).parameters.values()  # type: ignore[attr-defined]
    return {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


WITH_FIELDS = sorted(step for step in STEPS if "fields" in options(step))


def sample(number: int, *, scale: float = 1.0, seed: int = 1) -> ak.Array:
    """Fields in (0, scale), so that every step can take them."""
    rng = np.random.default_rng(seed)
    columns = {
        "a": scale * rng.uniform(0.01, 0.99, number),
        "b": scale * rng.beta(0.5, 3.0, (number, 2)).clip(0.002),
        "energy": rng.uniform(5, 100, number),
    }
    return ak.zip({name: v.astype("f4") for name, v in columns.items()}, depth_limit=1)


def fit(events: ak.Array, *steps: dict[str, Any], **scales: ConditionScale) -> Encoding:
    return Encoding.fit(events, SCHEMA, EncodingSettings(steps, scales or ENERGY), seed=1)


def flat(events: ak.Array) -> np.ndarray[Any, Any]:
    return np.concatenate([ak.to_numpy(events[n]).reshape(len(events), -1) for n in PLACES], 1)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**31))
def test_a_step_changes_its_own_fields_only(data: st.DataObject, seed: int) -> None:
    step = data.draw(st.sampled_from(WITH_FIELDS))
    table = {"step": step, **NEEDED.get(step, {})}
    fields = data.draw(st.sampled_from([["a"], ["b"], ["a", "b"]]))
    table["fields"] = fields
    for option in sorted(options(step) & {"clip", "per_column"}):
        value = data.draw(st.sampled_from([None, True, False]))
        table |= {} if value is None else {option: value}
    unit = step == "logit"
    events = sample(60, seed=seed)
    # Fields that the step is not for may hold anything.
    for name in set(PLACES) - set(fields):
        values = ak.to_numpy(events[name])
        sign = data.draw(st.sampled_from([1.0, -1.0]))
        events[name] = (sign * 10.0 ** data.draw(st.integers(-3, 6)) * values).astype("f4")
    if not unit:
        factor = 10.0 ** data.draw(st.integers(0, 3))
        for name in fields:
            values = factor * ak.to_numpy(events[name])
            events[name] = (np.rint(values) if step == "dequantise" else values).astype("f4")
    encoding = fit(events, table)
    x, c = encoding.encode(events, seed=2)
    other = [i for name in set(PLACES) - set(fields) for i in PLACES[name]]
    own = [i for name in fields for i in PLACES[name]]
    np.testing.assert_array_equal(x[:, other], flat(events)[:, other])
    found, expected = flat(encoding.decode(x, c)), flat(events)
    np.testing.assert_array_equal(found[:, other], expected[:, other])
    room = 1e-5 * np.abs(expected).max(0) + 1e-6
    assert (np.abs(found - expected)[:, own] <= room[own]).all()


@pytest.mark.parametrize("step", STEPS)
def test_the_defaults_of_every_step_bring_events_back(step: str) -> None:
    events = sample(300)
    if step == "dequantise":
        events["a"], events["b"] = (np.rint(9 * ak.to_numpy(events[name])) for name in PLACES)
    encoding = fit(events, {"step": step, **NEEDED.get(step, {})})
    found, expected = flat(encoding.decode(*encoding.encode(events, seed=2))), flat(events)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_scaled_field_leaves_masses_of_others_alone() -> None:
    schema = Schema.from_table({"fields": {"x": {}, "mass": {}}})
    events = ak.Array({"x": [0.0, 1.0, 2.0], "mass": [80.0, 91.0, 125.0]})
    table = {"step": "scale", "fields": ["x"]}
    encoding = Encoding.fit(events, schema, EncodingSettings((table,)), seed=1)
    table, tensors = encoding.pack()
    for step in table["steps"]:
        step.pop("mask", None)  # as GANs were saved before
    for found in (encoding, Encoding.unpack(schema, table, tensors)):
        back = found.decode(*found.encode(events, seed=1))
        assert back["mass"].tolist() == [80.0, 91.0, 125.0]
        far = found.decode(torch.tensor([[9.0, 9.0]]), torch.empty(1, 0))
        assert far.tolist() == [{"x": 2.0, "mass": 9.0}]


@pytest.mark.parametrize("step", STEPS)
def test_nan_stays_in_its_event(step: str) -> None:
    encoding = fit(sample(200), {"step": step, **NEEDED.get(step, {})})
    x, c = encoding.encode(sample(20, seed=3), seed=1)
    for column in range(encoding.features):
        spoiled = x.clone()
        spoiled[7, column] = torch.nan
        found, whole = (
            torch.cat([v.reshape(20, -1) for v in encoding.decode_tensors(made, c).values()], 1)
            for made in (spoiled, x)
        )
        assert found[7].isnan().any()
        others = torch.arange(len(x)) != 7
        torch.testing.assert_close(found[others], whole[others])
