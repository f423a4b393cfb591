"""Irregular cells: positions from a file, their observables, profiles and images."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import uproot

from hepgan.config import from_table, to_table
from hepgan.data.cells import Cells, read_cells
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError, RunError
from hepgan.evaluation.observables.geometry import LayerGeometry, shower_layers
from hepgan.evaluation.observables.shower_profile import evaluated_observables
from hepgan.evaluation.profiles import longitudinal, radial
from hepgan.evaluation.report.cell_images import cell_images, pixels_of
from hepgan.evaluation.sample import Sample
from hepgan.pipeline.config import of_table

GRID = np.stack(np.meshgrid([-15.0, -5.0, 5.0, 15.0], [-10.0, 0.0, 10.0], indexing="ij"), -1)
"""Centers of 4 × 3 cells of 10 mm."""


def grid(layers: int = 1, order: "np.ndarray | None" = None) -> Cells:
    """Returns the positions of layers of 4 × 3 cells, in another order of all cells if given."""
    x, y = GRID.reshape(-1, 2).T
    layer = np.repeat(np.arange(layers), len(x))
    columns = np.stack(
        [np.tile(x, layers), np.tile(y, layers), 50.0 * layer, layer, np.full(len(layer), 10.0)]
    )
    columns = columns if order is None else columns[:, order]
    return Cells(*(tuple(column.tolist()) for column in columns))


def run_table(cells: int, **geometry: object) -> dict[str, object]:
    """Returns the table of a run file for showers of ``cells`` cells."""
    return {
        "seed": 1,
        "data": {"files": ["no.root"]},
        "schema": {"fields": {"s": {"shape": [cells], "unit": "GeV"}}},
        "geometry": {"s": geometry},
        "encoding": {"steps": []},
        "gan": {"latent": [1], "generator": "DENSE|N|LINEAR", "discriminator": "DENSE|1|LINEAR"},
        "train": {
            "steps": 1,
            "batch_size": 8,
            "generator": {"learning_rate": 1e-3},
            "discriminator": {"learning_rate": 1e-3},
        },
    }


def write(path: Path, cells: Cells, **other: "np.ndarray | None") -> Path:
    columns = {name: np.array(getattr(cells, name)) for name in ("x", "y", "z", "layer", "size")}
    with uproot.recreate(path) as file:
        file["cells"] = {
            name: values for name, values in {**columns, **other}.items() if values is not None
        }
    return path


@pytest.mark.parametrize("layers", [1, 3])
def test_irregular_cells_on_a_grid_have_the_observables_of_the_grid(layers: int) -> None:
    rng = np.random.default_rng(1)
    order = rng.permutation(12 * layers)
    cells = rng.gamma(0.5, size=(50, 12 * layers))
    shape = (layers, 4, 3) if layers > 1 else (4, 3)
    regular = Schema({"shower": Field(shape, unit="GeV")})
    expected = evaluated_observables(regular, {"shower": LayerGeometry(cell=(10.0, 10.0))})
    irregular = Schema({"shower": Field((12 * layers,), unit="GeV")})
    geometry = {"shower": LayerGeometry(positions=grid(layers, order))}
    found = evaluated_observables(irregular, geometry)
    assert set(found) == set(expected)
    # Cells of several layers at the same distance contribute to the radius in any order.
    for name in set(found) - ({"radius_90"} if layers > 1 else set()):
        if not found[name].spectrum:
            one = found[name].values({"shower": cells[:, order]})
            other = expected[name].values({"shower": cells.reshape(-1, *shape)})
            np.testing.assert_allclose(one, other, rtol=1e-9, err_msg=name)


def test_observables_of_irregular_cells_are_the_same_in_torch() -> None:
    order = np.random.default_rng(2).permutation(24)
    cells = np.random.default_rng(3).gamma(1.0, size=(5, 24))
    layers = shower_layers({"s": (24,)}, {"s": LayerGeometry(positions=grid(2, order))})
    for layer in layers:
        np.testing.assert_array_equal(
            layer.cells({"s": torch.from_numpy(cells)}).numpy(), layer.cells({"s": cells})
        )


def test_profiles_of_irregular_cells_are_those_of_the_grid() -> None:
    order = np.random.default_rng(4).permutation(36)
    cells = np.random.default_rng(5).gamma(1.0, size=(40, 36)).astype(np.float32)
    regular = shower_layers({"s": (3, 4, 3)}, {"s": LayerGeometry(cell=(10.0, 10.0))})
    irregular = shower_layers({"s": (36,)}, {"s": LayerGeometry(positions=grid(3, order))})
    samples = [
        {"reference": Sample({"s": events}, np.ones(len(cells)), {})}
        for events in (cells.reshape(-1, 3, 4, 3), cells[:, order])
    ]
    for profile in (longitudinal, radial):
        one, other = (
            profile(sample, layers, unit="GeV")
            for sample, layers in zip(samples, (regular, irregular), strict=True)
        )
        assert one is not None
        assert other is not None
        np.testing.assert_allclose(other.histogram.values(), one.histogram.values(), rtol=1e-5)


def test_a_pixel_belongs_to_the_cell_that_covers_it_and_gaps_to_none() -> None:
    cells = Cells((0.0, 15.0, 40.0), (0.0, 0.0, 0.0), (0.0,) * 3, (0.0,) * 3, (10.0, 20.0, 10.0))
    (layer,) = shower_layers({"s": (3,)}, {"s": LayerGeometry(positions=cells)})
    pixels, (left, right, low, high) = pixels_of(layer)
    assert (left, right, low, high) == (-5.0, 45.0, -10.0, 10.0)
    middle = pixels[pixels.shape[0] // 2]
    at = left + (np.arange(len(middle)) + 0.5) * (right - left) / len(middle)
    expected = np.select([at < 5, at < 25, at < 35], [0, 1, -1], 2)
    np.testing.assert_array_equal(middle, expected)
    assert pixels[0, 0] == -1  # the first cell is lower than the second


def test_images_of_irregular_cells_are_drawn_per_layer() -> None:
    schema = Schema({"s": Field((24,), unit="GeV")})
    images = cell_images(schema, {"s": LayerGeometry(positions=grid(2))}, [])
    assert [image.name for image in images] == ["s_0", "s_1"]
    values = images[1].values({"s": np.arange(48.0).reshape(2, 24)})
    np.testing.assert_array_equal(values[0], np.arange(12, 24))
    assert set(np.unique(images[1].drawn(values))) == {*np.arange(12.0, 24), *np.arange(36.0, 48)}


def test_positions_in_a_run_file_are_read_from_the_file_and_written_back(tmp_path: Path) -> None:
    path = write(tmp_path / "cells.root", grid(2))
    run = of_table(run_table(24, file=str(path), threshold=0.1))
    assert run.geometry["s"].positions == grid(2)
    path.unlink()
    assert of_table(to_table(run)) == run


def test_a_field_may_hold_one_layer_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "cells.root", grid(3))
    run = of_table(run_table(12, file=str(path), number=2.0))
    assert run.geometry["s"].positions is not None
    assert run.geometry["s"].positions.layers()[0].number == 2
    with pytest.raises(DataError, match="no cell in layer 7; it has the layers 0, 1, 2"):
        read_cells(path, layer=7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros(24), "y": np.zeros(24)}, "the cells 0 and 1 have the same position"),
        ({"size": np.r_[-1.0, np.ones(23)]}, "size = -1 of cell 0 should be positive"),
        ({"size": None}, "lack size; it needs the branches x, y, z, layer, size"),
        ({"x": np.r_[np.inf, np.arange(23)]}, "is inf in entry 0"),
    ],
)
def test_bad_positions_raise_with_the_file(
    tmp_path: Path, change: dict[str, "np.ndarray | None"], message: str
) -> None:
    path = write(tmp_path / "cells.root", grid(2), **change)
    with pytest.raises((DataError, RunError), match=message) as raised:
        read_cells(path)
    assert "cells.root" in str(raised.value)


def test_a_wrong_number_of_cells_raises_before_data_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "cells.root", grid(2))
    with pytest.raises(RunError, match=r"positions of 24 cells, but the field 's' has 20"):
        of_table(run_table(20, file=str(path)))


def test_a_geometry_has_positions_or_a_pitch() -> None:
    with pytest.raises(RunError, match="give only one"):
        from_table(LayerGeometry, {"file": "cells.root", "cell": [1.0, 1.0]}, where="geometry.s")
    with pytest.raises(RunError, match="has not been read"):
        shower_layers({"s": (3,)}, {"s": dataclasses.replace(LayerGeometry(), file="cells.root")})
