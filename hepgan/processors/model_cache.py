"""Where a worker gets a GAN from: a folder that it sees, or what travels with the job. Loaded once a process.

A path is for files that every worker sees under one name: one machine, a shared file system, an image of a container. On a
batch farm without one, ``carry`` reads the folder where the job starts, and the GAN's files (ten megabytes) go with the
processor: once to each worker with Dask, with every chunk otherwise.
"""

import dataclasses
import functools
import hashlib
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hepgan.atomic import write_bytes
from hepgan.errors import CheckpointError, RunError
from hepgan.gan import pretrained

if TYPE_CHECKING:
    from hepgan.gan.model import GAN

FILES = ("gan.json", "generator.safetensors")
"""What a GAN is, in a run folder."""

KEPT = 4
"""So many GANs are kept in a process, for one for each kind of particle."""


@dataclasses.dataclass(frozen=True)
class EmbeddedModel:
    """A GAN that travels with the processor; made by ``carry``.

    Attributes:
        digest: Of the files; two with the same are the same GAN.
        files: Name -> content.
    """

    digest: str
    files: Mapping[str, bytes] = dataclasses.field(compare=False, repr=False)


Model = str | os.PathLike[str] | EmbeddedModel
"""A run folder that every worker sees, or what ``carry`` gives."""


def embed(folder: str | os.PathLike[str]) -> EmbeddedModel:
    """The GAN of the run folder ``folder``, or of ``showers`` and ``mnist``, to travel with the processor.

    Raises:
        CheckpointError: a file is missing.
    """
    about, packed = _files(folder)
    ours = pretrained.shipped(folder)
    weights = pretrained.weights(ours) if ours else packed.read_bytes()
    files = dict(zip(FILES, (about.read_bytes(), weights), strict=True))
    return EmbeddedModel(hashlib.sha256(b"".join(files.values())).hexdigest(), files)


def loaded(model: Model, device: str) -> "GAN":
    """The GAN of ``model``, loaded at most once in this process, until its files change.

    Args:
        model: A folder, or what ``carry`` gave.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        CheckpointError: a file is missing on this worker, damaged or of a later version.
        RunError: the device is not there.
    """
    chosen = _device(device)
    if isinstance(model, EmbeddedModel):
        return _unpacked(model, chosen)
    paths = _files(model)
    return _loaded(os.fspath(model), tuple(path.stat().st_mtime_ns for path in paths), chosen)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch with one CPU thread while it lasts: a chunk is one core's work, the executor's workers are what runs in parallel."""
    import torch  # here, as everywhere in this room: a second that only those who generate should wait

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _files(folder: str | os.PathLike[str]) -> tuple[Path, ...]:
    if ours := pretrained.shipped(folder):
        return pretrained.files(ours)
    paths = tuple(Path(folder, name) for name in FILES)
    for path in paths:
        if not path.is_file():
            raise CheckpointError(
                f"{path} does not exist on {platform.node()}; give the folder of a finished run that every worker "
                "sees, or processors.embed(folder), which travels with the job"
            )
    return paths


@functools.lru_cache(maxsize=KEPT)
def _loaded(folder: str, stamp: tuple[int, ...], device: str) -> "GAN":
    from hepgan.gan.serialization import load_gan

    return load_gan(folder, device=device)[0]


@functools.lru_cache(maxsize=KEPT)
def _unpacked(model: EmbeddedModel, device: str) -> "GAN":
    from hepgan.gan.serialization import load_gan

    with tempfile.TemporaryDirectory() as folder:
        for name, content in model.files.items():
            write_bytes(Path(folder, name), content)
        return load_gan(folder, device=device)[0]


def _device(name: str) -> str:
    """``name`` as torch's; ``auto`` is a GPU where there is one, each process of a machine with several on its own."""
    from hepgan.gan.devices import device_of, gpus

    if name == "auto":
        return f"cuda:{os.getpid() % there}" if (there := gpus()) else "cpu"
    try:
        return str(device_of(name))
    except RunError as error:
        raise RunError(f"{error} (on {platform.node()})") from error
