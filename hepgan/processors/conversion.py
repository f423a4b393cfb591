"""``convert``: files of other formats to ROOT, a file on each worker."""

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import awkward as ak

from hepgan.data.convert import convert as convert_alone
from hepgan.data.convert import converter, group_sources
from hepgan.data.convert.common import with_scalar_branches
from hepgan.data.io import reader
from hepgan.data.io.writer import Format, write
from hepgan.data.schema import Schema
from hepgan.errors import NoEventsError
from hepgan.processors.executors import MapItems
from hepgan.processors.simulate_files import parts_for


def convert(
    kind: str,
    sources: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    spread: MapItems,
    *,
    pixel_branches: bool = False,
    format: Format = "TTree",
) -> int:
    """As ``hepgan.data.convert.convert``, with the source files on the workers of an executor.

    A file is the smallest part; MNIST, which is two that belong together, is one. Workers write beside ``output``, which they
    must see; for a name that ends with ``.root`` their files become one, in the order of the sources, which only this process writes.

    Args:
        kind: As there.
        sources: As there.
        output: A new file, or a new or empty folder for a file a source.
        spread: What ``spreading`` gives.
        pixel_branches: As there.
        format: As there.

    Returns:
        How many files were written by workers.

    Raises:
        DataError: as there, or no source has events.
    """
    paths = [Path(source).absolute() for source in sources]
    found = converter(kind)(paths)  # lazy: tells what is wrong before workers start
    whole = with_scalar_branches(found) if pixel_branches else found.schema
    groups = list(enumerate(group_sources(kind, paths)))
    with parts_for(output) as (target, folder):
        single = folder != target
        one = functools.partial(
            _converted, kind=kind, folder=folder,
            pixel_branches=pixel_branches and not single, format="TTree" if single else format,
        )  # fmt: skip
        made = sorted(spread(one, groups))
        if not made:
            raise NoEventsError("the sources hold no events; there is nothing to write")
        if single:
            write(
                target,
                _events(made, found.schema, found.tree),
                whole,
                tree=found.tree,
                format=format,
            )
    return len(made)


def _converted(
    group: tuple[int, Sequence[Path]],
    *,
    kind: str,
    folder: Path,
    pixel_branches: bool,
    format: Format,
) -> dict[str, int]:
    """Converts one group; the file's name starts with its number, as two sources may have one name."""
    number, sources = group
    path = folder / f"{number:05d}-{sources[0].name.partition('.')[0]}.root"
    try:
        convert_alone(
            kind, sources, path, pixel_branches=pixel_branches, format=format, overwrite=True
        )
    except NoEventsError:
        return {}  # a file without events contributes none
    return {str(path): 1}


def _events(paths: Sequence[str], schema: Schema, tree: str) -> Iterator[ak.Array]:
    for path in paths:
        for chunk in reader.iterate(path, schema, tree=tree, check=False):
            yield chunk.events
