"""Roles of the branches of ROOT files: kind of data, fields to generate, conditions and incident energy, each with the reason."""

import dataclasses
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import awkward as ak
import numpy as np
import numpy.typing as npt
from scipy import stats

from hepgan.data.encoding.conditions import MIN_EVENTS, ConditionScale
from hepgan.data.encoding.density.ranks import INTEGERS
from hepgan.data.io import inspection, reader
from hepgan.data.io.files import Files
from hepgan.data.schema import Field, Schema
from hepgan.data.weights import LEAST_EFFECTIVE, WeightSums
from hepgan.errors import DataError, did_you_mean

Kind = Literal["columns", "image", "showers", "arrays"]
Array = npt.NDArray[Any]

SMALLEST = 8
"""Minimum number of cells of an array that is a calorimeter or an image by itself; a numbered one may be smaller."""

SAMPLED = 20_000_000
"""Approximate number of cells that are read."""

MOST_ENTRIES = 1_000_000
"""Maximum number of entries from which the ranges of scalars are determined."""

_NUMBERED = re.compile(r"(.*?)_?\d+")
_OUTPUT = re.compile(
    r".*(escape|leak|overflow|dead|dep|vis|sum|tot|reco|rec_|meas|hits|response|cluster|max|mean|width|centroid|time).*",
    re.IGNORECASE,
)
_IDENTIFIER = re.compile(
    r"run|event|lumi(nosityBlock)?|entry|(run|event|evt)_?(number|nr|no|id)|index", re.IGNORECASE
)
_IMAGE = re.compile(r".*(image|img|pixel|picture).*", re.IGNORECASE)
_HADRONIC = re.compile(r"hcal|had|tail|muon", re.IGNORECASE)
"""Names of the calorimeters behind the first ones."""

_TRUE = re.compile(r"inc|true|truth|gen|beam|prim|mc", re.IGNORECASE)
_GENERATED = re.compile(r"(gen|Gen|GEN|true|True|truth|Truth|mc|MC)(?=[A-Z_]).*")
_KINEMATICS = re.compile(
    r"(.*_)?(p|dir|direction|mom|momentum|pos|position|impact|vertex|vtx|v|d)?_?[xyz]0?(_.*)?|(.*_)?(pt|theta|eta|phi|angle|mass|charge)(_.*)?",
    re.IGNORECASE,
)
_ALONG = re.compile(r"(?:.*_)?(?:[pv]|d|dir|mom|pos|impact|vtx)?_?([xy])0?(?:_.*)?", re.IGNORECASE)
"""Names of components along x or y."""

_ANGLE = re.compile(r".*(phi|alpha|azim|psi).*", re.IGNORECASE)
_ENERGY = re.compile(
    r"(.*_)?(e|e0|p|p0|pt|ke|ekin|ene|.*energy.*|.*momentum.*)(_.*)?", re.IGNORECASE
)
_MOMENTUM = re.compile(r"(.*_)?(p|p0|pt|.*momentum.*)(_.*)?", re.IGNORECASE)
"""Those of ``_ENERGY`` that are momenta."""

_HIT = re.compile(
    r"(.*?)[._]?(?:(?P<cell>cell_?id)|(?:pos(?:ition)?[._]?)?(?P<axis>i?[xyz])|(?P<energy>e|energy|e_?dep))",
    re.IGNORECASE,
)
"""Names of the quantities of hits."""

_FEWEST_OF_CLASS = 20
"""Minimum number of events of a class whose symmetry is checked."""

_MOST_UNNAMED_CLASSES = 10
"""Maximum number of values of a class that its name does not tell."""


_UNDECIDED = "left out: a condition, or a result of the simulation?"


@dataclasses.dataclass(frozen=True)
class ConditionRole:
    """Condition with its scale, and the reason why it is one."""

    scale: ConditionScale
    reason: str


@dataclasses.dataclass(frozen=True)
class Roles:
    """Roles of the branches of a tree.

    Attributes:
        kind: ``columns`` (scalars and lists), ``image``, ``showers`` (cells without negative values), or ``arrays``.
        tree: Name of the tree.
        entries: Number of entries of all files.
        fields: Quantities to generate.
        notes: Reasons for the shape of a field.
        integers: Fields of more different whole numbers than ``autoregressive`` reproduces exactly without further ado.
        conditions: Conditions by name.
        incident: Condition that is the incident energy; empty if there is none.
        left_out: Reason for each branch that is not used.
        cut: Expression that selects the usable entries; empty for all.
        cut_reason: Reason for a cut on values that are not finite.
        units: Unit of the cells and of the incident energy; empty if unknown.
        threshold: Smallest energy of a cell.
        threshold_reason: Reason for the threshold.
        largest: Largest value of a cell.
        polar: Whether the last two axes of the fields seem to be α and r.
        mirrors: Entries of ``[data] reflect`` for the first and the second axis of all layers, for which showers are symmetric; empty if
            they are not.
        no_mirrors: Reason why there are none.
        rotated: Whether mean energies do not depend on the last axis but one, α in a binning, and the energy is the only condition.
        weight: Branch with the weights of the events; empty if there is none.
    """

    kind: Kind
    tree: str
    entries: int
    fields: Mapping[str, Field]
    notes: Mapping[str, str]
    integers: tuple[str, ...]
    conditions: Mapping[str, ConditionRole]
    incident: str
    left_out: Mapping[str, str]
    cut: str
    units: tuple[str, str]
    threshold: float
    threshold_reason: str
    largest: float
    polar: bool
    mirrors: tuple[Mapping[str, Any], ...] = ()
    no_mirrors: str = ""
    rotated: bool = False
    weight: str = ""
    cut_reason: str = ""


def find_roles(files: Files, *, tree: str | None = None, without: Collection[str] = ()) -> Roles:
    """Returns the roles of the branches of ``files``, from names, types and values; branches in ``without`` are left out.

    Raises:
        DataError: a file or tree is missing or damaged, a value is NaN, a column of a table is text, no branch can be generated, or there
            is no branch of a name in ``without``.
    """
    with reader.first_tree(files, tree=tree) as first:
        path, name = first.source
    (summary,) = inspection.inspect(path, tree=name, entries=2000)
    proposal = inspection.propose_fields(summary)
    left_out = {n: f"left out: {reason}" for n, (_, reason) in proposal.left_out.items()}
    left_out |= {n: f"left out: {reason}" for n, reason in proposal.unreadable.items()}
    left_out |= {b.name: "left out: not a number" for b in summary.branches if b.type is None}
    _check_without(without, [b.name for b in summary.branches], path)
    left_out |= dict.fromkeys(without, "left out: as requested")
    weights = {n: field for n, field in proposal.weights.items() if n not in left_out}
    unusable = {
        n: reason
        for n, (field, reason) in proposal.left_out.items()
        if inspection.WEIGHTS.fullmatch(n) and not field.shape and n not in without
    }
    weight = _weight(_read(files, weights, tree, MOST_ENTRIES), unusable, left_out, path)
    usable = {
        n: field
        for n, field in {**proposal.fields, **proposal.conditions}.items()
        if n not in left_out
    }
    lists = [name for name, field in usable.items() if field.fill is not None]
    fixed = {n: field for n, field in usable.items() if n not in lists}
    arrays = (
        {} if all(map(inspection.WEIGHTS.fullmatch, _shaped(fixed))) else _arrays(fixed, left_out)
    )
    if arrays:
        left_out |= dict.fromkeys(lists, "left out: lists of any length beside the cells")
    else:
        jagged = [b.name for b in summary.branches if not b.type or b.type.jagged]
        _check_hits([name for name in jagged if name not in without], path)
        left_out = {n: reason for n, reason in left_out.items() if n not in usable}
        for branch in summary.branches:
            if branch.type is None and not branch.fault and branch.name not in without:
                raise DataError(
                    f"branch '{branch.name}' of '{path}' holds no numbers; write it as integers, one for each text, or leave it out with"
                    f" hepgan init --without '{branch.name}'"
                )
    scalars = {n: field for n, field in usable.items() if field.shape == ()}
    entries = sum(reader.num_entries(files, tree=tree).values())
    if not arrays:
        named = [n for n in proposal.conditions if n in usable]
        generated = [n for n in scalars if n not in named and _GENERATED.fullmatch(n)]
        if len(generated) == len(scalars):
            generated = []
        conditions = {n: scalars[n] for n in (*named, *generated)}
        finite = {
            n: cut
            for n, cut in _finite(summary).items()
            if n in proposal.left_out and n not in without and not inspection.WEIGHTS.fullmatch(n)
        }
        usable |= {n: proposal.left_out[n][0] for n in finite}
        left_out = {n: reason for n, reason in left_out.items() if n not in usable}
        values = _read(files, conditions, tree, MOST_ENTRIES)
        for n in [n for n, v in values.items() if v.min() == v.max() and n in generated]:
            left_out[n] = f"left out: {values.pop(n)[0]:g} in all entries"
        at_generator = "by its name a quantity at generator level"
        roles = {
            n: ConditionRole(_scale(n, v), at_generator if n in generated else _named(n))
            for n, v in values.items()
        }
        fields = {n: field for n, field in usable.items() if n not in conditions}
        constant = {b.name: b.low for b in summary.branches if b.low == b.high}
        for n in filter(_IDENTIFIER.fullmatch, list(fields)):
            left_out[n] = (
                f"left out: {constant[n]:.10g} in the first {summary.inspected:,} entries"
                if n in constant
                else "left out: by its name the number of an event"
            )
            del fields[n]
        if not fields:
            raise DataError(_no_field(name, path))
        events = _read(
            files, fields, tree, SAMPLED // sum(f.size for f in fields.values()), _all_of(finite.values())
        )  # fmt: skip
        for n in [n for n, field in fields.items() if not field.shape and len(fields) > 1]:
            if reason := _without_information(events[n]):
                left_out[n] = f"left out: {reason}"
                del fields[n], events[n]
        if not fields:
            removed = [left_out[n].removeprefix("left out: ") for n in usable if n in left_out]
            reasons = ", ".join(removed[:3])
            raise DataError(
                f"no column of the tree '{name}' of '{path}' is left to generate ({reasons}); give columns that vary"
            )
        integers = tuple(n for n, v in events.items() if _has_many_integers(v))
        notes = {n: note for n, v in events.items() if (note := _frequent_values(v))}
        return Roles(
            "columns", _plain(name), entries, fields, notes, integers, _common(roles, values), "", left_out,
            _all_of([*finite.values(), _cut(roles, values)]), ("", ""), 0.0, "", math.nan, polar=False, weight=weight,
            cut_reason=f"without the few entries in which {' or '.join(finite)} is NaN or infinite" if finite else "",
        )  # fmt: skip
    cells = _read(files, arrays, tree, max(100, SAMPLED // sum(f.size for f in arrays.values())))
    return _of_arrays(
        cells, arrays, _read(files, scalars, tree, MOST_ENTRIES), set(proposal.conditions), left_out,
        tree=_plain(name), entries=entries, weight=weight,
    )  # fmt: skip


_FEW = 0.05
"""Largest fraction of entries with a NaN or infinite value that are cut away; with more, the column is left out."""


def _finite(tree: inspection.TreeSummary) -> dict[str, str]:
    """Returns the cut on each scalar of which few values are NaN or infinite."""
    return {
        branch.name: f"abs(`{branch.name}`) < 1e30"
        for branch in tree.branches
        if 0 < branch.not_finite <= _FEW * tree.inspected
        and not branch.not_float32
        and branch.type
        and branch.type[1:] == ((), False)
    }


def _all_of(cuts: Iterable[str]) -> str:
    """Returns the expression that selects the entries that pass all ``cuts``; empty ones select all."""
    parts = [cut for cut in cuts if cut]
    return " & ".join(f"({cut})" for cut in parts) if len(parts) > 1 else "".join(parts)


def _without_information(values: Array) -> str:
    """Returns why a column has nothing to be learned: it is constant, or numbers the events; otherwise nothing."""
    if values.min() == values.max():
        return f"{values.min():g} in all entries"
    return "a different value in nearly every event" if _is_identifier(values) else ""


_MOST_FREQUENT = 3
"""Maximum number of values that many events have, of a column that is continuous otherwise."""


def _frequent_values(values: Array) -> str:
    """Returns a note on the few values that more than 1 % of the events have in a continuous column, such as -999; otherwise nothing."""
    distinct, counts = np.unique(values, return_counts=True)
    frequent = counts > 0.01 * values.size
    rest = distinct[~frequent]
    if values.ndim != 1 or len(rest) < 20 or not 0 < frequent.sum() <= _MOST_FREQUENT:
        return ""
    low, high = float(rest[0]), float(rest[-1])
    notes = []
    for value, count in zip(distinct[frequent].astype(float), counts[frequent], strict=True):
        note = f"{count / values.size:.2g} of the values are {value:.7g}"
        if max(low - value, value - high) > high - low:
            note += ", far from all others: a default value?"
        elif value in (distinct[0], distinct[-1]):
            note += f", the {'smallest' if value == distinct[0] else 'largest'}: a limit?"
        notes.append(note)
    return "; ".join(notes)


def _weight(
    weights: Mapping[str, Array], unusable: dict[str, str], left_out: dict[str, str], path: str
) -> str:
    """Returns the first of several branches of event weights that training can use; the others are left out, with the reason.

    Raises:
        DataError: there are weights that differ, and none of them can be used.
    """
    chosen = ""
    for name, values in weights.items():
        sums = WeightSums.of(values.astype(np.float64))
        if sums.equal:
            left_out[name] = f"left out: an event weight, {sums.low:g} in all entries"
            continue
        try:
            sums.check(least=LEAST_EFFECTIVE)
        except DataError as error:
            unusable[name] = str(error)
            left_out[name] = f"left out: an event weight that cannot be used: {error}"
            continue
        if chosen:
            left_out[name] = (
                f"left out: another event weight; if events have both, [data] weight = '`{chosen}` * `{name}`'"
            )
        else:
            chosen = name
    if unusable and not chosen:
        name, reason = next(iter(unusable.items()))
        raise DataError(
            f"the event weight '{name}' of '{path}' cannot be used: {reason}; to train on unweighted events, leave it out with hepgan init"
            f" --without '{name}'"
        )
    return chosen


def _shaped(fields: Mapping[str, Field]) -> list[str]:
    return [name for name, field in fields.items() if field.shape]


def _check_hits(lists: Sequence[str], path: str) -> None:
    """Raises if there are lists of hits: energies with cells or with positions along two axes."""
    groups: dict[str, dict[str, str]] = {}
    for name in lists:
        if match := _HIT.fullmatch(name):
            kind = match["axis"] or match.lastgroup or ""
            groups.setdefault(match[1], {})[kind.lower()] = name
    for members in groups.values():
        places = [name for kind, name in members.items() if kind != "energy"]
        if "energy" in members and ("cell" in members or len(places) > 1):
            raise DataError(
                f"'{members['energy']}' and '{places[0]}' of '{path}' are lists of hits, for which there is no recipe; add up the energies of"
                " the hits in each cell, and write an array with one value per cell for every event"
            )


def _check_without(without: Collection[str], branches: Sequence[str], path: str) -> None:
    for name in without:
        if name not in branches:
            hint = did_you_mean(name, branches) or f"; it has {', '.join(branches[:12])}"
            raise DataError(f"'{path}' has no branch '{name}' to leave out{hint}")


def _no_field(tree: str | None, path: str) -> str:
    return f"tree '{tree}' of '{path}' has no branch to generate; hepgan inspect '{path}' lists the branches"


def _has_many_integers(values: Array) -> bool:
    """Returns whether all values are whole numbers, and too many different ones to be atoms of ``Ranks``."""
    return bool((values == np.round(values)).all() and len(np.unique(values)) > INTEGERS)


def _plain(tree: str | None) -> str:
    return str(tree).partition(";")[0]


def _read(
    files: Files, fields: Mapping[str, Field], tree: str | None, entries: int, cut: str = ""
) -> dict[str, Array]:
    if not fields:
        return {}
    events = reader.read(files, Schema(fields), tree=tree, entry_stop=entries, cut=cut or None)
    return {name: ak.to_numpy(events[name]) for name in fields}


def _arrays(fields: Mapping[str, Field], left_out: dict[str, str]) -> dict[str, Field]:
    """Returns the arrays of cells; numbered arrays of the same shapes as earlier ones describe the same cells again."""
    groups: dict[str, dict[str, Field]] = {}
    for name, field in fields.items():
        if field.shape:
            match = _NUMBERED.fullmatch(name)
            groups.setdefault(match[1] if match else f"{name}[]", {})[name] = field
    chosen: dict[str, Field] = {}
    shapes: list[list[tuple[int, ...]]] = []
    for group in groups.values():
        size = sum(field.size for field in group.values())
        these = [field.shape for field in group.values()]
        if size < SMALLEST:
            left_out |= dict.fromkeys(
                group, f"left out: an array of {size} values beside the cells"
            )
        elif these in shapes:
            left_out |= dict.fromkeys(
                group,
                "left out: shapes of the cells above, perhaps another reading of the same cells",
            )
        else:
            shapes.append(these)
            chosen |= group
    return chosen


def _of_arrays(
    cells: dict[str, Array],
    arrays: dict[str, Field],
    scalars: dict[str, Array],
    named: set[str],
    left_out: dict[str, str],
    *,
    tree: str,
    entries: int,
    weight: str,
) -> Roles:
    low = min(float(v.min()) for v in cells.values())
    high = max(float(v.max()) for v in cells.values())
    if high == low:
        raise DataError(f"all values of {', '.join(arrays)} are {low:g}; give events with energy")
    read = len(next(iter(cells.values())))
    flat = [v.reshape(read, -1) for v in cells.values()]
    visible = np.sum([v.sum(1, dtype=np.float64) for v in flat], axis=0)
    sample = {name: values[:read] for name, values in scalars.items()}
    sums = {
        name
        for name, values in sample.items()
        if not _TRUE.search(name) and _proportional(values, visible)
    }
    others = {n: v for n, v in sample.items() if n not in sums}
    incident = _incident(others, visible) or _incident(sample, visible)
    roles: dict[str, ConditionRole] = {}
    for name, values in scalars.items():
        if name == incident:
            reason = (
                "the incident momentum, used as the energy"
                if _MOMENTUM.fullmatch(name)
                else "the incident energy"
            )
            roles[name] = ConditionRole(_scale(name, values, energy=True), reason)
        elif values.min() == values.max():
            left_out[name] = f"left out: {values.min():g} in all entries"
        elif name in sums:
            left_out[name] = "left out: the sum of the cells"
        elif _IDENTIFIER.fullmatch(name) or _is_identifier(values):
            left_out[name] = "left out: a different value in nearly every event"
        elif name in named or (_KINEMATICS.fullmatch(name) and not _OUTPUT.fullmatch(name)):
            roles[name] = ConditionRole(_scale(name, values), _named(name))
    for name, values in scalars.items():
        if name in roles or name in left_out:
            continue
        if _OUTPUT.fullmatch(name):
            left_out[name] = "left out: by its name a result of the simulation, not a condition"
        elif not roles and (number := _classes(values)):
            reason = f"one of {number} whole numbers, hence a class"
            roles[name] = ConditionRole(_scale(name, values), reason)
        elif not roles:
            left_out[name] = _UNDECIDED
        elif _independent(sample[name], [sample[other] for other in roles]):
            reason = f"does not depend on {', '.join(roles)}: varied on purpose, hence a condition"
            roles[name] = ConditionRole(_scale(name, values), reason)
        else:
            left_out[name] = (
                f"left out: depends on {', '.join(roles)}, like a result of the simulation"
            )
    if not roles:
        for name in [n for n in scalars if left_out.get(n) == _UNDECIDED and _ENERGY.fullmatch(n)]:
            if scalars[name].min() > 0 and _is_gun_spectrum(scalars[name]):
                del left_out[name]
                reason = "follows the spectrum of a particle gun, hence a condition"
                roles[name] = ConditionRole(_scale(name, scalars[name], energy=True), reason)
    whole = all((v == np.round(v)).all() for v in cells.values())
    kind: Kind = "arrays" if low < 0 else "showers"
    named_image = len(arrays) == 1 and _IMAGE.fullmatch(next(iter(arrays)))
    if not incident and low >= 0 and len(arrays) == 1 and (whole or high <= 1 or named_image):
        ((name, field),) = arrays.items()
        kind = "image" if len(shape := _square(field.shape)) >= 2 else kind
        arrays = {name: dataclasses.replace(field, shape=shape)} if kind == "image" else arrays
        high = 255.0 if kind == "image" and cells[name].dtype == np.uint8 and high > 1 else high
    notes: dict[str, str] = {}
    if kind == "showers":
        arrays, notes = _with_grids(cells, arrays)
        arrays = dict(sorted(arrays.items(), key=lambda item: bool(_HADRONIC.search(item[0]))))
    polar = kind == "showers" and _is_polar(cells, arrays)
    mirrors, no_mirrors = (
        find_mirrors(cells, arrays, roles, sample) if kind == "showers" and not polar else ((), "")
    )
    return Roles(
        kind, tree, entries, arrays, notes, (), _common(roles, scalars),
        incident if incident in roles else "", left_out, _cut(roles, scalars),
        _units(visible, sample.get(incident)), *threshold(cells), high,
        polar=polar, rotated=set(roles) <= {incident} and _is_uniform(cells, arrays),
        mirrors=mirrors, no_mirrors=no_mirrors, weight=weight,
    )  # fmt: skip


def _named(name: str) -> str:
    what = "a class" if inspection.LABELS.fullmatch(name) else "a property of the incident particle"
    return f"by its name {what}"


def _incident(scalars: Mapping[str, Array], visible: Array) -> str:
    """Returns the scalar that is the incident energy: by name, otherwise the one with the strongest correlation with the visible energy.

    A weak correlation, as that of hadrons that leave the detector, suffices for values that follow a spectrum of a particle gun.
    """
    positive = {n: v for n, v in scalars.items() if v.min() > 0 and not _OUTPUT.fullmatch(n)}
    by_name = [n for n in positive if inspection.ENERGY.fullmatch(n)]
    if len(by_name) == 1:
        return by_name[0]
    candidates = [n for n in by_name or positive if by_name or _ENERGY.fullmatch(n)]
    strengths = {n: _correlation(positive[n], visible) for n in candidates}
    best = max(strengths, key=lambda n: strengths[n], default="")
    weakest = 0.2 if best and _is_gun_spectrum(positive[best]) else 0.7
    return best if best and (strengths[best] > weakest or by_name) else ""


def _is_gun_spectrum(values: Array) -> bool:
    """Returns whether ``values`` are uniform, uniform in their logarithms, or one of a few energies."""
    if len(np.unique(values)) <= inspection.MOST_CLASSES:
        return True
    sample = values[:10_000].astype(np.float64)
    uniform = []
    for form in (sample, np.log(sample)):
        low, high = form.min(), form.max()
        uniform.append(stats.kstest((form - low) / (high - low), "uniform").pvalue > 1e-4)
    return any(uniform)


def _correlation(a: Array, b: Array) -> float:
    """Returns Spearman's correlation; 0 for a constant."""
    if len(a) < 3 or a.min() == a.max() or b.min() == b.max():
        return 0.0
    return float(stats.spearmanr(a, b).statistic)


def _proportional(values: Array, visible: Array) -> bool:
    """Returns whether ``values`` are the visible energy, in any unit."""
    used = visible > 0
    ratio = values[used].astype(np.float64) / visible[used]
    return len(ratio) > 2 and float(ratio.std()) < 1e-3 * abs(float(ratio.mean()))


def _is_identifier(values: Array) -> bool:
    """Returns whether nearly every event has another whole number."""
    whole = values.dtype.kind in "iu" and len(values) > 100
    return whole and len(np.unique(values)) > 0.9 * len(values)


def _classes(values: Array) -> int:
    """Returns the number of classes, if ``values`` are a few integers that many events have; otherwise 0."""
    if values.dtype.kind not in "iub":
        return 0
    _, counts = np.unique(values, return_counts=True)
    few = 1 < len(counts) <= _MOST_UNNAMED_CLASSES and counts.min() >= 0.01 * len(values)
    return len(counts) if few else 0


def _independent(values: Array, others: list[Array]) -> bool:
    """Returns whether neither ``values`` nor their distance from the median are correlated with any of ``others``."""
    limit = 4.5 / math.sqrt(max(len(values), 1))
    forms = (values, np.abs(values - np.median(values)))
    return all(abs(_correlation(form, other)) < limit for form in forms for other in others)


def _scale(name: str, values: Array, *, energy: bool = False) -> ConditionScale:
    low, high = float(values.min()), float(values.max())
    distinct = np.unique(values)
    whole = len(distinct) <= inspection.MOST_CLASSES and bool((distinct == distinct.round()).all())
    particle = inspection.PARTICLES.fullmatch(name) or inspection.LABELS.fullmatch(name)
    if (
        whole
        and not energy
        and (particle or (values.dtype.kind in "iub" and len(distinct) <= _MOST_UNNAMED_CLASSES))
    ):
        numbers = [n for n in distinct if (values == n).sum() >= _LEAST]
        return ConditionScale(scale="classes", values=tuple(int(n) for n in numbers or distinct))
    if _ANGLE.fullmatch(name):
        if 6 < high - low <= 2 * math.pi and low >= -2 * math.pi:
            return ConditionScale(scale="angle")
        if 350 < high - low <= 360:
            return ConditionScale(scale="degrees")
    if low == high:
        return ConditionScale((low, high))
    log = low > 0 and high / low > 4 and bool(energy or _ENERGY.fullmatch(name))
    if low < 0 < high and abs(low + high) < 0.02 * (high - low):
        high = max(-low, high)
        low = -high  # mirror images have to be inside
    rounded = inspection.rounded_outward(low, high, digits=2)
    if log:
        rounded = (_floor(low, 2), rounded[1])
    return ConditionScale(rounded, "log" if log else "linear")


_LEAST = 2 * MIN_EVENTS
"""Minimum number of events of a class in all splits together."""


def _rare(roles: Mapping[str, ConditionRole], values: Mapping[str, Array]) -> Iterator[str]:
    for name, role in roles.items():
        if role.scale.scale == "classes" and len(np.unique(values[name])) > len(role.scale.values):
            yield name


def _cut(roles: Mapping[str, ConditionRole], values: Mapping[str, Array]) -> str:
    """Returns the expression that drops classes with too few events."""
    parts = [
        "(" + " | ".join(f"(`{name}` == {value})" for value in roles[name].scale.values) + ")"
        for name in _rare(roles, values)
    ]
    return " & ".join(parts)


def _common(
    roles: Mapping[str, ConditionRole], values: Mapping[str, Array]
) -> dict[str, ConditionRole]:
    """Returns the roles; those with rare classes, which the cut drops, say so."""
    rare = set(_rare(roles, values))
    return {
        name: dataclasses.replace(role, reason=f"{role.reason}; classes of few events are cut away")
        if name in rare
        else role
        for name, role in roles.items()
    }


def _square(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape of an image: rows and columns of a flat list of pixels, if it is a square."""
    side = math.isqrt(shape[0]) if len(shape) == 1 else 0
    return (side, side) if side >= 4 and side * side == shape[0] else shape


def threshold(cells: Mapping[str, Array]) -> tuple[float, str]:
    """Returns the read-out threshold, or the energy below which 0.3 % of the cells with energy lie, and which of them it is."""
    values = np.concatenate([v.ravel() for v in cells.values()])
    positive = values[values > 0]
    if not len(positive):
        return 0.0, ""
    low, usual = float(positive.min()), float(np.quantile(positive, 0.003))
    if low > usual / 20:  # cells at the threshold count as empty
        value = _below(low, positive)
        return value, f"read-out threshold: no cell has an energy between 0 and {value:g}"
    value = _floor(usual, 1)
    return value, f"cells of at most {value:g} are empty: 0.3 % of those with energy"


def _below(low: float, energies: Array) -> float:
    """Returns a number of few digits at or below ``low``, the smallest of ``energies``, within the rounding of float32.

    Cells at the threshold count as empty, so that no more than one of 10,000 may be.
    """
    for digits in (1, 2, 3):
        places = digits - 1 - math.floor(math.log10(low))
        near = round(low, places)
        if abs(near - low) < 1e-6 * low and (energies <= np.float32(near)).mean() < 1e-4:
            return near
    return _floor(low * (1 - 1e-6), 3)


def _floor(value: float, digits: int) -> float:
    if value <= 0:
        return 0.0
    places = digits - 1 - math.floor(math.log10(value))
    unit = 10.0**-places
    return round(math.floor(value / unit) * unit, max(places, 0))


def _units(visible: Array, incident: Array | None) -> tuple[str, str]:
    """Returns the probable units of the cells and of the incident energy."""
    if incident is None:
        return "", ""
    ratio = float(np.median(visible / incident))
    unit = "MeV" if float(incident.max()) > 5000 else "GeV"
    if ratio > 3:
        return "eV" if ratio > 3e6 else "keV" if ratio > 3000 else "MeV", "GeV"
    return ("GeV", "MeV") if ratio < 1 / 300 and unit == "MeV" else (unit, unit)


def _with_grids(
    cells: Mapping[str, Array], arrays: Mapping[str, Field]
) -> tuple[dict[str, Field], dict[str, str]]:
    """Returns the fields with rows and columns for flat lists of cells that are a grid, and notes about them."""
    fields, notes = dict(arrays), {}
    for name, field in arrays.items():
        if len(field.shape) != 1:
            continue
        reason = "cells at a distance of {0} are correlated, like those of rows of {0}"
        if not (columns := row_length(cells[name])):
            columns = peak_row_length(cells[name])
            reason = "every {0} of them have a peak in the mean energy, like rows of {0}"
        side = math.isqrt(field.size)
        if columns:
            fields[name] = dataclasses.replace(field, shape=(field.size // columns, columns))
            notes[name] = f"{field.size} cells in one list: {reason.format(columns)}"
        elif side >= 4 and side**2 == field.size:
            notes[name] = (
                f"{field.size} cells in one list; {side} × {side}? Then shape = [{side}, {side}]"
            )
    return fields, notes


def row_length(cells: Array) -> int:
    """Returns the length of the rows of a grid that is stored as one list ``[E, K]``; 0 if there is no sign of rows.

    Cells below each other are neighbors: the correlation of two cells has a peak where their distance in the list is a whole row.
    """
    number = cells.shape[1]
    if not 16 <= number <= 3000:
        return 0
    sample = cells[: SAMPLED // number].astype(np.float32)
    positive = sample[sample > 0]
    if not len(positive):
        return 0
    logs = np.log(sample.clip(0) + np.quantile(positive, 0.1))
    logs -= logs.mean(0)
    width = logs.std(0)
    used = width > 1e-6 * width.max()
    logs = np.where(used, logs / np.where(used, width, 1), 0)
    covariance = logs.T @ logs / len(logs)
    at = np.array(
        [
            np.diagonal(covariance, d).sum()
            / max(np.count_nonzero(used[d:] & used[: number - d]), 1)
            for d in range(number // 2 + 2)
        ]
    )
    divisors = [d for d in range(3, number // 2 + 1) if number % d == 0]
    noise = max(0.02, 5 / math.sqrt(len(logs) * number))
    for length in divisors:
        if at[length] - max(at[length - 1], at[length + 1]) > noise:
            return length
    # Rows of many narrow cells: a broad peak after the first minimum.
    smooth = np.convolve(at, np.ones(5) / 5, mode="same")[2:-3]
    falling = np.nonzero(np.diff(smooth) > 0)[0]
    if not len(falling):
        return 0
    lowest = 2 + int(falling[0])
    peak = lowest + int(at[lowest : 3 * lowest].argmax())
    near = min(divisors, key=lambda d: abs(d - peak), default=0)
    clear = at[near] - at[lowest] > 2 * noise if near else False
    return near if clear and abs(near - peak) <= 0.125 * peak else 0


def peak_row_length(cells: Array) -> int:
    """Returns the length of the rows of a grid that is stored as one list ``[E, K]`` and has a peak in its mean energies; 0 if there is none.

    The logarithm of the mean energy is the sum of a peak along the rows and one along the columns, up to a third of their variance. A list
    that is no grid has one peak, or decreases: its parts have slopes that differ, or no peak.
    """
    number, mean = cells.shape[1], cells.mean(0, dtype=np.float64)
    if number < 16 or mean.max() <= 0:
        return 0
    mean = mean.clip(1e-4 * mean.max())
    logs = np.log(mean)
    error = float((cells.std(0, dtype=np.float64) / mean).mean()) / math.sqrt(len(cells))
    found: dict[int, float] = {}
    for length in (d for d in range(4, number // 4 + 1) if number % d == 0):
        grid = logs.reshape(-1, length)
        rows, columns = grid.mean(1), grid.mean(0)
        weaker = min(rows.var(), columns.var())
        rest = (grid - rows[:, None] - columns + logs.mean()).var()
        peaks = _has_peak(rows, error / math.sqrt(length)) and _has_peak(
            columns, error / math.sqrt(len(rows))
        )
        if rest < weaker / 3 and peaks:
            found[length] = rest / weaker
    return min(found, key=lambda length: found[length], default=0)


def _has_peak(profile: Array, error: float) -> bool:
    """Returns whether a profile of logarithms rises to a maximum that is not at an end and falls again, within three ``error``."""
    top = int(profile.argmax())
    up, down = np.diff(profile[: top + 1]), np.diff(profile[top:])
    height = profile[top] - max(profile[0], profile[-1])
    return (
        0 < top < len(profile) - 1
        and bool((up > -3 * error).all() and (down < 3 * error).all())
        and bool(height > 0.2 + 5 * error)
    )


def _is_polar(cells: Mapping[str, Array], fields: Mapping[str, Field]) -> bool:
    """Returns whether energies depend little on the last axis but one, and fall along the last: α and r about the shower axis."""
    planes = [
        plane for plane in _planes(cells, fields) if plane.shape[1] >= 4 and plane.shape[2] >= 3
    ]
    for plane in planes:
        mean = plane.mean(0)
        around, along = mean.sum(1), mean.sum(0)
        if around.max() > 2 * max(around.min(), 1e-30) or along.argmax() >= len(along) / 2:
            return False
    return bool(planes)


def _planes(cells: Mapping[str, Array], fields: Mapping[str, Field]) -> list[Array]:
    """Returns the cells ``[E, R, C]`` summed over all layers with the same numbers of rows and columns."""
    sums: dict[tuple[int, ...], Array] = {}
    for name, field in fields.items():
        shape = (1, *field.shape)[-2:]
        plane = cells[name].reshape(len(cells[name]), -1, *shape).sum(1, dtype=np.float64)
        sums[shape] = sums.get(shape, 0) + plane
    return list(sums.values())


def find_mirrors(
    cells: Mapping[str, Array],
    fields: Mapping[str, Field],
    roles: Mapping[str, ConditionRole],
    values: Mapping[str, Array],
) -> tuple[tuple[Mapping[str, Any], ...], str]:
    """Returns the reflections of the two axes of all layers for which the showers are symmetric, with the conditions that change, or why there are none.

    A condition that moves the center of gravity along an axis changes sign with it; an azimuth, or else its name, tells which axis is x.
    Each axis needs a center of gravity of mean 0, in every class too, and mean profiles of all layers that equal their mirror images,
    within 4.5 standard errors.
    """
    for name, field in fields.items():
        if len(field.shape) < 2 or min(field.shape[-2:]) < 2:
            return (), f"{name} has no rows and columns"
    azimuths = [n for n, role in roles.items() if role.scale.scale in ("angle", "degrees")]
    if len(azimuths) > 1:
        return (), f"{' and '.join(azimuths)} are angles"
    known, mirrors = [], []
    for axis in (0, 1):
        profiles = [
            cells[name].reshape(len(cells[name]), -1, *field.shape[-2:]).sum(3 - axis, dtype=np.float64)
            for name, field in fields.items()
        ]  # fmt: skip
        total = np.sum([profile.sum((1, 2)) for profile in profiles], axis=0)
        used = total > 0
        center = np.sum([p.sum(1) @ np.linspace(-1, 1, p.shape[2]) for p in profiles], axis=0)[used]
        center /= total[used]
        classes = [
            center[values[n][used] == value]
            for n, role in roles.items()
            for value in role.scale.values
        ]
        centers = [each[:, None] for each in (center, *classes) if len(each) >= _FEWEST_OF_CLASS]
        if len(center) < 100:
            return (), "there are fewer than 100 showers with energy"
        if not all(map(_is_mirrored, [*centers, *profiles])):
            return (
                (),
                f"mean showers differ from their mirror images along the {('first', 'second')[axis]} axis",
            )
        limit = 4.5 / math.sqrt(len(center))
        moves = [n for n in roles if roles[n].scale.scale in ("linear", "log") and abs(_correlation(values[n][used], center)) > limit]  # fmt: skip
        if leaning := [n for n in moves if sum(roles[n].scale.range) != 0]:
            return (), f"{leaning[0]} moves showers, but its range is not symmetric about 0"
        named = {match[1].lower() for n in moves if (match := _ALONG.fullmatch(n))}
        certain = len(named) == 1
        entry: dict[str, Any] = {
            "axis": named.pop() if certain else "xy"[axis],
            "negate": moves,
            "azimuth": azimuths,
        }
        for name in azimuths:
            angle = values[name][used] * (2 * math.pi / roles[name].scale.period)
            along = [abs(_correlation(part, center)) > limit for part in (np.cos(angle), np.sin(angle))]  # fmt: skip
            if sum(along) != 1:
                return (), f"showers do not show along which axis {name} = 0 points"
            entry["axis"], certain = "x" if along[0] else "y", True
        known.append(certain)
        mirrors.append({key: value for key, value in entry.items() if value})
    if mirrors[0]["axis"] == mirrors[1]["axis"]:
        if all(known):
            return (), f"the names of the conditions stand for the axis {mirrors[0]['axis']} twice"
        mirrors[known.index(False)]["axis"] = "y" if mirrors[0]["axis"] == "x" else "x"
    return tuple(mirrors), ""


def _is_mirrored(profiles: Array) -> bool:
    """Returns whether the mean of ``[E, …, K]`` equals its mirror image; of a single column, whether it is 0."""
    difference = profiles if profiles.shape[-1] == 1 else profiles - profiles[..., ::-1]
    error = difference.std(0) / math.sqrt(len(difference))
    return bool((np.abs(difference.mean(0)) <= 4.5 * error + 1e-12).all())


def _is_uniform(cells: Mapping[str, Array], fields: Mapping[str, Field]) -> bool:
    """Returns whether the mean energy does not depend on the last axis but one, within 4.5 standard errors."""
    planes = [plane for plane in _planes(cells, fields) if plane.shape[1] > 1]
    for plane in planes:
        around = plane.sum(2)
        difference = around - around.mean(1, keepdims=True)
        error = difference.std(0) / math.sqrt(len(difference))
        if (np.abs(difference.mean(0)) > 4.5 * error + 1e-9 * around.mean()).any():
            return False
    return bool(planes)
