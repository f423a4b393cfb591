"""The examples in a short form, each in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest
import uproot

from hepgan.data.root import read, write
from hepgan.data.schema import Field, Schema
from hepgan.run import load, train

EXAMPLES = Path(__file__).parents[1] / "examples"


def run_example(name: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_mnist_example(tmp_path: Path) -> None:
    out = tmp_path / "mnist"
    text = run_example("01_mnist.py", out, "train.steps=4", "train.validate_every=0")
    assert "generator:     DENSE|3136|LINEAR, RESHAPE|64|7|7" in text
    with uproot.open(out / "hundred.root") as file:
        images = file["mnist"]["image"].array(library="np")
    assert images.shape == (100, 28, 28)
    assert images.dtype == "uint8"
    assert (out / "report.html").is_file()


def test_showers_example(tmp_path: Path) -> None:
    out = tmp_path / "showers"
    text = run_example("02_showers.py", out, "train.steps=4", "train.validate_every=0")
    rows = [line.split() for line in text.splitlines() if "…" in line]
    assert len(rows) == 3
    for row in rows:
        assert abs(float(row[-1]) - float(row[-2])) < 0.01
    with uproot.open(out / "made.root") as file:
        assert file["showers"]["layer_0"].array(library="np").shape[1:] == (3, 96)


def test_tmva_macro_example(tmp_path: Path) -> None:
    text = run_example("04_tmva_macro.py", tmp_path, 1)
    assert text.startswith("TMVAGeneration_GAN: ")
    folder = tmp_path / "dataset" / "TMVAGeneration_GAN"
    with uproot.open(folder / "generated.root") as file:
        assert file["mnist"]["image"].array(library="np").shape[1:] == (28, 28)
    assert (folder / "report.html").is_file()


def test_loader_example(tmp_path: Path) -> None:
    schema = Schema(
        {"layer_0": Field((3, 96)), "layer_1": Field((12, 12)), "layer_2": Field((12, 6))}
    )
    showers = read("sample:showers.root", schema, stop=3000)
    for number in range(2):
        part = showers[number * 1500 : (number + 1) * 1500]
        write(tmp_path / f"{number}.root", part, schema, tree="showers")
    text = run_example("03_loader.py", tmp_path / "*.root", 3)
    losses = [float(line.split()[-1]) for line in text.splitlines()]
    assert len(losses) == 3
    assert losses[-1] < losses[0] < 1.2


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("0?_*.py")), ids=lambda path: path.name)
def test_examples_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 50


def test_readme_python_runs_as_it_stands(tmp_path: Path) -> None:
    """The README's first Python block, in a folder with a short ``runs/showers``."""
    readme = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    block = readme.split("```python\n")[1].split("```")[0]
    run_example(
        "02_showers.py", tmp_path / "runs" / "showers", "train.steps=2", "train.validate_every=0"
    )
    subprocess.run([sys.executable, "-c", block], check=True, cwd=tmp_path)
    with uproot.open(tmp_path / "showers.root") as file:
        energy = file["showers"]["energy"].array(library="np")
    assert len(energy) == 1000
    assert energy.min() >= 1
    assert energy.max() <= 100


def test_readme_run_file_is_valid(tmp_path: Path) -> None:
    readme = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    path = tmp_path / "readme.toml"
    path.write_text(readme.split("```toml\n")[1].split("```")[0])
    assert load(path).schema.features == 784


@pytest.fixture(scope="module")
def shower_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples") / "showers"
    train(load("showers", {"train.steps": 2, "train.validate_every": 0}), folder, device="cpu")
    return folder


@pytest.mark.slow
def test_coffea_fastsim_example(shower_run: Path, tmp_path: Path) -> None:
    text = run_example("coffea_fastsim.py", shower_run, tmp_path / "photons.root").splitlines()[-1]
    assert " photons: response 0.99" in text


@pytest.mark.slow
def test_coffea_compare_example(shower_run: Path) -> None:
    text = run_example("coffea_compare.py", shower_run, "sample:showers.root")
    scores = [float(line.split()[-1]) for line in text.splitlines() if "separation" in line]
    assert len(scores) > 20
    assert max(scores) < 0.2


@pytest.mark.slow
def test_dask_example(shower_run: Path, tmp_path: Path) -> None:
    run_example("coffea_fastsim.py", shower_run, tmp_path / "photons.root")
    text = run_example(
        "dask_cluster.py", shower_run, tmp_path / "photons.root", tmp_path / "out.root"
    )
    with uproot.open(tmp_path / "out.root") as file:
        assert f"{file['Events'].num_entries} showers" in text
