"""What each network goes down: its objective, and the discriminator's gradient penalties."""

import torch
from torch import Tensor

from hepgan.gan import parallel
from hepgan.gan.model import GAN
from hepgan.gan.objectives import OBJECTIVES, between, one_centred_penalty, zero_centred_penalty
from hepgan.gan.settings import TrainSettings
from hepgan.gan.state import State


def generator_loss(
    gan: GAN, seen: Tensor, fake: Tensor, c: Tensor, settings: TrainSettings
) -> Tensor:
    """Of what the discriminator is shown of reference events ``seen[B, S]`` and generated ones ``fake[B, S]``."""
    objective = OBJECTIVES[settings.objective]
    judged = gan.judge(fake, c)
    with torch.no_grad():
        real = gan.judge(seen, c) if objective.paired else judged
    return objective.generator(real, judged)


def discriminator_loss(state: State, seen: Tensor, fake: Tensor, c: Tensor) -> Tensor:
    """The same for the discriminator, with its penalties; no gradient reaches the generator."""
    gan, settings = state.gan, state.settings
    seen = seen.detach().requires_grad_(settings.r1 > 0)
    fake = fake.detach().requires_grad_(settings.r2 > 0)
    real_logits, fake_logits = gan.judge(seen, c), gan.judge(fake, c)
    loss = OBJECTIVES[settings.objective].discriminator(real_logits, fake_logits)
    if settings.r1:
        loss = loss + settings.r1 / 2 * zero_centred_penalty(real_logits, seen)
    if settings.r2:
        loss = loss + settings.r2 / 2 * zero_centred_penalty(fake_logits, fake)
    if settings.gradient_penalty:
        whole = len(seen) * parallel.size()
        place = torch.rand(whole, generator=state.noise, device=gan.device)
        points = between(seen, fake, parallel.mine(place))
        penalty = one_centred_penalty(gan.judge(points, c), points)
        loss = loss + settings.gradient_penalty * penalty
    return loss
