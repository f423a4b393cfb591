"""How a training is watched: held-out events, the choice of the weights that are kept, and rows of the history."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from hepgan.errors import HepganError, NotFiniteError
from hepgan.gan import serialization
from hepgan.gan.discriminator_input import DiscriminatorInput
from hepgan.gan.model import GAN
from hepgan.gan.training import distributed
from hepgan.gan.training.history import Row
from hepgan.gan.training.losses import generator_loss
from hepgan.gan.training.state import TrainingState
from hepgan.random_streams import torch_generator

MAX_HELD_OUT = 2048
"""At most so many held-out events make the generator's test loss."""


class Validation(NamedTuple):
    """What a training is watched with, on events that it is not trained on.

    Attributes:
        validate: A score of a GAN, the smaller the better; it chooses the weights that are kept.
        held_out: Encoded events ``x[E, F]``, ``c[E, C]`` for the generator's test loss.
    """

    validate: Callable[[GAN], float]
    held_out: tuple[Tensor, Tensor]


def validate_if_due(
    state: TrainingState, watch: Validation | None, folder: Path | None
) -> float | None:
    """Returns the score of the average, where it is time for one; the best weights are remembered.

    Process 0 scores, and all decide by its number: scores that differ in the last digit would part them for good.

    Raises:
        HepganError: a weight, a generated event or the score is not finite.
    """
    if watch is None or not _is_validated(state):
        return None
    check_weights(state, folder)
    score, reason = math.nan, "the validation score is not finite"
    if distributed.rank() == 0:
        try:
            score = watch.validate(dataclasses.replace(state.gan, generator=state.average))
        except NotFiniteError as error:
            reason = str(error)
    score, reason = distributed.broadcast((score, reason), state.gan.device)
    if not math.isfinite(score):
        raise _diverged(reason, state, folder)
    state.waited += 1
    if score < state.best_score:
        state.best_score, state.best_step, state.waited = score, state.step, 0
        weights = state.average.state_dict()
        state.best = {name: value.detach().clone() for name, value in weights.items()}
    return score


def _is_validated(state: TrainingState) -> bool:
    """Whether a validation is due: every so many steps, and at the end of each phase."""
    step, every = state.step - state.began, state.settings.validate_every
    return bool(every) and (step % every == 0 or step >= state.settings.steps)


@torch.no_grad()
def held_out_loss(
    state: TrainingState, view: DiscriminatorInput, held_out: tuple[Tensor, Tensor]
) -> float:
    """The generator's loss, both networks as in use, for noise that is the same at each call and ``held_out`` events."""
    gan, (x, c) = state.gan, (part[:MAX_HELD_OUT] for part in held_out)
    networks = gan.generator, gan.discriminator
    noise = torch_generator(state.seed, "validation", "test loss", device=gan.device)
    z = torch.randn(len(x), *gan.latent, generator=noise, device=gan.device)
    for network in networks:
        network.eval()
    try:
        made = gan.generate(z, c)
        return generator_loss(gan, view(x, c), view(made, c), made, c, state.settings).item()
    finally:
        for network in networks:
            network.train()


def history_row(
    state: TrainingState,
    view: DiscriminatorInput,
    sums: Tensor,
    watch: Validation | None,
    folder: Path | None,
) -> Row:
    """Mean losses since the last row, and the scores on held-out events where it is time for them.

    Raises:
        HepganError: a loss is not finite.
    """
    discriminator, generator, count = distributed.all_reduce_sum(sums).tolist()
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
    if watch and (score := validate_if_due(state, watch, folder)) is not None:
        row["generator_test_loss"] = held_out_loss(state, view, watch.held_out)
        row["validation"] = score
    return row


def check_weights(state: TrainingState, folder: Path | None) -> None:
    """What a checkpoint is about to hold: losses tell of the weights before the last step, not of those behind it.

    Raises:
        HepganError: a weight or a running statistic is not finite.
    """
    networks = {"discriminator": state.gan.discriminator, "generator": state.gan.generator}
    for name, network in (networks | {"generator's average": state.average}).items():
        tensors = network.state_dict()
        if not tensors:
            continue  # nothing but functions
        finite = torch.stack([tensor.isfinite().all() for tensor in tensors.values()])
        if not finite.all():
            first = list(tensors)[finite.tolist().index(False)]
            raise _diverged(f"a weight of the {name} is not finite ('{first}')", state, folder)


def _diverged(what: str, state: TrainingState, folder: Path | None) -> HepganError:
    return HepganError(
        f"{what} at step {state.step}; {stop_message(state, folder)};"
        " lower the learning rate or raise r1 and r2"
    )


def stop_message(state: TrainingState, folder: Path | None) -> str:
    """Where a training stopped, and what it left."""
    saved = serialization.newest_checkpoint(folder) if folder else None
    return (
        f"stopped at step {state.step}, the last checkpoint is {saved}"
        if saved
        else (f"stopped at step {state.step} without a checkpoint")
    )
