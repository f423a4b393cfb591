"""Files that are whole or not there at all, whenever a program is killed or a disk runs full.

A file is written under a temporary name, brought to the disk and renamed, so that a name always stands for a whole file.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import safetensors.torch
from torch import Tensor

from hepgan.errors import RunError


def write_text(path: Path, text: str) -> None:
    """``text`` into ``path``, whole or not at all.

    Raises:
        RunError: it cannot be written; what was there before is left as it was.
    """
    _write(path, text.encode())


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """``tensors`` into the safetensors file ``path``, whole or not at all.

    Raises:
        RunError: it cannot be written; what was there before is left as it was.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # Not save_file, whose files only their owner may read.
    _write(path, safetensors.torch.save(plain, metadata))


def append_line(path: Path, line: str) -> None:
    """Adds a line to ``path``. Of a line that a full disk cuts short, nothing is left.

    Raises:
        RunError: it cannot be written.
    """
    with told(path), path.open("ab", buffering=0) as file:
        before, rest = file.tell(), line.encode() + b"\n"
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError:
            file.truncate(before)
            raise


def is_part(path: Path) -> bool:
    """Whether ``path`` is a temporary file, as a killed program leaves one."""
    return path.match(".*.part")


def sweep(folder: Path) -> None:
    """Removes the temporary files of ``folder``."""
    for path in filter(is_part, folder.glob("*")):
        path.unlink(missing_ok=True)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """While it lasts, an error of the system is a ``RunError`` that says what could not be written.

    Raises:
        RunError: there was one.
    """
    try:
        yield
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}"
        raise RunError(
            f"{message}; make room or put that right, then go on with --resume"
        ) from error


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with told(path):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                # Else a machine that loses its power could keep the new name and not the content.
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
