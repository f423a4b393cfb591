"""Summaries of ROOT files (trees, branches, types, ranges) and schemas proposed from them."""

import itertools
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
import numpy.typing as npt
import tomli_w

from hepgan.data.io.branches import (
    BranchHandle,
    BranchIndex,
    BranchType,
    branch_type,
    counter_name,
    index_branches,
    is_rntuple,
    leaf_names,
    read_branch,
)
from hepgan.data.io.files import (
    Files,
    Source,
    data_errors,
    find_tree,
    open_file,
    sources,
    tree_classes,
)
from hepgan.data.io.names import is_text, printable
from hepgan.data.io.reader import first_tree
from hepgan.data.io.validation import count_not_float32
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError, NoNumbersError

FEWEST_LISTS = 20
"""Minimum number of lists that have the same length not by chance."""

SHORTEST_RUN = 8
"""Minimum number of consecutively numbered scalar branches, starting at 0 or 1, that are combined into one field."""

WEIGHTS = re.compile(r"w|wt|.*(weight|wgt).*", re.IGNORECASE)
"""Names of event weights."""

_QUANTITY = r"(e|energy|theta|phi|eta|pdg|pdg_?id|pid)"
_TRUE = r"(inc|incident|true|truth|mc|gen|beam|primary|total|particle)"
INCIDENT = re.compile(rf"{_QUANTITY}_?{_TRUE}|({_TRUE}_?)+{_QUANTITY}", re.IGNORECASE)
"""Names of quantities of an incident particle."""

ENERGY = re.compile(rf"(({_TRUE}_?)*)(e|energy)(_?{_TRUE})?", re.IGNORECASE)
"""Names of the energy of an incident particle, among those of its quantities."""

POSSIBLY_INCIDENT = re.compile(_QUANTITY, re.IGNORECASE)
"""Names of quantities of an incident particle if the tree holds arrays; columns of a flat table may have them too."""

PARTICLES = re.compile(rf"(({_TRUE}_?)*)(pdg|pdg_?id|pid)(_?{_TRUE})?", re.IGNORECASE)
"""Names of particle types."""

AZIMUTHS = re.compile(rf"(({_TRUE}_?)*)phi(_?{_TRUE})?", re.IGNORECASE)
"""Names of azimuths."""

MOST_CLASSES = 20
"""Maximum number of classes that are proposed for a label or particle type."""

LABELS = re.compile(r"labels?|class(_?(id|label))?|target", re.IGNORECASE)
"""Names of class labels."""


class BranchSummary(NamedTuple):
    """Type and range of the values of one branch in the inspected entries.

    Attributes:
        name: Name of the branch.
        type: Type and shape; ``None`` for a branch that holds no numbers or cannot be read.
        low: Smallest finite value; NaN if there is none.
        high: Largest finite value.
        zeros: Fraction of zeros among the finite values.
        not_finite: Number of values that are NaN or infinite.
        not_float32: Number of finite values that float32 cannot represent: integers above 2^24, floats above 3.4e38.
        longest: Length of the longest list of a jagged branch.
        shortest: Length of the shortest one.
        counter: Branch that holds the lengths of a jagged branch, if there is one.
        classes: Values of a label or particle type, if they are few integers.
        fault: Reason why the branch cannot be read; empty if it can.
    """

    name: str
    type: BranchType | None
    low: float = math.nan
    high: float = math.nan
    zeros: float = math.nan
    not_finite: int = 0
    not_float32: int = 0
    longest: int = 0
    shortest: int = 0
    counter: str = ""
    classes: tuple[int, ...] = ()
    fault: str = ""


class TreeSummary(NamedTuple):
    """Branches of one tree, summarized from the first ``inspected`` of its ``entries``."""

    name: str
    format: str
    entries: int
    inspected: int
    branches: tuple[BranchSummary, ...]


class Proposal(NamedTuple):
    """Fields proposed for a tree.

    Attributes:
        fields: Fields that can be read.
        conditions: Quantities of an incident particle and class labels, which may be conditions.
        weights: Event weights.
        left_out: Fields that ``hepgan.read`` would reject, with the reason.
        unreadable: Branches that cannot be read at all, with the reason.
    """

    fields: dict[str, Field]
    conditions: dict[str, Field]
    weights: dict[str, Field]
    left_out: dict[str, tuple[Field, str]]
    unreadable: dict[str, str]

    @property
    def readable(self) -> dict[str, Field]:
        """All fields that can be read without checks of their values."""
        left_out = {name: field for name, (field, _) in self.left_out.items()}
        return {**self.fields, **left_out, **self.conditions, **self.weights}


def inspect(
    path: str | os.PathLike[str], *, tree: str | None = None, entries: int = 10_000
) -> list[TreeSummary]:
    """Returns summaries of all trees of a file, or of one tree, with ranges from the first ``entries``.

    A branch that cannot be read is reported in its summary.

    Raises:
        DataError: the file or tree is missing or damaged.
    """
    path, named = sources(path, tree=tree)[0]
    with open_file(path) as file:
        names = [named] if named else list(tree_classes(file, path))
        if not names:
            find_tree(file, Source(path, None))
        return [_tree(find_tree(file, Source(path, name)), name, path, entries) for name in names]


LARGER = 20
"""A tree with events has this many times as many entries as those beside it, which hold settings or sums."""


def main_tree(files: Files) -> str | None:
    """Returns the tree with events of the first of ``files``, if it holds others with far fewer entries; ``None`` if that is not clear."""
    path, named = sources(files)[0]
    if named:
        return None
    with open_file(path) as file:
        names = list(tree_classes(file, path))
        trees = [find_tree(file, Source(path, name)) for name in names]
        with data_errors(path):
            ordered = sorted(zip([int(tree.num_entries) for tree in trees], names, strict=True))
    if len(ordered) < 2 or ordered[-1][0] < LARGER * max(ordered[-2][0], 1):
        return None
    return ordered[-1][1]


def _tree(tree: Any, name: str, path: str, entries: int) -> TreeSummary:
    with data_errors(path):
        number = int(tree.num_entries)
        index = index_branches(tree)
        handles = list(_readable_branches(tree, index))
    inspected = min(number, entries)
    branches = tuple(_branch(handle, branch, path, inspected) for branch, handle in handles)
    format = "RNTuple" if is_rntuple(tree) else "TTree"
    return TreeSummary(name, format, number, inspected, branches)


def _readable_branches(tree: Any, index: BranchIndex) -> Iterator[tuple[str, BranchHandle]]:
    """Yields each branch that holds values once, by name; parents of subbranches are omitted."""
    if is_rntuple(tree):
        parents = {name.rpartition(".")[0] for name in index}
        yield from ((name, handle) for name, handle in index.items() if name not in parents)
        return
    for name, branch in tree.iteritems(recursive=True):
        if not branch.branches:
            for leaf in leaf_names(branch) or [name]:
                yield leaf, index[leaf]


def _branch(handle: BranchHandle, name: str, path: str, inspected: int) -> BranchSummary:
    try:
        kind = branch_type(handle, name, path)
    except NoNumbersError:
        return BranchSummary(name, None)
    except DataError as error:
        return BranchSummary(name, None, fault=str(error))
    with data_errors(path):
        counter = counter_name(handle) if kind.jagged else ""
    if inspected == 0:
        return BranchSummary(name, kind, counter=counter)
    try:
        with data_errors(path):
            array = read_branch(handle, start=0, stop=inspected, jagged=kind.jagged)
            if len(array) != inspected:
                fault = f"gives {len(array)} of {inspected} entries; the file is damaged, copy or write it again"
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
        not_float32=count_not_float32(finite),
        longest=int(lengths.max(initial=0)),
        shortest=int(lengths.min()) if lengths.size else 0,
        counter=counter,
    )
    if finite.size == 0:
        return summary
    low, high, zeros = float(finite.min()), float(finite.max()), float((finite == 0).mean())
    return summary._replace(low=low, high=high, zeros=zeros, classes=_classes(name, kind, finite))


def _classes(name: str, kind: BranchType, values: npt.NDArray[Any]) -> tuple[int, ...]:
    if kind.jagged or kind.shape or not (LABELS.fullmatch(name) or PARTICLES.fullmatch(name)):
        return ()
    distinct = np.unique(values.astype(np.float64))
    whole = len(distinct) <= MOST_CLASSES and bool((distinct == distinct.round()).all())
    return tuple(map(int, distinct)) if whole else ()


def summary_table(summaries: Sequence[TreeSummary]) -> str:
    """Returns a table of trees and branches; consecutively numbered branches share a line."""
    lines = []
    for tree in summaries:
        lines.append(
            f"{printable(tree.name)}  ({tree.format}, {tree.entries:,} entries; ranges of {tree.inspected:,})"
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
    if bad := sum(b.not_float32 for b in branches):
        notes.append(f"{bad} {_too_large(kind)}")
    constant = sum(b.low == b.high for b in branches)
    if constant:
        notes.append(
            "constant" if len(branches) == 1 else f"{constant} of {len(branches)} constant"
        )
    if kind.jagged:
        notes.append(f"up to {branches[0].longest} values")
    return name, text, span, ", ".join(notes)


def _too_large(kind: BranchType) -> str:
    return "beyond float32" if kind.dtype.kind == "f" else "integers above 2^24"


def _natural_order(
    branches: Sequence[BranchSummary],
) -> Callable[[BranchSummary], tuple[int, int]]:
    """Returns a sort key that keeps branches of one stem together, ordered by number: ``x2`` before ``x10``."""
    first: dict[str, int] = {}
    for number, branch in enumerate(branches):
        first.setdefault(branch.name.rstrip("0123456789"), number)

    def key(branch: BranchSummary) -> tuple[int, int]:
        stem = branch.name.rstrip("0123456789")
        return first[stem], int(branch.name[len(stem) :][:18] or -1)

    return key


def _grouped(branches: Sequence[BranchSummary]) -> list[tuple[str, list[BranchSummary]]]:
    """Groups consecutively numbered scalar branches of one type under their pattern; all other branches are alone."""
    groups: list[tuple[str, list[BranchSummary]]] = []
    stem, first, last = "", 0, 0
    for branch in sorted(branches, key=_natural_order(branches)):
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


def propose_fields(tree: TreeSummary) -> Proposal:
    """Returns the fields proposed for a tree from the types, values and names of its branches.

    Each array is a field, and so is each long run of numbered scalars that starts at 0 or 1; every other scalar is a separate
    field. Event weights and quantities of an incident particle are recognized by their names.
    """
    result = Proposal({}, {}, {}, {}, {})
    names, visited = {branch.name for branch in tree.branches}, set[str]()
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
            _add(result, name, Field((len(branches),), branches=(group,)), branches, tree.inspected)
            continue
        for branch in branches:
            if branch.name in visited:
                result.unreadable[branch.name] = "another branch has the same name"
            elif not branch.name or not is_text(branch.name):
                result.unreadable[branch.name] = (
                    "its name is not valid UTF-8; give a field this branch in Python"
                )
            elif branch.fault:
                result.unreadable[branch.name] = branch.fault
            elif branch.type:
                field = _field(branch.type, branch, names, counters, tree.inspected)
                if branch.name in counters:
                    result.fields[branch.name] = field
                else:
                    _add(result, branch.name, field, [branch], tree.inspected)
            visited.add(branch.name)
    if any(field.shape for field in result.fields.values()):
        for name in [name for name in result.fields if POSSIBLY_INCIDENT.fullmatch(name)]:
            if result.fields[name].shape == ():
                result.conditions[name] = result.fields.pop(name)
    return result


def _field(
    kind: BranchType, branch: BranchSummary, names: set[str], counters: set[str], entries: int
) -> Field:
    if not kind.jagged:
        return Field(kind.shape)
    size = branch.longest * math.prod(kind.shape)
    same = entries >= FEWEST_LISTS and branch.shortest == branch.longest
    if same and size >= SHORTEST_RUN and branch.name not in counters:
        return Field((branch.longest, *kind.shape))  # such as a vector with one value per cell
    # Lists of one collection share the branch with their lengths; other lists get their own lengths under an unused name.
    count = branch.counter if branch.counter in counters else ""
    if not count and f"n_{branch.name}" in names:
        free = (f"n_{branch.name}_{i}" for i in itertools.count(2))
        count = next(name for name in free if name not in names)
    return Field((max(branch.longest, 1), *kind.shape), fill=0.0, count=count)


def _add(
    result: Proposal, name: str, field: Field, branches: Sequence[BranchSummary], inspected: int
) -> None:
    """Adds a field to the group of the proposal to which it belongs."""
    reasons = []
    if number := sum(branch.not_finite for branch in branches):
        reasons.append(f"{number:,} values are NaN or infinite")
    if (number := sum(branch.not_float32 for branch in branches)) and (kind := branches[0].type):
        reasons.append(f"{number:,} values are {_too_large(kind)}, which float32 cannot represent")
    if reasons:
        reason = f"{' and '.join(reasons)} in the first {inspected:,} entries"
        result.left_out[name] = field, reason
    elif field.shape == () and WEIGHTS.fullmatch(name):
        result.weights[name] = field
    elif field.shape == () and (INCIDENT.fullmatch(name) or LABELS.fullmatch(name)):
        result.conditions[name] = field
    else:
        result.fields[name] = field


def infer_schema(files: Files, *, tree: str | None = None) -> Schema:
    """Returns the schema proposed for the first of ``files`` that has entries; see ``Schema.infer``.

    Raises:
        DataError: a file or tree is missing or damaged, or no branch can be a field.
    """
    with first_tree(files, tree=tree) as first:
        path, name = first.source
    (summary,) = inspect(path, tree=name)
    result = propose_fields(summary)
    if not result.fields:
        raise DataError(
            f"no branch of tree '{name}' of '{path}' can be a field; hepgan inspect '{path}' lists the branches"
        )
    return Schema(result.fields, result.conditions, _incident(result))


def _incident(proposal: Proposal) -> str:
    """Returns the name of the only condition that can be an incident energy, or an empty string."""
    energies = [name for name in proposal.conditions if ENERGY.fullmatch(name)]
    return energies[0] if len(energies) == 1 else ""


def schema_toml(tree: TreeSummary) -> str:
    """Returns a ``[schema]`` table for a run file, with the fields that can be read.

    Everything that needs a decision (event weights, an incident particle) or cannot be read is commented out, with the reason.
    """
    proposal = propose_fields(tree)
    scales = {branch.name: _scale_toml(branch, tree.inspected) for branch in tree.branches}
    blocks = []
    for name, field in proposal.fields.items():
        blocks.append(_toml("fields", name, field))
        if field.shape == () and POSSIBLY_INCIDENT.fullmatch(name):
            remark = "or, if it is a property of the incident particle:"
            blocks.append(_comment(remark, "conditions", name, field) + scales[name])
    for name, field in proposal.conditions.items():
        what = "class label" if LABELS.fullmatch(name) else "property of the incident particle"
        comment = _comment(f"{what}, perhaps a condition:", "conditions", name, field)
        blocks.append(comment + scales[name])
    if incident := _incident(proposal):
        text = tomli_w.dumps({"schema": {"incident": incident}}).strip()
        blocks.append("\n".join(f"# {line}" for line in ("its energy:", *text.splitlines())))
    for name in proposal.weights:
        text = compact_toml({"data": {"weight": f"`{name}`"}})
        lines = ["event weight, not a quantity to generate:", *text.splitlines()]
        blocks.append("\n".join(f"# {line}" for line in lines))
    for name, (field, reason) in proposal.left_out.items():
        blocks.append(_comment(f"left out, {reason}:", "fields", name, field))
    for name, reason in proposal.unreadable.items():
        blocks.append(f"# left out, unreadable: {printable(name)}: {printable(reason)}")
    return printable("\n\n".join(blocks), keep="\n")


def _comment(remark: str, table: str, name: str, field: Field) -> str:
    lines = [remark, *_toml(table, name, field).splitlines()]
    return "\n".join(f"# {line}" for line in lines)


def _scale_toml(branch: BranchSummary, inspected: int) -> str:
    """Returns the commented table of a condition's scale, with the values of the inspected entries; empty if there are none."""
    if math.isnan(branch.low):
        return ""
    settings: dict[str, Any] = {"range": list(rounded_outward(branch.low, branch.high))}
    if branch.classes:
        settings = {"scale": "classes", "values": list(branch.classes)}
    elif AZIMUTHS.fullmatch(branch.name) and 6 < branch.high - branch.low <= 2 * math.pi:
        settings = {"scale": "angle"}
    text = compact_toml({"encoding": {"conditions": {branch.name: settings}}})
    lines = [f"as in the first {inspected:,} entries:", *text.splitlines()]
    return "".join(f"\n# {line}" for line in lines)


def rounded_outward(low: float, high: float, *, digits: int = 4) -> tuple[float, float]:
    """Returns limits that include ``low`` and ``high``, with about ``digits`` significant digits of their difference."""
    if not 1e-300 < high - low < 1e300:
        return low, high
    places = digits - 1 - math.floor(math.log10(high - low))
    unit = 10.0**-places
    return round(math.floor(low / unit) * unit, places), round(
        math.ceil(high / unit) * unit, places
    )


def _toml(table: str, name: str, field: Field) -> str:
    """Returns the TOML table of a field."""
    settings: dict[str, Any] = {}
    if field.shape:
        settings["shape"] = list(field.shape)
    if field.branches:
        settings["branches"] = list(field.branches)
    if field.fill is not None:
        settings["fill"] = field.fill
    if field.count:
        settings["count"] = field.count
    return compact_toml({"schema": {table: {name: settings}}})


def compact_toml(table: dict[str, Any]) -> str:
    """Returns a table as TOML, with arrays on one line."""
    text = tomli_w.dumps(table).strip()
    # A TOML string cannot match: tomli_w escapes its line breaks.
    return re.sub(
        r"\[\n((?:    .*,\n)+)\]",
        lambda match: f"[{', '.join(line[4:-1] for line in match[1].splitlines())}]",
        text,
    )
