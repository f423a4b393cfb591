"""GANs on a worker: read from a folder or unpacked from the job, and loaded once per process.

A path needs a folder that every worker can read under the same name: one machine, a shared file system, a container image. On
a batch farm without one, ``embed`` reads the folder where the job starts, and the GAN's files (ten megabytes) are shipped with
the processor: once per worker with Dask, with every chunk otherwise.
"""

import dataclasses
import functools
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hepgan.atomic import write_bytes
from hepgan.errors import CheckpointError, RunError
from hepgan.gan import pretrained, sources
from hepgan.gan.members import gan_folder
from hepgan.plugins import import_plugins, require_plugins

if TYPE_CHECKING:
    from hepgan.gan.model import GAN

FILES = ("gan.json", "generator.safetensors")
"""Files of a GAN in a run folder."""

CACHE_SIZE = 16
"""Number of GANs kept in a process, enough for one per kind of particle, and for the members of an ensemble."""


@dataclasses.dataclass(frozen=True)
class EmbeddedModel:
    """A GAN that is shipped with the processor, created by ``embed``.

    Attributes:
        digest: Hash of the files; equal digests mean the same GAN.
        files: File name -> content.
        plugins: Modules that workers import before loading it.
    """

    digest: str
    files: Mapping[str, bytes] = dataclasses.field(compare=False, repr=False)
    plugins: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class ModelFolder:
    """A run folder that every worker can read, created by ``shipped``.

    Attributes:
        path: The folder, or the name of a pretrained GAN.
        plugins: Modules that workers import before loading it.
    """

    path: str
    plugins: tuple[str, ...] = ()


Model = str | os.PathLike[str] | ModelFolder | EmbeddedModel
"""A run folder that every worker can read, an address, or an ``EmbeddedModel``."""


def shipped(model: Model) -> Model:
    """Returns ``model`` in the form that a processor ships to workers: a folder with the plugins that its GAN needs.

    A folder that only the workers can read is returned unchanged; they load GANs without plugins from it.

    Raises:
        RunError: a plugin of the GAN has not been imported here.
    """
    if isinstance(model, (ModelFolder, EmbeddedModel)):
        return model
    if sources.is_remote(model):
        return embed(model)  # downloaded once, here
    path = gan_folder(model) / FILES[0]
    if pretrained.find(model) or not path.is_file():
        return os.fspath(model)
    names = _plugins(path.read_bytes())
    require_plugins(names, source=path)
    return ModelFolder(os.fspath(model), names)


def embed(folder: str | os.PathLike[str], *, member: int | None = None) -> EmbeddedModel:
    """Returns the GAN of the run folder or address ``folder``, or the pretrained ``showers`` or ``mnist``, ready to be shipped with a processor.

    Of an ensemble, it is that of ``member``, by default the first.

    Workers import the plugins that the GAN needs, which must have been imported here: in the same folder, or installed on the workers.

    Raises:
        CheckpointError: a file is missing.
        RunError: a plugin of the GAN has not been imported, or there is no such member.
    """
    folder = sources.local_folder(folder)
    folder = folder if member is None else gan_folder(folder, member)
    metadata, packed = _gan_files(folder)
    name = pretrained.find(folder)
    weights = pretrained.weights(name) if name else packed.read_bytes()
    files = dict(zip(FILES, (metadata.read_bytes(), weights), strict=True))
    names = _plugins(files[FILES[0]])
    require_plugins(names, source=folder)
    return EmbeddedModel(hashlib.sha256(b"".join(files.values())).hexdigest(), files, names)


def load_cached(model: Model, device: str, engine: str = "torch") -> "GAN":
    """Returns the GAN of ``model``, loaded once in this process until its files change.

    Args:
        model: A run folder, or the result of ``shipped`` or ``embed``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        engine: Engine that will run it.

    Raises:
        CheckpointError: a file is missing on this worker, damaged or of a later version.
        RunError: the device does not exist, or a plugin is not installed on this worker.
    """
    torch_device = _device(device, engine)
    if isinstance(model, EmbeddedModel):
        return _unpacked(model, torch_device)
    if isinstance(model, ModelFolder):
        import_plugins(model.plugins)
        model = model.path
    folder = sources.local_folder(model)
    paths = _gan_files(folder)
    return _loaded(
        os.fspath(folder), tuple(path.stat().st_mtime_ns for path in paths), torch_device
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Context manager that limits torch to one CPU thread: a chunk is the work of one core, and the executor's workers run in parallel."""
    import torch  # imported here throughout this package: it takes a second and is needed only to generate

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _gan_files(folder: str | os.PathLike[str]) -> tuple[Path, ...]:
    if name := pretrained.find(folder):
        return pretrained.files(name)
    paths = tuple(gan_folder(folder) / name for name in FILES)
    for path in paths:
        if not path.is_file():
            raise CheckpointError(
                f"{path} does not exist on {platform.node()}; pass the folder of a finished run that every worker "
                "can read, or processors.embed(folder), which is shipped with the job"
            )
    return paths


@functools.lru_cache(maxsize=CACHE_SIZE)
def _loaded(folder: str, stamp: tuple[int, ...], device: str) -> "GAN":
    from hepgan.gan.model import GAN

    return GAN.load(folder, device=device)


@functools.lru_cache(maxsize=CACHE_SIZE)
def _unpacked(model: EmbeddedModel, device: str) -> "GAN":
    from hepgan.gan.model import GAN

    import_plugins(model.plugins)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in model.files.items():
            write_bytes(Path(folder, name), content)
        return GAN.load(folder, device=device)


def _plugins(metadata: bytes) -> tuple[str, ...]:
    """Returns the plugins that ``gan.json`` names; damage to the file is reported when it is loaded."""
    try:
        table = json.loads(metadata)
    except (ValueError, RecursionError):
        return ()
    names = table.get("plugins", []) if isinstance(table, dict) else []
    return tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else ()


def _device(name: str, engine: str) -> str:
    """Returns ``name`` as torch spells it; ``auto`` is a GPU where there is one, and distributes processes over several GPUs."""
    from hepgan.gan.devices import gpus, resolve_device
    from hepgan.gan.engines import device_for

    name = device_for(engine, name)
    if name == "auto":
        return f"cuda:{os.getpid() % count}" if (count := gpus()) else "cpu"
    try:
        return str(resolve_device(name))
    except RunError as error:
        raise RunError(f"{error} (on {platform.node()})") from error
