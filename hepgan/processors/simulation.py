"""``Simulate``: showers for the particles of events."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import awkward as ak
import numpy as np
from coffea.processor import ProcessorABC, accumulate

from hepgan.errors import DataError, did_you_mean
from hepgan.processors.chunk_results import ChunkId, merge_chunks, sliced
from hepgan.processors.model_cache import Model, loaded, one_thread
from hepgan.processors.outputs import FillHistograms, WriteFiles
from hepgan.processors.particles import Outside, Particles, particles_of, showers_of

PART = 2**14
"""So many particles are simulated before ``then`` is called: 33 MB of cells for showers of 504."""

Reading = str | Callable[[ak.Array], ak.Array]
"""A field of the events, or a function of them."""


class Simulate(ProcessorABC):  # type: ignore[misc]  # coffea has no types
    """Showers for each event's particles, from a GAN; what becomes of them is what ``then`` says.

    The same seed gives a particle the same shower, bit for bit, whatever the executor, the chunks, the order of files and the
    number of workers: its noise is a function of (seed, file, entry, particle), where a file is its UUID.

    ::

        simulate = Simulate("runs/showers", energy="GenPart_energy", then=Columns("showers"), seed=1)
        found = runner({"photons": {"files": {"photons.root": "Events"}}}, simulate)

    Args:
        gan: A run folder that every worker sees, or ``carry(folder)``, which travels.
        then: Is given parts of a chunk, which have got the field ``showers``: for each particle a record of the GAN's fields and
            conditions. Returns what adds: histograms, numbers, ``Pieces``. ``Columns``, ``Histograms`` and ``Parts`` are ready.
        seed: Of the noise.
        energy: Where the condition ``energy`` is, in the GAN's unit: a field of the events (``GenPart_energy``), or a function of
            them, for other units and for a choice of particles. Flat or jagged; showers are alike.
        conditions: The same for the GAN's other conditions, by name. Without any, each event gets one shower.
        outside: Particles outside the range that was trained are an error (``refuse``), or get empty showers whose field ``inside`` is
            false (``flag``).
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, of each worker.
    """

    def __init__(
        self,
        gan: Model,
        *,
        then: Callable[[ak.Array], Any],
        seed: int,
        energy: Reading | None = None,
        conditions: Mapping[str, Reading] | None = None,
        outside: Outside = "refuse",
        device: str = "auto",
    ) -> None:
        self.gan, self.then, self.seed, self.outside, self.device = gan, then, seed, outside, device
        self.conditions = dict(conditions or {}) | ({} if energy is None else {"energy": energy})

    def process(self, events: ak.Array) -> Any:
        """``then`` of the chunk, the sum over its parts.

        Raises:
            HepganError: no GAN on this worker, a field that is missing or called ``showers``, or particles that it is not made for.
        """
        return accumulate(self.then(part) for part in self.simulated(events))

    def simulated(self, events: ak.Array) -> Iterator[ak.Array]:
        """The chunk in parts of a bounded number of particles, with the field ``showers``."""
        place = ChunkId.of(events)
        if "showers" in events.fields and not isinstance(self.then, (FillHistograms, WriteFiles)):
            raise DataError(
                f"the events of '{place.file}' have a field 'showers' of their own, which the simulated ones would overwrite; "
                "rename this branch, or write the simulated ones with then=Parts(…)"
            )
        gan = loaded(self.gan, self.device)
        values = {name: read(events, how, place) for name, how in self.conditions.items()}
        particles = particles_of(values, len(events), place)
        for start, stop in _spans(particles):
            part = particles.part(start, stop)
            with one_thread():
                showers = showers_of(gan, part, seed=self.seed, place=place, outside=self.outside)
            yield ak.with_field(sliced(events, start, stop), showers, "showers")

    def postprocess(self, accumulator: Any) -> Any:
        """With ``Pieces`` put in order."""
        return merge_chunks(accumulator)


def read(events: ak.Array, how: Reading, place: ChunkId) -> ak.Array:
    """What ``how`` says of ``events``. ``GenPart_energy`` is also found where coffea's schema made collections: ``events.GenPart.energy``.

    Raises:
        DataError: there is no such field.
    """
    if callable(how):
        return ak.Array(how(events))
    if how in events.fields:
        return events[how]
    collection, _, name = how.replace(".", "_").partition("_")
    if collection in events.fields and name in events[collection].fields:
        return events[collection][name]
    near = did_you_mean(how, events.fields) or f"; there are: {', '.join(events.fields[:12])}"
    raise DataError(f"no field '{how}' in '{place.file}'{near}")


def _spans(particles: Particles) -> list[tuple[int, int]]:
    """First and last event (exclusive) of parts of about ``PART`` particles; one part where there are no events."""
    ends = np.cumsum(particles.counts)
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.searchsorted(ends, np.arange(PART, total, PART)) + 1
    edges = [0, *np.unique(cuts[cuts < len(ends)]).tolist(), len(ends)]
    return list(itertools.pairwise(edges))
