"""Kills commands at random moments: python tests/fuzz/kills.py FOLDER [--count 100] [--seed 1].

Each command (train, run, generate, simulate, convert, evaluate) runs once without interruption. It is then started many times,
receives SIGKILL, SIGTERM or SIGHUP after a random fraction of that time, and is repeated, with ``--resume`` if it has that option.
Its output must then equal the uninterrupted result (weights bit for bit, every branch of ROOT files), and no process, temporary
file or hidden folder may remain. FOLDER contains the files, and is kept if something failed.
"""

import argparse
import collections
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import awkward as ak
import numpy as np
import uproot

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from corpus import write_calogan
from tiny import TINY, tiny_events, write_tiny

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)
LIMIT = 300
"""Time limit of an uninterrupted command [s]."""


class Command(NamedTuple):
    """A command.

    Attributes:
        arguments: Returns the arguments of ``hepgan`` for the name of the output.
        again: Arguments to add when the command is repeated.
        output: Name of the file or folder that it writes.
        clean: Whether to remove the output of a killed command before repeating it.
    """

    arguments: Callable[[str], list[str]]
    again: tuple[str, ...]
    output: str
    clean: bool


def commands(folder: Path) -> dict[str, Command]:
    """Writes the input files and returns the commands by name."""
    write_tiny(folder / "tiny.root", tiny_events(3000, 1))
    write_tiny(folder / "other.root", tiny_events(3000, 2))
    (folder / "tiny.toml").write_text(TINY.format(path=folder / "tiny.root"))
    rng = np.random.default_rng(3)
    counts = rng.integers(0, 4, 40_000)
    energies = ak.unflatten(rng.uniform(1, 10, counts.sum()).astype("f4"), counts)
    for name in ("particles", "more"):
        with uproot.recreate(folder / f"{name}.root") as file:
            file.mktree("Events", {"GenPart_energy": "var * float32"}).extend(
                {"GenPart_energy": energies}
            )
    write_calogan(folder)
    fast = ["--device", "cpu", "--set", "threads=1"]
    long = ["--set", "train.steps=150", "--set", "train.checkpoint_every=5"]
    source = str(folder / "gan")
    finish(hepgan("train", "tiny.toml", "-o", "gan", *fast, cwd=folder))
    training = lambda name: lambda out: [name, "tiny.toml", "-o", out, *fast, *long]
    return {
        "train": Command(training("train"), ("--resume",), "out", clean=False),
        "run": Command(training("run"), ("--resume",), "out", clean=False),
        "generate": Command(
            lambda out: ["generate", source, "-n", "300000", "-o", out, "--seed", "1", "--condition", "energy=2:9"],
            (), "out.root", clean=False,
        ),
        "simulate": Command(
            lambda out: [
                "simulate", source, "particles.root", "more.root", "-o", out, "--seed", "1", "--energy", "GenPart_energy",
                "--executor", "futures", "--workers", "2", "--step-size", "10000", "--device", "cpu",
            ],
            (), "out.root", clean=False,
        ),
        "convert": Command(lambda out: ["convert", "calogan", *["a.hdf5"] * 100, out], (), "out.root", clean=False),
        "evaluate": Command(
            lambda out: ["evaluate", "tiny.root", "other.root", "-o", out, "--quick", "--config", "tiny.toml", "--device", "cpu"],
            (), "out", clean=True,
        ),
    }  # fmt: skip


def hepgan(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """Starts a command in its own session, so that all of its processes can be listed."""
    return subprocess.Popen(
        [sys.executable, "-m", "hepgan", *arguments],
        cwd=cwd, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> None:
    """Waits until the command has succeeded."""
    _, errors = process.communicate(timeout=LIMIT)
    if process.returncode:
        raise RuntimeError(f"{process.args} ended with {process.returncode}:\n{errors}")


def session_of(number: int) -> list[int]:
    """Returns the processes of a session that are still running."""
    processes = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == number and fields[0] != "Z":
                processes.append(int(entry.name))
    return processes


def contents(path: Path) -> dict[str, object]:
    """Returns the contents that must agree between two outputs: weights, branches, scores and the names of all files."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    result: dict[str, object] = {}
    for file in files:
        name = str(file.relative_to(path)) if file != path else "."
        result[name] = None
        if file.suffix == ".safetensors":
            result[name] = file.read_bytes() if "checkpoints" not in name else None
        elif file.suffix == ".root" and file.name != "histograms.root":
            with uproot.open(file) as opened:
                tree = opened[opened.keys(filter_classname=["TTree", "ROOT::RNTuple"])[0]]
                columns = {branch: tree[branch].array() for branch in tree.keys()}  # noqa: SIM118
                result[name] = {
                    n: (len(c), ak.to_list(c[:50]), float(ak.sum(c))) for n, c in columns.items()
                }
        elif file.name == "scores.json":
            result[name] = json.dumps(json.loads(file.read_text())["scores"])
    return result


def attempt(
    name: str,
    command: Command,
    folder: Path,
    seconds: float,
    number: signal.Signals,
    rng: random.Random,
) -> str:
    """Kills the command once and repeats it; returns the fault, or an empty string."""
    before = {p.name for p in folder.iterdir()}
    output = folder / command.output
    process = hepgan(*command.arguments(command.output), cwd=folder)
    time.sleep(rng.uniform(0.1, 1.0) * seconds)
    finished = process.poll() is not None
    os.kill(process.pid, number) if not finished else None
    try:
        _, errors = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        return f"still runs a minute after {number.name}"
    if "Traceback" in errors:
        return f"traceback after {number.name}: {errors[-1500:]}"
    deadline = time.monotonic() + 15
    while (alive := session_of(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.2)
    if alive:
        return f"{len(alive)} processes are left after {number.name}"
    leftovers = {p.name for p in folder.iterdir()} - before - {command.output}
    if leftovers and number != signal.SIGKILL:
        return f"left after {number.name}: {sorted(leftovers)}"
    if output.is_file():
        contents(output)  # a ROOT file is whole or not there
        output.unlink()
    elif command.clean:
        shutil.rmtree(output, ignore_errors=True)
    again = command.again if output.exists() else ()
    finish(hepgan(*command.arguments(command.output), *again, cwd=folder))
    leftovers = {p.name for p in folder.iterdir()} - before - {command.output}
    if leftovers:
        return f"left after the second run ({number.name}): {sorted(leftovers)}"
    return ""


def main() -> None:
    """Runs the kills, prints a table and exits with 1 if something failed."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("folder", type=Path)
    options.add_argument("--count", type=int, default=100)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--commands", nargs="*", default=[])
    chosen = options.parse_args()
    signal.signal(
        signal.SIGHUP, signal.SIG_DFL
    )  # nohup ignores it, and commands would inherit that
    folder, rng = chosen.folder.absolute(), random.Random(chosen.seed)
    folder.mkdir(parents=True)
    known = {
        n: c for n, c in commands(folder).items() if not chosen.commands or n in chosen.commands
    }
    expected, seconds = {}, {}
    for name, command in known.items():
        started = time.perf_counter()
        finish(hepgan(*command.arguments(command.output), cwd=folder))
        seconds[name] = time.perf_counter() - started
        expected[name] = contents(folder / command.output)
        _remove(folder / command.output)
        print(f"{name}: {seconds[name]:.1f} s uninterrupted", flush=True)
    table: collections.Counter[tuple[str, str]] = collections.Counter()
    faults = 0
    for i in range(chosen.count):
        name, number = list(known)[i % len(known)], rng.choice(SIGNALS)
        try:
            fault = attempt(name, known[name], folder, seconds[name], number, rng)
            if not fault:
                found = contents(folder / known[name].output)
                differ = {
                    k
                    for k in expected[name].keys() | found.keys()
                    if expected[name].get(k, 0) != found.get(k, 0)
                }
                fault = f"differs after {number.name}: {sorted(differ)}" if differ else ""
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            fault = f"cannot be repeated after {number.name}: {error}"
        table[name, number.name] += 1
        if fault:
            faults += 1
            print(f"--- {i} {name}: {fault}", flush=True)
            for path in folder.glob(".*"):
                _remove(path)
        _remove(folder / known[name].output)
    print(f"{'command':10}" + "".join(f"{s.name:>9}" for s in SIGNALS))
    for name in known:
        print(f"{name:10}" + "".join(f"{table[name, s.name]:9}" for s in SIGNALS))
    print(f"{chosen.count} kills, {faults} faults")
    if not faults:
        shutil.rmtree(folder)
    sys.exit(faults > 0)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
