"""Generative adversarial network: a generator, a discriminator, and the encoding between them and events."""

import dataclasses
import html
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import awkward as ak
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hepgan.data.encoding.encoding import Encoding
from hepgan.data.io.names import printable
from hepgan.data.schema import Schema
from hepgan.errors import DataError, RunError
from hepgan.evaluation.formatting import with_error
from hepgan.evaluation.metrics.scores import STANDARD, Scores
from hepgan.evaluation.observables.geometry import LayerGeometry
from hepgan.gan.conditions import Condition, Conditions
from hepgan.gan.engines import Engine, EngineName, engine_of
from hepgan.gan.networks import GANSettings, build_networks, event_shapes, stage_shapes
from hepgan.gan.noise import BLOCK, normal_block
from hepgan.gan.sampler import Sampler
from hepgan.layout.spec.base import Shape
from hepgan.random_streams import check_seed
from hepgan.threads import on_threads

HEADLINE = {"auc_low", "auc_high", "auc_observables", "fpd", "digit_frechet"}
"""Standard metrics that a GAN's ``repr`` shows."""


@dataclasses.dataclass(frozen=True)
class KeptStep:
    """Training step whose generator was kept.

    Attributes:
        step: The step; 0 is the untrained generator.
        steps: Number of steps of the whole training.
        score: Validation score of this step, the smaller the better; ``None`` without validation.
        fit: Fit of the encoding, such as "28 networks fitted to 2,039 events"; empty if it is not known.
    """

    step: int
    steps: int
    score: float | None = None
    fit: str = ""

    @property
    def adversarial(self) -> bool:
        """True if there were training steps; otherwise events come from the fitted encoding."""
        return self.steps > 0

    @property
    def untrained(self) -> bool:
        """True if no training step was better than the untrained generator."""
        return self.step == 0 and self.adversarial

    def __str__(self) -> str:
        """Returns a sentence for reports and logs."""
        if not self.adversarial:
            fit = f", {self.fit}" if self.fit else ""
            return f"no adversarial training (train.steps = 0): events come from the fitted encoding{fit}"
        if self.untrained:
            return (
                f"no step of the training beat the untrained generator (validation score {self.score:.4g}),"
                f" so step 0 of {self.steps:,} was kept; train longer, or change the settings"
            )
        if self.score is None:
            return f"kept the generator of the last step, {self.step:,}, without validation"
        return (
            f"kept the generator of step {self.step:,} of {self.steps:,}, which has the best"
            f" validation score ({self.score:.4g})"
        )


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class GAN:
    """Generator, discriminator and encoding of one kind of events.

    >>> gan = GAN.load("showers", device="cpu")
    >>> gan.sample(2, energy=50.0, seed=1).fields
    ['layer_0', 'layer_1', 'layer_2', 'energy']

    Attributes:
        settings: Layouts and sizes.
        encoding: Encoding between events and ``x[B, F]``, ``c[B, C]``.
        generator: Module ``noise[B, *latent], c -> x``.
        discriminator: Module ``discriminator input, c -> logits``; untrained if the GAN was loaded from a file.
        discriminator_shapes: Shape of an event in the input of each discriminator.
        geometry: Geometry of each field, used by observables.
        tree: Name of the trees that generated events are written to.
        kept: Training step whose generator this is; ``None`` if it is not known.
        started_from: GAN that its training started from, with the SHA-256 of its weights; empty if there was none.
        scores: Scores of its run, from ``scores.json`` of the folder that it was loaded from, if there is one.
    """

    settings: GANSettings
    encoding: Encoding
    generator: nn.Module
    discriminator: nn.Module
    discriminator_shapes: tuple[Shape, ...]
    geometry: Mapping[str, LayerGeometry] = dataclasses.field(default_factory=dict)
    tree: str = "events"
    kept: KeptStep | None = None
    started_from: str = ""
    scores: Scores = dataclasses.field(default_factory=Scores)

    @classmethod
    def build(
        cls,
        settings: GANSettings,
        encoding: Encoding,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        discriminator_shapes: Sequence[Shape] = (),
        geometry: Mapping[str, LayerGeometry] | None = None,
        tree: str = "events",
    ) -> "GAN":
        """Returns a GAN with untrained networks, initialized from ``seed``.

        ``discriminator_shapes`` are ``DiscriminatorInput.shapes``; by default each discriminator sees the encoded event.

        Raises:
            LayoutError: a layout cannot be parsed, or its shapes do not fit the events.
            RunError: the size of ``settings.input`` is not that of the discriminator's input.
        """
        shapes = tuple(discriminator_shapes) or event_shapes(settings, encoding)
        networks = build_networks(settings, encoding, shapes, seed=seed)
        return cls(
            settings,
            encoding.to(device),
            networks["generator"].to(device),
            networks["discriminator"].to(device),
            shapes,
            geometry or {},
            tree,
        )

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        device: torch.device | str = "auto",
        plugins: Sequence[str] = (),
        member: int | None = None,
    ) -> "GAN":
        """Reads a GAN from a run folder; its discriminator is untrained.

        Args:
            path: Run folder or other folder written by ``save``; the name of a pretrained GAN, such as ``showers``, if there is
                no such folder; or an address, ``https://…``, ``zenodo:RECORD`` or ``hf:ORG/NAME``, see ``hepgan.gan.sources``.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``; ``auto`` is a GPU if there is one.
            plugins: Modules to import first. A file never imports the plugins that it names.
            member: Number of the member of an ensemble; by default the first, 0.

        Raises:
            CheckpointError: a file is missing, damaged or of another version.
            RunError: there is no such member, a plugin is missing, the device is missing or its memory is too small, or a download fails.
        """
        from hepgan.gan import serialization  # imported here: it imports this module

        return serialization.load(path, device=device, plugins=plugins, member=member)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes ``gan.json`` and ``generator.safetensors`` into the folder ``path``, which is created if it is missing.

        The discriminator is kept in training checkpoints only.

        Raises:
            RunError: a file cannot be written.
        """
        from hepgan.gan import serialization  # imported here: it imports this module

        serialization.save(self, path)

    @property
    def schema(self) -> Schema:
        """Fields and conditions of the events."""
        return self.encoding.schema

    @property
    def discriminator_features(self) -> int:
        """Number S of values of an event in the input of all discriminators."""
        return sum(map(math.prod, self.discriminator_shapes))

    @property
    def device(self) -> torch.device:
        """Device of the networks and the encoding."""
        return self.encoding.device

    def to(self, device: torch.device | str) -> "GAN":
        """Returns this GAN on ``device``. Its networks are moved in place, its encoding is copied."""
        return dataclasses.replace(
            self,
            encoding=self.encoding.to(device),
            generator=self.generator.to(device),
            discriminator=self.discriminator.to(device),
        )

    @property
    def latent(self) -> tuple[int, ...]:
        """Shape of the noise of one event."""
        return stage_shapes(self.settings, self.encoding).latent

    def generate(self, noise: Tensor, c: Tensor) -> Tensor:
        """Returns encoded events ``x[B, F]`` for ``noise[B, *latent]`` and conditions ``c[B, C]``."""
        x: Tensor = self.generator(noise, c)
        return x.flatten(1)

    def discriminate(self, features: Tensor, c: Tensor) -> Tensor:
        """Returns the logits ``[B, K]`` of the K discriminators.

        Args:
            features: Discriminator input ``[B, S]``, see ``DiscriminatorInput``.
            c: Encoded conditions ``[B, C]``.
        """
        logits: Tensor = self.discriminator(features, c)
        return logits.flatten(1)

    def sample(
        self,
        n: int | None = None,
        *,
        seed: int,
        engine: EngineName = "torch",
        conditions: Mapping[str, Condition] | None = None,
        **values: Condition,
    ) -> ak.Array:
        """Returns generated events, with their conditions as fields.

        >>> from hepgan import Range
        >>> gan = GAN.load("showers", device="cpu")
        >>> len(gan.sample(3, energy=Range(1, 100), seed=1)), len(gan.sample(energy=[5.0, 50.0], seed=1))
        (3, 2)

        Args:
            n: Number of events; may be left out if a condition is an array.
            seed: Seed; events depend only on the seed, their number, the device and the engine.
            engine: ``torch``, or ``onnx`` for ONNX Runtime (extra ``onnx``), see ``hepgan.gan.engines``.
            conditions: Conditions by name, for names that cannot be keywords.
            **values: Each condition as a number, a ``hepgan.Range(low, high)`` to draw from uniformly (``scale="log"``: in the logarithm), a
                ``hepgan.Choice(values)`` to draw from with equal probability, or an array ``[n]``, in the schema's unit. A class that is
                left out is drawn from all classes with equal probability.

        Raises:
            DataError: a condition is missing, unknown, given twice or outside the trained range, or the number of events is not
                defined.
            RunError: the seed is not an integer from 0 to 2^64 − 1, or the engine cannot run the GAN.
        """
        request = self._request(n, conditions, values)
        given = request.columns(seed=seed)
        c = self._encoded_conditions(given, request.n)
        with self._running(engine) as (running, each):

            def parts(number: int) -> Iterable[dict[str, Tensor]]:
                noise = self._noise(number, request.n, seed)
                return running.parts(noise, c[number * BLOCK : (number + 1) * BLOCK])

            # Into one array, which is faster than to concatenate blocks.
            every = itertools.chain.from_iterable(each(parts, request.blocks))
            return self.encoding.events(every, c, given=given)

    def sample_blocks(
        self,
        n: int | None = None,
        *,
        seed: int,
        engine: EngineName = "torch",
        conditions: Mapping[str, Condition] | None = None,
        **values: Condition,
    ) -> Iterator[ak.Array]:
        """Yields the events of ``sample`` in blocks of bounded size."""
        request = self._request(n, conditions, values)
        check_seed(seed)
        with self._running(engine) as (running, each):

            def block(number: int) -> ak.Array:
                noise = self._noise(number, request.n, seed)
                # The requested conditions themselves: a round trip through the encoding would round them.
                given = request.block(number, seed=seed)
                c = self._encoded_conditions(given, len(noise))
                return self.encoding.events(running.parts(noise, c), c, given=given)

            yield from each(block, request.blocks)

    def _request(
        self,
        n: int | None,
        conditions: Mapping[str, Condition] | None,
        values: Mapping[str, Condition],
    ) -> Conditions:
        if twice := values.keys() & (conditions or {}).keys():
            raise DataError(
                f"the condition '{min(twice)}' is given twice: as a keyword and in conditions"
            )
        return Conditions.of({**(conditions or {}), **values}, n, self.encoding)

    def _noise(self, number: int, n: int, seed: int) -> Tensor:
        """Returns the noise of one of the blocks of ``n`` events."""
        return normal_block(number, min(BLOCK, n - number * BLOCK), self.latent, seed=seed)

    def _encoded_conditions(self, given: Mapping[str, npt.NDArray[Any]], events: int) -> Tensor:
        none = torch.empty(events, 0, device=self.device)
        return self.encoding.encode_conditions(given) if given else none

    @contextmanager
    def _running(self, engine: EngineName) -> Iterator[tuple[Engine, Callable[..., Iterator[Any]]]]:
        """Context manager with the networks in evaluation mode, the engine, and the function that calls another one for each block."""
        was_training = self.generator.training
        self.generator.eval()
        try:
            running = engine_of(self, engine)
            yield running, on_threads if running.one_thread else map
        finally:
            self.generator.train(was_training)

    def sampler(self, batch: int = 1, *, seed: int, engine: EngineName = "torch") -> Sampler:
        """Returns a function that generates the next events at each call, without conversions: for one particle at a time.

        >>> sampler = GAN.load("showers", device="cpu").sampler(seed=1)
        >>> sampler(energy=50.0)["layer_1"].shape
        torch.Size([1, 12, 12])

        Args:
            batch: Number of events of a call.
            seed: Seed; the events have the noise of those of ``sample``, in order.
            engine: As in ``sample``; ``onnx`` takes about a third of the time for one event per call.

        Raises:
            RunError: the seed is not an integer from 0 to 2^64 − 1, the batch is not positive, or the engine cannot run the GAN.
        """
        check_seed(seed)
        if batch < 1:
            raise RunError(f"the batch of a sampler is {batch}, but at least 1 is needed")
        self.generator.eval()
        return Sampler(engine_of(self, engine), self.encoding, self.latent, batch, seed)

    def _summary(self) -> dict[str, str]:
        fields, scales = self.schema.fields, self.encoding.scales
        units = {name: self.schema.conditions[name].unit for name in scales}
        parts = {"generator": self.generator, "discriminator": self.discriminator}
        if self.kept and not self.kept.adversarial:
            parts = {}
        return {
            "tree": self.tree,
            "fields": ", ".join(
                f"{name}{list(field.shape) if field.shape else ''} {field.unit}".strip()
                for name, field in fields.items()
            ),
            "conditions": ", ".join(
                f"{name} {scale} {units[name]}".strip() for name, scale in scales.items()
            ),
            "parameters": ", ".join(
                f"{name} {sum(weights.numel() for weights in part.parameters()):,}"
                for name, part in parts.items()
            ),
            "device": str(self.device),
            "training": str(self.kept or ""),
            "started from": self.started_from,
            "scores": ", ".join(
                f"{printable(score.metric)} {with_error(score.value, score.error)}"
                f" (baseline {with_error(score.baseline, score.baseline_error)})"
                for score in self.scores.overall
                if score.metric in HEADLINE or score.metric not in STANDARD
            ),
        }

    def __repr__(self) -> str:
        """Returns a few lines: fields, conditions with their ranges, parameters, the kept training step, and scores."""
        lines = (f"  {name}: {_shortened(text)}" for name, text in self._summary().items() if text)
        return "\n".join(["GAN", *lines])

    def _repr_html_(self) -> str:
        rows = (
            f"<tr><th style='text-align:left'>{name}</th>"
            f"<td style='text-align:left'>{html.escape(_shortened(text))}</td></tr>"
            for name, text in self._summary().items()
            if text
        )
        return f"<table><caption>GAN</caption>{''.join(rows)}</table>"


def _shortened(text: str, length: int = 400) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
