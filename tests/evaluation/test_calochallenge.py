"""``hepgan evaluate`` reads the CaloChallenge's HDF5 files and binning."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hepgan import pipeline as library
from hepgan.cli import main
from hepgan.data.convert import calochallenge, convert
from hepgan.errors import DataError

h5py = pytest.importorskip("h5py")

# the binning of data set 1 with photons: 5 layers with voxels, 8 without
PHOTONS = {
    0: (1, "0,5,10,30,50,100,200,400,600"),
    1: (10, "0,2,4,6,8,10,12,15,20,30,40,50,70,90,120,150,200"),
    2: (10, "0,2,5,10,15,20,25,30,40,50,60,80,100,130,160,200,250,300,350,400"),
    3: (1, "0,50,100,200,400,600"),
    **dict.fromkeys(range(4, 12), (1, "0")),
    12: (1, "0,100,200,400,1000,2000"),
}


def binning(path: Path, layers: dict[int, tuple[int, str]], particle: str = "photon") -> Path:
    lines = [
        f'<Layer id="{n}" r_edges="{edges}" n_bin_alpha="{angles}" />'
        for n, (angles, edges) in layers.items()
    ]
    path.write_text(f'<Bins><Bin pid="22" name="{particle}">{"".join(lines)}</Bin></Bins>')
    return path


def showers(path: Path, voxels: int, seed: int, events: int = 240, scale: float = 1.0) -> Path:
    rng = np.random.default_rng(seed)
    energy = 2.0 ** rng.integers(8, 23, (events, 1))  # 256 MeV to 4 TeV, as in data set 1
    cells = rng.gamma(0.3, size=(events, voxels))
    cells *= scale * energy / cells.sum(axis=1, keepdims=True)
    with h5py.File(path, "w") as file:
        file["incident_energies"], file["showers"] = energy, cells
    return path


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hepgan.evaluation.report.figures.draw", lambda *_args, **_options: [])


@pytest.mark.usefixtures("no_figures")
def test_one_line_judges_hdf5_files_of_data_set_1(tmp_path: Path) -> None:
    binning(tmp_path / "binning.xml", PHOTONS)
    for name, seed, scale in (("geant4", 1, 1.0), ("gan", 2, 1.1)):
        showers(tmp_path / f"{name}.hdf5", 368, seed, scale=scale)
    arguments = ["evaluate", "geant4.hdf5", "gan.hdf5", "--binning", "binning.xml", "-o", "out"]
    paths = [str(tmp_path / a) if a.endswith((".hdf5", ".xml", "out")) else a for a in arguments]
    done = CliRunner().invoke(main, [*paths, "--metric", "chi_square", "--quick"])
    assert done.exit_code == 0, done.output
    assert "gan is distinguishable" in done.output
    assert "E_tot_over_E_inc" in done.output
    page = (tmp_path / "out" / "report.html").read_text()
    assert "5 layers, 368 voxels; voxels of HDF5 files below 1 MeV are set to zero" in page
    assert "layer_12.width_r" in page


@pytest.mark.usefixtures("no_figures")
def test_hdf5_and_the_root_file_converted_from_it_have_the_same_scores(tmp_path: Path) -> None:
    xml = binning(tmp_path / "binning.xml", {0: (1, "0,5,10"), 3: (4, "0,2,4,8")})
    files = [showers(tmp_path / f"{name}.hdf5", 14, seed) for seed, name in enumerate("ab")]
    convert("calochallenge", [files[1], xml], tmp_path / "b.root")
    found = [
        library.evaluate(
            str(files[0]),
            {"gan": str(file)},
            tmp_path / f"out{i}",
            binning=str(xml),
            threshold=0.0,
            metrics=["chi_square", "wasserstein"],
            device="cpu",
        )
        for i, file in enumerate((files[1], tmp_path / "b.root"))
    ]
    assert found[0].scores == found[1].scores
    assert {"layer_0.width_r", "layer_3.center_eta", "radius_90"} <= {
        score.observable for score in found[0].scores
    }


def test_voxels_below_the_threshold_are_zero_and_layers_are_named_by_their_number(
    tmp_path: Path,
) -> None:
    xml = binning(tmp_path / "binning.xml", {0: (1, "0,5,10"), 5: (1, "0"), 7: (2, "0,1,2,4")})
    file = showers(tmp_path / "set.hdf5", 8, 1)
    layers = calochallenge.layers_of(file, xml)
    events = calochallenge.read_showers([file, file], layers, threshold=20.0)
    with h5py.File(file) as data:
        raw = data["showers"][:].astype("f4")
    assert events.fields == ["layer_0", "layer_7", "energy"]
    assert len(events) == 480
    cells = np.concatenate(
        [np.asarray(events[name]).reshape(480, -1) for name in ("layer_0", "layer_7")], axis=1
    )
    np.testing.assert_array_equal(cells[:240], np.where(raw < 20, 0, raw))
    assert (raw[raw < 20] > 0).any()


def test_the_thresholds_are_those_of_the_challenge(tmp_path: Path) -> None:
    layers = [calochallenge.Layer(n, 16, tuple(range(10))) for n in range(45)]
    assert calochallenge.readout_threshold(layers) == pytest.approx(0.01515, rel=1e-3)
    assert calochallenge.readout_threshold(layers[:3]) == 0


def test_hdf5_without_binning_weights_of_hdf5_a_binning_without_hdf5_and_small_ensembles_are_errors(
    tmp_path: Path,
) -> None:
    xml = binning(tmp_path / "binning.xml", {0: (1, "0,5,10")})
    file = str(showers(tmp_path / "set.hdf5", 2, 1))
    with pytest.raises(DataError, match="give the CaloChallenge's XML file with --binning"):
        library.evaluate(file, {"gan": file}, tmp_path / "out")
    with pytest.raises(DataError, match="no branches for the weight 'w'"):
        library.evaluate(
            file, {"gan": file}, tmp_path / "out", binning=str(xml), weights=("w", None)
        )
    with pytest.raises(DataError, match="--binning and --threshold are for HDF5 files"):
        library.evaluate("a.root", {"gan": "b.root"}, tmp_path / "out", binning=str(xml))
    with pytest.raises(
        DataError, match="an ensemble needs 3 generated files, or .*, but there are 1"
    ):
        library.evaluate(file, {"gan": file}, tmp_path / "out", binning=str(xml), ensemble=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_figures")
def test_at_most_max_events_are_compared_evenly_spaced_from_hdf5_and_root_alike(
    tmp_path: Path,
) -> None:
    xml = binning(tmp_path / "binning.xml", {0: (1, "0,5,10"), 3: (4, "0,2,4,8")})
    file = showers(tmp_path / "a.hdf5", 14, 1)
    convert("calochallenge", [file, xml], tmp_path / "a.root")
    evaluation = library.evaluate(
        str(file), {"gan": str(tmp_path / "a.root")}, tmp_path / "out",
        binning=str(xml), threshold=0.0, metrics=["wasserstein"], max_events=100, device="cpu",
    )  # fmt: skip
    assert {(s.n_reference, s.n_generated, s.value) for s in evaluation.scores} == {(100, 100, 0.0)}
    reasons = [skip.reason for skip in evaluation.skipped if skip.metric == "events"]
    assert len(reasons) == 2
    assert "100 of 240 are compared" in reasons[0]
    with h5py.File(file) as data:
        energy = data["incident_energies"][:, 0].astype("f4")
    kept = np.asarray(evaluation.comparison.samples["reference"].events["energy"])
    np.testing.assert_array_equal(kept, energy[[i for i in range(240) if (i + 1) * 100 // 240 > i * 100 // 240]])  # fmt: skip


@pytest.mark.usefixtures("no_figures")
def test_files_that_do_not_fit_into_memory_are_compared_in_part_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hepgan.pipeline.evaluation.MAX_VALUES", 60 * 15)
    xml = binning(tmp_path / "binning.xml", {0: (1, "0,5,10"), 3: (4, "0,2,4,8")})
    files = [showers(tmp_path / f"{name}.hdf5", 14, seed) for seed, name in enumerate("ab")]
    evaluation = library.evaluate(
        str(files[0]), {"gan": str(files[1])}, tmp_path / "out",
        binning=str(xml), threshold=0.0, metrics=["wasserstein"], device="cpu",
    )  # fmt: skip
    assert {(s.n_reference, s.n_generated) for s in evaluation.scores} == {(60, 60)}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "60 of 240 are compared, evenly spaced over the file" in page


def test_reading_part_of_hdf5_files_needs_memory_for_that_part_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    xml = binning(tmp_path / "binning.xml", {0: (1, "0,5,10"), 3: (4, "0,2,4,8")})
    files = [showers(tmp_path / f"{name}.hdf5", 14, seed, 20_000) for seed, name in enumerate("ab")]
    layers = calochallenge.layers_of(files[0], xml)
    monkeypatch.setattr(calochallenge, "VALUES_PER_PIECE", 14_000)
    tracemalloc.start()
    events = calochallenge.read_showers(files, layers, threshold=0.0, max_events=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(events) == 1000
    assert peak < 1_500_000  # all events have 4.5 MB in double precision
