"""Generation of few events per call, such as one shower for each particle of a simulation."""

import numpy as np
import torch
from torch import Tensor

from hepgan.data.encoding.encoding import Encoding
from hepgan.errors import DataError
from hepgan.gan.engines import Engine
from hepgan.gan.noise import BLOCK, normal_block


class Sampler:
    """Function that generates the next events of a seed at each call, as tensors on the GAN's device.

    The noise of the i-th event is that of the i-th event of ``GAN.sample`` with the same seed, and so are the events, within float32
    rounding. Values are not checked to be finite and not rounded to integer types, and padding is not filled.

    Args:
        engine: Engine that generates the events.
        encoding: Encoding of the events.
        latent: Shape of the noise of one event.
        batch: B, number of events of a call.
        seed: Seed.
    """

    def __init__(
        self,
        engine: Engine,
        encoding: Encoding,
        latent: tuple[int, ...],
        batch: int,
        seed: int,
    ) -> None:
        self._engine, self._encoding, self._latent = engine, encoding, latent
        self.batch, self._seed, self._next = batch, seed, 0
        self._none = torch.empty(batch, 0, device=encoding.device)
        self._block, self._noise = -1, torch.empty(0, *latent)

    @torch.no_grad()
    def __call__(self, **conditions: float) -> dict[str, Tensor]:
        """Returns the values ``[B, *shape]`` of each field, for one value of each condition, in the schema's units.

        Raises:
            DataError: a condition is missing, unknown or outside the trained range.
        """
        scales = self._encoding.scales
        if unknown := conditions.keys() - scales.keys():
            raise DataError(
                f"the GAN has no condition '{min(unknown)}' (it has: {', '.join(scales) or 'none'})"
            )
        c = self._none
        if scales:
            values = {name: np.full(self.batch, value) for name, value in conditions.items()}
            c = self._encoding.encode_conditions(values)
        return self._engine.fields(self._next_noise(), c)

    def _next_noise(self) -> Tensor:
        parts: list[Tensor] = []
        missing = self.batch
        while missing:
            block, first = divmod(self._next, BLOCK)
            if block != self._block:
                self._block = block
                self._noise = normal_block(block, BLOCK, self._latent, seed=self._seed)
            parts.append(self._noise[first : first + missing])
            self._next += len(parts[-1])
            missing -= len(parts[-1])
        return parts[0] if len(parts) == 1 else torch.cat(parts)
