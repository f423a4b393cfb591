"""Losses against their formulas, penalties against analytic gradients."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
from trainings import COVARIANCE, DENSE, MEAN, QUICK, assert_equal, start_training, weights

from hepgan.errors import RunError
from hepgan.gan.model import GAN
from hepgan.gan.training import checkpoint
from hepgan.gan.training.loop import train
from hepgan.gan.training.objectives import (
    OBJECTIVES,
    Batch,
    interpolate,
    one_centered_penalty,
    register_objective,
    zero_centered_penalty,
)
from hepgan.gan.training.settings import NetworkSettings, TrainSettings
from hepgan.gan.training.state import start_phase
from hepgan.pipeline import load

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


def with_conditions(number: int, seed: int) -> Batch:
    rng = np.random.default_rng(seed)
    events, generated = rng.normal(size=(2, number, 3))
    c = rng.uniform(size=(number, 2))
    parts = [torch.from_numpy(part).float() for part in (events, generated, c)]
    none = torch.zeros(number)
    return Batch(none, none, parts[0], parts[1], none, parts[2])


@pytest.mark.parametrize("weighted", [False, True])
def test_mmd_is_the_mean_over_pairs_of_different_events(weighted: bool) -> None:
    batch = with_conditions(7, 1)
    w = np.linspace(-0.5, 2.5, 7) if weighted else np.ones(7)
    batch = batch._replace(weights=torch.from_numpy(w).float() if weighted else None)
    c = batch.conditions.numpy()
    c = (c - c.mean(0)) / c.std(0)
    real, fake = batch.events.numpy(), batch.generated.numpy()

    def distance(a: Any, b: Any, i: int, j: int) -> float:
        return math.sqrt(np.square(a[i] - b[j]).mean() + np.square(c[i] - c[j]).mean())

    pairs = [(i, j) for i in range(7) for j in range(7) if i != j]
    expected = sum(
        w[i] * w[j] * (2 * distance(real, fake, i, j) - distance(real, real, i, j) - distance(fake, fake, i, j))
        for i, j in pairs
    ) / len(pairs)  # fmt: skip
    mmd = OBJECTIVES["mmd"].generator(batch)
    assert mmd.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_mmd_is_unbiased_for_equal_distributions_and_sees_wrong_conditions() -> None:
    """A generator that ignores the conditions has the right events and the wrong ones at each condition."""
    values, wrong = [], []
    for seed in range(200):
        batch = with_conditions(40, seed)
        values.append(OBJECTIVES["mmd"].generator(batch).item())
        c = batch.conditions[:, :1]
        shifted = batch.events + 3 * c, batch.generated + 3 * c.flip(0)
        batch = batch._replace(events=shifted[0], generated=shifted[1])
        wrong.append(OBJECTIVES["mmd"].generator(batch).item())
    error = np.std(values) / math.sqrt(len(values))
    assert abs(np.mean(values)) < 3 * error
    assert np.mean(wrong) > 5 * error


@pytest.mark.parametrize("case", ["one event", "no conditions", "one condition", "equal events"])
def test_mmd_of_degenerate_batches_is_finite_with_its_gradient(case: str) -> None:
    batch = with_conditions(1 if case == "one event" else 4, 1)
    if case == "no conditions":
        batch = batch._replace(conditions=torch.empty(4, 0))
    if case == "one condition":
        batch = batch._replace(conditions=torch.ones(4, 2))
    if case == "equal events":
        batch = batch._replace(generated=batch.events.clone(), conditions=torch.ones(4, 2))
    generated = batch.generated.requires_grad_()
    mmd = OBJECTIVES["mmd"].generator(batch._replace(generated=generated))
    mmd.backward()
    assert mmd.isfinite()
    assert generated.grad.isfinite().all()


ALONE = dataclasses.replace(DENSE, latent=(2,), generator="DENSE|N|LINEAR", discriminator="")
ALONE_TRAINING = TrainSettings(
    steps=400, batch_size=200, objective="mmd", generator=NetworkSettings(2e-2), ema=0.98, final_lr_fraction=0.02,
    validate_every=0, checkpoint_every=200, log_every=200,
)  # fmt: skip


def sliced_wasserstein() -> None:
    """Registers the objective of the documentation."""
    page = Path(__file__).parents[2] / "docs" / "own-objective.md"
    exec(page.read_text().split("```python")[1].split("```")[0], {"__name__": "page"})


@pytest.mark.parametrize("objective", ["mmd", "sliced-wasserstein"])
def test_a_generator_learns_a_gaussian_without_a_discriminator(
    objective: str,
) -> None:
    if objective not in OBJECTIVES:
        sliced_wasserstein()
    try:
        settings = dataclasses.replace(ALONE_TRAINING, objective=objective)
        state, discriminator_input = start_training(ALONE, settings)
        gan, rows = train(state, discriminator_input)
    finally:
        OBJECTIVES.pop("sliced-wasserstein", None)
    generated = ak.to_numpy(gan.sample(20_000, seed=2)["v"])
    np.testing.assert_allclose(generated.mean(0), MEAN, atol=0.1)
    np.testing.assert_allclose(np.cov(generated.T), COVARIANCE, atol=0.1)
    assert list(gan.discriminator.parameters()) == []
    assert rows[-1]["discriminator_loss"] == 0


def test_training_without_a_discriminator_resumes_bit_for_bit(tmp_path: Path) -> None:
    settings = dataclasses.replace(ALONE_TRAINING, steps=20, checkpoint_every=10, transport=0.1)
    whole, discriminator_input = start_training(ALONE, settings)
    gan, _ = train(whole, discriminator_input, folder=tmp_path)
    again, discriminator_input = start_training(ALONE, settings)
    checkpoint.load_checkpoint(again, tmp_path / "checkpoints" / "step-00000010.safetensors")
    train(again, discriminator_input)
    assert_equal(weights(whole), weights(again))
    gan.save(tmp_path / "gan")
    assert GAN.load(tmp_path / "gan", device="cpu").settings == ALONE


def test_a_phase_without_discriminator_leaves_it_unchanged() -> None:
    state, discriminator_input = start_training(train_settings=dataclasses.replace(QUICK, steps=5))
    alone = dataclasses.replace(QUICK, objective="mmd", r1=0.0, r2=0.0, discriminator=None, steps=5)
    before = {k: v.clone() for k, v in state.gan.discriminator.state_dict().items()}
    state.phases = (alone,)
    start_phase(state, 0, phase_start=0)
    train(state, discriminator_input)
    assert_equal(before, dict(state.gan.discriminator.state_dict()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"objective": "mmd", "r1": 1.0},
            "r1 needs a discriminator, but objective = 'mmd' has none",
        ),
        ({"discriminator": None}, "'relativistic' trains a discriminator"),
    ],
)
def test_settings_of_a_discriminator_that_is_not_there_raise(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(RunError, match=message):
        dataclasses.replace(QUICK, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gan.discriminator": ""}, "objective = 'relativistic' needs a discriminator"),
        ({"train.objective": "mmd", "train.r1": 0.0, "train.r2": 0.0}, "trains without a discriminator"),
    ],
)  # fmt: skip
def test_networks_and_objective_that_do_not_fit_raise(
    tiny_run: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(RunError, match=message):
        load(tiny_run, changes)
