"""Small trainings on a Gaussian of known mean and covariance."""

import dataclasses
from collections.abc import Callable
from typing import Any

import awkward as ak
import numpy as np
import torch

from hepgan.data.encoding.encoding import Encoding, EncodingSettings
from hepgan.data.schema import Schema
from hepgan.gan.discriminator_input import DiscriminatorInput
from hepgan.gan.model import GAN
from hepgan.gan.networks import GANSettings
from hepgan.gan.training import loop as training
from hepgan.gan.training.settings import NetworkSettings, TrainSettings
from hepgan.gan.training.state import TrainingState
from hepgan.gan.training.validation import Validation

SCHEMA = Schema.from_table({"fields": {"v": {"shape": [2]}}})

MEAN = np.array([1.5, -0.5])

COVARIANCE = np.array([[1.0, 0.6], [0.6, 0.5]])

RATE = NetworkSettings(learning_rate=1e-3)

QUICK = TrainSettings(
    steps=20, batch_size=32, generator=RATE, discriminator=RATE, r1=0.1, r2=0.1,
    validate_every=5, checkpoint_every=10, log_every=5,
)  # fmt: skip

DENSE = GANSettings(
    latent=(3,),
    generator="DENSE|16|LRELU, DENSE|N|LINEAR",
    discriminator="DENSE|16|LRELU, DENSE|1|LINEAR",
)

NORMED = dataclasses.replace(
    DENSE,
    generator="DENSE|16|LINEAR, BNORM|0.1|1e-5, ACT|RELU, DENSE|N|LINEAR",
    discriminator="DENSE|16|LINEAR|SN, BNORM|0.1|1e-5, ACT|RELU, DENSE|1|LINEAR",
)


def gaussian(number: int = 4000) -> ak.Array:
    rng = np.random.default_rng(8)
    values = rng.multivariate_normal(MEAN, COVARIANCE, number).astype("f4")
    return ak.zip({"v": values}, depth_limit=1)


def start_training(
    settings: GANSettings = DENSE,
    train_settings: TrainSettings = QUICK,
    *steps: dict[str, Any],
    seed: int = 1,
) -> tuple[TrainingState, DiscriminatorInput]:
    events = gaussian()
    encoding = Encoding.fit(events, SCHEMA, EncodingSettings(steps), seed=seed)
    x, c = encoding.encode(events, seed=seed)
    discriminator_input = DiscriminatorInput(encoding, {}, x, c)
    gan = GAN.build(settings, encoding, seed=seed)
    return training.initial_state(
        gan, discriminator_input, x, c, [train_settings], seed=seed
    ), discriminator_input


def watch(validate: Callable[[GAN], float]) -> Validation:
    """Returns a validation with that score, on held-out events."""
    x = torch.randn(100, 2, generator=torch.Generator().manual_seed(3))
    return Validation(validate, (x, torch.empty(100, 0)))


def weights(state: TrainingState) -> dict[str, torch.Tensor]:
    parts = {"g": state.gan.generator, "d": state.gan.discriminator, "a": state.ema}
    return {f"{k}.{n}": t.clone() for k, m in parts.items() for n, t in m.state_dict().items()}


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert torch.equal(tensor, b[name]), name


class KilledError(BaseException):
    """Stands for a kill that no handler can catch."""
