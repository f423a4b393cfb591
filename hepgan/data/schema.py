"""What an event is: the fields that a GAN makes and the conditions that it is asked for."""

import dataclasses
import itertools
import math
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from hepgan.config import from_table, shown
from hepgan.data.io.names import is_text
from hepgan.errors import RunError

ENERGY_UNITS = {"eV": 1e-6, "keV": 1e-3, "MeV": 1.0, "GeV": 1e3, "TeV": 1e6}
"""Units of energy [MeV]."""

_LARGEST = 10**8
"""Values of a field in one event at the most."""

MOST_BRANCHES = 100_000
"""No more names are written out for the patterns of one field."""

_RANGE = re.compile(r"\{([0-9]+)\.\.([0-9]+)\}")


def expand(names: Iterable[str]) -> tuple[str, ...]:
    """Branch names with every ``{first..last}`` written out, the last one running fastest.

    >>> expand(["energy", "cell_{0..2}"])
    ('energy', 'cell_0', 'cell_1', 'cell_2')

    Raises:
        RunError: a range that counts down, or more names than ``MOST_BRANCHES``.
    """
    found: list[str] = []
    for name, ranges in _ranges(names):
        parts = _RANGE.split(name)
        for numbers in itertools.product(*ranges):
            texts = (*map(str, numbers), "")
            found.append("".join(map("".join, zip(parts[::3], texts, strict=True))))
    return tuple(found)


def _ranges(names: Iterable[str]) -> list[tuple[str, list[range]]]:
    """The ranges in each of the names, few enough to be written out."""
    found: list[tuple[str, list[range]]] = []
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
                raise RunError(f"branches = [{shown(name)}] counts down; write {{{last}..{first}}}")
            count *= len(ranges[-1])
        total += count
        if total > MOST_BRANCHES:
            raise RunError(
                f"branches = [{shown(name)}] stands for more than {MOST_BRANCHES:,} branches; correct its range"
            )
        found.append((name, ranges))
    return found


@dataclasses.dataclass(frozen=True)
class Field:
    """One quantity of an event.

    Attributes:
        shape: The shape of one event's value; ``()`` is a scalar.
        unit: Unit of the values, for labels and reports.
        branches: Where it is in the file: empty for a branch of the field's own name, one name for an array branch, or as
            many as the field has values, row-major; ``cell_{0..287}`` stands for 288 names.
        dtype: NumPy's name of the type in the file; empty until read from one.
        stored: The shape in the file where it is not ``shape`` (a flat ``float[288]`` for a ``3 × 96`` layer);
            ``None`` until read from a file.
        fill: For a jagged branch: what stands after the last value of an entry that is shorter than ``shape[0]``; longer
            ones are cut. ``None``: a jagged branch is an error.
        count: For a jagged branch: the field that holds how many values of it an event has; ``n_<field>`` where empty. Lists of
            one collection may share it. It is made and generated like any other field, and cuts the lists that are written.
        minimum: The smallest value that is possible. Generated values are clipped to it; training data below it are an error. Left
            out: 0 where no value of the training data is negative, or none.
        maximum: The largest value that is possible. Left out: 0 where all values of the training data are negative or 0, or none.
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
                f"a field's shape {shown(list(self.shape))} should have lengths of 1 or more"
            )
        if self.size > _LARGEST:
            raise RunError(
                f"a field's shape {shown(list(self.shape))} has too many values an event; {_LARGEST:,} are the most"
            )
        _ranges(self.branches)
        low = -math.inf if self.minimum is None else self.minimum
        high = math.inf if self.maximum is None else self.maximum
        if not low <= high or low == math.inf or high == -math.inf:
            raise RunError(
                f"a field's minimum {low:g} and maximum {high:g} should be numbers in rising order"
            )
        try:
            kind = np.dtype(self.dtype or "float32").kind
        except (TypeError, ValueError, SyntaxError) as error:
            raise RunError(
                f"a field's dtype {shown(self.dtype)} is no type; write float32 or uint8, say"
            ) from error
        if kind not in "biuf":
            raise RunError(
                f"a field's dtype {shown(self.dtype)} does not hold numbers; write float32 or uint8, say"
            )

    @property
    def size(self) -> int:
        """How many values one event has."""
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Schema:
    """Fields and conditions by name, in the order of the features ``x[B, F]`` and the conditions ``c[B, C]``."""

    fields: Mapping[str, Field]
    conditions: Mapping[str, Field] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.fields:
            raise RunError("[schema] needs at least one field under [schema.fields]")
        if twice := set(self.fields) & set(self.conditions):
            raise RunError(f"[schema] names '{min(twice)}' both a field and a condition")
        for name in self.all:
            if not name or not is_text(name):
                raise RunError(
                    f"[schema] has the name {name!a}, which is no text that a TOML file can hold; call the field otherwise "
                    "and give it the branch under 'branches'"
                )
        for name, field in self.conditions.items():
            if field.minimum is not None or field.maximum is not None:
                raise RunError(
                    f"[schema.conditions.{name}] has a minimum or maximum; conditions have a range: "
                    f"[encoding.conditions.{name}] range = [low, high]"
                )
        for table in ("fields", "conditions"):  # ready at birth: lists come with their lengths
            object.__setattr__(self, table, _with_counts(getattr(self, table), table))
        if twice := set(self.fields) & set(self.conditions):
            raise RunError(
                f"[schema] names '{min(twice)}' twice: it is also the number of values of a field with a 'fill'; give "
                "this field another 'count'"
            )

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> "Schema":
        """The schema of a run file's ``[schema]`` table.

        >>> Schema.from_table({"fields": {"image": {"shape": [28, 28]}}}).features
        784
        """
        return from_table(cls, table, where="schema")

    @property
    def features(self) -> int:
        """``N`` in a layout: how many values an event's fields have together."""
        return sum(field.size for field in self.fields.values())

    @property
    def all(self) -> dict[str, Field]:
        """Fields and conditions together: what is read from a file and written to one."""
        return {**self.fields, **self.conditions}

    @property
    def counts(self) -> dict[str, tuple[str, ...]]:
        """The fields that are lengths of lists, each with the lists' fields: they are read and written with those."""
        found: dict[str, tuple[str, ...]] = {}
        for name, field in self.all.items():
            if field.fill is not None:
                found[field.count] = (*found.get(field.count, ()), name)
        return found

    @property
    def in_branches(self) -> dict[str, Field]:
        """Fields and conditions that are read from branches of their own: all but the lengths of lists."""
        counts = self.counts
        return {name: field for name, field in self.all.items() if name not in counts}

    def without(self, names: Collection[str]) -> "Schema | None":
        """Returns the schema without the fields ``names``, and without lists whose length is among them; ``None`` where nothing is left."""
        lost = set(names)
        for count, lists in self.counts.items():
            if count in lost or lost.issuperset(lists):
                lost |= {count, *lists}
        fields = {name: field for name, field in self.fields.items() if name not in lost}
        conditions = {name: field for name, field in self.conditions.items() if name not in lost}
        return Schema(fields, conditions) if fields else None


def _with_counts(fields: Mapping[str, Field], table: str) -> dict[str, Field]:
    """Returns ``fields`` with the length of each jagged one, behind the first that has it.

    Raises:
        RunError: a length has the name of a field that is something else, or lists that share one are cut to different lengths.
    """
    lists = {n: f.count or f"n_{n}" for n, f in fields.items() if f.fill is not None}
    counts: dict[str, Field] = {}
    lengths: dict[str, int] = {}
    for name, count in lists.items():
        where, field, given = f"[schema.{table}.{name}]", fields[name], fields.get(count, Field())
        if count in fields and not field.count:
            raise RunError(
                f"{where} has a 'fill', and the number of its values would be the field '{count}', which is there "
                f"already; write count = '{count}' if it is this number, or another name for this number"
            )
        if (
            given.shape
            or given.fill is not None
            or np.dtype(given.dtype or "int32").kind not in "iu"
        ):
            raise RunError(
                f"{where} has the count '{count}', which is no single integer; give another name"
            )
        longest = field.shape[0] if field.shape else 1
        if lengths.setdefault(count, longest) != longest:
            raise RunError(
                f"{where} is cut to {longest} values, others with the count '{count}' to {lengths[count]}; "
                "give them one length, or each a 'count' of its own"
            )
        limits = (0.0, float(longest)) if table == "fields" else (None, None)
        counts[count] = dataclasses.replace(
            given, dtype=given.dtype or "int32", minimum=limits[0], maximum=limits[1]
        )
    found: dict[str, Field] = {}
    for name, field in fields.items():
        if name not in lists:
            found[name] = counts.get(name, field)
            continue
        found[name] = dataclasses.replace(field, count=lists[name])
        if lists[name] not in fields:
            found[lists[name]] = counts[lists[name]]
    return found
