"""Variables of an event: their branches and shapes, as a ``Schema`` without conditions."""

import math
import re
from collections.abc import Mapping, Sequence

from hepgan.data.io import inspection, reader
from hepgan.data.schema import Field, Schema, expand_ranges
from hepgan.errors import RunError

SMALLEST_IMAGE = 16
"""Minimum side [pixels] of a square number of numbered branches that is treated as an image, as TMVA stored images."""


def schema_of(
    files: Sequence[str], tree: str | None, variables: Sequence[str], size: int
) -> Schema:
    """Returns the schema of ``variables`` in the first file; without any, of the fields that ``hepgan inspect`` proposes.

    Args:
        files: As in a run file.
        tree: The tree, if a file has several.
        variables: Branches, ``x{0..783}`` for many; consecutive numbered ones form one field. ``x[784]`` is an
            array or, if there is none, ``x{0..783}``.
        size: Expected number of values per event, 0 if unknown.

    Raises:
        DataError: there is no such file, tree or branch.
        RunError: the variables are ambiguous.
    """
    with reader.first_tree(list(files), tree=tree) as first:
        path, name = first.source
    proposal = inspection.propose_fields(inspection.inspect(path, tree=name, entries=0)[0])
    if not variables and not proposal.fields:
        raise RunError(
            f"no branch of tree '{name}' of '{path}' is proposed as a variable; name some with --variables"
        )
    fields = (
        _grouped(variables, proposal.readable) if variables else _of_size(proposal.fields, size)
    )
    return Schema({name: _as_image(field) for name, field in fields.items()})


def _of_size(fields: Mapping[str, Field], size: int) -> Mapping[str, Field]:
    """Returns the fields with ``size`` values in total: all of them, or the only one of that size."""
    total = sum(field.size for field in fields.values())
    fitting = [name for name, field in fields.items() if field.size == size]
    if size in (0, total):
        return fields
    if len(fitting) == 1:
        return {fitting[0]: fields[fitting[0]]}
    sizes = ", ".join(f"{name} ({field.size})" for name, field in fields.items())
    raise RunError(
        f"InputLayout declares {size} variables, but the tree has {sizes}; choose some with --variables"
    )


def _grouped(variables: Sequence[str], available: Mapping[str, Field]) -> dict[str, Field]:
    """Returns a field for each variable, or for each run of numbered ones."""
    fields: dict[str, Field] = {}
    for stem, first, last in _runs(_expanded(variables, available)):
        if last > first:
            name = stem.rstrip("_") or "values"
            field = Field((last - first + 1,), branches=(f"{stem}{{{first}..{last}}}",))
        else:
            name = stem if first < 0 else f"{stem}{first}"
            field = available.get(name, Field())
        if name in fields:
            raise RunError(f"the variable '{name}' is named twice")
        fields[name] = field
    return fields


def _expanded(variables: Sequence[str], available: Mapping[str, Field]) -> list[str]:
    """Returns ``x{0..2}`` written out, and ``x[3]`` too if there is no such array."""
    names: list[str] = []
    for variable in variables:
        array = re.fullmatch(r"(.*)\[([0-9]{1,12})\]", variable, flags=re.DOTALL)
        if array and int(array[2]) < 1:
            raise RunError(
                f"the variable '{variable}' has no values; write its size in the brackets"
            )
        if not array:
            names += expand_ranges([variable])
        elif not _is_array(array[1], int(array[2]), available):
            names += expand_ranges([f"{array[1]}{{0..{int(array[2]) - 1}}}"])
        else:
            names.append(array[1])
    return names


def _is_array(name: str, size: int, available: Mapping[str, Field]) -> bool:
    return name in available and not available[name].branches and available[name].size == size


def _runs(names: Sequence[str]) -> list[tuple[str, int, int]]:
    """Returns (stem, first, last) of consecutive numbered names; -1 for a name without a number."""
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
    """Returns a large square number of numbered branches as rows and columns, which is how it is plotted."""
    side = math.isqrt(field.size)
    if len(field.shape) == 1 and side >= SMALLEST_IMAGE and side * side == field.size:
        return Field((side, side), field.unit, field.branches)
    return field
