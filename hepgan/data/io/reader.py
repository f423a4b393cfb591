"""ROOT files to awkward events.

| to | use |
|---|---|
| read what fits in memory | ``read`` |
| read what does not | ``iterate`` |
| complete a schema with the types and shapes of a file | ``resolve`` |
"""

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import awkward as ak

from hepgan.data.io.branches import BranchIndex, index_branches, resolve_schema
from hepgan.data.io.chunks import (
    Chunk,
    ReadRequest,
    Reweight,
    chunk_ranges,
    open_tree,
    read_entries,
)
from hepgan.data.io.files import Files, Source, data_errors, open_source, sources
from hepgan.data.schema import Schema
from hepgan.errors import BadFileError, DataError, NoEventsError

OnBadFile = Literal["raise", "skip"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Options of every function that reads events.

    Attributes:
        tree: Tree in the files that do not name one; not needed if a file has only one.
        cut: Expression of branches, ``"(energy > 10) & (pdg == -11)"``; events for which it is false are dropped.
        weight: Expression of branches that becomes the field ``weight`` of the events; may be negative.
        entry_stop: Number of entries to read in all files together, before the cut; ``None`` for all.
        on_bad_file: ``"skip"`` leaves out files that cannot be opened, with a warning each. Damage that is found only when events
            are read is still an error, and so are missing branches: otherwise nobody would know which events are missing.
        check: Raise an error for NaN, infinity and integers that float32 cannot represent.
        reweight: Factors of the weights by file and entry, such as ``splits.Bootstrap``; events without a weight get them as weights.
    """

    tree: str | None = None
    cut: str | None = None
    weight: str | None = None
    entry_stop: int | None = None
    on_bad_file: OnBadFile = "raise"
    check: bool = True
    reweight: Reweight | None = None

    def __post_init__(self) -> None:
        if self.entry_stop is not None and self.entry_stop < 1:
            raise DataError(
                f"entry_stop = {self.entry_stop} is not a number of entries; use 1 or more"
            )

    def request(self, schema: Schema) -> ReadRequest:
        """Returns the request to read ``schema``, with the expressions parsed.

        Raises:
            DataError: as ``ReadRequest.parse``.
        """
        return ReadRequest.parse(
            schema, cut=self.cut, weight=self.weight, check=self.check, reweight=self.reweight
        )


DEFAULTS = ReadOptions()


def read(
    files: Files,
    schema: Schema,
    *,
    tree: str | None = None,
    cut: str | None = None,
    weight: str | None = None,
    entry_stop: int | None = None,
    on_bad_file: OnBadFile = "raise",
    check: bool = True,
) -> ak.Array:
    """Returns the events of ``files``, in order. Trees without entries contribute none.

    >>> schema = Schema.infer("sample:showers.root")
    >>> events = read("sample:showers.root", schema, cut="energy > 50", entry_stop=100)
    >>> len(events), str(events.layer_0.type)
    (54, '54 * 3 * 96 * float32')

    Args:
        files: A path, ``"file.root:tree"``, ``"sample:showers.root"``, a glob, a URL, a list of these, or a fileset.
        schema: Fields and conditions to read.
        tree: See ``ReadOptions``, also for the options that follow.
        cut: Expression of branches that selects events.
        weight: Expression of branches that becomes the field ``weight``.
        entry_stop: Number of entries to read, before the cut.
        on_bad_file: ``"raise"``, or ``"skip"`` to leave out files that cannot be opened.
        check: Raise an error for values that a network cannot take.

    Returns:
        A record array of the schema's fields. Its ``attrs`` hold ``files``, the number of events by path, and ``skipped``, the reason for each
        skipped file by path. A field with ``fill`` comes with its count, ``n_<field>``.

    Raises:
        DataError: a file, tree or branch is missing, does not fit the schema, or holds NaN, infinity or integers that are too large; no tree has
            entries, or the cut drops every event.
    """
    options = ReadOptions(
        tree=tree, cut=cut, weight=weight, entry_stop=entry_stop, on_bad_file=on_bad_file, check=check
    )  # fmt: skip
    skipped: dict[str, str] = {}
    parts: dict[str, list[ak.Array]] = {}
    for chunk in iterate(files, schema, step_size=None, options=options, skipped=skipped):
        parts.setdefault(chunk.file, []).append(chunk.events)
    arrays = [array for arrays in parts.values() for array in arrays]
    events = arrays[0] if len(arrays) == 1 else ak.concatenate(arrays)
    if len(events) == 0:
        raise DataError(f"the cut '{cut}' drops every event of {', '.join(parts)}; loosen it")
    events.attrs["files"] = {path: sum(map(len, arrays)) for path, arrays in parts.items()}
    events.attrs["skipped"] = skipped
    return events


def iterate(
    files: Files,
    schema: Schema,
    *,
    step_size: int | str | None = "50 MB",
    options: ReadOptions = DEFAULTS,
    skipped: dict[str, str] | None = None,
) -> Iterator[Chunk]:
    """Yields the events of ``files`` in order, in chunks of whole baskets or clusters.

    Args:
        files: As in ``read``.
        schema: Fields and conditions to read.
        step_size: Approximate size of a chunk: a number of entries, a size in memory (``"50 MB"``), or ``None`` for one chunk per tree.
        options: Reading options.
        skipped: Receives the reason by path for each file that ``on_bad_file="skip"`` leaves out.

    Raises:
        DataError: as ``read``; also if a file changes while it is read.
    """
    request = options.request(schema)
    trees, skipped = sources(files, tree=options.tree), {} if skipped is None else skipped
    resolved: dict[str, Schema] = {}
    remaining, any_entries = options.entry_stop, False
    for source in trees:
        try:
            with open_tree(source, request, resolved) as tree:
                for start, stop in chunk_ranges(tree, step_size, remaining):
                    any_entries = True
                    yield read_entries(tree, start, stop)
                    remaining = None if remaining is None else remaining - (stop - start)
        except BadFileError as error:
            if options.on_bad_file == "raise":
                raise
            warnings.warn(f"file left out: {error}", stacklevel=2)
            skipped[source.path] = str(error)
        if remaining == 0:
            return
    if not any_entries:
        raise no_events_error(trees, skipped)


def no_events_error(trees: Sequence[Source], skipped: Mapping[str, str]) -> DataError:
    """Returns the error to raise if no tree has an entry, or if all files were left out."""
    if skipped and len(skipped) == len({source.path for source in trees}):
        first = next(iter(skipped.values()))
        return DataError(f"none of the {len(skipped)} files can be read; the first: {first}")
    empty = [source for source in trees if source.path not in skipped]
    others = f", nor does any other of the {len(empty)} trees" if len(empty) > 1 else ""
    name = f"tree '{empty[0].tree}' of " if empty[0].tree else ""
    return NoEventsError(f"{name}'{empty[0].path}' has no entries{others}; give files with entries")


class FirstTree(NamedTuple):
    """First tree that has entries, open: its file and name, and its branches."""

    source: Source
    branches: BranchIndex

    def resolve(self, schema: Schema) -> Schema:
        """Returns ``schema`` with branches, types and stored shapes as they are in this tree.

        Raises:
            DataError: a branch is missing or does not fit.
        """
        return resolve_schema(schema, self.branches, self.source.path)


@contextlib.contextmanager
def first_tree(files: Files, *, tree: str | None = None) -> Iterator[FirstTree]:
    """Context manager that opens the first tree of ``files`` that has entries.

    Raises:
        DataError: a file or tree is missing or damaged, or no tree has entries.
    """
    trees = sources(files, tree=tree)
    for source in trees:
        with open_source(source) as (uproot_tree, name, entries):
            if entries:
                with data_errors(source.path):
                    index = index_branches(uproot_tree)
                yield FirstTree(Source(source.path, name), index)
                return
    raise no_events_error(trees, {})


def resolve(files: Files, schema: Schema, *, tree: str | None = None) -> Schema:
    """Returns ``schema`` with branches, types and stored shapes as they are in the first of ``files`` that has entries.

    Raises:
        DataError: a file, tree or branch is missing or does not fit, or no file has entries.
    """
    with first_tree(files, tree=tree) as first:
        return first.resolve(schema)


def missing_fields(files: Files, schema: Schema, *, tree: str | None = None) -> dict[str, str]:
    """Returns the fields of ``schema`` that the first of ``files`` with entries lacks, or has in another form, with the reasons.

    Raises:
        DataError: a file or tree is missing or damaged, or no file has entries.
    """
    missing: dict[str, str] = {}
    with first_tree(files, tree=tree) as first:
        for name, field in schema.in_branches.items():
            try:
                first.resolve(Schema({name: field}))
            except DataError as error:
                missing[name] = str(error)
    return missing


def tree_name(files: Files, *, tree: str | None = None) -> str:
    """Returns the name of the first tree that has entries, with its folders, without its cycle."""
    with first_tree(files, tree=tree) as first:
        return str(first.source.tree).partition(";")[0]


def num_entries(files: Files, *, tree: str | None = None) -> dict[str, int]:
    """Returns the number of entries by path; several trees of one file are added up."""
    entries_of: dict[str, int] = {}
    for source in sources(files, tree=tree):
        with open_source(source) as (_, _, entries):
            entries_of[source.path] = entries_of.get(source.path, 0) + entries
    return entries_of
