"""Synchronization and precision of a training step, with the networks of ``test_loop``."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from trainings import DENSE, MEAN, NORMED, QUICK, assert_equal, start_training, weights

from hepgan.gan.model import GANSettings
from hepgan.gan.training import checkpoint
from hepgan.gan.training import loop as training
from hepgan.gan.training.losses import discriminator_loss
from hepgan.gan.training.optim import Update, autocast, make_optimizer, optimizer_step
from hepgan.gan.training.schedule import Schedule
from hepgan.gan.training.settings import NetworkSettings, TrainSettings

HALF = dataclasses.replace(QUICK, precision="bfloat16")
CONVOLUTIONS = dataclasses.replace(
    DENSE,
    generator="DENSE|8*2*2|LINEAR, RESHAPE|8|2|2, BNORM|0.9|1e-5, ACT|RELU, CONV|2|2|2|1|1|1|1|TANH, RESHAPE|FLAT, DENSE|N|LINEAR",
    discriminator="RESHAPE|1|1|2, CONV|4|1|1|1|1|0|0|LRELU, RESHAPE|FLAT, DENSE|8|LRELU|SN, DENSE|1|LINEAR",
)  # fmt: skip


class Waits(TorchDispatchMode):
    """Records operations in which the host reads a number, for which it must wait for the device."""

    count = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, inputs: Sequence[Any] = (), options: Any = None
    ) -> Any:
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*inputs, **(options or {}))


CHEAP = {"penalty": "finite-differences", "penalty_fraction": 0.25, "penalty_every": 2}


@pytest.mark.parametrize("clip", [0.0, 1.0])
@pytest.mark.parametrize(
    ("settings", "terms"),
    [
        (DENSE, {}),
        (NORMED, {}),
        (CONVOLUTIONS, {}),
        (dataclasses.replace(DENSE, latent=(0,)), CHEAP | {"transport": 0.1, "gradient_norm": 1.0}),
        (DENSE, {"r1": Schedule(1.0, 0.0), "ema_half_life": Schedule(1.0, 9.0)}),
    ],
    ids=["dense", "normed", "conv", "cheap", "scheduled"],
)
def test_the_host_synchronizes_only_at_logged_steps(
    settings: GANSettings, terms: dict[str, Any], clip: float
) -> None:
    """It waits as often in 60 steps as in 20, since both write one row."""
    results = []
    for steps in (20, 60):
        rate = NetworkSettings(Schedule(1e-3, 1e-4), clip=clip, l2=1e-4)
        train_settings = dataclasses.replace(
            QUICK, steps=steps, log_every=60, checkpoint_every=60, validate_every=0,
            gradient_penalty=1.0, critic_steps=2, generator=rate, discriminator=rate, **terms,
        )  # fmt: skip
        state, discriminator_input = start_training(settings, train_settings)
        with Waits() as waits:
            _, rows = training.train(state, discriminator_input)
        assert len(rows) == 1
        results.append(waits.count)
    assert results[0] == results[1] > 0


def test_a_step_requires_no_gradient_of_the_events() -> None:
    """The gradient of the weights equals, bit for bit, that of a backward pass through all inputs."""
    state, discriminator_input = start_training()
    real, c = next(iter(state.loader))
    noise = torch.randn(len(c), 3)
    fake = discriminator_input(state.gan.generate(noise, c), c)
    network = state.gan.discriminator
    torch.autograd.backward(discriminator_loss(state, real, fake, noise, c))
    plain = [w.grad.clone() for w in network.parameters()]
    events = real.requires_grad_()
    loss = (
        discriminator_loss(state, events, fake, noise, c)
        + state.gan.discriminate(events, c).sum() * 0
    )
    optimizer = make_optimizer(network, NetworkSettings(1e-9, "sgd"))
    optimizer_step(loss, Update(network, optimizer, QUICK.discriminator))
    assert events.grad is None
    for weight, gradient in zip(network.parameters(), plain, strict=True):
        assert torch.equal(weight.grad, gradient)


def test_half_precision_learns_as_well_as_single_precision() -> None:
    results = []
    for precision in ("float32", "bfloat16"):
        train_settings = TrainSettings(
            steps=300, batch_size=256, r1=0.5, r2=0.5, precision=precision, ema=0.95,
            generator=NetworkSettings(4e-3), discriminator=NetworkSettings(4e-3), validate_every=0,
        )  # fmt: skip
        state, discriminator_input = start_training(train_settings=train_settings)
        gan, _ = training.train(state, discriminator_input)
        generated = ak.to_numpy(gan.sample(20_000, seed=2)["v"])
        results.append((generated.mean(0), np.cov(generated.T)))
    assert np.linalg.norm(results[0][0] - MEAN) < np.linalg.norm(MEAN) / 2
    for whole, half in zip(*results, strict=True):
        np.testing.assert_allclose(half, whole, atol=0.05)


@pytest.mark.parametrize("settings", [DENSE, NORMED, CONVOLUTIONS], ids=["dense", "normed", "conv"])
def test_half_precision_is_limited_to_products_and_to_training(
    settings: GANSettings,
) -> None:
    state, discriminator_input = start_training(settings, HALF)
    g, c = state.gan.generator, torch.empty(64, 0)
    z = torch.randn(64, 3, generator=torch.Generator().manual_seed(1))
    plain = g(z, c)
    with autocast(g, "bfloat16"):
        half = g(z, c)
    assert half.dtype == plain.dtype == torch.float32
    assert not torch.equal(half, plain)
    torch.testing.assert_close(half, plain, rtol=0.05, atol=0.05)
    training.train(state, discriminator_input)
    assert {weight.dtype for weight in weights(state).values()} == {torch.float32}
    assert "forward" not in vars(g)


@pytest.mark.parametrize("settings", [DENSE, NORMED, CONVOLUTIONS], ids=["dense", "normed", "conv"])
def test_training_in_half_precision_resumes_bit_for_bit(
    tmp_path: Path, settings: GANSettings
) -> None:
    whole, discriminator_input = start_training(settings, HALF)
    training.train(whole, discriminator_input, folder=tmp_path)
    again, discriminator_input = start_training(settings, HALF)
    checkpoint.load_checkpoint(again, tmp_path / "checkpoints" / "step-00000010.safetensors")
    training.train(again, discriminator_input)
    assert_equal(weights(whole), weights(again))


def test_a_training_with_compile_compiles_the_input_of_its_discriminators(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function, **_: compiled.append(function) or function)  # fmt: skip
    results = []
    for wanted in (False, True):
        settings = dataclasses.replace(QUICK, steps=3, compile=wanted)
        state, discriminator_input = start_training(DENSE, settings)
        training.train(state, discriminator_input)
        results.append(weights(state))
        assert len(compiled) == wanted
    assert_equal(*results)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_on_a_gpu_learns_a_gaussian(precision: Any) -> None:
    train_settings = dataclasses.replace(QUICK, steps=1500, batch_size=256, precision=precision)
    state, discriminator_input = start_training(
        dataclasses.replace(DENSE, latent=(2,)), train_settings
    )
    device = torch.device("cuda")
    x, c = (tensor.to(device) for tensor in state.loader.tensors)
    gan = state.gan.to(device)
    gan, _ = training.train(
        training.initial_state(gan, discriminator_input.to(device), x, c, [train_settings], seed=1),
        discriminator_input,
    )
    generated = ak.to_numpy(gan.sample(20_000, seed=2)["v"])
    np.testing.assert_allclose(generated.mean(0), MEAN, atol=0.2)
