"""``convert``: conversion of other formats to ROOT, one source file per worker."""

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import awkward as ak

from hepgan.data.convert import convert as convert_alone
from hepgan.data.convert import get_converter, group_sources
from hepgan.data.convert.common import with_scalar_branches
from hepgan.data.io import reader
from hepgan.data.io.reader import ReadOptions
from hepgan.data.io.writer import Format, write
from hepgan.data.schema import Schema
from hepgan.errors import NoEventsError
from hepgan.processors.executors import MapItems
from hepgan.processors.simulate_files import parts_for


def convert(
    kind: str,
    sources: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    mapper: MapItems,
    *,
    pixel_branches: bool = False,
    format: Format = "TTree",
    overwrite: bool = False,
) -> int:
    """Converts as ``hepgan.data.convert.convert`` does, with the source files distributed over the workers of an executor.

    The unit of work is a file; the two files of MNIST are one unit. Workers write next to ``output``, in a folder that they must be able to
    reach. If ``output`` ends with ``.root``, this process then merges their files into one, in the order of the sources.

    Args:
        kind: Format of the sources, as in ``hepgan.data.convert.convert``.
        sources: Files to convert.
        output: A ROOT file, or a new or empty folder that receives one file per source.
        mapper: The mapper that ``open_mapper`` yields.
        pixel_branches: Whether every value gets a scalar branch.
        format: Format of the output.
        overwrite: Whether to replace an existing file.

    Returns:
        Number of files written by workers.

    Raises:
        DataError: as ``hepgan.data.convert.convert``, or no source has events.
    """
    paths = [Path(source).absolute() for source in sources]
    converted = get_converter(kind)(paths)  # lazy; checks the sources before workers start
    whole = with_scalar_branches(converted) if pixel_branches else converted.schema
    groups = list(enumerate(group_sources(kind, paths)))
    with parts_for(output, overwrite=overwrite) as (target, folder):
        single = folder != target
        one = functools.partial(
            _converted, kind=kind, folder=folder,
            pixel_branches=pixel_branches and not single, format="TTree" if single else format,
        )  # fmt: skip
        parts = sorted(mapper(one, groups))
        if not parts:
            raise NoEventsError("the sources hold no events; there is nothing to write")
        if single:
            write(
                target,
                _events(parts, converted.schema, converted.tree),
                whole,
                tree=converted.tree,
                format=format,
                overwrite=overwrite,
            )
    return len(parts)


def _converted(
    group: tuple[int, Sequence[Path]],
    *,
    kind: str,
    folder: Path,
    pixel_branches: bool,
    format: Format,
) -> dict[str, int]:
    """Converts one group; its file's name starts with its number, since two sources may have the same name."""
    number, sources = group
    path = folder / f"{number:05d}-{sources[0].name.partition('.')[0]}.root"
    try:
        convert_alone(
            kind, sources, path, pixel_branches=pixel_branches, format=format, overwrite=True
        )
    except NoEventsError:
        return {}  # empty sources contribute nothing
    return {str(path): 1}


def _events(paths: Sequence[str], schema: Schema, tree: str) -> Iterator[ak.Array]:
    for path in paths:
        for chunk in reader.iterate(path, schema, options=ReadOptions(tree=tree, check=False)):
            yield chunk.events
