"""Which branches are an event's variables, and of what shape: a ``Schema`` without conditions."""

import math
import re
from collections.abc import Mapping, Sequence

from hepgan.data.io import inspection, reader
from hepgan.data.schema import Field, Schema, expand_ranges
from hepgan.errors import RunError

SMALLEST_IMAGE = 16
"""From so many pixels a side on, a square number of numbered branches is taken for an image, as TMVA stored images."""


def schema_of(
    files: Sequence[str], tree: str | None, variables: Sequence[str], size: int
) -> Schema:
    """The variables ``variables`` of the first file; without any, the fields that ``hepgan inspect`` proposes.

    Args:
        files: As in a run file.
        tree: The tree, where a file has several.
        variables: Branches, ``x{0..783}`` for many; numbered ones that follow each other are one field. ``x[784]`` is an
            array or, where there is none, ``x{0..783}``.
        size: How many values an event should have, 0 where that is not known.

    Raises:
        DataError: no such file, tree or branch.
        RunError: it is not clear which branches are meant.
    """
    with reader.first_tree(list(files), tree=tree) as first:
        path, name = first.source
    found = inspection.propose_fields(inspection.inspect(path, tree=name, entries=0)[0])
    if not variables and not found.fields:
        raise RunError(
            f"no branch of tree '{name}' of '{path}' is proposed as a variable; name some by --variables"
        )
    fields = _grouped(variables, found.readable) if variables else _of_size(found.fields, size)
    return Schema({name: _as_image(field) for name, field in fields.items()})


def _of_size(fields: Mapping[str, Field], size: int) -> Mapping[str, Field]:
    """The fields that have ``size`` values together: all, or the one that alone has so many."""
    total = sum(field.size for field in fields.values())
    fitting = [name for name, field in fields.items() if field.size == size]
    if size in (0, total):
        return fields
    if len(fitting) == 1:
        return {fitting[0]: fields[fitting[0]]}
    found = ", ".join(f"{name} ({field.size})" for name, field in fields.items())
    raise RunError(
        f"InputLayout says {size} variables, but the tree has {found}; name those that are meant by --variables"
    )


def _grouped(variables: Sequence[str], there: Mapping[str, Field]) -> dict[str, Field]:
    """A field for each variable, or one for each run of numbered ones."""
    fields: dict[str, Field] = {}
    for stem, first, last in _runs(_expanded(variables, there)):
        if last > first:
            name = stem.rstrip("_") or "values"
            field = Field((last - first + 1,), branches=(f"{stem}{{{first}..{last}}}",))
        else:
            name = stem if first < 0 else f"{stem}{first}"
            field = there.get(name, Field())
        if name in fields:
            raise RunError(f"the variable '{name}' is named twice")
        fields[name] = field
    return fields


def _expanded(variables: Sequence[str], there: Mapping[str, Field]) -> list[str]:
    """``x{0..2}`` written out, and ``x[3]`` where there is no such array."""
    found: list[str] = []
    for variable in variables:
        array = re.fullmatch(r"(.*)\[([0-9]{1,12})\]", variable, flags=re.DOTALL)
        if array and int(array[2]) < 1:
            raise RunError(f"the variable '{variable}' has no values; write its size")
        if not array:
            found += expand_ranges([variable])
        elif not _is_array(array[1], int(array[2]), there):
            found += expand_ranges([f"{array[1]}{{0..{int(array[2]) - 1}}}"])
        else:
            found.append(array[1])
    return found


def _is_array(name: str, size: int, there: Mapping[str, Field]) -> bool:
    return name in there and not there[name].branches and there[name].size == size


def _runs(names: Sequence[str]) -> list[tuple[str, int, int]]:
    """(stem, first, last) of names that count up by one; -1 for a name without a number."""
    runs: list[tuple[str, int, int]] = []
    for name in names:
        match = re.fullmatch(r"(.*?)(0|[1-9][0-9]{0,8})", name)
        stem, number = (match[1], int(match[2])) if match else (name, -1)
        if runs and runs[-1][0] == stem and 0 <= runs[-1][2] == number - 1:
            runs[-1] = stem, runs[-1][1], number
        else:
            runs.append((stem, number, number))
    return runs


def _as_image(field: Field) -> Field:
    """A large square number of numbered branches as rows and columns, which is how it is drawn."""
    side = math.isqrt(field.size)
    if len(field.shape) == 1 and side >= SMALLEST_IMAGE and side * side == field.size:
        return Field((side, side), field.unit, field.branches)
    return field
