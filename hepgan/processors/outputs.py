"""Outputs for simulated or collected events: returned fields, filled histograms, or files written on the worker."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import awkward as ak
import numpy as np

from hepgan.atomic import os_errors_as_run_error, replace_on_success
from hepgan.data.io.branches import require_branches
from hepgan.data.io.files import base_name, data_errors
from hepgan.data.io.writer import write
from hepgan.data.schema import Field, Schema
from hepgan.errors import DataError
from hepgan.gan.members import MEMBER, with_member
from hepgan.processors.chunk_results import ChunkId, ChunkResults

if TYPE_CHECKING:
    from hist import Hist

    from hepgan.evaluation.histograms import Axis
    from hepgan.evaluation.observables.standard import Observable

PARTICLE = {"entry": Field(dtype="int64"), "particle": Field(dtype="int32")}
"""Columns of a written shower that identify its particle: the entry of the event, and the number in the event."""

INSIDE = {"inside": Field(dtype="bool")}
"""Field that is true for particles within the range of the GAN, if those out of range are flagged."""


COPY = {"copy": Field(dtype="int32")}
"""Number of the copy, where each particle has several showers."""


class ReturnFields:
    """Returns fields of the events, in an order that does not depend on the executor."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def __call__(self, events: ak.Array) -> ChunkResults:
        """Returns the fields of one part of a chunk.

        Raises:
            DataError: a field is missing or cannot be read.
        """
        chunk_id = ChunkId.of(events)
        require_branches(self.names, dict.fromkeys(events.fields), chunk_id.file, "ReturnFields")
        with data_errors(chunk_id.file):
            columns = {name: materialized(events[name]) for name in self.names}
        return ChunkResults([(chunk_id, ak.zip(columns, depth_limit=1))])


@dataclasses.dataclass(frozen=True)
class FillHistograms:
    """Fills histograms of showers as ``hepgan.compare`` does, with ``source="generated"``.

    Attributes:
        observables: Observables to fill; ``hepgan.observables_for`` returns those of a schema.
        axes: An axis for each; ``hepgan.evaluation.histograms.axes_for`` chooses them from some reference events.
        schema: Schema of the GAN.
    """

    observables: Mapping[str, "Observable"]
    axes: Mapping[str, "Axis"]
    schema: Schema

    def __call__(self, events: ak.Array) -> "dict[str, Hist[Any]]":
        """Returns the histograms of one part of a chunk."""
        from hepgan.evaluation.histograms import fill
        from hepgan.evaluation.observables.standard import arrays

        showers = arrays(flatten_showers(events.showers), self.schema.all)
        return fill(showers, self.observables, self.axes, source="generated")


@dataclasses.dataclass(frozen=True)
class WriteFiles:
    """Writes events, or their showers, to files on the worker. Returns the number of entries of each path.

    A file is named after its entries and appears once it is complete: a chunk that is repeated, because a worker died, leaves the same
    file and no other.

    Attributes:
        folder: Folder, as the workers see it.
        schema: Fields and conditions to write.
        tree: Name of the tree.
        showers: Whether to write the field ``showers``, one entry per particle, with ``entry``, ``particle``, of several copies
            ``copy``, of several members ``member``, and, if particles are flagged, ``inside``.
        format: ``root`` or ``parquet``.
    """

    folder: str
    schema: Schema
    tree: str
    showers: bool = False
    format: Literal["root", "parquet"] = "root"

    def __call__(self, events: ak.Array) -> dict[str, int]:
        """Writes one part of a chunk."""
        chunk_id = ChunkId.of(events)
        if not self.showers:
            return self.write(events, self.schema, chunk_id)
        known, made = self.schema.all, events.showers.fields
        flagged, copied, mixed = (
            name in made and name not in known for name in ("inside", "copy", MEMBER)
        )
        rows = with_particle_ids(events, chunk_id, copied=copied)
        schema = particle_schema(self.schema, flagged=flagged, copied=copied, mixed=mixed)
        return self.write(rows, schema, chunk_id)

    def write(self, rows: ak.Array, schema: Schema, chunk_id: ChunkId) -> dict[str, int]:
        """Writes ``rows`` as the part that starts at ``chunk_id``; without rows no file is written."""
        if len(rows) == 0:
            return {}
        path = Path(self.folder) / f"{part_name(chunk_id)}.{self.format}"
        with os_errors_as_run_error(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        if self.format == "root":
            write(path, rows, schema, tree=self.tree, overwrite=True)
        else:
            with replace_on_success(path) as part:
                ak.to_parquet(ak.zip({n: rows[n] for n in schema.all}, depth_limit=1), part)
        return {str(path): len(rows)}


def part_name(chunk_id: ChunkId) -> str:
    """Returns the file name of the part that starts at ``chunk_id``; names sort like the entries of a file."""
    identity = "\0".join(chunk_id[:3]).encode()
    stem = base_name(chunk_id.file).removesuffix(".root")[:100]
    return f"{stem}-{hashlib.blake2b(identity, digest_size=16).hexdigest()}-{chunk_id.start:012d}"


def particle_schema(
    schema: Schema, *, flagged: bool, copied: bool = False, mixed: bool = False
) -> Schema:
    """Returns the schema of written showers: with particle identifiers, ``copy`` if particles are ``copied``, ``member`` if those of several members are ``mixed``, and ``inside`` if ``flagged``.

    Raises:
        DataError: the GAN has a field or condition of the same name.
    """
    schema = with_member(schema) if mixed else schema
    return add_fields(schema, PARTICLE | (COPY if copied else {}) | (INSIDE if flagged else {}))


def add_fields(schema: Schema, extra: Mapping[str, Field]) -> Schema:
    """Returns ``schema`` with further fields.

    Raises:
        DataError: it already has a field of that name.
    """
    if duplicates := set(schema.all) & set(extra):
        raise DataError(
            f"the GAN has a field '{min(duplicates)}', a name that is reserved for a column written with its showers; train it on a "
            "schema with another name for this field"
        )
    return Schema({**schema.fields, **extra}, schema.conditions, schema.incident)


def with_particle_ids(events: ak.Array, chunk_id: ChunkId, *, copied: bool = False) -> ak.Array:
    """Returns the flattened ``events.showers`` with ``entry`` and ``particle``; copies of a particle, if ``copied``, are adjacent."""
    showers = events.showers
    rows = flatten_showers(showers)
    entries = np.arange(chunk_id.start, chunk_id.start + len(events))
    if showers.ndim == 1:
        rows["entry"], rows["particle"] = entries, np.zeros(len(entries), dtype=np.int32)
        return rows
    counts = ak.to_numpy(ak.num(showers))
    rows["entry"] = np.repeat(entries, counts)
    numbers = ak.to_numpy(ak.flatten(ak.local_index(showers, axis=1))).astype(np.int32)
    copies = 1 + int(ak.max(rows["copy"])) if copied and len(rows) else 1
    rows["particle"] = numbers // copies
    return rows


def flatten_showers(showers: ak.Array) -> ak.Array:
    """Returns one record per particle, without the event axis."""
    return materialized(showers if showers.ndim == 1 else ak.flatten(showers))


def materialized(array: ak.Array) -> ak.Array:
    """Returns a copy of ``array`` in memory without coffea's behaviors and metadata; a lazy read may come after the file is closed."""
    return ak.Array(ak.without_parameters(ak.materialize(array)).layout)
