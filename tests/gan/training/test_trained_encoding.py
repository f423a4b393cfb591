"""The networks of an encoding are trained with the generator, through the decoding."""

import copy
import dataclasses
import functools
from pathlib import Path

import awkward as ak
import pytest
import torch
from sample_encodings import COLUMNS, columns, fit
from torch import Tensor
from trainings import DENSE, QUICK, assert_equal, watch, weights

from hepgan.data.encoding.encoding import Encoding
from hepgan.errors import RunError
from hepgan.gan.discriminator_input import DiscriminatorInput, discriminator_observables
from hepgan.gan.model import GAN
from hepgan.gan.training import checkpoint
from hepgan.gan.training import loop as training
from hepgan.gan.training.schedule import Schedule
from hepgan.gan.training.settings import TrainSettings
from hepgan.gan.training.state import TrainingState

TRAINED = dataclasses.replace(
    QUICK, encoding_learning_rate=Schedule(2e-3, 1e-3, "linear", warmup=2)
)
FROZEN = dataclasses.replace(QUICK, steps=10)


@functools.cache
def encoding() -> Encoding:
    return fit(columns(300), COLUMNS, {"step": "autoregressive", "hidden": 8, "steps": 20})


def start(*phases: TrainSettings) -> tuple[TrainingState, DiscriminatorInput, Tensor]:
    x, c = encoding().encode(columns(300), seed=1)
    observables = discriminator_observables(COLUMNS, {})
    inputs = DiscriminatorInput(
        encoding(), observables, x, c,
        event=False, train_encoding=any(phase.encoding for phase in phases),
    )  # fmt: skip
    gan = GAN.build(DENSE, encoding(), seed=1, discriminator_shapes=inputs.shapes)
    return training.initial_state(gan, inputs, x, c, phases, seed=1), inputs, x


def constants(of: Encoding) -> dict[str, Tensor]:
    return of.pack()[1]


def test_training_changes_the_networks_of_the_encoding_and_nothing_else_of_it() -> None:
    state, inputs, x = start(TRAINED)
    reference = inputs.of_events(x, x[:, :0])
    gan, _ = training.train(state, inputs)
    before, after = constants(encoding()), constants(gan.encoding)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert all(".networks." in name for name in changed)
    assert {name.split(".networks.")[1][0] for name in changed} == {"0", "1", "2"}
    assert not any(tensor.requires_grad for tensor in after.values())
    # The events that generated ones are compared with remain the same.
    assert torch.equal(inputs.of_events(x, x[:, :0]), reference)


def test_an_encoding_without_a_learning_rate_remains_as_fitted() -> None:
    state, inputs, _ = start(FROZEN)
    gan, _ = training.train(state, inputs)
    assert gan.encoding == encoding()
    assert not checkpoint._of_encoding(state)


def test_a_phase_without_a_learning_rate_leaves_the_encoding_unchanged() -> None:
    state, inputs, _ = start(FROZEN, TRAINED)
    assert state.encoding is not None
    before = copy.deepcopy(state.encoding.state_dict())
    rows: list[int] = []

    def check(row: training.Row) -> None:
        assert state.encoding is not None
        same = all(torch.equal(before[n], t) for n, t in state.encoding.state_dict().items())
        assert same == (row["step"] <= 10)
        rows.append(row["step"])

    training.train(state, inputs, on_row=check)
    assert rows == [5, 10, 15, 20, 25, 30]


def test_a_resumed_training_of_an_encoding_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, inputs, _ = start(TRAINED)
    one, _ = training.train(whole, inputs, folder=tmp_path)
    again, inputs, _ = start(TRAINED)
    checkpoint.load_checkpoint(again, tmp_path / "checkpoints" / "step-00000010.safetensors")
    assert again.step == 10
    other, _ = training.train(again, inputs)
    assert_equal(weights(whole), weights(again))
    assert one.encoding == other.encoding


def test_the_best_encoding_is_kept_and_saved(tmp_path: Path) -> None:
    state, inputs, x = start(TRAINED)
    encodings: list[Encoding] = []

    def validate(gan: GAN) -> float:
        encodings.append(dataclasses.replace(gan.encoding, steps=copy.deepcopy(gan.encoding.steps)))
        return abs(len(encodings) - 3)

    validation = watch(validate)._replace(events=(x[:100], x[:100, :0]))
    gan, _ = training.train(state, inputs, validation=validation, folder=tmp_path)
    assert gan.kept is not None
    assert gan.kept.step == 10
    assert gan.encoding == encodings[2] != encodings[3]
    gan.save(tmp_path / "gan")
    saved = GAN.load(tmp_path / "gan", device="cpu")
    assert saved.encoding == gan.encoding
    assert ak.array_equal(saved.sample(20, seed=1), gan.sample(20, seed=1))
    again, _, _ = start(TRAINED)
    checkpoint.load_checkpoint(again, tmp_path / "checkpoints" / "step-00000020.safetensors")
    assert_equal(state.best_encoding, again.best_encoding)


def test_an_encoding_without_networks_cannot_be_trained() -> None:
    plain = fit(columns(300), COLUMNS, {"step": "standardize"})
    x, c = plain.encode(columns(300), seed=1)
    observables = discriminator_observables(COLUMNS, {})
    with pytest.raises(RunError, match=r"there are none in the steps .*standardize.*set it to 0"):
        DiscriminatorInput(plain, observables, x, c, event=False, train_encoding=True)


def test_discriminators_of_encoded_events_raise_if_the_encoding_is_trained() -> None:
    x, c = encoding().encode(columns(300), seed=1)
    observables = discriminator_observables(COLUMNS, {})
    with pytest.raises(RunError, match="needs discriminators that see decoded events only"):
        DiscriminatorInput(encoding(), observables, x, c, train_encoding=True)


@pytest.mark.parametrize("rate", [-1.0, float("inf"), Schedule(0.0, 1e-3)], ids=str)
def test_an_invalid_learning_rate_of_the_encoding_raises(rate: float | Schedule) -> None:
    with pytest.raises(
        RunError, match=r"\[train\] encoding_learning_rate = .* should be 0 or more"
    ):
        dataclasses.replace(QUICK, encoding_learning_rate=rate)
