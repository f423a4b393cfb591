"""The adversarial pair: a generator, a discriminator, and the encoding between them and events."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hepgan.data.dtypes import to_dtype
from hepgan.data.encoding import Encoding, check_condition
from hepgan.data.steps import ConditionScale
from hepgan.errors import DataError
from hepgan.gan.networks import GANSettings, build_networks, sizes_of
from hepgan.gan.noise import BLOCK, normal_blocks
from hepgan.random_streams import numpy_generator

Condition = float | tuple[float, float] | npt.ArrayLike


@dataclasses.dataclass(frozen=True)
class Kept:
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
    kept: Kept | None = None

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
        return next(self.generator.parameters()).device

    @property
    def latent(self) -> tuple[int, ...]:
        """The shape of one event's noise."""
        return sizes_of(self.settings, self.encoding).latent

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
        given, n = _given(conditions or {}, n, self.encoding, seed)
        c = self.encoding.encode_conditions(given) if given else torch.empty(n, 0)
        was_training = self.generator.training
        self.generator.eval()
        try:
            for start, noise in normal_blocks(n, self.latent, seed=seed):
                stop = start + len(noise)
                asked = {name: values[start:stop] for name, values in given.items()}
                yield self._sample_block(noise, c[start:stop], asked)
        finally:
            self.generator.train(was_training)

    @torch.no_grad()
    def _sample_block(
        self, noise: Tensor, c: Tensor, asked: Mapping[str, npt.NDArray[Any]]
    ) -> ak.Array:
        c = c.to(self.device)
        # Conditions exactly as they were asked for, not as they come back from the encoding.
        return self.encoding.decode(self.generate(noise.to(self.device), c), c, given=asked)


def _given(
    conditions: Mapping[str, Condition], n: int | None, encoding: Encoding, seed: int
) -> tuple[dict[str, npt.NDArray[Any]], int]:
    """Each condition's values ``[n]``, in the type of its branch."""
    for name in conditions:
        if name not in encoding.scales:
            known = ", ".join(encoding.scales) or "none"
            raise DataError(f"the GAN has no condition '{name}' (it has: {known})")
    for name, scale in encoding.scales.items():
        if name not in conditions and scale.scale != "onehot":
            low, high = scale.range
            unit = encoding.schema.conditions[name].unit
            raise DataError(
                f"the condition '{name}' is missing; it may be {low:g} to {high:g} {unit}".rstrip()
            )
    lengths = {
        len(np.asarray(v)) for v in conditions.values() if not isinstance(v, tuple) and np.ndim(v)
    }
    if len(lengths | ({n} if n is not None else set())) != 1:
        told = (
            f"n = {n}, and the conditions have lengths {sorted(lengths)}" if lengths else "give n"
        )
        raise DataError(f"how many events should be made? {told}")
    count = lengths.pop() if lengths else n
    if count is None or count < 1:
        raise DataError(f"n = {n} should be 1 or more")
    given = {}
    for name, scale in encoding.scales.items():
        values = _values(name, conditions.get(name, scale.range), scale, count, seed)
        # As the file will hold them, so that the GAN is asked for exactly what is written.
        dtype = encoding.schema.conditions[name].dtype or "float32"
        given[name] = to_dtype(values, dtype, name)
    return given, count


def _values(
    name: str, value: Condition, scale: ConditionScale, n: int, seed: int
) -> npt.NDArray[np.float64]:
    if not isinstance(value, tuple):
        values = np.broadcast_to(np.asarray(value, dtype=np.float64), (n,))
        check_condition(name, torch.from_numpy(values.copy()), scale)
        return values
    low, high = value
    if not low <= high:
        raise DataError(f"the range {name} = {low:g}:{high:g} should rise")
    if not scale.allows(torch.tensor([low, high], dtype=torch.float64)).all():
        whole = f"{scale.range[0]:g}:{scale.range[1]:g}"
        raise DataError(
            f"the range {name} = {low:g}:{high:g} is not in {whole}, what this GAN is made for"
        )
    drawn = []
    for number, start in enumerate(range(0, n, BLOCK)):
        rng = numpy_generator(seed, "sample", "condition", name, number)
        size = min(BLOCK, n - start)
        if scale.scale == "onehot":
            drawn.append(rng.integers(int(low), int(high), size, endpoint=True).astype(np.float64))
        else:
            drawn.append(rng.uniform(low, high, size))
    return np.concatenate(drawn)
