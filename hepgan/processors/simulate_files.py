"""``simulate``: showers for the particles of files, with any executor, into one file or into a folder of parts."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from hepgan.atomic import hidden_folder, is_part, os_errors_as_run_error, remove_stale_parts
from hepgan.data.io import reader
from hepgan.data.io.files import Files
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError
from hepgan.processors.chunk_results import ChunkId
from hepgan.processors.executors import RunProcessor, fileset_of
from hepgan.processors.model_cache import embed, loaded
from hepgan.processors.outputs import WriteFiles, beside, part_name, particle_schema
from hepgan.processors.particles import Outside
from hepgan.processors.simulation import Reading, Simulate

FILE = {"file": Field(dtype="int32")}
"""What a shower in a merged file says beside its entry: the number of the file, in the order of names."""


def simulate(
    folder: str | os.PathLike[str],
    files: Files,
    output: str | os.PathLike[str],
    job: RunProcessor,
    *,
    seed: int,
    conditions: Mapping[str, Reading],
    tree: str | None = None,
    outside: Outside = "refuse",
    skipbadfiles: bool = False,
    device: str = "auto",
) -> int:
    """Showers for the particles of ``files``, an entry for each, with the branches ``entry``, ``particle`` and, if flagged, ``inside``.

    The GAN travels with the job. Workers write parts beside ``output``, which they must see; for a name that ends with ``.root`` these
    become one file by file, entry and particle, which has a branch ``file`` too: the number of the file, or of the tree where files
    have several, in the order of names.

    Args:
        folder: A run folder.
        files: As for ``hepgan.read``.
        output: A new file, or a new or empty folder for parts.
        job: What ``running`` gives.
        seed: Of the noise.
        conditions: Where the GAN's conditions are, as in ``Simulate``.
        tree: The tree, where a file has several.
        outside: As in ``Simulate``.
        skipbadfiles: Leave out files that cannot be opened, with a warning each.
        device: Of each worker.

    Returns:
        How many showers were written.

    Raises:
        HepganError: no GAN, bad files, particles that it is not made for, or an output that exists.
    """
    with parts_for(output) as (target, parts):
        carried = embed(folder)
        gan, fileset = loaded(carried, "cpu"), fileset_of(files, tree=tree, skip=skipbadfiles)
        written = particle_schema(gan.encoding.schema, flagged=outside == "flag")
        whole = beside(written, FILE)
        reader.check_names(whole)
        name = next(iter(fileset["events"]["files"].values())).partition(";")[0].rpartition("/")[2]
        then = WriteFiles(str(parts), gan.encoding.schema, name, showers=True)
        found: dict[str, int] = job(
            fileset,
            Simulate(carried, then=then, seed=seed, conditions=conditions, outside=outside, device=device),
        )  # fmt: skip
        if not found:
            raise DataError("the files hold no particles; there is nothing to write")
        if parts != target:
            _merge(found, fileset, (written, whole), target, name)
    return sum(found.values())


@contextlib.contextmanager
def parts_for(output: str | os.PathLike[str]) -> Iterator[tuple[Path, Path]]:
    """What is made, and where workers write its parts: into a folder, or, for one ROOT file, beside it until they are merged.

    Raises:
        DataError: the file exists, the folder holds something, or there is no place for either.
        RunError: the system cannot make the folder.
    """
    target = Path(output).absolute()
    if not target.parent.is_dir():
        raise DataError(f"cannot write '{target}': there is no folder '{target.parent}'")
    if target.suffix == ".root":
        if target.exists():
            raise DataError(f"'{target}' exists; name another file or remove it")
        with hidden_folder(target) as parts:
            yield target, parts
        return
    if target.exists() and not (target.is_dir() and all(map(is_part, target.iterdir()))):
        raise DataError(f"'{target}' is no new or empty folder; name another one")
    with os_errors_as_run_error(target):
        target.mkdir(exist_ok=True)
    try:
        remove_stale_parts(target)
        yield target, target
    finally:
        remove_stale_parts(target)  # what workers that were ended have left


def _merge(
    parts: Mapping[str, int],
    fileset: Mapping[str, Any],
    schemas: tuple[Schema, Schema],
    target: Path,
    tree: str,
) -> None:
    """The parts in one file, in an order that is always the same; ``schemas`` are those of a part and of the file."""
    written, whole = schemas
    trees = [(file, its, name) for name, d in fileset.items() for file, its in d["files"].items()]
    numbers = {}
    for i, (file, its, name) in enumerate(sorted(trees)):
        numbers[part_name(ChunkId(name, file, its, "", 0)).rpartition("-")[0]] = i
    ordered = sorted((numbers[Path(path).stem.rpartition("-")[0]], path) for path in parts)

    def events() -> Iterator[ak.Array]:
        for number, path in ordered:
            for chunk in reader.iterate(path, written, tree=tree, check=False):
                made = chunk.events
                made["file"] = np.full(len(made), number, dtype=np.int32)
                yield made

    reader.write(target, events(), whole, tree=tree)
