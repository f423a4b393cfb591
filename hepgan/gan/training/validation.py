"""Validation on held-out events, the choice of the weights that are kept, and the rows of the history."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hepgan.errors import HepganError, NotFiniteError
from hepgan.gan.discriminator_input import DiscriminatorInput
from hepgan.gan.model import GAN
from hepgan.gan.training import checkpoint, distributed
from hepgan.gan.training.history import Row
from hepgan.gan.training.losses import generator_loss
from hepgan.gan.training.state import TrainingState
from hepgan.random_streams import torch_generator

MAX_EVENTS = 2048
"""Largest number of events in the generator's validation loss."""


class Validation(NamedTuple):
    """Validation of a training on events that it is not trained on.

    Attributes:
        validate: Validation score of a GAN, the smaller the better; chooses the weights that are kept.
        events: Encoded events ``x[E, F]``, ``c[E, C]`` for the generator's validation loss, and their weights ``[E]``, if they differ.
    """

    validate: Callable[[GAN], float]
    events: tuple[Tensor, ...]


def validate_if_due(
    state: TrainingState, validation: Validation | None, folder: Path | None
) -> float | None:
    """Returns the validation score of the moving average if a validation is due, and keeps the best weights.

    Rank 0 computes the score for all: scores that differ by rounding could lead to different decisions.

    Raises:
        HepganError: a weight, a generated event or the score is not finite.
    """
    every = state.settings.validate_every
    due = bool(every) and (
        state.phase_step % every == 0 or state.phase_step >= state.settings.steps
    )
    if validation is None or not due:
        return None
    check_weights(state, folder)
    score, reason = math.nan, "the validation score is not finite"
    if distributed.rank() == 0:
        try:
            score = validation.validate(state.average)
        except NotFiniteError as error:
            reason = str(error)
    score, reason = distributed.broadcast((score, reason), state.gan.device)
    if not math.isfinite(score):
        raise _diverged(reason, state, folder)
    state.validations_without_improvement += 1
    # The later one of equal steps: an untrained generator is kept only if it is better.
    if score <= state.best_score:
        state.best_score, state.best_step = score, state.step
        state.validations_without_improvement = 0
        state.best = _copied(state.ema)
        state.best_encoding = _copied(state.ema_encoding) if state.ema_encoding else {}
    return score


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


@torch.no_grad()
def generator_validation_loss(
    state: TrainingState, discriminator_input: DiscriminatorInput, events: tuple[Tensor, ...]
) -> float:
    """Returns the generator's loss on held-out events, with both networks in evaluation mode and the same noise in each call."""
    gan, (x, c, *weights) = state.gan, (part[:MAX_EVENTS] for part in events)
    networks = gan.generator, gan.discriminator
    generator = torch_generator(state.seed, "validation", "test loss", device=gan.device)
    noise = torch.randn(len(x), *gan.latent, generator=generator, device=gan.device)
    for network in networks:
        network.eval()
    try:
        fake = gan.generate(noise, c)
        reference, generated = discriminator_input.of_events(x, c), discriminator_input(fake, c)
        return generator_loss(state, reference, generated, fake, noise, c, *weights).item()
    finally:
        for network in networks:
            network.train()


def history_row(
    state: TrainingState,
    discriminator_input: DiscriminatorInput,
    loss_sums: Tensor,
    validation: Validation | None,
    folder: Path | None,
) -> Row:
    """Returns the mean losses since the last row, and the scores on held-out events if a validation is due.

    Args:
        state: Training state.
        discriminator_input: Input of the discriminator.
        loss_sums: Sum of the discriminator's losses, of the generator's losses, and the number of steps.
        validation: Validation score and events.
        folder: Run folder.

    Raises:
        HepganError: a loss is not finite.
    """
    discriminator, generator, count = distributed.all_reduce_sum(loss_sums).tolist()
    for name, loss in (("discriminator", discriminator), ("generator", generator)):
        if not math.isfinite(loss):
            raise _diverged(f"the {name}'s loss is {loss}", state, folder)
    row: Row = {
        "step": state.step,
        "seconds": round(state.seconds, 2),
        "discriminator_loss": discriminator / count,
        "generator_loss": generator / count,
    }
    if len(state.phases) > 1:
        row["phase"] = state.phase
    if validation and (score := validate_if_due(state, validation, folder)) is not None:
        row["generator_validation_loss"] = generator_validation_loss(
            state, discriminator_input, validation.events
        )
        row["validation"] = score
    return row


def check_weights(state: TrainingState, folder: Path | None) -> None:
    """Checks that all weights and running statistics are finite: losses only tell about the weights before the last step.

    Raises:
        HepganError: one is not finite; names it.
    """
    networks = {
        "discriminator": state.gan.discriminator,
        "generator": state.gan.generator,
        "generator's average": state.ema,
    }
    if state.encoding and state.ema_encoding:
        networks |= {"encoding": state.encoding, "encoding's average": state.ema_encoding}
    for name, network in networks.items():
        tensors = network.state_dict()
        if not tensors:
            continue  # a network without weights
        finite = torch.stack([tensor.isfinite().all() for tensor in tensors.values()])
        if not finite.all():
            first = list(tensors)[finite.tolist().index(False)]
            raise _diverged(f"a weight of the {name} is not finite ('{first}')", state, folder)


def _diverged(reason: str, state: TrainingState, folder: Path | None) -> HepganError:
    return HepganError(
        f"{reason} at step {state.step}; {stop_message(state, folder)};"
        " lower the learning rate or raise r1 and r2"
    )


def stop_message(state: TrainingState, folder: Path | None) -> str:
    """Returns the step at which the training stopped, and its last checkpoint."""
    last = checkpoint.newest_checkpoint(folder) if folder else None
    return (
        f"stopped at step {state.step}, the last checkpoint is {last}"
        if last
        else f"stopped at step {state.step} without a checkpoint"
    )
