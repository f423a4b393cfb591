"""Schedules of weights, learning rates, β₂ and the moving average."""

import dataclasses
import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from trainings import DENSE, QUICK, RATE, assert_equal, start_training, weights

from hepgan.config import from_table, to_table
from hepgan.errors import RunError
from hepgan.gan.training import checkpoint
from hepgan.gan.training import loop as training
from hepgan.gan.training.losses import discriminator_loss, generator_loss
from hepgan.gan.training.optim import schedule_optimizers
from hepgan.gan.training.schedule import Schedule
from hepgan.gan.training.settings import NetworkSettings, TrainSettings

QUARTER = (1 + math.cos(math.pi / 4)) / 2


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (Schedule(3.0), {0: 3.0, 100: 3.0}),
        (Schedule(3.0, 1.0), {0: 3.0, 25: 1 + 2 * QUARTER, 50: 2.0, 100: 1.0, 200: 1.0}),
        (Schedule(1.0, 3.0, "linear"), {0: 1.0, 25: 1.5, 50: 2.0, 100: 3.0}),
        (Schedule(3.0, 1.0, "linear", steps=20), {0: 3.0, 10: 2.0, 20: 1.0, 99: 1.0}),
        (Schedule(3.0, 1.0, "constant", steps=20), {0: 3.0, 19: 3.0, 20: 1.0, 99: 1.0}),
        (Schedule(3.0, 0.0, "linear", warmup=2), {0: 1.0, 1: 2.0, 2: 3.0, 51: 1.5, 100: 0.0}),
        (Schedule(3.0, 1.0, "linear", 20, 2), {0: 1.0, 1: 2.0, 2: 3.0, 12: 2.0, 22: 1.0}),
        (Schedule(3.0, schedule="constant", warmup=200), {0: 3 / 201, 100: 303 / 201}),
    ],
)
def test_a_schedule_has_the_value_of_its_formula(
    schedule: Schedule, values: dict[int, float]
) -> None:
    assert {step: schedule.at(step, 100) for step in values} == pytest.approx(values)


@pytest.mark.parametrize("shape", ["cosine", "linear"])
def test_short_spellings_of_learning_rate_and_transport_are_schedules(shape: Any) -> None:
    short = dataclasses.replace(
        QUICK, warmup_steps=4, final_lr_fraction=0.2, lr_schedule=shape, transport=0.5, final_transport_fraction=0.1
    )  # fmt: skip
    rate, transport = Schedule(1e-3, 2e-4, shape, warmup=4), Schedule(0.5, 0.05)
    for step in range(25):
        assert short.learning_rate(RATE, step) == pytest.approx(rate.at(step, 20))
        assert short.transport_weight(step) == pytest.approx(transport.at(step, 20))


SCHEDULED = dataclasses.replace(
    QUICK, r1=Schedule(1.0, 0.1), r2=Schedule(0.0, 0.3, "constant", 7), logit_centering=Schedule(0.1, 0.0, "linear"),
    transport=Schedule(0.2, 0.01, warmup=3), ema_half_life=Schedule(1.0, 8.0), gradient_penalty=Schedule(0.0, 1.0),
    generator=NetworkSettings(Schedule(1e-3, 1e-4, steps=15), betas=(0.0, Schedule(0.9, 0.99))),
    discriminator=NetworkSettings(1e-3, "adamw", betas=(0.5, Schedule(0.9, 0.99, "linear"))),
)  # fmt: skip
SQUARE = dataclasses.replace(DENSE, latent=(0,))


def test_schedules_survive_a_run_file() -> None:
    text = tomli_w.dumps(to_table(SCHEDULED))
    assert "from = " in text
    assert from_table(TrainSettings, tomllib.loads(text), where="train") == SCHEDULED


def test_a_scheduled_training_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole, discriminator_input = start_training(SQUARE, SCHEDULED)
    training.train(whole, discriminator_input, folder=tmp_path)
    again, discriminator_input = start_training(SQUARE, SCHEDULED)
    checkpoint.load_checkpoint(again, tmp_path / "checkpoints" / "step-00000010.safetensors")
    training.train(again, discriminator_input)
    assert_equal(weights(whole), weights(again))


def test_constant_schedules_train_as_numbers_do() -> None:
    rate = dataclasses.replace(RATE, learning_rate=Schedule(1e-3), betas=(0.0, Schedule(0.99)))
    settings = dataclasses.replace(
        QUICK, r1=Schedule(0.1), r2=Schedule(0.1), ema=Schedule(0.999), generator=rate, discriminator=rate
    )  # fmt: skip
    results = []
    for train_settings in (QUICK, settings):
        state, discriminator_input = start_training(train_settings=train_settings)
        training.train(state, discriminator_input)
        results.append(weights(state))
    assert_equal(*results)


def test_learning_rates_and_beta_change_and_the_averages_of_the_optimizer_stay() -> None:
    state, discriminator_input = start_training(SQUARE, SCHEDULED)
    training.train(state, discriminator_input)
    optimizer = state.optimizers["generator"]
    assert {value["step"].item() for value in optimizer.state.values()} == {20.0}
    (group,) = optimizer.param_groups
    assert group["betas"] == (0.0, pytest.approx(Schedule(0.9, 0.99).at(19, 20)))
    schedule_optimizers(state.optimizers, SCHEDULED, 15)
    assert group["lr"] == pytest.approx(1e-4)


@pytest.mark.parametrize("name", ["r1", "r2", "gradient_penalty", "logit_centering"])
@pytest.mark.parametrize("step", [0, 5, 20])
def test_weights_of_the_discriminators_loss_follow_their_schedule(name: str, step: int) -> None:
    losses = []
    schedule = Schedule(2.0, 0.0, "linear")
    for weight in (schedule, schedule.at(step, 20)):
        state, _ = start_training(train_settings=dataclasses.replace(QUICK, **{name: weight}))
        x, c = next(iter(state.loader))
        state.step = step
        training.reseed_step(state)
        losses.append(discriminator_loss(state, x, x.flip(0), x, c).item())
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", ["transport", "feature_matching"])
def test_weights_of_the_generators_loss_follow_their_schedule(name: str) -> None:
    values = []
    schedule = Schedule(2.0, 0.5, "linear")
    for weight in (schedule, schedule.at(5, 20), 0.0):
        state, _ = start_training(SQUARE, dataclasses.replace(QUICK, **{name: weight}))
        x, c = next(iter(state.loader))
        z = torch.randn(len(c), 2, generator=torch.Generator().manual_seed(7))
        fake = state.gan.generate(z, c)
        state.step = 5
        values.append(generator_loss(state, x, fake, fake, z, c).item())
    assert values[0] == values[1] != values[2]


def test_half_life_is_the_number_of_steps_after_which_a_weight_counts_half() -> None:
    settings = dataclasses.replace(QUICK, ema_half_life=Schedule(5.0, 10.0, "constant", 3))
    assert settings.ema_decay(0) ** 5 == pytest.approx(0.5)
    assert settings.ema_decay(3) ** 10 == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"r1": {"from": -1.0}}, r"\[train\] r1 = "),
        ({"r1": {"from": 1.0, "to": -1.0}}, r"\[train\] r1 = "),
        ({"ema": {"from": 0.9, "to": 1.0}}, r"\[train\] ema = "),
        ({"r1": {"from": 1.0, "steps": -1}}, "should be 0 or more"),
        ({"r1": {"from": 1.0, "to": 2.0, "schedule": "constant"}}, "does not reach 'to'"),
        ({"r1": {"from": 1.0, "until": 2.0}}, "unknown key 'until' in \\[train.r1\\]"),
        ({"r1": {"to": 1.0}}, "needs the key 'from'"),
        ({"transport": {"from": 1.0}, "final_transport_fraction": 0.1}, "remove final_transport"),
        ({"generator": {"learning_rate": {"from": 0.0}}}, "learning_rate = "),
        ({"generator": {"learning_rate": 1.0, "betas": [0.0, {"from": 0.9, "to": 1.0}]}}, "betas"),
    ],
)
def test_invalid_schedules_raise(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError, match=message):
        from_table(TrainSettings, to_table(QUICK) | wrong, where="train")
