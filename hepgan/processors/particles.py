"""Showers for the particles of events: every one a function of (seed, file, entry, particle), and of nothing else.

Networks see batches of one size, filled up where particles run out. A row of such a batch does not depend on the other rows, to
the last bit (a test measures it); it does depend on the batch's size, by which libraries choose the order of their sums.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import awkward as ak
import numpy as np
import numpy.typing as npt

from hepgan.data.io.files import reading
from hepgan.errors import DataError
from hepgan.processors.chunk_results import ChunkId

if TYPE_CHECKING:
    from hepgan.gan.model import GAN

Outside = Literal["refuse", "flag"]
"""What becomes of particles that the GAN is not made for."""


class Particles(NamedTuple):
    """The particles of a chunk's events, one after the other.

    Attributes:
        conditions: Each condition's values ``[P]``, as they were read.
        entries: ``[P]`` the entry of each one's event.
        numbers: ``[P]`` its number in its event.
        counts: ``[E]`` how many each event has.
        jagged: Whether events hold lists of particles; else each is one particle.
    """

    conditions: Mapping[str, npt.NDArray[Any]]
    entries: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    jagged: bool

    def part(self, start: int, stop: int) -> "Particles":
        """Those of the events from ``start`` to ``stop``."""
        ends = np.concatenate([[0], np.cumsum(self.counts)])
        rows = slice(int(ends[start]), int(ends[stop]))
        return Particles(
            {name: values[rows] for name, values in self.conditions.items()},
            self.entries[rows], self.numbers[rows], self.counts[start:stop], self.jagged,
        )  # fmt: skip


def particles_of(values: Mapping[str, ak.Array], events: int, place: ChunkId) -> Particles:
    """The particles of ``events`` events, from each condition's values ``[E]`` or ``[E, particles]``.

    Without conditions every event is one particle.

    Raises:
        DataError: values are missing, no numbers, differ in number from condition to condition, or cannot be read.
    """
    with reading(place.file):
        values = {name: ak.materialize(array) for name, array in values.items()}
    first = next(iter(values.values()), None)
    jagged = first is not None and first.ndim == 2
    found = ak.to_numpy(ak.num(first)) if jagged else np.ones(events)
    counts: npt.NDArray[np.int64] = np.asarray(found, dtype=np.int64)
    flat = {name: _flat(name, array, counts, jagged, place) for name, array in values.items()}
    entries = np.repeat(np.arange(place.start, place.start + events), counts)
    numbers = np.arange(len(entries)) - np.repeat(np.cumsum(counts) - counts, counts)
    return Particles(flat, entries, numbers, counts, jagged)


def _flat(
    name: str, array: ak.Array, counts: npt.NDArray[np.int64], jagged: bool, place: ChunkId
) -> npt.NDArray[Any]:
    if array.ndim != (2 if jagged else 1):
        raise DataError(
            f"the condition '{name}' has {array.ndim - 1} axes beside the events in '{place.file}'; give a number for "
            "each event or for each particle, all conditions alike"
        )
    if len(array) != len(counts) or (jagged and not np.array_equal(ak.num(array), counts)):
        raise DataError(
            f"the condition '{name}' has other numbers of particles than the first one in '{place.file}'"
        )
    try:
        values = ak.to_numpy(ak.flatten(array) if jagged else array, allow_missing=False)
    except ValueError as error:
        raise DataError(
            f"the condition '{name}' has missing values in '{place.file}'; fill or leave them out"
        ) from error
    if values.dtype.kind not in "fiu":
        raise DataError(f"the condition '{name}' is {values.dtype} in '{place.file}', no number")
    return np.asarray(values)


def showers_of(
    gan: "GAN", particles: Particles, *, seed: int, place: ChunkId, outside: Outside
) -> ak.Array:
    """A record for each particle: the GAN's fields and the conditions, ``[E]`` or ``[E, particles]``.

    With ``outside="flag"`` there is a field ``inside`` too; where it is false all cells are 0.

    Raises:
        DataError: a condition is missing, or outside the range that was trained and ``outside`` is ``"refuse"``, or the flag's
            name is taken.
    """
    if outside == "flag" and "inside" in gan.encoding.schema.all:
        raise DataError(
            "the GAN has a field 'inside', which is the name of the flag of particles that it is not made for; leave such "
            "particles out, without outside='flag'"
        )
    inside = _inside(gan, particles, place, refuse=outside == "refuse")
    found = ak.concatenate(list(_blocks(gan, particles, inside, seed, place)))
    for name, values in particles.conditions.items():
        found[name] = values
    if outside == "flag":
        for name in gan.encoding.schema.fields:
            cells = ak.to_numpy(found[name])
            keep = inside.reshape(-1, *[1] * (cells.ndim - 1))
            found[name] = ak.from_numpy(np.where(keep, cells, 0).astype(cells.dtype))
        found["inside"] = inside
    return ak.unflatten(found, particles.counts) if particles.jagged else found


def _inside(
    gan: "GAN", particles: Particles, place: ChunkId, *, refuse: bool
) -> npt.NDArray[np.bool_]:
    """``[P]`` whether the GAN is made for each particle."""
    import torch

    scales = gan.encoding.scales
    if set(scales) != set(particles.conditions):
        asked, given = ", ".join(scales) or "none", ", ".join(particles.conditions) or "none"
        raise DataError(f"the GAN has the conditions {asked}, but is given {given}")
    inside = np.ones(len(particles.entries), dtype=bool)
    for name, scale in scales.items():
        values = particles.conditions[name]
        allowed = scale.allows(torch.from_numpy(values.astype(np.float64))).numpy()
        if refuse and not allowed.all():
            at = int(np.flatnonzero(~allowed)[0])
            low, high = scale.range
            raise DataError(
                f"{name} = {values[at]:g} of particle {particles.numbers[at]} in entry {particles.entries[at]} of "
                f"'{place.file}' lies outside of {low:g} to {high:g}, the range that this GAN is made for; leave "
                "such particles out, or mark them with outside='flag'"
            )
        inside &= allowed
    return inside


def _blocks(
    gan: "GAN", particles: Particles, inside: npt.NDArray[np.bool_], seed: int, place: ChunkId
) -> Any:
    """The particles' records, a batch at a time; at least one batch, whose types an empty result has too."""
    import torch

    from hepgan.gan.noise import BLOCK, keyed_normals

    lowest = {name: scale.range[0] for name, scale in gan.encoding.scales.items()}
    for start in range(0, max(1, len(inside)), BLOCK):
        rows = slice(start, start + BLOCK)
        count = len(inside[rows])
        noise = torch.zeros(BLOCK, *gan.latent)
        noise[:count] = keyed_normals(
            particles.entries[rows], particles.numbers[rows], gan.latent,
            seed=seed, file=place.uuid, tree=place.tree,
        )  # fmt: skip
        asked = {}
        for name, values in particles.conditions.items():
            asked[name] = np.full(BLOCK, lowest[name], dtype=np.float64)
            asked[name][:count] = np.where(inside[rows], values[rows], lowest[name])
        none = torch.empty(BLOCK, 0, device=gan.device)
        c = gan.encoding.encode_conditions(asked) if asked else none
        with torch.no_grad():
            x = gan.generate(noise.to(gan.device), c)
        yield gan.encoding.decode(x, c)[:count]
