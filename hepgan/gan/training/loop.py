"""Adversarial training: the training loop and its step.

``train`` runs the phases. Each step draws its random numbers from (seed, step), updates the discriminator and the generator
(``train_step``) and the generator's moving average. Some steps also append to the history, validate, or write a checkpoint. The
weights of the moving average with the best validation score are returned.
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

from hepgan.data.loaders.dataset import EpochDataset
from hepgan.data.loaders.in_memory import UnsupervisedLoader
from hepgan.errors import RunError
from hepgan.gan.devices import out_of_memory_as_run_error
from hepgan.gan.discriminator_input import DiscriminatorInput
from hepgan.gan.model import GAN, KeptStep
from hepgan.gan.training import checkpoint, distributed, history
from hepgan.gan.training.augmentation import (
    adapt_probability,
    draw_augmentation,
    initial_probability,
)
from hepgan.gan.training.history import Row
from hepgan.gan.training.losses import (
    check_finite_differences,
    check_incident,
    check_transport,
    discriminator_loss,
    generator_loss,
    with_gradient_norm,
)
from hepgan.gan.training.objectives import objective_named
from hepgan.gan.training.optim import (
    Update,
    autocast,
    input_dropout,
    make_optimizers,
    optimizer_step,
    schedule_optimizers,
)
from hepgan.gan.training.schedule import ends
from hepgan.gan.training.settings import TrainSettings
from hepgan.gan.training.signals import Stop, TrainingStopped, stop_flag
from hepgan.gan.training.state import (
    Origin,
    TrainingState,
    reseed_step,
    restart_loader,
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
    discriminator_input: DiscriminatorInput,
    x: Tensor,
    c: Tensor,
    phases: Sequence[TrainSettings],
    *,
    seed: int,
    weights: Tensor | None = None,
    origin: Origin = Origin(),  # noqa: B008  frozen
    stream: EpochDataset | None = None,
) -> TrainingState:
    """Returns the state before the first step, for encoded events ``x[E, F]``, ``c[E, C]`` on the GAN's device.

    Args:
        gan: GAN with initial weights.
        discriminator_input: Input of the discriminator.
        x: Encoded training events, or a sample of those of the stream.
        c: Their conditions.
        phases: Settings of all phases.
        seed: Seed of all random streams.
        weights: Weights ``[E]`` of the events, 1 on average; ``None`` if they are all equal.
        origin: Fingerprints of the input.
        stream: Batches of discriminator inputs, conditions and weights (if they differ), for events that do not fit into memory.

    Raises:
        RunError: the loss or a penalty does not fit the events or the networks, the generator has no weights, batches of one event
            would be normalized, or an objective does not use weights.
    """
    if any(phase.steps for phase in phases) and not any(True for _ in gan.generator.parameters()):
        raise RunError(
            "the generator has no weights to train; add a layer with weights, or set train.steps = 0"
        )
    for phase in phases:
        if weights is not None and not objective_named(phase.objective).weighted:
            raise RunError(
                f"[train] objective = '{phase.objective}' does not use event weights; average with Batch.real_mean and Batch.fake_mean"
                " and register it with weighted=True, or train without [data] weight and without bootstrap ([ensemble] bootstrap = false)"
            )
        _check_batch_norm(gan, distributed.local_batch_size(phase.batch_size))
    if any(max(ends(phase.energy_constraint)) for phase in phases):
        check_incident(gan.encoding)
    if any(max(ends(phase.transport)) for phase in phases):
        check_transport(gan)
    features = discriminator_input.of_events(x[:16] if stream else x, c[:16] if stream else c)
    for phase in phases:
        if phase.finite_differences:
            with input_dropout(gan.discriminator, phase.networks["discriminator"].dropout):
                check_finite_differences(gan, features[:16], c[:16])
    loader = stream or UnsupervisedLoader(
        features, c,
        batch_size=distributed.local_batch_size(phases[0].batch_size), seed=seed, weights=weights,
        rank=distributed.rank(), world_size=distributed.world_size(),
    )  # fmt: skip
    encoding = discriminator_input.trained
    return TrainingState(
        gan=gan,
        ema=copy.deepcopy(gan.generator).requires_grad_(False),
        phases=tuple(phases),
        encoding=encoding,
        ema_encoding=copy.deepcopy(encoding).requires_grad_(False) if encoding else None,
        optimizers=make_optimizers(gan, phases[0], encoding),
        loader=restart_loader(loader, phases[0], seed=seed, phase=0),
        seed=seed,
        noise_generator=torch_generator(seed, "latent", 0, device=gan.device),
        origin=origin,
        augmentation=initial_probability(phases[0].augment, gan.device),
    )


def _check_batch_norm(gan: GAN, batch_size: int) -> None:
    """Checks that batch normalization gets at least two values per channel.

    Raises:
        RunError: it does not.
    """
    for network in (gan.generator, gan.discriminator):
        for module in network.modules():
            if isinstance(module, BatchNorm) and module.values * batch_size < 2:
                raise RunError(
                    f"batch normalization (BNORM) needs 2 events in the batch of each process, but there is {batch_size};"
                    " raise [train] batch_size, or use LNORM"
                )


def train(
    state: TrainingState,
    discriminator_input: DiscriminatorInput,
    *,
    validation: Validation | None = None,
    folder: Path | None = None,
    on_row: Callable[[Row], None] = lambda row: None,
) -> tuple[GAN, list[Row]]:
    """Trains from ``state`` to the end of its last phase.

    Args:
        state: State from ``initial_state``, or restored by ``checkpoint.load_checkpoint``.
        discriminator_input: Input of the discriminator.
        validation: Validation score and events; without it the last moving average is kept.
        folder: Folder of ``history.jsonl`` and ``checkpoints/``; nothing is written without one.
        on_row: Progress callback, called with each row of the history.

    Returns:
        The GAN with the generator of the best validation score (the last moving average without validation), and the new rows of
        the history.

    Raises:
        HepganError: a loss or a weight is not finite; names the step and the last checkpoint.
        TrainingStopped: Ctrl-C, SIGTERM or SIGHUP; a checkpoint has been written.
    """
    rows: list[Row] = []

    def add_row(row: Row) -> None:
        rows.append(row)
        history.append(folder, row)
        on_row(row)

    if state.step == 0 and (score := validate_if_due(state, validation, folder)) is not None:
        # The score to beat: the encoding alone may be a good model already.
        add_row({"step": 0, "seconds": 0.0, "validation": score})
    cuda = [state.gan.device] if state.gan.device.type == "cuda" else []
    memory = out_of_memory_as_run_error(
        "training", state.gan.device, hint="choose a smaller batch_size or layout"
    )
    with stop_flag() as stop, torch.random.fork_rng(devices=cuda), memory:
        for phase in range(state.phase, len(state.phases)):
            if phase > state.phase:
                start_phase(state, phase, phase_start=state.step)
            if number := _train_phase(
                state, discriminator_input, validation, folder, add_row, stop
            ):
                raise TrainingStopped(stop_message(state, folder), number)
    return best_gan(state), rows


def _train_phase(
    state: TrainingState,
    discriminator_input: DiscriminatorInput,
    validation: Validation | None,
    folder: Path | None,
    add_row: Callable[[Row], None],
    stop: Stop,
) -> int:
    """Trains to the end of the current phase or until a signal arrives; returns the number of the signal, or 0."""
    settings, gan = state.settings, state.gan
    networks = {"generator": gan.generator, "discriminator": gan.discriminator}
    loss_sums = torch.zeros(3, device=gan.device)  # discriminator, generator, number of steps
    start_time = time.perf_counter() - state.seconds
    batches = _endless(state.loader)
    number = distributed.all_reduce_max(stop.number, gan.device)
    with ExitStack() as stack:
        for name, network in networks.items():
            if one := settings.networks.get(name):
                stack.enter_context(input_dropout(network, one.dropout))
            stack.enter_context(autocast(network, settings.precision))
        if settings.compile:
            stack.enter_context(discriminator_input.compiled())
        while not state.is_over() and not number:
            reseed_step(state)
            losses = train_step(state, discriminator_input, batches)
            loss_sums += torch.stack([*losses, torch.ones_like(losses[0])])
            decay = settings.ema_decay(state.phase_step)
            state.step += 1
            _update_ema(state, decay)
            state.seconds = time.perf_counter() - start_time
            # Several processes must agree to stop, which waits for the device, so they do so only at rows, which wait anyway.
            if distributed.world_size() == 1 or _is_row_due(state):
                number = distributed.all_reduce_max(stop.number, gan.device)
            if number or state.is_over() or _is_row_due(state):
                distributed.average_buffers(gan.generator, gan.discriminator, state.ema)
                add_row(history_row(state, discriminator_input, loss_sums, validation, folder))
                loss_sums.zero_()
            checkpoint_due = state.phase_step % settings.checkpoint_every == 0
            if number or state.is_over() or checkpoint_due:
                check_weights(state, folder)
                if folder:
                    checkpoint.save_checkpoint(state, folder, keep=settings.keep)
    return number


def _is_row_due(state: TrainingState) -> bool:
    """Returns whether to write a history row; its losses are checked before a checkpoint or a validation."""
    settings = state.settings
    intervals = settings.log_every, settings.checkpoint_every, settings.validate_every or math.inf
    return any(state.phase_step % interval == 0 for interval in intervals)


def train_step(
    state: TrainingState,
    discriminator_input: DiscriminatorInput,
    batches: Iterator[tuple[Tensor, ...]],
) -> tuple[Tensor, Tensor]:
    """Runs the critic steps, then the generator steps, and returns the last losses (discriminator, generator), detached.

    The first generator step reuses the generated events of the last critic step.
    """
    gan, settings = state.gan, state.settings
    schedule_optimizers(state.optimizers, settings, state.phase_step)
    gradient_norm = state.value(settings.gradient_norm)
    for remaining in reversed(range(settings.critic_steps)):
        events, c, *weighted = next(batches)
        weights = weighted[0] if weighted else None
        noise = _noise(state, len(c))
        with _no_grad_frozen(gan.generator) if remaining else nullcontext():
            x = gan.generate(noise, c)
            generated = discriminator_input(with_gradient_norm(x, gradient_norm), c)
        augment = draw_augmentation(state, discriminator_input, len(c))
        seen = augment(events, c)
        loss_d = discriminator_loss(state, seen, augment(generated, c), noise, c, weights)
        if settings.discriminator and settings.adversarial:
            optimizer = state.optimizers["discriminator"]
            optimizer_step(loss_d, Update(gan.discriminator, optimizer, settings.discriminator))
            adapt_probability(state, seen, c)
    with _frozen(gan.discriminator):
        for number in range(settings.generator_steps):
            if number:
                noise = _noise(state, len(c))
                x = gan.generate(noise, c)
                generated = discriminator_input(with_gradient_norm(x, gradient_norm), c)
            augment = draw_augmentation(state, discriminator_input, len(c))
            seen, shown = augment(events, c), augment(generated, c)
            loss_g = generator_loss(state, seen, shown, x, noise, c, weights)
            optimizer_step(loss_g, *_generator_updates(state))
    return loss_d.detach(), loss_g.detach()


def _generator_updates(state: TrainingState) -> list[Update]:
    """Returns the updates of a generator step: of the generator, and of the encoding if it is trained in this phase."""
    settings, optimizers = state.settings, state.optimizers
    updates = [Update(state.gan.generator, optimizers["generator"], settings.generator)]
    if state.encoding and settings.encoding:
        updates.append(Update(state.encoding, optimizers["encoding"], settings.encoding))
    return updates


def _noise(state: TrainingState, batch_size: int) -> Tensor:
    """Draws the noise of the whole batch in each process and returns the local shard."""
    shape = (batch_size * distributed.world_size(), *state.gan.latent)
    return distributed.local_shard(
        torch.randn(shape, generator=state.noise_generator, device=state.gan.device)
    )


@contextmanager
def _no_grad_frozen(network: nn.Module) -> Iterator[None]:
    """Context manager in which ``network`` records no gradients and does not update its statistics."""
    with torch.no_grad(), frozen_statistics(network):
        yield


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Context manager in which gradients flow through ``network``, but neither its weights nor its statistics change."""
    network.requires_grad_(requires_grad=False)
    try:
        with frozen_statistics(network):
            yield
    finally:
        network.requires_grad_()


@torch.no_grad()
def _update_ema(state: TrainingState, decay: float) -> None:
    """Updates the moving averages of the weights of generator and encoding, and copies their buffers.

    Not ``torch.optim.swa_utils.AveragedModel``: it reads a counter on the host in each update, which would wait for the device.
    """
    # Early on, an average over 1000 steps would mostly consist of the initial weights.
    decay = min(decay, state.step / (state.step + 9))
    pairs: list[tuple[nn.Module, nn.Module]] = [(state.gan.generator, state.ema)]
    if state.encoding and state.ema_encoding:
        pairs.append((state.encoding, state.ema_encoding))
    for network, averaged in pairs:
        averages: list[Tensor] = list(averaged.parameters())
        weights: list[Tensor] = list(network.parameters())
        torch._foreach_lerp_(averages, weights, 1 - decay)
    for average, buffer in zip(state.ema.buffers(), state.gan.generator.buffers(), strict=True):
        average.copy_(buffer)


def _endless(loader: EpochDataset) -> Iterator[tuple[Tensor, ...]]:
    loader.load_state_dict(loader.state_dict())  # continue within the epoch
    while True:
        yield from loader


def best_gan(state: TrainingState) -> GAN:
    """Returns the GAN with the generator (and the encoding, if trained) of the best validation score, or of the moving average without validation."""
    generator, kept = copy.deepcopy(state.ema), KeptStep(state.step, state.step)
    trained, encoding = copy.deepcopy(state.ema_encoding), state.gan.encoding
    if state.best:
        generator.load_state_dict(state.best)
        kept = KeptStep(state.best_step, state.step, state.best_score)
    if trained and state.best:
        trained.load_state_dict(state.best_encoding)
    if trained:
        encoding = trained.encoding
    return dataclasses.replace(state.gan, generator=generator, encoding=encoding, kept=kept)
