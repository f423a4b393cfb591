"""Losses of the two networks: the objective, the discriminator's gradient penalties and the generator's additional terms.

Weights of the reference events enter the objective and the feature matching with their signs. Penalties on reference events use
absolute weights, since a penalty must not reward large gradients at events with a negative weight. Terms of generated events alone (R2,
energy constraint, transport) are not weighted.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hepgan.data.encoding.encoding import Encoding
from hepgan.data.units import ENERGY_UNITS, energy_ratio
from hepgan.errors import RunError
from hepgan.gan.model import GAN
from hepgan.gan.networks import network_layers, stage_shapes
from hepgan.gan.training import distributed
from hepgan.gan.training.objectives import (
    Batch,
    Loss,
    interpolate,
    objective_named,
    one_centered_penalty,
    weighted_mean,
    zero_centered_penalty,
)
from hepgan.gan.training.state import TrainingState
from hepgan.gan.two_stage import TwoStages
from hepgan.layout.nn.network import frozen_statistics


def generator_loss(
    state: TrainingState,
    events: Tensor,
    generated: Tensor,
    x: Tensor,
    noise: Tensor,
    c: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """Returns the loss of the generator.

    Args:
        state: State with the GAN, and with the settings of the current phase.
        events: Discriminator input of the reference events, ``[B, S]``.
        generated: Discriminator input of the generated events, ``[B, S]``.
        x: Generated events, encoded, ``[B, F]``.
        noise: Their noise ``[B, *Z]``.
        c: Their conditions ``[B, C]``.
        weights: Weights ``[B]`` of the reference events, 1 on average; ``None`` if they are all equal.
    """
    gan, settings = state.gan, state.settings
    objective = objective_named(settings.objective)
    feature_matching = state.value(settings.feature_matching)
    if objective.discriminator is None:
        none = events.new_zeros(len(events))
        batch = Batch(none, none, events, generated, noise, c, weights)
        return objective.generator(batch) + _terms_of_events(state, x, noise, c)
    with _capture_last_inputs(gan, enabled=feature_matching > 0) as captured:
        fake = gan.discriminate(generated, c)
        generated_inputs = captured.copy()
        captured.clear()
        with torch.no_grad():
            needed = objective.paired or feature_matching
            real = gan.discriminate(events, c) if needed else fake
    batch = Batch(real, fake, events, generated, noise, c, weights)
    loss = _sum_over_discriminators(gan, objective.generator, batch)
    distances = []
    for inputs, reference in zip(generated_inputs, captured, strict=True):
        if weights is not None:
            reference = weights[:, None] * reference
            inputs = weights[:, None] * inputs if c.shape[1] else inputs
        distance = distributed.batch_mean(inputs) - distributed.batch_mean(reference)
        distances.append(distance.square().sum())
    if distances:
        loss = loss + feature_matching * _weighted_sum(gan, distances)
    return loss + _terms_of_events(state, x, noise, c)


def _terms_of_events(state: TrainingState, x: Tensor, noise: Tensor, c: Tensor) -> Tensor | float:
    """Returns the terms of the generator's loss that depend on the generated events alone."""
    terms: list[Tensor] = []
    if weight := state.value(state.settings.energy_constraint):
        encoding = state.encoding.encoding if state.encoding else state.gan.encoding
        terms.append(weight * energy_error(encoding, x, c))
    if weight := state.settings.transport_weight(state.phase_step):
        terms.append(weight * (x - noise_of_features(state.gan, noise)).square().mean())
    return sum(terms)


class _ScaleGradient(torch.autograd.Function):
    """Identity whose backward pass scales the gradient, see ``with_gradient_norm``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: float) -> Tensor:
        """Returns ``x``."""
        ctx.norm = norm
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Returns the scaled gradient; one that is 0 everywhere stays so."""
        mean = len(gradient) * distributed.batch_mean(gradient.flatten(1).norm(dim=1))
        return gradient * (ctx.norm / mean.clamp_min(1e-30)), None


def with_gradient_norm(x: Tensor, norm: float) -> Tensor:
    """Returns ``x[B, F]``, with gradients scaled such that those of an event have the mean length ``norm``; unscaled for 0.

    The gradient of an event is that of its own loss, of which the losses are means over the batch.
    """
    scaled: Tensor = _ScaleGradient.apply(x, norm) if norm else x  # type: ignore[no-untyped-call]
    return scaled


def noise_of_features(gan: GAN, noise: Tensor) -> Tensor:
    """Returns the noise value of each feature of the encoded events, ``[B, F]``; see ``check_transport``."""
    generator = gan.generator
    flat = noise.flatten(1)
    # The noise of the first of two stages comes first, but its energies are the last features.
    return flat.roll(-generator.energy_noise, 1) if isinstance(generator, TwoStages) else flat


def check_transport(gan: GAN) -> None:
    """Checks that the noise of an event has a value for each feature, which [train] transport compares.

    Raises:
        RunError: it has not.
    """
    shapes = stage_shapes(gan.settings, gan.encoding)
    cells = gan.encoding.features - shapes.n_energies
    sizes = math.prod(shapes.cells), math.prod(shapes.energies or (0,))
    if sizes != (cells, shapes.n_energies):
        raise RunError(
            f"[train] transport compares each of the {gan.encoding.features} features of an event with its noise, but the noise has"
            f" {sum(sizes)} values; set [gan] latent = [0] (and [gan.energies] latent = [0])"
        )


def discriminator_loss(
    state: TrainingState,
    events: Tensor,
    generated: Tensor,
    noise: Tensor,
    c: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """Returns the loss of the discriminator with its penalties, 0 for objectives without one; its gradients do not reach the generator.

    The arguments are those of ``generator_loss``.
    """
    gan, settings = state.gan, state.settings
    objective = objective_named(settings.objective)
    if objective.discriminator is None:
        return events.new_zeros(())
    r1, r2 = state.value(settings.r1), state.value(settings.r2)
    due = state.phase_step % settings.penalty_every == 0
    # Exact penalties of whole batches use the same logits as the objective.
    shared = due and settings.penalty == "exact" and settings.penalty_fraction == 1
    events = events.detach().requires_grad_(shared and r1 > 0)
    generated = generated.detach().requires_grad_(shared and r2 > 0)
    real, fake = gan.discriminate(events, c), gan.discriminate(generated, c)
    loss = _sum_over_discriminators(
        gan,
        objective.discriminator,
        Batch(real, fake, events, generated, noise, c, weights),
    )
    positive = None if weights is None else weights.abs()
    if weight := state.value(settings.logit_centering):
        centers = _weighted_sum(gan, (real + fake).square().unbind(1))
        loss = loss + weight * weighted_mean(centers, positive)
    if not due:
        return loss
    for weight, x, logits, of_events in ((r1, events, real, positive), (r2, generated, fake, None)):
        if weight:
            penalty = _zero_centered(state, x, logits, c, of_events)
            loss = loss + settings.penalty_every * weight / 2 * penalty
    if weight := state.value(settings.gradient_penalty):
        whole = len(events) * distributed.world_size()
        between = torch.rand(whole, generator=state.noise_generator, device=gan.device)
        points = interpolate(events, generated, distributed.local_shard(between))
        rows = penalized_rows(len(events), settings.penalty_fraction, gan.device)
        points = points.detach()[rows.local].requires_grad_()
        logits = gan.discriminate(points, c[rows.local])
        of_points = None if positive is None else positive[rows.local]
        columns = [one_centered_penalty(column, points, of_points) for column in logits.unbind(1)]
        penalty = rows.scale * _weighted_sum(gan, columns)
        loss = loss + settings.penalty_every * weight * penalty
    return loss


def _sum_over_discriminators(gan: GAN, loss: Loss, batch: Batch) -> Tensor:
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
    return _weighted_sum(gan, losses.unbind())


def _weighted_sum(gan: GAN, values: Sequence[Tensor]) -> Tensor:
    """Returns the sum of a value of each discriminator, or of one per event ``[B]``, multiplied by its weight."""
    weights = gan.settings.weights
    return torch.stack([w * value for w, value in zip(weights, values, strict=True)]).sum(0)


def _zero_centered(
    state: TrainingState, x: Tensor, logits: Tensor, c: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Returns the mean of |d logit / d x|² over the penalized events, a weighted sum over discriminators.

    Args:
        state: State with the GAN and its settings.
        x: Discriminator input ``[B, S]``.
        logits: Logits ``[B, K]`` of ``x``.
        c: Conditions ``[B, C]``.
        weights: Weights ``[B]``, not negative.
    """
    gan, settings = state.gan, state.settings
    rows = penalized_rows(len(x), settings.penalty_fraction, gan.device)
    weights = None if weights is None else weights[rows.local]
    if settings.penalty == "finite-differences":
        shape = rows.total, *x.shape[1:]
        noise = torch.randn(shape, generator=state.noise_generator, device=gan.device)
        displaced = x.detach()[rows.local] + settings.penalty_step * noise[rows.of_total]
        with frozen_statistics(gan.discriminator):
            difference = gan.discriminate(displaced, c[rows.local]) - logits[rows.local]
        squares = (difference / settings.penalty_step).square()
        return rows.scale * weighted_mean(_weighted_sum(gan, squares.unbind(1)), weights)
    if settings.penalty_fraction < 1:
        x = x.detach()[rows.local].requires_grad_()
        logits = gan.discriminate(x, c[rows.local])
    columns = [zero_centered_penalty(column, x, weights) for column in logits.unbind(1)]
    return rows.scale * _weighted_sum(gan, columns)


class PenalizedRows(NamedTuple):
    """Events of a batch on which gradient penalties are computed, evenly spaced over the whole batch.

    Attributes:
        total: Their number in all processes.
        of_total: Those of this process among them.
        local: Their positions in this process's shard.
        scale: Factor of their mean: averaged over the processes it is that of one process with the whole batch.
    """

    total: int
    of_total: slice
    local: Tensor | slice
    scale: float


def penalized_rows(size: int, fraction: float, device: torch.device) -> PenalizedRows:
    """Returns the penalized events for shards of ``size`` events, at least one in each process."""
    world, rank = distributed.world_size(), distributed.rank()
    whole, start = size * world, size * rank
    total = max(world, round(fraction * whole))
    if total == whole:
        return PenalizedRows(total, slice(start, start + size), slice(None), 1.0)
    # Event i of the penalized ones is event i · whole // total of the batch.
    first, last = (-(-border * total // whole) for border in (start, start + size))
    local = torch.arange(first, last, device=device) * whole // total - start
    return PenalizedRows(total, slice(first, last), local, (last - first) * world / total)


def check_finite_differences(gan: GAN, x: Tensor, c: Tensor) -> None:
    """Checks that the logits of an event do not depend on other events or on random numbers.

    Args:
        gan: GAN with the discriminator.
        x: Discriminator input ``[B, S]``, at least two events.
        c: Conditions ``[B, C]``.

    Raises:
        RunError: they do.
    """
    devices = [gan.device] if gan.device.type == "cuda" else []
    half = len(x) // 2
    with (
        torch.no_grad(),
        torch.random.fork_rng(devices=devices),
        frozen_statistics(gan.discriminator),
        _capture_last_inputs(gan, enabled=True) as captured,  # the last weights may be 0 yet
    ):
        gan.discriminate(x, c)
        whole = captured.copy()
        captured.clear()
        gan.discriminate(x[:half], c[:half])
    for all_inputs, inputs in zip(whole, captured, strict=True):
        if not torch.allclose(all_inputs[:half], inputs, rtol=1e-3, atol=1e-4):
            raise RunError(
                "[train] penalty = 'finite-differences' needs a discriminator without dropout, batch normalization or other layers"
                " that are random or mix events; remove them, or use penalty = 'exact'"
            )


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
