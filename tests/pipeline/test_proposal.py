"""Run files that ``hepgan init`` proposes: kind of data, roles of branches, and training without an edit."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from hepgan.data.io import reader
from hepgan.errors import DataError, RunError
from hepgan.pipeline import (
    RunConfig,
    about_model,
    init,
    is_data,
    load,
    parse,
    propose,
    replaced,
    stem,
    train,
)
from hepgan.pipeline.roles import peak_row_length, row_length, threshold

BINNING = """<Bins><Bin name="electron">
  <Layer id="0" r_edges="0,1,2,4" n_bin_alpha="4"/>
  <Layer id="1" r_edges="0,1,2,4" n_bin_alpha="4"/>
</Bin></Bins>"""


def write(path: Path, branches: Mapping[str, Any]) -> str:
    with uproot.recreate(path) as file:
        file["events"] = dict(branches)
    return str(path)


def showers(number: int = 600, *, rows: int = 6, columns: int = 5) -> dict[str, Any]:
    """Gaussian showers in two layers, with all conditions independent, an impact point, and results of the simulation."""
    rng = np.random.default_rng(3)
    energy = np.exp(rng.uniform(0, math.log(50), number))
    x0 = rng.uniform(-1, 1, number)
    y, x = np.mgrid[:rows, :columns]
    core = np.exp(-((x[None] - 2 - x0[:, None, None]) ** 2 + (y[None] - 2.5) ** 2))
    cells = 900 * energy[:, None, None] * core * rng.gamma(2, 0.5, core.shape)
    cells[cells < 0.5] = 0
    return {
        "layer_0": cells.reshape(number, -1).astype("f4"),
        "layer_1": (0.2 * cells[:, :2, :4]).astype("f4"),
        "overflow": rng.exponential(1, (number, 2)).astype("f4"),
        "energy": energy.astype("f4"),
        "theta": rng.uniform(0, 0.3, number).astype("f4"),
        "phi": rng.uniform(-math.pi, math.pi, number).astype("f4"),
        "pdg": rng.choice([22, -11], number).astype("i4"),
        "x0": x0.astype("f4"),
        "gap": rng.uniform(1, 2, number).astype("f4"),
        "sum_of_cells": cells.sum((1, 2)).astype("f4"),
        "spread": (energy * rng.normal(1, 0.1, number)).astype("f4"),
        "detector": np.full(number, 7, "i4"),
        "seed": rng.permutation(number).astype("i4"),
        "total_energy": (cells.sum((1, 2)) + 0.2 * cells[:, :2, :4].sum((1, 2))).astype("f4"),
        "weight": np.ones(number, "f4"),
    }


def table(number: int = 600) -> dict[str, Any]:
    rng = np.random.default_rng(4)
    pt = 20 + rng.exponential(30, number)
    return {
        "mass": rng.normal(91, 3, number).astype("f4"),
        "pt": pt.astype("f4"),
        "tracks": rng.poisson(pt / 10).astype("f4"),
        "jets": rng.poisson(2, number).astype("i4"),
        "tagged": rng.random(number) < 0.3,
        "charge": rng.choice([-1, 1], number).astype("i4"),
        "event": np.arange(number, dtype="i8"),
        "genWeight": np.ones(number, "f4"),
    }


def images(number: int = 300) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    label = rng.integers(0, 2, number)
    pixels = rng.integers(0, 99, (number, 8, 8)) + 100 * label[:, None, None]
    return {"image": pixels.astype("u1"), "label": label.astype("i4")}


@pytest.fixture(scope="module")
def shower_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("showers") / "showers.root", showers())


def quick(text: str) -> RunConfig:
    """Returns the proposed run with tiny networks and few steps."""
    proposed = parse(text)
    cheap = {"steps": 5, "hidden": 2}
    steps = [
        {**step, **(cheap if step["step"] in ("energy_tree", "autoregressive") else {})}
        for step in proposed.encoding.candidates.get("tree", proposed.encoding.steps)
    ]
    few = min(proposed.train.steps, 4)
    changed = {"encoding.candidates": {}, "encoding.steps": steps, "train.steps": few, "threads": 1}
    return replaced(proposed, changed)


def test_showers_conditions_are_named_or_independent_and_results_are_left_out(
    shower_file: str,
) -> None:
    text = propose(shower_file)
    proposed = parse(text)
    assert set(proposed.schema.fields) == {"layer_0", "layer_1"}
    assert set(proposed.schema.conditions) == {"energy", "theta", "phi", "pdg", "x0", "gap"}
    assert proposed.schema.incident == "energy"
    for name in (
        "overflow",
        "sum_of_cells",
        "seed",
        "total_energy",
        "spread",
        "detector",
        "weight",
    ):
        assert f"# {name}: left out: " in text
    assert "# condition: does not depend on " in text


def test_scales_follow_the_values_of_the_conditions(shower_file: str) -> None:
    scales = parse(propose(shower_file)).encoding.conditions
    assert scales["energy"].scale == "log"
    assert scales["energy"].range == (1.0, 50.0)
    assert scales["phi"].scale == "angle"
    assert scales["pdg"].values == (-11, 22)
    assert scales["theta"].range == (0.0, 0.3)


def test_units_and_threshold_come_from_the_cells(shower_file: str) -> None:
    proposed = parse(propose(shower_file))
    assert proposed.schema.fields["layer_0"].unit == "MeV"
    assert proposed.schema.conditions["energy"].unit == "GeV"
    step, following = proposed.encoding.steps
    assert following == {"step": "correlation"}
    assert 0.09 < step["threshold"] <= 0.1  # the smallest cell of layer_1: 0.2 times 0.5
    assert proposed.geometry["layer_0"].threshold == step["threshold"]


def test_rows_of_a_flat_layer_come_from_the_correlations_of_cells(shower_file: str) -> None:
    text = propose(shower_file)
    assert parse(text).schema.fields["layer_0"].shape == (6, 5)
    assert "cells at a distance of 5 are correlated" in text


def test_cells_without_correlations_have_no_rows() -> None:
    rng = np.random.default_rng(1)
    assert row_length(rng.exponential(size=(2000, 60))) == 0
    assert row_length(np.zeros((10, 60))) == 0


@pytest.mark.parametrize("kind", [showers, table, images])
def test_proposed_run_trains_and_evaluates_without_an_edit(kind: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "data.root", kind(250))
    proposed = quick(propose(path))
    gan, prepared = train(proposed, tmp_path / "out", device="cpu")
    test = prepared.splits["test"]
    conditions = {name: ak.to_numpy(test[name]) for name in proposed.schema.conditions}
    generated = gan.sample(len(test), conditions=conditions, seed=1)
    assert set(generated.fields) == set(proposed.schema.all)


def test_generated_table_has_whole_numbers_and_flags_within_the_range(tmp_path: Path) -> None:
    events = table()
    proposed = quick(propose(write(tmp_path / "data.root", events)))
    assert set(proposed.schema.fields) == {"mass", "pt", "tracks", "jets", "tagged", "charge"}
    assert [step["step"] for step in proposed.encoding.steps] == ["autoregressive"]
    gan, _ = train(proposed, tmp_path / "out", device="cpu")
    generated = gan.sample(500, seed=1)
    assert generated["tagged"].type.content == ak.types.NumpyType("bool")
    for name in ("tracks", "jets"):
        values = ak.to_numpy(generated[name])
        assert events[name].min() <= values.min()
        assert values.max() <= events[name].max()
    assert set(ak.to_numpy(generated["charge"])) == {-1, 1}
    tracks = ak.to_numpy(generated["tracks"])
    np.testing.assert_array_equal(tracks, tracks.round())


def test_more_whole_numbers_than_atoms_become_intervals(tmp_path: Path) -> None:
    events = table() | {"channels": np.random.default_rng(1).integers(0, 1000, len(table()["pt"]))}
    proposed = parse(propose(write(tmp_path / "data.root", events)))
    assert proposed.encoding.steps[0] == {"step": "dequantize", "fields": ["channels"]}


def test_image_is_recognized_from_scalar_pixels(tmp_path: Path) -> None:
    pixels = images()["image"].reshape(-1, 64)
    branches = {f"pixel{i}": pixels[:, i] for i in range(64)}
    proposed = parse(propose(write(tmp_path / "pixels.root", branches)))
    assert proposed.schema.fields["pixel"].shape == (8, 8)
    assert proposed.gan.input == (1, 8, 8)


@pytest.mark.parametrize("labels", [False, True])
def test_image_with_a_side_that_is_no_multiple_of_four_gets_dense_networks(
    labels: bool, tmp_path: Path
) -> None:
    events = images()
    events["image"] = events["image"][:, :6, :6]
    if not labels:
        del events["label"]
    proposed = quick(propose(write(tmp_path / "i.root", events)))
    assert ("COND" in str(proposed.gan.generator)) == labels
    gan, _ = train(proposed, tmp_path / "out", device="cpu")
    assert ak.to_numpy(gan.sample(5, seed=1)["image"]).shape == (5, 6, 6)


@pytest.mark.parametrize("leaning", [False, True])
def test_mirror_images_are_used_if_mean_showers_equal_theirs(leaning: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    number = 2000
    energy = rng.uniform(1, 50, number)
    x0, phi = rng.uniform(-1, 1, number), rng.uniform(-math.pi, math.pi, number)
    y, x = np.mgrid[:6, :7]
    at_x, at_y = 3 + x0 + np.cos(phi), 2.5 + np.sin(phi)
    cells = np.exp(-((x - at_x[:, None, None]) ** 2) - (y - at_y[:, None, None]) ** 2)
    cells *= energy[:, None, None] * rng.gamma(2, 0.5, cells.shape) * (1 + leaning * 0.2 * x)
    branches = {"layer_0": cells, "energy": energy, "x0": x0, "phi": phi}
    proposed = parse(propose(write(tmp_path / "s.root", branches)))
    reflect = {(r.axis, r.negate, r.azimuth) for r in proposed.reflections}
    expected = {("y", (), ("phi",)), ("x", ("x0",), ("phi",))}
    assert reflect == (set() if leaning else expected)
    assert proposed.geometry["layer_0"].axes == (() if leaning else ("y", "x"))


def test_arrays_with_negative_values_are_described_by_a_copula(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(300, 12)).astype("f4")
    proposed = parse(propose(write(tmp_path / "a.root", {"waveform": values})))
    assert [step["step"] for step in proposed.encoding.steps] == ["copula"]
    assert proposed.train.steps > 0


@pytest.mark.parametrize("flat", [False, True])
def test_cells_in_alpha_and_r_get_the_edges_of_the_binning(flat: bool, tmp_path: Path) -> None:
    (tmp_path / "binning.xml").write_text(BINNING)
    rng = np.random.default_rng(2)
    cells = rng.exponential([5, 2, 1], (300, 2, 4, 3)).astype("f4")
    branches = {"showers": cells.reshape(300, -1)} if flat else {"layer_0": cells[:, 0], "layer_1": cells[:, 1]}  # fmt: skip
    energy = cells.sum((1, 2, 3)) * rng.normal(1, 0.01, 300)
    path = write(tmp_path / "s.root", {**branches, "energy": energy.astype("f4")})
    proposed = parse(propose(path))
    assert {layer.r_edges for layer in proposed.geometry.values()} == {(0, 1, 2, 4)}
    assert proposed.encoding.every_step[0]["polar"]
    assert (proposed.data.rotate is None) == flat
    shapes = [field.shape for field in proposed.schema.fields.values()]
    assert shapes == ([(2, 4, 3)] if flat else [(4, 3), (4, 3)])


def test_binning_of_other_layers_raises_with_the_shapes(shower_file: str, tmp_path: Path) -> None:
    (tmp_path / "other.xml").write_text(BINNING)
    with pytest.raises(DataError, match=r"no particle of .* has the layers .* layer_0 \[6, 5\]"):
        propose(shower_file, binning=tmp_path / "other.xml")


def test_classes_of_few_events_are_cut_away(tmp_path: Path) -> None:
    events = showers()
    events["pdg"][:3] = 211
    text = propose(write(tmp_path / "s.root", events))
    proposed = parse(text)
    assert proposed.encoding.conditions["pdg"].values == (-11, 22)
    assert proposed.data.cut == "((`pdg` == -11) | (`pdg` == 22))"
    assert "classes of few events are cut away" in text
    read = reader.read(list(proposed.data.files), proposed.schema, cut=proposed.data.cut)
    assert len(read) == 597


def test_incident_energy_of_another_name_is_the_one_that_the_cells_follow(tmp_path: Path) -> None:
    events = showers()
    events["beam_momentum_gev"] = events.pop("energy")
    assert parse(propose(write(tmp_path / "s.root", events))).schema.incident == "beam_momentum_gev"


@pytest.mark.parametrize(("events", "candidates"), [(5200, ["tree", "copula"]), (600, [])])
def test_showers_of_one_direction_are_tried_with_two_encodings_if_events_suffice_to_compare_them(
    tmp_path: Path, events: int, candidates: list[str]
) -> None:
    branches = showers(events)
    for name in ("theta", "phi", "pdg", "x0", "gap"):
        del branches[name]
    proposed = parse(propose(write(tmp_path / "s.root", branches)))
    assert list(proposed.encoding.candidates) == candidates
    assert proposed.encoding.every_step[0]["step"] == "energy_tree"
    assert list(proposed.schema.conditions) == ["energy"]


def test_components_of_the_momentum_are_conditions_although_they_follow_the_energy(
    tmp_path: Path,
) -> None:
    events = showers()
    theta = events.pop("theta")
    events["px"] = events["energy"] * np.sin(theta)
    conditions = parse(propose(write(tmp_path / "s.root", events))).schema.conditions
    assert set(conditions) == {"energy", "px", "phi", "pdg", "x0", "gap"}


def test_shower_in_one_array_with_three_axes_trains_without_an_edit(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    energy = rng.uniform(1000, 50000, 250)
    depth = rng.gamma(2, 3, 250)[:, None, None, None]  # late starts, empty layers
    z = np.arange(6)[None, :, None, None]
    cells = (
        rng.gamma(0.3, 1, (250, 6, 4, 3)) * np.exp([0, -1, -2]) * (z >= depth - 3) * np.exp(-z / 4)
    )
    cells *= rng.normal(0.03, 0.002, energy.shape)[:, None, None, None]
    cells *= energy[:, None, None, None] / cells.sum((1, 2, 3), keepdims=True).clip(1e-9)
    branches = {"incident_energy": energy.astype("f4"), "voxels": cells.astype("f4")}
    text = propose(write(tmp_path / "s.root", branches))
    assert parse(text).encoding.every_step[0]["polar"]
    assert parse(text).schema.incident == "incident_energy"
    gan, _ = train(quick(text), tmp_path / "out", device="cpu")
    assert gan.sample(20, incident_energy=9000, seed=1)["voxels"].type.content.size == 6


def test_init_writes_nothing_over_an_existing_file(shower_file: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("mine")
    with pytest.raises(RunError, match=r"mine\.toml exists; choose another file with -o"):
        init(shower_file, path)
    assert path.read_text() == "mine"


def test_init_writes_what_it_proposes(shower_file: str, tmp_path: Path) -> None:
    init([shower_file], tmp_path / "mine.toml", seed=7)
    assert (tmp_path / "mine.toml").read_text() == propose([shower_file], seed=7)


def test_nan_in_a_branch_raises_or_leaves_it_out(tmp_path: Path) -> None:
    events = table()
    events["pt"][::5] = math.nan
    text = propose(write(tmp_path / "t.root", events))
    assert "# pt: left out: 120 values are NaN or infinite" in text
    with pytest.raises(DataError, match="no branch to generate"):
        propose(write(tmp_path / "w.root", {"weight": np.ones(20)}))


def test_lists_are_columns_with_their_lengths(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    lengths = rng.integers(0, 4, 300)
    pt = ak.unflatten(20 + rng.exponential(30, lengths.sum()), lengths)
    with uproot.recreate(tmp_path / "t.root") as file:
        file.mktree(
            "events", {"Jet": ak.zip({"pt": pt, "eta": pt * 0}), "met": rng.exponential(9, 300)}
        )
    text = propose(str(tmp_path / "t.root"))
    assert set(parse(text).schema.fields) == {"Jet_pt", "Jet_eta", "nJet", "met"}
    gan, _ = train(quick(text), tmp_path / "out", device="cpu")
    generated = gan.sample(300, seed=1)
    assert set(ak.to_numpy(generated["nJet"])) <= {0, 1, 2, 3}


def test_hdf5_raises_with_the_command_that_converts_it() -> None:
    with pytest.raises(
        DataError, match=r"hepgan convert calochallenge 'a/b\.hdf5' BINNING\.xml 'a"
    ):
        propose("a/b.hdf5")


@pytest.mark.parametrize(
    ("source", "data", "name"),
    [
        ("a/showers.root", True, "showers"), ("sample:mnist.root", True, "mnist"), ("s*.root:tree", True, "s"),
        ("root://host/b.root", True, "b"), ("showers", False, "showers"), ("dir/my.toml", False, "my"),
        ("showers.hdf5", True, "showers"),
    ],
)  # fmt: skip
def test_data_are_told_from_run_files(source: str, data: bool, name: str) -> None:
    assert is_data(source) == data
    assert stem(source) == name


def cells(path: Path, sizes: tuple[int, ...]) -> str:
    """Writes the positions of layers with these numbers of cells, in a row each."""
    layer = np.repeat(np.arange(len(sizes)), sizes)
    x = np.concatenate([np.arange(size) for size in sizes])
    columns = {"x": 5.0 * x, "y": 0.0 * x, "z": 9.0 * layer, "layer": layer, "size": 0.0 * x + 5}
    with uproot.recreate(path) as file:
        file["cells"] = columns
    return str(path)


@pytest.mark.parametrize("fields", [["hits"], ["front", "back"]])
def test_positions_of_cells_beside_the_data_are_found_by_their_numbers(
    tmp_path: Path, fields: list[str]
) -> None:
    rng = np.random.default_rng(7)
    energy = rng.uniform(1, 10, 300)
    every = (energy[:, None] * rng.dirichlet(np.ones(30), 300)).astype("f4")
    parts = {"hits": every, "front": every[:, :18], "back": every[:, 18:]}
    file = write(tmp_path / "a.root", {**{n: parts[n] for n in fields}, "energy": energy})
    path = cells(tmp_path / "cells.root", (18, 12))
    cells(tmp_path / "geometry_of_another.root", (18, 11))
    run = parse(propose(file))
    sizes = [len(run.geometry[name].positions or ()) for name in fields]
    assert sizes == [parts[name].shape[1] for name in fields]
    assert [run.schema.fields[name].shape for name in fields] == [(size,) for size in sizes]
    assert parse(propose(file, geometry=path)) == run


def test_positions_of_another_detector_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    file = write(tmp_path / "a.root", showers())
    path = cells(tmp_path / "cells.root", (18, 13))
    with pytest.raises(DataError, match="31 cells, 18, 13 by layer, which do not fit the branches"):
        init(file, tmp_path / "a.toml", geometry=path)
    assert not (tmp_path / "a.toml").exists()


def test_a_table_with_text_is_refused_unless_the_column_is_left_out(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("events", {"x": "f4", "name": "string"})
        file["events"].extend({"x": np.arange(50, dtype="f4"), "name": ak.Array(["ab"] * 50)})
    path = str(tmp_path / "a.root")
    with pytest.raises(
        DataError, match="'name' of .* holds no numbers; .* hepgan init --without 'name'"
    ):
        init(path, tmp_path / "a.toml")
    assert not (tmp_path / "a.toml").exists()
    text = propose(path, without=["name"])
    assert "# name: left out: as requested" in text
    assert list(parse(text).schema.fields) == ["x"]
    with pytest.raises(DataError, match=r"no branch 'nam' to leave out; did you mean 'name'"):
        propose(path, without=["nam"])


def test_generator_level_columns_are_conditions_of_the_others(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    columns = {
        "GenJet_pt": rng.exponential(30, 400) + 20,
        "GenJet_flavour": rng.choice([0, 4, 5], 400),
        "Jet_pt": rng.exponential(30, 400) + 20,
        "generosity": rng.normal(size=400),
    }
    run = parse(propose(write(tmp_path / "a.root", columns)))
    assert set(run.schema.fields) == {"Jet_pt", "generosity"}
    assert run.encoding.conditions["GenJet_pt"].scale == "log"
    assert run.encoding.conditions["GenJet_flavour"].values == (0, 4, 5)


def calorimeter(name: str) -> dict[str, Any]:
    """Showers of a detector that no preset knows."""
    rng = np.random.default_rng(9)
    energy = np.exp(rng.uniform(0, 4, 400))
    cells = energy[:, None] * rng.dirichlet(np.full(64, 0.3), 400)
    cells[cells < 0.01] = 0
    ecal, hcal = (c.astype("f4") for c in (0.7 * cells.reshape(-1, 8, 8), 0.3 * cells[:, :16]))
    return {
        "keV": {"ECAL_cells": 1e6 * ecal, "E_true": energy},
        "MeV and GeV": {"cells": ecal, "incident_energy": 1000 * energy},
        "two granularities": {"hcal": hcal, "ecal": ecal, "pion_energy": energy},
        "one energy": {"cells": ecal / energy[:, None, None].astype("f4"), "energy": np.ones(400)},
        "one layer of few cells": {"towers": cells[:, :9].astype("f4"), "beam_energy": energy},
        "layers": {f"layer_{i}": cells[:, 5 * i : 5 * i + 5].astype("f4") for i in range(12)} | {"E": energy},
        "image": {"image": rng.integers(0, 250, (400, 3, 8, 8)).astype("u1"), "label": rng.integers(0, 3, 400)},
        "few cells in a table": {"cell_E": cells[:, :4].astype("f4"), "beam_energy": energy},
    }[name]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "fields", "units", "kind"),
    [
        ("keV", ["ECAL_cells"], ("keV", "GeV"), "energy_tree"),
        ("MeV and GeV", ["cells"], ("GeV", "MeV"), "energy_tree"),
        ("two granularities", ["ecal", "hcal"], ("GeV", "GeV"), "energy_tree"),
        ("one energy", ["cells"], ("GeV", "GeV"), "energy_tree"),
        ("one layer of few cells", ["towers"], ("GeV", "GeV"), "energy_tree"),
        ("layers", [f"layer_{i}" for i in range(12)], ("GeV", "GeV"), "energy_tree"),
        ("image", ["image"], ("", ""), "scale"),
        ("few cells in a table", ["cell_E"], ("", ""), "autoregressive"),
    ],
)
def test_unseen_detectors_have_fields_in_depth_and_units_with_a_physical_response(
    tmp_path: Path, name: str, fields: list[str], units: tuple[str, str], kind: str
) -> None:
    text = propose(write(tmp_path / "a.root", calorimeter(name)))
    run = parse(text)
    assert list(run.schema.fields) == fields
    (condition,) = run.schema.conditions.values()
    assert (run.schema.fields[fields[0]].unit, condition.unit) == units
    assert next(step["step"] for step in run.encoding.every_step) == kind
    left_out = {line[2:].split(":")[0] for line in text.splitlines() if ": left out" in line}
    assert not left_out & {*run.schema.fields, *run.schema.conditions}
    if name == "image":
        assert list(run.encoding.steps[0]["range"]) == [0, 255]


def particles(number: int = 2000, *, bend: float = 0.0) -> dict[str, Any]:
    """Showers in one array with axes along the beam, x and y; charges bend to opposite sides along x."""
    rng = np.random.default_rng(11)
    energy = rng.uniform(10, 100, number)
    x0 = rng.uniform(-1, 1, number)
    pdg = rng.choice([-11, 11], number)
    x, y = np.arange(7), np.arange(6)
    at = 3 + x0 + bend * np.sign(pdg)
    core = np.exp(-((x[:, None] - at[:, None, None]) ** 2) - (y - 2.5) ** 2)
    cells = energy[:, None, None, None] * core[:, None] * rng.gamma(1, 0.1, (number, 2, 7, 6))
    return {"cells": cells, "energy": energy, "pdg": pdg, "x0": x0}


def test_mirror_images_of_three_axes_are_used_with_axes_named_by_the_condition_along_them(
    tmp_path: Path,
) -> None:
    branches = particles()
    branches["cells"] = branches["cells"].swapaxes(2, 3)
    run = parse(propose(write(tmp_path / "s.root", branches)))
    assert run.geometry["cells"].axes == ("z", "y", "x")
    assert {(r.axis, r.negate) for r in run.reflections} == {("y", ()), ("x", ("x0",))}
    assert {axis for axes in run.reflections.values() for axis in axes.values()} == {1, 2}


def test_showers_that_lean_in_one_class_are_not_mirrored(tmp_path: Path) -> None:
    leaning = parse(propose(write(tmp_path / "s.root", particles(bend=0.3))))
    assert not leaning.reflections


@pytest.mark.parametrize("designed", [True, False])
def test_energy_with_a_weak_correlation_is_incident_if_its_spectrum_is_that_of_a_gun(
    designed: bool, tmp_path: Path
) -> None:
    rng = np.random.default_rng(12)
    energy = np.exp(rng.uniform(0, 4, 1000)) if designed else rng.gamma(2, 10, 1000)
    visible = energy * rng.uniform(0.02, 1, 1000) ** 2  # hadrons that leave the detector
    cells = visible[:, None, None] * rng.dirichlet(np.ones(64), 1000).reshape(-1, 8, 8)
    branches = {"hcal": cells, "pion_energy": energy}
    run = parse(propose(write(tmp_path / "a.root", branches)))
    assert run.schema.incident == ("pion_energy" if designed else "")


def test_momentum_of_a_gun_on_which_energies_do_not_depend_is_a_condition(tmp_path: Path) -> None:
    """Muons deposit the same energy at all momenta: theirs is no incident energy, but was varied on purpose."""
    rng = np.random.default_rng(5)
    hits = np.where(rng.random((600, 3, 4, 4)) < 0.1, rng.gamma(9, 0.1, (600, 3, 4, 4)), 0)
    branches = {"hits": hits, "p": rng.uniform(5, 50, 600), "e_fit": rng.exponential(9, 600)}
    run = parse(propose(write(tmp_path / "muons.root", branches)))
    assert dict(run.encoding.conditions).keys() == {"p"}
    assert not run.schema.incident


def test_integers_that_few_values_share_are_a_class_beside_cells(tmp_path: Path) -> None:
    rng = np.random.default_rng(13)
    branches = {
        "image": rng.exponential(size=(400, 9, 9)) * (rng.random((400, 9, 9)) < 0.1),
        "signal": rng.integers(0, 2, 400),
        "hits": rng.poisson(40, 400),
    }
    text = propose(write(tmp_path / "a.root", branches))
    run = parse(text)
    assert run.encoding.conditions["signal"].values == (0, 1)
    assert set(run.schema.conditions) == {"signal"}
    assert "# condition: one of 2 whole numbers, hence a class" in text


def hits(path: Path, *, cells: bool) -> str:
    """Writes lists of hits with positions, as particle-physics frameworks do, with or without an array of cells."""
    rng = np.random.default_rng(14)
    lengths = rng.integers(1, 9, 300)
    names = ("energy", "position.x", "position.y")
    lists = {name: ak.unflatten(rng.exponential(size=lengths.sum()), lengths) for name in names}
    branches = {"hits": ak.zip(lists), "gun_energy": rng.uniform(1, 9, 300)}
    if cells:
        branches["cells"] = rng.exponential(size=(300, 4, 4))
    with uproot.recreate(path) as file:
        file["events"] = branches
    return str(path)


def test_lists_of_hits_are_refused_with_what_to_do_and_nothing_is_written(tmp_path: Path) -> None:
    file = hits(tmp_path / "a.root", cells=False)
    with pytest.raises(DataError, match=r"'hits.energy' and 'hits.position.x' .* lists of hits"):
        init(file, tmp_path / "a.toml")
    assert not (tmp_path / "a.toml").exists()


def test_lists_beside_cells_are_left_out(tmp_path: Path) -> None:
    text = propose(hits(tmp_path / "a.root", cells=True))
    assert list(parse(text).schema.fields) == ["cells"]
    assert "# hits.energy: left out: lists of any length beside the cells" in text


def test_threshold_says_whether_it_is_the_smallest_energy_or_a_quantile(
    shower_file: str, tmp_path: Path
) -> None:
    proposed = propose(shower_file)
    assert "# read-out threshold: no cell has an energy between 0 and 0.1; " in proposed
    branches = showers()
    branches["layer_0"] = np.random.default_rng(15).gamma(0.2, 1, (600, 30))
    text = propose(write(tmp_path / "a.root", branches))
    assert " are empty: 0.3 % of those with energy" in text


def test_unit_of_a_binning_is_that_of_the_challenge(tmp_path: Path) -> None:
    (tmp_path / "binning.xml").write_text(BINNING)
    rng = np.random.default_rng(16)
    energy = 2.0 ** rng.integers(8, 12, 300)  # the maximum alone does not tell MeV from GeV
    cells = energy[:, None] * rng.dirichlet(np.ones(24), 300)
    branches = {"layer_0": cells[:, :12], "layer_1": cells[:, 12:], "energy": energy}
    text = propose(write(tmp_path / "a.root", branches))
    run = parse(text)
    assert {field.unit for field in run.schema.all.values()} == {"MeV"}
    assert "# The unit MeV is that of the CaloChallenge" in text


def test_vectors_with_one_value_per_cell_are_showers(tmp_path: Path) -> None:
    branches = showers()
    flat = {n: v.reshape(len(v), -1) for n, v in branches.items() if np.ndim(v) > 1}
    vectors = {n: ak.from_regular(ak.Array(v)) for n, v in flat.items()}
    vectors |= {n: v for n, v in branches.items() if n not in flat}
    path = write(tmp_path / "vectors.root", vectors | {"detector": np.full(600, 3)})
    run = parse(propose(path))
    assert [field.size for field in run.schema.fields.values()] == [30, 8]
    assert run.encoding.steps[0]["step"] == "energy_tree"
    assert run.schema.incident


def test_columns_without_information_are_left_out_with_the_reason(tmp_path: Path) -> None:
    columns = {"m": np.arange(300.0) % 7, "row": np.arange(300), "version": np.ones(300)}
    text = propose(write(tmp_path / "index.root", columns))
    assert list(parse(text).schema.fields) == ["m"]
    assert "# row: left out: a different value in nearly every event" in text
    assert "# version: left out: 1 in all entries" in text


def test_a_table_of_constants_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.root", {"a": np.ones(50), "b": np.full(50, 2.0)})
    with pytest.raises(
        DataError,
        match=r"no column of the tree .* is left to generate \(1 in all entries, 2 in all entries\)",
    ):
        propose(path)


def test_few_values_that_are_not_finite_are_cut_away_and_many_leave_the_column_out(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(1)
    columns = {name: rng.normal(0, 1, 500) for name in ("mass", "few", "many")}
    columns["few"][::100], columns["many"][::5] = np.nan, np.inf
    text = propose(write(tmp_path / "nan.root", columns))
    run = parse(text)
    assert set(run.schema.fields) == {"mass", "few"}
    assert run.data.cut == "abs(`few`) < 1e30"
    assert "without the few entries in which few is NaN or infinite" in text
    events = reader.read(list(run.data.files), run.schema, tree=run.data.tree, cut=run.data.cut)
    assert len(events) == 495


def test_values_that_are_not_finite_in_numbered_or_excluded_columns_cut_nothing(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(1)
    columns = {f"x{i}": rng.normal(0, 1, 500) for i in range(9)} | {"mass": rng.normal(0, 1, 500)}
    columns["bad"], columns["x3"][7] = columns["mass"].copy(), np.nan
    columns["bad"][5] = np.nan
    run = parse(propose(write(tmp_path / "numbered.root", columns), without=["bad"]))
    assert not run.data.cut
    assert list(run.schema.fields) == ["mass"]


def test_the_tree_with_far_more_entries_is_chosen(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "two.root") as file:
        file["settings"] = {"version": np.ones(2)}
        file["events"] = table()
        file["other"] = {"x": np.ones(3)}
    text = propose(str(tmp_path / "two.root"))
    assert parse(text).data.tree == "events"
    assert "# the other trees of the file have far fewer entries" in text
    with uproot.recreate(tmp_path / "equal.root") as file:
        file["one"], file["two"] = table(), table()
    with pytest.raises(DataError, match="several trees; name one of them: one, two"):
        propose(str(tmp_path / "equal.root"))


def test_an_array_of_floats_that_is_called_an_image_is_one(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).random((100, 3, 8, 8)) * 7
    assert "images of 192 pixels" in propose(write(tmp_path / "i.root", {"img": pixels}))
    assert "showers of 192 cells" in propose(write(tmp_path / "c.root", {"calo": pixels}))


def _shower_of(mean: np.ndarray, number: int, seed: int) -> np.ndarray:
    """Events with this mean profile, whose cells have no correlations other than those of the energy."""
    rng = np.random.default_rng(seed)
    energy = np.exp(rng.uniform(0, 3, number))[:, None]
    cells = mean.ravel() * energy * rng.gamma(1.5, 1 / 1.5, (number, mean.size))
    return np.where(cells < 1e-3 * mean.max(), 0, cells).astype("f4")


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (5, 5), (8, 8), (7, 9), (12, 12)])
def test_rows_of_a_flat_layer_come_from_a_peak_of_the_mean_energies(
    rows: int, columns: int
) -> None:
    y, x = np.mgrid[:rows, :columns]
    distance = np.hypot(y - rows / 2 + 0.6, x - columns / 2 + 0.4)
    for mean in (np.exp(-distance / rows * 5), np.exp(-((distance / rows * 3) ** 2))):
        assert peak_row_length(_shower_of(mean, 400, rows)) == columns


def test_strips_have_no_rows_whatever_their_mean_profile() -> None:
    rng = np.random.default_rng(6)
    for number in range(8, 97):
        x, width = np.arange(number), number * rng.uniform(0.03, 0.4)
        center = rng.uniform(0.2, 0.8) * number
        peak = np.exp(-((x - center) ** 2) / 2 / width**2)
        profiles = {
            "peak": peak,
            "cusp": np.exp(-abs(x - center) / width),
            "decrease": np.exp(-x / width),
            "shower depth": (x + 0.5) ** rng.uniform(0.5, 5) * np.exp(-x / width),
            "flat": np.ones(number),
            "two peaks": peak + peak[::-1],
            "different gains": peak * rng.uniform(0.5, 1.5, number),
            "dead strips": peak * np.where(x % 8 == 0, 0.3, 1),
        }
        for name, mean in profiles.items():
            assert peak_row_length(_shower_of(mean, 300, number)) == 0, (name, number)


def test_a_list_that_may_be_a_square_is_left_flat_with_a_question(tmp_path: Path) -> None:
    branches = showers()
    branches["layer_1"] = np.random.default_rng(7).gamma(2, 1, (600, 25)).astype("f4")
    text = propose(write(tmp_path / "a.root", branches))
    assert parse(text).schema.fields["layer_1"].shape == (25,)
    assert "# 25 cells in one list; 5 × 5? Then shape = [5, 5]\n[schema.fields.layer_1]" in text


@pytest.mark.parametrize(
    ("smallest", "expected"), [(0.30000028, 0.3), (0.3, 0.3), (0.29999998, 0.3), (0.31, 0.31)]
)
def test_threshold_is_the_number_of_few_digits_at_the_smallest_energy(
    smallest: float, expected: float
) -> None:
    cells = 0.31 + np.random.default_rng(8).exponential(1, (100, 200)).astype("f4")
    cells[0, 0] = smallest
    assert threshold({"a": cells})[0] == expected


def test_threshold_is_below_energies_that_many_cells_have() -> None:
    cells = np.random.default_rng(9).integers(0, 20, (100, 200)).astype("f4") * np.float32(0.3)
    value, _ = threshold({"a": cells})
    assert 0.29 < value < 0.3


def test_frequent_values_of_a_continuous_column_are_named(tmp_path: Path) -> None:
    branches, rng = table(), np.random.default_rng(10)
    branches["tau21"] = np.where(rng.random(600) < 0.3, -999, rng.random(600)).astype("f4")
    branches["eta"] = rng.normal(0, 1.5, 600).clip(-2.5, 2.5).astype("f4")
    lines = propose(write(tmp_path / "a.root", branches)).splitlines()
    notes = {lines[i + 1]: line for i, line in enumerate(lines[:-1]) if "of the values are" in line}
    assert set(notes) == {"[schema.fields.tau21]", "[schema.fields.eta]"}
    assert "are -999, far from all others: a default value?" in notes["[schema.fields.tau21]"]
    assert "are -2.5, the smallest: a limit?" in notes["[schema.fields.eta]"]
    assert "are 2.5, the largest: a limit?" in notes["[schema.fields.eta]"]


def test_missing_mirror_images_have_a_reason(shower_file: str, tmp_path: Path) -> None:
    assert "# Mirror images are not trained on: mean showers differ from" in propose(shower_file)
    branches = showers() | {"strips": showers()["layer_0"][:, :13]}
    text = propose(write(tmp_path / "a.root", branches))
    assert "# Mirror images are not trained on: strips has no rows and columns." in text
    assert "# reflect" not in text


def test_a_momentum_and_a_constant_run_number_are_called_so(tmp_path: Path) -> None:
    branches = showers()
    branches["p_true"] = branches.pop("energy")
    assert "# condition: the incident momentum, used as the energy" in propose(
        write(tmp_path / "a.root", branches)
    )
    columns = table() | {"runNumber": np.full(600, 356000, "i4")}
    assert "# runNumber: left out: 356000 in the first 600 entries" in propose(
        write(tmp_path / "b.root", columns)
    )


def test_the_model_of_a_run_is_named_in_one_sentence(shower_file: str) -> None:
    run = parse(propose(shower_file))
    assert about_model(run).startswith("conditional encoding fitted by maximum likelihood, no adv")
    run = replaced(run, {"train.steps": 2000})
    assert about_model(run) == "a GAN that corrects the conditional encoding, 2,000 training steps"
    assert about_model(load("mnist")).startswith("a GAN, 2,500 training steps")
    assert (
        about_model(load("showers-fast"))
        == "a GAN that corrects the Gaussian copula, 3,500 training steps"
    )
