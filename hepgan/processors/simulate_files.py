"""``simulate``: showers for the particles of files, with any executor, into one file or a folder of parts."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import awkward as ak
import numpy as np

from hepgan.atomic import hidden_folder, is_part, os_errors_as_run_error, remove_stale_parts
from hepgan.data.io import reader
from hepgan.data.io.files import Files
from hepgan.data.io.reader import ReadOptions
from hepgan.data.io.writer import check_names, check_output, write
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError
from hepgan.gan.engines import EngineName
from hepgan.gan.members import count_members
from hepgan.processors.chunk_results import ChunkId
from hepgan.processors.executors import RunProcessor, fileset_of
from hepgan.processors.model_cache import embed, load_cached
from hepgan.processors.outputs import WriteFiles, add_fields, part_name, particle_schema
from hepgan.processors.particles import OutOfRange
from hepgan.processors.simulation import ConditionSource, Simulate

FILE = {"file": Field(dtype="int32")}
"""Column of a merged file that numbers the source file of a shower, in the order of names."""


def simulate(
    folder: str | os.PathLike[str],
    files: Files,
    output: str | os.PathLike[str],
    runner: RunProcessor,
    *,
    seed: int,
    conditions: Mapping[str, ConditionSource],
    tree: str | None = None,
    copies: int = 1,
    member: int | Literal["all"] | None = None,
    out_of_range: OutOfRange = "raise",
    on_bad_file: reader.OnBadFile = "raise",
    device: str = "auto",
    engine: EngineName = "torch",
    overwrite: bool = False,
) -> int:
    """Simulates the particles of ``files``, one entry each, with the branches ``entry``, ``particle``, ``copy`` (of several) and ``inside`` (if flagged).

    The GAN is shipped with the job. Workers write parts next to ``output``, in a folder that they must be able to reach. If ``output``
    ends with ``.root``, the parts are merged into one file, ordered by file, entry, particle and copy, with an additional branch ``file``: the
    number of the file (of the tree, if files have several) in the order of names.

    Args:
        folder: A run folder.
        files: As for ``hepgan.read``.
        output: A file, or a new or empty folder for parts.
        runner: The runner that ``open_runner`` yields.
        seed: Seed of the noise.
        conditions: Branches of the GAN's conditions, as in ``Simulate``.
        tree: The tree, if a file has several.
        copies: Number of showers of each particle, as in ``Simulate``.
        member: Member of an ensemble, by default the first; ``"all"`` draws the showers evenly from all of them, and writes the branch
            ``member``.
        out_of_range: As in ``Simulate``.
        on_bad_file: ``"skip"`` leaves out files that cannot be opened, with a warning each.
        device: Device of each worker.
        engine: As in ``Simulate``.
        overwrite: Whether to replace an existing file.

    Returns:
        Number of showers written.

    Raises:
        HepganError: there is no GAN, files are bad, particles are out of its range, or the output exists.
    """
    with parts_for(output, overwrite=overwrite) as (target, parts):
        members = count_members(folder) if member == "all" else 0
        embedded = (
            [embed(folder, member=number) for number in range(members)]
            or [embed(folder, member=None if member == "all" else member)]
        )  # fmt: skip
        gan, fileset = (
            load_cached(embedded[0], "cpu"),
            fileset_of(files, tree=tree, on_bad_file=on_bad_file),
        )
        written = particle_schema(
            gan.encoding.schema,
            flagged=out_of_range == "flag",
            copied=copies > 1,
            mixed=members > 0,
        )
        whole = add_fields(written, FILE)
        check_names(whole)
        name = next(iter(fileset["events"]["files"].values())).partition(";")[0].rpartition("/")[2]
        writer = WriteFiles(str(parts), gan.encoding.schema, name, showers=True)
        parts_written: dict[str, int] = runner(
            fileset,
            Simulate(embedded if members else embedded[0], output=writer, seed=seed, conditions=conditions, out_of_range=out_of_range, device=device, engine=engine, copies=copies),
        )  # fmt: skip
        if not parts_written:
            raise DataError("the files hold no particles; there is nothing to write")
        if parts != target:
            _merge(parts_written, fileset, (written, whole), target, name, overwrite=overwrite)
    return sum(parts_written.values())


@contextlib.contextmanager
def parts_for(
    output: str | os.PathLike[str], *, overwrite: bool = False
) -> Iterator[tuple[Path, Path]]:
    """Context manager that yields the output and the folder for workers' parts: the output itself, or a hidden one next to a single ROOT file.

    Raises:
        DataError: the file exists and must not be overwritten, it is not a ROOT file, the folder is not empty, or its parent does
            not exist.
        RunError: the folder cannot be created.
    """
    target = Path(output).absolute()
    if not target.parent.is_dir():
        raise DataError(f"cannot write '{target}': the folder '{target.parent}' does not exist")
    if target.suffix == ".root":
        check_output(target, overwrite=overwrite)
        with hidden_folder(target) as parts:
            yield target, parts
        return
    if not target.is_dir() and target.suffix[1:2].isalpha():
        raise DataError(
            f"'{target}' does not end with .root; write {target.with_suffix('.root').name} for one file, or a name without"
            f" {target.suffix} for a folder of parts"
        )
    if target.exists() and not (target.is_dir() and all(map(is_part, target.iterdir()))):
        raise DataError(f"'{target}' is not a new or empty folder; choose another one")
    with os_errors_as_run_error(target):
        target.mkdir(exist_ok=True)
    try:
        remove_stale_parts(target)
        yield target, target
    finally:
        remove_stale_parts(target)  # left by workers that were stopped


def _merge(
    parts: Mapping[str, int],
    fileset: Mapping[str, Any],
    schemas: tuple[Schema, Schema],
    target: Path,
    tree: str,
    *,
    overwrite: bool,
) -> None:
    """Merges the parts into one file in a fixed order; ``schemas`` are those of a part and of the file."""
    written, whole = schemas
    trees = [
        (file, tree_name, dataset)
        for dataset, spec in fileset.items()
        for file, tree_name in spec["files"].items()
    ]
    numbers = {}
    for i, (file, tree_name, dataset) in enumerate(sorted(trees)):
        numbers[part_name(ChunkId(dataset, file, tree_name, "", 0)).rpartition("-")[0]] = i
    ordered = sorted((numbers[Path(path).stem.rpartition("-")[0]], path) for path in parts)

    def events() -> Iterator[ak.Array]:
        for number, path in ordered:
            for chunk in reader.iterate(path, written, options=ReadOptions(tree=tree, check=False)):
                showers = chunk.events
                showers["file"] = np.full(len(showers), number, dtype=np.int32)
                yield showers

    write(target, events(), whole, tree=tree, overwrite=overwrite)
