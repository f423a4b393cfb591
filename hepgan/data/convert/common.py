"""Result of a converter, and its variant with one branch per value."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import awkward as ak

from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError

MOST_BRANCHES = (
    10_000  # writing a tree takes time quadratic in their number: five minutes for this many
)


class Conversion(NamedTuple):
    """Result of a converter.

    Attributes:
        tree: Name of the tree.
        schema: Schema of the events.
        pixels: Pattern of the branch names by field, for one branch per value.
        chunks: Events in chunks.
    """

    tree: str
    schema: Schema
    pixels: Mapping[str, str]
    chunks: Iterator[ak.Array]


def with_scalar_branches(conversion: Conversion) -> Schema:
    """Returns the schema with a scalar branch for every value, named as usual for the format.

    Raises:
        DataError: writing that many branches would take too long.
    """
    values = sum(field.size for field in conversion.schema.all.values())
    if values > MOST_BRANCHES:
        raise DataError(
            f"one branch per value gives {values} branches, and trees with more than {MOST_BRANCHES} take hours to write; "
            "omit --pixel-branches"
        )

    def expand(name: str, field: Field) -> Field:
        pattern = conversion.pixels.get(
            name, f"{name}_{{0..{field.size - 1}}}" if field.shape else name
        )
        return dataclasses.replace(field, branches=(pattern,), stored=())

    schema = conversion.schema
    return Schema(
        {name: expand(name, field) for name, field in schema.fields.items()},
        {name: expand(name, field) for name, field in schema.conditions.items()},
        schema.incident,
    )


def check_sources(sources: Sequence[Path], what: str) -> None:
    """Raises a ``DataError`` if there are no sources, or if one is not a file."""
    if not sources:
        raise DataError(f"no source is given; give {what}")
    for source in sources:
        if not source.exists():
            raise DataError(f"'{source}' does not exist; check the path")
        if source.is_dir():
            raise DataError(f"'{source}' is a folder; give the files in it")
