"""Fields of a schema in the branches of a tree: which ones, of which type and shape."""

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
    """What one branch holds an entry: ``shape`` of ``dtype``, or a varying number of them where it is jagged."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    jagged: bool


def branch_names(name: str, field: Field) -> tuple[str, ...]:
    """The names of the branches of the field ``name``, patterns written out."""
    return expand_ranges(field.branches) or (name,)


class BranchHandle(NamedTuple):
    """One name by which numbers of a tree can be read.

    Attributes:
        branch: uproot's branch of a TTree or field of an RNTuple, or an array that something else has read.
        key: Its name for ``tree.arrays``.
        leaf: Which of a branch's several leaves is meant; empty for a branch of one.
    """

    branch: Any
    key: str
    leaf: str = ""


BranchIndex = Mapping[str, BranchHandle]
"""The places of a tree by name."""


def index_branches(tree: Any) -> dict[str, BranchHandle]:
    """Returns the places of ``tree`` by name: ``branch.leaf`` too where a branch has several, ``leaf`` for ``folder/leaf``.

    Time and memory grow in proportion to the number of branches; looking names up in uproot's trees does not.

    Args:
        tree: uproot's TTree or RNTuple, or events that something else has read.
    """
    if isinstance(tree, ak.Array):
        return {name: BranchHandle(tree[name], name) for name in tree.fields}
    if is_rntuple(tree):
        _list_subfields(tree)
        return {name: BranchHandle(field, name) for name, field in tree.items(recursive=True)}
    branches = list(tree.iteritems(recursive=True))
    found: dict[str, BranchHandle] = {}
    for name, branch in branches:
        found.setdefault(name, BranchHandle(branch, name))
    for name, branch in branches:
        short = name.rpartition("/")[2]
        found.setdefault(short, BranchHandle(branch, short))
    for _, branch in branches:
        for leaf in leaf_names(branch):
            found.setdefault(leaf, BranchHandle(branch, branch.name, leaf.rpartition(".")[2]))
    return found


def _list_subfields(tree: Any) -> None:
    """Gives every field of an RNTuple its subfields in one pass: uproot would look for those of each among all."""
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
        field._fields = list(below(i))  # the cache of its property


def names_in(tree: Any) -> list[str]:
    """All names by which a branch of ``tree``, or ``branch.leaf`` where it has several, can be asked for."""
    return list(index_branches(tree))


def leaf_names(branch: Any) -> list[str]:
    """``branch.leaf`` for each leaf of a TTree's branch that has several."""
    leaves = branch.member("fLeaves")
    return [f"{branch.name}.{leaf.member('fName')}" for leaf in leaves] if len(leaves) > 1 else []


def is_rntuple(tree: Any) -> bool:
    """Whether ``tree`` is an RNTuple, or a field of one, rather than a TTree."""
    return isinstance(tree, uproot.behaviors.RNTuple.HasFields)


def branch_type(place: BranchHandle, name: str, path: str) -> BranchType:
    """Returns the type and shape of the branch ``name`` of the file ``path``, without reading its data.

    Raises:
        DataError: it holds neither numbers nor lists of numbers.
    """
    branch = place.branch
    with data_errors(path):
        if isinstance(branch, ak.Array):
            kind = branch.type.content
            found = _of_type(kind)
        elif is_rntuple(branch):
            form, members = branch.to_akform()
            for member in members:
                form = _member(form, member)
            kind, found = form.type, _of_type(form.type)
            if found and "-cardinality" in str(form.form_key):
                # uproot gives the lengths of lists as signed numbers.
                bits = "64" if "64" in branch.typename else "32"
                found = found._replace(dtype=np.dtype(f"uint{bits}"))
        else:
            if _misread(branch):
                raise DataError(
                    f"branch '{name}' of '{path}' is an array of Float16_t or Double32_t with a range, which uproot "
                    "cannot read; write it as float"
                )
            kind = interpretation_of(branch)
            found = _of_interpretation(kind, place.leaf)
    if found is None:
        raise NoNumbersError(
            f"branch '{name}' of '{path}' holds {kind}, which is neither a number nor an array of numbers; "
            "leave it out or name its parts"
        )
    return found


def _member(form: Any, name: str) -> Any:
    """The form of a record's member, or of the lists of this member where records are in lists."""
    if isinstance(form, ak.forms.RecordForm):
        return form.content(name)
    return form.copy(content=_member(form.content, name))


def read_branch(place: BranchHandle, *, start: int, stop: int, jagged: bool) -> Any:
    """Returns the values of one branch: a NumPy array ``[E, …]``, or an awkward array where it is jagged."""
    if is_rntuple(place.branch):
        found = place.branch.array(entry_start=start, entry_stop=stop)
        return found if jagged else ak.to_numpy(found)
    library = "ak" if jagged else "np"
    kind = interpretation_of(place.branch)
    found = place.branch.array(kind, entry_start=start, entry_stop=stop, library=library)
    return found[place.leaf] if place.leaf else found


def interpretation_of(branch: Any) -> Any:
    """Returns uproot's interpretation of a TTree's branch, by ROOT's rule for truncated numbers.

    ``Float16_t`` and ``Double32_t`` without a range keep as many bits of the mantissa as are asked for up to 14
    (``TStreamerElement``'s ``GetRange``); with more, ``Float16_t`` keeps 12 and ``Double32_t`` is a float. Numbers of 32 bits
    divide their range into 2^32 - 1 steps, not 2^32 (``TBufferFile::WriteDouble32``).
    """
    kind = branch.interpretation
    if not isinstance(kind, uproot.AsJagged):
        return _by_roots_rule(kind)
    content = _by_roots_rule(kind.content)
    return kind if content is kind.content else uproot.AsJagged(content, kind.header_bytes)


def _by_roots_rule(kind: Any) -> Any:
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


def is_plain(place: BranchHandle) -> bool:
    """Whether uproot's own interpretation of a TTree's branch is the one to read it with."""
    return not isinstance(place.branch.interpretation, (uproot.AsFloat16, uproot.AsDouble32))


def _of_interpretation(kind: Any, leaf: str = "") -> BranchType | None:
    if isinstance(kind, uproot.AsJagged):
        inner = _of_interpretation(kind.content)
        return inner and inner._replace(jagged=True)
    if not isinstance(kind, (uproot.AsDtype, uproot.AsFloat16, uproot.AsDouble32)):
        return None
    found = kind.to_dtype[leaf] if leaf else kind.to_dtype
    base, shape = found.subdtype or (found, ())
    return (
        None
        if base.names
        else BranchType(base.newbyteorder("="), tuple(map(int, shape)), jagged=False)
    )


def _misread(branch: Any) -> bool:
    """Whether it is an array of truncated numbers (``Float16_t``, ``Double32_t`` with a range), which uproot gets wrong."""
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
    """``schema`` with branches, dtype and stored as they are in the tree of ``index``, in the file ``where``.

    Raises:
        DataError: a branch is missing, of another size than its field, or no plain numbers.
    """
    found = {
        name: _resolve(name, field, index, where) for name, field in schema.in_branches.items()
    }
    used = {branch for name, field in found.items() for branch in branch_names(name, field)}
    fields = schema.all
    for count, lists in schema.counts.items():
        field = fields[count]
        with data_errors(where):
            counter = counter_name(index[found[lists[0]].branches[0]])
        branches = field.branches or ((counter,) if counter and counter not in used else ())
        found[count] = dataclasses.replace(field, branches=branches, stored=())
    return Schema(
        {name: found[name] for name in schema.fields},
        {name: found[name] for name in schema.conditions},
        schema.incident,
    )


def counter_name(place: BranchHandle) -> str:
    """Returns the name of the leaf that holds the lengths of a jagged branch of a TTree; empty where there is none."""
    if isinstance(place.branch, ak.Array) or is_rntuple(place.branch):
        return ""
    leaves = place.branch.member("fLeaves")
    counter = leaves[0].member("fLeafCount") if len(leaves) else None
    return "" if counter is None else str(counter.member("fName"))


def root_name(branch: str) -> str:
    """Returns ROOT's name of a branch that uproot calls by its path: ``TTree::Draw`` takes a slash for a division.

    >>> root_name("hits/hits.fX"), root_name("muons/pt")
    ('hits.fX', 'muons.pt')
    """
    *parents, name = branch.split("/")
    return name if parents and name.startswith(f"{parents[-1]}.") else ".".join([*parents, name])


def _resolve(name: str, field: Field, index: BranchIndex, where: str) -> Field:
    given = branch_names(name, field)
    names = tuple(n if n in index or root_name(n) not in index else root_name(n) for n in given)
    require_branches(names, index, where, f"field '{name}'")
    found = [branch_type(index[branch], branch, where) for branch in names]
    if len(names) == 1:
        _check_single(name, field, names[0], found[0], where)
        dtype, stored = found[0].dtype, found[0].shape
    else:
        _check_many(name, field, names, found, where)
        dtype, stored = np.result_type(*(branch.dtype for branch in found)), ()
    branches = names if names != given else field.branches or (name,)
    return dataclasses.replace(field, branches=branches, dtype=dtype.name, stored=stored)


def require_branches(names: Sequence[str], known: Collection[str], where: str, what: str) -> None:
    """Raise a ``DataError`` for the first of ``names`` that is no branch; says how many more there are."""
    missing = [name for name in names if name not in known]
    if not missing:
        return
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    near = did_you_mean(missing[0], known)
    there = ", ".join(itertools.islice(known, 12)) + (", …" if len(known) > 12 else "")
    raise DataError(
        f"no branch '{missing[0]}'{more} for {what} in '{where}'{near or f'; there are: {there}'}"
    )


def _check_single(name: str, field: Field, branch: str, found: BranchType, where: str) -> None:
    if found.jagged and field.fill is None:
        raise DataError(
            f"branch '{branch}' of '{where}' is jagged, but field '{name}' needs {field.size} values in every "
            "entry; give the field 'fill = 0.0' to pad or cut it to its shape"
        )
    if field.fill is not None and field.shape == () and not found.jagged:
        raise DataError(
            f"field '{name}' has a 'fill', but branch '{branch}' of '{where}' is one number an entry; leave 'fill' out"
        )
    if found.jagged and (field.shape == () or field.shape[1:] != found.shape):
        raise DataError(
            f"branch '{branch}' of '{where}' is a list of values of shape {list(found.shape)}; field '{name}' "
            f"of shape {list(field.shape)} should be [longest list{''.join(f', {n}' for n in found.shape)}]"
        )
    if not found.jagged and math.prod(found.shape) != field.size:
        raise DataError(
            f"branch '{branch}' of '{where}' holds {math.prod(found.shape)} values an entry "
            f"({list(found.shape)}), but field '{name}' of shape {list(field.shape)} needs {field.size}; "
            "correct its shape in [schema]"
        )


def _check_many(
    name: str, field: Field, names: Sequence[str], found: Sequence[BranchType], where: str
) -> None:
    if len(names) != field.size:
        raise DataError(
            f"field '{name}' of shape {list(field.shape)} needs {field.size} values, but {len(names)} "
            f"branches are named ({names[0]} … {names[-1]}); correct its shape or its branches in [schema]"
        )
    for branch, one in zip(names, found, strict=True):
        if one.jagged or one.shape:
            raise DataError(
                f"branch '{branch}' of '{where}' should hold one number an entry, one of the {field.size} of "
                f"field '{name}', but it is an array"
            )
