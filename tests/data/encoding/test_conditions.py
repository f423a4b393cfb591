"""Scales of conditions are inverted exactly, angles know the circle, and classes are any integers."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hepgan.config import from_table, to_table
from hepgan.data.encoding.conditions import ConditionScale
from hepgan.data.encoding.encoding import Encoding, EncodingSettings
from hepgan.data.schema import Schema
from hepgan.errors import DataError, RunError
from hepgan.gan.conditions import Choice, Range
from hepgan.gan.export.decoded import DecodedGenerator
from hepgan.gan.export.files import export
from hepgan.gan.model import GAN
from hepgan.gan.networks import GANSettings

SCHEMA = Schema.from_table(
    {
        "fields": {"v": {}},
        "conditions": {
            "energy": {"unit": "GeV"},
            "pdg": {"dtype": "int32"},
            "theta": {"unit": "rad"},
            "phi": {"unit": "rad"},
        },
    }
)
SCALES = {
    "energy": ConditionScale((1.0, 50.0), "log"),
    "pdg": ConditionScale(scale="classes", values=(22, -11)),
    "theta": ConditionScale((0.0, 0.35), "angle"),
    "phi": ConditionScale(scale="angle"),
}
STANDARDIZE = ({"step": "standardize"},)


def sample(number: int, **columns: Any) -> ak.Array:
    rng = np.random.default_rng(1)
    values = {
        "v": rng.normal(size=number),
        "energy": rng.uniform(1, 50, number),
        "pdg": rng.choice([22, -11], number, p=[0.8, 0.2]),
        "theta": rng.uniform(0, 0.35, number),
        "phi": rng.uniform(-math.pi, math.pi, number),
    }
    return ak.zip({**values, **columns}, depth_limit=1)


def fitted(events: ak.Array, **scales: ConditionScale) -> Encoding:
    return Encoding.fit(events, SCHEMA, EncodingSettings(STANDARDIZE, {**SCALES, **scales}), seed=1)


@pytest.fixture(scope="module")
def gan() -> GAN:
    networks = GANSettings((2,), generator="COND, DENSE|N|TANH", discriminator="DENSE|1|LINEAR")
    return GAN.build(networks, fitted(sample(500)), seed=1)


@settings(deadline=None)
@given(angle=st.floats(-20, 20), start=st.floats(-7, 7), turns=st.integers(-3, 3))
def test_an_angle_and_one_full_circles_away_are_the_same_condition(
    angle: float, start: float, turns: int
) -> None:
    for scale, period in (("angle", 2 * math.pi), ("degrees", 360.0)):
        full = ConditionScale((start, start + period), scale)  # type: ignore[arg-type]
        values = torch.tensor([angle, angle + turns * period], dtype=torch.float64)
        assert full.allows(values).all()
        c = full.encode(values)
        torch.testing.assert_close(c[0], c[1])
        torch.testing.assert_close(c.square().sum(1), torch.ones(2, dtype=torch.float64))
        back = full.decode(c)
        assert ((back >= start - 1e-9) & (back <= start + period + 1e-9)).all()
        turned = (back - values) / period
        torch.testing.assert_close(turned, turned.round(), rtol=0, atol=1e-9)


def test_columns_of_an_angle_are_its_sine_and_cosine() -> None:
    c = ConditionScale(scale="degrees").encode(torch.tensor([0.0, 90.0, 210.0]))
    torch.testing.assert_close(c, torch.tensor([[0.0, 1.0], [1.0, 0.0], [-0.5, -math.sqrt(0.75)]]))


@pytest.mark.parametrize("limits", [(0.0, 6.2832), (0.0, 6.283), (-3.1416, 3.1416)])
def test_a_rounded_full_circle_has_no_gap(limits: tuple[float, float]) -> None:
    scale = ConditionScale(limits, "angle")
    assert scale.circle
    assert scale.allows(torch.linspace(-7, 7, 1000)).all()
    assert scale.allows_range(-3.0, 3.0)


def test_part_of_a_circle_is_checked_as_a_range() -> None:
    scale = ConditionScale((0.0, 0.35), "angle")
    inside = scale.allows(torch.tensor([0.0, 0.35, 0.36, -0.01, 3.0, math.nan, math.inf]))
    assert inside.tolist() == [True, True, False, False, False, False, False]
    assert scale.allows_range(0.1, 0.3)
    # Both ends are allowed, but the arc between them is not.
    assert not scale.allows_range(0.1, 0.1 + 2 * math.pi)
    across = ConditionScale((-0.2, 0.2), "angle")
    assert across.allows(torch.tensor([2 * math.pi - 0.1, 0.1])).all()
    assert across.decode(across.encode(torch.tensor([6.2]))).item() == pytest.approx(
        6.2 - 2 * math.pi, abs=1e-5
    )


@settings(deadline=None)
@given(values=st.lists(st.integers(-(2**24), 2**24), min_size=1, max_size=9, unique=True))
def test_classes_are_any_integers_in_the_order_of_their_columns(values: list[int]) -> None:
    scale = ConditionScale(scale="classes", values=tuple(values))
    events = torch.tensor(values, dtype=torch.float32)
    assert torch.equal(scale.encode(events), torch.eye(len(values)))
    assert torch.equal(scale.decode(torch.eye(len(values))), events)
    assert scale.allows(events).all()
    assert not scale.allows(events + 0.5).any() or max(map(abs, values)) > 2**22
    assert scale.range == (min(values), max(values))


def test_onehot_is_the_classes_of_a_range() -> None:
    digits = ConditionScale((3.0, 6.0), "onehot")
    classes = ConditionScale(scale="classes", values=(3, 4, 5, 6))
    values = torch.tensor([6.0, 3.0, 4.0])
    assert torch.equal(digits.encode(values), classes.encode(values))
    assert digits.classes == classes.classes


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"scale": "classes"}, r"classes \[\]; give different integers, such as values = \[22"),
        ({"scale": "classes", "values": [22, 22]}, "give different integers"),
        ({"scale": "classes", "values": [1000822080]}, "float32 cannot represent"),
        ({"scale": "classes", "values": [1, 2], "range": [0.0, 9.0]}, "omit the range"),
        ({"scale": "classes", "values": list(range(1001))}, "has 1001 classes"),
        (
            {"values": [22, 11], "range": [0.0, 1.0]},
            "the scale 'linear'; write scale = \"classes\"",
        ),
        ({}, r"'linear' needs range = \[low, high\]"),
        ({"scale": "angle", "range": [0.0, 360.0]}, "wider than a full circle, which is 6.28319"),
        ({"scale": "sorts", "range": [0.0, 1.0]}, "is not one of linear, log, fraction, angle"),
    ],
)
def test_settings_that_make_no_scale_raise(table: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError, match=message):
        from_table(ConditionScale, table, where="encoding.conditions.c")


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_scales_survive_run_files_and_saved_encodings(scale: ConditionScale) -> None:
    for table in (to_table(scale), scale.table()):
        assert from_table(ConditionScale, json.loads(json.dumps(table)), where="c") == scale


def test_events_with_all_kinds_of_conditions_round_trip() -> None:
    events = sample(300)
    encoding = fitted(events)
    again = Encoding.unpack(SCHEMA, *encoding.pack())
    assert again.scales == encoding.scales
    x, c = again.encode(events, seed=1)
    assert c.shape == (300, 1 + 2 + 2 + 2)
    back = again.decode(x, c)
    for name in ("energy", "pdg", "theta"):
        np.testing.assert_allclose(back[name], events[name], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.sin(back["phi"] - events["phi"]), 0, atol=1e-6)
    assert "pdg classes one of 22, -11, theta angle 0 to 0.35" in repr(encoding)


def test_requests_name_classes_by_value_and_angles_on_any_turn(gan: GAN) -> None:
    events = gan.sample(200, pdg=-11, energy=Range(2, 9), theta=0.1, phi=Range(-3.14, 3.14), seed=1)
    assert set(events["pdg"].tolist()) == {-11}
    assert ak.min(events["phi"]) < -2.5
    one, other = (
        gan.sample(9, pdg=22, energy=5.0, theta=0.1, phi=1.0 + turn, seed=1)["v"]
        for turn in (0.0, 2 * math.pi)
    )
    np.testing.assert_allclose(one, other, rtol=1e-5)


def test_classes_left_out_of_a_request_are_drawn_with_equal_probability(gan: GAN) -> None:
    rest: dict[str, Any] = {"energy": 5.0, "theta": 0.1, "phi": 0.0, "seed": 1}
    drawn = ak.to_numpy(gan.sample(4000, **rest)["pdg"])
    assert drawn.dtype == np.int32
    assert np.count_nonzero(drawn == 22) == pytest.approx(2000, abs=130)
    some = ak.to_numpy(gan.sample(4000, pdg=Choice((22, 22, -11, 22)), **rest)["pdg"])
    assert np.count_nonzero(some == 22) == pytest.approx(3000, abs=110)
    listed = gan.sample(pdg=[22, -11, 22], **rest)
    assert listed["pdg"].tolist() == [22, -11, 22]


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"pdg": 11}, r"pdg = 11 is not a class; it may be one of 22, -11; did you mean -11\?"),
        ({"pdg": 211}, r"pdg = 211 is not a class; it may be one of 22, -11$"),
        (
            {"pdg": Range(-11, 22)},
            r"pdg = -11:22 is a range, but pdg is a class, one of 22, -11; .* list some: --condition pdg=-11,22 ",
        ),
        ({"pdg": Choice((22, 11))}, r"pdg = 11 is not a class"),
        ({"pdg": Choice(())}, r"pdg = Choice\(values=\(\)\) needs one or more numbers"),
        (
            {"theta": Range(0.0, 0.3, "log")},
            r"theta = 0:0.3 has the scale 'log'; choose linear, or log for positive limits",
        ),
        ({"theta": 0.4}, r"theta = 0.4 is outside the trained range of 0 to 0.35"),
        ({"theta": Range(0.1, 0.4)}, r"theta = 0.1:0.4 is not inside .* trained on, 0 to 0.35"),
        ({"phi": math.nan}, r"phi = nan in event 0 is not finite; it may be 0 to 6.28"),
        ({"energy": 51.0}, r"energy = 51 is outside the trained range of 1 to 50"),
    ],
)
def test_requests_outside_the_training_raise(
    gan: GAN, conditions: dict[str, Any], message: str
) -> None:
    usual: dict[str, Any] = {"energy": 5.0, "pdg": 22, "theta": 0.1, "phi": 0.0}
    with pytest.raises(DataError, match=message):
        gan.sample(3, conditions=usual | conditions, seed=1)


def test_an_angle_in_another_unit_raises() -> None:
    for scale, unit in (("degrees", "rad"), ("angle", "deg"), ("angle", "mrad")):
        phi = dataclasses.replace(SCHEMA.conditions["phi"], unit=unit)
        schema = dataclasses.replace(SCHEMA, conditions={**SCHEMA.conditions, "phi": phi})
        table = EncodingSettings(STANDARDIZE, {**SCALES, "phi": ConditionScale(scale=scale)})  # type: ignore[arg-type]
        with pytest.raises(RunError, match=f"phi. unit = '{unit}', but .* scale = '{scale}'"):
            Encoding.fit(sample(50), schema, table, seed=1)


def test_steps_that_take_one_number_refuse_angles_and_classes() -> None:
    for name, scale in (("pdg", "classes"), ("phi", "angle")):
        table = EncodingSettings(({"step": "marginals", "condition": name},), SCALES)
        with pytest.raises(RunError, match=f"'{name}', whose scale '{scale}' has 2 columns"):
            Encoding.fit(sample(200), SCHEMA, table, seed=1)


def test_a_class_with_too_few_events_raises_with_its_number() -> None:
    few = np.where(np.arange(200) < 7, -11, 22)
    with pytest.raises(DataError, match="pdg = -11 has 7 training events, but .* at least 10"):
        fitted(sample(200, pdg=few))
    scale = ConditionScale(scale="classes", values=(22, -11, 211))
    with pytest.raises(DataError, match=r"pdg = 211 has 0 .* \[encoding.conditions.pdg\]"):
        fitted(sample(200), pdg=scale)


def test_a_condition_that_never_varies_needs_a_range_of_one_value() -> None:
    events = sample(200, energy=np.full(200, 5.0), phi=np.full(200, 1.0))
    with pytest.raises(DataError, match=r"energy = 5 in all 200 .* write .* range = \[5, 5\]"):
        fitted(events)
    constant = ConditionScale((5.0, 5.0), "log")
    with pytest.raises(DataError, match=r"phi = 1 in all 200 .* range is 0 to 6.28"):
        fitted(events, energy=constant)
    encoding = fitted(events, energy=constant, phi=ConditionScale((1.0, 1.0), "angle"))
    back = encoding.decode(*encoding.encode(events, seed=1))
    np.testing.assert_allclose(back["energy"], 5, rtol=1e-6)
    np.testing.assert_allclose(back["phi"], 1, rtol=1e-6)


def test_classes_of_a_stream_are_counted_over_all_its_chunks() -> None:
    events = sample(60, pdg=np.where(np.arange(60) % 5, 22, -11))
    table = EncodingSettings(STANDARDIZE, SCALES)
    chunks = [events[i : i + 6] for i in range(0, 60, 6)]
    encoding = Encoding.fit_stream(lambda: chunks, SCHEMA, table, seed=1, sample=20)
    assert encoding.fitted_events == 60
    with pytest.raises(DataError, match="pdg = -11 has 6 training events"):
        Encoding.fit_stream(lambda: chunks[:5], SCHEMA, table, seed=1)


@pytest.mark.parametrize("ending", ["onnx", "pt2"])
def test_exported_models_take_angles_and_classes(gan: GAN, ending: str, tmp_path: Path) -> None:
    export(gan, path := tmp_path / f"model.{ending}")
    noise = torch.randn(5, 2, generator=torch.Generator().manual_seed(1))
    values = {
        "energy": torch.tensor([1.0, 2.0, 9.0, 40.0, 50.0]),
        "pdg": torch.tensor([22.0, -11.0, 22.0, 22.0, -11.0]),
        "theta": torch.full((5,), 0.2),
        "phi": torch.tensor([-3.0, 0.0, 1.0, 4.0, 6.0]),
    }
    with torch.no_grad():
        (expected,) = DecodedGenerator(gan).eval()(noise, *values.values())
        if ending == "onnx":
            session = onnxruntime.InferenceSession(path)
            feed = {name: value.numpy() for name, value in values.items()}
            (result,) = session.run(None, {"noise": noise.numpy(), **feed})
            about = json.loads(session.get_modelmeta().custom_metadata_map["hepgan"])
            assert about["inputs"]["pdg"]["classes"] == [22, -11]
            assert about["inputs"]["theta"]["range"] == [0.0, 0.35]
        else:
            (result,) = torch.export.load(path).module()(noise, *values.values())
    np.testing.assert_allclose(result, expected, rtol=1e-5)
