"""Mirror images and rotations of events are events that the detector could have seen, with the conditions that belong to them."""

import math
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import pytest

from hepgan.data.encoding.conditions import ConditionScale
from hepgan.data.loaders.augment import Reflection, Rotation, reflect, rotate
from hepgan.data.schema import Schema
from hepgan.errors import RunError
from hepgan.pipeline import as_toml, load

SCALES = {
    "energy": ConditionScale((0.0, 1.0)),
    "x0": ConditionScale((-5.0, 5.0)),
    "theta": ConditionScale((0.0, 0.3), "angle"),
    "phi": ConditionScale(scale="angle"),
}
X = Reflection("x", negate=("x0",), azimuth=("phi",))
Y = Reflection("y", azimuth=("phi",))
AXES = {X: {"layer": 0}, Y: {"layer": 1}}
EDGES = (np.arange(41) - 20.0) / 2


def spots(number: int, seed: int = 1) -> ak.Array:
    """Events with all energy at x = x0 + tan θ cos φ, y = tan θ sin φ of a plane at depth 10, in cells of 0.5."""
    rng = np.random.default_rng(seed)
    x0, theta = rng.uniform(-5, 5, number), rng.uniform(0, 0.3, number)
    phi, energy = rng.uniform(0, 2 * math.pi, number), rng.random(number)
    shift = 10 * np.tan(theta)
    x, y = x0 + shift * np.cos(phi), shift * np.sin(phi)
    layer = np.zeros((number, 40, 40), dtype="f4")
    rows, columns = np.digitize(x, EDGES) - 1, np.digitize(y, EDGES) - 1
    layer[np.arange(number), rows, columns] = energy
    values = {"layer": layer, "energy": energy, "x0": x0, "theta": theta, "phi": phi}
    return ak.zip(values, depth_limit=1)


def centers(events: ak.Array) -> npt.NDArray[np.float64]:
    """Centroids ``[E, 2]`` in x and y."""
    layer, middles = ak.to_numpy(events["layer"]), (EDGES[1:] + EDGES[:-1]) / 2
    total = layer.sum((1, 2))
    return np.stack([layer.sum(2) @ middles / total, layer.sum(1) @ middles / total], 1)


def test_mirror_images_have_the_centroids_that_their_conditions_predict() -> None:
    events = spots(200)
    reflected = reflect(events, AXES, SCALES)
    assert len(reflected) == 800
    shift = 10 * np.tan(reflected["theta"])
    expected = [
        reflected["x0"] + shift * np.cos(reflected["phi"]),
        shift * np.sin(reflected["phi"]),
    ]
    # Half a cell of 0.5.
    np.testing.assert_allclose(centers(reflected), np.stack(expected, 1), rtol=0, atol=0.2501)
    np.testing.assert_allclose(centers(reflected)[200:400, 0], -centers(events)[:, 0], atol=1e-5)
    for name in ("theta", "energy"):
        np.testing.assert_array_equal(reflected[name], np.tile(events[name], 4))
    phi = ak.to_numpy(reflected["phi"])
    assert ((phi >= 0) & (phi <= 2 * math.pi)).all()


@pytest.mark.parametrize("reflection", AXES, ids=lambda reflection: reflection.axis)
def test_reflecting_twice_is_the_identity(reflection: Reflection) -> None:
    events = spots(50)
    axes = {reflection: AXES[reflection]}
    once = reflect(events, axes, SCALES)[50:]
    twice = reflect(once, axes, SCALES)[50:]
    assert not ak.all(once["layer"] == events["layer"])
    for name in events.fields:
        np.testing.assert_allclose(twice[name], events[name], rtol=1e-12)
        assert twice[name].type == events[name].type


def test_images_of_two_axes_are_those_of_both_and_their_product() -> None:
    rng = np.random.default_rng(1)
    layer, energy = rng.random((3, 2, 5)), rng.random(3)
    events = ak.zip({"layer": layer, "energy": energy}, depth_limit=1)
    axes = {Reflection("y"): {"layer": 0}, Reflection("x"): {"layer": 1}}
    reflected = reflect(events, axes, SCALES)
    images = [layer, layer[:, ::-1], layer[:, :, ::-1], layer[:, ::-1, ::-1]]
    np.testing.assert_array_equal(ak.to_numpy(reflected["layer"]), np.concatenate(images))
    np.testing.assert_array_equal(ak.to_numpy(reflected["energy"]), np.tile(energy, 4))


BINS = {"a": (16, 3), "b": (2, 8, 4)}
"""Shapes of fields with 16 and 8 cells in α."""


def rings(number: int) -> ak.Array:
    """Events whose cells in α follow a random azimuth."""
    rng = np.random.default_rng(2)
    phi = rng.uniform(-math.pi, math.pi, number)
    columns = {"phi": phi.astype("f4"), "energy": rng.random(number)}
    for name, shape in BINS.items():
        cells = rng.random((number, *shape))
        bins = shape[-2]
        hot = ((phi + math.pi) / (2 * math.pi) * bins).astype(int)
        cells[np.arange(number), ..., hot, :] += 10
        columns[name] = cells.astype("f4")
    return ak.zip(columns, depth_limit=1)


def rotated(events: ak.Array, copies: int, seed: int = 1) -> ak.Array:
    scales = {"phi": ConditionScale((-math.pi, math.pi), "angle")}
    return rotate(events, Rotation(copies, ("phi",)), {"a": 0, "b": 1}, scales, seed=seed)


def test_rotated_cells_follow_the_azimuth() -> None:
    events = rings(300)
    copies = rotated(events, 3)
    assert len(copies) == 1200
    phi = ak.to_numpy(copies["phi"])
    assert phi.dtype == np.float32
    for name, shape in BINS.items():
        bins = shape[-2]
        cells = ak.to_numpy(copies[name]).reshape(1200, -1, bins, shape[-1])
        hot = cells.sum((1, 3)).argmax(1)
        expected = np.floor((phi + math.pi) / (2 * math.pi) * bins) % bins
        # Rounding may move an azimuth on the border of two cells to the other one.
        assert np.count_nonzero(hot != expected) <= 2
        before = np.sort(ak.to_numpy(events[name]).reshape(300, -1), 1)
        np.testing.assert_array_equal(np.sort(cells.reshape(1200, -1), 1), np.tile(before, (4, 1)))
    np.testing.assert_array_equal(copies["energy"], np.tile(events["energy"], 4))


def test_rotations_of_an_event_are_different_and_depend_on_the_seed_only() -> None:
    events = rings(20)
    every = ak.to_numpy(rotated(events, 7)["a"]).reshape(8, 20, -1)
    for event in range(20):
        assert len(np.unique(every[:, event], axis=0)) == 8
    assert rotated(events, 2).tolist() == rotated(events, 2).tolist()
    assert rotated(events, 2).tolist() != rotated(events, 2, seed=2).tolist()


def overrides(**data: Any) -> dict[str, Any]:
    """The preset ``showers`` with angles and an impact point."""
    return {
        "schema.conditions.x0.unit": "mm",
        "encoding.conditions.x0.range": [-5.0, 5.0],
        "schema.conditions.phi.unit": "rad",
        "encoding.conditions.phi.scale": "angle",
        **{f"data.{key}": value for key, value in data.items()},
    }


def polar(**data: Any) -> dict[str, Any]:
    """The same with cells in α and r."""
    shapes = {"layer_0": [8, 2], "layer_1": [4, 12, 3], "layer_2": [5]}
    edges = {name: [float(i) for i in range(shape[-1] + 1)] for name, shape in shapes.items()}
    return {
        **overrides(reflect=[], **data),
        "schema.fields": {name: {"shape": s, "unit": "MeV"} for name, s in shapes.items()},
        "geometry": {name: {"r_edges": e} for name, e in edges.items()},
    }


def test_run_files_name_the_conditions_that_change() -> None:
    tables = [
        {"axis": "x", "negate": ["x0"], "azimuth": ["phi"]},
        {"axis": "y", "azimuth": ["phi"]},
    ]
    run = load("showers", overrides(reflect=tables))
    assert list(run.reflections) == [X, Y]
    assert run.reflections[X].keys() == {"layer_0", "layer_1", "layer_2"}
    run = load("showers", polar(rotate={"copies": 3, "azimuth": ["phi"]}))
    assert run.alpha_axes == {"layer_0": 0, "layer_1": 1}
    mirrored = load("showers", polar() | {"data.reflect": [{"axis": "y", "azimuth": ["phi"]}]})
    assert mirrored.reflections[Y] == {"layer_0": 0, "layer_1": 1}


def test_written_run_files_keep_symmetries(tmp_path: Any) -> None:
    for changes in (
        overrides(reflect=[{"axis": "x", "negate": ["x0"], "azimuth": ["phi"]}]),
        polar(rotate={"copies": 3, "azimuth": ["phi"]}),
    ):
        run = load("showers", changes)
        (tmp_path / "run.toml").write_text(as_toml(run))
        assert load(tmp_path / "run.toml") == run


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (overrides(reflect=["x"]), r"axis 'x': the condition 'phi' .* add azimuth = \[\"phi\"\]"),
        (
            overrides(reflect=[{"axis": "x", "negate": ["x1"]}]),
            "names 'x1', .*; there are: .*x0, phi",
        ),
        (overrides(reflect=[{"axis": "x", "negate": ["energy"]}]), "may change sign"),
        (overrides(reflect=[{"axis": "x", "azimuth": ["x0"]}]), "'x0', whose scale is 'linear'"),
        (overrides(reflect=[{"axis": "x", "azimuth": ["phy"]}]), "did you mean 'phi'"),
        (
            overrides(reflect=[{"axis": "x", "azimuth": ["phi"]}])
            | {"encoding.conditions.phi.range": [0.0, 1.0]},
            "mirror images of 'phi' are outside its range, 0 to 1; use the full circle",
        ),
        (overrides(reflect=[{"axis": "x", "negat": ["x0"]}]), "did you mean 'negate'"),
        (overrides(reflect=[], rotate={"copies": 2}), r"\[geometry.layer_0\] has no r_edges"),
        (polar(rotate={"copies": 0}), r"data.rotate.copies = 0 should be at least 1"),
        (polar(rotate={"copies": 4}), r"α \(layer_0 8, layer_1 12\) have 3 rotations"),
        (polar(rotate={"copies": 3}), r"'phi' covers the full circle"),
        (
            polar() | {"data.reflect": ["x"]},
            "reflect = 'x' is not possible for the field 'layer_0' with cells in α and r",
        ),
    ],
)
def test_symmetries_that_do_not_fit_raise(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError, match=message):
        load("showers", changes)


def test_scalar_fields_are_copied_or_change_sign() -> None:
    schema = Schema.from_table({"fields": {"leak": {}, "dx": {}, "layer": {"shape": [40, 40]}}})
    events = spots(5)
    events["leak"], events["dx"] = np.arange(5.0), np.arange(5.0)
    reflected = reflect(events[[*schema.fields]], {Reflection("x", ("dx",)): {"layer": 0}}, {})
    assert reflected["leak"].tolist() == [*range(5), *range(5)]
    assert reflected["dx"].tolist() == [0, 1, 2, 3, 4, 0, -1, -2, -3, -4]
