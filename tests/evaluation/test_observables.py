"""Observables against their definitions, written out cell by cell."""

import math

import awkward as ak
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError, RunError
from hepgan.evaluation.metrics import features
from hepgan.evaluation.observables import shower_shapes
from hepgan.evaluation.observables.base import SharedEvents
from hepgan.evaluation.observables.geometry import LayerGeometry, shower_layers
from hepgan.evaluation.observables.standard import (
    Observable,
    arrays,
    evaluate_observables,
    observables_for,
)

LAYERS = {"layer_0": (3, 8), "layer_1": (4, 4)}
SCHEMA = Schema(
    {name: Field(shape, "MeV") for name, shape in LAYERS.items()},
    {"energy": Field((), "GeV")},
    incident="energy",
)
GEOMETRY = {
    "layer_0": LayerGeometry(cell=(160.0, 5.0)),
    "layer_1": LayerGeometry(cell=(40.0, 40.0), threshold=1.0),
}


def showers(seed: int, events: int = 50) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    cells = {
        name: rng.exponential(5.0, (events, *shape)) * (rng.random((events, *shape)) < 0.5)
        for name, shape in LAYERS.items()
    }
    return {**cells, "energy": rng.uniform(1, 100, events)}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_observables_equal_their_published_formulas(seed: int) -> None:
    events = showers(seed)
    found = evaluate_observables(events, observables_for(SCHEMA, GEOMETRY))
    for e in range(len(events["energy"])):
        sums = [events[name][e].sum() for name in LAYERS]
        e_tot = sum(sums)
        expected = {
            "E_tot": e_tot,
            "E_tot_over_E_inc": e_tot / (1000 * events["energy"][e]),
            "depth": 1.0 if sums[1] > 0 else 0.0,
            "l_d": sums[1],
            "s_d": sums[1] / e_tot,
            "sigma_sd": math.sqrt(max(sums[1] / e_tot - (sums[1] / e_tot) ** 2, 0)),
            "layer_0.energy": sums[0],
            "layer_0.fraction": sums[0] / e_tot,
            "layer_0.occupancy": np.mean(events["layer_0"][e] > 0),
            "layer_1.occupancy": np.mean(events["layer_1"][e] > 1.0),
        }
        for name, pitch in {"layer_0": (160.0, 5.0), "layer_1": (40.0, 40.0)}.items():
            cells = events[name][e]
            e1, e2 = np.sort(cells.ravel())[::-1][:2]
            expected[f"{name}.E_ratio"] = (e1 - e2) / (e1 + e2)
            for axis, letter in enumerate("xy"):
                n = cells.shape[axis]
                at = (np.arange(n) - (n - 1) / 2) * pitch[axis]
                weights = cells.sum(axis=1 - axis)
                mean = np.average(at, weights=weights)
                expected[f"{name}.center_{letter}"] = mean
                expected[f"{name}.width_{letter}"] = math.sqrt(
                    max(np.average(at**2, weights=weights) - mean**2, 0)
                )
        for name, value in expected.items():
            assert found[name][e] == pytest.approx(value, rel=1e-6, abs=1e-5), name


def test_the_same_function_serves_numpy_and_torch() -> None:
    events = showers(1)
    tensors = {name: torch.from_numpy(values) for name, values in events.items()}
    for name, observable in observables_for(SCHEMA, GEOMETRY).items():
        from_arrays, from_tensors = observable.function(events), observable.function(tensors)
        np.testing.assert_allclose(
            from_tensors.numpy(), from_arrays, rtol=1e-10, atol=1e-10, err_msg=name
        )


def test_shared_events_give_the_same_observables_and_read_each_layer_once() -> None:
    events, reads = showers(3), []

    class Counted(SharedEvents):
        def __getitem__(self, name: str) -> np.ndarray:
            reads.append(name)
            return super().__getitem__(name)

    shared = Counted(events)
    for observable in observables_for(SCHEMA, GEOMETRY).values():
        np.testing.assert_array_equal(observable.function(shared), observable.function(events))
    assert {name: reads.count(name) for name in LAYERS} == dict.fromkeys(LAYERS, 1)


def test_gradients_are_correct_and_finite_even_for_empty_layers() -> None:
    events = {name: torch.from_numpy(v[:3]) for name, v in showers(2).items()}
    events["layer_0"][1] = 0.0
    events["layer_1"][2] = 0.0
    events["layer_0"][2] = 0.0
    events["layer_0"][2, 1, 3] = 4.0  # one nonzero cell: the width is 0
    for values in events.values():
        values.requires_grad_()
    for name, observable in observables_for(SCHEMA, GEOMETRY, missing=0.0).items():
        value = observable.function(events)
        assert torch.isfinite(value).all(), name
        if value.requires_grad:
            for gradient in torch.autograd.grad(
                value.sum(), list(events.values()), allow_unused=True
            ):
                assert gradient is None or torch.isfinite(gradient).all(), name
    cells = torch.rand(4, 9, dtype=torch.float64, requires_grad=True)
    at = tuple(float(i) for i in range(9))
    assert torch.autograd.gradcheck(lambda c: shower_shapes.width(c, at), cells)
    assert torch.autograd.gradcheck(shower_shapes.hottest_ratio, cells)


def test_an_empty_layer_has_no_center() -> None:
    events = {name: np.zeros_like(values) for name, values in showers(3).items()}
    evaluated = evaluate_observables(events, observables_for(SCHEMA, GEOMETRY))
    assert np.isnan(evaluated["layer_0.center_x"]).all()
    assert np.isnan(evaluated["layer_0.E_ratio"]).all()
    assert (evaluated["layer_0.energy"] == 0).all()


@pytest.mark.parametrize(
    ("radial", "angular", "number"),
    [
        ((8, 16, 19, 5, 5), (1, 10, 10, 1, 1), 30),
        ((8, 10, 10, 5, 15, 16, 10), (1, 10, 10, 1, 10, 10, 1), 46),
        ((9,) * 45, (16,) * 45, 362),
    ],
)
def test_high_level_vector_has_as_many_features_as_in_the_calochallenge(
    radial: tuple[int, ...], angular: tuple[int, ...], number: int
) -> None:
    shapes = {f"layer_{i}": (a, r) for i, (a, r) in enumerate(zip(angular, radial, strict=True))}
    schema = Schema(
        {n: Field(s, "MeV") for n, s in shapes.items()}, {"energy": Field((), "MeV")}, "energy"
    )
    geometry = {
        n: LayerGeometry(r_edges=tuple(np.linspace(0, 100, s[1] + 1))) for n, s in shapes.items()
    }
    rng = np.random.default_rng(0)
    events = {n: rng.exponential(1.0, (20, *s)) for n, s in shapes.items()}
    observables = observables_for(schema, geometry)
    values = evaluate_observables({**events, "energy": rng.uniform(1e3, 1e6, 20)}, observables)
    x, _ = features.high_level(values, values, observables)
    assert x.shape == (20, number)


def test_both_feature_vectors_equal_the_calochallenges_on_random_voxels() -> None:
    """Data set 1 (photons) of arXiv:2410.21611: layers 0, 1, 2, 3, 12, of which 1 and 2 have bins in α."""
    radial, angular = (8, 16, 19, 5, 5), (1, 10, 10, 1, 1)
    shapes = {f"layer_{i}": (a, r) for i, (a, r) in enumerate(zip(angular, radial, strict=True))}
    edges = {n: tuple(np.cumsum([0.0, *range(1, r + 1)])) for n, (_, r) in shapes.items()}
    rng = np.random.default_rng(9)
    events = {
        n: rng.exponential(50.0, (30, *s)) * (rng.random((30, *s)) < 0.6) for n, s in shapes.items()
    }
    for voxels in events.values():
        voxels[:, 0, 0] += 1.0
    events["layer_2"][4] = 0.0
    incident = np.exp(rng.uniform(np.log(256), np.log(4e6), 30))
    schema = Schema(
        {n: Field(s, "MeV") for n, s in shapes.items()}, {"energy": Field((), "MeV")}, "energy"
    )
    geometry = {n: LayerGeometry(r_edges=edges[n]) for n in shapes}
    observables = observables_for(schema, geometry)
    sample = {**events, "energy": incident}
    values = evaluate_observables(sample, observables)
    high, _ = features.high_level(values, values, observables)
    expected = [
        np.log10(incident),
        np.log10(sum(v.sum(axis=(1, 2)) for v in events.values()) + 1e-8),
    ]
    for name, voxels in events.items():
        energy = voxels.sum(axis=(1, 2))
        positive = energy > 0
        expected += [np.log10(energy + 1e-8), 1 - np.mean(voxels > 0, axis=(1, 2))]
        middle = (np.array(edges[name][1:]) + np.array(edges[name][:-1])) / 2
        count = voxels.shape[1]
        angle = -np.pi + (np.arange(count) + 0.5) * 2 * np.pi / count
        at = [np.ones((count, 1)) * middle]
        if count > 1:
            at += [np.cos(angle)[:, None] * middle, np.sin(angle)[:, None] * middle]
        for position in at:
            first = (voxels * position).sum(axis=(1, 2))[positive] / energy[positive]
            second = (voxels * position**2).sum(axis=(1, 2))[positive] / energy[positive]
            for moment in (first, np.sqrt(second - first**2)):
                column = np.full(
                    30, moment.mean() / 100
                )  # an empty layer has none: the mean instead
                column[positive] = moment / 100
                expected.append(column)
        if not positive.all():
            expected.append(1.0 * ~positive)
    assert high.shape == (30, 30 + 6)  # six moments of layer 2, and that each is missing
    for column in expected:
        nearest = np.abs(high - column[:, None]).max(axis=0).min()
        assert nearest < 1e-6 * max(1.0, np.abs(column).max())
    low, _ = features.low_level(sample, sample, observables, network="challenge")
    cells = np.concatenate([v.reshape(30, -1) for v in events.values()], axis=1)
    assert low.shape == (30, 1 + 368)
    np.testing.assert_allclose(low[:, 0], np.log10(incident), rtol=1e-6)
    np.testing.assert_allclose(low[:, 1:], cells / incident[:, None], rtol=1e-6, atol=1e-9)
    spectrum = np.concatenate(
        [observables[f"{n}.spectrum"].function(sample) for n in shapes], axis=1
    )
    np.testing.assert_array_equal(spectrum, cells)


def test_calogan_observables_have_their_published_names() -> None:
    layers = ("layer_0", "layer_1", "layer_2")
    shapes = dict(zip(layers, ((3, 96), (12, 12), (12, 6)), strict=True))
    schema = Schema(
        {n: Field(s, "MeV") for n, s in shapes.items()}, {"energy": Field((), "GeV")}, "energy"
    )
    found = set(observables_for(schema, {}))
    of_layers = ("energy", "fraction", "occupancy", "E_ratio", "center_x", "width_x", "spectrum")
    assert {f"{layer}.{name}" for layer in layers for name in of_layers} <= found
    assert {"E_tot", "E_tot_over_E_inc", "E_inc", "depth", "l_d", "s_d", "sigma_sd"} <= found


def test_polar_voxels_have_the_centers_and_widths_of_the_calochallenge() -> None:
    edges = (0.0, 5.0, 10.0, 30.0)
    schema = Schema({"voxels": Field((6, 3), "MeV")})
    events = {"voxels": np.random.default_rng(4).exponential(1.0, (10, 6, 3))}
    found = evaluate_observables(
        events, observables_for(schema, {"voxels": LayerGeometry(r_edges=edges)})
    )
    r = np.array([2.5, 7.5, 20.0])
    angles = np.linspace(-math.pi, math.pi, 7)
    alpha = (angles[1:] + angles[:-1]) / 2
    positions = {
        "r": np.tile(r, (6, 1)),
        "eta": r * np.cos(alpha)[:, None],
        "phi": r * np.sin(alpha)[:, None],
    }
    for axis, at in positions.items():
        energy = events["voxels"].sum(axis=(1, 2))
        mean = (events["voxels"] * at).sum(axis=(1, 2)) / energy
        square = (events["voxels"] * at**2).sum(axis=(1, 2)) / energy
        np.testing.assert_allclose(found[f"voxels.center_{axis}"], mean, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(
            found[f"voxels.width_{axis}"], np.sqrt(square - mean**2), rtol=1e-6
        )


def test_a_field_of_three_axes_is_a_stack_of_layers() -> None:
    layers = shower_layers({"showers": (5, 4, 3)}, {})
    assert [layer.name for layer in layers] == [f"showers_{i}" for i in range(5)]
    cells = np.random.default_rng(5).random((7, 5, 4, 3))
    np.testing.assert_array_equal(layers[2].cells({"showers": cells}), cells[:, 2].reshape(7, 12))


def test_image_observables_are_moments() -> None:
    images = np.random.default_rng(6).integers(0, 255, (9, 28, 28)).astype(float)
    found = evaluate_observables(
        {"image": images}, observables_for(Schema({"image": Field((28, 28))}))
    )
    columns = images.sum(axis=1)
    np.testing.assert_allclose(found["image.mean"], images.mean(axis=(1, 2)))
    np.testing.assert_allclose(
        found["image.center_x"], (columns * np.arange(28)).sum(axis=1) / columns.sum(axis=1)
    )


def test_arrays_of_any_shape_have_observables_of_the_whole_event() -> None:
    rng = np.random.default_rng(7)
    events = {"image": rng.random((9, 3, 5, 4)), "wave": rng.random((9, 40))}
    schema = Schema({"image": Field((3, 5, 4)), "wave": Field((40,))})
    found = evaluate_observables(events, observables_for(schema))
    channels = events["image"].sum((2, 3))
    np.testing.assert_allclose(
        found["image.center_z"], (channels * np.arange(3)).sum(1) / channels.sum(1)
    )
    rows = events["image"].sum((1, 3))
    np.testing.assert_allclose(found["image.center_y"], (rows * np.arange(5)).sum(1) / rows.sum(1))
    np.testing.assert_allclose(found["wave.mean"], events["wave"].mean(1))
    at = (events["wave"] * np.arange(40)).sum(1) / events["wave"].sum(1)
    np.testing.assert_allclose(found["wave.center_x"], at)
    assert "wave.center_y" not in found


def test_each_column_is_an_observable() -> None:
    schema = Schema({"pt": Field((), "GeV"), "momentum": Field((3,), "GeV")})
    events = {"pt": np.arange(4.0), "momentum": np.arange(12.0).reshape(4, 3)}
    found = evaluate_observables(events, observables_for(schema))
    assert set(found) == {"pt", "momentum_0", "momentum_1", "momentum_2"}
    np.testing.assert_array_equal(found["momentum_2"], events["momentum"][:, 2])


def test_a_custom_observable_is_evaluated_with_the_others() -> None:
    custom = Observable("first", lambda e: e["layer_0"][:, 0, 0], "first cell", "MeV")
    events = showers(7)
    found = evaluate_observables(events, {**observables_for(SCHEMA, GEOMETRY), "first": custom})
    np.testing.assert_array_equal(found["first"], events["layer_0"][:, 0, 0])


def test_the_unit_of_the_incident_energy_is_converted() -> None:
    in_mev = Schema(SCHEMA.fields, {"energy": Field((), "MeV")}, "energy")
    events = showers(8)
    ratio = "E_tot_over_E_inc"
    one = evaluate_observables(events, observables_for(SCHEMA, GEOMETRY))[ratio]
    other = evaluate_observables(
        {**events, "energy": 1000 * events["energy"]}, observables_for(in_mev, GEOMETRY)
    )[ratio]
    np.testing.assert_allclose(one, other)


def test_layers_of_different_units_cannot_be_summed() -> None:
    schema = Schema({"layer_0": Field((3, 8), "MeV"), "layer_1": Field((4, 4), "GeV")})
    with pytest.raises(RunError, match=r"same unit.*layer_1 \[GeV\]"):
        observables_for(schema, GEOMETRY)


def test_a_geometry_that_does_not_fit_raises_with_the_required_layers() -> None:
    with pytest.raises(RunError, match=r"geometry.layer_0.*give 9 edges"):
        observables_for(SCHEMA, {"layer_0": LayerGeometry(r_edges=(0.0, 1.0))})


def test_a_missing_field_and_a_wrong_shape_are_named() -> None:
    events = ak.Array({"layer_0": ak.from_numpy(np.zeros((2, 24)), regulararray=True)})
    with pytest.raises(DataError, match="no field 'layer_1'"):
        arrays(events, {"layer_1": Field((4, 4))})
    with pytest.raises(DataError, match=r"layer_0.*\(24,\).*\(3, 8\)"):
        arrays(events, {"layer_0": Field((3, 8))})
