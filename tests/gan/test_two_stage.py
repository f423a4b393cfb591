"""Two-stage generators: energies first, then cells conditioned on them; and the additional terms of the generator's loss."""

import dataclasses
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch

from hepgan.data.encoding.conditions import ConditionScale
from hepgan.data.encoding.encoding import Encoding, EncodingSettings
from hepgan.data.schema import Schema
from hepgan.errors import LayoutError, RunError
from hepgan.gan.discriminator_input import DiscriminatorInput
from hepgan.gan.model import GAN
from hepgan.gan.networks import EnergySettings, GANSettings, count_parameters
from hepgan.gan.training import checkpoint
from hepgan.gan.training import loop as training
from hepgan.gan.training.losses import discriminator_loss, energy_error, generator_loss
from hepgan.gan.training.settings import NetworkSettings, TrainSettings
from hepgan.gan.training.state import TrainingState
from hepgan.layout.nn.containers import Chain

SCHEMA = Schema.from_table(
    {
        "fields": {
            "front": {"shape": [2, 3], "unit": "MeV"},
            "back": {"shape": [4], "unit": "MeV"},
        },
        "conditions": {"energy": {"unit": "GeV"}},
        "incident": "energy",
    }
)
STEPS = (
    {"step": "layer_sums", "incident": "energy", "threshold": 0.01},
    {"step": "log", "threshold": 0.01},
    {
        "step": "copula",
        "condition": "energy",
        "censored_zeros": True,
        "windows": 6,
        "condition_on_first": ["appended"],
    },
)
BY_ENERGY = {"energy": ConditionScale((1.0, 100.0), "log")}
CELLS = GANSettings(
    latent=(0,),
    generator="RES[COND, DENSE|8|LRELU, DENSE|N|LINEAR]",
    discriminator="DENSE|8|LRELU, DENSE|1|LINEAR",
    energies=EnergySettings(),
)
BOTH = dataclasses.replace(
    CELLS,
    energies=EnergySettings(
        generator="COND, DENSE|8|LRELU, DENSE|N|LINEAR",
        discriminator="COND, DENSE|8|LRELU, DENSE|1|LINEAR",
        latent=(5,),
    ),
)
ONE = dataclasses.replace(CELLS, energies=None)
RATE = NetworkSettings(learning_rate=1e-3)
HOW = TrainSettings(
    steps=6, batch_size=16, generator=RATE, discriminator=RATE, r1=0.5, r2=0.5,
    validate_every=0, checkpoint_every=3,
)  # fmt: skip
MADE = slice(10, 12)


def showers(number: int = 600) -> ak.Array:
    rng = np.random.default_rng(4)
    energy, fraction = rng.uniform(1, 100, number), rng.beta(2, 5, number)
    front, back = rng.gamma(0.8, 1.0, (number, 2, 3)) + 0.1, rng.gamma(0.8, 1.0, (number, 4))
    front *= (900 * energy * (1 - fraction) / front.sum((1, 2)))[:, None, None]
    back *= (60 * energy * fraction / back.sum(1))[:, None]
    values = {"energy": energy, "front": front, "back": back}
    return ak.zip({k: v.astype("f4") for k, v in values.items()}, depth_limit=1)


@pytest.fixture(scope="module")
def encoding() -> Encoding:
    return Encoding.fit(showers(), SCHEMA, EncodingSettings(STEPS, BY_ENERGY), seed=1)


def start_training(
    encoding: Encoding, settings: GANSettings, train_settings: TrainSettings = HOW
) -> tuple[TrainingState, DiscriminatorInput]:
    x, c = encoding.encode(showers(), seed=1)
    discriminator_input = DiscriminatorInput(encoding, {}, x, c)
    gan = GAN.build(settings, encoding, seed=1)
    return training.initial_state(
        gan, discriminator_input, x, c, [train_settings], seed=1
    ), discriminator_input


def noise(gan: GAN, number: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(5)
    energy = np.linspace(2, 90, number)
    return (
        torch.randn(number, *gan.latent, generator=draw),
        gan.encoding.encode_conditions({"energy": energy}),
    )


def test_a_first_stage_without_a_network_passes_the_noise_through(encoding: Encoding) -> None:
    gan = GAN.build(CELLS, encoding, seed=1)
    z, c = noise(gan)
    assert gan.latent == (12,)
    assert torch.equal(gan.generate(z, c)[:, MADE], z[:, :2])
    assert gan.generate(z, c).shape == (50, 12)


def test_cells_depend_on_the_energies_and_energies_not_on_the_noise_of_the_cells(
    encoding: Encoding,
) -> None:
    gan = GAN.build(BOTH, encoding, seed=1)
    z, c = noise(gan)
    assert gan.latent == (15,)
    other_cells, other_energies = z.clone(), z.clone()
    other_cells[:, 5:] += 1
    other_energies[:, :5] += 1
    before = gan.generate(z, c)
    assert torch.equal(gan.generate(other_cells, c)[:, MADE], before[:, MADE])
    assert not torch.isclose(gan.generate(other_energies, c)[:, :10], before[:, :10]).all(1).any()


@pytest.mark.parametrize("settings", [CELLS, BOTH], ids=["cells", "both"])
def test_layer_sums_hold_for_any_output_of_the_stages(
    encoding: Encoding, settings: GANSettings
) -> None:
    gan = GAN.build(settings, encoding, seed=1)
    z, c = noise(gan)
    with torch.no_grad():
        x = gan.generate(3 * z, c)
    cells = encoding.decode_tensors(x, c)
    total = sum(part.flatten(1).sum(1) for part in cells.values())
    sums = encoding.steps[3].decode(x, c)[:, -1]
    expected = 1.005 * -torch.expm1(-sums).clamp_max(0) * 1000 * torch.linspace(2, 90, 50)
    torch.testing.assert_close(total, expected, rtol=1e-3, atol=0.02)


@pytest.mark.parametrize("settings", [CELLS, BOTH, ONE], ids=["cells", "both", "one"])
def test_parameters_of_all_stages_are_counted(encoding: Encoding, settings: GANSettings) -> None:
    gan = GAN.build(settings, encoding, seed=1)
    networks = {"generator": gan.generator, "discriminator": gan.discriminator}
    assert count_parameters(settings, encoding) == {
        name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()
    }


def test_the_loss_of_two_discriminators_is_their_sum(encoding: Encoding) -> None:
    state, _ = start_training(encoding, BOTH)
    real, c = next(iter(state.loader))
    fake = torch.randn(real.shape, generator=torch.Generator().manual_seed(2))
    noise = torch.empty(len(c), 0)
    both = state.gan.discriminator
    alone = 0.0
    for network, columns in zip(both.networks, (slice(0, 12), MADE), strict=True):
        one = dataclasses.replace(state.gan, discriminator=network, settings=ONE)
        part = dataclasses.replace(state, gan=one)
        alone += discriminator_loss(part, real[:, columns], fake[:, columns], noise, c).item()
    assert discriminator_loss(state, real, fake, noise, c).item() == pytest.approx(alone, rel=1e-5)


def test_both_stages_train_save_and_resume_bit_for_bit(encoding: Encoding, tmp_path: Path) -> None:
    state, discriminator_input = start_training(encoding, BOTH)
    before = {k: v.clone() for k, v in state.gan.generator.state_dict().items()}
    whole, _ = training.train(state, discriminator_input, folder=tmp_path)
    after = whole.generator.state_dict()
    assert not any(torch.equal(before[name], after[name]) for name in before if "weight" in name)
    again, discriminator_input = start_training(encoding, BOTH)
    checkpoint.load_checkpoint(again, tmp_path / "checkpoints" / "step-00000003.safetensors")
    resumed, _ = training.train(again, discriminator_input)
    assert all(torch.equal(t, after[n]) for n, t in resumed.generator.state_dict().items())
    whole.save(tmp_path)
    loaded = GAN.load(tmp_path)
    generated = [gan.sample(20, energy=50.0, seed=3) for gan in (whole, loaded)]
    assert ak.all(generated[0]["front"] == generated[1]["front"])


def test_invalid_stages_raise(encoding: Encoding) -> None:
    plain = Encoding.fit(showers(), SCHEMA, EncodingSettings((), BY_ENERGY), seed=1)
    with pytest.raises(RunError, match="this encoding appends none; add the step layer_sums"):
        GAN.build(CELLS, plain, seed=1)
    blind = dataclasses.replace(BOTH, discriminator_input="observables")
    with pytest.raises(RunError, match="first discriminator does not contain the event"):
        GAN.build(blind, encoding, seed=1)
    with pytest.raises(LayoutError, match="DENSEE"):
        EnergySettings(generator="DENSEE|3")
    with pytest.raises(RunError, match="without a generator takes no discriminator"):
        EnergySettings(discriminator="DENSE|1|LINEAR")
    with pytest.raises(RunError, match=r"latent = \[-1\] should be a shape"):
        EnergySettings(generator="DENSE|N|LINEAR", latent=(-1,))


def test_whitening_of_the_first_columns_does_not_depend_on_the_others() -> None:
    schema = Schema.from_table({"fields": {"a": {"shape": [2]}, "b": {"shape": [3]}}})
    rng = np.random.default_rng(1)
    mixed = rng.standard_normal((4000, 5)) @ rng.standard_normal((5, 5))
    other = mixed.copy()
    other[:, :2] = rng.permutation(other[:, :2])
    x = [
        Encoding.fit(
            ak.zip({"a": v[:, :2], "b": v[:, 2:]}, depth_limit=1),
            schema,
            EncodingSettings(({"step": "whiten", "condition_on_first": ["b"]},)),
            seed=1,
        ).encode(ak.zip({"a": v[:, :2], "b": v[:, 2:]}, depth_limit=1), seed=1)[0]
        for v in (mixed, other)
    ]
    torch.testing.assert_close(torch.cov(x[0].T), torch.eye(5), rtol=0, atol=1e-3)
    torch.testing.assert_close(x[0][:, 2:], x[1][:, 2:], rtol=1e-3, atol=1e-3)


def losses(
    state: TrainingState, discriminator_input: DiscriminatorInput, **terms: Any
) -> tuple[float, list[torch.Tensor]]:
    """Returns the difference of the generator's loss with and without these terms; and the events and conditions."""
    real, c = next(iter(state.loader))
    z = torch.randn(len(c), *state.gan.latent, generator=torch.Generator().manual_seed(7))
    x = state.gan.generate(z, c)
    values = []
    for settings in (dataclasses.replace(HOW, **terms), HOW):
        state.phases = (settings,)
        values.append(generator_loss(state, real, discriminator_input(x, c), x, z, c).item())
    return values[0] - values[1], [real, x, c]


def test_energy_constraint_is_the_mean_distance_in_gev(encoding: Encoding) -> None:
    state, discriminator_input = start_training(encoding, ONE)
    extra, (_, x, c) = losses(state, discriminator_input, energy_constraint=0.05)
    events = encoding.decode(x, c)
    total = ak.to_numpy(events["front"]).sum((1, 2)) + ak.to_numpy(events["back"]).sum(1)
    expected = np.abs(total / 1000 - ak.to_numpy(events["energy"])).mean()
    assert extra == pytest.approx(0.05 * expected, rel=1e-3)
    assert energy_error(encoding, x, c).item() == pytest.approx(expected, rel=1e-4)


def test_energy_constraint_without_an_energy_raises_before_training() -> None:
    schema = Schema.from_table({"fields": {"v": {"shape": [2]}}})
    events = ak.zip({"v": np.random.default_rng(1).standard_normal((64, 2))}, depth_limit=1)
    plain = Encoding.fit(events, schema, EncodingSettings(()), seed=1)
    x, c = plain.encode(events, seed=1)
    gan = GAN.build(dataclasses.replace(ONE, generator="DENSE|N|LINEAR"), plain, seed=1)
    train_settings = dataclasses.replace(HOW, energy_constraint=1.0)
    with pytest.raises(RunError, match="energy_constraint needs a condition with a unit of energy"):
        training.initial_state(
            gan, DiscriminatorInput(plain, {}, x, c), x, c, [train_settings], seed=1
        )


def test_feature_matching_is_the_distance_between_inputs_of_the_last_layer(
    encoding: Encoding,
) -> None:
    state, discriminator_input = start_training(encoding, ONE)
    extra, (real, x, c) = losses(state, discriminator_input, feature_matching=2.0)
    before = Chain(state.gan.discriminator.layers.layers[:-1])
    distance = before(real, c, {}).mean(0) - before(x, c, {}).mean(0)
    assert extra == pytest.approx(2 * distance.square().sum().item(), rel=1e-3)


def test_several_generator_steps_follow_one_another(encoding: Encoding) -> None:
    train_settings = dataclasses.replace(HOW, critic_steps=3, generator_steps=2)
    state, discriminator_input = start_training(encoding, ONE, train_settings)
    training.train_step(state, discriminator_input, iter(state.loader))
    done = {
        name: {int(one["step"]) for one in optimizer.state.values()}
        for name, optimizer in state.optimizers.items()
    }
    assert done == {"generator": {2}, "discriminator": {3}}
