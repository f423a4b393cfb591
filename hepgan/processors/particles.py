"""Simulation of the particles of events; every shower is a function of (seed, file, entry, particle, copy) only.

Networks run on batches of a fixed size, padded at the end. A row of such a batch does not depend on the other rows, to the
last bit (tested); it does depend on the batch size, by which libraries choose the order of their sums.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import awkward as ak
import numpy as np
import numpy.typing as npt

from hepgan.data.io.files import data_errors
from hepgan.errors import DataError
from hepgan.gan.members import in_order
from hepgan.processors.chunk_results import ChunkId

if TYPE_CHECKING:
    from hepgan.gan.engines import EngineName
    from hepgan.gan.model import GAN

OutOfRange = Literal["raise", "flag"]
"""Treatment of particles outside the GAN's range."""


class Particles(NamedTuple):
    """The particles of a chunk's events, flattened.

    Attributes:
        conditions: Values of each condition ``[P]``, as read.
        entries: ``[P]`` entry of each particle's event.
        numbers: ``[P]`` number of each particle in its event.
        counts: ``[E]`` particles of each event.
        jagged: Whether events hold lists of particles; otherwise each event is one particle.
        copies: ``[P]`` number of each copy of a particle; ``None`` if there is one of each.
    """

    conditions: Mapping[str, npt.NDArray[Any]]
    entries: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    jagged: bool
    copies: npt.NDArray[np.int64] | None = None

    def repeated(self, copies: int) -> "Particles":
        """Returns ``copies`` of each particle, one after the other; with several, events hold lists."""
        if copies == 1:
            return self
        return Particles(
            {name: np.repeat(values, copies) for name, values in self.conditions.items()},
            np.repeat(self.entries, copies), np.repeat(self.numbers, copies), self.counts * copies, True,
            np.tile(np.arange(copies), len(self.entries)),
        )  # fmt: skip

    def selected(self, rows: npt.NDArray[np.bool_]) -> "Particles":
        """Returns the particles of ``rows[P]``, each an event of its own."""
        return Particles(
            {name: values[rows] for name, values in self.conditions.items()},
            self.entries[rows], self.numbers[rows], np.ones(int(rows.sum()), dtype=np.int64), False,
            None if self.copies is None else self.copies[rows],
        )  # fmt: skip

    def part(self, start: int, stop: int) -> "Particles":
        """Returns the particles of the events from ``start`` to ``stop``."""
        ends = np.concatenate([[0], np.cumsum(self.counts)])
        rows = slice(int(ends[start]), int(ends[stop]))
        return Particles(
            {name: values[rows] for name, values in self.conditions.items()},
            self.entries[rows], self.numbers[rows], self.counts[start:stop], self.jagged,
            None if self.copies is None else self.copies[rows],
        )  # fmt: skip


def particles_of(values: Mapping[str, ak.Array], events: int, chunk_id: ChunkId) -> Particles:
    """Returns the particles of ``events`` events from the values of each condition, ``[E]`` or ``[E, particles]``.

    Without conditions every event is one particle.

    Raises:
        DataError: values are missing, not numeric, unreadable, or differ in number between conditions.
    """
    with data_errors(chunk_id.file):
        values = {name: ak.materialize(array) for name, array in values.items()}
    first = next(iter(values.values()), None)
    jagged = first is not None and first.ndim == 2
    per_event = ak.to_numpy(ak.num(first)) if jagged else np.ones(events)
    counts: npt.NDArray[np.int64] = np.asarray(per_event, dtype=np.int64)
    flat = {name: _flat(name, array, counts, jagged, chunk_id) for name, array in values.items()}
    entries = np.repeat(np.arange(chunk_id.start, chunk_id.start + events), counts)
    numbers = np.arange(len(entries)) - np.repeat(np.cumsum(counts) - counts, counts)
    return Particles(flat, entries, numbers, counts, jagged)


def _flat(
    name: str, array: ak.Array, counts: npt.NDArray[np.int64], jagged: bool, chunk_id: ChunkId
) -> npt.NDArray[Any]:
    if array.ndim != (2 if jagged else 1):
        raise DataError(
            f"the condition '{name}' has {array.ndim - 1} axes besides that of the events in '{chunk_id.file}'; pass one number "
            "per event or one per particle, the same for all conditions"
        )
    if len(array) != len(counts) or (jagged and not np.array_equal(ak.num(array), counts)):
        raise DataError(
            f"the condition '{name}' differs from the first one in its numbers of particles in '{chunk_id.file}'"
        )
    try:
        values = ak.to_numpy(ak.flatten(array) if jagged else array, allow_missing=False)
    except ValueError as error:
        raise DataError(
            f"the condition '{name}' has missing values in '{chunk_id.file}'; fill or drop them"
        ) from error
    if values.dtype.kind not in "fiu":
        raise DataError(
            f"the condition '{name}' is of type {values.dtype} in '{chunk_id.file}', not a number"
        )
    return np.asarray(values)


def simulate_particles(
    gan: "GAN",
    particles: Particles,
    *,
    seed: int,
    chunk_id: ChunkId,
    out_of_range: OutOfRange,
    engine: "EngineName" = "torch",
) -> ak.Array:
    """Returns a record for each particle, with the GAN's fields and the conditions, ``[E]`` or ``[E, particles]``.

    Copies of particles have a field ``copy``. With ``out_of_range="flag"`` there is also a field ``inside``; where it is false all cells are 0.

    Raises:
        DataError: a condition is missing, the name of the flag is taken, or a condition is out of range and ``out_of_range`` is
            ``"raise"``.
    """
    if out_of_range == "flag" and "inside" in gan.encoding.schema.all:
        raise DataError(
            "the GAN has a field 'inside', which is also the name of the flag for particles out of range; drop such "
            "particles instead of passing out_of_range='flag'"
        )
    if particles.copies is not None and "copy" in gan.encoding.schema.all:
        raise DataError(
            "the GAN has a field 'copy', which is also the name of the number of a copy; simulate each particle once, or train it on a"
            " schema with another name for this field"
        )
    inside = _inside(gan, particles, chunk_id, check=out_of_range == "raise")
    showers = ak.concatenate(list(_blocks(gan, particles, inside, seed, chunk_id, engine)))
    for name, values in particles.conditions.items():
        showers[name] = values
    if particles.copies is not None:
        showers["copy"] = particles.copies.astype(np.int32)
    if out_of_range == "flag":
        for name in gan.encoding.schema.fields:
            cells = ak.to_numpy(showers[name])
            keep = inside.reshape(-1, *[1] * (cells.ndim - 1))
            showers[name] = ak.from_numpy(np.where(keep, cells, 0).astype(cells.dtype))
        showers["inside"] = inside
    return ak.unflatten(showers, particles.counts) if particles.jagged else showers


def simulate_members(
    gans: "Sequence[GAN]",
    particles: Particles,
    *,
    seed: int,
    chunk_id: ChunkId,
    out_of_range: OutOfRange,
    engine: "EngineName" = "torch",
) -> ak.Array:
    """Returns the records of ``simulate_particles``, drawn evenly from the members of an ensemble, with their number as the field ``member``.

    The sum of entry, number and copy of a particle, modulo the number of members, is its member.

    Raises:
        DataError: as ``simulate_particles``.
    """
    copies = 0 if particles.copies is None else particles.copies
    members = (particles.entries + particles.numbers + copies) % len(gans)
    parts = [
        simulate_particles(
            gan, particles.selected(members == number),
            seed=seed, chunk_id=chunk_id, out_of_range=out_of_range, engine=engine,
        )
        for number, gan in enumerate(gans)
    ]  # fmt: skip
    showers = in_order(parts, members)
    return ak.unflatten(showers, particles.counts) if particles.jagged else showers


def _inside(
    gan: "GAN", particles: Particles, chunk_id: ChunkId, *, check: bool
) -> npt.NDArray[np.bool_]:
    """Returns whether each particle is in the GAN's range, ``[P]``."""
    import torch

    scales = gan.encoding.scales
    if set(scales) != set(particles.conditions):
        expected, received = ", ".join(scales) or "none", ", ".join(particles.conditions) or "none"
        raise DataError(f"the GAN has the conditions {expected}, but was called with {received}")
    inside = np.ones(len(particles.entries), dtype=bool)
    for name, scale in scales.items():
        values = particles.conditions[name]
        allowed = scale.allows(torch.from_numpy(values.astype(np.float64))).numpy()
        if check and not allowed.all():
            at = int(np.flatnonzero(~allowed)[0])
            raise DataError(
                f"{name} = {values[at]:g} of particle {particles.numbers[at]} in entry {particles.entries[at]} of "
                f"'{chunk_id.file}' is outside the range of this GAN, {scale}; drop such particles, or flag them with"
                " out_of_range='flag'"
            )
        inside &= allowed
    return inside


def _blocks(
    gan: "GAN",
    particles: Particles,
    inside: npt.NDArray[np.bool_],
    seed: int,
    chunk_id: ChunkId,
    engine: "EngineName",
) -> Any:
    """Yields the particles' records batch by batch; at least one, so that an empty result has the right types."""
    import torch

    from hepgan.gan.engines import engine_of
    from hepgan.gan.noise import BLOCK, keyed_normals
    from hepgan.threads import on_threads

    running = engine_of(gan, engine)
    lowest = {name: scale.range[0] for name, scale in gan.encoding.scales.items()}

    def block(start: int) -> ak.Array:
        rows = slice(start, start + BLOCK)
        count = len(inside[rows])
        noise = torch.zeros(BLOCK, *gan.latent)
        noise[:count] = keyed_normals(
            particles.entries[rows], particles.numbers[rows], gan.latent,
            seed=seed, file=chunk_id.uuid, tree=chunk_id.tree,
            copies=None if particles.copies is None else particles.copies[rows],
        )  # fmt: skip
        conditions = {}
        for name, values in particles.conditions.items():
            conditions[name] = np.full(BLOCK, lowest[name], dtype=np.float64)
            conditions[name][:count] = np.where(inside[rows], values[rows], lowest[name])
        none = torch.empty(BLOCK, 0, device=gan.device)
        c = gan.encoding.encode_conditions(conditions) if conditions else none
        return gan.encoding.events(running.parts(noise, c), c)[:count]

    starts = range(0, max(1, len(inside)), BLOCK)
    yield from on_threads(block, starts) if running.one_thread else map(block, starts)
