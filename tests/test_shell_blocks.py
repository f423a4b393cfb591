"""Blocks of shell in the README and on the site run, in a short form; one list names those that do not, with the reason.

The commands of a page run one after the other in one folder, in this process. Options and names of the others are checked in
``test_docs``. Files that a page takes as given are made by its entry of ``PAGES``.
"""

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import awkward as ak
import h5py
import numpy as np
import pytest
import uproot
from click.testing import CliRunner, Result
from tiny import TINY, tiny_events, write_tiny

from hepgan.cli import main
from hepgan.data.io.reader import read
from hepgan.data.io.writer import write
from hepgan.pipeline import load

ROOT = Path(__file__).parents[1]

NOT_RUN = {
    "python3 -m venv": "installs packages; the first two commands of the README run in continuous integration",
    ".venv/bin/pip install": "installs packages",
    "source .venv": "activates the environment",
    "pip install": "installs packages",
    "tensorboard --logdir": "a server",
    "hepgan run my.toml -o runs/first --track tensorboard": "needs tensorboard; test_tracking has one of its own",
    "torchrun": "several processes; tests of distributed training start them",
    "hepgan run showers -o runs/showers": "takes minutes; a slow test runs the preset",
    "python examples/": "test_examples runs them",
    "hepgan evaluate geant4.root simulated.root -o comparison --executor dask": "a Dask cluster",
    "hepgan generate hf:": "network; test_sources has a server of its own",
    "hepgan generate zenodo:": "network; test_sources has a server of its own",
    "hepgan export https://": "network; test_sources has a server of its own",
    "hepgan export runs/five": "a slow export; test_ensemble exports a member",
    "hepgan evaluate geant4.root other.root -o comparison --plugin": "test_write_your_own runs it, and unregisters the plugin",
    "sha256sum": "a program of the shell; test_sources computes the same",
    'eval "$(': "the shell's completion; test_cli has it",
    "_HEPGAN_COMPLETE=": "the shell's completion; test_cli has it",
    "#": "a script of a batch system",
    "export OMP": "a script of a batch system",
    "if [": "a script of a batch system",
    "exec": "a script of a batch system; its commands are those of the block above",
    "else": "a script of a batch system",
    "fi": "a script of a batch system",
}
"""Beginnings of lines that do not run here."""

SHORTER = {
    r"-n 1\d+\b": "-n 20",
    r"energy=50\b": "energy=5",
    r"train\.steps=8000": "train.steps=8",
    r"--members 5": "--members 3",
    r"--trials 30": "--trials 2",
    r"--executor (futures|dask) --workers 4": "--executor iterative",
    "Layout=…##…": "Layout=DENSE|16|RELU,DENSE|784|TANH##DENSE|16|RELU,DENSE|1|SIGMOID",
    r"Strategy=…\|…": "Strategy=MaxEpochs=1,BatchSize=64|MaxEpochs=1,BatchSize=64",
    r"^(hepgan run mine.toml)$": r"\1 --set train.steps=4",
}
"""Text that makes a command of the documentation short, or that its reader replaces."""

QUICK = TINY.format(path="events.root").replace("steps = 20", "steps = 4")


def tiny(*names: str) -> None:
    """Writes events with a condition to files, and the run files of the pages."""
    for number, name in enumerate(names):
        write_tiny(Path(name), tiny_events(400, number))
    for name in ("mine.toml", "my.toml"):
        Path(name).write_text(QUICK.replace("events.root", names[0]))


def without_condition() -> None:
    tiny("events.root")
    text = re.sub(r"\[(schema|encoding)\.conditions\.energy\]\n.*\n", "", QUICK)
    Path("mine.toml").write_text(text.replace('condition = "energy", ', "").replace("COND, ", ""))


def finished(folder: str) -> None:
    """Writes a finished run, under the name of the pages."""
    tiny("events.root")
    invoke(f"hepgan run mine.toml -o {folder}")


def particles() -> None:
    with uproot.recreate("positrons.root") as file:
        file["Events"] = {"GenPart_energy": ak.Array([[10.0, 50.0], [], [20.0]])}
    schema = load("showers").schema
    events = read("sample:showers.root", schema, entry_stop=20)
    with h5py.File("gamma_1.hdf5", "w") as file:
        for name in schema.fields:
            file[name] = ak.to_numpy(events[name])
        file["overflow"] = np.zeros((20, 3))
        file["energy"] = ak.to_numpy(events.energy)[:, None]


def ensemble() -> None:
    tiny("mine.root", "geant4.root")
    with uproot.recreate("events.root") as file:
        file["Events"] = {"GenPart_energy": ak.Array([[5.0, 2.0], [], [7.0]])}


def challenge() -> None:
    layers = '<Layer id="{}" r_edges="0,5,10" n_bin_alpha="4"/>'
    text = f'<Bins><Bin pid="22" name="photon">{"".join(map(layers.format, range(2)))}</Bin></Bins>'
    for name in ("binning_dataset_1_photons.xml", "binning_dataset_2.xml"):
        Path(name).write_text(text)
    rng = np.random.default_rng(1)
    for name in ("dataset_1_photons_2", "submission", "dataset_2_1"):
        energy = 10 ** rng.uniform(3, 5, (300, 1))
        with h5py.File(f"{name}.hdf5", "w") as file:
            file["incident_energies"] = energy
            file["showers"] = energy * rng.dirichlet(np.ones(16), 300)


def readme() -> None:
    tiny("mine1.root", "mine2.root")
    Path("mine.toml").unlink()  # written by hepgan init


def digits() -> None:
    schema = load("mnist").schema
    write("mnist.root", read("sample:mnist.root", schema, entry_stop=500), schema, tree="mnist")


PAGES: dict[str, Callable[[], None]] = {
    "README.md": readme,
    "batch.md": without_condition,
    "calochallenge.md": challenge,
    "coffea.md": particles,
    "command-line.md": lambda: finished("runs/mine"),
    "ensembles.md": ensemble,
    "index.md": lambda: None,
    "scans.md": lambda: tiny("events.root"),
    "sharing.md": lambda: finished("runs/showers"),
    "tmva.md": digits,
}
"""Pages with commands that run, and what they take as given."""

SLOW = {"README.md", "calochallenge.md", "scans.md"}
"""Pages whose commands fit encodings or train several times."""


class Command(NamedTuple):
    """Line of a block of shell, as it is on its page."""

    page: str
    text: str

    def reason(self) -> str | None:
        """Returns the reason for which it does not run here."""
        return next((why for start, why in NOT_RUN.items() if self.text.startswith(start)), None)


def commands() -> Iterator[Command]:
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text(encoding="utf-8")
        for block in re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):  # fmt: skip
            for line in block.splitlines():
                if line.strip():
                    yield Command(path.name, line.strip().removeprefix("$ "))


COMMANDS = list(commands())


def invoke(text: str) -> Result:
    """Runs a command of hepgan in this process, with the shell's expansion of names of files."""
    head, *words = shlex.split(text, comments=True)
    assert head == "hepgan", text
    arguments = [p for word in words for p in (sorted(map(str, Path().glob(word))) if "*" in word else [word])]  # fmt: skip
    return CliRunner().invoke(main, arguments)


def test_every_page_with_commands_runs_them_or_says_why_not() -> None:
    assert {command.page for command in COMMANDS if not command.reason()} == set(PAGES)


def test_every_reason_for_not_running_a_command_is_needed() -> None:
    for start in NOT_RUN:
        assert any(command.text.startswith(start) for command in COMMANDS), start


def run_page(page: str) -> None:
    """Runs the commands of a page in the working directory."""
    PAGES[page]()
    for command in [c for c in COMMANDS if c.page == page and not c.reason()]:
        text = shlex.join(shlex.split(command.text, comments=True))
        for long, short in SHORTER.items():
            text = re.sub(long, short, text)
        result = invoke(text)
        assert result.exit_code == 0, f"{text}\n{result.output}\n{result.exception!r}"


@pytest.mark.parametrize(
    "page", [pytest.param(p, marks=pytest.mark.slow) if p in SLOW else p for p in PAGES]
)
def test_commands_of_a_page_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hepgan.evaluation.report.figures.draw", lambda *_args, **_options: [])
    monkeypatch.chdir(tmp_path)
    run_page(page)


@pytest.mark.parametrize("text", ["hepgan run mine.toml --stepps 4", "hepgan runs mine.toml"])
def test_a_wrong_option_or_command_on_a_page_is_an_error(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(globals(), "COMMANDS", [Command("scans.md", text)])
    with pytest.raises(AssertionError, match="No such"):
        run_page("scans.md")
