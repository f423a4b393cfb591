"""Adversarial training: one step, and the loop around it.

``train_step`` is the whole of the algorithm. ``train`` repeats it, phase after phase, keeps a moving average of the generator,
chooses the average by a validation score, writes checkpoints and history, and stops cleanly when it is told to.
"""

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from hepgan.data.loaders.in_memory import UnsupervisedLoader
from hepgan.errors import RunError
from hepgan.gan import serialization
from hepgan.gan.devices import out_of_memory_as_run_error
from hepgan.gan.discriminator_input import DiscriminatorInput
from hepgan.gan.model import GAN, KeptStep
from hepgan.gan.training import distributed, history
from hepgan.gan.training.history import Row
from hepgan.gan.training.losses import check_incident, discriminator_loss, generator_loss
from hepgan.gan.training.optim import autocast, input_dropout, optimizer_step
from hepgan.gan.training.settings import TrainSettings
from hepgan.gan.training.signals import Stop, TrainingStopped, stop_flag
from hepgan.gan.training.state import (
    Origin,
    TrainingState,
    make_loader,
    make_optimizers,
    reseed_step,
    start_phase,
)
from hepgan.gan.training.validation import (
    Validation,
    check_weights,
    history_row,
    stop_message,
    validate_if_due,
)
from hepgan.layout.nn.modules import BatchNorm
from hepgan.layout.nn.network import frozen_statistics
from hepgan.random_streams import torch_generator


def initial_state(
    gan: GAN,
    view: DiscriminatorInput,
    x: Tensor,
    c: Tensor,
    phases: Sequence[TrainSettings],
    *,
    seed: int,
    origin: Origin = Origin(),  # noqa: B008  frozen
) -> TrainingState:
    """The state before the first step of the first phase, for events ``x[E, F]``, ``c[E, C]`` on the GAN's device.

    Raises:
        RunError: a loss that the events do not allow, a generator without weights, or a batch of one event where batches are
            normalized.
    """
    if any(phase.steps for phase in phases) and not any(True for _ in gan.generator.parameters()):
        raise RunError(
            "the generator has no weights to train; give it a layer with some, or set train.steps = 0"
        )
    for phase in phases:
        _check_batch(gan, distributed.local_batch_size(phase.batch_size))
    if any(phase.energy_constraint for phase in phases):
        check_incident(gan.encoding)
    with torch.no_grad():
        parts = [slice(start, start + 4096) for start in range(0, len(x), 4096)]
        seen = torch.cat([view(x[part], c[part]) for part in parts])
    average = copy.deepcopy(gan.generator).requires_grad_(False)
    noise = torch_generator(seed, "latent", 0, device=gan.device)
    loader = make_loader(seen, c, phases[0], seed=seed, phase=0)
    how = make_optimizers(gan, phases[0])
    return TrainingState(gan, average, tuple(phases), *how, loader, seed, noise, origin)


def _check_batch(gan: GAN, size: int) -> None:
    """Checks that batch normalization gets two numbers of each channel from ``size`` events."""
    for network in (gan.generator, gan.discriminator):
        for part in network.modules():
            if isinstance(part, BatchNorm) and part.values * size < 2:
                raise RunError(
                    f"batch normalization (BNORM) needs 2 events in the batch of each process, but there is {size};"
                    " raise [train] batch_size, or use LNORM"
                )


def train(
    state: TrainingState,
    view: DiscriminatorInput,
    *,
    watch: Validation | None = None,
    folder: Path | None = None,
    on_row: Callable[[Row], None] = lambda row: None,
) -> tuple[GAN, list[Row]]:
    """Trains from ``state`` to the end of its last phase.

    Args:
        state: From ``start``, or from ``checkpoint.load`` to go on.
        view: What the discriminator is shown.
        watch: What it is watched with; without it the last average is kept.
        folder: Where ``history.jsonl`` and ``checkpoints/`` go; nowhere without one.
        on_row: Called with each row of the history, for progress.

    Returns:
        The GAN with the generator that validated best (the last average without validation), and the history's new rows.

    Raises:
        HepganError: a loss or a weight is not finite; names the step and the last checkpoint.
        TrainingStopped: Ctrl-C, SIGTERM or SIGHUP; a checkpoint has been written.
    """
    rows: list[Row] = []

    def tell(row: Row) -> None:
        rows.append(row)
        history.append(folder, row)
        on_row(row)

    if state.step == 0 and (score := validate_if_due(state, watch, folder)) is not None:
        # What training must beat where the encoding alone is a model already.
        tell({"step": 0, "seconds": 0.0, "validation": score})
    cuda = [state.gan.device] if state.gan.device.type == "cuda" else []
    full = out_of_memory_as_run_error(
        "training", state.gan.device, hint="choose a smaller batch_size or layout"
    )
    with stop_flag() as stop, torch.random.fork_rng(devices=cuda), full:
        for phase in range(state.phase, len(state.phases)):
            if phase > state.phase:
                start_phase(state, phase, began=state.step)
            if number := _phase(state, view, watch, folder, tell, stop):
                raise TrainingStopped(stop_message(state, folder), number)
    return best_gan(state), rows


def _phase(
    state: TrainingState,
    view: DiscriminatorInput,
    watch: Validation | None,
    folder: Path | None,
    tell: Callable[[Row], None],
    stop: Stop,
) -> int:
    """Trains to the end of the present phase, or until it is stopped; returns the signal that stopped it, or else 0."""
    settings, gan = state.settings, state.gan
    sums = torch.zeros(3, device=gan.device)
    began = time.perf_counter() - state.seconds
    batches = _endless(state.loader)
    number = distributed.all_reduce_max(stop.number, gan.device)
    with ExitStack() as stack:
        stack.enter_context(input_dropout(gan.generator, settings.generator.dropout))
        stack.enter_context(input_dropout(gan.discriminator, settings.discriminator.dropout))
        for network in (gan.generator, gan.discriminator):
            stack.enter_context(autocast(network, settings.precision))
        while not state.is_over() and not number:
            reseed_step(state)
            losses = train_step(state, view, batches)
            sums += torch.stack([*losses, torch.ones_like(losses[0])])
            state.step += 1
            _average(state, settings.ema)
            state.seconds = time.perf_counter() - began
            # Several processes ask each other, which waits for the device, only where a row does so anyway.
            if distributed.world_size() == 1 or _is_due(state):
                number = distributed.all_reduce_max(stop.number, gan.device)
            if number or state.is_over() or _is_due(state):
                distributed.average_buffers(gan.generator, gan.discriminator, state.average)
                tell(history_row(state, view, sums, watch, folder))
                sums.zero_()
            due = (state.step - state.began) % settings.checkpoint_every == 0
            if number or state.is_over() or due:
                check_weights(state, folder)
                if folder:
                    serialization.save_checkpoint(state, folder, keep=settings.keep)
    return number


def _is_due(state: TrainingState) -> bool:
    """Whether a row of the history is written: its losses are looked at before anything is kept."""
    settings = state.settings
    every = settings.log_every, settings.checkpoint_every, settings.validate_every or math.inf
    return any((state.step - state.began) % number == 0 for number in every)


def best_gan(state: TrainingState) -> GAN:
    """The GAN with the generator that validated best, or else the moving average."""
    generator, kept = copy.deepcopy(state.average), KeptStep(state.step, state.step)
    if state.best:
        generator.load_state_dict(state.best)
        kept = KeptStep(state.best_step, state.step, state.best_score)
    return dataclasses.replace(state.gan, generator=generator, kept=kept)


def train_step(
    state: TrainingState, view: DiscriminatorInput, batches: Iterator[tuple[Tensor, ...]]
) -> tuple[Tensor, Tensor]:
    """Critic steps, then generator steps through the frozen discriminator. Returns the last losses, without gradients.

    The generator is first judged by the events that the last critic step has seen: made once, they are used twice.
    """
    gan, settings = state.gan, state.settings
    for left in reversed(range(settings.critic_steps)):
        seen, c = next(batches)
        with _no_grad_frozen(gan.generator) if left else nullcontext():
            x = gan.generate(_noise(state, len(c)), c)
            fake = view(x, c)
        loss_d = discriminator_loss(state, seen, fake, c)
        optimizer_step(
            gan.discriminator, state.optimizers["discriminator"], loss_d, settings.discriminator
        )
    with _frozen(gan.discriminator):
        for turn in range(settings.generator_steps):
            if turn:
                x = gan.generate(_noise(state, len(c)), c)
                fake = view(x, c)
            loss_g = generator_loss(gan, seen, fake, x, c, settings)
            optimizer_step(gan.generator, state.optimizers["generator"], loss_g, settings.generator)
    for schedule in state.schedules.values():
        schedule.step()
    return loss_d.detach(), loss_g.detach()


def _noise(state: TrainingState, size: int) -> Tensor:
    shape = (size * distributed.world_size(), *state.gan.latent)
    return distributed.local_shard(
        torch.randn(shape, generator=state.noise, device=state.gan.device)
    )


@contextmanager
def _no_grad_frozen(network: nn.Module) -> Iterator[None]:
    """While it lasts, ``network`` neither keeps what a gradient needs nor changes its statistics."""
    with torch.no_grad(), frozen_statistics(network):
        yield


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """While it lasts, gradients pass through ``network`` and leave no trace in it."""
    network.requires_grad_(requires_grad=False)
    try:
        with frozen_statistics(network):
            yield
    finally:
        network.requires_grad_()


@torch.no_grad()
def _average(state: TrainingState, weight: float) -> None:
    # Early on, an average over 1000 steps would mostly remember the first weights.
    weight = min(weight, state.step / (state.step + 9))
    mine: list[Tensor] = list(state.average.parameters())
    new: list[Tensor] = list(state.gan.generator.parameters())
    torch._foreach_lerp_(mine, new, 1 - weight)
    for mine_, new_ in zip(state.average.buffers(), state.gan.generator.buffers(), strict=True):
        mine_.copy_(new_)


def _endless(loader: UnsupervisedLoader) -> Iterator[tuple[Tensor, ...]]:
    while True:
        yield from loader
