"""``Compare``: histograms of reference and generated events."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
from coffea.processor import ProcessorABC

from hepgan.data.io.reader import wanted_of
from hepgan.data.schema import Schema
from hepgan.errors import DataError
from hepgan.evaluation.histograms import REFERENCE, Axis, fill
from hepgan.evaluation.observables.standard import Observable, arrays
from hepgan.processors.chunk_results import ChunkId
from hepgan.processors.collection import chunk_in
from hepgan.processors.model_cache import Model, loaded, one_thread
from hepgan.processors.particles import Particles, showers_of

if TYPE_CHECKING:
    from hist import Hist


class Compare(ProcessorABC):  # type: ignore[misc]  # coffea has no types
    """The histograms of ``hepgan.compare``, filled chunk by chunk; ``hepgan.evaluation``'s metrics take them.

    With ``gan`` every dataset is reference, and each event gets a generated one of its conditions. Without, a dataset's name says
    what it is: ``{"reference": …, "generated": …}``. The Runner needs ``schema=BaseSchema``.

    Args:
        schema: What is read.
        observables: What is filled.
        axes: An axis for each, since no chunk knows the others: ``evaluate.compare.axes_for`` of some reference events.
        gan: A run folder that every worker sees, or ``carry(folder)``.
        seed: Of the generated events; needed with ``gan``.
        selection: An expression of branches; where it is false an event is left out.
        sources: Names of the datasets, where there are other generated samples than ``generated``.
        device: Of each worker.
    """

    def __init__(
        self,
        schema: Schema,
        observables: Mapping[str, Observable],
        *,
        axes: Mapping[str, Axis],
        gan: Model | None = None,
        seed: int | None = None,
        selection: str | None = None,
        sources: Sequence[str] = (REFERENCE, "generated"),
        device: str = "auto",
    ) -> None:
        if gan is not None and seed is None:
            raise DataError("generated events need a seed: Compare(…, gan=…, seed=1)")
        if missing := [name for name in observables if name not in axes]:
            raise DataError(
                f"no axis for the observable '{missing[0]}'; see evaluate.compare.axes_for"
            )
        self.schema, self.observables, self.axes = schema, dict(observables), dict(axes)
        self.gan, self.seed, self.sources, self.device = gan, seed or 0, tuple(sources), device
        self.wanted = wanted_of(schema, selection, None)

    def process(self, events: ak.Array) -> "dict[str, Hist[Any]]":
        """The chunk's histograms.

        Raises:
            HepganError: the schema does not fit the tree, or the GAN is not made for an event's conditions.
        """
        place = ChunkId.of(events)
        chunk = chunk_in(events, self.wanted, place)
        if self.gan is None:
            return self._filled(chunk.events, self._source(place))
        made = self._generated(self.gan, chunk.events, chunk.entries, place)
        found, other = self._filled(chunk.events, REFERENCE), self._filled(made, "generated")
        return {name: histogram + other[name] for name, histogram in found.items()}

    def _filled(self, events: ak.Array, source: str) -> "dict[str, Hist[Any]]":
        return fill(
            arrays(events, self.schema.all), self.observables, self.axes,
            source=source, sources=self.sources,
        )  # fmt: skip

    def _source(self, place: ChunkId) -> str:
        if place.dataset not in self.sources:
            raise DataError(
                f"the dataset '{place.dataset}' is none of {', '.join(self.sources)}; name it so, or give sources=…"
            )
        return place.dataset

    def _generated(
        self, model: Model, events: ak.Array, entries: np.ndarray[Any, Any], place: ChunkId
    ) -> ak.Array:
        """An event for each of ``events``, which were read from ``entries``."""
        gan = loaded(model, self.device)
        given = {name: ak.to_numpy(events[name]) for name in gan.encoding.scales}
        ones = np.ones(len(entries), dtype=np.int64)
        particles = Particles(given, entries, np.zeros_like(ones), ones, jagged=False)
        with one_thread():
            return showers_of(gan, particles, seed=self.seed, place=place, outside="refuse")

    def postprocess(self, accumulator: Any) -> Any:
        """As they are."""
        return accumulator
