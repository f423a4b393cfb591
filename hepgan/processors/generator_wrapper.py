"""``GeneratorWrapper``: showers inside your own processor, following the contract of ``coffea.ml_tools``."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
import numpy.typing as npt
from coffea.ml_tools.helper import nonserializable_attribute, numpy_call_wrapper

from hepgan.processors.chunk_results import ChunkId
from hepgan.processors.model_cache import Model, load_cached, one_thread, shipped
from hepgan.processors.particles import OutOfRange, Particles, particles_of, simulate_particles

if TYPE_CHECKING:
    from hepgan.gan.engines import EngineName
    from hepgan.gan.model import GAN


class GeneratorWrapper(nonserializable_attribute, numpy_call_wrapper):  # type: ignore[misc]  # coffea has no types
    """A trained GAN that is called with the events of a chunk and the conditions of their particles.

    Three lines in a processor::

        self.generator = GeneratorWrapper("runs/showers", seed=1)              # __init__
        showers = self.generator(events, energy=events.GenPart_energy)        # process, before events are selected
        events["E_1"] = ak.sum(ak.sum(showers.layer_1, axis=-1), axis=-1)

    The showers are the same as those of ``Simulate`` with the same seed.

    Args:
        gan: A run folder that every worker can read, or ``embed(folder)``.
        seed: Seed of the noise.
        out_of_range: As in ``Simulate``.
        device: Device of each worker.
        engine: As in ``Simulate``.
    """

    def __init__(
        self,
        gan: Model,
        *,
        seed: int,
        out_of_range: OutOfRange = "raise",
        device: str = "auto",
        engine: "EngineName" = "torch",
    ) -> None:
        nonserializable_attribute.__init__(self, ["model"])
        self.gan, self.seed = shipped(gan), seed
        self.out_of_range, self.device, self.engine = out_of_range, device, engine

    def _create_model(self) -> "GAN":
        return load_cached(self.gan, self.device, self.engine)

    def prepare_awkward(
        self, events: ak.Array, **conditions: ak.Array
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Returns the identity of the chunk, and each particle's entry, number in its event and conditions, ``[P]``."""
        chunk_id = ChunkId.of(events)
        particles = particles_of(conditions, len(events), chunk_id)
        keywords: dict[str, Any] = dict(particles.conditions)
        return (tuple(chunk_id), particles.entries, particles.numbers), keywords

    def validate_numpy_input(self, *args: Any, **conditions: Any) -> None:
        """Does nothing: ``numpy_call`` reports missing conditions."""

    def numpy_call(
        self,
        chunk_id: tuple[Any, ...],
        entries: npt.NDArray[np.int64],
        numbers: npt.NDArray[np.int64],
        **conditions: npt.NDArray[Any],
    ) -> Mapping[str, npt.NDArray[Any]]:
        """Returns each field of the showers, ``[P, …]``.

        Raises:
            HepganError: as ``Simulate.process``.
        """
        ones = np.ones(len(entries), dtype=np.int64)
        particles = Particles(conditions, entries, numbers, ones, jagged=False)
        with one_thread():
            showers = simulate_particles(
                self.model,
                particles,
                seed=self.seed,
                chunk_id=ChunkId(*chunk_id),
                out_of_range=self.out_of_range,
                engine=self.engine,
            )
        return {name: ak.to_numpy(showers[name]) for name in showers.fields}

    def postprocess_awkward(
        self, return_array: Mapping[str, ak.Array], events: ak.Array, **conditions: ak.Array
    ) -> ak.Array:
        """Returns a record for each particle, jagged as the conditions are."""
        record = ak.zip(dict(return_array), depth_limit=1)
        first = next(iter(conditions.values()), None)
        return record if first is None or first.ndim == 1 else ak.unflatten(record, ak.num(first))
