"""Losses against their formulas, penalties against analytic gradients."""

import dataclasses
import math

import pytest
import torch
from trainings import QUICK, start_training

from hepgan.errors import RunError
from hepgan.gan.training.loop import train
from hepgan.gan.training.objectives import (
    OBJECTIVES,
    Batch,
    interpolate,
    one_centered_penalty,
    register_objective,
    zero_centered_penalty,
)

REAL, FAKE = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([-0.3, 0.7, 1.1])


def batch(real: torch.Tensor, fake: torch.Tensor) -> Batch:
    none = torch.empty(3, 0)
    return Batch(real, fake, none, none, none, none)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


EXPECTED = {
    "non-saturating": (
        -mean([math.log(sigmoid(r)) for r in REAL.tolist()])
        - mean([math.log(1 - sigmoid(f)) for f in FAKE.tolist()]),
        -mean([math.log(sigmoid(f)) for f in FAKE.tolist()]),
    ),
    "least-squares": (
        (mean([(r - 1) ** 2 for r in REAL.tolist()]) + mean([f**2 for f in FAKE.tolist()])) / 2,
        mean([(f - 1) ** 2 for f in FAKE.tolist()]) / 2,
    ),
    "sum-of-squares": (
        mean([(1 - sigmoid(r)) ** 2 for r in REAL.tolist()])
        + mean([sigmoid(f) ** 2 for f in FAKE.tolist()]),
        mean([(1 - sigmoid(f)) ** 2 for f in FAKE.tolist()]),
    ),
    "hinge": (
        mean([max(0, 1 - r) for r in REAL.tolist()]) + mean([max(0, 1 + f) for f in FAKE.tolist()]),
        -mean(FAKE.tolist()),
    ),
    "wasserstein": (mean(FAKE.tolist()) - mean(REAL.tolist()), -mean(FAKE.tolist())),
    "relativistic": (
        mean([math.log1p(math.exp(f - r)) for r, f in zip(REAL.tolist(), FAKE.tolist(), strict=True)]),
        mean([math.log1p(math.exp(r - f)) for r, f in zip(REAL.tolist(), FAKE.tolist(), strict=True)]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(EXPECTED))
def test_objective_equals_its_formula(name: str) -> None:
    objective, (discriminator, generator) = OBJECTIVES[name], EXPECTED[name]
    assert objective.discriminator(batch(REAL, FAKE)).item() == pytest.approx(
        discriminator, rel=1e-5
    )
    assert objective.generator(batch(REAL, FAKE)).item() == pytest.approx(generator, rel=1e-5)


@pytest.mark.parametrize("name", list(EXPECTED))
def test_objectives_pull_in_opposite_directions(name: str) -> None:
    fake = torch.tensor([0.3, 0.7, 0.9]).requires_grad_()
    (up,) = torch.autograd.grad(OBJECTIVES[name].discriminator(batch(REAL, fake)), fake)
    (down,) = torch.autograd.grad(OBJECTIVES[name].generator(batch(REAL, fake)), fake)
    assert (up > 0).all()
    assert (down < 0).all()


def test_penalties_of_a_linear_function_follow_from_its_slope() -> None:
    x = torch.randn(7, 3, requires_grad=True)
    slope = torch.tensor([1.0, 2.0, 2.0])
    assert zero_centered_penalty(x @ slope, x).item() == pytest.approx(9.0, rel=1e-5)
    assert one_centered_penalty(x @ slope, x).item() == pytest.approx(4.0, rel=1e-5)


def test_penalty_trains_the_network() -> None:
    weight = torch.tensor([[3.0, 0.0]], requires_grad=True)
    x = torch.randn(5, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(zero_centered_penalty(x @ weight.T, x), weight)
    torch.testing.assert_close(gradient, 2 * weight.detach())


def test_interpolated_points_lie_on_the_line() -> None:
    real, fake = torch.zeros(100, 2), torch.tensor([[1.0, 2.0]]).repeat(100, 1)
    fraction = torch.rand(100, generator=torch.Generator().manual_seed(1))
    points = interpolate(real, fake, fraction)
    assert points.requires_grad
    torch.testing.assert_close(points[:, 0], fraction)
    torch.testing.assert_close(points[:, 1], 2 * fraction)


def test_a_loss_that_is_no_scalar_raises() -> None:
    @register_objective("test-vector")
    class Vector:
        @staticmethod
        def discriminator(batch: Batch) -> torch.Tensor:
            return batch.fake - batch.real

        generator = discriminator

    try:
        with pytest.raises(RunError, match=r"the shape \[32\]; return a scalar, the mean over"):
            train(
                *start_training(train_settings=dataclasses.replace(QUICK, objective="test-vector"))
            )
    finally:
        del OBJECTIVES["test-vector"]


def test_registered_objectives_see_events_noise_and_conditions() -> None:
    """The generator's loss depends only on the noise and the events; the discriminator's is 0."""
    batches: list[Batch] = []

    @register_objective("test-distance")
    class Distance:
        @staticmethod
        def discriminator(batch: Batch) -> torch.Tensor:
            return 0 * (batch.real - batch.fake).mean()

        @staticmethod
        def generator(batch: Batch) -> torch.Tensor:
            batches.append(batch)
            return (batch.generated.mean(0) - batch.events.mean(0)).square().sum()

    try:
        state, discriminator_input = start_training(
            train_settings=dataclasses.replace(
                QUICK, objective="test-distance", steps=300, r1=0.0, r2=0.0
            )
        )
        before = [weight.clone() for weight in state.gan.discriminator.parameters()]
        train(state, discriminator_input)
    finally:
        del OBJECTIVES["test-distance"]
    batch = batches[-1]
    assert batch.events.shape == batch.generated.shape == (QUICK.batch_size, 2)
    assert batch.noise.shape == (QUICK.batch_size, *state.gan.latent)
    assert batch.conditions.shape == (QUICK.batch_size, 0)
    assert batch.real.shape == batch.fake.shape == (QUICK.batch_size,)
    for old, new in zip(before, state.gan.discriminator.parameters(), strict=True):
        assert torch.equal(old, new)
    distances = [(b.generated.mean(0) - b.events.mean(0)).square().sum().item() for b in batches]
    assert sum(distances[-5:]) < sum(distances[:5]) / 2


def test_an_unknown_objective_raises_with_the_nearest_name() -> None:
    with pytest.raises(RunError, match="unknown objective 'hing'; did you mean 'hinge'"):
        dataclasses.replace(QUICK, objective="hing")


def test_registering_an_objective_name_twice_raises() -> None:
    with pytest.raises(RunError, match="there is an objective 'hinge' already"):
        register_objective("hinge")(type("Mine", (), {"generator": None, "discriminator": None}))
