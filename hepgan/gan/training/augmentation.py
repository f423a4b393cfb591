"""Augmentation of the discriminators' inputs: random reflections, rotations and scales of cells, the same for a pair of events.

Reference and generated events are transformed alike, so the discriminator cannot memorize the reference events, while the generator still
has to reproduce their distribution: a transformation that is skipped often enough does not leak into generated events
(arXiv:2006.06676). The detector does not need to have the symmetry, and the conditions stay as they are.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from hepgan.gan.discriminator_input import DiscriminatorInput
from hepgan.gan.training import distributed
from hepgan.gan.training.schedule import value_at
from hepgan.gan.training.settings import AugmentSettings
from hepgan.gan.training.state import TrainingState

ADAPT_EVERY = 4
"""Steps between updates of an adaptive probability, each of which needs logits of its own."""

Augment = Callable[[Tensor, Tensor], Tensor]
"""Function of a discriminator input ``[B, S]`` and conditions ``[B, C]`` that returns the transformed input."""


def draw_augmentation(
    state: TrainingState, discriminator_input: DiscriminatorInput, events: int
) -> Augment:
    """Returns a transformation of the inputs of ``events`` events, with new random numbers for each event.

    Each transformation is applied with the current probability: a reflection half of these times, a rotation by any angle.
    """
    settings = state.settings.augment
    if settings is None:
        return lambda features, c: features
    whole = events * distributed.world_size()
    generator, device = state.noise_generator, state.gan.device
    numbers = len(settings.reflect) + settings.rotate + (settings.energy_scale > 0)
    uniform = torch.rand(whole, 2, numbers, generator=generator, device=device)
    normal = torch.randn(whole, generator=generator, device=device)
    uniform, normal = distributed.local_shard(uniform), distributed.local_shard(normal)
    probability = state.augmentation
    if not settings.adaptive:
        probability = torch.full_like(probability, state.value(settings.probability))
    applied, choice = uniform[:, 0] < probability, uniform[:, 1]

    def transform(part: str, logs: Tensor) -> Tensor:
        if settings.energy_scale:
            factor = torch.exp(settings.energy_scale * normal * applied[:, -1])
            logs = torch.log1p(torch.expm1(logs) * factor[:, None])
        if part == "layer energies":
            return logs
        index = torch.arange(logs.shape[1], device=device).expand_as(logs)
        images = discriminator_input.cell_indices(part)
        for number, axis in enumerate(settings.reflect):
            flipped = (applied[:, number] & (choice[:, number] < 0.5))[:, None]
            index = torch.where(flipped, index[:, images.reflection(axis)], index)
        if settings.rotate:
            rotations = images.rotations
            turn = (choice[:, len(settings.reflect)] * len(rotations)).long()
            turn = turn.clamp_max(len(rotations) - 1) * applied[:, len(settings.reflect)]
            index = index.gather(1, rotations[turn])
        return logs.gather(1, index)

    return lambda features, c: discriminator_input.map_logs(features, c, transform)


@torch.no_grad()
def adapt_probability(state: TrainingState, events: Tensor, c: Tensor) -> None:
    """Changes an adaptive probability: up if the logits of training events are positive more often than the target says, else down.

    Args:
        state: State, whose discriminator has seen the events.
        events: Augmented discriminator input ``[B, S]`` of training events.
        c: Their conditions ``[B, C]``.
    """
    settings = state.settings.augment
    if settings is None or not settings.adaptive or state.phase_step % ADAPT_EVERY:
        return
    signs = distributed.batch_mean(state.gan.discriminate(events, c).sign()).mean()
    change = torch.sign(signs - settings.target) * ADAPT_EVERY / settings.adapt_steps
    state.augmentation = (state.augmentation + change).clamp(0, settings.largest)


def initial_probability(settings: AugmentSettings | None, device: torch.device) -> Tensor:
    """Returns the probability at the start of a training, a scalar on ``device``."""
    first = value_at(settings.probability, 0, 1) if settings and settings.adaptive else 0.0
    return torch.full((), first, dtype=torch.float32, device=device)
