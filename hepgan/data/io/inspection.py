"""Summaries of ROOT files: trees, branches, types, ranges, and the schema that they suggest."""

import itertools
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
import tomli_w

from hepgan.data.io.branches import (
    Branch,
    Index,
    Place,
    array_of,
    counter_of,
    describe,
    index_of,
    is_rntuple,
    leaves_of,
)
from hepgan.data.io.files import Source, find_tree, opened, reading, sources, trees
from hepgan.data.io.names import is_text, printable
from hepgan.data.io.validation import misfits
from hepgan.data.schema import Field
from hepgan.errors import DataError, NoNumbersError

SHORTEST_RUN = 8
"""At least so many scalar branches, numbered one after the other from 0 or 1, are one field."""

WEIGHTS = re.compile(r"w|wt|.*(weight|wgt).*", re.IGNORECASE)
"""Names of event weights."""

_QUANTITY = r"(e|energy|theta|phi|eta|pdg|pdg_?id|pid)"
_TRUE = r"(inc|incident|true|truth|mc|gen|beam|primary|total|particle)"
INCIDENT = re.compile(rf"{_QUANTITY}_?{_TRUE}|({_TRUE}_?)+{_QUANTITY}", re.IGNORECASE)
"""Names of quantities of an incident particle."""

PERHAPS_INCIDENT = re.compile(_QUANTITY, re.IGNORECASE)
"""Names of quantities of an incident particle where the tree holds arrays; columns of a flat table may be called so as well."""

LABELS = re.compile(r"labels?|class(_?(id|label))?|target", re.IGNORECASE)
"""Names of class labels."""


class BranchSummary(NamedTuple):
    """One branch: the range and type of its values in the entries looked at.

    Attributes:
        name: Its name.
        type: Type and shape; ``None`` for branches that hold no numbers or cannot be read.
        low: Smallest finite value; NaN where there is none.
        high: Largest finite value.
        zeros: Fraction of zeros among the finite values.
        not_finite: How many values are NaN or infinite.
        misfits: How many finite values float32 cannot hold: integers above 2^24, floats above 3.4e38.
        longest: The longest list of a jagged branch.
        counter: The branch that holds the lengths of a jagged branch, where there is one.
        fault: Why it cannot be read; empty where it can.
    """

    name: str
    type: Branch | None
    low: float = math.nan
    high: float = math.nan
    zeros: float = math.nan
    not_finite: int = 0
    misfits: int = 0
    longest: int = 0
    counter: str = ""
    fault: str = ""


class TreeSummary(NamedTuple):
    """One tree: ``seen`` of its ``entries`` were looked at."""

    name: str
    format: str
    entries: int
    seen: int
    branches: tuple[BranchSummary, ...]


class Proposal(NamedTuple):
    """The fields that a tree suggests.

    Attributes:
        fields: Fields that can be read.
        conditions: Quantities of an incident particle and class labels, which may be conditions.
        weights: Event weights.
        left_out: Fields that ``root.read`` refuses, with the reason.
        unreadable: Branches that cannot be read at all, with the reason.
    """

    fields: dict[str, Field]
    conditions: dict[str, Field]
    weights: dict[str, Field]
    left_out: dict[str, tuple[Field, str]]
    unreadable: dict[str, str]

    @property
    def readable(self) -> dict[str, Field]:
        """All that can be read without checks: fields, conditions, weights and what is left out for its values."""
        left_out = {name: field for name, (field, _) in self.left_out.items()}
        return {**self.fields, **left_out, **self.conditions, **self.weights}


def inspect(
    path: str | os.PathLike[str], *, tree: str | None = None, entries: int = 10_000
) -> list[TreeSummary]:
    """Returns the trees of one file, or one of them, with ranges from their first ``entries``.

    A branch that cannot be read is named; the others are shown all the same.

    Raises:
        DataError: the file or tree is missing or damaged.
    """
    path, named = sources(path, tree=tree)[0]
    with opened(path) as file:
        names = [named] if named else list(trees(file, path))
        if not names:
            find_tree(file, Source(path, None))
        return [_tree(find_tree(file, Source(path, name)), name, path, entries) for name in names]


def _tree(tree: Any, name: str, path: str, entries: int) -> TreeSummary:
    with reading(path):
        number = int(tree.num_entries)
        index = index_of(tree)
        places = list(_places(tree, index))
    seen = min(number, entries)
    found = tuple(_branch(place, branch, path, seen) for branch, place in places)
    return TreeSummary(name, "RNTuple" if is_rntuple(tree) else "TTree", number, seen, found)


def _places(tree: Any, index: Index) -> Iterator[tuple[str, Place]]:
    """The names by which numbers are read, each once; branches whose numbers are in branches of their own are passed over."""
    if is_rntuple(tree):
        parents = {name.rpartition(".")[0] for name in index}
        yield from ((name, place) for name, place in index.items() if name not in parents)
        return
    for name, branch in tree.iteritems(recursive=True):
        if not branch.branches:
            for leaf in leaves_of(branch) or [name]:
                yield leaf, index[leaf]


def _branch(place: Place, name: str, path: str, seen: int) -> BranchSummary:
    try:
        kind = describe(place, name, path)
    except NoNumbersError:
        return BranchSummary(name, None)
    except DataError as error:
        return BranchSummary(name, None, fault=str(error))
    with reading(path):
        counter = counter_of(place) if kind.jagged else ""
    if seen == 0:
        return BranchSummary(name, kind, counter=counter)
    try:
        with reading(path):
            array = array_of(place, start=0, stop=seen, jagged=kind.jagged)
            if len(array) != seen:
                fault = f"gives {len(array)} of {seen} entries; the file is damaged, copy or write it again"
                return BranchSummary(name, kind, fault=fault)
            lengths = ak.to_numpy(ak.num(array, axis=1)) if kind.jagged else np.zeros(0)
            values = ak.to_numpy(ak.flatten(array, axis=None)) if kind.jagged else array
    except DataError as error:
        return BranchSummary(name, kind, fault=str(error))
    finite = values[np.isfinite(values)]
    summary = BranchSummary(
        name,
        kind,
        not_finite=values.size - finite.size,
        misfits=misfits(finite),
        longest=int(lengths.max(initial=0)),
        counter=counter,
    )
    if finite.size == 0:
        return summary
    low, high, zeros = float(finite.min()), float(finite.max()), float((finite == 0).mean())
    return summary._replace(low=low, high=high, zeros=zeros)


def as_text(summaries: Sequence[TreeSummary]) -> str:
    """A table of the trees and branches, branches that only differ by a number in one line."""
    lines = []
    for tree in summaries:
        lines.append(
            f"{printable(tree.name)}  ({tree.format}, {tree.entries:,} entries; ranges of {tree.seen:,})"
        )
        rows = [_row(name, branches) for name, branches in _grouped(tree.branches)]
        widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=False))
            lines.append(f"  {'  '.join(cells)}  {row[3]}".rstrip())
    return "\n".join(lines)


def _row(name: str, branches: Sequence[BranchSummary]) -> tuple[str, str, str, str]:
    kind, name = branches[0].type, printable(name)
    fault = printable(next((branch.fault for branch in branches if branch.fault), ""))
    if kind is None:
        return name, "unreadable" if fault else "no numbers", "", fault
    text = kind.dtype.name + ("[…]" if kind.jagged else "") + "".join(f"[{n}]" for n in kind.shape)
    if fault:
        return name, text, "unreadable", fault
    lows = [b.low for b in branches if not math.isnan(b.low)]
    highs = [b.high for b in branches if not math.isnan(b.high)]
    span = f"{min(lows):.6g} … {max(highs):.6g}" if lows else "no finite value"
    zeros = [b.zeros for b in branches if not math.isnan(b.zeros)]
    notes = [f"{np.mean(zeros):.1%} zeros"] if zeros and np.mean(zeros) >= 0.0005 else []
    if bad := sum(b.not_finite for b in branches):
        notes.append(f"{bad} NaN or infinite")
    if bad := sum(b.misfits for b in branches):
        notes.append(f"{bad} {_too_large(kind)}")
    constant = sum(b.low == b.high for b in branches)
    if constant:
        notes.append(
            "constant" if len(branches) == 1 else f"{constant} of {len(branches)} constant"
        )
    if kind.jagged:
        notes.append(f"up to {branches[0].longest} values")
    return name, text, span, ", ".join(notes)


def _too_large(kind: Branch) -> str:
    return "beyond float32" if kind.dtype.kind == "f" else "integers above 2^24"


def _place(branches: Sequence[BranchSummary]) -> Callable[[BranchSummary], tuple[int, int]]:
    """Sorts branches of one stem by their number, at the place of the first of them: ``x2`` before ``x10``."""
    first: dict[str, int] = {}
    for number, branch in enumerate(branches):
        first.setdefault(branch.name.rstrip("0123456789"), number)

    def place(branch: BranchSummary) -> tuple[int, int]:
        stem = branch.name.rstrip("0123456789")
        return first[stem], int(branch.name[len(stem) :][:18] or -1)

    return place


def _grouped(branches: Sequence[BranchSummary]) -> list[tuple[str, list[BranchSummary]]]:
    """Runs of scalar branches of one type, numbered one after the other, under a pattern's name."""
    groups: list[tuple[str, list[BranchSummary]]] = []
    stem, first, last = "", 0, 0
    for branch in sorted(branches, key=_place(branches)):
        match = re.fullmatch(r"(.*?)(0|[1-9]\d{0,8})", branch.name, flags=re.DOTALL)
        scalar = branch.type is not None and not branch.type.shape and not branch.type.jagged
        if not (match and scalar) or branch.fault:
            groups.append((branch.name, [branch]))
            stem = ""
            continue
        number = int(match[2])
        if (
            groups
            and match[1] == stem
            and number == last + 1
            and branch.type == groups[-1][1][0].type
        ):
            last = number
            groups[-1][1].append(branch)
            groups[-1] = (f"{stem}{{{first}..{last}}}", groups[-1][1])
        else:
            stem, first, last = match[1], number, number
            groups.append((branch.name, [branch]))
    return groups


def proposal(tree: TreeSummary) -> Proposal:
    """Returns the fields that a tree suggests, by the types, values and names of its branches.

    Arrays, and long runs of numbered scalars that start at 0 or 1, are a field each; so is every other scalar under its own
    name. Event weights and quantities of an incident particle are told by their names.
    """
    found = Proposal({}, {}, {}, {}, {})
    names, told = {branch.name for branch in tree.branches}, set[str]()
    counters = {
        b.name
        for b in tree.branches
        if b.type and b.type.dtype.kind in "iu" and b.type[1:] == ((), False)
    }
    counters &= {b.counter for b in tree.branches}
    for group, branches in _grouped(tree.branches):
        pattern = re.fullmatch(r"([^{}]*)\{[01]\.\.\d+\}", group)
        if len(branches) >= SHORTEST_RUN and pattern:
            name = pattern[1].rstrip("_") or "values"
            if name in names:
                name = re.sub(r"[{}]", "", group.replace("..", "_"))
            names.add(name)
            _sort(found, name, Field((len(branches),), branches=(group,)), branches, tree.seen)
            continue
        for branch in branches:
            if branch.name in told:
                found.unreadable[branch.name] = "another branch has the same name"
            elif not branch.name or not is_text(branch.name):
                found.unreadable[branch.name] = (
                    "its name is no text; give a field this branch in Python"
                )
            elif branch.fault:
                found.unreadable[branch.name] = branch.fault
            elif branch.type:
                field = _field(branch.type, branch, names, counters)
                if branch.name in counters:
                    found.fields[branch.name] = field
                else:
                    _sort(found, branch.name, field, [branch], tree.seen)
            told.add(branch.name)
    if any(field.shape for field in found.fields.values()):
        for name in [name for name in found.fields if PERHAPS_INCIDENT.fullmatch(name)]:
            if found.fields[name].shape == ():
                found.conditions[name] = found.fields.pop(name)
    return found


def _field(kind: Branch, branch: BranchSummary, names: set[str], counters: set[str]) -> Field:
    if not kind.jagged:
        return Field(kind.shape)
    # Lists of one collection share the branch of their lengths; others have lengths of their own, under a free name.
    count = branch.counter if branch.counter in counters else ""
    if not count and f"n_{branch.name}" in names:
        free = (f"n_{branch.name}_{i}" for i in itertools.count(2))
        count = next(name for name in free if name not in names)
    return Field((max(branch.longest, 1), *kind.shape), fill=0.0, count=count)


def _sort(
    found: Proposal, name: str, field: Field, branches: Sequence[BranchSummary], seen: int
) -> None:
    """Puts a field where it belongs in the proposal."""
    reasons = []
    if number := sum(branch.not_finite for branch in branches):
        reasons.append(f"{number:,} values are NaN or infinite")
    if (number := sum(branch.misfits for branch in branches)) and (kind := branches[0].type):
        reasons.append(f"{number:,} values are {_too_large(kind)}, which float32 cannot hold")
    if reasons:
        reason = f"{' and '.join(reasons)} in the first {seen:,} entries"
        found.left_out[name] = field, reason
    elif field.shape == () and WEIGHTS.fullmatch(name):
        found.weights[name] = field
    elif field.shape == () and (INCIDENT.fullmatch(name) or LABELS.fullmatch(name)):
        found.conditions[name] = field
    else:
        found.fields[name] = field


def propose(tree: TreeSummary) -> str:
    """Returns a ``[schema]`` for a run file, of fields that can be read.

    What needs a decision (event weights, an incident particle) or cannot be read stands in comments, with the reason.
    """
    found = proposal(tree)
    blocks = []
    for name, field in found.fields.items():
        blocks.append(_toml("fields", name, field))
        if field.shape == () and PERHAPS_INCIDENT.fullmatch(name):
            remark = "or, if it belongs to the incident particle:"
            blocks.append(_comment(remark, "conditions", name, field))
    for name, field in found.conditions.items():
        what = "a class label" if LABELS.fullmatch(name) else "of the incident particle"
        blocks.append(_comment(f"{what}, perhaps a condition:", "conditions", name, field))
    for name, field in found.weights.items():
        blocks.append(_comment("an event weight, no quantity to generate:", "fields", name, field))
    for name, (field, reason) in found.left_out.items():
        blocks.append(_comment(f"left out, {reason}:", "fields", name, field))
    for name, reason in found.unreadable.items():
        blocks.append(f"# left out, unreadable: {printable(name)}: {printable(reason)}")
    return printable("\n\n".join(blocks), keep="\n")


def _comment(remark: str, table: str, name: str, field: Field) -> str:
    lines = [remark, *_toml(table, name, field).splitlines()]
    return "\n".join(f"# {line}" for line in lines)


def _toml(table: str, name: str, field: Field) -> str:
    """The field's table; arrays are on one line, which no TOML string can look like, as those hold no line breaks."""
    settings: dict[str, Any] = {}
    if field.shape:
        settings["shape"] = list(field.shape)
    if field.branches:
        settings["branches"] = list(field.branches)
    if field.fill is not None:
        settings["fill"] = field.fill
    if field.count:
        settings["count"] = field.count
    text = tomli_w.dumps({"schema": {table: {name: settings}}}).strip()
    return re.sub(
        r"\[\n((?:    .*,\n)+)\]",
        lambda match: f"[{', '.join(line[4:-1] for line in match[1].splitlines())}]",
        text,
    )
