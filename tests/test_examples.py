"""Short versions of the examples: on small samples in this process, or in a separate one."""

import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import awkward as ak
import h5py
import numpy as np
import pytest
import torch
import uproot
from click.testing import CliRunner
from tiny import tiny_events, write_tiny

from hepgan.cli import main
from hepgan.data.convert import convert
from hepgan.data.io.reader import read
from hepgan.data.io.writer import write
from hepgan.data.schema import Field, Schema
from hepgan.gan.model import GAN
from hepgan.pipeline import load, train

EXAMPLES = Path(__file__).parents[1] / "examples"


def run_example(name: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def small_samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the first tenth of the package's samples, under their names."""
    folder = tmp_path_factory.mktemp("samples")
    for name, preset in (("mnist", "mnist"), ("showers", "showers")):
        schema = load(preset).schema
        events = read(f"sample:{name}.root", schema, entry_stop=1000)
        write(folder / f"{name}.root", events, schema, tree=name)
    return folder


@pytest.fixture
def run_here(
    small_samples: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Returns a function that runs an example as a script in this process, on the small samples, and returns its output."""
    monkeypatch.setattr("hepgan.data.io.files.SAMPLES", small_samples)

    def run(name: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_mnist_example(tmp_path: Path, run_here: Callable[..., str]) -> None:
    out = tmp_path / "mnist"
    text = run_here("01_mnist.py", out, "train.steps=4", "train.validate_every=0")
    assert "generator:     DENSE|3136|LINEAR, RESHAPE|64|7|7" in text
    with uproot.open(out / "hundred.root") as file:
        images = file["mnist"]["image"].array(library="np")
    assert images.shape == (100, 28, 28)
    assert images.dtype == "uint8"
    assert (out / "report.html").is_file()


def test_showers_example(tmp_path: Path, run_here: Callable[..., str]) -> None:
    out = tmp_path / "showers"
    text = run_here("02_showers.py", out, "train.steps=4", "train.validate_every=0")
    rows = [line.split() for line in text.splitlines() if "…" in line]
    assert len(rows) == 3
    for row in rows:
        assert abs(float(row[-1]) - float(row[-2])) < 0.01
    with uproot.open(out / "generated.root") as file:
        assert file["showers"]["layer_0"].array(library="np").shape[1:] == (3, 96)


def test_jets_example_writes_ten_copies_of_each_jet(
    tmp_path: Path, run_here: Callable[..., str]
) -> None:
    text = run_here("nano_jets.py", tmp_path, 400, 3)
    assert text.startswith("4,000 simulated jets: ")
    with uproot.open(tmp_path / "simulated.root") as file:
        jets = file["Events"].arrays(["copy", "entry", "Jet_mass"], library="np")
    np.testing.assert_array_equal(jets["copy"], np.arange(4000) % 10)
    np.testing.assert_array_equal(jets["entry"], np.arange(4000) // 10)
    assert (jets["Jet_mass"] == 0).any()


def test_own_layer_example() -> None:
    text = run_example("own_layer.py")
    assert text.startswith("CENTER (1, 12, 12) 0\nDENSE|32|LRELU (32,) 4640\n")


def test_own_step_example() -> None:
    assert "encoded 10.7" in run_example("own_step.py")


def test_tmva_macro_example(tmp_path: Path, run_here: Callable[..., str]) -> None:
    text = run_here("04_tmva_macro.py", tmp_path, 1, 200)
    assert text.startswith("TMVAGeneration_GAN: ")
    folder = tmp_path / "dataset" / "TMVAGeneration_GAN"
    with uproot.open(folder / "generated.root") as file:
        assert file["mnist"]["image"].array(library="np").shape[1:] == (28, 28)
    assert (folder / "report.html").is_file()


def test_loader_example(tmp_path: Path) -> None:
    schema = Schema(
        {"layer_0": Field((3, 96)), "layer_1": Field((12, 12)), "layer_2": Field((12, 6))}
    )
    showers = read("sample:showers.root", schema, entry_stop=3000)
    for number in range(2):
        part = showers[number * 1500 : (number + 1) * 1500]
        write(tmp_path / f"{number}.root", part, schema, tree="showers")
    text = run_example("03_loader.py", tmp_path / "*.root", 3)
    losses = [float(line.split()[-1]) for line in text.splitlines()]
    assert len(losses) == 3
    assert losses[-1] < losses[0] < 1.2


SHORT = [*EXAMPLES.glob("0?_*.py"), *EXAMPLES.glob("calogan/*.py"), EXAMPLES / "own_objective.py"]


@pytest.mark.parametrize("path", sorted(SHORT), ids=lambda path: path.name)
def test_examples_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 50


def test_readme_python_runs_unchanged(tmp_path: Path) -> None:
    readme = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    block = readme.split("```python\n")[1].split("```")[0]
    subprocess.run([sys.executable, "-c", block], check=True, cwd=tmp_path)
    with uproot.open(tmp_path / "showers.root") as file:
        energy = file["showers"]["energy"].array(library="np")
    assert len(energy) == 1000
    assert energy.min() >= 1
    assert energy.max() <= 100


@pytest.mark.slow
def test_readme_commands_on_own_data_run_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    block = readme.partition("## Your own data")[2].split("```sh\n")[1].split("```")[0]
    for number in (1, 2):
        write_tiny(tmp_path / f"mine{number}.root", tiny_events(400, number))
    monkeypatch.chdir(tmp_path)
    for line in block.splitlines():
        words = shlex.split(line, comments=True)[1:]
        arguments = [
            path for word in words for path in (sorted(map(str, tmp_path.glob(word))) or [word])
        ]
        result = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    assert (tmp_path / "runs" / "mine" / "report.html").is_file()
    with uproot.open(tmp_path / "more.root") as file:
        assert file["events"].num_entries == 10_000


@pytest.mark.slow
def test_coffea_fastsim_example(tmp_path: Path) -> None:
    text = run_example("coffea_fastsim.py", "showers", tmp_path / "positrons.root").splitlines()[-1]
    assert " positrons: response 0.99" in text


@pytest.mark.slow
def test_coffea_compare_example() -> None:
    text = run_example("coffea_compare.py", "showers", "sample:showers.root")
    scores = [float(line.split()[3]) for line in text.splitlines() if "separation" in line]
    assert len(scores) > 20
    assert max(scores) < 0.1


@pytest.mark.slow
def test_dask_example(tmp_path: Path) -> None:
    run_example("coffea_fastsim.py", "showers", tmp_path / "positrons.root")
    text = run_example(
        "dask_cluster.py", "showers", tmp_path / "positrons.root", tmp_path / "out.root"
    )
    with uproot.open(tmp_path / "out.root") as file:
        assert f"{file['Events'].num_entries} showers" in text


def calogan_file(path: Path, number: int) -> Path:
    """Writes the sample's first showers in CaloGAN's HDF5 format, converted back to ROOT."""
    schema = load("showers").schema
    showers = read("sample:showers.root", schema, entry_stop=number)
    with h5py.File(path.with_suffix(".hdf5"), "w") as file:
        for name in schema.fields:
            file[name] = ak.to_numpy(showers[name])
        file["overflow"] = np.zeros((number, 3))
        file["energy"] = ak.to_numpy(showers.energy)[:, None]
    convert("calogan", [path.with_suffix(".hdf5")], path)
    return path


@pytest.mark.slow
def test_calogan_examples_go_from_hdf5_to_figures(tmp_path: Path) -> None:
    out, gamma = tmp_path / "run", calogan_file(tmp_path / "gamma.root", 3000)
    text = run_example("calogan/train.py", out, gamma, "train.steps=2", "train.validate_every=0")
    number = int(text.split()[0])
    assert number == pytest.approx(600, abs=90)
    with uproot.open(out / "unseen.root") as unseen, uproot.open(out / "generated.root") as made:
        energies = [file["showers"]["energy"].array(library="np") for file in (unseen, made)]
    np.testing.assert_array_equal(*energies)
    assert run_example("calogan/figures.py", out).startswith("26 figures")
    assert (out / "figures" / "layer_1.width_x.png").read_bytes().startswith(b"\x89PNG")
    responses = [
        float(line.split("= ")[1].split()[0])
        for line in run_example("calogan/one_energy.py", out, 50).splitlines()
    ]
    assert responses == pytest.approx([0.9965, 0.9965], abs=0.001)
    assert len(list(out.glob("layer_?.50_GeV.png"))) == 3


@pytest.mark.slow
def test_own_objective_example(tmp_path: Path) -> None:
    text = run_example(
        "own_objective.py", tmp_path / "own", "train.steps=2", "train.validate_every=0"
    )
    assert "kept the generator of the last step, 2" in text.splitlines()[-1]
    trained = GAN.load(tmp_path / "own")
    untrained = train(load("showers-fast", {"train.steps": 0}), tmp_path / "none", device="cpu")[0]
    pairs = zip(trained.generator.parameters(), untrained.generator.parameters(), strict=True)
    assert not all(torch.equal(one, other) for one, other in pairs)


def test_own_observable_and_metric_examples(tmp_path: Path) -> None:
    schema = load("showers").schema
    path = tmp_path / "showers.root"
    write(path, read("sample:showers.root", schema, entry_stop=300), schema, tree="showers")
    assert "separation: " in run_example("own_observable.py", path, path)
    assert "median_shift" in run_example("own_metric.py", path, path)
