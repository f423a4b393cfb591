"""Event weights in the losses: weights of 1, 2 and −1 against repeated and removed events."""

import dataclasses

import pytest
import torch
from trainings import DENSE, QUICK, gaussian, start_training

from hepgan.errors import RunError
from hepgan.gan.training import loop, objectives
from hepgan.gan.training.losses import discriminator_loss
from hepgan.gan.training.objectives import Batch

MEANS = (
    "non-saturating",
    "least-squares",
    "sum-of-squares",
    "hinge",
    "wasserstein",
    "relativistic",
)
"""Objectives whose losses are means over events or pairs."""


def batch(conditions: int, number: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return Batch(
        normal(number), normal(number), normal(number, 3), normal(number, 3),
        normal(number, 2), normal(number, conditions),
    )  # fmt: skip


@pytest.mark.parametrize("name", MEANS)
@pytest.mark.parametrize("loss", ["discriminator", "generator"])
def test_a_weight_of_two_is_a_repeated_event(name: str, loss: str) -> None:
    one = batch(conditions=1)
    rows = torch.tensor([0, 0, 1, 2, 2, 3, 4, 5])
    weights = torch.tensor([2.0, 1, 2, 1, 1, 1]) * 6 / 8
    function = getattr(objectives.OBJECTIVES[name], loss)
    weighted = function(one._replace(weights=weights))
    repeated = function(Batch(*(part[rows] for part in one[:6])))
    assert torch.isclose(weighted, repeated)


@pytest.mark.parametrize("name", MEANS)
def test_generated_events_without_conditions_are_not_weighted(name: str) -> None:
    objective = objectives.OBJECTIVES[name]
    one = batch(conditions=0)._replace(real=torch.zeros(6))
    weights = torch.tensor([3.0, -1, 1, 1, 1, 1])
    if not objective.paired:
        weighted = objective.discriminator(one._replace(weights=weights))
        assert torch.isclose(weighted, objective.discriminator(one))


def test_penalties_use_absolute_weights() -> None:
    state, _ = start_training(DENSE, QUICK)
    x, c = state.loader.tensors[0][:16], state.loader.tensors[1][:16]
    signs = torch.where(torch.arange(16) % 2 == 0, -1.0, 1.0)
    losses = []
    for r1 in (0.0, 1.0):
        state.phases = (dataclasses.replace(QUICK, r1=r1, r2=0.0),)
        losses += [discriminator_loss(state, x, x, x, c, w) for w in (signs, None)]
    assert torch.isclose(losses[2] - losses[0], losses[3] - losses[1])


def test_an_objective_that_ignores_weights_raises() -> None:
    @objectives.register_objective("unweighted test")
    class Unweighted:
        @staticmethod
        def discriminator(batch: Batch) -> torch.Tensor:
            return batch.fake.mean() - batch.real.mean()

        @staticmethod
        def generator(batch: Batch) -> torch.Tensor:
            return -batch.fake.mean()

    state, discriminator_input = start_training()
    x, c = state.loader.tensors
    phases = [dataclasses.replace(QUICK, objective="unweighted test")]
    try:
        with pytest.raises(RunError, match="does not use event weights"):
            loop.initial_state(
                state.gan, discriminator_input, x, c, phases, seed=1, weights=torch.ones(len(x))
            )
    finally:
        del objectives.OBJECTIVES["unweighted test"]


def test_training_moves_the_generated_mean_to_the_weighted_one() -> None:

    settings = dataclasses.replace(
        QUICK, steps=400, batch_size=256, r1=0.3, r2=0.3, validate_every=0, objective="relativistic"
    )
    state, discriminator_input = start_training(DENSE, settings, {"step": "standardize"})
    x, c = state.loader.tensors
    weights = torch.exp(0.7 * x[:, 0])
    weights[torch.rand(len(x), generator=torch.Generator().manual_seed(1)) < 0.1] *= -1
    weights /= weights.mean()
    expected = (weights[:, None] * x).mean(0)
    assert len(x) == len(gaussian())
    state = loop.initial_state(
        state.gan, discriminator_input, x, c, [settings], seed=1, weights=weights
    )
    gan, _ = loop.train(state, discriminator_input)
    noise = torch.randn(4000, *gan.latent, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        generated = gan.generate(noise, torch.empty(4000, 0))
    assert expected[0] > 0.5  # far from the unweighted mean, 0
    assert generated.mean(0)[0] == pytest.approx(float(expected[0]), abs=0.2)
