"""Chunks of events from one tree: their boundaries, their branches, and their assembly into fields."""

import contextlib
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
import numpy as np

from hepgan.data.io.branches import (
    BranchHandle,
    BranchIndex,
    branch_names,
    branch_type,
    index_branches,
    is_plain,
    is_rntuple,
    read_branch,
    require_branches,
    resolve_schema,
)
from hepgan.data.io.expressions import Expression
from hepgan.data.io.files import Source, data_errors, is_url, open_source
from hepgan.data.io.validation import check_lists, check_values
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError

UNITS = {"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


class Chunk(NamedTuple):
    """Consecutive events of one file.

    Attributes:
        events: The events.
        file: Path of the file.
        start: First entry of the chunk in the tree.
        entries: ``int64[E]``, the entry of each event; consecutive without a cut.
    """

    events: ak.Array
    file: str
    start: int
    entries: np.ndarray[Any, Any]


Reweight = Callable[[str, np.ndarray[Any, Any]], np.ndarray[Any, Any]]
"""Function of a file and entries ``[E]`` in it: factors ``[E]`` of the weights of these events."""


class ReadRequest(NamedTuple):
    """Fields to read from every file, with the parsed cut and weight.

    Attributes:
        schema: Fields and conditions.
        cut: Events for which it is false are dropped.
        weight: Becomes the field ``weight``.
        check: Raise an error for values that a network cannot take.
        reweight: Factors of the weights.
    """

    schema: Schema
    cut: Expression | None = None
    weight: Expression | None = None
    check: bool = True
    reweight: Reweight | None = None

    @classmethod
    def parse(
        cls,
        schema: Schema,
        *,
        cut: str | None = None,
        weight: str | None = None,
        check: bool = True,
        reweight: Reweight | None = None,
    ) -> "ReadRequest":
        """Returns the request with its expressions parsed.

        Raises:
            DataError: an expression does not parse, or the schema has a field ``weight`` besides the weights.
        """
        if (weight or reweight) and "weight" in schema.all:
            raise DataError(
                "the schema has a field 'weight', the name of the field that holds the event weights; give it another name "
                "and branches = ['weight'], or read without a weight"
            )
        return cls(
            schema,
            Expression.parse(cut, "cut") if cut else None,
            Expression.parse(weight, "weight") if weight else None,
            check,
            reweight,
        )

    @property
    def weighted(self) -> bool:
        """True if events get the field ``weight``."""
        return self.weight is not None or self.reweight is not None

    def weights(
        self, arrays: Mapping[str, Any], path: str, entries: np.ndarray[Any, Any]
    ) -> np.ndarray[Any, Any]:
        """Returns the weights ``[E]`` of the events of ``entries[E]``, whose branches are ``arrays``."""
        weights = self.weight(arrays, path) if self.weight else np.ones(len(entries))
        return weights * self.reweight(path, entries) if self.reweight else weights

    @property
    def expression_branches(self) -> list[str]:
        """Branches that the cut and the weight read."""
        expressions = [expression for expression in (self.cut, self.weight) if expression]
        return list(dict.fromkeys(name for one in expressions for name in one.names))


class OpenTree(NamedTuple):
    """Open tree of a file that is being read.

    Attributes:
        tree: uproot's tree.
        entries: Number of entries; a tree without entries has an unresolved schema and no branches.
        schema: Fields to read, resolved against this tree.
        request: The request.
        path: Path of the file.
        stamp: Size and modification time of the file when it was opened.
        branches: Branches by name.
        jagged: Names of the jagged branches.
    """

    tree: Any
    entries: int
    schema: Schema
    request: ReadRequest
    path: str
    stamp: tuple[int, int]
    branches: BranchIndex
    jagged: frozenset[str]


@contextlib.contextmanager
def open_tree(
    source: Source, request: ReadRequest, resolved: dict[str, Schema]
) -> Iterator[OpenTree]:
    """Context manager that opens the tree of ``source`` and checks that it has everything that is requested.

    A tree without entries, for example from a skim, contributes no events; its branches are not checked.

    Args:
        source: File and tree.
        request: Fields to read.
        resolved: Resolved schemas of the files read so far, by path; that of this file is added.

    Raises:
        BadFileError: the file cannot be opened.
        DataError: a branch is missing or does not fit, or has another type than in the files read so far.
    """
    path = source.path
    with open_source(source) as (tree, _, entries):
        stamp = _stamp(path)
        if entries == 0:
            yield OpenTree(tree, 0, request.schema, request, path, stamp, {}, frozenset())
            return
        with data_errors(path):
            index = index_branches(tree)
        schema = resolve_schema(request.schema, index, path)
        require_branches(request.expression_branches, index, path, "a cut or weight")
        _check_same_types(schema, path, resolved)
        of_fields = [branch_names(n, f) for n, f in schema.all.items()]
        names = [branches[0] for branches in of_fields if len(branches) == 1]
        names += request.expression_branches
        jagged = [n for n in names if n in index and branch_type(index[n], n, path).jagged]
        yield OpenTree(tree, entries, schema, request, path, stamp, index, frozenset(jagged))


def _check_same_types(schema: Schema, path: str, resolved: dict[str, Schema]) -> None:
    other, first = next(iter(resolved.items()), (path, schema))
    expected = first.all
    for name, field in schema.all.items():
        if field.dtype != expected[name].dtype:
            raise DataError(
                f"field '{name}' is {field.dtype} in '{path}' but {expected[name].dtype} in '{other}'; "
                "read files of one type at a time"
            )
    resolved[path] = schema


def chunk_ranges(
    tree: OpenTree, step_size: int | str | None, entry_stop: int | None = None
) -> list[tuple[int, int]]:
    """Returns the first and last entry (exclusive) of each chunk of a tree; no chunks for an empty tree.

    Chunks start and end at boundaries of baskets or clusters, so that nothing is decompressed twice.

    Args:
        tree: The tree.
        step_size: Number of entries, size in memory (``"50 MB"``), or ``None`` for a single chunk.
        entry_stop: Entries to read at most.

    Raises:
        DataError: ``step_size`` is not a size, or the file is damaged.
    """
    if step_size is None or tree.entries == 0:
        last = tree.entries if entry_stop is None else min(entry_stop, tree.entries)
        return [(0, last)] if last else []
    size = (
        step_size
        if isinstance(step_size, int)
        else max(1, int(_num_bytes(step_size) / _bytes_per_entry(tree.schema)))
    )
    if size < 1:
        raise DataError(
            f"step_size = {step_size} is not a number of entries; use 1 or more, or a size such as '50 MB'"
        )
    last = tree.entries if entry_stop is None else min(entry_stop, tree.entries)
    with data_errors(tree.path):
        boundaries = _common_boundaries(tree, last)
    edges = [0]
    for before, boundary in itertools.pairwise([*boundaries, last]):
        if boundary > edges[-1] + size and before > edges[-1]:
            edges.append(before)
        # Branches without common boundaries, or one huge cluster of a TTree: memory is bounded at the cost of decompressing the
        # baskets at the cuts twice. Clusters of an RNTuple cannot be read in part.
        while not is_rntuple(tree.tree) and boundary > edges[-1] + 2 * size:
            edges.append(edges[-1] + size)
    return list(itertools.pairwise([*edges, last]))


def _common_boundaries(tree: OpenTree, last: int) -> list[int]:
    """Returns the entries below ``last`` at which the baskets of all requested branches start."""
    if is_rntuple(tree.tree):
        starts = [int(cluster.num_first_entry) for cluster in tree.tree.ntuple.cluster_summaries]
    else:
        handles = [
            tree.branches[branch]
            for name, field in tree.schema.in_branches.items()
            for branch in branch_names(name, field)
        ]
        uproot_branches = {handle.key: handle.branch for handle in handles}
        offsets = (set(map(int, branch.entry_offsets)) for branch in uproot_branches.values())
        starts = sorted(set.intersection(*offsets))
    return [0, *(start for start in starts if 0 < start < last)]


def _bytes_per_entry(schema: Schema) -> int:
    return sum(field.size * np.dtype(field.dtype).itemsize for field in schema.all.values())


def _num_bytes(size: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([KMG]?i?B?)", size.strip(), flags=re.IGNORECASE)
    if match is None or match[2].upper() not in UNITS or float(match[1]) == 0:
        raise DataError(f"step_size = '{size}' is not a size in memory; write it like '50 MB'")
    return float(match[1]) * UNITS[match[2].upper()]


def selected_entries(tree: OpenTree, start: int, stop: int) -> np.ndarray[Any, Any]:
    """Returns the entries from ``start`` to ``stop`` that pass the cut, ``int64[E]``; reads only the branches of the cut.

    Raises:
        DataError: as ``read_entries``.
    """
    entries = np.arange(start, stop)
    if tree.request.cut is None:
        return entries
    arrays = _arrays(tree, tree.request.cut.names, start, stop)
    return np.asarray(entries[tree.request.cut(arrays, tree.path).astype(bool)])


def entry_weights(tree: OpenTree, entries: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Returns the weights ``float64[E]`` of increasing ``entries[E]``; reads only the branches of the weight.

    Raises:
        DataError: as ``read_entries``.
    """
    if not tree.request.weighted or len(entries) == 0:
        return np.ones(len(entries))
    first, stop = int(entries[0]), int(entries[-1]) + 1
    names = tree.request.weight.names if tree.request.weight else ()
    weights = tree.request.weights(
        _arrays(tree, names, first, stop), tree.path, np.arange(first, stop)
    )
    return np.asarray(weights[entries - first], np.float64)


def _stamp(path: str) -> tuple[int, int]:
    if is_url(path):
        return (0, 0)
    with data_errors(path):
        status = Path(path).stat()
    return (status.st_size, status.st_mtime_ns)


def read_entries(tree: OpenTree, start: int, stop: int) -> Chunk:
    """Reads the events of the entries from ``start`` to ``stop``.

    Raises:
        DataError: a basket is damaged, a network cannot take a value, or the file has changed since it was opened.
    """
    names = [
        n for name, field in tree.schema.in_branches.items() for n in branch_names(name, field)
    ]
    arrays = _arrays(
        tree, list(dict.fromkeys([*names, *tree.request.expression_branches])), start, stop
    )
    chunk = _assemble(arrays, tree.schema, tree.request, range(start, stop), tree.path)
    if _stamp(tree.path) != tree.stamp:
        raise DataError(
            f"'{tree.path}' changed while it was read; wait until it is completely written"
        )
    return chunk


def chunk_from_events(events: ak.Array, request: ReadRequest, *, start: int, path: str) -> Chunk:
    """Returns the requested fields of ``events`` that were read elsewhere, one record field per branch, starting at entry ``start``.

    Without events, branches may be missing.

    Raises:
        DataError: as ``read_entries``; also if a branch is missing or does not fit the schema.
    """
    needed = [
        n for name, field in request.schema.in_branches.items() for n in branch_names(name, field)
    ]
    if len(events) == 0 and not {*needed, *request.expression_branches} <= set(events.fields):
        columns = {
            name: np.empty((0, *field.shape), field.dtype or "float32")
            for name, field in request.schema.all.items()
        }
        return Chunk(as_events(columns), path, start, np.arange(0))
    with data_errors(path):
        index = index_branches(events)
    schema = resolve_schema(request.schema, index, path)
    require_branches(request.expression_branches, index, path, "a cut or weight")
    names = [n for name, field in schema.in_branches.items() for n in branch_names(name, field)]
    arrays: dict[str, Any] = {}
    with data_errors(path):
        for name in dict.fromkeys([*names, *request.expression_branches]):
            jagged = branch_type(index[name], name, path).jagged
            arrays[name] = events[name] if jagged else ak.to_numpy(events[name])
    return _assemble(arrays, schema, request, range(start, start + len(events)), path)


def _assemble(
    arrays: Mapping[str, Any], schema: Schema, request: ReadRequest, span: range, path: str
) -> Chunk:
    """Returns the chunk of the entries ``span`` from their branches ``arrays``."""
    entries = np.arange(span.start, span.stop)
    columns: dict[str, Any] = {}
    for name, field in schema.in_branches.items():
        for column, values in _column(name, field, arrays, span.start, path).items():
            if column not in columns:
                columns[column] = values
            elif not np.array_equal(values, columns[column]):
                entry = entries[int(np.argmax(values != columns[column]))]
                raise DataError(
                    f"the lists that share the count '{column}' differ in length in entry {entry} of '{path}': '{name}' differs from "
                    "the ones before it; give it its own 'count'"
                )
    fields = schema.all
    columns = {name: columns[name] for name in fields}
    if request.weighted:
        columns["weight"] = request.weights(arrays, path, entries)
    if request.cut:
        keep = request.cut(arrays, path).astype(bool)
        columns = {name: column[keep] for name, column in columns.items()}
        entries = entries[keep]
    if request.check:
        for name, field in fields.items():
            check_values(columns[name], branch_names(name, field), entries, path)
        if request.weight:
            check_values(columns["weight"], [request.weight.text], entries, path, what="weight")
    return Chunk(as_events(columns), path, span.start, entries)


def evenly_spaced(span: range, number: int, total: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Returns the entries of ``span`` that belong to ``number`` evenly spaced ones of ``total``; all if there are fewer.

    >>> evenly_spaced(range(0, 6), 4, 10).tolist(), evenly_spaced(range(6, 10), 4, 10).tolist()
    ([2, 4], [7, 9])
    """
    edges = np.arange(span.start, span.stop + 1) * min(number, total) // total
    return span.start + np.flatnonzero(np.diff(edges))


def as_events(columns: Mapping[str, np.ndarray[Any, Any]]) -> ak.Array:
    """Returns events made of arrays ``[E, …]`` without copying: one field per array, with regular dimensions.

    >>> str(as_events({"image": np.zeros((2, 28, 28), "uint8")}).type)
    '2 * {image: 28 * 28 * uint8}'
    """
    return ak.zip({name: ak.from_numpy(column) for name, column in columns.items()}, depth_limit=1)


def _arrays(tree: OpenTree, names: Sequence[str], start: int, stop: int) -> dict[str, Any]:
    """Reads branches, which must exist, as NumPy arrays ``[E, …]``, jagged ones as awkward arrays."""
    columns: dict[str, Any] = {}
    flat: dict[str, BranchHandle] = {}
    with data_errors(tree.path):
        for name in names:
            handle, jagged = tree.branches[name], name in tree.jagged
            if jagged or is_rntuple(tree.tree) or not is_plain(handle):
                columns[name] = read_branch(handle, start=start, stop=stop, jagged=jagged)
            else:
                flat[name] = handle
        if flat:  # in one call, which reads neighboring baskets at once
            keys = list(dict.fromkeys(handle.key for handle in flat.values()))
            arrays = tree.tree.arrays(keys, library="np", entry_start=start, entry_stop=stop)
            for name, handle in flat.items():
                array = arrays[handle.key]
                columns[name] = array[handle.leaf] if handle.leaf else array
    for name, array in columns.items():
        if len(array) != stop - start:
            raise DataError(
                f"branch '{name}' of '{tree.path}' has {len(array)} values for the entries {start} to {stop}; "
                "the file is damaged, copy or write it again"
            )
        check_lists(array, name, tree.path)
    return columns


def _column(
    name: str, field: Field, arrays: Mapping[str, Any], start: int, path: str
) -> dict[str, np.ndarray[Any, Any]]:
    """Returns the values ``[E, *shape]`` of a field, and their number if it has a ``fill``; the first entry is ``start``."""
    parts = [arrays[branch] for branch in branch_names(name, field)]
    kind = np.dtype(field.dtype)
    if len(parts) > 1:
        values = stack_columns(parts, kind).reshape(-1, *field.shape)
    elif isinstance(parts[0], ak.Array):
        if field.fill is not None:
            return _padded(name, field, parts[0])
        values = _equal_lists(name, field, parts[0], start, path).astype(kind, copy=False)
    else:
        values = parts[0].reshape(-1, *field.shape).astype(kind, copy=False)
    if field.fill is None:
        return {name: values}
    return {name: values, field.count: np.full(len(values), field.shape[0], np.int32)}


def _equal_lists(
    name: str, field: Field, lists: ak.Array, start: int, path: str
) -> np.ndarray[Any, Any]:
    """Returns the values ``[E, *shape]`` of lists that all have as many values as the field.

    Raises:
        DataError: a list has another number of values; names its entry.
    """
    values: np.ndarray[Any, Any] = ak.to_numpy(ak.flatten(lists, axis=1))
    lengths = ak.to_numpy(ak.num(lists, axis=1)) * math.prod(values.shape[1:])
    if (lengths != field.size).any():
        entry = int((lengths != field.size).argmax())
        raise DataError(
            f"field '{name}' needs {field.size} values in every entry, but entry {start + entry} of '{path}' has {lengths[entry]}; give the"
            " field 'fill = 0.0' to pad or truncate the lists of its branch to its shape"
        )
    return values.reshape(-1, *field.shape)


def _padded(name: str, field: Field, lists: ak.Array) -> dict[str, np.ndarray[Any, Any]]:
    """Returns lists padded or truncated to ``shape[0]`` values, and the number of values that are not padding."""
    kept = np.minimum(ak.to_numpy(ak.num(lists, axis=1)), field.shape[0]).astype(np.int32)
    values = np.full((len(lists), *field.shape), field.fill, dtype=field.dtype)
    inside = np.arange(field.shape[0]) < kept[:, None]
    values[inside] = ak.to_numpy(ak.flatten(lists[:, : field.shape[0]], axis=1))
    return {name: values, field.count: kept}


def stack_columns(
    columns: Sequence[np.ndarray[Any, Any]], dtype: np.dtype[Any]
) -> np.ndarray[Any, Any]:
    """Stacks ``n`` columns ``[E]`` to ``[E, n]``, in blocks of rows that fit the processor cache."""
    out = np.empty((len(columns[0]), len(columns)), dtype)
    rows = max(1, 2**22 // (out.itemsize * len(columns)))
    for start in range(0, len(out), rows):
        np.stack(
            [column[start : start + rows] for column in columns],
            axis=1,
            out=out[start : start + rows],
        )
    return out
