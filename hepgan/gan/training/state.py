"""Training state of a GAN, the start of its phases, and its random numbers."""

import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hepgan.data.encoding.encoding import EncodingModule
from hepgan.data.loaders.dataset import EpochDataset
from hepgan.gan.model import GAN
from hepgan.gan.training import distributed
from hepgan.gan.training.optim import make_optimizers
from hepgan.gan.training.schedule import Number, value_at
from hepgan.gan.training.settings import TrainSettings
from hepgan.random_streams import child_seed, reseed


@dataclasses.dataclass(frozen=True)
class Origin:
    """Fingerprints of a training's input, checked when it is resumed.

    Attributes:
        files: Fingerprints of the input files by path, in order.
        encoding: Fingerprint of the encoding.
    """

    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    encoding: str = ""


@dataclasses.dataclass
class TrainingState:
    """Everything that changes during a training, and therefore the content of a checkpoint; and the settings of its phases.

    Attributes:
        gan: GAN in training; its encoding remains that of the reference events.
        ema: Exponential moving average of the generator.
        encoding: Encoding in training; ``None`` if it is not trained.
        ema_encoding: Exponential moving average of the encoding.
        phases: Settings of all phases.
        optimizers: Optimizers by network.
        loader: Batches of discriminator inputs ``[B, S]`` of reference events, with conditions ``[B, C]`` and weights ``[B]``, if they
            differ.
        seed: Seed of all random streams.
        noise_generator: Reseeded in each step by ``reseed_step``, so that a checkpoint does not hold its state.
        origin: Fingerprints of the input.
        phase: Number of the current phase.
        phase_start: Step at which the current phase started.
        validations_without_improvement: Number of the latest validations in this phase without a better score.
        step: Number of finished steps.
        seconds: Training time.
        best_score: Best validation score.
        best_step: Its step.
        best: Weights of the moving average at that step; empty before the first validation.
        best_encoding: Weights of the encoding's moving average at that step; empty if it is not trained.
        augmentation: Adaptive probability of augmentation, on the GAN's device.
    """

    gan: GAN
    ema: nn.Module
    phases: tuple[TrainSettings, ...]
    optimizers: dict[str, Optimizer]
    loader: EpochDataset
    seed: int
    noise_generator: torch.Generator
    encoding: EncodingModule | None = None
    ema_encoding: EncodingModule | None = None
    origin: Origin = Origin()
    phase: int = 0
    phase_start: int = 0
    validations_without_improvement: int = 0
    step: int = 0
    seconds: float = 0.0
    best_score: float = math.inf
    best_step: int = 0
    best: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    best_encoding: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    augmentation: Tensor = dataclasses.field(default_factory=lambda: torch.zeros(()))

    @property
    def settings(self) -> TrainSettings:
        """Settings of the current phase."""
        return self.phases[self.phase]

    @property
    def phase_step(self) -> int:
        """Number of finished steps of the current phase."""
        return self.step - self.phase_start

    @property
    def average(self) -> GAN:
        """GAN of the moving averages."""
        encoding = self.ema_encoding.encoding if self.ema_encoding else self.gan.encoding
        return dataclasses.replace(self.gan, generator=self.ema, encoding=encoding)

    def value(self, number: Number) -> float:
        """Returns the value of a number of the settings at the current step."""
        return value_at(number, self.phase_step, self.settings.steps)

    def is_over(self) -> bool:
        """Returns whether the current phase is over."""
        patience = self.settings.patience
        out_of_patience = bool(patience) and self.validations_without_improvement >= patience
        return out_of_patience or self.phase_step >= self.settings.steps

    def is_done(self) -> bool:
        """Returns whether all phases are over."""
        return self.is_over() and self.phase + 1 == len(self.phases)


def start_phase(state: TrainingState, phase: int, *, phase_start: int) -> None:
    """Starts a phase: keeps the weights, creates new optimizers, and restarts the loader."""
    settings = state.phases[phase]
    state.phase, state.phase_start, state.validations_without_improvement = phase, phase_start, 0
    state.optimizers = make_optimizers(state.gan, settings, state.encoding)
    state.loader = restart_loader(state.loader, settings, seed=state.seed, phase=phase)


def restart_loader(
    loader: EpochDataset, settings: TrainSettings, *, seed: int, phase: int
) -> EpochDataset:
    """Returns ``loader`` at the start of a phase: this process's shard of each batch, in the order of the phase."""
    return loader.restarted(
        batch_size=distributed.local_batch_size(settings.batch_size),
        seed=child_seed(seed, "order", phase),
    )


def reseed_step(state: TrainingState) -> None:
    """Reseeds all random numbers of a step: they are a function of (seed, step).

    Layers such as dropout draw from torch's global generator; only that of the GAN's device is reseeded.
    """
    reseed(state.noise_generator, state.seed, "latent", state.step)
    generator = torch.default_generator
    if state.noise_generator.device.type == "cuda":
        generator = torch.cuda.default_generators[state.noise_generator.device.index]
    reseed(generator, state.seed, "dropout", state.step, distributed.rank())
