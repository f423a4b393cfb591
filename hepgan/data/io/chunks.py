"""One tree to chunks of events: which entries, which branches, in which shapes."""

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
import numpy as np

from hepgan.data.io.branches import (
    BranchHandle,
    Index,
    array_of,
    branches_of,
    describe,
    index_of,
    is_plain,
    is_rntuple,
    require,
    resolve_schema,
)
from hepgan.data.io.chunking import edges_of
from hepgan.data.io.files import Source, is_url, opened_source, reading
from hepgan.data.io.selection import Selection
from hepgan.data.io.validation import check_lists, check_values
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError


class Chunk(NamedTuple):
    """Consecutive events of one file.

    Attributes:
        events: The events.
        file: The file's path.
        start: The entry of the tree at which the chunk starts.
        entries: ``int64[E]``, the entry of each event: consecutive where nothing is selected.
    """

    events: ak.Array
    file: str
    start: int
    entries: np.ndarray[Any, Any]


class ReadRequest(NamedTuple):
    """What is read from every file; ``check`` looks for values that a network cannot take."""

    schema: Schema
    select: Selection | None = None
    weight: Selection | None = None
    check: bool = True

    @property
    def extra(self) -> list[str]:
        """The branches that the selection and the weight need."""
        used = [name for one in (self.select, self.weight) if one for name in one.names]
        return list(dict.fromkeys(used))


class OpenTree(NamedTuple):
    """A tree that is being read: its file must stay open.

    Attributes:
        tree: uproot's tree.
        entries: How many entries it has; nothing else is known of a tree without any.
        schema: What is read, resolved.
        wanted: What is wanted.
        path: The file.
        stamp: Tells whether the file has changed.
        places: The places of its branches.
        jagged: The branches that are jagged.
    """

    tree: Any
    entries: int
    schema: Schema
    wanted: ReadRequest
    path: str
    stamp: tuple[int, int]
    places: Index
    jagged: frozenset[str]


@contextlib.contextmanager
def opened_tree(source: Source, wanted: ReadRequest, seen: dict[str, Schema]) -> Iterator[OpenTree]:
    """Context manager that opens the tree of ``source`` and checks that everything that is wanted is in it.

    A tree without entries, as a skim may leave, contributes no events, whatever its branches are.

    Args:
        source: File and tree.
        wanted: What is to be read.
        seen: Path -> schema of the files read before; this one is added.

    Raises:
        BadFileError: the file cannot be opened.
        DataError: as ``root.read``; also where a branch has another type than in the files seen.
    """
    path = source.path
    with opened_source(source) as (tree, _, entries):
        stamp = _stamp(path)
        if entries == 0:
            yield OpenTree(tree, 0, wanted.schema, wanted, path, stamp, {}, frozenset())
            return
        with reading(path):
            index = index_of(tree)
        schema = resolve_schema(wanted.schema, index, path)
        require(wanted.extra, index, path, "a selection or weight")
        _check_same(schema, path, seen)
        jagged = [branches_of(n, f)[0] for n, f in schema.all.items() if f.fill is not None]
        jagged += [name for name in wanted.extra if describe(index[name], name, path).jagged]
        yield OpenTree(tree, entries, schema, wanted, path, stamp, index, frozenset(jagged))


def _check_same(schema: Schema, path: str, seen: dict[str, Schema]) -> None:
    other, first = next(iter(seen.items()), (path, schema))
    expected = first.all
    for name, field in schema.all.items():
        if field.dtype != expected[name].dtype:
            raise DataError(
                f"field '{name}' is {field.dtype} in '{path}' but {expected[name].dtype} in '{other}'; "
                "read files of one type at a time"
            )
    seen[path] = schema


def chunks_of(
    source: Source,
    wanted: ReadRequest,
    *,
    step: int | str | None,
    stop: int | None = None,
    seen: dict[str, Schema] | None = None,
) -> Iterator[Chunk]:
    """The chunks of one tree, none of an empty one: ``step`` as in ``root.iterate``, ``None`` for all in one; at most ``stop`` events.

    Raises:
        DataError: as ``root.read``; also where the file changes while it is read.
    """
    with opened_tree(source, wanted, {} if seen is None else seen) as tree:
        if tree.entries == 0:
            return
        left = tree.entries if stop is None else stop
        # With a selection, nobody knows how many entries `stop` events are.
        last = tree.entries if wanted.select else min(left, tree.entries)
        edges = [0, last]
        if step is not None:
            edges = edges_of(tree.tree, tree.places, tree.schema, tree.path, step, last)
        for start, end in itertools.pairwise(edges):
            if left == 0:
                return
            chunk = _first(chunk_at(tree, start, end), left)
            left -= len(chunk.events)
            yield chunk


def spans_of(tree: OpenTree, step: int | str) -> list[tuple[int, int]]:
    """First and last entry (exclusive) of the chunks of one tree; none of an empty one."""
    if tree.entries == 0:
        return []
    edges = edges_of(tree.tree, tree.places, tree.schema, tree.path, step, tree.entries)
    return list(itertools.pairwise(edges))


def selected(tree: OpenTree, start: int, stop: int) -> np.ndarray[Any, Any]:
    """``int64[E]``, the entries from ``start`` to ``stop`` that the selection keeps; reads only what it needs.

    Raises:
        DataError: as ``chunk_at``.
    """
    entries = np.arange(start, stop)
    if tree.wanted.select is None:
        return entries
    arrays = _arrays(tree, tree.wanted.select.names, start, stop)
    return np.asarray(entries[tree.wanted.select(arrays, tree.path).astype(bool)])


def _first(chunk: Chunk, number: int) -> Chunk:
    return chunk._replace(events=chunk.events[:number], entries=chunk.entries[:number])


def _stamp(path: str) -> tuple[int, int]:
    if is_url(path):
        return (0, 0)
    with reading(path):
        status = Path(path).stat()
    return (status.st_size, status.st_mtime_ns)


def chunk_at(tree: OpenTree, start: int, stop: int) -> Chunk:
    """The events of the entries from ``start`` to ``stop``.

    Raises:
        DataError: damaged baskets, values that a network cannot take, or the file has changed since it was opened.
    """
    names = [n for name, field in tree.schema.in_branches.items() for n in branches_of(name, field)]
    arrays = _arrays(tree, list(dict.fromkeys([*names, *tree.wanted.extra])), start, stop)
    chunk = _assembled(arrays, tree.schema, tree.wanted, range(start, stop), tree.path)
    if _stamp(tree.path) != tree.stamp:
        raise DataError(f"'{tree.path}' changed while it was read; wait until it is written")
    return chunk


def chunk_of(events: ak.Array, wanted: ReadRequest, *, start: int, path: str) -> Chunk:
    """Returns what is wanted of ``events`` that something else has read: the entries from ``start`` on, a field a branch.

    Where there are no events, branches may be missing.

    Raises:
        DataError: as ``chunk_at``; also where a branch is missing or does not fit the schema.
    """
    needed = [
        n for name, field in wanted.schema.in_branches.items() for n in branches_of(name, field)
    ]
    if len(events) == 0 and not {*needed, *wanted.extra} <= set(events.fields):
        columns = {
            name: np.empty((0, *field.shape), field.dtype or "float32")
            for name, field in wanted.schema.all.items()
        }
        return Chunk(as_events(columns), path, start, np.arange(0))
    with reading(path):
        index = index_of(events)
    schema = resolve_schema(wanted.schema, index, path)
    require(wanted.extra, index, path, "a selection or weight")
    names = [n for name, field in schema.in_branches.items() for n in branches_of(name, field)]
    arrays: dict[str, Any] = {}
    with reading(path):
        for name in dict.fromkeys([*names, *wanted.extra]):
            jagged = describe(index[name], name, path).jagged
            arrays[name] = events[name] if jagged else ak.to_numpy(events[name])
    return _assembled(arrays, schema, wanted, range(start, start + len(events)), path)


def _assembled(
    arrays: Mapping[str, Any], schema: Schema, wanted: ReadRequest, span: range, path: str
) -> Chunk:
    """The chunk of the branches ``arrays`` of the entries ``span``."""
    entries = np.arange(span.start, span.stop)
    columns: dict[str, Any] = {}
    for name, field in schema.in_branches.items():
        for column, values in _column(name, field, arrays).items():
            if column not in columns:
                columns[column] = values
            elif not np.array_equal(values, columns[column]):
                entry = entries[int(np.argmax(values != columns[column]))]
                raise DataError(
                    f"the lists that share the count '{column}' differ in length in entry {entry} of '{path}', '{name}' from "
                    "those before it; give it a 'count' of its own"
                )
    fields = schema.all
    columns = {name: columns[name] for name in fields}
    if wanted.weight:
        columns["weight"] = wanted.weight(arrays, path)
    if wanted.select:
        keep = wanted.select(arrays, path).astype(bool)
        columns = {name: column[keep] for name, column in columns.items()}
        entries = entries[keep]
    if wanted.check:
        for name, column in columns.items():
            field = fields.get(name, Field())
            check_values(column, branches_of(name, field), entries, path)
    return Chunk(as_events(columns), path, span.start, entries)


def as_events(columns: Mapping[str, np.ndarray[Any, Any]]) -> ak.Array:
    """Events of arrays ``[E, …]``, without copying: one field a column, further dimensions regular.

    >>> str(as_events({"image": np.zeros((2, 28, 28), "uint8")}).type)
    '2 * {image: 28 * 28 * uint8}'
    """
    return ak.zip({name: ak.from_numpy(column) for name, column in columns.items()}, depth_limit=1)


def _arrays(tree: OpenTree, names: Sequence[str], start: int, stop: int) -> dict[str, Any]:
    """Branch -> NumPy array ``[E, …]``, or awkward array where it is jagged. The branches exist."""
    found: dict[str, Any] = {}
    flat: dict[str, BranchHandle] = {}
    with reading(tree.path):
        for name in names:
            place, jagged = tree.places[name], name in tree.jagged
            if jagged or is_rntuple(tree.tree) or not is_plain(place):
                found[name] = array_of(place, start=start, stop=stop, jagged=jagged)
            else:
                flat[name] = place
        if flat:  # together: neighboring baskets are then read at once
            keys = list(dict.fromkeys(place.key for place in flat.values()))
            arrays = tree.tree.arrays(keys, library="np", entry_start=start, entry_stop=stop)
            for name, place in flat.items():
                array = arrays[place.key]
                found[name] = array[place.leaf] if place.leaf else array
    for name, array in found.items():
        if len(array) != stop - start:
            raise DataError(
                f"branch '{name}' of '{tree.path}' gives {len(array)} of the entries {start} to {stop}; "
                "the file is damaged, copy or write it again"
            )
        check_lists(array, name, tree.path)
    return found


def _column(name: str, field: Field, arrays: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Returns the field's values ``[E, *shape]``, and the number of values where it has a ``fill``."""
    parts = [arrays[branch] for branch in branches_of(name, field)]
    kind = np.dtype(field.dtype)
    if len(parts) > 1:
        values = stacked(parts, kind).reshape(-1, *field.shape)
    elif isinstance(parts[0], ak.Array):
        return _padded(name, field, parts[0])
    else:
        values = parts[0].reshape(-1, *field.shape).astype(kind, copy=False)
    if field.fill is None:
        return {name: values}
    return {name: values, field.count: np.full(len(values), field.shape[0], np.int32)}


def _padded(name: str, field: Field, lists: ak.Array) -> dict[str, np.ndarray[Any, Any]]:
    """Lists padded and cut to ``shape[0]`` values, and how many of them are the file's own."""
    kept = np.minimum(ak.to_numpy(ak.num(lists, axis=1)), field.shape[0]).astype(np.int32)
    values = np.full((len(lists), *field.shape), field.fill, dtype=field.dtype)
    inside = np.arange(field.shape[0]) < kept[:, None]
    values[inside] = ak.to_numpy(ak.flatten(lists[:, : field.shape[0]], axis=1))
    return {name: values, field.count: kept}


def stacked(columns: Sequence[np.ndarray[Any, Any]], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """``[E, n]`` of ``n`` columns ``[E]``, in blocks of rows that stay in the processor's cache."""
    out = np.empty((len(columns[0]), len(columns)), dtype)
    rows = max(1, 2**22 // (out.itemsize * len(columns)))
    for start in range(0, len(out), rows):
        np.stack(
            [column[start : start + rows] for column in columns],
            axis=1,
            out=out[start : start + rows],
        )
    return out
