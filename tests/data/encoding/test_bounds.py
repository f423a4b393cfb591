"""Generated values stay within physical limits: those of the schema, or the sign of the training data."""

import json
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hepgan.config import from_table, to_table
from hepgan.data.encoding.bounds import check_bounds
from hepgan.data.encoding.encoding import Encoding, EncodingSettings
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError, RunError
from hepgan.pipeline import as_toml, load

NONE = torch.empty(4000, 0)
STEPS: list[list[dict[str, Any]]] = [
    [],
    [{"step": "scale", "clip": False}],
    [{"step": "standardize"}],
    [{"step": "power", "exponent": 0.5}, {"step": "robust_standardize"}],
    [{"step": "marginals"}],
    [{"step": "copula"}],
]


def fit(events: ak.Array, schema: Schema, steps: list[dict[str, Any]]) -> Encoding:
    return Encoding.fit(events, schema, EncodingSettings(tuple(steps)), seed=1)


def noise(width: int) -> torch.Tensor:
    """Far beyond the training data."""
    return 10 * torch.randn(4000, width, generator=torch.Generator().manual_seed(1))


def events(number: int = 500) -> ak.Array:
    rng = np.random.default_rng(1)
    columns = {
        "pt": 20 + rng.exponential(50, number),
        "depth": -rng.exponential(3, number),
        "eta": rng.normal(0, 1, number),
        "cells": np.stack([rng.exponential(1, number), np.zeros(number)], 1),
    }
    return ak.zip({name: v.astype("f4") for name, v in columns.items()}, depth_limit=1)


SIGNS = {"fields": {"pt": {}, "depth": {}, "eta": {}, "cells": {"shape": [2]}}}
LIMITS = {"fields": {**SIGNS["fields"], "pt": {"minimum": 20.0}, "eta": {"minimum": -2.5, "maximum": 5.1}}}  # fmt: skip


@pytest.mark.parametrize("steps", STEPS, ids=str)
def test_generated_values_keep_the_sign_of_the_training_data(steps: list[dict[str, Any]]) -> None:
    encoding = fit(events(), Schema.from_table(SIGNS), steps)
    generated = encoding.decode(noise(5), NONE)
    assert ak.min(generated["pt"]) >= 0
    assert ak.max(generated["depth"]) <= 0
    assert ak.min(generated["cells"]) >= 0
    assert ak.min(generated["eta"]) < -3
    assert ak.max(generated["eta"]) > 3
    assert ak.max(generated["cells"]) > 3


@pytest.mark.parametrize("steps", STEPS, ids=str)
def test_generated_values_stay_within_the_limits_of_the_schema(steps: list[dict[str, Any]]) -> None:
    sample = events()
    sample = sample[sample["eta"] > -2.5]
    schema = Schema.from_table(LIMITS)
    encoding = fit(sample, schema, steps)
    saved = Encoding.unpack(schema, *encoding.pack())
    for each in (encoding, saved):
        generated = each.decode(noise(5), NONE)
        assert ak.min(generated["pt"]) == 20
        assert -2.5 <= ak.min(generated["eta"]) < -2.49
        # The float32 next to 5.1 is above it.
        assert 5.0 < np.float64(ak.max(generated["eta"])) <= 5.1
    x, c = encoding.encode(sample, seed=1)
    back = encoding.decode(x, c)
    np.testing.assert_allclose(back["eta"], sample["eta"], rtol=1e-4, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    low=st.none() | st.floats(-5, 0),
    high=st.none() | st.floats(0, 5),
    dtype=st.sampled_from(["float32", "float64", "int32"]),
    seed=st.integers(0, 100),
)
def test_arbitrary_limits_are_respected(
    low: float | None, high: float | None, dtype: str, seed: int
) -> None:
    limits = {"minimum": low, "maximum": high}
    fixed = {name: limit for name, limit in limits.items() if limit is not None}
    schema = Schema.from_table({"fields": {"v": {"dtype": dtype, **fixed}}})
    values = np.random.default_rng(seed).normal(0, 2, 50)
    values = values.clip(-5 if low is None else low, 5 if high is None else high)
    values = np.trunc(values) if dtype == "int32" else values
    sample = ak.zip({"v": values.astype(dtype)}, depth_limit=1)
    generated = fit(sample, schema, [{"step": "standardize"}]).decode(noise(1), NONE)["v"]
    assert low is None or low <= ak.min(generated)
    assert high is None or ak.max(generated) <= high


def test_each_tail_is_extrapolated_with_its_own_slope() -> None:
    """The lower tail of an exponential distribution is short, the upper one long."""
    sample = events(20_000)
    schema = Schema.from_table({"fields": {"pt": {}}})
    encoding = fit(sample, schema, [{"step": "marginals"}])
    ends = torch.tensor([[-4.0], [-6.0], [4.0], [6.0]])
    first, below, last, above = encoding.decode(ends, NONE[:4])["pt"].tolist()
    assert 0 < first - below < 40
    assert above - last > 100


def test_training_events_beyond_their_limits_raise_with_the_event() -> None:
    schema = Schema.from_table({"fields": {"pt": {"minimum": 0.0, "maximum": 0.1}}})
    rounded = ak.Array({"pt": np.array([0.0, 0.1], "f4")})
    encoding = fit(rounded, schema, [])
    wrong = ak.Array({"pt": np.array([0.0, 0.05, -3.0], "f4")})
    message = r"field 'pt' is -3 in event 2, below its minimum of 0; change \[schema.fields.pt\]"
    with pytest.raises(DataError, match=message):
        fit(wrong, schema, [])
    with pytest.raises(DataError, match=message):
        encoding.encode(wrong, seed=1)
    with pytest.raises(DataError, match="is 7 in event 5, above its maximum of 0.1"):
        Encoding.fit_stream(
            lambda: [rounded, rounded, ak.Array({"pt": [0.0, 7.0]})],
            schema, EncodingSettings(()), seed=1,
        )  # fmt: skip


def test_padding_of_a_list_is_not_checked_against_the_limits() -> None:
    field = Field(shape=(3,), fill=0.0, minimum=20.0)
    padded = np.array([[30.0, 0.0, 0.0]])
    assert check_bounds(padded, field, "pt") is padded
    with pytest.raises(DataError, match="'pt' is 10 in event 0, below its minimum of 20"):
        check_bounds(padded - 20, field, "pt")


def test_signs_are_inferred_from_all_events_of_a_stream() -> None:
    schema = Schema.from_table({"fields": {"v": {}}})
    chunks = [ak.Array({"v": np.full(1000, value)}) for value in (1.0, 2.0, -1.0)]
    for number, least in ((2, 0.0), (3, -5.0)):
        encoding = Encoding.fit_stream(
            lambda n=number: chunks[:n], schema, EncodingSettings(()), seed=1, sample=1
        )  # fmt: skip
        assert encoding.decode(torch.tensor([[-5.0]]), NONE[:1])["v"].tolist() == [least]


def test_limits_pass_gradients_and_nan_through() -> None:
    encoding = fit(events(), Schema.from_table(LIMITS | SIGNS), [])
    x = torch.tensor([[30.0, -1.0, 0.5, 1.0, 0.0], [torch.nan] * 5], requires_grad=True)
    decoded = encoding.decode_tensors(x, NONE[:2])
    assert all(values[1].isnan().all() for values in decoded.values())
    sum(values[0].sum() for values in decoded.values()).backward()
    assert x.grad is not None
    assert x.grad[0].tolist() == [1.0] * 5


def test_limits_are_written_to_run_files_and_saved_schemas(tiny_run: Path) -> None:
    text = tiny_run.read_text().replace('[schema.fields.a]\n', "[schema.fields.a]\nminimum = 0.0\nmaximum = 1e3\n")  # fmt: skip
    tiny_run.write_text(text)
    run = load(tiny_run)
    assert (run.schema.fields["a"].minimum, run.schema.fields["a"].maximum) == (0.0, 1000.0)
    tiny_run.write_text(as_toml(run))
    assert load(tiny_run).schema == run.schema
    saved = json.loads(json.dumps(to_table(run.schema)))
    assert from_table(Schema, saved, where="schema") == run.schema


@pytest.mark.parametrize(
    "table",
    [
        {"minimum": 2.0, "maximum": 1.0},
        {"minimum": float("nan")},
        {"maximum": float("-inf")},
        {"minimum": float("inf")},
    ],
)
def test_a_minimum_above_the_maximum_raises(table: dict[str, float]) -> None:
    with pytest.raises(RunError, match="the minimum must not exceed the maximum|NaN"):
        Schema.from_table({"fields": {"v": table}})


def test_conditions_are_limited_by_their_range() -> None:
    with pytest.raises(
        RunError, match=r"give a condition a range instead: \[encoding.conditions.e\]"
    ):
        Schema.from_table({"fields": {"v": {}}, "conditions": {"e": {"minimum": 1.0}}})
