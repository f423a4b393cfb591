"""Branches of a tree: lookup by name, types, and the resolution of a schema against them."""

import dataclasses
import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
import uproot

from hepgan.data.io.files import data_errors
from hepgan.data.schema import Field, Schema, expand_ranges
from hepgan.errors import DataError, NoNumbersError, did_you_mean


class BranchType(NamedTuple):
    """Type of a branch per entry: an array ``shape`` of ``dtype``, or a variable number of such arrays if it is jagged."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    jagged: bool


def branch_names(name: str, field: Field) -> tuple[str, ...]:
    """Returns the names of the branches of the field ``name``, with patterns expanded."""
    return expand_ranges(field.branches) or (name,)


class BranchHandle(NamedTuple):
    """Branch, or leaf of a branch, under one of its names.

    Attributes:
        branch: uproot's branch of a TTree or field of an RNTuple, or an array that was read elsewhere.
        key: Name of the branch for ``tree.arrays``.
        leaf: Name of the leaf if the branch has several; otherwise empty.
    """

    branch: Any
    key: str
    leaf: str = ""


BranchIndex = Mapping[str, BranchHandle]
"""Branches of a tree by name."""


def index_branches(tree: Any) -> dict[str, BranchHandle]:
    """Returns the branches of ``tree`` by name, also as ``branch.leaf`` for each of several leaves and as ``leaf`` for ``folder/leaf``.

    Time and memory are linear in the number of branches, unlike lookups in uproot's trees.

    Args:
        tree: uproot's TTree or RNTuple, or events that were read elsewhere.
    """
    if isinstance(tree, ak.Array):
        return {name: BranchHandle(tree[name], name) for name in tree.fields}
    if is_rntuple(tree):
        _list_subfields(tree)
        return {name: BranchHandle(field, name) for name, field in tree.items(recursive=True)}
    branches = list(tree.iteritems(recursive=True))
    index: dict[str, BranchHandle] = {}
    for name, branch in branches:
        index.setdefault(name, BranchHandle(branch, name))
    for name, branch in branches:
        short = name.rpartition("/")[2]
        index.setdefault(short, BranchHandle(branch, short))
    for _, branch in branches:
        for leaf in leaf_names(branch):
            index.setdefault(leaf, BranchHandle(branch, branch.name, leaf.rpartition(".")[2]))
    return index


def _list_subfields(tree: Any) -> None:
    """Fills the subfield cache of every field of an RNTuple in one pass; uproot searches all fields for each of them."""
    children: dict[int, list[int]] = {}
    for i, record in enumerate(tree.field_records):
        if record.parent_field_id != i:
            children.setdefault(record.parent_field_id, []).append(i)

    def below(parent: int) -> Iterator[Any]:
        for i in children.get(parent, []):
            if tree.all_fields[i].is_anonymous:
                yield from below(i)
            else:
                yield tree.all_fields[i]

    for i, field in enumerate(tree.all_fields):
        field._fields = list(below(i))  # cache behind uproot's property


def leaf_names(branch: Any) -> list[str]:
    """Returns ``branch.leaf`` for each leaf of a branch with several leaves, otherwise nothing."""
    leaves = branch.member("fLeaves")
    return [f"{branch.name}.{leaf.member('fName')}" for leaf in leaves] if len(leaves) > 1 else []


def is_rntuple(tree: Any) -> bool:
    """Returns whether ``tree`` is an RNTuple, or a field of one, rather than a TTree."""
    return isinstance(tree, uproot.behaviors.RNTuple.HasFields)


def branch_type(handle: BranchHandle, name: str, path: str) -> BranchType:
    """Returns the type and shape of the branch ``name`` of the file ``path``, without reading its data.

    Raises:
        NoNumbersError: it holds neither numbers nor lists of numbers.
        DataError: uproot cannot read its type.
    """
    branch = handle.branch
    with data_errors(path):
        if isinstance(branch, ak.Array):
            kind = branch.type.content
            result = _of_type(kind)
        elif is_rntuple(branch):
            form, members = branch.to_akform()
            for member in members:
                form = _member(form, member)
            kind, result = form.type, _of_type(form.type)
            if result and "-cardinality" in str(form.form_key):
                # uproot reports the lengths of lists as signed integers.
                bits = "64" if "64" in branch.typename else "32"
                result = result._replace(dtype=np.dtype(f"uint{bits}"))
        else:
            if _is_misread_by_uproot(branch):
                raise DataError(
                    f"branch '{name}' of '{path}' is an array of Float16_t or Double32_t with a range, which uproot "
                    "cannot read; store it as float"
                )
            kind = interpretation_of(branch)
            result = _of_interpretation(kind, handle.leaf)
    if result is None:
        raise NoNumbersError(
            f"branch '{name}' of '{path}' holds {kind}, which is neither a number nor an array of numbers; "
            "leave it out or name its members"
        )
    return result


def _member(form: Any, name: str) -> Any:
    """Returns the form of a record's member, or of the lists of that member if the records are in lists."""
    if isinstance(form, ak.forms.RecordForm):
        return form.content(name)
    return form.copy(content=_member(form.content, name))


def read_branch(handle: BranchHandle, *, start: int, stop: int, jagged: bool) -> Any:
    """Reads one branch as a NumPy array ``[E, …]``, or as an awkward array if it is jagged."""
    if is_rntuple(handle.branch):
        values = handle.branch.array(entry_start=start, entry_stop=stop)
        return values if jagged else ak.to_numpy(values)
    library = "ak" if jagged else "np"
    kind = interpretation_of(handle.branch)
    values = handle.branch.array(kind, entry_start=start, entry_stop=stop, library=library)
    return values[handle.leaf] if handle.leaf else values


def interpretation_of(branch: Any) -> Any:
    """Returns uproot's interpretation of a TTree branch, corrected to follow ROOT for truncated numbers.

    ``Float16_t`` and ``Double32_t`` without a range keep the requested number of mantissa bits up to 14 (``GetRange`` of
    ``TStreamerElement``); beyond, ``Float16_t`` keeps 12 and ``Double32_t`` is a float. Numbers with 32 bits divide their range into
    2^32 - 1 steps, not 2^32 (``TBufferFile::WriteDouble32``).
    """
    kind = branch.interpretation
    if not isinstance(kind, uproot.AsJagged):
        return _corrected(kind)
    content = _corrected(kind.content)
    return kind if content is kind.content else uproot.AsJagged(content, kind.header_bytes)


def _corrected(kind: Any) -> Any:
    if not isinstance(kind, (uproot.AsFloat16, uproot.AsDouble32)):
        return kind
    if kind.is_truncated and kind.num_bits > 14:
        if isinstance(kind, uproot.AsFloat16):
            return uproot.AsFloat16(0, 0, 12, kind.to_dims)
        shape = kind.to_dims
        return uproot.AsDtype(np.dtype((">f4", shape)), np.dtype(("f8", shape)))
    if kind.num_bits == 32 and not kind.is_truncated:
        high = kind.low + (kind.high - kind.low) * 2**32 / (2**32 - 1)
        return type(kind)(kind.low, high, 32, kind.to_dims)
    return kind


def is_plain(handle: BranchHandle) -> bool:
    """Returns whether uproot's interpretation of a TTree branch needs no correction."""
    return not isinstance(handle.branch.interpretation, (uproot.AsFloat16, uproot.AsDouble32))


def _of_interpretation(kind: Any, leaf: str = "") -> BranchType | None:
    if isinstance(kind, uproot.AsJagged):
        inner = _of_interpretation(kind.content)
        return inner and inner._replace(jagged=True)
    if not isinstance(kind, (uproot.AsDtype, uproot.AsFloat16, uproot.AsDouble32)):
        return None
    dtype = kind.to_dtype[leaf] if leaf else kind.to_dtype
    base, shape = dtype.subdtype or (dtype, ())
    return (
        None
        if base.names
        else BranchType(base.newbyteorder("="), tuple(map(int, shape)), jagged=False)
    )


def _is_misread_by_uproot(branch: Any) -> bool:
    """Returns whether a branch is an array of ``Float16_t``, or of ``Double32_t`` with a range, which uproot reads incorrectly."""
    return any(
        leaf.classname == "TLeafF16"
        or (leaf.classname == "TLeafD32" and "/d[" in leaf.member("fTitle"))
        for leaf in branch.member("fLeaves")
        if leaf.member("fLen") > 1 or leaf.member("fLeafCount") is not None
    )


def _of_type(kind: Any) -> BranchType | None:
    shape: list[int] = []
    jagged = False
    while not isinstance(kind, ak.types.NumpyType):
        if "__array__" in kind.parameters:
            return None  # text
        if isinstance(kind, ak.types.ListType) and not jagged and not shape:
            jagged = True
        elif isinstance(kind, ak.types.RegularType):
            shape.append(kind.size)
        else:
            return None
        kind = kind.content
    return BranchType(np.dtype(kind.primitive), tuple(shape), jagged)


def resolve_schema(schema: Schema, index: BranchIndex, where: str) -> Schema:
    """Returns ``schema`` with ``branches``, ``dtype`` and ``stored`` as they are in the tree of ``index``, in the file ``where``.

    Raises:
        DataError: a branch is missing, differs in size from its field, or does not hold plain numbers.
    """
    resolved = {
        name: _resolve(name, field, index, where) for name, field in schema.in_branches.items()
    }
    used = {branch for name, field in resolved.items() for branch in branch_names(name, field)}
    fields = schema.all
    for count, lists in schema.counts.items():
        field = fields[count]
        with data_errors(where):
            counter = counter_name(index[resolved[lists[0]].branches[0]])
        branches = field.branches or ((counter,) if counter and counter not in used else ())
        resolved[count] = dataclasses.replace(field, branches=branches, stored=())
    return Schema(
        {name: resolved[name] for name in schema.fields},
        {name: resolved[name] for name in schema.conditions},
        schema.incident,
    )


def counter_name(handle: BranchHandle) -> str:
    """Returns the name of the leaf that holds the lengths of a jagged TTree branch, or an empty string."""
    if isinstance(handle.branch, ak.Array) or is_rntuple(handle.branch):
        return ""
    leaves = handle.branch.member("fLeaves")
    counter = leaves[0].member("fLeafCount") if len(leaves) else None
    return "" if counter is None else str(counter.member("fName"))


def root_name(branch: str) -> str:
    """Returns ROOT's name of a branch that uproot names by its path; ``TTree::Draw`` reads a slash as a division.

    >>> root_name("hits/hits.fX"), root_name("muons/pt")
    ('hits.fX', 'muons.pt')
    """
    *parents, name = branch.split("/")
    return name if parents and name.startswith(f"{parents[-1]}.") else ".".join([*parents, name])


def _resolve(name: str, field: Field, index: BranchIndex, where: str) -> Field:
    declared = branch_names(name, field)
    names = tuple(n if n in index or root_name(n) not in index else root_name(n) for n in declared)
    require_branches(names, index, where, f"field '{name}'")
    types = [branch_type(index[branch], branch, where) for branch in names]
    if len(names) == 1:
        _check_single(name, field, names[0], types[0], where)
        dtype, stored = types[0].dtype, types[0].shape
        if types[0].jagged and field.fill is None:
            stored = (field.size,)
    else:
        _check_many(name, field, names, types, where)
        dtype, stored = np.result_type(*(branch.dtype for branch in types)), ()
    branches = names if names != declared else field.branches or (name,)
    return dataclasses.replace(field, branches=branches, dtype=dtype.name, stored=stored)


def require_branches(names: Sequence[str], known: Collection[str], where: str, what: str) -> None:
    """Raises a ``DataError`` for the first of ``names`` that is not a branch; it reports how many more are missing."""
    missing = [name for name in names if name not in known]
    if not missing:
        return
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    near = did_you_mean(missing[0], known)
    known_names = ", ".join(itertools.islice(known, 12)) + (", …" if len(known) > 12 else "")
    raise DataError(
        f"no branch '{missing[0]}'{more} for {what} in '{where}'{near or f'; there are: {known_names}'}"
    )


def _check_single(name: str, field: Field, branch: str, kind: BranchType, where: str) -> None:
    if kind.jagged and field.fill is None and field.shape == ():
        raise DataError(
            f"branch '{branch}' of '{where}' is jagged, but field '{name}' is a number; give the field a shape, and 'fill = 0.0' if the"
            " lists differ in length"
        )
    if field.fill is not None and field.shape == () and not kind.jagged:
        raise DataError(
            f"field '{name}' has a 'fill', but branch '{branch}' of '{where}' is a scalar; remove 'fill'"
        )
    padded = kind.jagged and field.fill is not None
    if padded and (field.shape == () or field.shape[1:] != kind.shape):
        raise DataError(
            f"branch '{branch}' of '{where}' is a list of values of shape {list(kind.shape)}; field '{name}' "
            f"of shape {list(field.shape)} should be [longest list{''.join(f', {n}' for n in kind.shape)}]"
        )
    if not kind.jagged and math.prod(kind.shape) != field.size:
        raise DataError(
            f"branch '{branch}' of '{where}' holds {math.prod(kind.shape)} values per entry "
            f"({list(kind.shape)}), but field '{name}' of shape {list(field.shape)} needs {field.size}; "
            "correct its shape in [schema]"
        )


def _check_many(
    name: str, field: Field, names: Sequence[str], types: Sequence[BranchType], where: str
) -> None:
    if len(names) != field.size:
        raise DataError(
            f"field '{name}' of shape {list(field.shape)} needs {field.size} values, but {len(names)} "
            f"branches are listed ({names[0]} … {names[-1]}); correct its shape or its branches in [schema]"
        )
    for branch, kind in zip(names, types, strict=True):
        if kind.jagged or kind.shape:
            raise DataError(
                f"branch '{branch}' of '{where}' is an array, but it should hold one number per entry, one of the "
                f"{field.size} values of field '{name}'"
            )
