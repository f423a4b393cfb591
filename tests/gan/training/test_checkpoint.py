"""Kills, full disks and forged files: a run folder is resumed with ``--resume``, or an error is raised."""

import copy
import errno
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save, save_file
from trainings import KilledError

from hepgan import GAN, atomic
from hepgan import pipeline as library
from hepgan.cli import main
from hepgan.errors import CheckpointError, RunError
from hepgan.gan import serialization
from hepgan.gan.conditions import Range
from hepgan.gan.training import checkpoint, history

CPU = torch.device("cpu")
SETTINGS = {"train.steps": 120, "train.checkpoint_every": 3, "threads": 1}
"""Most of such a training is writing, so that kills meet half-written files."""


def command(run_file: Path, folder: Path, *more: str) -> list[str]:
    settings = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    arguments = ["train", str(run_file), "-o", str(folder), "--device", "cpu", *settings, *more]
    return [sys.executable, "-m", "hepgan", *arguments]


def resumed(run_file: Path, folder: Path, limit: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs ``--resume``; no file may have more than ``limit`` bytes, as on a full disk."""

    def restrict() -> None:
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        command(run_file, folder, "--resume"),
        capture_output=True, text=True, check=False, timeout=240, preexec_fn=restrict,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory, tiny_file: Path) -> Path:
    from tiny import TINY

    path = tmp_path_factory.mktemp("safety") / "tiny.toml"
    path.write_text(TINY.format(path=tiny_file))
    return path


@pytest.fixture(scope="module")
def whole(run_file: Path) -> Path:
    """Folder of an uninterrupted training."""
    folder = run_file.parent / "whole"
    library.train(library.load(run_file, SETTINGS), folder, device=CPU)
    return folder


def assert_as_undisturbed(folder: Path, whole: Path) -> None:
    """Asserts equal weights bit for bit, each row of the history once, and no leftover files."""
    for name in ("generator.safetensors", f"checkpoints/step-{SETTINGS['train.steps']:08d}.safetensors"):  # fmt: skip
        one, other = load_file(whole / name), load_file(folder / name)
        assert one.keys() == other.keys()
        for key, tensor in one.items():
            assert torch.equal(tensor, other[key]), key
    rows = [history.read(run) for run in (whole, folder)]
    for row in (row for part in rows for row in part):
        row.pop("seconds")
    assert rows[0] == rows[1]
    assert contents(folder) == contents(whole)
    GAN.load(folder)


def contents(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def killed(run_file: Path, folder: Path, wait: random.Random, seconds: float) -> None:
    """Continues the training in ``folder`` and kills it some time after the first file has been written."""
    resume = ["--resume"] if folder.exists() else []
    before = checkpoint.newest_checkpoint(folder)
    process = subprocess.Popen(command(run_file, folder, *resume), stderr=subprocess.DEVNULL)
    while process.poll() is None and (
        not folder.exists() or checkpoint.newest_checkpoint(folder) == before
    ):
        time.sleep(0.002)
    time.sleep(wait.uniform(0, seconds))
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)


def assert_little_is_lost(folder: Path) -> None:
    """Asserts that the last checkpoint is complete and no older than the interval between checkpoints."""
    last = checkpoint.newest_checkpoint(folder)
    if last is None:
        return
    assert load_file(last)
    rows = history.read(folder)
    assert rows[-1]["step"] - int(last.stem.removeprefix("step-")) <= 3


@pytest.mark.parametrize("kills", [2, pytest.param(30, marks=pytest.mark.slow)])
def test_killed_training_resumes_bit_for_bit(
    run_file: Path, whole: Path, tmp_path: Path, kills: int
) -> None:
    wait, folder = random.Random(kills), tmp_path / "out"
    for _ in range(kills):
        killed(run_file, folder, wait, 1.0 / kills)
        assert_little_is_lost(folder)
    done = resumed(run_file, folder)
    assert done.returncode == 0, done.stderr
    assert_as_undisturbed(folder, whole)


def stopping(number: int, error: Callable[[], BaseException]) -> Callable[[int], None]:
    """Returns a replacement for ``os.fsync``, which is called for each file, that fails in the given call."""
    calls = iter(range(number + 1))

    def fail(file: int) -> None:
        if next(calls, None) == number:
            raise error()

    return fail


@pytest.mark.parametrize(
    ("number", "death"),
    [(0, True), (1, True), (3, True), (20, True), (44, True), (2, False), (43, False)],
)
def test_training_resumes_after_a_crash_at_any_write(
    run_file: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    death: bool,
) -> None:
    """``run.toml``, the encoding, ``history.jsonl``, a checkpoint, the generator, ``gan.json``: each is truncated in turn."""
    folder, run = tmp_path / "out", library.load(run_file, SETTINGS)
    full = lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(atomic.os, "fsync", stopping(number, KilledError if death else full))
    if death:
        # A killed program does not clean up either.
        remove = Path.unlink
        monkeypatch.setattr(
            Path,
            "unlink",
            lambda path, missing_ok=False: atomic.is_part(path) or remove(path, missing_ok),
        )
        with pytest.raises(KilledError):
            library.train(run, folder, device=CPU)
    else:
        with pytest.raises(RunError, match=r"out/.* cannot be written: No space left on device; free disk space"):  # fmt: skip
            library.train(run, folder, device=CPU)
        assert not [path for path in folder.rglob("*") if atomic.is_part(path)]
    monkeypatch.undo()
    library.train(run, folder, device=CPU, resume=True)
    assert_as_undisturbed(folder, whole)


def test_full_disk_raises_and_leaves_the_last_checkpoint(
    run_file: Path, whole: Path, tmp_path: Path
) -> None:
    """File sizes are limited to less than the size of a checkpoint."""
    folder = tmp_path / "out"

    def stop(text: str, fraction: float, remark: str) -> None:
        if text == "training" and fraction > 0.2:
            raise KilledError

    with pytest.raises(KilledError):
        library.train(library.load(run_file, SETTINGS), folder, device=CPU, progress=stop)
    before = {path: path.read_bytes() for path in (folder / "checkpoints").iterdir()}
    done = resumed(run_file, folder, limit=min(map(len, before.values())) - 1)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "safetensors cannot be written: File too large; free disk space" in done.stderr
    assert {path: path.read_bytes() for path in (folder / "checkpoints").iterdir()} == before
    library.train(library.load(run_file, SETTINGS), folder, device=CPU, resume=True)
    assert_as_undisturbed(folder, whole)


def test_history_row_truncated_by_a_full_disk_is_removed(tmp_path: Path) -> None:
    history.append(tmp_path, {"step": 1})
    code = (
        "import resource, sys; from pathlib import Path; from hepgan.gan.training import history;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20)); history.append(Path(sys.argv[1]), {'step': 22222})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert "history.jsonl cannot be written: File too large" in done.stderr
    assert (tmp_path / "history.jsonl").read_text() == '{"step": 1}\n'


def test_command_reports_diverging_training(run_file: Path, tmp_path: Path) -> None:
    options = ["--set", "train.discriminator.learning_rate=1e30"]
    arguments = command(run_file, tmp_path / "out", *options)[3:]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    message = r"error: (the (discriminator|generator)'s loss is (nan|inf)|a weight of the \w+ is not finite \(.*\)) at step \d+; .*checkpoint.*; lower the learning rate"
    assert re.search(message, done.output), done.output
    assert not (tmp_path / "out" / "generator.safetensors").exists()


def forged(about: dict[str, Any], key: str, value: Any) -> str:
    """Returns ``gan.json`` with another value of a key such as ``gan.latent``."""
    table = copy.deepcopy(about)
    *path, last = key.split(".")
    inner = table
    for part in path:
        inner = inner[part]
    inner[last] = value
    return json.dumps(table)


HUGE = {
    "a generator of 10^12 weights": ("gan.generator", "DENSE|1000000, DENSE|1000000, DENSE|N|LINEAR"),
    "one that just fits the machine": ("gan.generator", "DENSE|9000, DENSE|9000, DENSE|N|LINEAR"),
    "a discriminator of 10^12 weights": ("gan.discriminator", "DENSE|1000000, DENSE|1000000, DENSE|1"),
    "noise of 10^15 numbers": ("gan.latent", [10**15]),
    "an event of 10^15 numbers": ("encoding.features", 10**15),
    "an event of 10^9 numbers": ("encoding.features", 10**9),
    "a schema of 10^9 numbers": ("schema.fields.a.shape", [10**9]),
    "10^15 numbers for the discriminator": ("discriminator_features", 10**15),
    "more than any number": ("discriminator_features", float("inf")),
    "fewer than none": ("discriminator_features", -5),
    "no encoding": ("encoding", None),
    "no schema": ("schema", []),
    "a deep list": ("tree", 0),
    "a long file": ("tree", 0),
}  # fmt: skip


@pytest.mark.parametrize("forgery", HUGE)
def test_forged_gan_raises_before_allocating_memory(
    whole: Path, tmp_path: Path, forgery: str
) -> None:
    text = forged(json.loads((whole / "gan.json").read_text()), *HUGE[forgery])
    text = {"a deep list": "[" * 10**6, "a long file": " " * 2**24 + text}.get(forgery, text)
    (tmp_path / "gan.json").write_text(text)
    (tmp_path / "generator.safetensors").write_bytes((whole / "generator.safetensors").read_bytes())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError):
        GAN.load(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


@pytest.mark.parametrize("field", ["a", "b"])
def test_gan_whose_schema_differs_from_its_encodings_raises(
    whole: Path, tmp_path: Path, field: str
) -> None:
    about = json.loads((whole / "gan.json").read_text())
    about["schema"]["fields"][field]["shape"] = [7]
    (tmp_path / "gan.json").write_text(json.dumps(about))
    (tmp_path / "generator.safetensors").symlink_to(whole / "generator.safetensors")
    with pytest.raises(
        CheckpointError, match=r"gan.json: the saved encoding is damaged: it has 3 features"
    ):
        GAN.load(tmp_path)


def test_encoding_constants_of_other_shapes_raise_or_give_events(
    whole: Path, tmp_path: Path
) -> None:
    (tmp_path / "gan.json").write_bytes((whole / "gan.json").read_bytes())
    tensors = load_file(whole / "generator.safetensors")
    refused = 0
    for name in (name for name in tensors if name.startswith("encoding.")):
        for shape in ((-1,), (-1, 1), (1, -1), (1, 1, -1)):
            save_file(
                tensors | {name: tensors[name].reshape(shape)}, tmp_path / "generator.safetensors"
            )
            try:
                GAN.load(tmp_path).sample(2, energy=Range(2.0, 9.0), seed=1)
            except CheckpointError:
                refused += 1
    assert refused > len(tensors)


def test_sparse_file_larger_than_memory_raises(whole: Path, tmp_path: Path) -> None:
    """Its header is valid: one tensor of 8 TB, which takes no space on the disk."""
    (tmp_path / "gan.json").write_bytes((whole / "gan.json").read_bytes())
    size = 2**43
    header = json.dumps({"w": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}})
    with (tmp_path / "generator.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header.encode())
        file.truncate(8 + len(header) + size)
    with pytest.raises(CheckpointError, match="bytes of memory are free"):
        GAN.load(tmp_path)


def test_header_with_a_hundred_thousand_empty_tensors_raises(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "gan.json").write_bytes((whole / "gan.json").read_bytes())
    empty = '"{}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
    header = ("{" + ",".join(map(empty.format, range(10**5))) + "}").encode()
    (tmp_path / "generator.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(
        CheckpointError, match=r"its header has 5,\d+,\d+ bytes, more than the largest"
    ):
        GAN.load(tmp_path)


@pytest.mark.parametrize("name", ["checkpoints", "history.jsonl", "run.toml", "gan.json"])
def test_resuming_does_not_write_through_links(
    run_file: Path, whole: Path, tmp_path: Path, name: str
) -> None:
    """A link to a folder raises, a link to a file is replaced by a file; the targets do not change."""
    folder, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    shutil.copytree(whole, folder)
    (folder / "checkpoints" / f"step-{SETTINGS['train.steps']:08d}.safetensors").unlink()
    (folder / name).rename(elsewhere)
    (folder / name).symlink_to(elsewhere)
    if name == "checkpoints":
        (elsewhere / ".mine.part").touch()
    before = {path: path.is_file() and path.read_bytes() for path in (elsewhere, *elsewhere.rglob("*"))}  # fmt: skip
    resume = lambda: library.train(library.load(run_file, SETTINGS), folder, device=CPU, resume=True)  # fmt: skip
    if name == "checkpoints":
        with pytest.raises(RunError, match="checkpoints cannot be written: it is a symbolic link"):
            resume()
    else:
        resume()
        assert not (folder / name).is_symlink()
    assert {path: path.is_file() and path.read_bytes() for path in before} == before


def _other_metadata(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        about = change(serialization.read_metadata(path, checkpoint.VERSION))
        path.write_bytes(save(load_file(path), {"state": json.dumps(about)}))

    return damage


def _other_tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        tensors, about = load_file(path), serialization.read_metadata(path, checkpoint.VERSION)
        change(tensors)
        path.write_bytes(save(tensors, {"state": json.dumps(about)}))

    return damage


DAMAGE: dict[str, Callable[[Path], None]] = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "empty": lambda path: path.write_bytes(b""),
    "no safetensors": lambda path: path.write_bytes(b"\x80\x04pickle" * 100),
    "header of 2^60 bytes": lambda path: path.write_bytes((2**60).to_bytes(8, "little") + b"{}"),
    "foreign": lambda path: save_file({"w": torch.zeros(3)}, path),
    "no table": _other_metadata(lambda about: [1, 2]),
    "no step": _other_metadata(lambda about: {k: v for k, v in about.items() if k != "step"}),
    "step that is none": _other_metadata(lambda about: about | {"step": -1}),
    "endless step": _other_metadata(lambda about: about | {"step": float("inf")}),
    "no loader": _other_metadata(lambda about: about | {"loader": [0]}),
    "phase that is none": _other_metadata(lambda about: about | {"phase": -1}),
    "later version": _other_metadata(lambda about: about | {"version": 99}),
    "no files": _other_metadata(lambda about: {k: v for k, v in about.items() if k != "files"}),
    "files that are none": _other_metadata(lambda about: about | {"files": [1, [2]]}),
    "other files": _other_metadata(lambda about: about | {"files": []}),
    "other encoding": _other_metadata(lambda about: about | {"encoding": None}),
    "no average": _other_tensors(
        lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith("ema")]
    ),
    "other best": _other_tensors(lambda tensors: tensors.update({"best.w": torch.zeros(5)})),
    "other optimizer": _other_tensors(
        lambda tensors: tensors.update({"optimizer.generator.0.exp_avg": torch.zeros(5)})
    ),
    "one weight too many": _other_tensors(
        lambda tensors: tensors.update({"optimizer.generator.99.exp_avg": torch.zeros(5)})
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_checkpoint_is_reported_and_training_resumes_from_the_previous_one(
    run_file: Path, whole: Path, tmp_path: Path, damage: str
) -> None:
    state = library.prepare(library.load(run_file, SETTINGS), device=CPU).state
    last, before = (tmp_path / f"step-{step:08d}.safetensors" for step in (120, 117))
    for path in (last, before):
        path.write_bytes((whole / "checkpoints" / path.name).read_bytes())
    DAMAGE[damage](last)
    with pytest.raises(CheckpointError, match=str(last)):
        checkpoint.load_checkpoint(state, last)
    checkpoint.load_checkpoint(state, before)
    assert state.step == 117
