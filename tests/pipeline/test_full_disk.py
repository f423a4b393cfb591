"""With a full disk, each command leaves its old output or none, and prints a one-line error."""

import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import uproot
from click.testing import CliRunner
from filesets import write_events

from hepgan import atomic
from hepgan.cli import main
from hepgan.data.io.histograms import write_histograms
from hepgan.errors import RunError
from hepgan.evaluation import histograms
from hepgan.evaluation.report.figures import Picture
from hepgan.evaluation.report.page import write_report


@contextlib.contextmanager
def full(limit: int) -> Iterator[None]:
    """Context manager in which no file of this process grows beyond ``limit`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def showers(path: Path) -> Path:
    shapes = {"layer_0": (3, 96), "layer_1": (12, 12), "layer_2": (12, 6), "overflow": (3,)}
    with h5py.File(path, "w") as file:
        for name, shape in (shapes | {"energy": (1,)}).items():
            file[name] = np.ones((40, *shape), "f4")
    return path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "command", ["generate", "simulate", "parts", "convert", "evaluate", "export"]
)
def test_full_disk_leaves_no_partial_file_and_raises_a_one_line_error(
    command: str, gan_folder: Path, tmp_path: Path
) -> None:
    tiny, out = gan_folder.parent / "tiny.root", tmp_path / "out"
    write_events(tmp_path / "in.root", 50)
    commands: dict[str, list[Any]] = {
        "generate": ["generate", gan_folder, "-n", 500, "--condition", "energy=1:10", "--seed", 1, "-o", f"{out}.root"],
        "simulate": ["simulate", gan_folder, tmp_path / "in.root", "--energy", "GenPart_energy", "--seed", 1, "-o", f"{out}.root"],
        "parts": ["simulate", gan_folder, tmp_path / "in.root", "--energy", "GenPart_energy", "--seed", 1, "-o", out],
        "convert": ["convert", "calogan", showers(tmp_path / "a.hdf5"), f"{out}.root"],
        "evaluate": ["evaluate", tiny, tiny, "--quick", "--config", gan_folder / "run.toml", "-o", out],
        "export": ["export", gan_folder, "-o", f"{out}.pt2"],
    }  # fmt: skip
    before = set(tmp_path.iterdir())
    with full(1000):
        result = CliRunner().invoke(main, [str(part) for part in commands[command]])
    assert result.exit_code == 2, result.output
    assert "cannot be written: File too large; free disk space" in result.output
    assert "Traceback" not in result.output
    lines = [line for line in result.output.splitlines() if "%" not in line]  # without progress
    assert len(lines) < 8
    assert {path for path in tmp_path.rglob("*") if path.is_file()} <= before


def report(folder: Path, text: str) -> None:
    histograms.save_histograms(folder / "histograms.json", {})
    write_histograms(folder / "histograms.root", {})
    pictures = [
        Picture(name, "g", text, False, "<svg></svg>", {"png": text.encode()})
        for name in ("a", "b")
    ]
    write_report(
        folder, title=text, verdicts=[], scores=[], skipped=[], pictures=pictures, provenance={"text": text}
    )  # fmt: skip


def test_each_file_of_a_report_is_either_old_or_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at the first, the second, … file; each file is the old or the new one."""
    contents = lambda: {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    report(tmp_path, "new")
    new = contents()
    report(tmp_path, "old")
    old = contents()
    assert len(old) == 6
    sync, calls = os.fsync, iter(())

    def fail(file: int) -> None:
        if not next(calls, 0):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(file)

    monkeypatch.setattr(atomic.os, "fsync", fail)
    for number in range(6):
        calls = iter([1] * number)
        with pytest.raises(RunError, match="cannot be written: No space left on device"):
            report(tmp_path, "new")
        assert contents().keys() == old.keys()
        for path, content in contents().items():
            # ROOT files contain the time.
            assert content in (old[path], new[path]) or uproot.open(path).keys() == []
