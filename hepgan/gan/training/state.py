"""All that changes while a GAN is trained."""

import dataclasses
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from hepgan.data.loaders.in_memory import UnsupervisedLoader
from hepgan.gan.model import GAN
from hepgan.gan.training import distributed
from hepgan.gan.training.optim import make_optimizer
from hepgan.gan.training.settings import TrainSettings
from hepgan.random_streams import child_seed, reseed


@dataclasses.dataclass(frozen=True)
class Origin:
    """Fingerprints of what a training learns from, which are the same when it is resumed.

    Attributes:
        files: Those of the input files by their paths, in order.
        encoding: That of the encoding.
    """

    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    encoding: str = ""


@dataclasses.dataclass
class TrainingState:
    """All that changes while a GAN is trained, and so all that a checkpoint holds; and ``phases``, what is to be done.

    Attributes:
        seed: Of all streams of random numbers.
        origin: What the events came from.
        noise: Put at the start of a step's own stream by ``draw_anew``, so that a checkpoint need not hold it.
        phase: Which of the phases it is in.
        began: The step at which that one began.
        waited: Validations in a row without a better score in that one.
    """

    gan: GAN
    average: nn.Module
    phases: tuple[TrainSettings, ...]
    optimizers: dict[str, Optimizer]
    schedules: dict[str, LambdaLR]
    loader: UnsupervisedLoader
    seed: int
    noise: torch.Generator
    origin: Origin = Origin()
    phase: int = 0
    began: int = 0
    waited: int = 0
    step: int = 0
    seconds: float = 0.0
    best_score: float = math.inf
    best_step: int = 0
    best: dict[str, Tensor] = dataclasses.field(default_factory=dict)

    @property
    def settings(self) -> TrainSettings:
        """Those of the present phase."""
        return self.phases[self.phase]

    def is_over(self) -> bool:
        """Whether the present phase is."""
        patience = self.settings.patience
        tired = bool(patience) and self.waited >= patience
        return tired or self.step - self.began >= self.settings.steps

    def is_done(self) -> bool:
        """Whether all phases are over."""
        return self.is_over() and self.phase + 1 == len(self.phases)


def start_phase(state: TrainingState, phase: int, *, began: int) -> None:
    """Puts ``state`` at the beginning of a phase: the weights as they are, all else of the descent anew."""
    settings = state.phases[phase]
    state.phase, state.began, state.waited = phase, began, 0
    state.optimizers, state.schedules = make_optimizers(state.gan, settings)
    x, c = state.loader.tensors
    state.loader = make_loader(x, c, settings, seed=state.seed, phase=phase)


def reseed_step(state: TrainingState) -> None:
    """Puts all that a step draws from at the start of that step's streams: what it draws is a function of (seed, step).

    Dropout, and whatever else layers draw, comes from torch's global generator; that of the GAN's device alone is touched.
    """
    reseed(state.noise, state.seed, "latent", state.step)
    dropout = torch.default_generator
    if state.noise.device.type == "cuda":
        dropout = torch.cuda.default_generators[state.noise.device.index]
    reseed(dropout, state.seed, "dropout", state.step, distributed.rank())


def make_loader(
    x: Tensor, c: Tensor, settings: TrainSettings, *, seed: int, phase: int
) -> UnsupervisedLoader:
    """Batches for this process."""
    seed = child_seed(seed, "order", phase)
    batch, world = distributed.local_batch_size(settings.batch_size), distributed.world_size()
    return UnsupervisedLoader(
        x, c, batch_size=batch, seed=seed, rank=distributed.rank(), world=world
    )


def make_optimizers(
    gan: GAN, settings: TrainSettings
) -> tuple[dict[str, Optimizer], dict[str, LambdaLR]]:
    """Optimizer and learning rate schedule of each network that has weights."""
    networks = {"generator": gan.generator, "discriminator": gan.discriminator}
    optimizers = {
        name: make_optimizer(networks[name], how)
        for name, how in settings.networks.items()
        if any(True for _ in networks[name].parameters())
    }
    falls = _fall(settings)
    return optimizers, {name: LambdaLR(one, falls) for name, one in optimizers.items()}


def _fall(settings: TrainSettings) -> Callable[[int], float]:
    """Step of a phase -> share of the learning rates that is left: half a cosine from 1 to ``decay``."""

    def fall(step: int) -> float:
        along = min(step / max(settings.steps, 1), 1.0)
        return settings.decay + (1 - settings.decay) * (1 + math.cos(math.pi * along)) / 2

    return fall
