"""Augmentation of what discriminators see."""

import dataclasses
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
from trainings import QUICK, assert_equal, weights

from hepgan.config import from_table, to_table
from hepgan.data.encoding.conditions import ConditionScale
from hepgan.data.encoding.encoding import Encoding, EncodingSettings
from hepgan.data.schema import Schema
from hepgan.errors import RunError
from hepgan.evaluation.observables.geometry import LayerGeometry
from hepgan.gan.discriminator_input import DiscriminatorInput, discriminator_parts
from hepgan.gan.model import GAN
from hepgan.gan.networks import DiscriminatorSettings, GANSettings
from hepgan.gan.training import checkpoint
from hepgan.gan.training import loop as training
from hepgan.gan.training.augmentation import adapt_probability, draw_augmentation
from hepgan.gan.training.schedule import Schedule
from hepgan.gan.training.settings import AugmentSettings, TrainSettings
from hepgan.gan.training.state import TrainingState

SCHEMA = Schema.from_table(
    {
        "fields": {
            "front": {"shape": [4, 3], "unit": "MeV"},
            "back": {"shape": [2, 3], "unit": "MeV"},
        },
        "conditions": {"energy": {"unit": "GeV"}},
    }
)
GEOMETRY = {"front": LayerGeometry(threshold=0.1), "back": LayerGeometry(threshold=0.2)}
NETWORKS = GANSettings(
    latent=(0,),
    generator="DENSE|N|LINEAR",
    discriminator=(
        DiscriminatorSettings("DENSE|8|LRELU, DENSE|1|LINEAR", "cells"),
        DiscriminatorSettings("CONV|3|2|2|1|1|0|0|LRELU, DENSE|1|LINEAR", "images"),
        DiscriminatorSettings("DENSE|4|LRELU, DENSE|1|LINEAR", "layer energies"),
        DiscriminatorSettings("DENSE|1|LINEAR", "event"),
    ),
)


def showers() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    energy = rng.uniform(1, 10, 300)
    front, back = rng.gamma(0.7, 5, (300, 4, 3)), rng.gamma(0.7, 5, (300, 2, 3))
    front[front < 0.5] = 0
    values = {"front": front, "back": back, "energy": energy}
    return {name: value.astype("f4") for name, value in values.items()}


def encoded(encoding: Encoding, events: dict[str, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    return encoding.encode(ak.zip(events, depth_limit=1), seed=1)


@pytest.fixture(scope="module")
def encoding() -> Encoding:
    scales = {"energy": ConditionScale((1.0, 10.0), "log")}
    events = ak.zip(showers(), depth_limit=1)
    return Encoding.fit(events, SCHEMA, EncodingSettings((), scales), seed=1)


def start(encoding: Encoding, **augment: Any) -> tuple[TrainingState, DiscriminatorInput]:
    x, c = encoded(encoding, showers())
    parts = discriminator_parts(NETWORKS, SCHEMA, GEOMETRY)
    inputs = DiscriminatorInput(encoding, x=x, c=c, **parts)
    gan = GAN.build(NETWORKS, encoding, seed=1, discriminator_shapes=inputs.shapes)
    settings = dataclasses.replace(
        QUICK, objective="non-saturating", augment=AugmentSettings(**augment)
    )
    return training.initial_state(gan, inputs, x, c, [settings], seed=1), inputs


@pytest.mark.parametrize(
    ("augment", "images"),
    [
        ({"reflect": ["rows"]}, [lambda e: e, lambda e: e[:, ::-1]]),
        ({"reflect": ["columns"]}, [lambda e: e, lambda e: e[:, :, ::-1]]),
        ({"rotate": True}, [lambda e: e, lambda e: np.roll(e, e.shape[1] // 2, 1)]),
    ],
    ids=["rows", "columns", "rotate"],
)
def test_augmented_inputs_are_those_of_transformed_events(
    encoding: Encoding, augment: dict[str, Any], images: list[Any]
) -> None:
    state, inputs = start(encoding, probability=1.0, **augment)
    events = showers()
    x, c = encoded(encoding, events)
    result = draw_augmentation(state, inputs, 300)(inputs(x, c), c)
    expected = []
    for image in images:
        moved = events | {name: image(events[name]) for name in GEOMETRY}
        expected.append(inputs(encoded(encoding, moved)[0], c)[:, :-18])
    close = [(result[:, :-18] - e).abs().amax(1) < 1e-3 for e in expected]
    assert torch.stack(close).any(0).all()
    assert 90 < int(close[1].sum()) < 210
    assert torch.equal(result[:, -18:], x)  # the event itself stays


def test_an_energy_scale_multiplies_all_energies_of_an_event(encoding: Encoding) -> None:
    state, inputs = start(encoding, energy_scale=0.2, probability=1.0)
    events = showers()
    x, c = encoded(encoding, events)
    seen = draw_augmentation(state, inputs, 300)(inputs(x, c), c)[:, :-18]
    cells = seen[:, :18] * inputs.cell_width + inputs.cell_mean
    thresholds = torch.tensor([0.1] * 12 + [0.2] * 6)
    factor = (torch.expm1(cells) * thresholds).sum(1) / x.sum(1)
    assert factor.log().std().item() == pytest.approx(0.2, rel=0.15)
    scaled = events | {n: events[n] * factor.numpy()[:, None, None] for n in GEOMETRY}
    expected = inputs(encoded(encoding, scaled)[0], c)[:, :-18]
    known = inputs(x, c)[:, :-18].abs() < 6  # layer energies are clipped to 6 widths
    assert known.float().mean() > 0.99
    torch.testing.assert_close(seen[known], expected[known], rtol=1e-3, atol=2e-3)


def test_probability_zero_changes_nothing_and_each_event_is_drawn_anew(encoding: Encoding) -> None:
    both = {"reflect": ["rows", "columns"], "rotate": True, "energy_scale": 0.1}
    state, inputs = start(encoding, probability=0.0, **both)
    x, c = encoded(encoding, showers())
    whole = inputs(x, c)
    torch.testing.assert_close(draw_augmentation(state, inputs, 300)(whole, c), whole, rtol=1e-4, atol=1e-4)  # fmt: skip
    state, inputs = start(encoding, probability=0.7, **both)
    augment = draw_augmentation(state, inputs, 300)
    assert torch.equal(augment(whole, c), augment(whole, c))  # a pair is transformed alike
    assert not torch.equal(augment(whole, c), draw_augmentation(state, inputs, 300)(whole, c))


def test_gradients_pass_through_augmentation(encoding: Encoding) -> None:
    state, inputs = start(encoding, reflect=["rows"], rotate=True, energy_scale=0.1)
    x, c = encoded(encoding, showers())
    x = x[:5].requires_grad_()
    draw_augmentation(state, inputs, 5)(inputs(x, c[:5]), c[:5]).square().sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize(("bias", "expected"), [(5.0, 0.54), (-5.0, 0.46)])
def test_an_adaptive_probability_follows_the_sign_of_the_logits(
    encoding: Encoding, bias: float, expected: float
) -> None:
    state, inputs = start(encoding, reflect=["rows"], adaptive=True, adapt_steps=100)
    for network in state.gan.discriminator.networks:
        list(network.parameters())[-1].data.fill_(bias * 100)
    x, c = encoded(encoding, showers())
    adapt_probability(state, inputs(x, c), c)
    assert state.augmentation.item() == pytest.approx(expected)
    state.step = 1
    adapt_probability(state, inputs(x, c), c)  # not due
    assert state.augmentation.item() == pytest.approx(expected)


@pytest.mark.parametrize("adaptive", [True, False])
def test_augmented_training_resumes_bit_for_bit(
    encoding: Encoding, tmp_path: Path, adaptive: bool
) -> None:
    augment = {"reflect": ["rows"], "energy_scale": 0.1, "adaptive": adaptive, "adapt_steps": 50}
    if not adaptive:
        augment["probability"] = Schedule(0.1, 0.8)
    whole, inputs = start(encoding, **augment)
    training.train(whole, inputs, folder=tmp_path)
    again, inputs = start(encoding, **augment)
    checkpoint.load_checkpoint(again, tmp_path / "checkpoints" / "step-00000010.safetensors")
    training.train(again, inputs)
    assert_equal(weights(whole), weights(again))
    assert torch.equal(whole.augmentation, again.augmentation)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "needs a transformation"),
        ({"reflect": ["x"]}, "is not one of rows, columns"),
        ({"rotate": True, "probability": 1.5}, r"\[train.augment\] probability = 1.5"),
        ({"rotate": True, "target": 1.0}, r"\[train.augment\] target = 1.0"),
        ({"rotate": True, "adapt_steps": 0}, r"\[train.augment\] adapt_steps = 0"),
        ({"energy_scale": -0.1}, r"\[train.augment\] energy_scale = -0.1"),
        ({"rotate": True, "adaptive": True, "probability": {"from": 0.1}}, "is no schedule"),
    ],
)
def test_invalid_augmentation_raises(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError, match=message):
        from_table(TrainSettings, to_table(QUICK) | {"augment": wrong}, where="train")
