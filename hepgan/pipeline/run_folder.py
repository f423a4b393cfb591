"""The run folder of a training: checked, created, cleared, and locked by one process at a time; and its log.

The lock file names the training process; the system's lock on the file shows whether that process is alive.
"""

import contextlib
import datetime as dt
import json
import logging
import os
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hepgan import atomic
from hepgan.atomic import os_errors_as_run_error
from hepgan.config import parse_toml, short_repr
from hepgan.data.io.names import printable
from hepgan.errors import RunError
from hepgan.gan.training.checkpoint import newest_checkpoint
from hepgan.gan.training.signals import TrainingStopped
from hepgan.pipeline.config import RunConfig, as_toml

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

NAME = ".lock"
LOG = "hepgan.log"

CONTENT = (
    "members", "tensorboard", "checkpoints", "plots", "history.jsonl", "generator.safetensors", "gan.json", "generated.root", "scores.json",
    "histograms.json", "histograms.root", "report.html", LOG, "run.toml",
)  # fmt: skip
"""Files and folders that a run writes; ``run.toml`` is last, so that a folder that was cleared in part still counts as a run's."""

REPORT = ("plots", "histograms.json", "histograms.root", "scores.json", "report.html")
"""Files and folders that an evaluation writes."""

_FILE_SUFFIXES = {".root", ".html", ".json", ".toml", ".hdf5", ".h5", ".onnx", ".pt2", ".md"}

_LONGEST = 4096
"""Maximum size of a lock file [bytes]."""


def is_lock(path: Path) -> bool:
    """Returns whether ``path`` is a lock file, which does not count as content of a run folder."""
    return path.name == NAME


def check_folder(folder: Path, run: RunConfig | None, *, overwrite: bool = False) -> None:
    """Checks that ``folder`` is new or empty; with ``run``, the folder of that run; with ``overwrite``, the folder of any run.

    The number of steps of the last phase may differ, so that a finished run can be continued.

    Raises:
        RunError: it holds something else, or cannot be created.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; choose another folder with -o")
    if not folder.exists() and folder.suffix.lower() in _FILE_SUFFIXES:
        raise RunError(
            f"{folder} has the name of a file, but a folder is written; choose another name with -o"
        )
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise RunError(f"{folder} cannot be created in {existing}; choose another folder with -o")
    if not folder.is_dir() or all(
        atomic.is_part(path) or is_lock(path) or path.name == LOG for path in folder.iterdir()
    ):
        return
    written = folder / "run.toml"
    if overwrite and not written.is_file():
        raise RunError(
            f"{folder} holds something other than a run, which --overwrite does not remove; choose another folder with -o"
        )
    if run is None and not overwrite:
        hint = ", continue the run with --resume, or replace it with --overwrite"
        hint = hint if written.is_file() else ""
        raise RunError(f"{folder} is not empty; choose another folder with -o{hint}")
    if run is not None:
        _check_same(folder, run)


def _check_same(folder: Path, run: RunConfig) -> None:
    """Checks that ``folder`` holds ``run``, with any number of steps in the last phase that the last checkpoint does not exceed."""
    written = folder / "run.toml"
    if not written.is_file():
        raise RunError(f"{folder} holds no run to resume; choose another folder with -o")
    before, now = (
        flat(parse_toml(text, where=str(written)))
        for text in (written.read_text(encoding="utf-8", errors="replace"), as_toml(run))
    )
    steps = f"phases[{len(run.phases) - 1}].steps" if run.phases else "train.steps"
    different = [key for key in (now | before) if before.get(key) != now.get(key)]
    for key in different:
        if key != steps:
            old, new = (
                short_repr(table[key]) if key in table else "not set" for table in (before, now)
            )
            raise RunError(
                f"{folder} holds a different run: {key} is {old} there and {new} here; choose another folder with -o, or"
                f" continue the run as it is: hepgan run {folder} --resume"
            )
    last = newest_checkpoint(folder)
    done = int(last.stem.removeprefix("step-")) if different and last else 0
    if run.steps < done:
        raise RunError(
            f"{folder} has already trained {done:,} steps, more than the {run.steps:,} of {steps} = {now[steps]}; choose"
            " more steps, or another folder with -o"
        )


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """Returns the values of a table by dotted key; entries of lists of tables are numbered, ``phases[0].steps``."""
    if isinstance(value, Mapping):
        items = {f"{key}.{name}" if key else name: entry for name, entry in value.items()}
    elif isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value):
        items = {f"{key}[{number}]": entry for number, entry in enumerate(value)}
    else:
        return {key: value}
    return {name: leaf for k, entry in items.items() for name, leaf in flat(entry, k).items()}


def check_report_folder(folder: Path, *, overwrite: bool = False) -> None:
    """Checks that ``folder`` is new or empty; with ``overwrite``, it may hold an evaluation and nothing else.

    Raises:
        RunError: it holds something else, or cannot be created.
    """
    if not folder.is_dir() or not (names := {path.name for path in folder.iterdir()}):
        check_folder(folder, None)
        return
    replaceable = all(name in REPORT or atomic.is_part(folder / name) for name in names)
    if replaceable and overwrite:
        return
    if overwrite:
        raise RunError(
            f"{folder} holds something other than an evaluation, which --overwrite does not remove; choose another folder with -o"
        )
    hint = ", or replace the evaluation with --overwrite" if replaceable else ""
    raise RunError(f"{folder} is not empty; choose another folder with -o{hint}")


def clear_folder(folder: Path, names: Sequence[str] = CONTENT) -> None:
    """Removes the files and folders ``names``, what a run has written, from ``folder``; others remain, and symbolic links are not followed.

    Raises:
        RunError: the system cannot remove something.
    """
    for name in names:
        path = folder / name
        with os_errors_as_run_error(path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


@contextmanager
def recorded() -> Iterator[list[logging.LogRecord]]:
    """Context manager that returns a list to which the log of hepgan is appended: for ``logged``, once there is a folder."""
    logger, records = logging.getLogger("hepgan"), _Records()
    logger.addHandler(records)
    try:
        yield records.records
    finally:
        logger.removeHandler(records)


class _Records(logging.Handler):
    """Records of a log in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Appends a record."""
        self.records.append(record)


@contextmanager
def logged(folder: Path, earlier: Sequence[logging.LogRecord] = ()) -> Iterator[None]:
    """Context manager that appends the log of hepgan, and the error that ends the block, to ``hepgan.log`` in ``folder``.

    Without the command line, it contains warnings and errors only, unless the level of the logger ``hepgan`` is lower. The records
    ``earlier`` come first, with their own times.
    """
    logger, handler = logging.getLogger("hepgan"), _LogFile(folder / LOG)
    for record in earlier:
        handler.handle(record)
    logger.addHandler(handler)
    try:
        yield
    except BaseException as error:
        level = logging.WARNING if isinstance(error, TrainingStopped) else logging.ERROR
        text = str(error) if isinstance(error, TrainingStopped) else f"{error!r}"
        handler.handle(logger.makeRecord(logger.name, level, "", 0, text, (), None))
        raise
    finally:
        logger.removeHandler(handler)


class _LogFile(logging.Handler):
    """Log file in a run folder, opened for each line."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Appends a record; a full disk does not end a training here, but where it writes its results."""
        with contextlib.suppress(RunError):
            atomic.append_line(self.path, printable(self.format(record), keep="\n"))


def make_folder(folder: Path) -> None:
    """Creates the folder and its parents.

    Raises:
        RunError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder} cannot be created: {error.strerror}") from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Context manager that keeps other trainings out of ``folder``.

    The system frees the lock of a process that dies, so that the next one on the same host takes it over. Whether a process on
    another host is alive cannot be determined here: its lock stands until the file is removed.

    Raises:
        RunError: another training uses the folder; the message names its process, host and start.
    """
    path = folder / NAME
    file = _open_lock(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the folder may be gone
            if sys.platform == "win32":  # open files cannot be removed
                os.close(file)
                path.unlink()
            else:
                path.unlink()
        with contextlib.suppress(OSError):
            os.close(file)


def _open_lock(path: Path) -> int:
    """Returns the open lock file, signed by this process."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    while True:
        with os_errors_as_run_error(path):
            file = os.open(path, flags, 0o644)
        with contextlib.ExitStack() as close_on_error:
            close_on_error.callback(os.close, file)
            _check_free(file, path)
            # The previous holder may have removed the file after we opened it.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), path.stat(follow_symlinks=False)):
                    with os_errors_as_run_error(path):
                        _sign(file)
                    close_on_error.pop_all()
                    return file


def _check_free(file: int, path: Path) -> None:
    """Acquires the system's lock, unless another process holds it or may hold it."""
    free, holder = _lock(file), _holder(file)
    if free is False:
        raise RunError(
            f"{path.parent} is in use by {_named(holder)}; wait until it ends, or choose another folder with -o"
        )
    elsewhere = holder.get("host", socket.gethostname()) != socket.gethostname()
    if elsewhere or (holder and free is None):
        raise RunError(
            f"{path.parent} is in use by {_named(holder)}; if that process no longer runs, remove {path}"
            " and repeat the command"
        )


def _named(holder: dict[str, str]) -> str:
    if not {"pid", "host", "started"} <= holder.keys():
        return "another process"
    return f"process {holder['pid']} on {holder['host']} since {holder['started']}"


def _lock(file: int) -> bool | None:
    """Returns whether the system's lock was free; ``None`` if the file system does not support locks."""
    try:
        if sys.platform == "win32":
            os.lseek(file, _LONGEST, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def _holder(file: int) -> dict[str, str]:
    """Returns the holder named in the lock file, or nothing if it was killed before signing."""
    os.lseek(file, 0, os.SEEK_SET)
    try:
        record = json.loads(os.read(file, _LONGEST))
    except (ValueError, RecursionError):
        return {}
    return {str(k): str(v) for k, v in record.items()} if isinstance(record, dict) else {}


def _sign(file: int) -> None:
    started = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    record = {"pid": os.getpid(), "host": socket.gethostname(), "started": started}
    os.ftruncate(file, 0)
    os.lseek(file, 0, os.SEEK_SET)
    os.write(file, json.dumps(record).encode())
