"""``GeneratorWrapper``: showers inside a processor of your own, by the contract of ``coffea.ml_tools``."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
import numpy.typing as npt
from coffea.ml_tools.helper import nonserializable_attribute, numpy_call_wrapper

from hepgan.processors.chunk_results import ChunkId
from hepgan.processors.model_cache import Model, loaded, one_thread
from hepgan.processors.particles import Outside, Particles, particles_of, showers_of

if TYPE_CHECKING:
    from hepgan.gan.model import GAN


class GeneratorWrapper(nonserializable_attribute, numpy_call_wrapper):  # type: ignore[misc]  # coffea has no types
    """A trained GAN that is called with the events of a chunk and their particles' conditions.

    Three lines in a processor::

        self.generator = GeneratorWrapper("runs/showers", seed=1)              # __init__
        showers = self.generator(events, energy=events.GenPart_energy)        # process, before events are selected
        events["E_1"] = ak.sum(ak.sum(showers.layer_1, axis=-1), axis=-1)

    The showers are those of ``Simulate`` with the same seed.

    Args:
        gan: A run folder that every worker sees, or ``carry(folder)``.
        seed: Of the noise.
        outside: As in ``Simulate``.
        device: Of each worker.
    """

    def __init__(
        self, gan: Model, *, seed: int, outside: Outside = "refuse", device: str = "auto"
    ) -> None:
        nonserializable_attribute.__init__(self, ["model"])
        self.gan, self.seed, self.outside, self.device = gan, seed, outside, device

    def _create_model(self) -> "GAN":
        return loaded(self.gan, self.device)

    def prepare_awkward(
        self, events: ak.Array, **conditions: ak.Array
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Each particle's conditions, entry and number in its event, ``[P]``; the place of the chunk."""
        place = ChunkId.of(events)
        particles = particles_of(conditions, len(events), place)
        given: dict[str, Any] = dict(particles.conditions)
        return (tuple(place), particles.entries, particles.numbers), given

    def validate_numpy_input(self, *args: Any, **conditions: Any) -> None:
        """Nothing to do: ``numpy_call`` itself says which conditions it misses."""

    def numpy_call(
        self,
        place: tuple[Any, ...],
        entries: npt.NDArray[np.int64],
        numbers: npt.NDArray[np.int64],
        **conditions: npt.NDArray[Any],
    ) -> Mapping[str, npt.NDArray[Any]]:
        """Each field of the showers, ``[P, …]``.

        Raises:
            HepganError: as ``Simulate.process``.
        """
        ones = np.ones(len(entries), dtype=np.int64)
        particles = Particles(conditions, entries, numbers, ones, jagged=False)
        with one_thread():
            found = showers_of(
                self.model, particles, seed=self.seed, place=ChunkId(*place), outside=self.outside
            )
        return {name: ak.to_numpy(found[name]) for name in found.fields}

    def postprocess_awkward(
        self, return_array: Mapping[str, ak.Array], events: ak.Array, **conditions: ak.Array
    ) -> ak.Array:
        """A record for each particle, jagged as the conditions are."""
        record = ak.zip(dict(return_array), depth_limit=1)
        first = next(iter(conditions.values()), None)
        return record if first is None or first.ndim == 1 else ak.unflatten(record, ak.num(first))
