"""Input of the discriminator: decoded cells, their standardization and gradients."""

import dataclasses
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch

from hepgan.data.encoding.conditions import ConditionScale
from hepgan.data.encoding.encoding import Encoding, EncodingSettings
from hepgan.data.schema import Schema
from hepgan.errors import RunError
from hepgan.evaluation.observables.geometry import LayerGeometry
from hepgan.gan.discriminator_input import (
    DiscriminatorInput,
    discriminator_cells,
    discriminator_observables,
)
from hepgan.gan.model import GAN
from hepgan.gan.networks import GANSettings

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
    gan = GAN.build(settings, encoding, seed=1, discriminator_features=cells.size)
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


def test_cells_without_a_threshold_raise() -> None:
    with pytest.raises(RunError, match=r"set threshold in \[geometry.back\]"):
        discriminator_cells(SCHEMA, {"front": GEOMETRY["front"]})


def test_cells_of_a_field_that_is_no_layer_raise() -> None:
    mass = Schema.from_table({"fields": {"mass": {}}}).fields["mass"]
    schema = dataclasses.replace(SCHEMA, fields={**SCHEMA.fields, "mass": mass})
    with pytest.raises(RunError, match=r"the field 'mass' is no layer of cells"):
        discriminator_cells(schema, GEOMETRY)
