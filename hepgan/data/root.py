"""ROOT files to awkward events: at once, or in chunks of whole baskets or clusters.

``read`` for what fits in memory, ``iterate`` for what does not, ``resolve`` for what the file says about a schema, ``write``
for the way back, ``inspect`` for a look.
"""

import warnings
from collections.abc import Iterator, Mapping
from typing import Literal

import awkward as ak

from hepgan.data.branches import resolve_schema
from hepgan.data.chunks import Chunk, Wanted, chunks_of
from hepgan.data.files import Files, find_tree, opened, reading, sources
from hepgan.data.inspect import as_text, inspect, propose
from hepgan.data.schema import Schema
from hepgan.data.select import Selection
from hepgan.data.write import write
from hepgan.errors import DataError

__all__ = [
    "Chunk",
    "as_text",
    "counts",
    "inspect",
    "iterate",
    "propose",
    "read",
    "resolve",
    "sources",
    "write",
]

OnBadFile = Literal["raise", "skip"]


def read(
    files: Files,
    schema: Schema,
    *,
    tree: str | None = None,
    select: str | None = None,
    weight: str | None = None,
    stop: int | None = None,
    on_bad_file: OnBadFile = "raise",
    check: bool = True,
) -> ak.Array:
    """All events of ``files``, in order.

    Args:
        files: A path, ``path:tree``, ``sample:showers.root``, a glob, a URL, a list of them, or a fileset.
        schema: What is read.
        tree: The tree where a file does not name one; not needed where there is only one.
        select: An expression of branches, ``"(energy > 10) & (pdg == -11)"``; where it is false an event is left out.
        weight: An expression of branches that becomes the events' field ``weight``; may be negative.
        stop: At most so many events.
        on_bad_file: ``"skip"`` leaves out files that cannot be read, with a warning each.
        check: Look for NaN, infinity and integers that float32 cannot hold.

    Returns:
        A record array of the schema's fields. Its ``attrs`` hold ``files``, the number of events by path, and ``skipped``, the
        reason by path of what was left out. A field with ``fill`` comes with its counts, ``n_<field>``.

    Raises:
        DataError: a file, tree or branch is missing, does not fit the schema, or holds NaN, infinity or too large integers.
    """
    wanted = wanted_of(schema, select, weight, check=check)
    _check_stop(stop)
    seen: dict[str, Schema] = {}
    skipped: dict[str, str] = {}
    parts: dict[str, list[ak.Array]] = {}
    left = stop
    for source in sources(files, tree=tree):
        try:
            chunks = chunks_of(source, wanted, step=None, stop=left, seen=seen)
            found = [chunk.events for chunk in chunks]
        except DataError as error:
            skipped[source.path] = _skip(error, on_bad_file)
            continue
        parts.setdefault(source.path, []).extend(found)
        left = None if left is None else left - sum(map(len, found))
        if left == 0:
            break
    return _joined(parts, skipped, select)


def _joined(
    parts: dict[str, list[ak.Array]], skipped: dict[str, str], select: str | None
) -> ak.Array:
    if not parts:
        raise none_left(skipped)
    found = [part for several in parts.values() for part in several]
    events = found[0] if len(found) == 1 else ak.concatenate(found)
    if len(events) == 0:
        raise DataError(f"the selection '{select}' keeps no event of {', '.join(parts)}; loosen it")
    events.attrs["files"] = {path: sum(map(len, several)) for path, several in parts.items()}
    events.attrs["skipped"] = skipped
    return events


def none_left(skipped: Mapping[str, str]) -> DataError:
    """What to raise where all files were left out."""
    first = next(iter(skipped.values()))
    return DataError(f"none of the {len(skipped)} files can be read; the first: {first}")


def iterate(
    files: Files,
    schema: Schema,
    *,
    tree: str | None = None,
    step: int | str = "50 MB",
    select: str | None = None,
    weight: str | None = None,
    stop: int | None = None,
    on_bad_file: OnBadFile = "raise",
    skipped: dict[str, str] | None = None,
    check: bool = True,
) -> Iterator[Chunk]:
    """The events of ``files`` in order, in chunks of whole baskets or clusters of about ``step``.

    The options are those of ``read``; ``step`` is a number of entries or a size in memory (``"50 MB"``). With
    ``on_bad_file="skip"``, what a file gave before it turned out to be bad has been given, and the reason why a file was left
    out is put into ``skipped`` under its path.

    Raises:
        DataError: as ``read``.
    """
    wanted = wanted_of(schema, select, weight, check=check)
    _check_stop(stop)
    seen: dict[str, Schema] = {}
    left = stop
    for source in sources(files, tree=tree):
        try:
            for chunk in chunks_of(source, wanted, step=step, stop=left, seen=seen):
                yield chunk
                left = None if left is None else left - len(chunk.events)
        except DataError as error:
            reason = _skip(error, on_bad_file)
            if skipped is not None:
                skipped[source.path] = reason
        if left == 0:
            return


def resolve(files: Files, schema: Schema, *, tree: str | None = None) -> Schema:
    """``schema`` with branches, dtype and stored shape as they are in the first of ``files``.

    Raises:
        DataError: the file, tree or a branch is missing or does not fit.
    """
    source = sources(files, tree=tree)[0]
    with opened(source.path) as file:
        return resolve_schema(schema, find_tree(file, source), source.path)


def counts(files: Files, *, tree: str | None = None) -> dict[str, int]:
    """Path -> number of entries, for every file of ``files``; those of several trees of a file together."""
    found: dict[str, int] = {}
    for source in sources(files, tree=tree):
        with opened(source.path) as file:
            found_tree = find_tree(file, source)
            with reading(source.path):
                entries = int(found_tree.num_entries)
        found[source.path] = found.get(source.path, 0) + entries
    return found


def _check_stop(stop: int | None) -> None:
    if stop is not None and stop < 1:
        raise DataError(f"stop = {stop} is no number of events; give 1 or more")


def wanted_of(
    schema: Schema, select: str | None, weight: str | None, *, check: bool = True
) -> Wanted:
    """What is read from every file; the expressions are parsed.

    Raises:
        DataError: an expression does not parse.
    """
    return Wanted(
        schema,
        Selection.parse(select, "selection") if select else None,
        Selection.parse(weight, "weight") if weight else None,
        check,
    )


def _skip(error: DataError, on_bad_file: OnBadFile) -> str:
    if on_bad_file == "raise":
        raise error
    warnings.warn(f"file left out: {error}", stacklevel=3)
    return str(error)
