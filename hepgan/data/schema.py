"""Schema of an event: the fields that a GAN generates and the conditions on which it generates them."""

import dataclasses
import html
import itertools
import math
import re
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hepgan.config import from_table, short_repr
from hepgan.data.io.names import is_text
from hepgan.errors import RunError, did_you_mean

if TYPE_CHECKING:
    from hepgan.data.io.files import Files

_LARGEST = 10**8
"""Maximum number of values of a field in one event."""

MOST_BRANCHES = 100_000
"""Maximum number of branch names that the patterns of one field may expand to."""

_RANGE = re.compile(r"\{([0-9]+)\.\.([0-9]+)\}")


def expand_ranges(names: Iterable[str]) -> tuple[str, ...]:
    """Expands every ``{first..last}`` in branch names; the last range varies fastest.

    >>> expand_ranges(["energy", "cell_{0..2}"])
    ('energy', 'cell_0', 'cell_1', 'cell_2')

    Raises:
        RunError: a range counts down, or the patterns expand to more than ``MOST_BRANCHES`` names.
    """
    expanded: list[str] = []
    for name, ranges in _ranges(names):
        parts = _RANGE.split(name)
        for numbers in itertools.product(*ranges):
            texts = (*map(str, numbers), "")
            expanded.append("".join(map("".join, zip(parts[::3], texts, strict=True))))
    return tuple(expanded)


def _ranges(names: Iterable[str]) -> list[tuple[str, list[range]]]:
    """Returns each name with its ranges, after checking that they are few enough to expand."""
    result: list[tuple[str, list[range]]] = []
    total = 0
    for name in names:
        ranges: list[range] = []
        count = 1
        for first, last in _RANGE.findall(name):
            if max(len(first), len(last)) > 12:
                count = MOST_BRANCHES + 1
                break
            ranges.append(range(int(first), int(last) + 1))
            if not ranges[-1]:
                raise RunError(
                    f"branches = [{short_repr(name)}] counts down; write {{{last}..{first}}}"
                )
            count *= len(ranges[-1])
        total += count
        if total > MOST_BRANCHES:
            raise RunError(
                f"branches = [{short_repr(name)}] expands to more than {MOST_BRANCHES:,} branches; correct its range"
            )
        result.append((name, ranges))
    return result


@dataclasses.dataclass(frozen=True)
class Field:
    """One quantity of an event.

    Attributes:
        shape: Shape of the value of one event; ``()`` for a scalar.
        unit: Unit of the values, for labels and reports.
        branches: Branches that hold the field: empty for one branch with the field's name, one name for an array branch, or one
            name per value in row-major order; ``cell_{0..287}`` expands to 288 names.
        dtype: NumPy name of the type in the file; empty until the schema is resolved against a file.
        stored: Shape in the file if it differs from ``shape`` (a flat ``float[288]`` for a ``3 × 96`` layer); ``None`` until the
            schema is resolved against a file.
        fill: Padding value for a jagged branch: shorter entries are padded to ``shape[0]`` values, longer ones are truncated.
            ``None`` makes a jagged branch an error.
        count: For a jagged branch: the field that holds the number of values per event; ``n_<field>`` if empty. Lists of one
            collection may share it. It is trained on and generated like any other field, and sets the lengths of the lists that are
            written.
        minimum: Smallest possible value. Generated values are clipped to it; training data below it are an error. Default: 0 if no
            value of the training data is negative, otherwise no limit.
        maximum: Largest possible value. Default: 0 if no value of the training data is positive, otherwise no limit.
    """

    shape: tuple[int, ...] = ()
    unit: str = ""
    branches: tuple[str, ...] = ()
    dtype: str = ""
    stored: tuple[int, ...] | None = None
    fill: float | None = None
    count: str = ""
    minimum: float | None = None
    maximum: float | None = None

    def __post_init__(self) -> None:
        if any(length < 1 for length in self.shape):
            raise RunError(
                f"a field has the shape {short_repr(list(self.shape))}; every length must be at least 1"
            )
        if self.size > _LARGEST:
            raise RunError(
                f"a field has the shape {short_repr(list(self.shape))}, more than the maximum of {_LARGEST:,} values per event"
            )
        _ranges(self.branches)
        low = -math.inf if self.minimum is None else self.minimum
        high = math.inf if self.maximum is None else self.maximum
        if not low <= high or low == math.inf or high == -math.inf:
            raise RunError(
                f"a field has the minimum {low:g} and the maximum {high:g}; the minimum must not exceed the maximum"
            )
        try:
            kind = np.dtype(self.dtype or "float32").kind
        except (TypeError, ValueError, SyntaxError) as error:
            raise RunError(
                f"a field has the unknown dtype {short_repr(self.dtype)}; use float32 or uint8, for example"
            ) from error
        if kind not in "biuf":
            raise RunError(
                f"a field has the dtype {short_repr(self.dtype)}, which is not numeric; use float32 or uint8, for example"
            )

    @property
    def size(self) -> int:
        """Number of values per event."""
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Schema:
    """Fields and conditions by name, in the order of the features ``x[B, F]`` and of the conditions ``c[B, C]``.

    Attributes:
        fields: Quantities that the GAN generates.
        conditions: Quantities on which it generates them.
        incident: Name of the condition or field that is the energy of the incident particle; empty if there is none.
    """

    fields: Mapping[str, Field]
    conditions: Mapping[str, Field] = dataclasses.field(default_factory=dict)
    incident: str = ""

    def __post_init__(self) -> None:
        if not self.fields:
            raise RunError("[schema] needs at least one field under [schema.fields]")
        if duplicates := set(self.fields) & set(self.conditions):
            raise RunError(
                f"[schema] declares '{min(duplicates)}' both as a field and as a condition"
            )
        for name in self.all:
            if not name or not is_text(name):
                raise RunError(
                    f"[schema] has the name {name!a}, which a TOML file cannot hold; choose another name and list the "
                    "branch under 'branches'"
                )
        for name, field in self.conditions.items():
            if field.minimum is not None or field.maximum is not None:
                raise RunError(
                    f"[schema.conditions.{name}] has a minimum or maximum; give a condition a range instead: "
                    f"[encoding.conditions.{name}] range = [low, high]"
                )
        for table in ("fields", "conditions"):
            object.__setattr__(self, table, _with_counts(getattr(self, table), table))
        if duplicates := set(self.fields) & set(self.conditions):
            raise RunError(
                f"[schema] declares '{min(duplicates)}' twice: it is also the number of values of a field with a 'fill'; "
                "give that field another 'count'"
            )
        if self.incident and self.incident not in self.all:
            near = did_you_mean(self.incident, self.all) or f"; there are: {', '.join(self.all)}"
            raise RunError(
                f"[schema] incident = {short_repr(self.incident)} is neither a condition nor a field{near}"
            )
        if self.incident and self.all[self.incident].shape:
            raise RunError(
                f"[schema] incident = '{self.incident}' has the shape {list(self.all[self.incident].shape)}; an incident "
                "energy is a scalar"
            )

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> "Schema":
        """Returns the schema of a run file's ``[schema]`` table.

        >>> Schema.from_table({"fields": {"image": {"shape": [28, 28]}}}).features
        784
        """
        return from_table(cls, table, where="schema")

    @classmethod
    def infer(cls, files: "Files", *, tree: str | None = None) -> "Schema":
        """Returns the schema that ``hepgan inspect`` proposes for the first of ``files`` that has entries.

        Array branches and long runs of numbered scalar branches become fields; quantities of an incident particle and class labels,
        recognized by their names, become conditions. Event weights and branches that cannot be read are left out.

        >>> Schema.infer("sample:showers.root")
        Schema(layer_0[3, 96], layer_1[12, 12], layer_2[12, 6] | energy (incident))

        Raises:
            DataError: a file or tree is missing or damaged, or no branch can be a field.
        """
        from hepgan.data.io.inspection import infer_schema  # imported here: it imports this module

        return infer_schema(files, tree=tree)

    def __repr__(self) -> str:
        groups = [
            ", ".join(self._label(name, field) for name, field in group.items())
            for group in (self.fields, self.conditions)
            if group
        ]
        return f"Schema({' | '.join(groups)})"

    def _label(self, name: str, field: Field) -> str:
        shape = str(list(field.shape)) if field.shape else ""
        unit = f" {field.unit}" if field.unit else ""
        return f"{name}{shape}{unit}{' (incident)' if name == self.incident else ''}"

    def _repr_html_(self) -> str:
        rows = []
        for role, group in (("field", self.fields), ("condition", self.conditions)):
            for name, field in group.items():
                kind = "incident energy" if name == self.incident else role
                shape = " × ".join(map(str, field.shape)) or "scalar"
                cells = (name, kind, shape, field.unit, field.dtype, ", ".join(field.branches[:3]))
                rows.append("".join(f"<td>{html.escape(cell)}</td>" for cell in cells))
        head = "".join(
            f"<th>{title}</th>" for title in ("name", "role", "shape", "unit", "type", "branches")
        )
        return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"

    @property
    def features(self) -> int:
        """Number of values per event in all fields together: ``N`` in a layout."""
        return sum(field.size for field in self.fields.values())

    @property
    def all(self) -> dict[str, Field]:
        """Fields and conditions together: everything that is read from a file and written to one."""
        return {**self.fields, **self.conditions}

    @property
    def counts(self) -> dict[str, tuple[str, ...]]:
        """Maps each field that holds the lengths of jagged branches to the fields of these branches."""
        lists: dict[str, tuple[str, ...]] = {}
        for name, field in self.all.items():
            if field.fill is not None:
                lists[field.count] = (*lists.get(field.count, ()), name)
        return lists

    @property
    def in_branches(self) -> dict[str, Field]:
        """Fields and conditions that are read from their own branches: all except the lengths of lists."""
        counts = self.counts
        return {name: field for name, field in self.all.items() if name not in counts}

    def without(self, names: Collection[str]) -> "Schema | None":
        """Returns the schema without the fields ``names``, and without lists whose length is among them; ``None`` if no field remains."""
        dropped = set(names)
        for count, lists in self.counts.items():
            if count in dropped or dropped.issuperset(lists):
                dropped |= {count, *lists}
        fields = {name: field for name, field in self.fields.items() if name not in dropped}
        conditions = {name: field for name, field in self.conditions.items() if name not in dropped}
        incident = "" if self.incident in dropped else self.incident
        return Schema(fields, conditions, incident) if fields else None


def _with_counts(fields: Mapping[str, Field], table: str) -> dict[str, Field]:
    """Returns ``fields`` with the count of each jagged field inserted after the first field that uses it.

    Raises:
        RunError: a count has the name of another field, or lists that share a count have different maximum lengths.
    """
    lists = {n: f.count or f"n_{n}" for n, f in fields.items() if f.fill is not None}
    counts: dict[str, Field] = {}
    lengths: dict[str, int] = {}
    for name, count in lists.items():
        where, field, declared = (
            f"[schema.{table}.{name}]",
            fields[name],
            fields.get(count, Field()),
        )
        if count in fields and not field.count:
            raise RunError(
                f"{where} has a 'fill', so its number of values would be the field '{count}', which exists already; write "
                f"count = '{count}' if that field is this number, otherwise another name"
            )
        if (
            declared.shape
            or declared.fill is not None
            or np.dtype(declared.dtype or "int32").kind not in "iu"
        ):
            raise RunError(
                f"{where} has the count '{count}', which is not a scalar integer field; choose another name"
            )
        longest = field.shape[0] if field.shape else 1
        if lengths.setdefault(count, longest) != longest:
            raise RunError(
                f"{where} is truncated to {longest} values, other fields with the count '{count}' to {lengths[count]}; "
                "use the same length, or give each field its own 'count'"
            )
        limits = (0.0, float(longest)) if table == "fields" else (None, None)
        counts[count] = dataclasses.replace(
            declared, dtype=declared.dtype or "int32", minimum=limits[0], maximum=limits[1]
        )
    result: dict[str, Field] = {}
    for name, field in fields.items():
        if name not in lists:
            result[name] = counts.get(name, field)
            continue
        result[name] = dataclasses.replace(field, count=lists[name])
        if lists[name] not in fields:
            result[lists[name]] = counts[lists[name]]
    return result
