"""NaN and infinity are reported where they arise, and reach no checkpoint, saved GAN or file."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sample_encodings import (
    COLUMNS,
    COPULA,
    ENERGY,
    FRACTIONS,
    LOG,
    SHARES,
    SHOWERS,
    SUMS,
    columns,
    fit,
    showers,
)
from trainings import DENSE, NORMED, QUICK, gaussian, start_training

from hepgan import pipeline as library
from hepgan.data.encoding.encoding import Encoding, EncodingSettings
from hepgan.errors import CheckpointError, HepganError, NotFiniteError
from hepgan.evaluation.metrics import fpd
from hepgan.gan import serialization
from hepgan.gan.discriminator_input import DiscriminatorInput, discriminator_observables
from hepgan.gan.model import GAN
from hepgan.gan.training import checkpoint
from hepgan.gan.training import loop as training
from hepgan.gan.training.settings import NetworkSettings
from hepgan.gan.training.validation import Validation

NAN = float("nan")
CHAINS: list[tuple[Any, ...]] = [
    ({"step": "scale"},),
    ({"step": "standardize"},),
    ({"step": "robust_standardize"},),
    ({"step": "power", "exponent": 0.3},),
    ({"step": "threshold", "threshold": 0.001},),
    ({"step": "dequantize"},),
    ({"step": "zero_noise"},),
    ({"step": "log", "threshold": 0.001}, {"step": "copula"}),
    ({"step": "logit", "fields": ["b"]}, {"step": "marginals"}),
    ({"step": "whiten"},),
]
OF_SHOWERS: list[tuple[Any, ...]] = [
    (*FRACTIONS, SHARES),
    (SUMS, LOG, COPULA),
    (SUMS, LOG, {"step": "regress", "condition": "energy"}),
    (SUMS, LOG, {"step": "marginals", "condition": "energy", "censored_zeros": True}),
]


@pytest.mark.parametrize("steps", [*CHAINS, *OF_SHOWERS], ids=str)
@pytest.mark.parametrize(
    "columns_", [slice(None), slice(0, 1), slice(-1, None)], ids=["all", "first", "last"]
)
def test_nan_from_a_network_stays_nan_after_decoding(
    steps: tuple[dict[str, Any], ...], columns_: slice
) -> None:
    if steps in OF_SHOWERS:
        encoding, events = fit(showers(400), SHOWERS, *steps, **ENERGY), showers(400)
    else:
        encoding, events = fit(columns(400), COLUMNS, *steps), columns(400)
    x, c = encoding.encode(events[:20], seed=1)
    x[3, columns_] = NAN
    decoded = torch.cat([v.reshape(20, -1) for v in encoding.decode_tensors(x, c).values()], 1)
    assert decoded[3].isnan().any()
    assert decoded[torch.arange(20) != 3].isfinite().all()
    with pytest.raises(NotFiniteError, match="is nan in generated event 3"):
        encoding.decode(x, c)


@pytest.mark.parametrize("event", [True, False], ids=["event", "observables alone"])
@pytest.mark.parametrize("every", [1, 4])
def test_a_diverging_generator_raises_with_the_step(event: bool, every: int) -> None:
    """NaN passes through a copula, the observables and their distance, which used to raise an IndexError."""
    train_settings = dataclasses.replace(
        QUICK, generator=NetworkSettings(1e30), log_every=4, validate_every=every
    )
    events = gaussian(400)
    state, _ = start_training(DENSE, train_settings, {"step": "copula"})
    encoding = Encoding.fit(
        events, state.gan.encoding.schema, EncodingSettings(({"step": "copula"},)), seed=1
    )
    x, c = encoding.encode(events, seed=1)
    discriminator_input = DiscriminatorInput(
        encoding, discriminator_observables(encoding.schema, {}), x, c, event=event
    )
    gan = GAN.build(DENSE, encoding, seed=1, discriminator_shapes=discriminator_input.shapes)
    state = training.initial_state(gan, discriminator_input, x, c, [train_settings], seed=1)

    def validate(gan: GAN) -> float:
        gan.sample(100, seed=1)
        return 1.0

    watch = Validation(validate, (x, c))
    with pytest.raises(HepganError, match=r"(nan|inf|finite).* at step [1234];"):
        training.train(state, discriminator_input, validation=watch)


def test_nonfinite_events_raise_with_the_step_of_their_validation() -> None:
    """Finite weights may generate non-finite events."""
    state, discriminator_input = start_training()

    def validate(gan: GAN) -> float:
        if state.step == 10:
            with torch.no_grad():
                for weights in gan.generator.parameters():
                    weights.fill_(1e30)
        gan.sample(10, seed=1)
        return 1.0

    with pytest.raises(HepganError, match=r"event is (inf|nan) in generated event 0.* at step 10;"):
        training.train(
            state,
            discriminator_input,
            validation=Validation(validate, (torch.zeros(9, 2), torch.empty(9, 0))),
        )


@pytest.mark.parametrize("part", ["generator", "encoding"])
@pytest.mark.parametrize("value", [NAN, float("-inf")])
def test_nonfinite_saved_values_raise_with_the_tensor(
    tmp_path: Path, part: str, value: float
) -> None:
    state, _ = start_training(DENSE, QUICK, {"step": "standardize"})
    state.gan.save(tmp_path)
    tensors = load_file(tmp_path / "generator.safetensors")
    name = next(name for name in tensors if name.startswith(part))
    tensors[name].view(-1)[-1] = value
    save_file(tensors, tmp_path / "generator.safetensors")
    with pytest.raises(CheckpointError, match=rf"its tensor '{name}' is not finite"):
        GAN.load(tmp_path)


@pytest.mark.parametrize("number", ["NaN", "-Infinity"])
def test_nonfinite_numbers_in_gan_json_raise(tmp_path: Path, number: str) -> None:
    state, _ = start_training()
    state.gan.save(tmp_path)
    about = tmp_path / "gan.json"
    about.write_text(
        about.read_text().replace(
            '"discriminator_features": 2', f'"discriminator_features": {number}'
        )
    )
    with pytest.raises(CheckpointError, match=f"{number} is not a finite number"):
        GAN.load(tmp_path)


@pytest.mark.parametrize("name", ["generator", "discriminator", "ema"])
def test_nonfinite_checkpoint_raises_with_the_tensor(tmp_path: Path, name: str) -> None:
    state, _ = start_training()
    path = checkpoint.save_checkpoint(state, tmp_path, keep=1)
    tensors, about = load_file(path), serialization.read_metadata(path, checkpoint.VERSION)
    key = next(key for key in tensors if key.startswith(name))
    tensors[key].view(-1)[0] = NAN
    serialization.write_tensors(path, tensors, {"state": serialization.json.dumps(about)})
    with pytest.raises(CheckpointError, match=rf"its tensor '{key}' is not finite"):
        checkpoint.load_checkpoint(start_training()[0], path)


def test_nonfinite_running_statistics_are_not_written_to_a_checkpoint(tmp_path: Path) -> None:
    state, discriminator_input = start_training(NORMED)

    def poison(row: Any) -> None:
        if row["step"] == 10:
            dict(state.gan.generator.named_buffers())["layers.layers.1.running_var"].fill_(NAN)

    with pytest.raises(
        HepganError, match=r"weight of the generator is not finite \('.*running_var'\) at step 10"
    ):
        training.train(state, discriminator_input, folder=tmp_path, on_row=poison)
    assert checkpoint.newest_checkpoint(tmp_path) is None


def test_generator_that_returns_nan_writes_no_file(gan_folder: Path, tmp_path: Path) -> None:
    """Finite weights that overflow."""
    folder = tmp_path / "gan"
    folder.mkdir()
    (folder / "gan.json").write_text((gan_folder / "gan.json").read_text())
    tensors = load_file(gan_folder / "generator.safetensors")
    for name, tensor in tensors.items():
        if name.startswith("generator"):
            tensor.fill_(3e38)
    save_file(tensors, folder / "generator.safetensors")
    with pytest.raises(NotFiniteError, match="in generated event 0"):
        library.generate(
            folder, tmp_path / "x.root", n=5, seed=1, conditions={"energy": 5.0}, device="cpu"
        )
    assert not (tmp_path / "x.root").exists()


def test_frechet_distance_of_nonfinite_features_is_nan() -> None:
    features = np.random.default_rng(1).normal(size=(50, 3))
    for value in (NAN, float("inf")):
        broken = features.copy()
        broken[7, 1] = value
        with np.errstate(invalid="ignore"):
            assert np.isnan(fpd.frechet_distance(features, broken))
