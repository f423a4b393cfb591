"""The run folder of a training: checked, created, and locked by one process at a time.

The lock file names the training process; the system's lock on the file shows whether that process is alive.
"""

import contextlib
import datetime as dt
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hepgan import atomic
from hepgan.atomic import os_errors_as_run_error
from hepgan.errors import RunError
from hepgan.pipeline.config import RunConfig, as_toml

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

NAME = ".lock"

_LONGEST = 4096
"""Maximum size of a lock file [bytes]."""


def is_lock(path: Path) -> bool:
    """Returns whether ``path`` is a lock file, which does not count as content of a run folder."""
    return path.name == NAME


def check_folder(folder: Path, run: RunConfig | None) -> None:
    """Checks that ``folder`` is new or empty or, with ``run``, the folder of that run.

    Raises:
        RunError: it holds something else, or cannot be created.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; choose another folder with -o")
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise RunError(f"{folder} cannot be created in {existing}; choose another folder with -o")
    if not folder.is_dir() or all(
        atomic.is_part(path) or is_lock(path) for path in folder.iterdir()
    ):
        return
    written = folder / "run.toml"
    if run is None:
        hint = ", or continue the run with --resume" if written.is_file() else ""
        raise RunError(f"{folder} is not empty; choose another folder with -o{hint}")
    if not written.is_file() or written.read_text(encoding="utf-8") != as_toml(run):
        raise RunError(
            f"{folder} holds a different run (see its run.toml); choose another folder with -o"
        )


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
