"""Conversion of other formats to ROOT: ``convert(kind, sources, path)``, one module per format, and ``fetch`` to download data sets."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from hepgan.data.convert import calochallenge, calogan, lemurs, mnist, par04
from hepgan.data.convert.common import Conversion, with_scalar_branches
from hepgan.data.convert.download import fetch
from hepgan.data.io.writer import Format, check_output, write
from hepgan.data.schema import Schema
from hepgan.errors import DataError, did_you_mean

__all__ = ["CONVERTERS", "Conversion", "convert", "fetch", "get_converter", "group_sources"]

CONVERTERS = {
    "mnist": mnist.digits,
    "calogan": calogan.showers,
    "calochallenge": calochallenge.showers,
    "par04": par04.showers,
    "lemurs": lemurs.showers,
}


def convert(
    kind: str,
    sources: Sequence[str | os.PathLike[str]],
    path: str | os.PathLike[str],
    *,
    pixel_branches: bool = False,
    format: Format = "TTree",
    overwrite: bool = False,
) -> Schema:
    """Converts files of another format to one ROOT file, in bounded memory.

    Args:
        kind: ``mnist`` (IDX images and, optionally, labels), ``calogan`` (HDF5 or ROOT files), ``calochallenge`` (HDF5
            files and the binning XML), ``par04`` (ROOT files) or ``lemurs`` (HDF5 files).
        sources: Files to convert.
        path: ROOT file to write.
        pixel_branches: Write a scalar branch for every value of an array.
        format: TTree or RNTuple.
        overwrite: Replace an existing file.

    Returns:
        The schema of the ROOT file, for a run file.

    Raises:
        DataError: the kind is unknown, a source is missing, damaged or of the wrong shape, or ``path`` exists.
    """
    read = get_converter(kind)
    check_output(path, overwrite=overwrite)
    result = read([Path(source) for source in sources])
    schema = with_scalar_branches(result) if pixel_branches else result.schema
    write(path, result.chunks, schema, tree=result.tree, format=format, overwrite=overwrite)
    return schema


def get_converter(kind: str) -> Callable[[Sequence[Path]], Conversion]:
    """Returns the converter of a kind.

    Raises:
        DataError: the kind is unknown.
    """
    if kind not in CONVERTERS:
        known = ", ".join(CONVERTERS)
        raise DataError(
            f"cannot convert '{kind}'; the known formats are: {known}{did_you_mean(kind, CONVERTERS)}"
        )
    return CONVERTERS[kind]


def group_sources(kind: str, sources: Sequence[Path]) -> list[list[Path]]:
    """Groups sources that can be converted separately: one file each, with the binning if there is one; digits with their labels."""
    if kind == "mnist":
        return [list(sources)]
    binnings = [source for source in sources if source.suffix.lower() == ".xml"]
    return [[source, *binnings] for source in sources if source not in binnings]
