"""What is in a ROOT file: trees, branches, types, ranges, and the schema that they suggest."""

import math
import os
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import awkward as ak
import numpy as np

from hepgan.data.branches import (
    Branch,
    branch_and_leaf,
    describe,
    form_of,
    is_rntuple,
    leaves_of,
    part_of,
)
from hepgan.data.files import Source, find_tree, opened, reading, sources, trees
from hepgan.errors import DataError


class BranchSummary(NamedTuple):
    """One branch: how its values look in the entries looked at.

    ``low`` and ``high`` are over the finite values (NaN where there are none), ``zeros`` is the share of zeros,
    ``not_finite`` the number of NaN and infinities, ``longest`` the longest list of a jagged branch. ``type`` is ``None`` and
    nothing is known of branches that hold no numbers.
    """

    name: str
    type: Branch | None
    low: float = math.nan
    high: float = math.nan
    zeros: float = math.nan
    not_finite: int = 0
    longest: int = 0


class TreeSummary(NamedTuple):
    """One tree: ``seen`` of its ``entries`` were looked at."""

    name: str
    format: str
    entries: int
    seen: int
    branches: tuple[BranchSummary, ...]


def inspect(
    path: str | os.PathLike[str], *, tree: str | None = None, entries: int = 10_000
) -> list[TreeSummary]:
    """The trees of one file, or one of them, with ranges from their first ``entries``.

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
        branches = [n for name in tree.keys(recursive=True) for n in _leaves(tree, name)]
    seen = min(number, entries)
    form = _form(tree, branches, path)
    found = tuple(_branch(tree, branch, path, seen, form) for branch in branches)
    return TreeSummary(name, "RNTuple" if is_rntuple(tree) else "TTree", number, seen, found)


def _form(tree: Any, branches: Sequence[str], path: str) -> Any:
    """As ``form_of``; ``None`` where one branch spoils that of all, so that each is looked at by itself."""
    try:
        with reading(path):
            return form_of(tree, branches)
    except DataError:
        return None


def _leaves(tree: Any, branch: str) -> list[str]:
    """The names by which the numbers of a branch are read; none where branches of their own hold them."""
    if is_rntuple(tree):
        # An array's element is a field of its own, called _0.
        return [] if "._0" in branch or branch.startswith("_0") else [branch]
    return [] if tree[branch].branches else leaves_of(tree[branch]) or [branch]


def _branch(tree: Any, name: str, path: str, seen: int, form: Any) -> BranchSummary:
    try:
        kind = describe(tree, name, path, form=form)
    except DataError:
        return BranchSummary(name, None)
    if seen == 0:
        return BranchSummary(name, kind)
    with reading(path):
        branch, _ = (name, "") if is_rntuple(tree) else branch_and_leaf(tree, name)
        array = part_of(tree.arrays([branch], entry_stop=seen, library="ak"), name)
    longest = int(ak.max(ak.num(array, axis=1))) if kind.jagged else 0
    values = ak.to_numpy(ak.flatten(array, axis=None))
    good = np.isfinite(values)
    finite = values[good]
    if finite.size == 0:
        return BranchSummary(name, kind, not_finite=values.size, longest=longest)
    return BranchSummary(
        name,
        kind,
        float(finite.min()),
        float(finite.max()),
        float((finite == 0).mean()),
        int((~good).sum()),
        longest,
    )


def as_text(summaries: Sequence[TreeSummary]) -> str:
    """A table of the trees and branches, branches that only differ by a number in one line."""
    lines = []
    for tree in summaries:
        lines.append(
            f"{tree.name}  ({tree.format}, {tree.entries:,} entries; ranges of {tree.seen:,})"
        )
        rows = [_row(name, branches) for name, branches in _grouped(tree.branches)]
        widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=False))
            lines.append(f"  {'  '.join(cells)}  {row[3]}".rstrip())
    return "\n".join(lines)


def _row(name: str, branches: Sequence[BranchSummary]) -> tuple[str, str, str, str]:
    kind = branches[0].type
    if kind is None:
        return name, "no numbers", "", ""
    text = kind.dtype.name + ("[…]" if kind.jagged else "") + "".join(f"[{n}]" for n in kind.shape)
    lows = [b.low for b in branches if not math.isnan(b.low)]
    highs = [b.high for b in branches if not math.isnan(b.high)]
    span = f"{min(lows):.6g} … {max(highs):.6g}" if lows else "no finite value"
    zeros = [b.zeros for b in branches if not math.isnan(b.zeros)]
    notes = [f"{np.mean(zeros):.1%} zeros"] if zeros and np.mean(zeros) >= 0.0005 else []
    if bad := sum(b.not_finite for b in branches):
        notes.append(f"{bad} NaN or infinite")
    constant = sum(b.low == b.high for b in branches)
    if constant:
        notes.append(
            "constant" if len(branches) == 1 else f"{constant} of {len(branches)} constant"
        )
    if kind.jagged:
        notes.append(f"up to {branches[0].longest} values")
    return name, text, span, ", ".join(notes)


def _place(branches: Sequence[BranchSummary]) -> Callable[[BranchSummary], tuple[int, int]]:
    """Sorts branches of one stem by their number, at the place of the first of them: ``x2`` before ``x10``."""
    first: dict[str, int] = {}
    for number, branch in enumerate(branches):
        first.setdefault(branch.name.rstrip("0123456789"), number)

    def place(branch: BranchSummary) -> tuple[int, int]:
        stem = branch.name.rstrip("0123456789")
        return first[stem], int(branch.name[len(stem) :] or -1)

    return place


def _grouped(branches: Sequence[BranchSummary]) -> list[tuple[str, list[BranchSummary]]]:
    """Runs of scalar branches of one type, numbered one after the other, under a pattern's name."""
    groups: list[tuple[str, list[BranchSummary]]] = []
    stem, first, last = "", 0, 0
    for branch in sorted(branches, key=_place(branches)):
        match = re.fullmatch(r"(.*?)(0|[1-9]\d*)", branch.name)
        scalar = branch.type is not None and not branch.type.shape and not branch.type.jagged
        if not (match and scalar):
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
            groups[-1] = (f"{stem}{{{first}..{last}}}", [*groups[-1][1], branch])
        else:
            stem, first, last = match[1], number, number
            groups.append((branch.name, [branch]))
    return groups


def propose(tree: TreeSummary) -> str:
    """A ``[schema]`` for a run file: arrays and numbered branches are fields, single numbers are conditions.

    Where there are only single numbers, they are the fields.
    """
    fields: list[tuple[str, list[str]]] = []
    singles: list[tuple[str, list[str]]] = []
    for name, branches in _grouped(tree.branches):
        kind = branches[0].type
        if kind is None:
            continue
        if len(branches) > 1:
            stem = re.sub(r"\{.*\}", "", name).rstrip("_") or "values"
            if any(stem == other for other, _ in fields):
                stem = re.sub(r"[{}]", "", name.replace("..", "_"))
            fields.append((stem, [f"shape = [{len(branches)}]", f'branches = ["{name}"]']))
        elif kind.jagged:
            shape = [max(branches[0].longest, 1), *kind.shape]
            fields.append((name, [f"shape = {shape}", "fill = 0.0"]))
        elif kind.shape:
            fields.append((name, [f"shape = {list(kind.shape)}"]))
        else:
            singles.append((name, []))
    tables = [("fields", fields or singles), ("conditions", singles if fields else [])]
    return "\n\n".join(
        "\n".join([f"[schema.{table}.{_key(name)}]", *lines])
        for table, entries in tables
        for name, lines in entries
    )


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else '"' + name.replace('"', '\\"') + '"'
