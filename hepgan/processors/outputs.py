"""What can become of simulated or collected events: brought back, filled into histograms, or written where they were made."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import awkward as ak
import numpy as np

from hepgan.atomic import os_errors_as_run_error, whole
from hepgan.data.io.branches import require
from hepgan.data.io.files import base_name, reading
from hepgan.data.io.reader import write
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError
from hepgan.processors.chunk_results import ChunkId, ChunkResults

if TYPE_CHECKING:
    from hist import Hist

    from hepgan.evaluation.histograms import Axis
    from hepgan.evaluation.observables.standard import Observable

PARTICLE = {"entry": Field(dtype="int64"), "particle": Field(dtype="int32")}
"""What a written shower says of its particle, beside the GAN's fields: the event's entry, and its number in the event."""

INSIDE = {"inside": Field(dtype="bool")}
"""Whether the GAN is made for the particle, where the others are flagged."""


class ReturnFields:
    """Brings fields of the events back, in an order that is always the same."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def __call__(self, events: ak.Array) -> ChunkResults:
        """The fields of one part.

        Raises:
            DataError: a field is missing or cannot be read.
        """
        place = ChunkId.of(events)
        require(self.names, dict.fromkeys(events.fields), place.file, "ReturnFields")
        with reading(place.file):
            columns = {name: plain(events[name]) for name in self.names}
        return ChunkResults([(place, ak.zip(columns, depth_limit=1))])


@dataclasses.dataclass(frozen=True)
class FillHistograms:
    """Fills histograms of showers, as ``hepgan.compare`` does, with ``source="generated"``.

    Attributes:
        observables: What is filled; ``hepgan.observables_for`` has those of a schema.
        axes: An axis for each: ``evaluate.compare.axes_for`` of some reference events.
        schema: The GAN's.
    """

    observables: Mapping[str, "Observable"]
    axes: Mapping[str, "Axis"]
    schema: Schema

    def __call__(self, events: ak.Array) -> "dict[str, Hist[Any]]":
        """Those of one part."""
        from hepgan.evaluation.histograms import fill
        from hepgan.evaluation.observables.standard import arrays

        showers = arrays(rows_of(events.showers), self.schema.all)
        return fill(showers, self.observables, self.axes, source="generated")


@dataclasses.dataclass(frozen=True)
class WriteFiles:
    """Writes events, or the showers in them, to files on the worker. Returns how many there are, by path.

    A part's name says which entries it holds and it appears when it is complete: a chunk that is done twice, because a worker died,
    leaves the same file, and no other.

    Attributes:
        folder: Where, as the workers see it.
        schema: What is written.
        tree: The tree's name.
        showers: Whether the field ``showers`` is written, an entry for each particle, with ``entry``, ``particle`` and, where
            particles are flagged, ``inside``.
        form: ``root`` or ``parquet``.
    """

    folder: str
    schema: Schema
    tree: str
    showers: bool = False
    form: Literal["root", "parquet"] = "root"

    def __call__(self, events: ak.Array) -> dict[str, int]:
        """Writes one part."""
        place = ChunkId.of(events)
        rows = with_places(events, place) if self.showers else events
        flagged = "inside" in rows.fields and "inside" not in self.schema.all
        schema = particle_schema(self.schema, flagged=flagged) if self.showers else self.schema
        return self.write(rows, schema, place)

    def write(self, rows: ak.Array, schema: Schema, place: ChunkId) -> dict[str, int]:
        """Writes ``rows`` as the part that starts at ``place``; nothing where there are none."""
        if len(rows) == 0:
            return {}
        path = Path(self.folder) / f"{part_name(place)}.{self.form}"
        with os_errors_as_run_error(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        if self.form == "root":
            write(path, rows, schema, tree=self.tree, overwrite=True)
        else:
            with whole(path) as part:
                ak.to_parquet(ak.zip({n: rows[n] for n in schema.all}, depth_limit=1), part)
        return {str(path): len(rows)}


def part_name(place: ChunkId) -> str:
    """A file's name for the part that starts at ``place``; names sort as the entries of a file do."""
    which = "\0".join(place[:3]).encode()
    stem = base_name(place.file).removesuffix(".root")[:100]
    return f"{stem}-{hashlib.blake2b(which, digest_size=16).hexdigest()}-{place.start:012d}"


def particle_schema(schema: Schema, *, flagged: bool) -> Schema:
    """Returns the schema of written showers: with their places, and with ``inside`` where particles are ``flagged``.

    Raises:
        DataError: the GAN has a field or condition of such a name.
    """
    return beside(schema, PARTICLE | (INSIDE if flagged else {}))


def beside(schema: Schema, more: Mapping[str, Field]) -> Schema:
    """Returns ``schema`` with ``more`` fields.

    Raises:
        DataError: it has one of their name.
    """
    if twice := set(schema.all) & set(more):
        raise DataError(
            f"the GAN has a field '{min(twice)}', which is the name of what is written beside its showers; train it on a "
            "schema with another name for this field"
        )
    return Schema({**schema.fields, **more}, schema.conditions)


def with_places(events: ak.Array, place: ChunkId) -> ak.Array:
    """``events.showers``, one after the other, with their ``entry`` and ``particle``."""
    showers = events.showers
    rows = rows_of(showers)
    entries = np.arange(place.start, place.start + len(events))
    if showers.ndim == 1:
        rows["entry"], rows["particle"] = entries, np.zeros(len(entries), dtype=np.int32)
        return rows
    counts = ak.to_numpy(ak.num(showers))
    rows["entry"] = np.repeat(entries, counts)
    rows["particle"] = ak.to_numpy(ak.flatten(ak.local_index(showers, axis=1))).astype(np.int32)
    return rows


def rows_of(showers: ak.Array) -> ak.Array:
    """A record a particle, without events."""
    return plain(showers if showers.ndim == 1 else ak.flatten(showers))


def plain(array: ak.Array) -> ak.Array:
    """``array`` without what coffea adds to it: behaviours, notes, and reading only when it is looked at, by when the file is closed."""
    return ak.Array(ak.without_parameters(ak.materialize(array)).layout)
