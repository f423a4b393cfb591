"""What each network goes down: its objective, the discriminator's gradient penalties, the generator's further terms."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from hepgan.data.encoding.encoding import Encoding
from hepgan.data.schema import ENERGY_UNITS
from hepgan.errors import RunError
from hepgan.gan.model import GAN
from hepgan.gan.networks import network_layers
from hepgan.gan.training import distributed
from hepgan.gan.training.objectives import (
    OBJECTIVES,
    Loss,
    interpolate,
    one_centered_penalty,
    zero_centered_penalty,
)
from hepgan.gan.training.settings import TrainSettings
from hepgan.gan.training.state import TrainingState


def generator_loss(
    gan: GAN, seen: Tensor, fake: Tensor, x: Tensor, c: Tensor, settings: TrainSettings
) -> Tensor:
    """The objective and the terms that ``settings`` add to it.

    Args:
        gan: Its discriminator judges.
        seen: What the discriminator is shown of reference events, ``[B, S]``.
        fake: The same of the generated events.
        x: The generated events themselves, ``[B, F]``.
        c: Their conditions ``[B, C]``.
        settings: Objective and weights.
    """
    objective = OBJECTIVES[settings.objective]
    with _last_inputs(gan, listen=settings.feature_matching > 0) as heard:
        judged = gan.judge(fake, c)
        features = heard.copy()
        heard.clear()
        with torch.no_grad():
            real = gan.judge(seen, c) if objective.paired or settings.feature_matching else judged
    loss = _summed(objective.generator, real, judged)
    for made, expected in zip(features, heard, strict=True):
        distance = distributed.batch_mean(made) - distributed.batch_mean(expected)
        loss = loss + settings.feature_matching * distance.square().sum()
    if settings.energy_constraint:
        loss = loss + settings.energy_constraint * energy_error(gan.encoding, x, c)
    return loss


def discriminator_loss(state: TrainingState, seen: Tensor, fake: Tensor, c: Tensor) -> Tensor:
    """The same for the discriminator, with its penalties; no gradient reaches the generator."""
    gan, settings = state.gan, state.settings
    seen = seen.detach().requires_grad_(settings.r1 > 0)
    fake = fake.detach().requires_grad_(settings.r2 > 0)
    real_logits, fake_logits = gan.judge(seen, c), gan.judge(fake, c)
    loss = _summed(OBJECTIVES[settings.objective].discriminator, real_logits, fake_logits)
    if settings.r1:
        loss = loss + settings.r1 / 2 * _penalty(zero_centered_penalty, real_logits, seen)
    if settings.r2:
        loss = loss + settings.r2 / 2 * _penalty(zero_centered_penalty, fake_logits, fake)
    if settings.gradient_penalty:
        whole = len(seen) * distributed.world_size()
        place = torch.rand(whole, generator=state.noise, device=gan.device)
        points = interpolate(seen, fake, distributed.local_shard(place))
        penalty = _penalty(one_centered_penalty, gan.judge(points, c), points)
        loss = loss + settings.gradient_penalty * penalty
    return loss


def energy_error(encoding: Encoding, x: Tensor, c: Tensor) -> Tensor:
    """Mean of |sum over all cells − incident energy| of encoded events ``x[B, F]``, ``c[B, C]``, in the unit of the latter.

    Raises:
        RunError: ``check_incident``'s.
    """
    incident, unit = check_incident(encoding)
    cells = encoding.decode_tensors(x, c).values()
    total = torch.stack([field.flatten(1).sum(1) for field in cells]).sum(0) / unit
    return (total - encoding.decode_conditions(c)[incident]).abs().mean()


def check_incident(encoding: Encoding) -> tuple[str, float]:
    """The condition that is the incident energy, and its unit in the fields' unit.

    Raises:
        RunError: there is not exactly one condition with a unit of energy, or the fields have no such unit in common.
    """
    schema = encoding.schema
    energies = [n for n, field in schema.conditions.items() if field.unit in ENERGY_UNITS]
    units = {field.unit for field in schema.fields.values()}
    if len(energies) != 1 or len(units) != 1 or not units <= set(ENERGY_UNITS):
        known = ", ".join(ENERGY_UNITS)
        raise RunError(
            "[train] energy_constraint needs one condition with a unit of energy in the schema, and one such unit for all"
            f" fields ({known}); these conditions have one: {', '.join(energies) or 'none'}; the fields have:"
            f" {', '.join(sorted(repr(unit) for unit in units))}"
        )
    of_condition = schema.conditions[energies[0]].unit
    return energies[0], ENERGY_UNITS[of_condition] / ENERGY_UNITS[units.pop()]


def _summed(loss: Loss, real: Tensor, fake: Tensor) -> Tensor:
    """Over the K discriminators' logits ``[B, K]``."""
    pairs = zip(real.unbind(1), fake.unbind(1), strict=True)
    return torch.stack([loss(*pair) for pair in pairs]).sum()


def _penalty(penalty: Loss, logits: Tensor, x: Tensor) -> Tensor:
    """Over the K discriminators, each by itself."""
    return torch.stack([penalty(of_one, x) for of_one in logits.unbind(1)]).sum()


@contextmanager
def _last_inputs(gan: GAN, *, listen: bool) -> Iterator[list[Tensor]]:
    """While it lasts, what comes to the last layer of each discriminator is added to the list, ``[B, L]``, where we listen."""
    heard: list[Tensor] = []
    with ExitStack() as stack:
        for *_, layer in network_layers(gan.discriminator) if listen else ():
            hook = layer.register_forward_pre_hook(
                lambda _, inputs: heard.append(inputs[0].flatten(1))
            )
            stack.callback(hook.remove)
        yield heard
