"""The adversarial pair: a generator, a discriminator, and the encoding between them and events."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import awkward as ak
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hepgan.data.encoding.encoding import Encoding
from hepgan.gan.conditions import Condition, Conditions
from hepgan.gan.networks import GANSettings, build_networks, stage_shapes
from hepgan.gan.noise import normal_blocks
from hepgan.random_streams import check_seed


@dataclasses.dataclass(frozen=True)
class KeptStep:
    """Training step of the generator that was kept.

    Attributes:
        step: Its step; 0 is the untrained generator.
        steps: Steps that were trained in all.
        score: Its validation score, the smaller the better; ``None`` without validation.
    """

    step: int
    steps: int
    score: float | None = None

    @property
    def untrained(self) -> bool:
        """Whether training never beat the generator that it began with."""
        return self.step == 0 and self.steps > 0

    def __str__(self) -> str:
        """In a sentence."""
        if self.untrained:
            return (
                f"no step of the training beat the untrained generator (validation score {self.score:.4g}),"
                f" so step 0 of {self.steps:,} was kept; train longer, or with other settings"
            )
        if self.score is None:
            return f"kept the generator of the last step, {self.step:,}, without validation"
        return (
            f"kept the generator of step {self.step:,} of {self.steps:,}, which has the best"
            f" validation score ({self.score:.4g})"
        )


@dataclasses.dataclass(frozen=True)
class GAN:
    """Generator, discriminator and encoding. ``sample`` makes events.

    Attributes:
        settings: Layouts and sizes.
        encoding: Between events and ``x[B, F]``, ``c[B, C]``.
        generator: ``noise[B, *latent], c`` -> ``x``.
        discriminator: ``x`` and what else it is shown, ``c`` -> logits. Untrained in a GAN that comes from a file.
        seen: How many numbers of an event the discriminator is shown.
        kept: Which step of the training the generator comes from; ``None`` where it is not known.
    """

    settings: GANSettings
    encoding: Encoding
    generator: nn.Module
    discriminator: nn.Module
    seen: int
    kept: KeptStep | None = None

    @classmethod
    def build(
        cls,
        settings: GANSettings,
        encoding: Encoding,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        seen: int = 0,
    ) -> "GAN":
        """Untrained networks from ``seed``.

        ``seen`` is how many numbers of an event the discriminator is shown (``View.size``); F where it is 0.

        Raises:
            LayoutError: a layout that does not parse, or whose shapes do not fit the events.
            RunError: an input shape of another size than the event.
        """
        seen = seen or encoding.features
        networks = build_networks(settings, encoding, seen, seed=seed)
        placed = {name: network.to(device) for name, network in networks.items()}
        return cls(
            settings, encoding.to(device), placed["generator"], placed["discriminator"], seen
        )

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.encoding.device

    def to(self, device: torch.device | str) -> "GAN":
        """Returns the same GAN on ``device``; its networks, unlike its encoding, are moved."""
        return dataclasses.replace(
            self,
            encoding=self.encoding.to(device),
            generator=self.generator.to(device),
            discriminator=self.discriminator.to(device),
        )

    @property
    def latent(self) -> tuple[int, ...]:
        """The shape of one event's noise."""
        return stage_shapes(self.settings, self.encoding).latent

    def generate(self, noise: Tensor, c: Tensor) -> Tensor:
        """``x[B, F]`` of ``noise[B, *latent]`` and ``c[B, C]``."""
        x: Tensor = self.generator(noise, c)
        return x.flatten(1)

    def judge(self, seen: Tensor, c: Tensor) -> Tensor:
        """Logits ``[B, K]`` of K discriminators, for what they see, ``[B, S]`` (see ``View``); K is 1, or 2 with two stages."""
        logits: Tensor = self.discriminator(seen, c)
        return logits.flatten(1)

    def sample(
        self,
        conditions: Mapping[str, Condition] | None = None,
        *,
        n: int | None = None,
        seed: int,
    ) -> ak.Array:
        """Generated events, with their conditions as fields.

        Args:
            conditions: For each condition a number, a range ``(low, high)`` to draw from uniformly, or an array ``[n]``; in
                the schema's units. A class that is not given is drawn evenly from all classes.
            n: How many events; not needed where a condition is an array.
            seed: The same seed gives the same events on the same device.

        Raises:
            DataError: a condition is missing, unknown or outside the range that was trained, or ``n`` is not clear.
            RunError: the seed is no integer from 0 to 2^64 − 1.
        """
        blocks = list(self.sample_blocks(conditions, n=n, seed=seed))
        return ak.concatenate(blocks) if len(blocks) > 1 else blocks[0]

    def sample_blocks(
        self,
        conditions: Mapping[str, Condition] | None = None,
        *,
        n: int | None = None,
        seed: int,
    ) -> Iterator[ak.Array]:
        """As ``sample``, in parts of bounded size; together they are the same events."""
        asked = Conditions.of(conditions or {}, n, self.encoding)
        check_seed(seed)
        was_training = self.generator.training
        self.generator.eval()
        try:
            for number, (_, noise) in enumerate(normal_blocks(asked.n, self.latent, seed=seed)):
                yield self._sample_block(noise, asked.block(number, seed=seed))
        finally:
            self.generator.train(was_training)

    @torch.no_grad()
    def _sample_block(self, noise: Tensor, asked: Mapping[str, npt.NDArray[Any]]) -> ak.Array:
        none = torch.empty(len(noise), 0, device=self.device)
        c = self.encoding.encode_conditions(asked) if asked else none
        # Conditions exactly as they were asked for, not as they come back from the encoding.
        return self.encoding.decode(self.generate(noise.to(self.device), c), c, given=asked)
