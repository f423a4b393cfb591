"""Atomic writes: a file is written completely or not at all, even if the program is killed or the disk is full.

A file is written under a hidden name, ``.NAME.RANDOM.part``, synced to the disk and renamed. The name cannot be guessed, so nothing
can be planted there; a lock distinguishes temporary files of running processes from those of killed ones, which the next writer
removes.
"""

import contextlib
import errno
import glob
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hepgan.errors import RunError

if sys.platform != "win32":
    import fcntl


@contextmanager
def replace_on_success(path: Path) -> Iterator[Path]:
    """Context manager that yields an empty file beside ``path``, which replaces ``path`` when the block ends.

    After an error, it is removed and ``path`` is unchanged. A symbolic link at ``path`` is replaced, not followed.

    Raises:
        RunError: the system cannot write the file.
    """
    with os_errors_as_run_error(path):
        remove_stale_parts(path.parent, path.name)
        part = _hidden(path)
        try:
            with _locked(part, os.O_RDWR | os.O_CREAT | os.O_EXCL):
                yield part
                # Without it, a power failure could leave the new name without the content.
                with part.open("rb+") as file:
                    os.fsync(file.fileno())
                part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes ``content`` to ``path``, completely or not at all.

    Raises:
        RunError: the system cannot write the file; the previous file is unchanged.
    """
    with replace_on_success(path) as part, part.open("wb") as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Writes ``text`` to ``path``, as ``write_bytes`` does, in UTF-8."""
    write_bytes(path, text.encode())


def append_line(path: Path, line: str) -> None:
    """Appends a line to ``path``. If the disk is full, no part of the line remains.

    Raises:
        RunError: the system cannot write the line, or ``path`` is a symbolic link.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    with (
        os_errors_as_run_error(path),
        os.fdopen(os.open(path, flags, 0o666), "ab", buffering=0) as file,
    ):
        before, remaining = file.tell(), line.encode() + b"\n"
        try:
            while remaining:
                remaining = remaining[file.write(remaining) :]
        except OSError:
            file.truncate(before)
            raise


@contextmanager
def hidden_folder(path: Path) -> Iterator[Path]:
    """Context manager that yields an empty hidden folder beside ``path``; it is removed when the block ends.

    Raises:
        RunError: the system cannot create the folder.
    """
    with os_errors_as_run_error(path):
        remove_stale_parts(path.parent, path.name)
        folder = _hidden(path)
        folder.mkdir()
    try:
        with _locked(folder, os.O_RDONLY):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def subfolder(path: Path) -> Path:
    """Returns the folder ``path``, created if it is missing.

    Raises:
        RunError: the system cannot create it, or it is a symbolic link, through which files elsewhere would be changed.
    """
    with os_errors_as_run_error(path):
        path.mkdir(exist_ok=True)
        if path.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return path


def is_part(path: Path) -> bool:
    """Returns whether ``path`` has the name of a temporary file or folder, which a killed program may have left."""
    return path.match(".*.part")


def remove_stale_parts(folder: Path, name: str | None = None) -> None:
    """Removes temporary files that killed programs have left in ``folder``, of the file ``name`` or of any file."""
    which = "*" if name is None else f"{glob.escape(_stem(name))}.*"
    for path in folder.glob(f".{which}.part"):
        # Files of other users, or that another process has just removed, are harmless.
        with contextlib.suppress(OSError):
            _remove_stale(path)


@contextmanager
def os_errors_as_run_error(path: Path) -> Iterator[None]:
    """Context manager that turns an ``OSError`` into an error that says that ``path`` cannot be written.

    Raises:
        RunError: an ``OSError`` was raised.
    """
    try:
        yield
    except OSError as error:
        link = error.errno == errno.ELOOP
        reason = "it is a symbolic link" if link else error.strerror or error
        raise RunError(
            f"{path} cannot be written: {reason}; free disk space or choose another folder, then repeat the command "
            "(a training continues with --resume)"
        ) from error


def _hidden(path: Path) -> Path:
    return path.with_name(f".{_stem(path.name)}.{secrets.token_hex(8)}.part")


def _stem(name: str) -> str:
    """Returns ``name``, shortened to leave room for a suffix: file names have at most 255 bytes."""
    return os.fsdecode(os.fsencode(name)[:200])


def _remove_stale(path: Path) -> None:
    if path.is_symlink() or not (path.is_file() or path.is_dir()):
        path.unlink()
        return
    with _locked(path, os.O_RDONLY if path.is_dir() else os.O_RDWR) as acquired:
        if acquired:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def _locked(path: Path, flags: int) -> Iterator[bool]:
    """Context manager that opens ``path`` and holds its lock; yields whether the lock was free, as it is after its process has died."""
    if sys.platform == "win32":  # Windows has no such locks, but cannot remove an open file
        if not path.is_dir():
            os.close(os.open(path, flags, 0o666))
        yield True
        return
    file = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            acquired = True
        except OSError:  # another process holds it, or the file system has no locks
            acquired = False
        yield acquired
    finally:
        os.close(file)
