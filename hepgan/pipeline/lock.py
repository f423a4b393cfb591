"""One training at a time in a run folder: a file says who trains there, and the system's lock on it whether he still lives."""

import contextlib
import datetime as dt
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hepgan.atomic import os_errors_as_run_error
from hepgan.errors import RunError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

NAME = ".lock"

_LONGEST = 4096
"""Bytes of such a file at the most."""


def is_lock(path: Path) -> bool:
    """Returns whether ``path`` has the name of a lock, which is no content of a run folder."""
    return path.name == NAME


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Context manager that keeps other trainings out of ``folder``.

    The system frees the lock of a process that dies, so that the next one on the same host takes it over. Whether a process on
    another host still runs cannot be told from here: its lock stands until somebody removes the file.

    Raises:
        RunError: another training is at work there; names its process, host and start.
    """
    path = folder / NAME
    file = _taken(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the folder may be gone
            if sys.platform == "win32":  # does not remove what is open
                os.close(file)
                path.unlink()
            else:
                path.unlink()
        with contextlib.suppress(OSError):
            os.close(file)


def _taken(path: Path) -> int:
    """The open lock file, with our name in it."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    while True:
        with os_errors_as_run_error(path):
            file = os.open(path, flags, 0o644)
        with contextlib.ExitStack() as unless_taken:
            unless_taken.callback(os.close, file)
            _check_free(file, path)
            # Its last holder may have removed it between our opening and our locking.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), path.stat(follow_symlinks=False)):
                    with os_errors_as_run_error(path):
                        _sign(file)
                    unless_taken.pop_all()
                    return file


def _check_free(file: int, path: Path) -> None:
    """Takes the system's lock, unless another process has it or may have it."""
    free, holder = _lock(file), _holder(file)
    if free is False:
        raise RunError(
            f"{path.parent} is being trained in by {_named(holder)}; wait for its end, or choose another folder with -o"
        )
    elsewhere = holder.get("host", socket.gethostname()) != socket.gethostname()
    if elsewhere or (holder and free is None):
        raise RunError(
            f"{path.parent} is being trained in by {_named(holder)}; if that process no longer runs, remove {path}"
            " and repeat the command"
        )


def _named(holder: dict[str, str]) -> str:
    if not {"pid", "host", "started"} <= holder.keys():
        return "another process"
    return f"process {holder['pid']} on {holder['host']} since {holder['started']}"


def _lock(file: int) -> bool | None:
    """Whether the system's lock was free; ``None`` where the file system has none."""
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
    """What the lock file says of its holder; nothing where he was killed before he could sign."""
    os.lseek(file, 0, os.SEEK_SET)
    try:
        found = json.loads(os.read(file, _LONGEST))
    except (ValueError, RecursionError):
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def _sign(file: int) -> None:
    started = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    mine = {"pid": os.getpid(), "host": socket.gethostname(), "started": started}
    os.ftruncate(file, 0)
    os.lseek(file, 0, os.SEEK_SET)
    os.write(file, json.dumps(mine).encode())
