"""Every step of an encoding by itself: its own columns come back, others are left alone, and odd input is defined."""

import dataclasses
import inspect
import typing
from typing import Any

import awkward as ak
import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hepgan.data.encoding import base
from hepgan.data.encoding.conditions import ConditionScale
from hepgan.data.encoding.encoding import Encoding, EncodingSettings
from hepgan.data.encoding.steps import STEPS
from hepgan.data.schema import Schema
from hepgan.errors import CheckpointError, DataError, RunError

NEEDED: dict[str, dict[str, Any]] = {
    "power": {"exponent": 0.5},
    "threshold": {"threshold": 0.001},
    "log": {"threshold": 0.001},
    "incident_fraction": {"incident": "energy", "fields": ["a", "b"]},
    "layer_sums": {"incident": "energy", "threshold": 1e-4},
    "regress": {"condition": "energy", "condition_on_first": ["a"]},
    "energy_tree": {
        "incident": "energy",
        "threshold": 1e-4,
        "steps": 20,
        "hidden": 4,
        "spectrum": False,
    },
    "autoregressive": {"steps": 20, "hidden": 4},
}
"""Settings without a default, and few steps for fits."""

LEARNED = {"energy_tree", "autoregressive"}
"""Steps whose distributions are networks: normal scores in float32 have few digits in their tails."""

SCHEMA = Schema.from_table(
    {
        "fields": {"a": {"unit": "GeV"}, "b": {"shape": [2], "unit": "GeV"}},
        "conditions": {"energy": {"unit": "GeV"}},
        "incident": "energy",
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
def test_a_step_changes_only_its_own_fields(data: st.DataObject, seed: int) -> None:
    step = data.draw(st.sampled_from(WITH_FIELDS))
    table = {"step": step, **NEEDED.get(step, {})}
    if step == "energy_tree":
        del table["incident"]  # with other units, the visible energy would be more than is physical
    fields = data.draw(st.sampled_from([["a"], ["b"], ["a", "b"]]))
    table["fields"] = fields
    for option in sorted(options(step) & {"clip", "per_column"}):
        value = data.draw(st.sampled_from([None, True, False]))
        table |= {} if value is None else {option: value}
    unit = step == "logit"
    events = sample(120, seed=seed)
    # Fields that the step is not for may hold anything.
    for name in set(PLACES) - set(fields):
        values = ak.to_numpy(events[name])
        sign = data.draw(st.sampled_from([1.0, -1.0]))
        events[name] = (sign * 10.0 ** data.draw(st.integers(-3, 6)) * values).astype("f4")
    if not unit:
        factor = 10.0 ** data.draw(st.integers(0, 3))
        for name in fields:
            values = factor * ak.to_numpy(events[name])
            events[name] = (np.rint(values) if step == "dequantize" else values).astype("f4")
    encoding = fit(events, table)
    x, c = encoding.encode(events, seed=2)
    other = [i for name in set(PLACES) - set(fields) for i in PLACES[name]]
    own = [i for name in fields for i in PLACES[name]]
    np.testing.assert_array_equal(x[:, other], flat(events)[:, other])
    decoded, expected = flat(encoding.decode(x, c)), flat(events)
    np.testing.assert_array_equal(decoded[:, other], expected[:, other])
    tolerance = (1e-2 if step in LEARNED else 1e-5) * np.abs(expected).max(0) + 1e-6
    assert (np.abs(decoded - expected)[:, own] <= tolerance[own]).all()


@pytest.mark.parametrize("step", STEPS)
def test_every_step_round_trips_with_its_defaults(step: str) -> None:
    events = sample(300)
    if step == "dequantize":
        events["a"], events["b"] = (np.rint(9 * ak.to_numpy(events[name])) for name in PLACES)
    encoding = fit(events, {"step": step, **NEEDED.get(step, {})})
    decoded, expected = flat(encoding.decode(*encoding.encode(events, seed=2))), flat(events)
    np.testing.assert_allclose(decoded, expected, rtol=1e-4, atol=1e-5)


def test_scaling_a_field_leaves_the_other_fields_unchanged() -> None:
    schema = Schema.from_table({"fields": {"x": {}, "mass": {}}})
    events = ak.Array({"x": [0.0, 1.0, 2.0], "mass": [80.0, 91.0, 125.0]})
    table = {"step": "scale", "fields": ["x"]}
    encoding = Encoding.fit(events, schema, EncodingSettings((table,)), seed=1)
    table, tensors = encoding.pack()
    for each in (encoding, Encoding.unpack(schema, table, tensors)):
        back = each.decode(*each.encode(events, seed=1))
        assert back["mass"].tolist() == [80.0, 91.0, 125.0]
        far = each.decode(torch.tensor([[9.0, 9.0]]), torch.empty(1, 0))
        assert far.tolist() == [{"x": 2.0, "mass": 9.0}]


@pytest.mark.parametrize("step", WITH_FIELDS)
def test_gradients_of_columns_outside_a_step_are_one(step: str) -> None:
    table = {"step": step, **NEEDED.get(step, {}), "fields": ["a"]}
    table |= {"exponent": 0.05} if step == "power" else {}
    encoding = fit(sample(120), table)
    x = torch.tensor([[0.5, 1e5, 3.0], [1e5, 1e-5, 1e5]], requires_grad=True)
    decoded = encoding.decode_tensors(x, encoding.encode_conditions({"energy": [50.0, 50.0]}))
    assert decoded["a"].isfinite().all()
    sum(values.sum() for values in decoded.values()).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    torch.testing.assert_close(x.grad[:, 1:], torch.ones(2, 2))


@pytest.mark.parametrize("step", STEPS)
def test_nan_does_not_spread_to_other_events(step: str) -> None:
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


def degenerate(kind: str) -> tuple[ak.Array, dict[str, ConditionScale]]:
    """Events of a degenerate kind, which every step can take otherwise."""
    number = 1 if kind == "one event" else 120
    events, scales = sample(number), dict(ENERGY)
    fields = {name: ak.to_numpy(events[name]).copy() for name in (*PLACES, "energy")}
    if kind == "constant columns":
        fields["a"][:], fields["b"][:] = 0.25, 0.75
    if kind in ("an empty layer", "empty events"):
        fields["b"][:] = 0
    if kind == "empty events":
        fields["a"][:] = 0
    if kind == "one value among zeros":
        fields["b"][1:] = 0
    if kind == "one energy":
        fields["energy"][:] = 50
        scales = {"energy": ConditionScale((50.0, 50.0), "log")}
    if kind == "two energies":
        fields["energy"] = np.where(fields["energy"] > 50, 80, 20).astype("f4")
    return ak.zip(fields, depth_limit=1), scales


KINDS = [
    "one event", "constant columns", "an empty layer", "empty events", "one value among zeros",
    "one energy", "two energies",
]  # fmt: skip
VARIANTS: list[dict[str, Any]] = [
    *({"step": step, **NEEDED.get(step, {})} for step in STEPS),
    {"step": "scale", "per_column": False},
    {"step": "standardize", "per_column": False},
    {"step": "marginals", "condition": "energy"},
    {"step": "marginals", "condition": "energy", "windows": 1},
    {
        "step": "marginals",
        "condition": "energy",
        "censored_zeros": True,
        "knots": 3,
        "per_window": 2,
    },
    {"step": "copula", "condition": "energy", "censored_zeros": True},
    {"step": "copula", "censored_zeros": True},
    {"step": "whiten", "condition_on_first": ["a"]},
    {"step": "regress", "condition": "energy", "condition_on_first": ["a", "b"]},
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("table", VARIANTS, ids=str)
def test_degenerate_events_round_trip_or_raise(kind: str, table: dict[str, Any]) -> None:
    events, scales = degenerate(kind)
    if table["step"] == "dequantize":
        events["a"], events["b"] = (np.rint(9 * ak.to_numpy(events[name])) for name in PLACES)
    if table["step"] == "layer_sums" and kind == "empty events":
        with pytest.raises(DataError, match="the step 'layer_sums': event 0 has no energy"):
            fit(events, table, **scales)
        return
    if table["step"] in LEARNED and kind == "one event":
        with pytest.raises(DataError, match="need at least 100 events, but there are 1"):
            fit(events, table, **scales)
        return
    if table["step"] == "energy_tree" and kind == "empty events":
        with pytest.raises(DataError, match="no cell of any event has more than the threshold"):
            fit(events, table, **scales)
        return
    encoding = fit(events, table, **scales)
    x, c = encoding.encode(events, seed=2)
    decoded = flat(encoding.decode(x, c))
    rtol = 2e-2 if table["step"] in LEARNED else 1e-4
    np.testing.assert_allclose(decoded, flat(events), rtol=rtol, atol=1e-5)
    noise = torch.randn(200, encoding.features, generator=torch.Generator().manual_seed(1))
    generated = flat(encoding.decode(noise, c[:1].expand(200, -1)))
    assert np.isfinite(generated).all()
    if table["step"] in ("marginals", "copula"):
        constant = np.ptp(flat(events), 0) == 0
        expected = np.broadcast_to(flat(events)[:1, constant], (200, constant.sum()))
        np.testing.assert_allclose(generated[:, constant], expected, rtol=1e-4, atol=1e-4)


def test_fitting_no_events_raises_and_encoding_none_gives_none() -> None:
    events = sample(3)
    with pytest.raises(DataError, match="there are no events to fit the encoding to"):
        fit(events[:0], {"step": "standardize"})
    encoding = fit(events, {"step": "standardize"})
    x, c = encoding.encode(events[:0], seed=1)
    assert (x.shape, c.shape) == ((0, 3), (0, 1))
    assert len(encoding.decode(x, c)) == 0


def test_marginals_reproduce_the_distribution_of_small_values() -> None:
    rng = np.random.default_rng(1)
    events = sample(2000)
    events["a"] = (1e-6 * rng.exponential(size=2000)).astype("f4")
    encoding = fit(events, {"step": "marginals"})
    noise = torch.randn(2000, 3, generator=torch.Generator().manual_seed(1))
    generated = ak.to_numpy(encoding.decode(noise, torch.zeros(2000, 1))["a"])
    assert scipy.stats.ks_2samp(generated, ak.to_numpy(events["a"])).pvalue > 1e-3


@pytest.mark.parametrize("windows", [1, 24])
def test_a_constant_condition_needs_only_one_window(windows: int) -> None:
    events, scales = degenerate("two energies" if windows == 1 else "one energy")
    tables = [
        {"step": "marginals", "windows": windows, "condition": "energy"},
        {"step": "marginals"},
    ]
    conditional, plain = (
        fit(events, table, **scales).encode(events, seed=1)[0] for table in tables
    )
    torch.testing.assert_close(conditional, plain)


BAD = [0, -1, 10**20, 10**400, 1.5, "x", float("nan"), float("inf"), True]


@pytest.mark.parametrize("step", STEPS)
def test_settings_beyond_their_limits_raise_with_step_and_key(step: str) -> None:
    hints = typing.get_type_hints(STEPS[step].fit, include_extras=True)  # type: ignore[attr-defined]
    for key in sorted(options(step)):
        limits = getattr(hints[key], "__metadata__", (None,))[0]
        for value in BAD if limits else BAD[6:8]:
            whole = typing.get_args(hints[key])[:1] == (int,)
            number = isinstance(value, int if whole else (int, float)) and value is not True
            if limits and number and value in limits and (whole or value != 10**400):
                continue
            table = {"step": step, **NEEDED.get(step, {}), key: value}
            with pytest.raises(RunError, match=rf"the step '{step}': encoding.steps\[0\].{key}"):
                fit(sample(5), table)
    for key in sorted(options(step) & {"range", "to"}):
        for pair in ([1.0, 1.0], [2.0, 1.0], [float("nan"), 1.0], [0.0, float("inf")]):
            with pytest.raises(RunError, match=f"the step '{step}': .*{key}"):
                fit(sample(5), {"step": step, key: pair})


def test_every_numeric_step_setting_has_limits() -> None:
    for step, cls in STEPS.items():
        hints = typing.get_type_hints(cls.fit, include_extras=True)  # type: ignore[attr-defined]
        for key in options(step):
            bare = [
                hint for hint in (hints[key], *typing.get_args(hints[key])) if hint in (int, float)
            ]
            assert typing.get_origin(hints[key]) is typing.Annotated or not bare, (step, key)


def test_tables_too_large_for_memory_raise() -> None:
    wide = Schema.from_table({"fields": {"v": {"shape": [1000]}}})
    events = ak.zip({"v": np.ones((3, 1000))}, depth_limit=1)
    table = {"step": "marginals", "windows": 4096, "knots": 4096}
    with pytest.raises(RunError, match="'marginals': its tables would have 16,777,216,000 numbers"):
        Encoding.fit(events, wide, EncodingSettings((table,)), seed=1)


@pytest.mark.parametrize(
    ("bounds", "scale", "message"),
    [
        ((0.0, 1e20), "onehot", "has 1e\\+20 classes, but the scale 'onehot' allows at most 1000"),
        ((0.0, 1000.0), "onehot", "has 1001 classes"),
        ((2.0, 1.0), "linear", "does not suit its scale 'linear'"),
        ((-3e38, 3e38), "linear", "does not suit its scale 'linear'"),
        ((0.0, 1e300), "linear", "does not suit its scale 'linear'"),
        ((float("nan"), 1.0), "linear", "does not suit its scale 'linear'"),
        ((0.0, float("inf")), "fraction", "does not suit its scale 'fraction'"),
        ((1e-320, 1.0), "log", "does not suit its scale 'log'"),
    ],
)
def test_degenerate_condition_ranges_raise(
    bounds: tuple[float, float], scale: Any, message: str
) -> None:
    with pytest.raises(RunError, match=message):
        ConditionScale(bounds, scale)


@pytest.mark.parametrize("scale", ["linear", "log", "fraction", "onehot"])
def test_a_constant_condition_round_trips(scale: Any) -> None:
    only = ConditionScale((50.0, 50.0), scale)
    values = torch.full((3,), 50.0)
    assert only.allows(values).all()
    assert not only.allows(values + 1).any()
    c = only.encode(values)
    assert c.isfinite().all()
    torch.testing.assert_close(only.decode(c), values)


def test_a_plugin_step_is_saved_and_a_missing_plugin_raises_with_its_name() -> None:
    @base.register_step("test_shift")
    @dataclasses.dataclass(frozen=True)
    class Shift:
        by: float
        mean: torch.Tensor

        @classmethod
        def fit(cls, x: Any, c: Any, columns: Any, noise: Any, *, by: float = 1.0) -> Any:
            return cls(by, x.mean(0))

        def encode(self, x: torch.Tensor, c: torch.Tensor, noise: Any) -> torch.Tensor:
            return x - self.mean.to(x) + self.by

        def decode(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
            return x + self.mean.to(x) - self.by

    schema = Schema.from_table({"fields": {"x": {}}})
    events = ak.Array({"x": [0.0, 1.0, 5.0]})
    try:
        settings = EncodingSettings(({"step": "test_shift", "by": 2.0},))
        encoding = Encoding.fit(events, schema, settings, seed=1)
        loaded = Encoding.unpack(schema, *encoding.pack())
        assert loaded.steps == encoding.steps
        assert hash(loaded) == hash(encoding)
        table, tensors = encoding.pack()
        x, c = loaded.encode(events, seed=1)
        assert x[:, 0].tolist() == [0.0, 1.0, 5.0]
        assert loaded.decode(x, c)["x"].tolist() == [0.0, 1.0, 5.0]
    finally:
        del base.STEPS["test_shift"], base.NAMES[Shift]
    with pytest.raises(
        CheckpointError, match=f"'test_shift' is defined by the plugin '{__name__}'"
    ):
        Encoding.unpack(schema, table, tensors)


def test_encodings_compare_by_value_and_have_a_short_repr() -> None:
    events = sample(50)
    one, same, other = (fit(events, {"step": name}) for name in ("scale", "scale", "standardize"))
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert "bounds, scale" in repr(one)
    assert "50 events" in repr(one)
    assert len(repr(one)) < 300
    assert "<table>" in one._repr_html_()
