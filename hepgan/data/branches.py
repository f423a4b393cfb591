"""Fields of a schema in the branches of a tree: which ones, of which type and shape."""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
import uproot

from hepgan.data.files import reading
from hepgan.data.schema import Field, Schema, expand
from hepgan.errors import DataError, did_you_mean


class Branch(NamedTuple):
    """What one branch holds an entry: ``shape`` of ``dtype``, or a varying number of them where it is jagged."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    jagged: bool


def branches_of(name: str, field: Field) -> tuple[str, ...]:
    """The names of the branches of the field ``name``, patterns written out."""
    return expand(field.branches) or (name,)


def names_in(tree: Any) -> list[str]:
    """All names by which a branch of ``tree``, or ``branch.leaf`` where it has several, can be asked for.

    ``tree`` may also be events that something else has read: their fields.
    """
    if isinstance(tree, ak.Array):
        return list(tree.fields)
    names: list[str] = tree.keys(recursive=True)
    if is_rntuple(tree):
        return names
    leaves = [leaf for branch in tree.values(recursive=True) for leaf in leaves_of(branch)]
    return [*names, *(n.rpartition("/")[2] for n in names if "/" in n), *leaves]


def leaves_of(branch: Any) -> list[str]:
    """``branch.leaf`` for each leaf of a TTree's branch that has several."""
    leaves = branch.member("fLeaves")
    return [f"{branch.name}.{leaf.member('fName')}" for leaf in leaves] if len(leaves) > 1 else []


def branch_and_leaf(tree: Any, name: str) -> tuple[str, str]:
    """The TTree's branch of ``name`` and which of its several leaves it means; empty for a branch of one."""
    if "." not in name or name in tree:
        return name, ""
    branch, _, leaf = name.rpartition(".")
    return branch, leaf


def part_of(record: Any, name: str) -> Any:
    """``record[name]``, or member by member where ``name`` is ``field.member`` of an RNTuple."""
    for part in _members(record, name):
        record = record[part]
    return record


def _members(record: Any, name: str) -> list[str]:
    return [name] if name in record.fields else name.split(".")


def is_rntuple(tree: Any) -> bool:
    """Whether ``tree`` is an RNTuple rather than a TTree."""
    return isinstance(tree, uproot.behaviors.RNTuple.HasFields)


def form_of(tree: Any, names: Iterable[str]) -> Any:
    """The form of ``names`` of an RNTuple, for ``describe``; ``None`` for another tree."""
    if isinstance(tree, ak.Array) or not is_rntuple(tree):
        return None
    return tree.to_akform(filter_name=frozenset(names).__contains__)[0]


def describe(tree: Any, name: str, path: str, *, form: Any = None) -> Branch:
    """Type and shape of the branch ``name``, which must exist, without reading its data.

    An RNTuple's ``form`` with that name spares making it anew for each of many branches.

    Raises:
        DataError: it holds neither numbers nor lists of numbers.
    """
    with reading(path):
        if isinstance(tree, ak.Array):
            kind = tree[name].type.content
            found = _of_type(kind)
        elif is_rntuple(tree):
            form = form_of(tree, [name]) if form is None else form
            for part in _members(form, name):
                form = form.content(part)
            kind, found = form.type, _of_type(form.type)
        else:
            branch, leaf = branch_and_leaf(tree, name)
            if _misread(tree[branch]):
                raise DataError(
                    f"branch '{name}' of '{path}' is an array of Float16_t or Double32_t with a range, which uproot "
                    "cannot read; write it as float"
                )
            kind = tree[branch].interpretation
            found = _of_interpretation(kind, leaf)
    if found is None:
        raise DataError(
            f"branch '{name}' of '{path}' holds {kind}, which is neither a number nor an array of numbers; "
            "leave it out or name its parts"
        )
    return found


def _of_interpretation(kind: Any, leaf: str = "") -> Branch | None:
    if isinstance(kind, uproot.AsJagged):
        inner = _of_interpretation(kind.content)
        return inner and inner._replace(jagged=True)
    if not isinstance(kind, (uproot.AsDtype, uproot.AsFloat16, uproot.AsDouble32)):
        return None
    found = kind.to_dtype[leaf] if leaf else kind.to_dtype
    base, shape = found.subdtype or (found, ())
    return (
        None if base.names else Branch(base.newbyteorder("="), tuple(map(int, shape)), jagged=False)
    )


def _misread(branch: Any) -> bool:
    """Whether it is an array of truncated numbers (``Float16_t``, ``Double32_t`` with a range), which uproot gets wrong."""
    return any(
        leaf.classname == "TLeafF16"
        or (leaf.classname == "TLeafD32" and "/d[" in leaf.member("fTitle"))
        for leaf in branch.member("fLeaves")
        if leaf.member("fLen") > 1 or leaf.member("fLeafCount") is not None
    )


def _of_type(kind: Any) -> Branch | None:
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
    return Branch(np.dtype(kind.primitive), tuple(shape), jagged)


def resolve_schema(schema: Schema, tree: Any, where: str) -> Schema:
    """``schema`` with branches, dtype and stored as they are in ``tree`` (or events with a field a branch) of the file ``where``.

    Raises:
        DataError: a branch is missing, of another size than its field, or no plain numbers.
    """
    with reading(where):
        known = dict.fromkeys(names_in(tree))
    found = {
        name: _resolve(name, field, tree, known, where)
        for name, field in schema.in_branches.items()
    }
    used = {branch for name, field in found.items() for branch in branches_of(name, field)}
    for count, lists in schema.counts.items():
        field = schema.all[count]
        with reading(where):
            counter = counter_of(tree, found[lists[0]].branches[0])
        branches = field.branches or ((counter,) if counter and counter not in used else ())
        found[count] = dataclasses.replace(field, branches=branches, stored=())
    return Schema(
        {name: found[name] for name in schema.fields},
        {name: found[name] for name in schema.conditions},
    )


def counter_of(tree: Any, branch: str) -> str:
    """Returns the name of the leaf that holds the lengths of a jagged branch of a TTree; empty where there is none."""
    if isinstance(tree, ak.Array) or is_rntuple(tree):
        return ""
    leaves = tree[branch_and_leaf(tree, branch)[0]].member("fLeaves")
    counter = leaves[0].member("fLeafCount") if len(leaves) else None
    return "" if counter is None else str(counter.member("fName"))


def root_name(branch: str) -> str:
    """Returns ROOT's name of a branch that uproot calls by its path: ``TTree::Draw`` takes a slash for a division.

    >>> root_name("hits/hits.fX"), root_name("muons/pt")
    ('hits.fX', 'muons.pt')
    """
    *parents, name = branch.split("/")
    return name if parents and name.startswith(f"{parents[-1]}.") else ".".join([*parents, name])


def _resolve(name: str, field: Field, tree: Any, known: dict[str, None], where: str) -> Field:
    given = branches_of(name, field)
    names = tuple(n if n in known or root_name(n) not in known else root_name(n) for n in given)
    require(names, known, where, f"field '{name}'")
    with reading(where):
        form = form_of(tree, names)
    found = [describe(tree, branch, where, form=form) for branch in names]
    if len(names) == 1:
        _check_single(name, field, names[0], found[0], where)
        dtype, stored = found[0].dtype, found[0].shape
    else:
        _check_many(name, field, names, found, where)
        dtype, stored = np.result_type(*(branch.dtype for branch in found)), ()
    branches = names if names != given else field.branches or (name,)
    return dataclasses.replace(field, branches=branches, dtype=dtype.name, stored=stored)


def require(names: Sequence[str], known: dict[str, None], where: str, what: str) -> None:
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


def _check_single(name: str, field: Field, branch: str, found: Branch, where: str) -> None:
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
    name: str, field: Field, names: Sequence[str], found: Sequence[Branch], where: str
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
