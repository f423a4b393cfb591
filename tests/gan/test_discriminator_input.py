"""Input of the discriminator: decoded cells, their standardization and gradients."""

import dataclasses
import functools
import json
import math
import tomllib
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import tomli_w
import torch
from click.testing import CliRunner
from trainings import QUICK, assert_equal, weights

from hepgan.cli import main
from hepgan.config import from_table, to_table
from hepgan.data.encoding.conditions import ConditionScale
from hepgan.data.encoding.encoding import Encoding, EncodingSettings
from hepgan.data.schema import Schema
from hepgan.errors import HepganError, RunError
from hepgan.evaluation.observables.base import Observable
from hepgan.evaluation.observables.geometry import LayerGeometry
from hepgan.gan.discriminator_input import (
    DiscriminatorInput,
    discriminator_cells,
    discriminator_observables,
    discriminator_parts,
)
from hepgan.gan.model import GAN
from hepgan.gan.networks import DiscriminatorSettings, GANSettings, count_parameters
from hepgan.gan.training import checkpoint
from hepgan.gan.training import loop as training
from hepgan.gan.training.losses import discriminator_loss, generator_loss
from hepgan.gan.training.state import TrainingState

SCHEMA = Schema.from_table(
    {
        "fields": {
            "front": {"shape": [2, 3], "unit": "MeV"},
            "back": {"shape": [2, 2], "unit": "MeV"},
        },
        "conditions": {"energy": {"unit": "GeV"}},
        "incident": "energy",
    }
)
GEOMETRY = {"front": LayerGeometry(threshold=0.1), "back": LayerGeometry(threshold=0.2)}
STEPS: tuple[dict[str, Any], ...] = (
    {"step": "layer_sums", "incident": "energy", "threshold": 0.1},
    {"step": "log", "threshold": 0.1},
    {"step": "copula", "condition": "energy", "windows": 3, "per_window": 300, "censored_zeros": True},
)  # fmt: skip


def showers(number: int = 1000) -> ak.Array:
    rng = np.random.default_rng(5)
    energy = rng.uniform(1, 10, number).astype("f4")
    cells = rng.gamma(0.5, 30, (number, 10)) * energy[:, None]
    cells[cells < 1] = 0
    fields = {"front": cells[:, :6].reshape(-1, 2, 3), "back": cells[:, 6:].reshape(-1, 2, 2)}
    values = {name: field.astype("f4") for name, field in fields.items()} | {"energy": energy}
    return ak.zip(values, depth_limit=1)


@pytest.fixture(scope="module")
def encoding() -> Encoding:
    scales = {"energy": ConditionScale((1.0, 10.0), "log")}
    return Encoding.fit(showers(), SCHEMA, EncodingSettings(STEPS, scales), seed=1)


def test_cells_are_standardized_logarithms_of_decoded_energies(encoding: Encoding) -> None:
    events = showers()
    x, c = encoding.encode(events, seed=1)
    layers = discriminator_cells(SCHEMA, GEOMETRY)
    observables = discriminator_observables(SCHEMA, GEOMETRY)
    cells = DiscriminatorInput(encoding, {}, x, c, event=False, cells=layers)
    both = DiscriminatorInput(encoding, observables, x, c, event=False, cells=layers)
    logs = np.concatenate(
        [np.log1p(ak.to_numpy(events[n]).reshape(1000, -1) / g.threshold) for n, g in GEOMETRY.items()], 1
    )  # fmt: skip
    expected = (logs - logs.mean(0)) / logs.std(0)
    np.testing.assert_allclose(cells(x, c), expected, atol=2e-3)
    assert cells.size == 10
    assert both.size == 10 + len(observables) == both(x, c).shape[1]
    only = DiscriminatorInput(encoding, observables, x, c, event=False)
    torch.testing.assert_close(both(x, c), torch.cat([cells(x, c), only(x, c)], 1))


def test_a_discriminator_of_cells_has_their_number_of_inputs(encoding: Encoding) -> None:
    x, c = encoding.encode(showers(50), seed=1)
    layers = discriminator_cells(SCHEMA, GEOMETRY)
    cells = DiscriminatorInput(encoding, {}, x, c, event=False, cells=layers)
    settings = GANSettings(
        latent=(0,),
        generator="DENSE|N|LINEAR",
        discriminator="DENSE|8|LRELU, DENSE|1|LINEAR",
        discriminator_input="cells",
    )
    gan = GAN.build(settings, encoding, seed=1, discriminator_shapes=cells.shapes)
    assert encoding.features == 12
    assert gan.discriminate(cells(x, c), c).shape == (50, 1)


def test_gradients_through_the_decoding_equal_finite_differences(encoding: Encoding) -> None:
    x, c = encoding.encode(showers(300), seed=1)
    layers = discriminator_cells(SCHEMA, GEOMETRY)
    cells = DiscriminatorInput(encoding, {}, x, c, event=False, cells=layers).double()
    x, c = x.double().requires_grad_(), c.double()
    rng = torch.Generator().manual_seed(1)
    weights = torch.randn(10, generator=rng, dtype=torch.float64)
    direction = torch.randn(x.shape, generator=rng, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((cells(x, c) @ weights).sum(), x)
    step = 1e-6 * direction
    with torch.no_grad():
        difference = (cells(x + step, c) - cells(x - step, c)) @ weights / 2e-6
    # Few events have a kink of the tables within the step.
    close = torch.isclose((gradient * direction).sum(1), difference, rtol=1e-3, atol=1e-3)
    assert close.double().mean() > 0.99
    assert gradient.abs().sum(0).min() > 0


def test_events_and_conditions_with_gradients_decode_like_others(encoding: Encoding) -> None:
    x, c = encoding.encode(showers(50), seed=1)
    events = encoding.decode(x.clone().requires_grad_(), c.clone().requires_grad_())
    assert ak.all(ak.flatten(events.front, axis=None) == ak.flatten(encoding.decode(x, c).front, axis=None))  # fmt: skip


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_the_compiled_input_has_the_same_values_and_gradients(
    encoding: Encoding,
    backend: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    x, c = encoding.encode(showers(300), seed=1)
    layers = discriminator_cells(SCHEMA, GEOMETRY)
    observables = discriminator_observables(SCHEMA, GEOMETRY)
    inputs = DiscriminatorInput(encoding, observables, x, c, cells=layers)

    def of(events: torch.Tensor) -> list[torch.Tensor]:
        events = events.clone().requires_grad_()
        values = inputs(events, c)
        return [values.detach(), *torch.autograd.grad(values.square().sum(), events)]

    expected = of(x)
    with inputs.compiled():
        found = of(x)
        with torch.no_grad():
            torch.testing.assert_close(inputs(x, c), expected[0], rtol=1e-3, atol=1e-3)
        assert inputs._function != inputs._of_generated
    assert inputs._function == inputs._of_generated
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    assert not caplog.messages


def test_a_failed_compilation_is_logged_once_and_the_values_are_the_same(
    encoding: Encoding, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def compile_later(function: Any, **_: Any) -> Any:
        def fails(*_: Any) -> None:
            raise RuntimeError("no C++ compiler found\nmore")

        return fails

    monkeypatch.setattr(torch, "compile", compile_later)
    x, c = encoding.encode(showers(100), seed=1)
    inputs = DiscriminatorInput(encoding, discriminator_observables(SCHEMA, GEOMETRY), x, c)
    expected = inputs(x, c)
    with inputs.compiled():
        assert torch.equal(inputs(x, c), expected)
        assert torch.equal(inputs(x, c), expected)
    reason = "torch.compile failed, the training continues without it: no C++ compiler found"
    assert caplog.messages == [reason]


def test_cells_without_a_threshold_raise() -> None:
    with pytest.raises(RunError, match=r"set threshold in \[geometry.back\]"):
        discriminator_cells(SCHEMA, {"front": GEOMETRY["front"]})


def test_cells_of_a_field_that_is_no_layer_raise() -> None:
    mass = Schema.from_table({"fields": {"mass": {}}}).fields["mass"]
    schema = dataclasses.replace(SCHEMA, fields={**SCHEMA.fields, "mass": mass})
    with pytest.raises(RunError, match=r"the field 'mass' is no layer of cells"):
        discriminator_cells(schema, GEOMETRY)


SEVERAL = GANSettings(
    latent=(0,),
    generator="DENSE|N|LINEAR",
    discriminator=(
        DiscriminatorSettings("DENSE|8|LRELU, DENSE|1|LINEAR", "cells and observables"),
        DiscriminatorSettings("COND, DENSE|4|LRELU, DENSE|1|LINEAR", "layer energies", weight=0.5),
        DiscriminatorSettings("CONV|3|2|2|1|1|0|0|LRELU, DENSE|1|LINEAR", "images", weight=2.0),
        DiscriminatorSettings("DENSE|1|LINEAR", "event", shape=(12,)),
    ),
)


def several(
    encoding: Encoding, settings: GANSettings = SEVERAL, **terms: Any
) -> tuple[TrainingState, DiscriminatorInput]:
    x, c = encoding.encode(showers(), seed=1)
    inputs = DiscriminatorInput(
        encoding, x=x, c=c, **discriminator_parts(settings, SCHEMA, GEOMETRY)
    )
    gan = GAN.build(settings, encoding, seed=1, discriminator_shapes=inputs.shapes)
    phase = dataclasses.replace(QUICK, **terms)
    return training.initial_state(gan, inputs, x, c, [phase], seed=1), inputs


def test_the_input_of_several_discriminators_is_that_of_each(encoding: Encoding) -> None:
    x, c = encoding.encode(showers(), seed=1)
    _, inputs = several(encoding)
    layers = discriminator_cells(SCHEMA, GEOMETRY)
    observables = discriminator_observables(SCHEMA, GEOMETRY)
    assert inputs.shapes == ((10 + len(observables),), (2,), (2, 2, 3), (12,))
    first = DiscriminatorInput(encoding, observables, x, c, event=False, cells=layers)
    whole = inputs(x, c)
    torch.testing.assert_close(whole[:, : first.size], first(x, c))
    assert torch.equal(whole[:, -12:], x)
    assert whole.shape[1] == inputs.size


def test_layer_energies_are_standardized_as_observables_are(encoding: Encoding) -> None:
    x, c = encoding.encode(showers(), seed=1)
    observables = {
        name: Observable(name, lambda events, n=name, g=g: torch.log1p(events[n].flatten(1).sum(1) / g.threshold), name)
        for name, g in GEOMETRY.items()
    }  # fmt: skip
    expected = DiscriminatorInput(encoding, observables, x, c, event=False)
    layers = discriminator_cells(SCHEMA, GEOMETRY)
    energies = DiscriminatorInput(encoding, {}, x, c, cells=layers, inputs=["layer energies"])
    torch.testing.assert_close(energies(x, c), expected(x, c))


def test_images_repeat_the_cells_of_small_layers(encoding: Encoding) -> None:
    events = showers()
    x, c = encoding.encode(events, seed=1)
    layers = discriminator_cells(SCHEMA, GEOMETRY)
    images = DiscriminatorInput(encoding, {}, x, c, cells=layers, inputs=["images"])
    result = images(x, c).reshape(-1, 2, 2, 3).numpy()
    for number, (name, geometry) in enumerate(GEOMETRY.items()):
        logs = np.log1p(ak.to_numpy(events[name]) / geometry.threshold)
        image = (logs - logs.mean()) / logs.std()
        image = image if name == "front" else image[:, :, [0, 0, 1]]
        np.testing.assert_allclose(result[:, number], image, atol=2e-3)


def test_losses_and_penalties_of_several_discriminators_are_a_weighted_sum(
    encoding: Encoding,
) -> None:
    terms = {"r1": 0.3, "r2": 0.2, "gradient_penalty": 0.0, "logit_centering": 0.1, "feature_matching": 0.2}  # fmt: skip
    state, inputs = several(encoding, **terms)
    real, c = next(iter(state.loader))
    noise = torch.randn(len(c), 12, generator=torch.Generator().manual_seed(3))
    x = state.gan.generate(noise, c).detach()
    fake = inputs(x, c)
    assert state.gan.discriminate(real, c).shape == (len(c), 4)
    whole = discriminator_loss(state, real, fake, noise, c)
    whole_g = generator_loss(state, real, fake, x, noise, c)
    total, total_g, first = 0.0, 0.0, 0
    parts = zip(SEVERAL.discriminators, state.gan.discriminator.networks, inputs.shapes, strict=True)  # fmt: skip
    for one, network, shape in parts:
        last = first + math.prod(shape)
        alone = dataclasses.replace(
            SEVERAL, discriminator=one.layout, discriminator_input=one.input
        )
        single = dataclasses.replace(
            state, gan=dataclasses.replace(state.gan, settings=alone, discriminator=network)
        )
        columns = real[:, first:last], fake[:, first:last]
        total += one.weight * discriminator_loss(single, *columns, noise, c).item()
        total_g += one.weight * generator_loss(single, *columns, x, noise, c).item()
        first = last
    assert whole.item() == pytest.approx(total, rel=1e-5)
    assert whole_g.item() == pytest.approx(total_g, rel=1e-5)


def test_parameters_of_all_discriminators_are_counted(encoding: Encoding) -> None:
    state, inputs = several(encoding)
    number = sum(w.numel() for w in state.gan.discriminator.parameters())
    counts = count_parameters(SEVERAL, encoding, discriminator_shapes=inputs.shapes)
    assert counts["discriminator"] == number


def test_several_discriminators_train_and_resume_bit_for_bit(
    encoding: Encoding, tmp_path: Path
) -> None:
    whole, inputs = several(encoding)
    gan, _ = training.train(whole, inputs, folder=tmp_path)
    again, inputs = several(encoding)
    before = weights(again)
    checkpoint.load_checkpoint(again, tmp_path / "checkpoints" / "step-00000010.safetensors")
    training.train(again, inputs)
    assert_equal(weights(whole), weights(again))
    for number in range(4):
        names = [name for name in before if name.startswith(f"d.networks.{number}.")]
        assert any(not torch.equal(before[name], weights(again)[name]) for name in names)
    gan.save(tmp_path / "gan")
    loaded = GAN.load(tmp_path / "gan", device="cpu")
    assert loaded.discriminator_shapes == inputs.shapes
    assert loaded.settings == SEVERAL
    shown = CliRunner().invoke(main, ["layout", "--config", str(tmp_path / "gan"), "--json"])
    counts = {name: network["parameters"] for name, network in json.loads(shown.output).items()}
    assert list(counts) == ["generator", *(f"discriminator {number}" for number in range(1, 5))]
    trained = sum(w.numel() for w in gan.discriminator.parameters())
    assert sum(counts.values()) - counts["generator"] == trained


def test_one_discriminator_in_a_table_is_the_single_one(encoding: Encoding) -> None:
    single = dataclasses.replace(
        SEVERAL,
        discriminator=SEVERAL.discriminators[0].layout,
        discriminator_input="cells and observables",
    )
    listed = dataclasses.replace(SEVERAL, discriminator=SEVERAL.discriminators[:1])
    assert listed.discriminators == single.discriminators
    results = []
    for settings in (single, listed):
        state, inputs = several(encoding, settings)
        training.train(state, inputs)
        results.append(weights(state))
    assert_equal(*results)


def test_tables_of_discriminators_survive_a_run_file() -> None:
    text = tomli_w.dumps({"gan": to_table(SEVERAL)})
    assert from_table(GANSettings, tomllib.loads(text)["gan"], where="gan") == SEVERAL


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"discriminator_input": "cells"}, "belong to a single discriminator"),
        ({"discriminator": [{"layout": "DENSE|1", "weight": 0.0}]}, "weight = 0.0 should be"),
        ({"discriminator": [{"layout": "DENS|1"}]}, "DENSE"),
        ({"discriminator": [{"layout": "DENSE|1", "input": "cell"}]}, "is not one of event"),
    ],
)
def test_invalid_tables_of_discriminators_raise(change: dict[str, Any], message: str) -> None:
    with pytest.raises(HepganError, match=message):
        from_table(GANSettings, to_table(SEVERAL) | change, where="gan")


def test_a_shape_of_another_size_names_the_discriminator(encoding: Encoding) -> None:
    wrong = dataclasses.replace(SEVERAL.discriminators[1], shape=(3,))
    settings = dataclasses.replace(
        SEVERAL, discriminator=(SEVERAL.discriminators[0], wrong, *SEVERAL.discriminators[2:])
    )
    with pytest.raises(RunError, match=r"\[\[gan.discriminator\]\] 2 shape = \[3\] should hold the 2"):  # fmt: skip
        several(encoding, settings)
