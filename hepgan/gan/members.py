"""Members of an ensemble: ordinary GAN folders ``members/0``, ``members/1``, … in a run folder, which is itself a GAN folder, that of a member."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np

from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError, RunError
from hepgan.random_streams import child_seed

if TYPE_CHECKING:
    from hepgan.gan.conditions import Condition
    from hepgan.gan.engines import EngineName
    from hepgan.gan.model import GAN

FOLDER = "members"
"""Folder of the members in a run folder."""

MEMBER = "member"
"""Field with the number of the member that generated an event, where several did."""

BLOCK = 2**13
"""Number of events of all members that are generated at once."""


def member_folder(folder: str | os.PathLike[str], member: int) -> Path:
    """Returns the folder of one member."""
    return Path(folder, FOLDER, str(member))


def member_name(member: int) -> str:
    """Returns the name of a member's events in a report."""
    return f"{MEMBER} {member}"


def count_members(folder: str | os.PathLike[str]) -> int:
    """Returns the number of members that have been started in a run folder; 0 if it is not that of an ensemble."""
    path = Path(folder, FOLDER)
    return sum(each.name.isdecimal() for each in path.iterdir()) if path.is_dir() else 0


def gan_folder(folder: str | os.PathLike[str], member: int | None = None) -> Path:
    """Returns the folder that holds the files of the GAN of a run folder: of an ensemble, that of ``member``, by default the first one.

    Raises:
        RunError: there is no such member, or the folder holds one GAN.
    """
    members = count_members(folder)
    if not members and member is not None:
        raise RunError(f"{folder} holds one GAN; choose no member, or the folder of an ensemble")
    if not members:
        return Path(folder)
    if not 0 <= (member or 0) < members:
        raise RunError(
            f"{folder} has no member {member}; its {members} members are numbered from 0 to {members - 1}"
        )
    return member_folder(folder, member or 0)


def gan_folders(folder: str | os.PathLike[str]) -> list[Path]:
    """Returns the folders of all GANs in a run folder: those of all members of an ensemble, with the run folder if it holds files of a GAN."""
    members = [member_folder(folder, number) for number in range(count_members(folder))]
    own = not members or Path(folder, "gan.json").is_file()
    return [*members, *([Path(folder)] if own else [])]


def with_member(schema: Schema) -> Schema:
    """Returns the schema of events of several members, with the field ``member``.

    Raises:
        DataError: the schema has a field of this name.
    """
    if MEMBER in schema.all:
        raise DataError(
            f"the GAN has a field '{MEMBER}', which is also the name of the number of a member; choose one member, or train it on a schema"
            " with another name for this field"
        )
    number = Field(dtype="int32")
    return Schema({**schema.fields, MEMBER: number}, schema.conditions, schema.incident)


def drawn_evenly(samples: Sequence[ak.Array]) -> ak.Array:
    """Returns the event i of the sample i modulo their number, for all events, with this number in the field ``member``."""
    members = np.arange(len(samples[0])) % len(samples)
    return in_order([events[members == number] for number, events in enumerate(samples)], members)


def in_order(parts: Sequence[ak.Array], members: np.ndarray[Any, Any]) -> ak.Array:
    """Returns the events of all members, ``parts``, in the order of ``members[E]``, with the field ``member``."""
    order = np.argsort(np.argsort(members, kind="stable"))
    return ak.with_field(ak.concatenate(parts)[order], members.astype(np.int32), MEMBER)


def sample_members(
    gans: "Sequence[GAN]",
    n: int,
    *,
    seed: int,
    conditions: "Mapping[str, Condition] | None" = None,
    engine: "EngineName" = "torch",
) -> Iterator[ak.Array]:
    """Yields ``n`` events in blocks, drawn evenly from the members: event i is of the member i modulo their number, in the field ``member``.

    Args:
        gans: The members.
        n: Number of events.
        seed: Seed; events depend on it, their number and the members.
        conditions: As in ``GAN.sample``.
        engine: As in ``GAN.sample``.

    Raises:
        DataError: as ``GAN.sample``.
    """
    for number, start in enumerate(range(0, n, BLOCK)):
        members = np.arange(start, min(start + BLOCK, n)) % len(gans)
        parts = []
        for member, gan in enumerate(gans):
            rows = start + np.flatnonzero(members == member)
            given = {
                name: value[rows] if isinstance(value, np.ndarray) else value
                for name, value in (conditions or {}).items()
            }
            if len(rows):
                stream = child_seed(seed, "sample", member, number)
                parts.append(gan.sample(len(rows), seed=stream, engine=engine, conditions=given))
        yield in_order(parts, members)
