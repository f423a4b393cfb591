"""Awkward events to ROOT files: streamed, atomic, with the branches, shapes and types of the file that was read."""

import itertools
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import awkward as ak
import numpy as np
import uproot

from hepgan.atomic import replace_on_success
from hepgan.data.dtypes import to_dtype
from hepgan.data.io.branches import branch_names, root_name
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError, NoEventsError

CLUSTER = 30e6  # bytes of events per cluster, as ROOT writes them

NOT_IN_TTREE = r"[\x00-\x1f\x7f\ud800-\udfff\[\]]"
"""Characters that the name of a TTree branch must not contain: uproot and ROOT read brackets in the title of a leaf as its shape."""
NOT_IN_RNTUPLE = r"[\x00-\x20\x7f\ud800-\udfff./\\]"
"""Characters that ROOT rejects in the names of RNTuple fields."""

Array = np.ndarray[Any, Any]
Format = Literal["TTree", "RNTuple"]


class WithSchema(Protocol):
    """Object with a schema and the name of its trees, such as a GAN."""

    @property
    def schema(self) -> Schema:
        """Fields and conditions of the events."""

    @property
    def tree(self) -> str:
        """Name of the tree."""


def write(
    path: str | os.PathLike[str],
    events: ak.Array | Iterable[ak.Array],
    schema: Schema | WithSchema,
    *,
    tree: str | None = None,
    format: Format = "TTree",
    overwrite: bool = False,
    compression: uproot.compression.Compression | None = None,
) -> None:
    """Writes events, or chunks of them, to a new ROOT file that appears only when it is complete.

    Args:
        path: Path of the file; ends with ``.root``.
        events: Events, or chunks that are written one by one, in memory bounded by one chunk.
        schema: Fields to write, or a GAN, whose schema and tree are used. ``branches``, ``dtype`` and ``stored`` of a resolved schema give the names, types and shapes of the
            branches; integers are rounded and clipped to their type. A field with ``fill`` is written as lists with the lengths in
            its count. Subbranches get ROOT's names, see ``branches.root_name``.
        tree: Name of the tree, optionally with folders: ``"folder/showers"``; not needed with a GAN.
        format: TTree, which every version of ROOT reads, or RNTuple.
        overwrite: Replace an existing file.
        compression: uproot's compression; zstd 2 if ``None``.

    Raises:
        DataError: the file exists or does not end with ``.root``, or the events do not match the schema.
        RunError: the system cannot write the file; no partial file remains.
    """
    if not isinstance(schema, Schema):
        tree = tree or schema.tree
        schema = schema.schema
    if tree is None:
        raise DataError(
            "the name of the tree is missing; pass tree=…, or a GAN instead of its schema"
        )
    target = check_output(path, overwrite=overwrite)
    check_names(schema, format)
    _check_tree(tree)
    chunks = iter([events]) if isinstance(events, ak.Array) else iter(events)
    with (
        replace_on_success(target) as part,
        uproot.recreate(part, compression=compression or uproot.ZSTD(2)) as file,
    ):
        _fill(file, chunks, schema, tree, format)


def check_output(path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Returns the path of a ROOT file to write, before the work on its content starts.

    Raises:
        DataError: the file exists, unless it may be overwritten, or does not end with ``.root``.
    """
    target = Path(path)
    if target.suffix != ".root":
        raise DataError(f"'{target}' does not end with .root; rename the output file")
    if target.exists() and not overwrite:
        raise DataError(f"'{target}' exists; choose another file, or replace it with --overwrite")
    return target


def check_names(schema: Schema, format: Format = "TTree") -> None:
    """Checks that each field of ``schema`` can be written to branches with valid and distinct names.

    Raises:
        DataError: the name of a branch contains a character with a special meaning in ROOT or uproot, or two fields share a branch.
    """
    bad = NOT_IN_TTREE if format == "TTree" else NOT_IN_RNTUPLE
    taken: dict[str, str] = {}
    for name, field in schema.all.items():
        for branch in _written(name, field):
            invalid = re.search(bad, branch)
            if invalid or not branch:
                what = f"contains {invalid[0]!a}" if invalid else "is empty"
                raise DataError(
                    f"the branch {branch!a} of the field {name!a} {what}, which a {format} does not allow; read it from a "
                    "branch with another name or leave it out"
                )
            if branch in taken:
                raise DataError(
                    f"the fields '{taken[branch]}' and '{name}' would both be written to the branch '{branch}'; leave one out"
                )
            taken[branch] = name


def _check_tree(tree: str) -> None:
    if not all(tree.split("/")) or re.search(r"[\x00-\x1f\x7f\ud800-\udfff;]", tree):
        raise DataError(
            f"the tree name {tree!a} is invalid: names between slashes must not be empty or contain semicolons or control "
            "characters"
        )


def _written(name: str, field: Field) -> list[str]:
    return [root_name(branch) for branch in branch_names(name, field)]


def _fill(file: Any, chunks: Iterator[ak.Array], schema: Schema, tree: str, format: Format) -> None:
    pieces = itertools.chain.from_iterable(_pieces(chunk, schema) for chunk in chunks)
    first = next(pieces, None)
    if first is None:
        raise NoEventsError(f"no events to write to the tree '{tree}'")
    if format == "RNTuple":
        writer = file.mkrntuple(tree, _record(first).layout.form)
        for piece in itertools.chain([first], pieces):
            writer.extend(_record(piece))
    else:
        counters = {
            _written(name, schema.all[name])[0]: _written(count, schema.all[count])[0]
            for count, lists in schema.counts.items()
            for name in lists
        }
        types = {name: _branch_type(column) for name, column in first.items()}
        writer = file.mktree(tree, types, counter_name=counters.__getitem__)
        for piece in itertools.chain([first], pieces):
            writer.extend(piece)


def _branch_type(column: Any) -> Any:
    if isinstance(column, ak.Array):
        return column.type.content
    return np.dtype((column.dtype, column.shape[1:])) if column.ndim > 1 else column.dtype


def _record(piece: dict[str, Any]) -> ak.Array:
    columns = {
        name: c if isinstance(c, ak.Array) else ak.from_numpy(c, regulararray=True)
        for name, c in piece.items()
    }
    return ak.zip(columns, depth_limit=1)


def _pieces(events: ak.Array, schema: Schema) -> Iterator[dict[str, Any]]:
    """Yields the values of ``events`` by branch, in chunks of about ``CLUSTER`` bytes."""
    missing = [name for name in schema.all if name not in events.fields]
    if missing:
        names = ", ".join(events.fields)
        raise DataError(f"the events have no field '{missing[0]}'; they have: {names}")
    if len(events) == 0:
        return
    lengths = {
        count: np.clip(ak.to_numpy(events[count]), 0, schema.all[lists[0]].shape[0])
        for count, lists in schema.counts.items()
    }
    for count, values in lengths.items():
        events = ak.with_field(events, values, count)
    row = events[:1]
    size = sum(a.nbytes for name, f in schema.all.items() for a in _columns(name, f, row).values())
    rows = max(1, int(CLUSTER / max(1, size)))
    for start in range(0, len(events), rows):
        piece: dict[str, Any] = {}
        for name, field in schema.all.items():
            piece |= _columns(name, field, events[start : start + rows])
        yield piece


def _columns(name: str, field: Field, events: ak.Array) -> dict[str, Any]:
    branches = _written(name, field)
    try:
        values = ak.to_numpy(events[name])
    except ValueError as error:
        raise DataError(
            f"field '{name}' is jagged; pad it to {list(field.shape)} before writing"
        ) from error
    if values.shape[1:] != field.shape:
        raise DataError(
            f"field '{name}' of the events has the shape {list(values.shape[1:])}, but the schema declares {list(field.shape)}"
        )
    kind = np.dtype(field.dtype or values.dtype)
    # ROOT has no half precision.
    values = to_dtype(values, "float32" if kind == np.float16 else kind.str, name)
    if field.fill is not None:
        inside = np.arange(field.shape[0]) < ak.to_numpy(events[field.count])[:, None]
        return {branches[0]: ak.unflatten(ak.from_numpy(values[inside]), inside.sum(axis=1))}
    if len(branches) == 1:
        stored = field.shape if field.stored is None else field.stored
        return {branches[0]: values.reshape(-1, *stored)}
    flat = np.ascontiguousarray(values.reshape(len(values), -1).T)
    return dict(zip(branches, flat, strict=True))
