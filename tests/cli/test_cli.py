"""The command line: output, exit codes, errors and signals."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import uproot
from click.testing import CliRunner

from hepgan import __version__
from hepgan.cli import main
from hepgan.cli.signals import ending_cleanly
from hepgan.data.encoding.density.network import RowNetwork
from hepgan.errors import RunError
from hepgan.gan.model import GAN
from hepgan.gan.training import loop
from hepgan.pipeline import load, preset_text
from hepgan.pipeline.run_folder import CONTENT
from hepgan.presets import baselines, presets, recipe_fraction


def hepgan(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a command in this process."""
    result = CliRunner().invoke(main, [*map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return subprocess.CompletedProcess(["hepgan"], result.exit_code, result.stdout, result.stderr)


def hepgan_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a command in its own process, as a shell does."""
    return subprocess.run(
        [sys.executable, "-m", "hepgan", *map(str, arguments)],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


def refused(result: subprocess.CompletedProcess[str], *texts: str) -> None:
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    _, _, message = result.stderr.partition("error: ")
    # One line; a layout's error shows the layout and the caret in two more.
    assert len(message.strip().splitlines()) == (3 if "^" in message else 1)
    for text in texts:
        assert text in message, result.stderr


def test_run_generate_and_evaluate(tiny_run: Path, tiny_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = hepgan_process(
        "run", tiny_run, "-o", out, "--seed", 5, "--device", "cpu", "--set", "train.steps=10"
    )
    assert result.returncode == 0, result.stderr
    assert "training" in result.stderr
    assert str(out / "report.html") in result.stdout
    others = {"members", "tensorboard"}  # of ensembles and trackers
    assert {path.name for path in out.iterdir()} == set(
        CONTENT
    ) - others  # what --overwrite removes
    assert "kept the generator of step" in result.stdout or "untrained generator" in result.stdout
    command = result.stdout.splitlines()[-1].removeprefix("generate: ")
    assert command == shlex.join(
        [
            *("hepgan", "generate", str(out), "-n", "10000", "-o", "out_generated.root"),
            "--conditions-from",
            f"{tiny_file}:events",
        ]
    )
    assert "steps = 10" in (out / "run.toml").read_text()
    assert "seed = 5" in (out / "run.toml").read_text()

    arguments = shlex.split(command)[1:]
    arguments[arguments.index("-o") + 1] = str(tmp_path / "more.root")
    assert hepgan(*arguments).stdout == f"10,000 events: {tmp_path / 'more.root'}\n"

    generated = tmp_path / "made.root"
    result = hepgan(
        "generate", out, "-n", 700, "-o", generated, "--seed", 3, "--condition", "energy=2:8"
    )
    assert result.returncode == 0, result.stderr
    with uproot.open(generated) as file:
        energy = file["events"]["energy"].array(library="np")
    assert len(energy) == 700
    assert 2 <= energy.min() < 2.2
    assert 7.8 < energy.max() <= 8

    again = tmp_path / "again.root"
    hepgan("generate", out, "-n", 700, "-o", again, "--seed", 3, "--condition", "energy=2:8")
    with uproot.open(generated) as one, uproot.open(again) as two:
        for name, branch in one["events"].items():
            np.testing.assert_array_equal(
                branch.array(library="np"), two["events"][name].array(library="np")
            )

    result = hepgan(
        "evaluate",
        tiny_file,
        generated,
        "-o",
        tmp_path / "judged",
        "--quick",
        "--config",
        out / "run.toml",
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "judged" / "report.html").is_file()
    assert (tmp_path / "judged" / "scores.json").is_file()


def test_train_does_the_first_part_of_run(tiny_run: Path, tmp_path: Path) -> None:
    result = hepgan("train", tiny_run, "-o", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "generator.safetensors").is_file()
    assert not (tmp_path / "out" / "generated.root").exists()


@pytest.mark.parametrize("command", main.commands)
def test_every_command_has_help_with_examples_that_parse(command: str) -> None:
    result = hepgan(command, "--help")
    assert result.returncode == 0
    assert "Usage: " in result.stdout
    lines = result.stdout.partition("Examples:\n")[2].splitlines()
    assert lines
    for line in lines:
        words = shlex.split(line.rpartition(" > ")[0] or line)
        _, name, *arguments = words[words.index("hepgan") :]
        assert name == command
        main.commands[command].make_context(name, arguments)


def test_stopped_run_generates_continues_by_its_folder_and_is_prolonged(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, generated = tmp_path / "out", tmp_path / "made.root"

    def send(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return before(*arguments, **options)

    before = loop.train_step
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", send)
        stopped = hepgan("train", tiny_run, "-o", out, "--seed", 5, "--set", "threads=1")
    assert stopped.returncode == 128 + signal.SIGTERM
    generate = ["generate", out, "-n", 10, "-o", generated, "--seed", 1]
    result = hepgan(*generate, "--condition", "energy=2:8")
    assert result.returncode == 0, result.stderr
    refused(hepgan(*generate, "--condition", "energy=2:8"), "exists; choose another file")
    result = hepgan(*generate, "--condition", "energy=2:8", "--overwrite", "-q")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""

    def steps() -> list[int]:
        rows = (out / "history.jsonl").read_text().splitlines()
        return [json.loads(row)["step"] for row in rows]

    refused(hepgan("train", out), "is not empty", "--resume", "--overwrite")
    assert hepgan("train", out, "--resume").returncode == 0
    assert steps()[-1] == 20
    longer = hepgan("train", out, "--resume", "--set", "train.steps=30", "-v")
    assert longer.returncode == 0, longer.stderr
    assert steps()[-1] == 30
    assert "training from step 20 to 30" in longer.stderr.replace(" on cpu", "")
    assert "training 100% step 30 of 30" in longer.stderr
    assert load(out).train.steps == 30
    assert load(out).seed == 5
    log = (out / "hepgan.log").read_text().splitlines()
    assert sum("INFO training on cpu from step" in line for line in log) == 3
    assert sum("WARNING stopped at step 1" in line for line in log) == 1
    refused(
        hepgan("train", out, "--resume", "--set", "train.steps=10"),
        "has already trained 30 steps, more than the 10 of train.steps = 10",
    )
    refused(
        hepgan("train", out, "--resume", "--set", "train.batch_size=32"),
        "holds a different run: train.batch_size is 64 there and 32 here",
    )
    assert steps()[-1] == 30


def test_overwrite_replaces_a_run_and_nothing_else(tiny_run: Path, tmp_path: Path) -> None:
    out, short = tmp_path / "out", ["--set", "train.validate_every=0", "--set", "train.steps=2"]
    assert hepgan("train", tiny_run, "-o", out, *short).returncode == 0
    (out / "mine.txt").write_text("mine")
    again = ["train", tiny_run, "-o", out, *short, "--seed", 7]
    refused(hepgan(*again), "is not empty; choose another folder with -o")
    refused(hepgan(*again, "--resume", "--overwrite"), "choose one of them")
    assert hepgan(*again, "--overwrite").returncode == 0
    assert load(out).seed == 7
    assert len((out / "history.jsonl").read_text().splitlines()) == 1
    assert (out / "mine.txt").read_text() == "mine"
    (out / "run.toml").unlink()
    refused(hepgan(*again, "--overwrite"), "which --overwrite does not remove")


@pytest.mark.parametrize(
    "command",
    [
        ["generate", "none", "-n", "1", "-o", "x.hdf5", "--seed", "1"],
        ["simulate", "none", "none.root", "-o", "x.hdf5", "--seed", "1", "--energy", "E"],
        ["convert", "mnist", "none", "x.hdf5"],
        ["export", "showers", "-o", "x.hdf5"],
    ],
    ids=lambda command: command[0],
)
def test_wrong_suffix_is_refused_before_any_work(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(hepgan(*command), "x.hdf5'", "end with .")
    assert not list(tmp_path.iterdir())


def test_presets_are_completed() -> None:
    environment = {"COMP_WORDS": "hepgan run show", "COMP_CWORD": "2"}
    for command in ("run", "presets"):
        environment["COMP_WORDS"] = f"hepgan {command} show"
        result = CliRunner().invoke(
            main, [], prog_name="hepgan", env=environment | {"_HEPGAN_COMPLETE": "bash_complete"}
        )
        assert {"plain,showers", "plain,showers-angles"} <= set(result.stdout.splitlines())


def test_preset_is_printed_and_an_unknown_one_raises_with_the_nearest() -> None:
    assert hepgan("presets", "mnist").stdout == preset_text("mnist")
    refused(hepgan("presets", "mnits"), "no preset 'mnits'; did you mean 'mnist'?")


def test_init_writes_a_run_file_once(tiny_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "mine.toml"
    result = hepgan("init", tiny_file, "-o", output, "--seed", 4)
    assert result.returncode == 0, result.stderr
    *_, model, written, following = result.stdout.splitlines()
    assert model.startswith(
        "model: conditional encoding fitted by maximum likelihood, no adversarial training; "
    )
    assert "[train] steps add a GAN" in model
    assert written == f"run file: {output}"
    assert following == f"next: hepgan run {output}"
    assert load(output).seed == 4
    refused(hepgan("init", tiny_file, "-o", output), "exists; choose another file with -o")


def test_run_proposes_with_the_options_of_init(tiny_file: Path, tmp_path: Path) -> None:
    def options(command: str) -> set[str]:
        return {parameter.name or "" for parameter in main.commands[command].params}

    assert {"binning", "geometry", "without", "tree", "seed"} <= options("run") & options("train") & options("init")  # fmt: skip
    folder = tmp_path / "out"
    refused(hepgan("run", tiny_file, "-o", folder, "--without", "nothing"), "nothing")
    refused(hepgan("train", tiny_file, "-o", folder, "--geometry", "no.root"), "no.root")
    refused(hepgan("train", tiny_file, "-o", folder, "--binning", "no.xml"), "no.xml")
    assert not folder.exists()


def test_run_without_training_steps_says_that_events_come_from_the_encoding(
    tiny_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    steps = '[{ step = "autoregressive", steps = 5, hidden = 2 }]'
    few = ["--set", f"encoding.steps={steps}", "--set", 'evaluate.metrics=["fpd"]']
    result = hepgan("run", tiny_file, "-o", out, "--device", "cpu", *few)
    assert result.returncode == 0, result.stderr
    events = GAN.load(out).encoding.fitted_events
    sentence = f"no adversarial training (train.steps = 0): events come from the fitted encoding, 3 networks fitted to {events:,} events"
    assert sentence in result.stdout.splitlines()
    assert "kept" not in result.stdout + result.stderr
    assert "training 0%" not in result.stderr
    page = (out / "report.html").read_text()
    assert sentence in page
    assert "autoregressive: 3 networks with" in page
    assert all(
        word not in page
        for word in ("<th>objective", "<th>discriminator", "<th>steps", "kept the generator")
    )
    assert f"training: {sentence}" in repr(GAN.load(out))
    assert "generator" not in repr(GAN.load(out))
    assert f"{events:,} for training, " in page
    assert "time of the encoding" in page
    log = (out / "hepgan.log").read_text().splitlines()
    assert f"INFO hepgan {__version__}: " in log[0]
    assert f"INFO {events:,} for training, " in log[2]  # before the encoding is fitted
    assert any(sentence in line for line in log)
    assert hepgan("card", out).returncode == 0
    text = (out / "README.md").read_text()
    assert "A conditional encoding fitted with hepgan" in text
    assert "discriminator" not in text


def test_training_steps_with_a_placeholder_as_discriminator_warn_with_networks_that_train(
    tiny_file: Path, tmp_path: Path
) -> None:
    steps = '[{ step = "autoregressive", steps = 5, hidden = 2 }]'
    few = ["--set", f"encoding.steps={steps}", "--set", "train.steps=2", "--device", "cpu"]
    result = hepgan("train", tiny_file, "-o", tmp_path / "one", *few)
    (line,) = (text for text in result.stderr.splitlines() if "placeholder" in text)
    settings = shlex.split(line.partition("such as ")[2])
    assert "gan.generator=RES[COND, DENSE|256|LRELU, DENSE|N|LINEAR|ZERO]" in settings
    result = hepgan("train", tiny_file, "-o", tmp_path / "two", *few, *settings)
    assert result.returncode == 0, result.stderr
    assert "placeholder" not in result.stderr


def test_options_of_a_proposal_need_root_files(tiny_run: Path, tmp_path: Path) -> None:
    for option in ("--binning", "--geometry", "--without"):
        result = hepgan("run", tiny_run, "-o", tmp_path / "out", option, "x")
        refused(result, f"{option} needs ROOT files, for which a run file is proposed")


def test_scan_prints_the_best_trainings(tiny_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    out = tmp_path / "scan"
    options = ["--set", "train.steps=4", "--set", "train.validate_every=2", "--device", "cpu"]
    over = ["--over", "train.batch_size=32", "--over", "train.batch_size=64"]
    result = hepgan("scan", tiny_run, "-o", out, *over, *options, "--trials", 2)
    assert result.returncode == 0, result.stderr
    assert "complete" in result.stdout.splitlines()[0]
    assert f"best run file: {out / 'best.toml'}" in result.stdout
    assert load(out / "best.toml").train.steps == 4
    refused(hepgan("scan", tiny_run, "-o", out, "--over", "train.r1=1:2"), "holds another scan")
    (out / "mine.txt").touch()
    other = ["--over", "train.batch_size=16:64", "--trials", 1, "--overwrite"]
    result = hepgan("scan", tiny_run, "-o", out, *other, *options)
    assert result.returncode == 0, result.stderr
    assert len(list((out / "trials").iterdir())) == 1
    assert (out / "mine.txt").exists()
    refused(hepgan("scan", tiny_run, "-o", tmp_path / "x", "--over", "train.r1"), "write KEY=LOW:HIGH")  # fmt: skip


def test_root_files_instead_of_a_run_are_described_and_trained_on(
    tiny_file: Path, tmp_path: Path
) -> None:
    steps = '[{ step = "standardize" }]'
    out = tmp_path / "out"
    result = hepgan("train", tiny_file, "-o", out, "--set", f"encoding.steps={steps}", "--seed", 3)
    assert result.returncode == 0, result.stderr
    written = load(out / "run.toml")
    assert written.data.files == (str(tiny_file),)
    assert written.seed == 3
    refused(hepgan("train", "showers", tiny_file), "follows the run 'showers'")
    refused(hepgan("train", tmp_path / "none.root"), "none.root")


def test_converted_voxels_come_with_a_run_file_and_its_geometry(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(1)
    energy = rng.uniform(1000, 9000, (60, 1))
    with h5py.File(tmp_path / "set.hdf5", "w") as file:
        file["incident_energies"] = energy
        file["showers"] = energy * rng.dirichlet(np.ones(14), 60)
    binning = tmp_path / "binning.xml"
    binning.write_text(
        '<Bins><Bin name="photon"><Layer id="0" r_edges="0,5,10" n_bin_alpha="1"/>'
        '<Layer id="2" r_edges="0,1,2,4,8" n_bin_alpha="3"/></Bin></Bins>'
    )
    arguments = ("calochallenge", tmp_path / "set.hdf5", binning, tmp_path / "out.root")
    result = hepgan("convert", *arguments)
    assert f"run file: {tmp_path / 'out.toml'}" in result.stdout, result.stderr
    written = load(tmp_path / "out.toml")
    assert written.geometry["layer_2"].r_edges == (0, 1, 2, 4, 8)
    assert written.geometry["layer_2"].number == 2
    assert written.schema.conditions["energy"].unit == "MeV"
    (tmp_path / "out.root").unlink()
    refused(hepgan("convert", *arguments), "out.toml exists; choose another output")
    assert not (tmp_path / "out.root").exists()


def test_presets_are_listed_with_their_descriptions() -> None:
    lines = hepgan("presets").stdout.splitlines()
    assert any(line.startswith("showers ") and "calorimeter" in line for line in lines)
    assert any(line.startswith("mnist ") for line in lines)


def test_descriptions_of_presets_are_aligned_behind_the_longest_name() -> None:
    lines = hepgan("presets").stdout.splitlines()
    starts = {len(re.match(r"\S* +", line)[0]) for line in lines}
    assert starts == {max(map(len, presets())) + 1}


def test_layout_command_shows_shapes_and_parameters() -> None:
    result = hepgan(
        "layout", "CONV|12|2|2|1|1|TANH, RESHAPE|FLAT, DENSE|512|TANH", "--input", "1|28|28"
    )
    assert result.returncode == 0, result.stderr
    assert "12×27×27" in result.stdout
    assert f"{12 * 27 * 27 * 512 + 512:,}" in result.stdout


def test_layout_error_shows_a_caret() -> None:
    result = hepgan_process("layout", "DENSE|64|RELUU", "--input", "10")
    refused(result, "did you mean 'RELU'?", "DENSE|64|RELUU\n", "         ^^^^^")


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        (("tree = \"events\"", "tree = \"event\""), ["'event'", "events"]),
        (("tiny.root", "tinny.root"), ["tinny.root"]),
        (("[schema.fields.a]", "[schema.fields.aa]"), ["'aa'"]),
        (("shape = [2]", "shape = [3]"), ["'b'", "holds 2 values"]),
        (("[train]\nsteps", "[train]\nstepz"), ["unknown key 'stepz'", "did you mean 'steps'"]),
        (("seed = 1", "seed = "), ["not valid TOML"]),
        (("DENSE|8|LRELU", "DENSE|8|LRLU"), ["did you mean 'LRELU'?"]),
        (("range = [1.0, 10.0]", "range = [1.0, 5.0]"), ["is outside the trained range of 1 to 5"]),
    ],
    ids=["tree", "file", "branch", "shape", "key", "toml", "layout", "range"],
)  # fmt: skip
def test_an_invalid_run_is_rejected_in_one_line_and_writes_nothing(
    tiny_run: Path, tmp_path: Path, change: tuple[str, str], texts: list[str]
) -> None:
    tiny_run.write_text(tiny_run.read_text().replace(*change))
    refused(hepgan("run", tiny_run, "-o", tmp_path / "out"), *texts)
    assert not (tmp_path / "out").exists()


def test_missing_device_raises_and_writes_nothing(tiny_run: Path, tmp_path: Path) -> None:
    result = hepgan("run", tiny_run, "-o", tmp_path / "out", "--device", "cuda:42")
    refused(result, "cuda:42", "choose cpu or auto")
    assert not (tmp_path / "out").exists()


def test_nan_names_branch_and_entry(tmp_path: Path, tiny_run: Path, tiny_file: Path) -> None:
    from tiny import tiny_events, write_tiny

    events = tiny_events(500, 3)
    values = np.array(events["a"])
    values[123] = np.nan
    events["a"] = values
    write_tiny(tmp_path / "nan.root", events)
    tiny_run.write_text(tiny_run.read_text().replace(str(tiny_file), str(tmp_path / "nan.root")))
    refused(hepgan("run", tiny_run, "-o", tmp_path / "out"), "'a'", "123")
    assert not (tmp_path / "out").exists()


def test_empty_tree_is_rejected(tmp_path: Path, tiny_run: Path, tiny_file: Path) -> None:
    with uproot.recreate(tmp_path / "empty.root") as file:
        file.mktree("events", {"energy": "f4", "a": "f4", "b": np.dtype(("f8", (2,)))})
    tiny_run.write_text(tiny_run.read_text().replace(str(tiny_file), str(tmp_path / "empty.root")))
    refused(hepgan("run", tiny_run, "-o", tmp_path / "out"), "empty.root", "no entries")
    assert not (tmp_path / "out").exists()


def test_generate_without_a_finished_run_is_rejected(tmp_path: Path) -> None:
    result = hepgan("generate", tmp_path, "-n", 5, "-o", tmp_path / "x.root", "--seed", 1)
    refused(result, "gan.json does not exist", "finished run")


@pytest.mark.parametrize(
    "text", ["energy", "energy=x", "energy=1:2:3", "energy=1:log", "energy=1,x", "energy=1:2,3"]
)
def test_malformed_condition_is_rejected(tmp_path: Path, text: str) -> None:
    result = hepgan(
        "generate", tmp_path, "-n", 5, "-o", tmp_path / "x.root", "--seed", 1, "--condition", text
    )
    refused(result, f"--condition {text}", "NAME=VALUE")


def test_ctrl_c_writes_a_checkpoint_and_exits_with_130(tiny_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    long = [
        "train",
        tiny_run,
        "-o",
        out,
        "--set",
        "train.steps=1000000",
        "--set",
        "train.validate_every=0",
        "--set",
        "train.log_every=1",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "hepgan", *map(str, long)], stderr=subprocess.PIPE, text=True
    )
    while not (out / "history.jsonl").is_file():  # written by the first step
        time.sleep(0.1)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped at step" in stderr
    assert "Traceback" not in stderr
    assert list((out / "checkpoints").iterdir())
    other = hepgan("train", tiny_run, "-o", out, "--resume")
    refused(other, "holds a different run")


@pytest.mark.slow
def test_simulate_gives_the_same_showers_with_every_executor(
    tiny_run: Path, tiny_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    hepgan("train", tiny_run, "-o", out, "--set", "train.validate_every=0")
    results = []
    for name, options in {
        "a": ["--step-size", 700],
        "b": ["--executor", "futures", "--workers", 2, "--step-size", 1500],
    }.items():
        output = tmp_path / f"{name}.root"
        result = hepgan(
            "simulate", out, tiny_file, "-o", output, "--energy", "energy", "--seed", 3, *options
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout == f"4,000 showers: {output}\n"
        with uproot.open(output) as file:
            results.append(file["events"].arrays(library="np"))
    assert sorted(results[0]) == ["a", "b", "energy", "entry", "file", "particle"]
    for name, values in results[0].items():
        np.testing.assert_array_equal(values, results[1][name])
    np.testing.assert_array_equal(results[0]["entry"], np.arange(4000))
    with uproot.open(tiny_file) as file:
        np.testing.assert_array_equal(
            results[0]["energy"], file["events"]["energy"].array(library="np")
        )
    refused(
        hepgan("simulate", out, tiny_file, "-o", output, "--energy", "energy", "--seed", 3),
        "exists",
    )
    other = tmp_path / "other.root"
    for executor in ("iterative", "futures"):
        options = ["-o", other, "--seed", 3, "--executor", executor]
        refused(
            hepgan("simulate", out, tiny_file, *options, "--energy", "enrgy"),
            "did you mean 'energy'?",
        )
    assert not other.exists()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_simulate_makes_a_shower_for_each_entry(
    tiny_run: Path, tiny_file: Path, tmp_path: Path
) -> None:
    out, generated = tmp_path / "out", tmp_path / "made.root"
    hepgan(
        "train", tiny_run, "-o", out, "--set", "train.validate_every=0", "--set", "train.steps=2"
    )
    options = ["-o", generated, "--seed", 3, "--energy"]
    refused(hepgan("simulate", out, tiny_file, *options, "enrgy"), "did you mean 'energy'?")
    result = hepgan("simulate", out, tiny_file, *options, "energy", "--step-size", 700)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"4,000 showers: {generated}\n"
    with uproot.open(generated) as file, uproot.open(tiny_file) as input_:
        assert file["events"].keys() == ["a", "b", "entry", "particle", "file", "energy"]
        energy = file["events"]["energy"].array(library="np")
        np.testing.assert_array_equal(energy, input_["events"]["energy"].array(library="np"))
    copies = tmp_path / "copies.root"
    result = hepgan(
        "simulate", out, tiny_file, "-o", copies, "--seed", 3, "--energy", "energy", "--copies", 2
    )
    assert result.stdout == f"8,000 showers: {copies}\n"
    with uproot.open(generated) as one, uproot.open(copies) as two:
        single, double = (file["events"].arrays(library="np") for file in (one, two))
    np.testing.assert_array_equal(double["copy"], np.arange(8000) % 2)
    np.testing.assert_array_equal(double["entry"], np.arange(8000) // 2)
    assert not double["particle"].any()
    np.testing.assert_array_equal(double["a"][::2], single["a"])
    assert (double["a"][1::2] != single["a"]).any()


@pytest.mark.parametrize("error", [ImportError("initialization failed"), RunError("needs coffea")])
def test_a_signal_hidden_by_another_exception_still_ends_the_command(
    error: Exception, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when it arrives while a C extension is imported."""

    def cut_short(*_: object, **__: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except SystemExit:
            raise error from None

    monkeypatch.setattr("hepgan.pipeline.training.read_events", cut_short)
    result = CliRunner().invoke(main, ["train", str(tiny_run), "-o", str(tmp_path / "out")])
    assert result.exit_code == 128 + signal.SIGTERM
    assert result.stderr.endswith("hepgan: stopped\n")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_end_every_phase_of_a_run_with_exit_code_128_plus_their_number(
    name: str, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signals arrive while events are read, trained on, generated and compared: partial output is removed, and --resume continues."""
    from hepgan.pipeline import end_to_end, training

    number, out = getattr(signal, name), tmp_path / "out"
    run_command = ["run", str(tiny_run), "-o", str(out), "--device", "cpu", "--set", "threads=1"]

    def invoked(owner: Any, function: str, *more: str) -> Any:
        def send(*arguments: object, **options: object) -> Any:
            os.kill(os.getpid(), number)
            return before(*arguments, **options)

        before = getattr(owner, function)
        with monkeypatch.context() as patch:
            patch.setattr(owner, function, send)
            result = CliRunner().invoke(main, [*run_command, *more])
        assert result.exit_code == 128 + number, result.output
        assert "Traceback" not in result.output
        return result

    assert "hepgan: stopped\n" in invoked(training, "read_events").stderr
    assert not out.exists()
    assert "stopped at step 1, the last checkpoint is" in invoked(loop, "train_step").stderr
    assert "hepgan: stopped\n" in invoked(end_to_end, "with_progress", "--resume").stderr
    assert "hepgan: stopped\n" in invoked(end_to_end, "evaluate_samples", "--resume").stderr
    assert not list(out.glob(".*"))
    assert (out / "generated.root").is_file()
    assert not (out / "report.html").exists()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_end_the_fit_of_an_encoding_and_resume_starts_it_again(
    name: str, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, out, initial = getattr(signal, name), tmp_path / "out", RowNetwork.initial
    sent: list[float] = []

    def send(*arguments: Any) -> RowNetwork:
        """Sends the signal from the thread of the first fit."""
        if not sent:
            sent.append(time.monotonic())
            os.kill(os.getpid(), number)
        return initial(*arguments)

    def invoked(steps: int, *more: str) -> Any:
        step = f'encoding.steps=[{{ step = "autoregressive", hidden = 4, steps = {steps} }}]'
        command = ["train", str(tiny_run), "-o", str(out), "--device", "cpu", "--set", "threads=1"]
        return CliRunner().invoke(main, [*command, "--set", step, *more])

    with monkeypatch.context() as patch:
        patch.setattr(RowNetwork, "initial", send)
        result = invoked(10**7)
    assert time.monotonic() - sent[0] < 5
    assert result.exit_code == 128 + number, result.output
    assert result.stderr.endswith("hepgan: stopped\n")
    assert "Traceback" not in result.output
    assert "fitting the encoding   0% autoregressive" in result.stderr
    assert not list(tmp_path.glob("out*"))
    assert invoked(2, "--resume").exit_code == 0


def test_signal_dropped_by_python_in_a_callback_is_raised_again() -> None:
    """Python ignores exceptions in callbacks of the garbage collector, including that of the signal."""

    class Target:
        pass

    def drop(_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)

    def work() -> None:
        target = Target()
        watched = weakref.ref(target, drop)
        del target
        time.sleep(10)
        pytest.fail(f"nothing came but {watched}")

    with pytest.raises(SystemExit) as ended, ending_cleanly():
        work()
    assert ended.value.code == 143


def test_overwrite_replaces_a_run_file_and_an_exported_model(
    gan_folder: Path, tiny_file: Path, tmp_path: Path
) -> None:
    path, model = tmp_path / "mine.toml", tmp_path / "model.pt2"
    for command in (["init", tiny_file, "-o", path], ["export", gan_folder, "-o", model]):
        output = Path(command[-1])
        output.write_text("mine")
        refused(
            hepgan(*command), "exists; choose another file with -o, or replace it with --overwrite"
        )
        assert output.read_text() == "mine"
        result = hepgan(*command, "--overwrite")
        assert result.returncode == 0, result.stderr
        assert output.read_bytes() != b"mine"


def test_overwrite_replaces_an_evaluation_and_nothing_else(tiny_file: Path, tmp_path: Path) -> None:
    judged = tmp_path / "judged"
    command = [
        "evaluate",
        tiny_file,
        tiny_file,
        "-o",
        judged,
        "--metric",
        "wasserstein",
        "--max-events",
        200,
    ]
    judged.mkdir()
    (judged / "report.html").write_text("old")
    (judged / "plots").mkdir()
    (judged / "plots" / "old.png").write_text("old")
    refused(hepgan(*command), "is not empty", "or replace the evaluation with --overwrite")
    (judged / "mine.txt").write_text("mine")
    refused(hepgan(*command, "--overwrite"), "holds something other than an evaluation")
    (judged / "mine.txt").unlink()
    result = hepgan(*command, "--overwrite")
    assert result.returncode == 0, result.stderr
    assert (judged / "report.html").read_text() != "old"
    assert not (judged / "plots" / "old.png").exists()


@pytest.mark.parametrize(
    "command",
    [
        "evaluate x.root x.root -o judged.html",
        "run showers -o run.root",
        "train showers -o run.toml",
        "init x.root -o run.txt",
        "card showers -o card.html",
        "export showers -o model.root",
        "generate showers -n 1 --seed 1 -o events.txt",
        "simulate showers x.root --seed 1 -o showers.hdf5",
        "convert mnist a b digits.toml",
    ],
)
def test_output_with_the_suffix_of_something_else_is_refused(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = hepgan(*command.split())
    refused(result)
    assert "end with" in result.stderr or "has the name of a file" in result.stderr, result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("condition", "notice"),
    [
        ("energy=2:8", "energy: uniform in 2 … 8 GeV"),
        ("energy=2:8:log", "energy: uniform in the logarithm, 2 … 8 GeV"),
        ("energy=2,5", "energy: 2, 5 GeV with equal probability"),
    ],
)
def test_generate_prints_how_conditions_are_drawn(
    gan_folder: Path, tmp_path: Path, condition: str, notice: str
) -> None:
    path = tmp_path / "x.root"
    arguments = ("generate", gan_folder, "-n", 9, "-o", path, "--condition", condition)
    assert hepgan(*arguments).stderr.splitlines().count(f"hepgan: {notice}") == 1
    assert notice not in hepgan(*arguments, "--overwrite", "-q").stderr
    with uproot.open(path) as file:
        first = file["events"]["energy"].array(library="np")
    hepgan(*arguments, "--overwrite", "--seed", 1)
    with uproot.open(path) as file:
        np.testing.assert_array_equal(file["events"]["energy"].array(library="np"), first)


def test_options_that_commands_share_have_one_form() -> None:
    forms: dict[str, set[tuple[str, ...]]] = {}
    for command in main.commands.values():
        for option in command.params:
            if isinstance(option, click.Option):
                names = tuple(sorted(option.opts))
                forms.setdefault(max(names, key=len), set()).add(names)
    assert {name: each for name, each in forms.items() if len(each) > 1} == {}
    writing = set(main.commands) - {"inspect", "layout", "presets"}
    without = {name for name in writing if not any("--overwrite" in o.opts for o in main.commands[name].params)}  # fmt: skip
    assert without == set()


def test_no_baseline_is_shown_without_the_fraction_of_its_recipe() -> None:
    shown = "\n" + hepgan("presets").stdout
    described = {
        name for name, text in presets().items() if text.startswith("baseline") and name != "copula"
    }
    assert set(baselines()) == described
    root = Path(__file__).parents[2]
    for name in baselines():
        mark = recipe_fraction(name)
        assert re.fullmatch(r"0\.0*[1-9] % of its recipe|[1-9]\d* % of its recipe", mark)
        entry = re.split(r"\n(?=\S)", shown.partition(f"\n{name} ")[2])[0]
        assert f"trained for {mark}, not the quality of the published GAN: " in entry
        for page in ("README.md", "benchmarks/README.md"):
            for row in re.findall(
                rf"^\| `{name}`.*\| 1 \|.*$", (root / page).read_text("utf-8"), re.MULTILINE
            ):
                assert mark in row, row


@pytest.mark.parametrize("name", main.commands)
def test_every_option_has_a_help_that_is_a_sentence(name: str) -> None:
    command = main.commands[name]
    for option in command.get_params(click.Context(command)):
        if isinstance(option, click.Option):
            assert re.fullmatch(r"(?s)[^a-z\s].*[.)\]]", option.help or ""), option.opts
