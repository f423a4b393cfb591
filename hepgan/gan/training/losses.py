"""Losses of the two networks: the objective, the discriminator's gradient penalties and the generator's additional terms."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from hepgan.data.encoding.encoding import Encoding
from hepgan.data.units import ENERGY_UNITS, energy_ratio
from hepgan.errors import RunError
from hepgan.gan.model import GAN
from hepgan.gan.networks import network_layers
from hepgan.gan.training import distributed
from hepgan.gan.training.objectives import (
    Batch,
    Loss,
    interpolate,
    objective_named,
    one_centered_penalty,
    zero_centered_penalty,
)
from hepgan.gan.training.settings import TrainSettings
from hepgan.gan.training.state import TrainingState


def generator_loss(
    gan: GAN,
    events: Tensor,
    generated: Tensor,
    x: Tensor,
    noise: Tensor,
    c: Tensor,
    settings: TrainSettings,
) -> Tensor:
    """Returns the loss of the generator.

    Args:
        gan: GAN whose discriminator is used.
        events: Discriminator input of the reference events, ``[B, S]``.
        generated: Discriminator input of the generated events, ``[B, S]``.
        x: Generated events, encoded, ``[B, F]``.
        noise: Their noise ``[B, *Z]``.
        c: Their conditions ``[B, C]``.
        settings: Objective and weights of the terms.
    """
    objective = objective_named(settings.objective)
    with _capture_last_inputs(gan, enabled=settings.feature_matching > 0) as captured:
        fake = gan.discriminate(generated, c)
        generated_inputs = captured.copy()
        captured.clear()
        with torch.no_grad():
            needed = objective.paired or settings.feature_matching
            real = gan.discriminate(events, c) if needed else fake
    loss = _sum_over_discriminators(
        objective.generator, Batch(real, fake, events, generated, noise, c)
    )
    for inputs, reference in zip(generated_inputs, captured, strict=True):
        distance = distributed.batch_mean(inputs) - distributed.batch_mean(reference)
        loss = loss + settings.feature_matching * distance.square().sum()
    if settings.energy_constraint:
        loss = loss + settings.energy_constraint * energy_error(gan.encoding, x, c)
    return loss


def discriminator_loss(
    state: TrainingState, events: Tensor, generated: Tensor, noise: Tensor, c: Tensor
) -> Tensor:
    """Returns the loss of the discriminator with its penalties; its gradients do not reach the generator.

    The arguments are those of ``generator_loss``.
    """
    gan, settings = state.gan, state.settings
    events = events.detach().requires_grad_(settings.r1 > 0)
    generated = generated.detach().requires_grad_(settings.r2 > 0)
    real, fake = gan.discriminate(events, c), gan.discriminate(generated, c)
    loss = _sum_over_discriminators(
        objective_named(settings.objective).discriminator,
        Batch(real, fake, events, generated, noise, c),
    )
    if settings.r1:
        loss = loss + settings.r1 / 2 * _zero_centered(real, events)
    if settings.r2:
        loss = loss + settings.r2 / 2 * _zero_centered(fake, generated)
    if settings.gradient_penalty:
        whole = len(events) * distributed.world_size()
        weight = torch.rand(whole, generator=state.noise_generator, device=gan.device)
        points = interpolate(events, generated, distributed.local_shard(weight))
        logits = gan.discriminate(points, c).unbind(1)
        penalty = torch.stack([one_centered_penalty(column, points) for column in logits]).sum()
        loss = loss + settings.gradient_penalty * penalty
    return loss


def _sum_over_discriminators(loss: Loss, batch: Batch) -> Tensor:
    """Returns the sum of ``loss`` over the K columns of the logits ``[B, K]``.

    Raises:
        RunError: the loss is not a scalar, whose sum over the batch would depend on the batch size.
    """
    columns = zip(batch.real.unbind(1), batch.fake.unbind(1), strict=True)
    losses = torch.stack([loss(batch._replace(real=real, fake=fake)) for real, fake in columns])
    if losses.dim() != 1:
        raise RunError(
            f"a loss of the objective has the shape {list(losses.shape[1:])}; return a scalar, the mean over the batch"
        )
    return losses.sum()


def _zero_centered(logits: Tensor, x: Tensor) -> Tensor:
    return torch.stack([zero_centered_penalty(column, x) for column in logits.unbind(1)]).sum()


def energy_error(encoding: Encoding, x: Tensor, c: Tensor) -> Tensor:
    """Returns the mean of |sum over all cells − incident energy| of encoded events, in the unit of the incident energy.

    Args:
        encoding: Decodes the events.
        x: Encoded events ``[B, F]``.
        c: Their conditions ``[B, C]``.

    Raises:
        RunError: see ``check_incident``.
    """
    incident, unit = check_incident(encoding)
    cells = encoding.decode_tensors(x, c).values()
    total = torch.stack([field.flatten(1).sum(1) for field in cells]).sum(0) / unit
    return (total - encoding.decode_conditions(c)[incident]).abs().mean()


def check_incident(encoding: Encoding) -> tuple[str, float]:
    """Returns the name of the condition that is the incident energy, and its unit in units of the fields.

    Raises:
        RunError: no condition with a unit of energy is declared as the incident energy, or the fields do not share one unit.
    """
    schema = encoding.schema
    units = {field.unit for field in schema.fields.values()}
    condition = schema.conditions.get(schema.incident)
    incident_unit = condition.unit if condition else ""
    if incident_unit not in ENERGY_UNITS or len(units) != 1 or not units <= set(ENERGY_UNITS):
        known = ", ".join(ENERGY_UNITS)
        raise RunError(
            "[train] energy_constraint needs a condition with a unit of energy, declared by [schema] incident, and one such unit"
            f" for all fields ({known}); incident = '{schema.incident}' with the unit '{incident_unit}'; units of the fields:"
            f" {', '.join(sorted(repr(unit) for unit in units))}"
        )
    return schema.incident, energy_ratio(incident_unit, units.pop())


@contextmanager
def _capture_last_inputs(gan: GAN, *, enabled: bool) -> Iterator[list[Tensor]]:
    """Context manager that records the inputs ``[B, L]`` of each discriminator's last layer when ``enabled``."""
    captured: list[Tensor] = []
    with ExitStack() as stack:
        for *_, layer in network_layers(gan.discriminator) if enabled else ():
            hook = layer.register_forward_pre_hook(
                lambda _, inputs: captured.append(inputs[0].flatten(1))
            )
            stack.callback(hook.remove)
        yield captured
