"""Processors and the commands with ``--executor`` give the same results, bit for bit, on every executor."""

import functools
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pytest
import uproot
from click.testing import CliRunner, Result
from coffea.processor import DaskExecutor, FuturesExecutor, IterativeExecutor
from filesets import CHUNKS, Dying, Together, fileset, loads, runner, same, simulation, write_events

import hepgan
from hepgan import atomic, processors
from hepgan.cli import main
from hepgan.data.schema import Field, Schema
from hepgan.errors import HepganError
from hepgan.evaluation.histograms import axes_for, to_arrays
from hepgan.processors import executors, model_cache
from hepgan.processors.simulate_files import parts_for
from hepgan.processors.workers import pool

SIZES = (5000, 2500, 4000)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three files, two of the same name."""
    paths = [tmp_path_factory.mktemp(name) / "photons.root" for name in "ab"]
    paths.append(paths[0].with_name("more.root"))
    for path, size in zip(paths, SIZES, strict=True):
        write_events(path, size)
    return paths


@pytest.fixture(scope="module")
def dask() -> Iterator[Any]:
    """A client of a cluster of two processes."""
    distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with distributed.Client(
            n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as client:
            yield client


def everything(folder: Path) -> Together:
    """``Simulate`` with its three outputs, ``Collect`` and ``Compare``."""
    schema = hepgan.GAN.load(folder).schema
    observables = hepgan.observables_for(schema)
    axes = axes_for(to_arrays(hepgan.read(folder.parent / "tiny.root", schema)), observables)
    simulate = functools.partial(processors.Simulate, processors.embed(folder), energy="GenPart_energy", seed=5)  # fmt: skip
    return Together(
        {
            "columns": simulate(output=processors.ReturnFields("showers", "weight")),
            "filled": simulate(output=processors.FillHistograms(observables, axes, schema)),
            "number": simulate(output=lambda events: {"showers": len(ak.flatten(events.showers))}),
            "collected": processors.Collect(schema, cut="a > 3", weight="1 / energy"),
            "compared": processors.Compare(schema, observables, axes=axes, gan=folder, seed=3),
        }
    )


def assert_equal(one: dict[str, Any], two: dict[str, Any]) -> None:
    for name in ("columns", "collected"):
        same(one[name], two[name])
        assert one[name].attrs["files"] == two[name].attrs["files"]
    for name in ("filled", "number", "compared"):
        assert one[name] == two[name]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_results_do_not_depend_on_executor_chunks_order_or_workers(
    gan_folder: Path, files: list[Path], dask: Any
) -> None:
    processor = everything(gan_folder)
    expected = runner()(fileset(files), processor)
    assert len(expected["columns"]) == sum(SIZES)
    assert expected["number"]["showers"] == len(ak.flatten(expected["columns"].showers))
    orders = {1: files, 2: files[::-1], 3: files[1:] + files[:1]}  # by number of workers
    for (workers, order), size in itertools.product(orders.items(), CHUNKS):
        dask.cluster.scale(workers)
        executors = (
            IterativeExecutor(status=False),
            FuturesExecutor(workers=workers, status=False),
            DaskExecutor(client=dask, status=False),
        )
        for executor in executors:
            result = runner(size, executor)(fileset(order), processor)
            assert_equal(expected, result)
    dask.cluster.scale(2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_dying_dask_worker_neither_loses_nor_duplicates_events(
    gan_folder: Path, files: list[Path], dask: Any, tmp_path: Path
) -> None:
    expected = runner()(fileset(files), everything(gan_folder))
    schema = hepgan.GAN.load(gan_folder).schema
    parts = processors.WriteFiles(str(tmp_path / "parts"), schema, "events", showers=True)
    whole = everything(gan_folder)
    whole.several["parts"] = simulation(processors.embed(gan_folder), output=parts)
    dying = Dying(whole, tmp_path / "died")
    result = runner(1_000, DaskExecutor(client=dask, status=False))(fileset(files), dying)
    assert (tmp_path / "died").exists()
    assert_equal(expected, result)
    assert {str(path) for path in (tmp_path / "parts").iterdir()} == set(result["parts"])
    assert sum(result["parts"].values()) == ak.sum(ak.num(expected["columns"].showers))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_workers_load_a_model_once_and_savemetrics_sums_their_times(
    gan_folder: Path, files: list[Path], dask: Any
) -> None:
    counting = simulation(processors.embed(gan_folder), output=loads)
    model_cache._unpacked.cache_clear()
    for executor in (
        FuturesExecutor(workers=2, status=False),
        DaskExecutor(client=dask, status=False),
    ):
        result, metrics = runner(500, executor, savemetrics=True)(fileset(files), counting)
        assert result
        assert {loaded for _, loaded in result} == {1}
        assert os.getpid() not in {process for process, _ in result}
        assert metrics["entries"] == sum(SIZES)
        assert metrics["chunks"] == sum(-(-size // 500) for size in SIZES)
        assert metrics["processtime"] > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("executor", ["iterative", "futures", "dask"])
def test_errors_on_a_worker_are_the_same_for_every_executor(
    executor: Any, gan_folder: Path, files: list[Path], tmp_path: Path
) -> None:
    with processors.open_runner(executor, workers=2, step_size=2000) as job:
        for processor, words in (
            (simulation(tmp_path / "gone"), "gan.json does not exist on .*; pass the folder"),
            (simulation(gan_folder, energy="GenPart_enrgy"), "did you mean 'GenPart_energy'"),
            (processors.Collect(Schema({"c": Field()})), "no branch 'c'"),
        ):
            with pytest.raises(HepganError, match=words):
                job(fileset(files), processor)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("executor", ["futures", "dask"])
def test_workers_that_always_die_raise_an_error(
    executor: Any, gan_folder: Path, files: list[Path]
) -> None:
    dying = Dying(simulation(gan_folder), None)
    with (
        processors.open_runner(executor, workers=2, step_size=1000) as job,
        pytest.raises(HepganError, match="a worker process died, most likely out of memory"),
    ):
        job(fileset(files), dying)


def command(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def output_of(*arguments: object) -> str:
    done = command(*arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def columns(path: Path, tree: str) -> dict[str, Any]:
    with uproot.open(path) as file:
        arrays: dict[str, Any] = file[tree].arrays(library="np")
    return arrays


def assert_columns(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert list(one) == list(two)
    for name, values in one.items():
        assert values.dtype == two[name].dtype
        np.testing.assert_array_equal(values, two[name])


WAYS = [
    pytest.param(["--executor", "iterative"], id="iterative"),
    pytest.param(["--executor", "futures", "--workers", "2"], id="futures", marks=pytest.mark.slow),
    pytest.param(["--executor", "dask", "--workers", "2"], id="dask", marks=pytest.mark.slow),
    pytest.param(["--executor", "dask", "--scheduler"], id="scheduler", marks=pytest.mark.slow),
]


@pytest.fixture(params=WAYS)
def executor_options(request: pytest.FixtureRequest) -> list[str]:
    """Options that choose an executor."""
    options: list[str] = list(request.param)
    if options[-1] == "--scheduler":
        client = request.getfixturevalue("dask")
        options.append(client.scheduler.address)
    return options


@pytest.mark.filterwarnings("ignore")
def test_simulate_writes_the_same_with_every_executor(
    executor_options: list[str], gan_folder: Path, files: list[Path], tmp_path: Path
) -> None:
    arguments = ["simulate", gan_folder, *files, "--energy", "GenPart_energy", "--seed", 3]
    output_of(*arguments, "-o", tmp_path / "alone.root")
    said = output_of(
        *arguments, "-o", tmp_path / "spread.root", "--step-size", 1000, *executor_options
    )
    result = columns(tmp_path / "spread.root", "Events")
    assert said == f"{len(result['a']):,} showers: {tmp_path / 'spread.root'}\n"
    assert_columns(columns(tmp_path / "alone.root", "Events"), result)


@pytest.mark.filterwarnings("ignore")
def test_evaluate_gives_the_same_scores_with_every_executor(
    executor_options: list[str], gan_folder: Path, tmp_path: Path
) -> None:
    energy = ["--condition", "energy=1:10", "--seed", 1]
    output_of("generate", gan_folder, "-n", 900, *energy, "-o", tmp_path / "made.root")
    arguments = ["evaluate", gan_folder.parent / "tiny.root", tmp_path / "made.root", "--quick", "--config", gan_folder / "run.toml", "--reference-weight", "1 / energy"]  # fmt: skip
    output_of(*arguments, "-o", tmp_path / "alone")
    output_of(*arguments, "-o", tmp_path / "spread", *executor_options)
    for name in ("scores.json", "histograms.json"):
        assert (tmp_path / "alone" / name).read_text() == (tmp_path / "spread" / name).read_text()
    assert json.loads((tmp_path / "spread/scores.json").read_text())["n_reference"] == 3000


def calogan(path: Path, seed: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    shapes = {"layer_0": (3, 96), "layer_1": (12, 12), "layer_2": (12, 6), "overflow": (3,)}
    with h5py.File(path, "w") as file:
        for name, shape in shapes.items():
            file[name] = rng.exponential(1.0, (40, *shape))
        file["energy"] = rng.uniform(1, 100, (40, 1))
    return path


@pytest.mark.filterwarnings("ignore")
def test_convert_writes_the_same_with_every_executor(
    executor_options: list[str], tmp_path: Path
) -> None:
    sources = [calogan(tmp_path / name / "gamma.hdf5", seed) for seed, name in enumerate("bac")]
    for options in ([], ["--pixel-branches"]):
        arguments = ["convert", "calogan", *sources, *options]
        one, other = (tmp_path / f"{name}{len(options)}.root" for name in ("alone", "spread"))
        output_of(*arguments, one)
        output_of(*arguments, other, *executor_options)
        assert_columns(columns(one, "showers"), columns(other, "showers"))
    output_of("convert", "calogan", *sources, tmp_path / "parts", *executor_options)
    parts = sorted((tmp_path / "parts").iterdir())
    assert [path.name for path in parts] == [f"0000{i}-gamma.root" for i in range(3)]
    whole = columns(tmp_path / "alone0.root", "showers")
    for name, values in whole.items():
        pieces = [columns(path, "showers")[name] for path in parts]
        np.testing.assert_array_equal(values, np.concatenate(pieces))
    assert not list(tmp_path.glob(".*"))


def test_bad_options_raise_and_leave_nothing(gan_folder: Path, tmp_path: Path) -> None:
    source = calogan(tmp_path / "in" / "gamma.hdf5", 1)
    (tmp_path / "bad.hdf5").write_text("no HDF5")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    out, here = tmp_path / "out.root", ["--executor", "iterative"]
    tiny = gan_folder.parent / "tiny.root"
    wrong = {
        "need --executor": ["convert", "calogan", source, out, "--workers", 2],
        "a scheduler needs the executor dask": ["convert", "calogan", source, out, *here, "--scheduler", "tcp://localhost:1"],
        "no Dask scheduler answers at 'nowhere'": ["convert", "calogan", source, out, "--executor", "dask", "--scheduler", "nowhere"],
        "bad.hdf5' is not an HDF5 file": ["convert", "calogan", source, tmp_path / "bad.hdf5", out, *here],
        "cannot convert 'calogn'": ["convert", "calogn", source, out, *here],
        "not a new or empty folder": ["convert", "calogan", source, tmp_path / "full", *here],
        "'--executor'": ["evaluate", tiny, tiny, "-o", out, "--executor", "batch"],
    }  # fmt: skip
    for text, arguments in wrong.items():
        done = command(*arguments)
        assert done.exit_code == 2
        assert text in done.output
        assert "Traceback" not in done.output
    assert not out.exists()
    assert not list(tmp_path.glob(".*"))


def ended(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def eventually(true: Callable[[], Any], seconds: float = 120) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    return bool(true())


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_and_hidden_folders_do_not_outlive_the_command(tmp_path: Path) -> None:
    """SIGKILL leaves a folder that the next command removes; SIGTERM and SIGHUP leave nothing."""
    commands = {}
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP):
        (folder := tmp_path / number.name).mkdir()
        code = Path(__file__).parents[1] / "occupied_worker.py"
        commands[number] = subprocess.Popen([sys.executable, code, folder / "out.root"]), folder
    for number, (process, folder) in commands.items():
        busy = lambda folder=folder: [int(path.name) for path in folder.glob("*/[0-9]*")]
        assert eventually(busy)
        (worker,) = busy()
        assert not ended(worker)
        process.send_signal(number)
        assert process.wait(timeout=60) == (-9 if number == signal.SIGKILL else 128 + number)
        assert eventually(lambda worker=worker: ended(worker))
        if number == signal.SIGKILL:
            (hidden,) = folder.iterdir()
            assert not (hidden / "part").exists()
            atomic.remove_stale_parts(folder, "out.root")
        assert list(folder.iterdir()) == []


def test_the_futures_executor_uses_the_pool_of_workers_that_exit_with_their_parent() -> None:
    with executors._executor("futures", 2, None) as chosen:
        assert chosen.pool is pool


def test_folder_with_parts_of_a_killed_command_counts_as_empty(tmp_path: Path) -> None:
    (tmp_path / ".a.root.1f2e3d4c5b6a7980.part").touch()
    with parts_for(tmp_path) as (target, folder):
        assert target == folder == tmp_path
        assert list(tmp_path.iterdir()) == []
