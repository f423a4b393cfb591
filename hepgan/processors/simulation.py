"""``Simulate``: showers for the particles of events."""

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
from coffea.processor import ProcessorABC, accumulate

from hepgan.errors import DataError, RunError, did_you_mean
from hepgan.processors.chunk_results import ChunkId, merge_chunks, slice_chunk
from hepgan.processors.model_cache import (
    EmbeddedModel,
    Model,
    ModelFolder,
    load_cached,
    one_thread,
    shipped,
)
from hepgan.processors.outputs import FillHistograms, WriteFiles
from hepgan.processors.particles import (
    OutOfRange,
    Particles,
    particles_of,
    simulate_members,
    simulate_particles,
)

if TYPE_CHECKING:
    from hepgan.gan.engines import EngineName

PARTICLES_PER_CALL = 2**14
"""Particles simulated before ``output`` is called: 33 MB of cells for showers of 504."""

ConditionSource = str | Callable[[ak.Array], ak.Array]
"""A field of the events, or a function of them."""


class Simulate(ProcessorABC):  # type: ignore[misc]  # coffea has no types
    """Simulates the particles of each event with a GAN and passes the showers to ``output``.

    The same seed gives a particle the same shower, bit for bit, for every executor, chunk size, order of files and number of workers: its
    noise is a function of (seed, file, entry, particle, copy), where the UUID identifies the file.

    ::

        simulate = Simulate("runs/showers", energy="GenPart_energy", output=ReturnFields("showers"), seed=1)
        result = runner({"positrons": {"files": {"positrons.root": "Events"}}}, simulate)

    Args:
        gan: A run folder that every worker can read, or ``embed(folder)``, which is shipped with the job; or a list of them, the members of an
            ensemble, from which the showers are drawn evenly, with the field ``member``.
        output: Called with parts of a chunk to which the field ``showers`` has been added: for each particle a record of the GAN's fields
            and conditions. Returns something that adds: histograms, numbers, ``ChunkResults``. ``ReturnFields``, ``FillHistograms`` and
            ``WriteFiles`` are ready to use.
        seed: Seed of the noise.
        energy: Source of the condition ``energy``, in the GAN's unit: a field of the events (``GenPart_energy``), or a function of
            them, to convert units or select particles. Flat or jagged; the showers have the same structure.
        conditions: Sources of the GAN's other conditions, by name. Without conditions, each event gets one shower.
        out_of_range: Particles outside the range of the training are an error (``"raise"``), or get empty showers whose field ``inside`` is
            false (``"flag"``).
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``, of each worker.
        copies: Number of showers of each particle, with independent noise. With more than one, the showers of an event are a list, the
            copies of a particle one after the other, with the field ``copy``.
        engine: ``torch``, or ``onnx`` for ONNX Runtime on the CPU (extra ``onnx``), which each worker makes once.

    Raises:
        RunError: ``copies`` is not positive.
    """

    def __init__(
        self,
        gan: Model | Sequence[Model],
        *,
        output: Callable[[ak.Array], Any],
        seed: int,
        energy: ConditionSource | None = None,
        conditions: Mapping[str, ConditionSource] | None = None,
        out_of_range: OutOfRange = "raise",
        device: str = "auto",
        copies: int = 1,
        engine: "EngineName" = "torch",
    ) -> None:
        if copies < 1:
            raise RunError(f"copies = {copies} should be at least 1")
        self.copies = copies
        one = (str, os.PathLike, ModelFolder, EmbeddedModel)
        models: Sequence[Model] = [gan] if isinstance(gan, one) else gan
        self.gans, self.mixed = tuple(map(shipped, models)), not isinstance(gan, one)
        self.output, self.seed, self.out_of_range = output, seed, out_of_range
        self.device, self.engine = device, engine
        self.conditions = dict(conditions or {}) | ({} if energy is None else {"energy": energy})

    def process(self, events: ak.Array) -> Any:
        """Returns the sum of ``output`` over the parts of the chunk.

        Raises:
            HepganError: there is no GAN on this worker, a field is missing or called ``showers``, or particles are out of the GAN's range.
        """
        return accumulate(self.output(part) for part in self.simulated(events))

    def simulated(self, events: ak.Array) -> Iterator[ak.Array]:
        """Yields the chunk in parts with a bounded number of particles, with the field ``showers``."""
        chunk_id = ChunkId.of(events)
        if "showers" in events.fields and not isinstance(self.output, (FillHistograms, WriteFiles)):
            raise DataError(
                f"the events of '{chunk_id.file}' already have a field 'showers', which the simulated ones would overwrite; "
                "rename this branch, or write the simulated showers with output=WriteFiles(…)"
            )
        gans = [load_cached(gan, self.device, self.engine) for gan in self.gans]
        values = {
            name: read_condition(events, source, chunk_id)
            for name, source in self.conditions.items()
        }
        particles = particles_of(values, len(events), chunk_id).repeated(self.copies)
        for start, stop in _spans(particles):
            part = particles.part(start, stop)
            with one_thread():
                options: dict[str, Any] = {
                    "seed": self.seed, "chunk_id": chunk_id, "out_of_range": self.out_of_range, "engine": self.engine,
                }  # fmt: skip
                showers = (
                    simulate_members(gans, part, **options)
                    if self.mixed
                    else simulate_particles(gans[0], part, **options)
                )
            yield ak.with_field(slice_chunk(events, start, stop), showers, "showers")

    def postprocess(self, accumulator: Any) -> Any:
        """Returns the result with its ``ChunkResults`` concatenated."""
        return merge_chunks(accumulator)


def read_condition(events: ak.Array, source: ConditionSource, chunk_id: ChunkId) -> ak.Array:
    """Returns the values of a condition. ``GenPart_energy`` also matches the collections of coffea's schemas: ``events.GenPart.energy``.

    Raises:
        DataError: there is no such field.
    """
    if callable(source):
        return ak.Array(source(events))
    if source in events.fields:
        return events[source]
    collection, _, name = source.replace(".", "_").partition("_")
    if collection in events.fields and name in events[collection].fields:
        return events[collection][name]
    hint = did_you_mean(source, events.fields) or f"; its fields: {', '.join(events.fields[:12])}"
    raise DataError(f"no field '{source}' in '{chunk_id.file}'{hint}")


def _spans(particles: Particles) -> list[tuple[int, int]]:
    """Returns first and last event (exclusive) of parts of about ``PARTICLES_PER_CALL`` particles; one part if there are no events."""
    ends = np.cumsum(particles.counts)
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.searchsorted(ends, np.arange(PARTICLES_PER_CALL, total, PARTICLES_PER_CALL)) + 1
    edges = [0, *np.unique(cuts[cuts < len(ends)]).tolist(), len(ends)]
    return list(itertools.pairwise(edges))
