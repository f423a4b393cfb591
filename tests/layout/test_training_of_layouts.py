"""Layouts train: convolutions and reshapes in either network learn digits, and the published pairs take their steps."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hepgan import pipeline as library
from hepgan.evaluation.metrics import digits, fpd
from hepgan.gan.training import history
from hepgan.gan.training.loop import train_step
from hepgan.layout.zoo import published_layouts
from hepgan.pipeline import validation
from hepgan.pipeline.training import read_events

IMAGE = {
    "gan.initialization": "HE",
    "gan.input": [1, 28, 28],
    "schema.conditions": {},
    "encoding.conditions": {},
    "train.ema": 0.99,
    "train.final_lr_fraction": 1.0,
}
CONVOLUTIONS = (
    "DENSE|16*7*7|RELU, RESHAPE|16|7|7, TCONV|8|4|4|2|2|1|1|RELU, TCONV|1|4|4|2|2|1|1|TANH"
    "## CONV|8|4|4|2|2|1|1|LRELU, CONV|16|4|4|2|2|1|1|LRELU, RESHAPE|FLAT, DENSE|1|SIGMOID"
)
RESHAPES = (
    "DENSE|196|RELU, RESHAPE|4|7|7, UPSAMPLE|2|2, CONV|16|3|3|1|1|1|1|RELU, RESHAPE|FLAT, DENSE|N|TANH"
    "## DENSE|196|LRELU, RESHAPE|4|7|7, CONV|16|3|3|1|1|1|1|LRELU, RESHAPE|FLAT, DENSE|1|SIGMOID"
)


def image_run(layout: str, steps: int, rate: float, latent: list[int]) -> library.RunConfig:
    rates = {f"train.{name}.learning_rate": rate for name in ("generator", "discriminator")}
    every = {"train.validate_every": steps // 4, "train.log_every": 10, "train.batch_size": 32}
    gan = {"gan.layout": layout, "gan.latent": latent, "train.steps": steps}
    table = {"gan.generator": "", "gan.discriminator": "", **IMAGE, **gan, **rates, **every}
    return library.load("mnist", table)


@pytest.fixture(autouse=True)
def small_validations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "VALIDATED", 500)


def assert_learns(run: library.RunConfig, folder: Path) -> None:
    """The generator's loss falls, and its images are far from noise, by the digit classifier's features."""
    gan, _ = library.train(run, folder, device="cpu")
    losses = [row["generator_loss"] for row in history.read(folder) if row["step"]]
    assert losses[-1] < 0.6 * max(losses)
    real = np.asarray(read_events(run)["test"]["image"])
    expected = digits.digit_scores(real).features

    def distance(images: np.ndarray[Any, Any]) -> float:
        return fpd.frechet_distance(expected, digits.digit_scores(images).features)

    generated = np.asarray(gan.sample(2000, seed=5)["image"])
    noise = np.random.default_rng(5).permuted(real, axis=1)
    assert distance(generated) < 0.5 * distance(noise)


def test_convolutions_in_either_network_learn_digits(tmp_path: Path) -> None:
    assert_learns(image_run(CONVOLUTIONS, 120, 5e-3, [64]), tmp_path / "run")


def test_reshapes_in_the_middle_of_either_network_learn_digits(tmp_path: Path) -> None:
    assert_learns(image_run(RESHAPES, 400, 2e-3, [64]), tmp_path / "run")


def calorimeter_run(layout: str, batch: int) -> library.RunConfig:
    """``calogan``'s own units: cells in GeV, the energy as a share of 100 GeV."""
    to_gev = {"step": "scale", "range": [0.0, 1e5], "to": [0.0, 100.0], "clip": False}
    return library.load(
        "showers-fast",
        {
            "gan": {"layout": layout, "latent": [1024], "initialization": "XAVIERUNIFORM"},
            "encoding.steps": [to_gev],
            "encoding.conditions.energy.scale": "fraction",
            "train": {
                "steps": 4,
                "batch_size": batch,
                "objective": "non-saturating",
                "generator": {"learning_rate": 2e-4, "betas": [0.5, 0.999]},
                "discriminator": {"learning_rate": 2e-5, "betas": [0.5, 0.999]},
            },
        },
    )


def test_the_published_calogan_networks_train_on_showers() -> None:
    """All layers of the paper's two networks, 32 million weights, move on real showers."""
    run = calorimeter_run("calogan", batch=4)
    prepared = library.prepare(run, device=torch.device("cpu"))
    state, discriminator_input = prepared.state, prepared.discriminator_input
    counts = [
        sum(p.numel() for p in network.parameters()) + statistics(network)
        for network in (state.gan.generator, state.gan.discriminator)
    ]
    assert counts == [29_726_376, 2_744_524]
    weights = [*state.gan.generator.parameters(), *state.gan.discriminator.parameters()]
    before = [p.detach().clone() for p in weights]
    batches = iter(state.loader)
    losses = [
        loss.item() for _ in range(2) for loss in train_step(state, discriminator_input, batches)
    ]
    assert all(map(math.isfinite, losses))
    assert not any(torch.equal(a, b) for a, b in zip(before, weights, strict=True))
    energies = state.loader.tensors[0].sum(1) / (100 * state.loader.tensors[1][:, 0])
    assert 0.5 < energies.mean() < 1.0  # cells in GeV and E/100 GeV fit each other


def statistics(network: torch.nn.Module) -> int:
    """Running means and variances, which the papers count among the parameters."""
    return sum(b.numel() for name, b in network.named_buffers() if "running" in name)


@pytest.mark.parametrize("name", ["tmva-default", "tmva-tutorial", "tmva-slides", "dcgan-28", "residual-28"])  # fmt: skip
def test_named_image_layouts_train_on_digits(name: str) -> None:
    published = published_layouts()[name]
    latent = list(published.noise or published.input)
    run = image_run(name, 10, 1e-4, latent)
    shape = [1, 28, 28] if len(published.input) == 3 else []
    run = library.replaced(run, {"gan.input": shape, "train.batch_size": 8})
    prepared = library.prepare(run, device=torch.device("cpu"))
    batches = iter(prepared.state.loader)
    losses = [
        loss.item()
        for _ in range(2)
        for loss in train_step(prepared.state, prepared.discriminator_input, batches)
    ]
    assert all(map(math.isfinite, losses))
