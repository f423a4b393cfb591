"""ROOT files to awkward events: at once, or in chunks of whole baskets or clusters.

``read`` for what fits in memory, ``iterate`` for what does not, ``resolve`` for what the file says about a schema, ``write``
for the way back, ``inspect`` for a look.
"""

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import awkward as ak

from hepgan.data.io.branches import Index, index_of, resolve_schema
from hepgan.data.io.chunks import Chunk, ReadRequest, chunks_of
from hepgan.data.io.files import Files, Source, opened_source, reading, sources
from hepgan.data.io.selection import Selection
from hepgan.data.io.writer import check_names, write
from hepgan.data.schema import Schema
from hepgan.errors import BadFileError, DataError, NoEventsError

__all__ = [
    "Chunk",
    "check_names",
    "counts",
    "first_tree",
    "iterate",
    "read",
    "resolve",
    "sources",
    "tree_name",
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
    """All events of ``files``, in order. Trees without entries contribute none.

    Args:
        files: A path, ``path:tree``, ``sample:showers.root``, a glob, a URL, a list of them, or a fileset.
        schema: What is read.
        tree: The tree where a file does not name one; not needed where there is only one.
        select: An expression of branches, ``"(energy > 10) & (pdg == -11)"``; where it is false an event is left out.
        weight: An expression of branches that becomes the events' field ``weight``; may be negative.
        stop: At most so many events.
        on_bad_file: ``"skip"`` leaves out files that cannot be opened, with a warning each. Damage that is found later, in the
            events, is an error all the same, as are missing branches: nobody would see which events are missing.
        check: Look for NaN, infinity and integers that float32 cannot hold.

    Returns:
        A record array of the schema's fields. Its ``attrs`` hold ``files``, the number of events by path, and ``skipped``, the
        reason by path of what was left out. A field with ``fill`` comes with its count, ``n_<field>``.

    Raises:
        DataError: a file, tree or branch is missing, does not fit the schema, or holds NaN, infinity or too large integers; or no
            tree has entries.
    """
    skipped: dict[str, str] = {}
    parts: dict[str, list[ak.Array]] = {}
    for chunk in iterate(
        files, schema, tree=tree, step=None, select=select, weight=weight, stop=stop,
        on_bad_file=on_bad_file, skipped=skipped, check=check,
    ):  # fmt: skip
        parts.setdefault(chunk.file, []).append(chunk.events)
    found = [part for several in parts.values() for part in several]
    events = found[0] if len(found) == 1 else ak.concatenate(found)
    if len(events) == 0:
        raise DataError(f"the selection '{select}' keeps no event of {', '.join(parts)}; loosen it")
    events.attrs["files"] = {path: sum(map(len, several)) for path, several in parts.items()}
    events.attrs["skipped"] = skipped
    return events


def nothing_in(trees: Sequence[Source], skipped: Mapping[str, str]) -> DataError:
    """Returns the error to raise where no tree has an entry, or all files were left out."""
    if skipped and len(skipped) == len({source.path for source in trees}):
        first = next(iter(skipped.values()))
        return DataError(f"none of the {len(skipped)} files can be read; the first: {first}")
    empty = [source for source in trees if source.path not in skipped]
    several = f", nor does any other of the {len(empty)} trees" if len(empty) > 1 else ""
    name = f"tree '{empty[0].tree}' of " if empty[0].tree else ""
    return NoEventsError(f"{name}'{empty[0].path}' has no entries{several}; give files with some")


def iterate(
    files: Files,
    schema: Schema,
    *,
    tree: str | None = None,
    step: int | str | None = "50 MB",
    select: str | None = None,
    weight: str | None = None,
    stop: int | None = None,
    on_bad_file: OnBadFile = "raise",
    skipped: dict[str, str] | None = None,
    check: bool = True,
) -> Iterator[Chunk]:
    """The events of ``files`` in order, in chunks of whole baskets or clusters of about ``step``.

    The options are those of ``read``; ``step`` is a number of entries or a size in memory (``"50 MB"``), or ``None`` for one chunk
    a tree. With ``on_bad_file="skip"`` the reason why a file was left out is put into ``skipped`` under its path.

    Raises:
        DataError: as ``read``.
    """
    wanted = wanted_of(schema, select, weight, check=check)
    _check_stop(stop)
    found, skipped = sources(files, tree=tree), {} if skipped is None else skipped
    seen: dict[str, Schema] = {}
    left, any_entries = stop, False
    for source in found:
        try:
            for chunk in chunks_of(source, wanted, step=step, stop=left, seen=seen):
                any_entries = True
                yield chunk
                left = None if left is None else left - len(chunk.events)
        except BadFileError as error:
            skipped[source.path] = _skip(error, on_bad_file)
        if left == 0:
            return
    if not any_entries:
        raise nothing_in(found, skipped)


class FirstTree(NamedTuple):
    """The first tree that has entries, open: its source with the tree's name, and the places of its branches."""

    source: Source
    places: Index

    def resolve(self, schema: Schema) -> Schema:
        """As ``root.resolve``."""
        return resolve_schema(schema, self.places, self.source.path)


@contextlib.contextmanager
def first_tree(files: Files, *, tree: str | None = None) -> Iterator[FirstTree]:
    """Context manager that opens the first tree of ``files`` that has entries.

    Raises:
        DataError: a file or tree is missing or bad, or no tree has entries.
    """
    found = sources(files, tree=tree)
    for source in found:
        with opened_source(source) as (its, name, entries):
            if entries:
                with reading(source.path):
                    index = index_of(its)
                yield FirstTree(Source(source.path, name), index)
                return
    raise nothing_in(found, {})


def resolve(files: Files, schema: Schema, *, tree: str | None = None) -> Schema:
    """``schema`` with branches, dtype and stored shape as they are in the first of ``files`` that has entries.

    Raises:
        DataError: the file, tree or a branch is missing or does not fit, or no file has entries.
    """
    with first_tree(files, tree=tree) as first:
        return first.resolve(schema)


def tree_name(files: Files, *, tree: str | None = None) -> str:
    """The name of the first tree that has entries, with its folders, without its cycle."""
    with first_tree(files, tree=tree) as first:
        return str(first.source.tree).partition(";")[0]


def counts(files: Files, *, tree: str | None = None) -> dict[str, int]:
    """Path -> number of entries, for every file of ``files``; those of several trees of a file together."""
    found: dict[str, int] = {}
    for source in sources(files, tree=tree):
        with opened_source(source) as (_, _, entries):
            found[source.path] = found.get(source.path, 0) + entries
    return found


def _check_stop(stop: int | None) -> None:
    if stop is not None and stop < 1:
        raise DataError(f"stop = {stop} is no number of events; give 1 or more")


def wanted_of(
    schema: Schema, select: str | None, weight: str | None, *, check: bool = True
) -> ReadRequest:
    """What is read from every file; the expressions are parsed.

    Raises:
        DataError: an expression does not parse, or the schema has a field ``weight`` beside the weights.
    """
    if weight and "weight" in schema.all:
        raise DataError(
            "the events' weights would be their field 'weight', which is one of the schema; give that another name and "
            "branches = ['weight'], or no weight"
        )
    return ReadRequest(
        schema,
        Selection.parse(select, "selection") if select else None,
        Selection.parse(weight, "weight") if weight else None,
        check,
    )


def _skip(error: BadFileError, on_bad_file: OnBadFile) -> str:
    if on_bad_file == "raise":
        raise error
    warnings.warn(f"file left out: {error}", stacklevel=3)
    return str(error)
