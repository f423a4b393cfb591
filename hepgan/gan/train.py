"""Adversarial training: one step, and the loop around it.

``train_step`` is the whole of the algorithm. ``train`` repeats it, keeps a moving average of the generator, chooses the
average by a validation score, writes checkpoints and history, and stops cleanly when it is told to.
"""

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from hepgan.data.loader import UnsupervisedLoader
from hepgan.errors import HepganError, RunError
from hepgan.gan import checkpoint, history
from hepgan.gan.history import Row
from hepgan.gan.interrupt import stop_flag
from hepgan.gan.model import GAN
from hepgan.gan.objectives import OBJECTIVES, between, one_centred_penalty, zero_centred_penalty
from hepgan.gan.state import State
from hepgan.gan.view import View
from hepgan.layout.network import frozen_statistics


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """The table ``[train]`` of a run file.

    Attributes:
        steps: Generator steps.
        batch_size: Events a step.
        objective: See ``hepgan.gan.objectives``.
        learning_rate: Adam's, of generator and discriminator.
        betas: Adam's.
        decay: What the learning rates have fallen to at the last step, as a share, along a half cosine.
        r1: Weight of the zero-centred penalty on reference events, halved as in the literature.
        r2: The same on generated events.
        gradient_penalty: Weight of the one-centred penalty between both.
        critic_steps: Discriminator steps before each generator step.
        ema: Weight of the past in the moving average of the generator's weights; 0 leaves the average out.
        validate_every: Steps between validations; 0 leaves them out, and the last weights are kept.
        checkpoint_every: Steps between checkpoints; one is written at the end and at an interruption anyway.
        keep: How many checkpoints are kept.
        log_every: Steps between rows of the history; there is one at each validation and checkpoint too.
    """

    steps: int
    batch_size: int
    learning_rate: tuple[float, float]
    objective: Literal[
        "non-saturating",
        "least-squares",
        "sum-of-squares",
        "hinge",
        "wasserstein",
        "relativistic",
    ] = "relativistic"
    betas: tuple[float, float] = (0.0, 0.99)
    decay: float = 1.0
    r1: float = 0.0
    r2: float = 0.0
    gradient_penalty: float = 0.0
    critic_steps: int = 1
    ema: float = 0.999
    validate_every: int = 500
    checkpoint_every: int = 1000
    keep: int = 2
    log_every: int = 50

    def __post_init__(self) -> None:
        at_least = {
            1: ("steps", "batch_size", "critic_steps", "checkpoint_every", "keep", "log_every"),
            0: ("r1", "r2", "gradient_penalty", "validate_every"),
        }
        for least, names in at_least.items():
            for name in names:
                if not (value := getattr(self, name)) >= least:
                    raise RunError(f"[train] {name} = {value} should be {least} or more")
        if not 0 <= self.ema < 1:
            raise RunError(f"[train] ema = {self.ema} should be 0 or more and less than 1")
        if not 0 < self.decay <= 1:
            raise RunError(f"[train] decay = {self.decay} should be more than 0 and at most 1")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise RunError(
                f"[train] betas = {list(self.betas)} should be 0 or more and less than 1"
            )
        if not all(0 < rate < math.inf for rate in self.learning_rate):
            raise RunError(f"[train] learning_rate = {list(self.learning_rate)} should be positive")


def start(
    gan: GAN, view: View, x: Tensor, c: Tensor, settings: TrainSettings, *, seed: int
) -> State:
    """The state before the first step, for events ``x[E, F]``, ``c[E, C]`` already on the GAN's device."""
    with torch.no_grad():
        parts = [slice(start, start + 4096) for start in range(0, len(x), 4096)]
        seen = torch.cat([view(x[part], c[part]) for part in parts])
    networks = {"generator": gan.generator, "discriminator": gan.discriminator}
    optimizers: dict[str, Optimizer] = {
        name: Adam(network.parameters(), rate, betas=settings.betas, fused=True)
        for (name, network), rate in zip(networks.items(), settings.learning_rate, strict=True)
    }

    def fall(step: int) -> float:
        along = min(step / settings.steps, 1.0)
        return settings.decay + (1 - settings.decay) * (1 + math.cos(math.pi * along)) / 2

    return State(
        gan,
        copy.deepcopy(gan.generator).requires_grad_(False),
        optimizers,
        {name: LambdaLR(optimizer, fall) for name, optimizer in optimizers.items()},
        UnsupervisedLoader(seen, c, batch_size=settings.batch_size, seed=seed),
        torch.Generator(gan.device).manual_seed(seed),
    )


def train(
    state: State,
    view: View,
    settings: TrainSettings,
    *,
    validate: Callable[[GAN], float] | None = None,
    folder: Path | None = None,
    on_row: Callable[[Row], None] = lambda row: None,
) -> tuple[GAN, list[Row]]:
    """Trains from ``state`` to ``settings.steps``.

    Args:
        state: From ``start``, or from ``checkpoint.load`` to go on.
        view: What the discriminator is shown.
        settings: How.
        validate: A score of a GAN, the smaller the better, on events that are not trained on.
        folder: Where ``history.jsonl`` and ``checkpoints/`` go; nowhere without one.
        on_row: Called with each row of the history, for progress.

    Returns:
        The GAN with the generator that validated best (the last average without validation), and the history's new rows.

    Raises:
        HepganError: a loss is not finite; names the step and the last checkpoint.
        TrainingStopped: Ctrl-C; a checkpoint has been written.
    """
    rows: list[Row] = []

    def tell(row: Row) -> None:
        rows.append(row)
        history.append(folder, row)
        on_row(row)

    if state.step == 0 and (score := _validated(state, settings, validate)) is not None:
        # What training must beat where the encoding alone is a model already.
        tell({"step": 0, "seconds": 0.0, "validation": score})
    sums = torch.zeros(3, device=state.gan.device)
    began = time.perf_counter() - state.seconds
    batches = _endless(state.loader)
    cuda = [state.gan.device] if state.gan.device.type == "cuda" else []
    with stop_flag() as stopped, torch.random.fork_rng(devices=cuda):
        stop = False
        while state.step < settings.steps and not stop:
            # DROPOUT draws from torch's global generator, which a checkpoint does not hold.
            torch.manual_seed(state.noise.initial_seed() + state.step)
            losses = train_step(state, view, batches, settings)
            sums += torch.stack([*losses, torch.ones_like(losses[0])])
            state.step += 1
            _average(state, settings.ema)
            state.seconds = time.perf_counter() - began
            stop = stopped.is_set() or state.step == settings.steps
            if stop or _is_due(state.step, settings):
                tell(_row(state, sums, settings, validate, folder))
                sums.zero_()
            if folder and (stop or state.step % settings.checkpoint_every == 0):
                checkpoint.save(state, folder, keep=settings.keep)
    if state.step < settings.steps:
        raise TrainingStopped(_last_words(state, folder))
    return finished(state), rows


def _is_due(step: int, settings: TrainSettings) -> bool:
    """Whether a row of the history is written: its losses are looked at before anything is kept."""
    every = settings.log_every, settings.checkpoint_every, settings.validate_every or math.inf
    return any(step % number == 0 for number in every)


class TrainingStopped(HepganError):  # noqa: N818
    """Training was stopped by Ctrl-C."""


def finished(state: State) -> GAN:
    """The GAN with the generator that validated best, or else the moving average."""
    generator = copy.deepcopy(state.average)
    if state.best:
        generator.load_state_dict(state.best)
    return dataclasses.replace(state.gan, generator=generator)


def train_step(
    state: State, view: View, batches: Iterator[tuple[Tensor, ...]], settings: TrainSettings
) -> tuple[Tensor, Tensor]:
    """Critic steps, then a generator step through the frozen discriminator. Returns both losses, without gradients."""
    gan = state.gan
    for _ in range(settings.critic_steps):
        seen, c = next(batches)
        with torch.no_grad(), frozen_statistics(gan.generator):
            fake = view(gan.generate(_noise(state, len(c)), c), c)
        loss_d = _discriminator_loss(gan, seen, fake, c, settings, state.noise)
        _descend(state, "discriminator", loss_d)
    with _frozen(gan.discriminator):
        fake = view(gan.generate(_noise(state, len(c)), c), c)
        objective = OBJECTIVES[settings.objective]
        judged = gan.judge(fake, c)
        with torch.no_grad():
            real = gan.judge(seen, c) if objective.paired else judged
        loss_g = objective.generator(real, judged)
        _descend(state, "generator", loss_g)
    return loss_d.detach(), loss_g.detach()


def _discriminator_loss(
    gan: GAN,
    seen: Tensor,
    fake: Tensor,
    c: Tensor,
    settings: TrainSettings,
    noise: torch.Generator,
) -> Tensor:
    seen = seen.detach().requires_grad_(settings.r1 > 0)
    fake = fake.detach().requires_grad_(settings.r2 > 0)
    real_logits, fake_logits = gan.judge(seen, c), gan.judge(fake, c)
    loss = OBJECTIVES[settings.objective].discriminator(real_logits, fake_logits)
    if settings.r1:
        loss = loss + settings.r1 / 2 * zero_centred_penalty(real_logits, seen)
    if settings.r2:
        loss = loss + settings.r2 / 2 * zero_centred_penalty(fake_logits, fake)
    if settings.gradient_penalty:
        points = between(seen, fake, noise)
        penalty = one_centred_penalty(gan.judge(points, c), points)
        loss = loss + settings.gradient_penalty * penalty
    return loss


def _noise(state: State, size: int) -> Tensor:
    shape = (size, *state.gan.latent)
    return torch.randn(shape, generator=state.noise, device=state.gan.device)


def _descend(state: State, name: str, loss: Tensor) -> None:
    optimizer = state.optimizers[name]
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    optimizer.step()
    if name == "generator":
        for schedule in state.schedules.values():
            schedule.step()


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
def _average(state: State, weight: float) -> None:
    # Early on, an average over 1000 steps would mostly remember the first weights.
    weight = min(weight, state.step / (state.step + 9))
    mine: list[Tensor] = list(state.average.parameters())
    new: list[Tensor] = list(state.gan.generator.parameters())
    torch._foreach_lerp_(mine, new, 1 - weight)
    for mine_, new_ in zip(state.average.buffers(), state.gan.generator.buffers(), strict=True):
        mine_.copy_(new_)


def _validated(
    state: State, settings: TrainSettings, validate: Callable[[GAN], float] | None
) -> float | None:
    """The score of the average, where it is time for one; the best weights are remembered."""
    if validate is None or not settings.validate_every or state.step % settings.validate_every:
        return None
    score = validate(dataclasses.replace(state.gan, generator=state.average))
    if score < state.best_score:
        state.best_score, state.best_step = score, state.step
        weights = state.average.state_dict()
        state.best = {name: value.detach().clone() for name, value in weights.items()}
    return score


def _row(
    state: State,
    sums: Tensor,
    settings: TrainSettings,
    validate: Callable[[GAN], float] | None,
    folder: Path | None,
) -> Row:
    """Mean losses since the last row, and the validation score where it is time for one.

    Raises:
        HepganError: a loss is not finite.
    """
    discriminator, generator, count = sums.tolist()
    for name, loss in (("discriminator", discriminator), ("generator", generator)):
        if not math.isfinite(loss):
            raise HepganError(
                f"the {name}'s loss is {loss} at step {state.step}; {_last_words(state, folder)};"
                " lower the learning rate or raise r1 and r2"
            )
    row: Row = {
        "step": state.step,
        "seconds": round(state.seconds, 2),
        "discriminator_loss": discriminator / count,
        "generator_loss": generator / count,
    }
    score = _validated(state, settings, validate)
    return row if score is None else row | {"validation": score}


def _last_words(state: State, folder: Path | None) -> str:
    saved = checkpoint.newest(folder) if folder else None
    return (
        f"stopped at step {state.step}, the last checkpoint is {saved}"
        if saved
        else (f"stopped at step {state.step} without a checkpoint")
    )


def _endless(loader: UnsupervisedLoader) -> Iterator[tuple[Tensor, ...]]:
    while True:
        yield from loader
