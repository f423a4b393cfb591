"""Gradient penalties by finite differences, lazily and on fractions of a batch; transport."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from trainings import DENSE, NORMED, QUICK, assert_equal, start_training, weights

from hepgan.errors import RunError
from hepgan.gan.training import checkpoint, distributed
from hepgan.gan.training import loop as training
from hepgan.gan.training.losses import (
    _zero_centered,
    discriminator_loss,
    generator_loss,
    noise_of_features,
    penalized_rows,
    with_gradient_norm,
)
from hepgan.gan.training.state import TrainingState, reseed_step
from hepgan.gan.two_stage import TwoStages

CHEAP = dataclasses.replace(
    QUICK, penalty="finite-differences", penalty_fraction=0.25, penalty_every=3
)
EXACT = dataclasses.replace(QUICK, penalty="exact")


def estimate(state: TrainingState, settings: Any, x: torch.Tensor) -> torch.Tensor:
    state.phases = (settings,)
    x = x.detach().requires_grad_()
    c = torch.empty(len(x), 0)
    return _zero_centered(state, x, state.gan.discriminate(x, c), c)


def test_finite_differences_estimate_the_exact_penalty_within_their_statistical_error() -> None:
    """The square of a normal number has twice the variance of its mean squared."""
    state, _ = start_training()
    x = torch.randn(8000, 2, generator=torch.Generator().manual_seed(2), requires_grad=True)
    logits = state.gan.discriminate(x, torch.empty(8000, 0))
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    squares = gradient.square().sum(1)
    whole = dataclasses.replace(CHEAP, penalty_fraction=1.0)
    error = math.sqrt(2 * squares.square().mean().item() / len(x))
    approximate, exact = estimate(state, whole, x), estimate(state, EXACT, x)
    assert exact.item() == pytest.approx(squares.mean().item(), rel=1e-5)
    assert abs(approximate.item() - exact.item()) < 4 * error
    part = squares[::4]  # every fourth event
    error = math.sqrt(2 * part.square().mean().item() / len(part))
    assert abs(estimate(state, CHEAP, x).item() - part.mean().item()) < 4 * error


def test_finite_differences_have_the_weight_gradient_of_the_exact_penalty() -> None:
    """Of a smooth discriminator: the exact penalty does not see that borders between linear regions move with the weights."""
    smooth = dataclasses.replace(DENSE, discriminator="DENSE|16|TANH, DENSE|1|LINEAR")
    state, _ = start_training(smooth)
    x = torch.randn(60_000, 2, generator=torch.Generator().manual_seed(2))
    settings = EXACT, dataclasses.replace(CHEAP, penalty_fraction=1.0)
    network = list(state.gan.discriminator.parameters())[::2]  # biases have none
    exact, approximate = (
        torch.cat([g.flatten() for g in torch.autograd.grad(estimate(state, s, x), network)])
        for s in settings
    )
    assert torch.linalg.norm(approximate - exact) < 0.05 * torch.linalg.norm(exact)


@pytest.mark.parametrize("penalty", ["exact", "finite-differences"])
def test_lazy_penalties_have_the_mean_weight_of_those_of_every_step(penalty: Any) -> None:
    terms = {"penalty": penalty, "r1": 2.0, "r2": 3.0, "gradient_penalty": 0.5}
    values: dict[int, list[float]] = {}
    for every in (1, 4):
        state, discriminator_input = start_training(
            train_settings=dataclasses.replace(QUICK, penalty_every=every, **terms)
        )
        x, c = next(iter(state.loader))
        z = torch.randn(len(c), 3, generator=torch.Generator().manual_seed(3))
        fake = discriminator_input(state.gan.generate(z, c), c)
        none = dataclasses.replace(QUICK, r1=0.0, r2=0.0)
        for step in (0, 1, 4):
            state.step = step
            reseed_step(state)
            loss = discriminator_loss(state, x, fake, z, c).item()
            plain = dataclasses.replace(state, phases=(none,))
            values.setdefault(every, []).append(
                loss - discriminator_loss(plain, x, fake, z, c).item()
            )
    assert values[4] == pytest.approx([4 * values[1][0], 0.0, 4 * values[1][2]], rel=1e-3)
    assert values[1][0] > 0


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.4, 1.0])
@pytest.mark.parametrize("world", [2, 3])
def test_penalized_events_do_not_depend_on_the_number_of_processes(
    monkeypatch: pytest.MonkeyPatch, world: int, fraction: float
) -> None:
    values = torch.arange(36.0)
    one = penalized_rows(36, fraction, torch.device("cpu"))
    monkeypatch.setattr(distributed, "world_size", lambda: world)
    chosen, means, noise = [], [], []
    for rank in range(world):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        rows = penalized_rows(36 // world, fraction, torch.device("cpu"))
        local = distributed.local_shard(values)[rows.local]
        chosen.append(local)
        means.append(rows.scale * local.mean().item())
        noise.append(torch.arange(rows.total)[rows.of_total])
    assert torch.equal(torch.cat(chosen), values[one.local])
    assert torch.equal(torch.cat(noise), torch.arange(one.total))
    assert sum(means) / world == pytest.approx(values[one.local].mean().item())


@pytest.mark.parametrize(
    "change",
    [
        {"discriminator": NORMED.discriminator},
        {"discriminator": "DENSE|16|LRELU, DROPOUT|0.5, DENSE|1|LINEAR|ZERO"},
    ],
    ids=["BNORM", "DROPOUT"],
)
def test_finite_differences_of_logits_that_are_random_or_mix_events_raise(change: Any) -> None:
    settings = dataclasses.replace(DENSE, **change)
    with pytest.raises(RunError, match="needs a discriminator without dropout, batch norm"):
        start_training(settings, CHEAP)
    start_training(settings, dataclasses.replace(CHEAP, penalty="exact"))


def test_finite_differences_of_half_precision_raise() -> None:
    with pytest.raises(RunError, match="needs precision = 'float32'"):
        dataclasses.replace(CHEAP, precision="bfloat16")


def test_cheap_penalties_transport_and_schedules_resume_bit_for_bit(tmp_path: Path) -> None:
    rate = dataclasses.replace(QUICK.generator, optimizer="adamw", weight_decay=0.1)
    settings = dataclasses.replace(
        CHEAP, transport=0.1, final_transport_fraction=0.2, logit_centering=0.01, warmup_steps=12,
        final_lr_fraction=0.1, lr_schedule="linear", generator=rate,
    )  # fmt: skip
    networks = dataclasses.replace(DENSE, latent=(0,))
    whole, discriminator_input = start_training(networks, settings)
    training.train(whole, discriminator_input, folder=tmp_path)
    again, discriminator_input = start_training(networks, settings)
    checkpoint.load_checkpoint(again, tmp_path / "checkpoints" / "step-00000010.safetensors")
    training.train(again, discriminator_input)
    assert_equal(weights(whole), weights(again))


def extra_loss(step: int, **terms: Any) -> tuple[float, torch.Tensor, torch.Tensor]:
    """Returns the change of the generator's loss by these terms, the generated events and their noise."""
    state, discriminator_input = start_training(dataclasses.replace(DENSE, latent=(0,)))
    state.step = step
    real, c = next(iter(state.loader))
    z = torch.randn(len(c), 2, generator=torch.Generator().manual_seed(7))
    x = state.gan.generate(z, c)
    values = []
    for settings in (dataclasses.replace(QUICK, **terms), QUICK):
        state.phases = (settings,)
        values.append(generator_loss(state, real, discriminator_input(x, c), x, z, c).item())
    return values[0] - values[1], x, z


@pytest.mark.parametrize(("step", "weight"), [(0, 0.5), (10, 0.3), (20, 0.1)])
def test_transport_is_the_mean_squared_distance_from_the_noise_with_a_falling_weight(
    step: int, weight: float
) -> None:
    extra, x, z = extra_loss(step, transport=0.5, final_transport_fraction=0.2)
    assert extra == pytest.approx(weight * (x - z).square().mean().item(), rel=1e-4)


def test_transport_of_two_stages_compares_energies_with_their_own_noise() -> None:
    """A generator that returns its noise has no distance from it."""

    class Same(torch.nn.Module):
        def forward(self, noise: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
            return noise

    state, _ = start_training()
    gan = dataclasses.replace(state.gan, generator=TwoStages(None, Same(), energy_noise=2))
    noise = torch.randn(4, 5)
    assert torch.equal(noise_of_features(gan, noise), gan.generate(noise, torch.empty(4, 0)))


def test_transport_with_noise_of_another_shape_raises() -> None:
    with pytest.raises(RunError, match=r"each of the 2 features .* but the noise has 3 values"):
        start_training(train_settings=dataclasses.replace(QUICK, transport=0.1))


@pytest.mark.parametrize("norm", [0.0, 0.7, 30.0])
def test_gradient_norm_scales_the_adversarial_gradient_and_not_transport(norm: float) -> None:
    """The gradient of an event is that of its own loss: B times that of the mean."""
    square = dataclasses.replace(DENSE, latent=(0,))
    settings = dataclasses.replace(QUICK, transport=0.3, objective="non-saturating")
    state, discriminator_input = start_training(square, settings)
    real, c = next(iter(state.loader))
    z = torch.randn(len(c), 2, generator=torch.Generator().manual_seed(7))
    x = state.gan.generate(z, c).detach().requires_grad_()
    logits = state.gan.discriminate(discriminator_input(x, c), c)
    (plain,) = torch.autograd.grad(torch.nn.functional.softplus(-logits).mean(), x)
    generated = discriminator_input(with_gradient_norm(x, norm), c)
    loss = generator_loss(state, real, generated, x, z, c)
    (gradient,) = torch.autograd.grad(loss, x)
    adversarial = gradient - 0.3 * 2 * (x - z) / x.numel()
    expected = plain * (norm / (32 * plain.norm(dim=1).mean()) if norm else 1.0)
    torch.testing.assert_close(adversarial, expected, rtol=1e-4, atol=1e-7)


def test_a_gradient_of_zero_stays_zero() -> None:
    x = torch.randn(5, 2, requires_grad=True)
    (with_gradient_norm(x, 1.0) * 0).sum().backward()
    assert torch.equal(x.grad, torch.zeros(5, 2))


def test_gradient_norm_makes_the_step_independent_of_the_scale_of_the_loss() -> None:
    """With plain gradient descent, whose step is the gradient itself."""
    results = []
    for scale in (1.0, 100.0):
        x = torch.randn(32, 2, generator=torch.Generator().manual_seed(7), requires_grad=True)
        (scale * with_gradient_norm(x, 1.0).square().sum(1).mean()).backward()
        results.append(x.grad)
    torch.testing.assert_close(*results)


def test_logit_centering_is_the_mean_squared_sum_of_the_logits() -> None:
    state, _ = start_training()
    x, c = next(iter(state.loader))
    fake = x.flip(0)
    plain = discriminator_loss(state, x, fake, x, c)
    state.phases = (dataclasses.replace(QUICK, logit_centering=0.3),)
    centered = discriminator_loss(state, x, fake, x, c)
    logits = state.gan.discriminate(x, c) + state.gan.discriminate(fake, c)
    expected = 0.3 * logits.square().mean().item()
    assert (centered - plain).item() == pytest.approx(expected, rel=1e-3)
