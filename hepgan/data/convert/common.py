"""What the converters share: their result, and its form with a branch for every value."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import awkward as ak

from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError

MOST_BRANCHES = 10_000  # the time to write a tree grows with their square: five minutes for so many


class Conversion(NamedTuple):
    """What a converter makes: chunks of events for one tree, and the branches of its one-branch-a-pixel form."""

    tree: str
    schema: Schema
    pixels: Mapping[str, str]
    chunks: Iterator[ak.Array]


def with_scalar_branches(found: Conversion) -> Schema:
    """The schema with a scalar branch for every value, named as is usual for the format.

    Raises:
        DataError: there would be more branches than can be written in reasonable time.
    """
    values = sum(field.size for field in found.schema.all.values())
    if values > MOST_BRANCHES:
        raise DataError(
            f"a branch a value would be {values} branches, and trees of more than {MOST_BRANCHES} take hours to write; "
            "leave --pixel-branches out"
        )

    def spread(name: str, field: Field) -> Field:
        pattern = found.pixels.get(name, f"{name}_{{0..{field.size - 1}}}" if field.shape else name)
        return dataclasses.replace(field, branches=(pattern,), stored=())

    schema = found.schema
    return Schema(
        {name: spread(name, field) for name, field in schema.fields.items()},
        {name: spread(name, field) for name, field in schema.conditions.items()},
        schema.incident,
    )


def need_sources(sources: Sequence[Path], what: str) -> None:
    """Raise a ``DataError`` where there are no sources, or one is no file."""
    if not sources:
        raise DataError(f"no source is named; give {what}")
    for source in sources:
        if not source.exists():
            raise DataError(f"'{source}' does not exist; check the path")
        if source.is_dir():
            raise DataError(f"'{source}' is a folder; name the files in it")
