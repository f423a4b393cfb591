"""``Compare``: histograms of reference and generated events."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
from coffea.processor import ProcessorABC

from hepgan.data.io.chunks import ReadRequest
from hepgan.data.schema import Schema
from hepgan.errors import DataError
from hepgan.evaluation.histograms import REFERENCE, Axis, fill
from hepgan.evaluation.observables.standard import Observable, arrays
from hepgan.processors.chunk_results import ChunkId
from hepgan.processors.collection import read_chunk
from hepgan.processors.model_cache import Model, load_cached, one_thread, shipped
from hepgan.processors.particles import Particles, simulate_particles

if TYPE_CHECKING:
    from hist import Hist


class Compare(ProcessorABC):  # type: ignore[misc]  # coffea has no types
    """Fills the histograms of ``hepgan.compare`` chunk by chunk; the metrics of ``hepgan.evaluation`` take them.

    With ``gan``, all datasets are reference events, and an event is generated for the conditions of each. Without it, the name of a dataset
    is its source: ``{"reference": …, "generated": …}``. The Runner needs ``schema=BaseSchema``.

    Args:
        schema: Fields and conditions to read.
        observables: Observables to fill.
        axes: An axis for each observable, since the range is not known from a single chunk;
            ``hepgan.evaluation.histograms.axes_for`` chooses them from some reference events.
        gan: A run folder that every worker can read, or ``embed(folder)``.
        seed: Seed of the generated events; required with ``gan``.
        cut: Expression of branches; events for which it is false are dropped.
        sources: Names of the datasets, if not ``reference`` and ``generated``.
        device: Device of each worker.
    """

    def __init__(
        self,
        schema: Schema,
        observables: Mapping[str, Observable],
        *,
        axes: Mapping[str, Axis],
        gan: Model | None = None,
        seed: int | None = None,
        cut: str | None = None,
        sources: Sequence[str] = (REFERENCE, "generated"),
        device: str = "auto",
    ) -> None:
        if gan is not None and seed is None:
            raise DataError("generated events need a seed; write  Compare(…, gan=…, seed=1)")
        if missing := [name for name in observables if name not in axes]:
            raise DataError(
                f"no axis for the observable '{missing[0]}'; see hepgan.evaluation.histograms.axes_for"
            )
        self.schema, self.observables, self.axes = schema, dict(observables), dict(axes)
        self.gan = None if gan is None else shipped(gan)
        self.seed, self.sources, self.device = seed or 0, tuple(sources), device
        self.request = ReadRequest.parse(schema, cut=cut)

    def process(self, events: ak.Array) -> "dict[str, Hist[Any]]":
        """Returns the histograms of the chunk.

        Raises:
            HepganError: the schema does not fit the tree, or an event's conditions are outside the GAN's range.
        """
        chunk_id = ChunkId.of(events)
        chunk = read_chunk(events, self.request, chunk_id)
        if self.gan is None:
            return self._filled(chunk.events, self._source(chunk_id))
        generated = self._generated(self.gan, chunk.events, chunk.entries, chunk_id)
        filled = self._filled(chunk.events, REFERENCE)
        other = self._filled(generated, "generated")
        return {name: histogram + other[name] for name, histogram in filled.items()}

    def _filled(self, events: ak.Array, source: str) -> "dict[str, Hist[Any]]":
        return fill(
            arrays(events, self.schema.all), self.observables, self.axes,
            source=source, sources=self.sources,
        )  # fmt: skip

    def _source(self, chunk_id: ChunkId) -> str:
        if chunk_id.dataset not in self.sources:
            raise DataError(
                f"the dataset '{chunk_id.dataset}' is not one of {', '.join(self.sources)}; rename it, or pass sources=…"
            )
        return chunk_id.dataset

    def _generated(
        self, model: Model, events: ak.Array, entries: np.ndarray[Any, Any], chunk_id: ChunkId
    ) -> ak.Array:
        """Returns a generated event for each of ``events``, which were read from ``entries``."""
        gan = load_cached(model, self.device)
        conditions = {name: ak.to_numpy(events[name]) for name in gan.encoding.scales}
        ones = np.ones(len(entries), dtype=np.int64)
        particles = Particles(conditions, entries, np.zeros_like(ones), ones, jagged=False)
        with one_thread():
            return simulate_particles(
                gan, particles, seed=self.seed, chunk_id=chunk_id, out_of_range="raise"
            )

    def postprocess(self, accumulator: Any) -> Any:
        """Returns the histograms unchanged."""
        return accumulator
