"""One training at a time in a run folder, and only on its original input files."""

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TINY, tiny_events, write_tiny
from trainings import KilledError

from hepgan import pipeline as library
from hepgan.data.io import fingerprint
from hepgan.errors import CheckpointError, RunError
from hepgan.gan.model import GAN
from hepgan.gan.training import checkpoint
from hepgan.pipeline import candidates, run_folder, training
from hepgan.pipeline.run_folder import NAME, locked

CPU = torch.device("cpu")

HOLD = """
import runpy, sys
from pathlib import Path
with runpy.run_path(sys.argv[1])["locked"](Path(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holding(folder: Path) -> "subprocess.Popen[str]":
    """Yields a process that holds the lock until it is killed."""
    command = [sys.executable, "-c", HOLD, str(run_folder.__file__), str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_log_starts_with_the_records_of_the_time_before_the_folder_was_there(
    tmp_path: Path,
) -> None:
    logger = logging.getLogger("hepgan")
    with run_folder.recorded() as early:
        logger.warning("before")
    early[0].created = 86400.0 * 365  # 1971
    logger.warning("in between")
    with run_folder.logged(tmp_path, early):
        logger.warning("after")
    first, second = (tmp_path / run_folder.LOG).read_text().splitlines()
    assert first.startswith("1971-01-01")
    assert first.endswith("WARNING before")
    assert second.endswith("WARNING after")


def test_lock_of_a_running_process_raises_and_that_of_a_dead_one_is_taken_over(
    tmp_path: Path,
) -> None:
    process = holding(tmp_path)
    message = rf"is in use by process {process.pid} on {socket.gethostname()} since 20..-"
    try:
        with pytest.raises(RunError, match=message), locked(tmp_path):
            pass
    finally:
        process.kill()
        process.communicate(timeout=30)
    assert (tmp_path / NAME).is_file()
    with locked(tmp_path):
        assert json.loads((tmp_path / NAME).read_text())["pid"] == os.getpid()
        with pytest.raises(RunError, match="wait until it ends"), locked(tmp_path):
            pass
    assert not list(tmp_path.iterdir())


def test_lock_of_another_host_raises_with_the_file_to_remove(tmp_path: Path) -> None:
    """Whether a process on that host still runs cannot be determined here."""
    about = {"pid": 12, "host": "node7", "started": "2026-01-02T03:04:05+00:00"}
    (tmp_path / NAME).write_text(json.dumps(about))
    message = rf"process 12 on node7 since 2026.*; if that process no longer runs, remove {tmp_path / NAME}"
    with pytest.raises(RunError, match=message), locked(tmp_path):
        pass
    assert json.loads((tmp_path / NAME).read_text()) == about


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"pid": 1}'])
def test_unreadable_lock_is_taken_over(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_text(text)
    with locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_lock_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / NAME).symlink_to(tmp_path / "mine")
    with pytest.raises(RunError, match="is a symbolic link"), locked(tmp_path):
        pass
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    for name, seed in (("a", 1), ("b", 2)):
        write_tiny(tmp_path / f"{name}.root", tiny_events(1000, seed))
    path = tmp_path / "tiny.toml"
    path.write_text(TINY.format(path=tmp_path / "*.root").replace("threads = 0", "threads = 1"))
    return path


def test_second_training_in_a_folder_raises_while_the_first_runs(
    run_file: Path, tmp_path: Path
) -> None:
    run, out = library.load(run_file), tmp_path / "out"
    refused = []

    def second(text: str, fraction: float, remark: str) -> None:
        if text == "training" and not refused:
            for resume in (True, False):
                with pytest.raises(RunError) as caught:
                    library.train(run, out, device=CPU, resume=resume)
                refused.append(str(caught.value))

    library.train(run, out, device=CPU, progress=second)
    assert f"is in use by process {os.getpid()}" in refused[0]
    assert "is not empty" in refused[1]
    assert not (out / NAME).exists()


def test_only_one_of_two_new_trainings_in_a_folder_survives(
    run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second fills the folder while the first reads its events."""
    run, out = library.load(run_file), tmp_path / "out"
    watched = training.make_validation

    def late(*arguments: Any) -> Any:
        monkeypatch.undo()
        library.train(run, out, device=CPU)
        return watched(*arguments)

    monkeypatch.setattr(training, "make_validation", late)
    with pytest.raises(RunError, match="is not empty"):
        library.train(run, out, device=CPU)


def test_a_folder_with_only_the_lock_of_a_killed_training_counts_as_empty(
    run_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / NAME).write_text("")
    library.train(library.load(run_file, {"train.steps": 2}), tmp_path / "out", device=CPU)
    assert not (tmp_path / "out" / NAME).exists()


def begun(run_file: Path, folder: Path) -> None:
    """A training that was killed halfway."""

    def stop(text: str, fraction: float, remark: str) -> None:
        if text == "training" and fraction > 0.7:
            raise KilledError

    with pytest.raises(KilledError):
        library.train(library.load(run_file), folder, device=CPU, progress=stop)
    assert (
        checkpoint.newest_checkpoint(folder) == folder / "checkpoints" / "step-00000010.safetensors"
    )


def _changed(folder: Path) -> None:
    _removed(folder)
    write_tiny(folder / "b.root", tiny_events(1000, 3))


def _added(folder: Path) -> None:
    write_tiny(folder / "c.root", tiny_events(1000, 3))


def _removed(folder: Path) -> None:
    (folder / "b.root").unlink()


def contents(folder: Path) -> dict[Path, bytes]:
    """Returns the files of a run folder, without the log."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "hepgan.log")
    return {path: path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_changed, r"the input file .*b\.root has changed since .*step-00000010"),
        (_added, r"the input file .*c\.root is not among those that .* was trained with"),
        (_removed, r"was trained with the input file b\.root, which is no longer among them"),
    ],
)
def test_changed_input_files_raise_with_their_name(
    run_file: Path, tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    begun(run_file, tmp_path / "out")
    before = contents(tmp_path / "out")
    change(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        library.train(library.load(run_file), tmp_path / "out", device=CPU, resume=True)
    assert contents(tmp_path / "out") == before
    assert "CheckpointError" in (tmp_path / "out" / "hepgan.log").read_text().splitlines()[-1]


def test_touched_and_moved_files_have_the_same_fingerprint(run_file: Path, tmp_path: Path) -> None:
    """Data restored to another folder, as from a backup, with other modification times."""
    begun(run_file, tmp_path / "out")
    (tmp_path / "elsewhere").mkdir()
    for path in tmp_path.glob("*.root"):
        shutil.copyfile(path, tmp_path / "elsewhere" / path.name)
        path.unlink()
        path.symlink_to(tmp_path / "elsewhere" / path.name)
        os.utime(path, (1e9, 1e9))
    shutil.move(tmp_path / "out", tmp_path / "moved")
    library.train(library.load(run_file), tmp_path / "moved", device=CPU, resume=True)


def test_resumed_training_keeps_its_encoding(
    run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine fits with different rounding; without the file the difference raises."""
    begun(run_file, tmp_path / "out")
    shutil.copytree(tmp_path / "out", tmp_path / "bare")
    (tmp_path / "bare" / "checkpoints" / checkpoint.ENCODING).unlink()
    fit = candidates.Encoding.fit

    def elsewhere(events: Any, *more: Any, **options: Any) -> Any:
        return fit(events[:-1], *more, **options)

    monkeypatch.setattr(candidates.Encoding, "fit", elsewhere)
    run = library.load(run_file)
    with pytest.raises(CheckpointError, match="belongs to another encoding"):
        library.train(run, tmp_path / "bare", device=CPU, resume=True)
    gan, _ = library.train(run, tmp_path / "out", device=CPU, resume=True)
    monkeypatch.undo()
    library.train(run, tmp_path / "whole", device=CPU)
    expected = GAN.load(tmp_path / "whole")
    assert gan.encoding.fingerprint() == expected.encoding.fingerprint()


@pytest.mark.parametrize("size", [0, 100, 9_000_000])
def test_fingerprint_depends_on_the_content(tmp_path: Path, size: int) -> None:
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_bytes(bytes(size))
    other.write_bytes(bytes(size))
    mark = fingerprint.of_file(str(path))
    assert fingerprint.of_file(str(other)) == mark
    for content in (bytes(size) + b"\0", b"\1" + bytes(size - 1) if size else b"\1"):
        other.write_bytes(content)
        assert fingerprint.of_file(str(other)) != mark
