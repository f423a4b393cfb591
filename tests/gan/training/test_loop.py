"""Training: it learns, the frozen discriminator does not change, and it resumes bit for bit."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
from trainings import (
    COVARIANCE,
    DENSE,
    MEAN,
    NORMED,
    QUICK,
    RATE,
    assert_equal,
    start_training,
    watch,
    weights,
)

from hepgan.data.encoding.conditions import ConditionScale
from hepgan.data.encoding.encoding import Encoding, EncodingSettings
from hepgan.data.schema import Schema
from hepgan.errors import CheckpointError, DataError, HepganError, LayoutError, RunError
from hepgan.gan import serialization
from hepgan.gan.conditions import Choice
from hepgan.gan.discriminator_input import DiscriminatorInput, discriminator_observables
from hepgan.gan.model import GAN, KeptStep
from hepgan.gan.networks import GANSettings, count_parameters
from hepgan.gan.training import checkpoint, history, validation
from hepgan.gan.training import loop as training
from hepgan.gan.training.history import Row
from hepgan.gan.training.optim import Update, input_dropout, make_optimizer, optimizer_step
from hepgan.gan.training.settings import NetworkSettings, TrainSettings
from hepgan.gan.training.state import TrainingState, start_phase
from hepgan.gan.versions import VERSION
from hepgan.random_streams import torch_generator


@pytest.mark.parametrize("objective", ["relativistic", "non-saturating", "hinge"])
def test_adversarial_training_learns_a_gaussian(objective: Any) -> None:
    """A linear generator against a dense discriminator: mean and covariance are known."""
    train_settings = TrainSettings(
        steps=1500, batch_size=256, objective=objective, r1=0.5, r2=0.5,
        generator=NetworkSettings(2e-3), discriminator=NetworkSettings(2e-3), ema=0.995, final_lr_fraction=0.1, validate_every=0,
    )  # fmt: skip
    linear = dataclasses.replace(
        DENSE,
        latent=(2,),
        generator="DENSE|N|LINEAR",
        discriminator="DENSE|32|LRELU, DENSE|32|LRELU, DENSE|1|LINEAR",
    )
    state, discriminator_input = start_training(linear, train_settings)
    gan, rows = training.train(state, discriminator_input)
    generated = ak.to_numpy(gan.sample(20_000, seed=2)["v"])
    np.testing.assert_allclose(generated.mean(0), MEAN, atol=0.12)
    np.testing.assert_allclose(np.cov(generated.T), COVARIANCE, atol=0.15)
    assert len(rows) == 30


def test_generator_step_leaves_the_discriminator_unchanged_bit_for_bit() -> None:
    state, discriminator_input = start_training(NORMED)
    batches = iter(state.loader)
    training.train_step(state, discriminator_input, batches)
    before = {k: v.clone() for k, v in state.gan.discriminator.state_dict().items()}
    moments = state.optimizers["discriminator"].state_dict()["state"]
    saved = {(i, k): v.clone() for i, s in moments.items() for k, v in s.items()}
    noise = torch.randn(32, 3, requires_grad=True)
    c = torch.empty(32, 0)
    with training._frozen(state.gan.discriminator):
        loss = -state.gan.discriminate(
            discriminator_input(state.gan.generate(noise, c), c), c
        ).mean()
        optimizer_step(loss, Update(state.gan.generator, state.optimizers["generator"], RATE))
    assert_equal(before, dict(state.gan.discriminator.state_dict()))
    after = state.optimizers["discriminator"].state_dict()["state"]
    for (i, k), value in saved.items():
        assert torch.equal(value, after[i][k])
    assert all(p.requires_grad for p in state.gan.discriminator.parameters())


def test_generator_gradient_equals_that_of_the_plain_composition() -> None:
    state, discriminator_input = start_training()
    noise, c = torch.randn(32, 3), torch.empty(32, 0)
    g, d = state.gan.generator, state.gan.discriminator
    plain = torch.autograd.grad(-d(g(noise, c), c).mean(), list(g.parameters()))
    with training._frozen(d):
        loss = -state.gan.discriminate(
            discriminator_input(state.gan.generate(noise, c), c), c
        ).mean()
        through = torch.autograd.grad(loss, list(g.parameters()))
    for one, other in zip(plain, through, strict=True):
        assert torch.equal(one, other)


def test_every_step_draws_new_noise_of_unit_width() -> None:
    state, _ = start_training()
    first, second = training._noise(state, 4000), training._noise(state, 4000)
    assert not torch.equal(first, second)
    assert first.std().item() == pytest.approx(1.0, abs=0.03)
    assert first.shape == (4000, 3)


DROPPED = dataclasses.replace(DENSE, discriminator="DENSE|16|LRELU, DROPOUT|0.5, DENSE|1|LINEAR")


@pytest.mark.parametrize("settings", [DENSE, NORMED, DROPPED], ids=["dense", "normed", "dropout"])
def test_resumed_training_equals_uninterrupted(tmp_path: Path, settings: GANSettings) -> None:
    score = iter(range(100, 0, -1))
    whole, discriminator_input = start_training(settings)
    training.train(whole, discriminator_input, validation=watch(lambda gan: next(score)))
    score = iter(range(100, 0, -1))
    half, discriminator_input = start_training(settings, dataclasses.replace(QUICK, steps=10))
    # The learning rate depends on the length of the whole run, so only the loop is interrupted.
    training.train(
        half, discriminator_input, validation=watch(lambda gan: next(score)), folder=tmp_path
    )
    again, discriminator_input = start_training(settings, seed=1)
    last = checkpoint.newest_checkpoint(tmp_path)
    assert last is not None
    checkpoint.load_checkpoint(again, last)
    training.train(again, discriminator_input, validation=watch(lambda gan: next(score)))
    assert_equal(weights(whole), weights(again))
    assert_equal(whole.best, again.best)
    assert again.best_score == whole.best_score


@pytest.mark.parametrize("settings", [DENSE, DROPPED], ids=["dense", "dropout"])
def test_equal_seeds_give_equal_training_and_leave_the_global_generator_unchanged(
    settings: GANSettings,
) -> None:
    runs = []
    for _ in range(2):
        torch.manual_seed(int(time.time_ns()) % 2**31)
        before = torch.get_rng_state()
        state, discriminator_input = start_training(settings)
        training.train(state, discriminator_input)
        assert torch.equal(before, torch.get_rng_state())
        runs.append(weights(state))
    assert_equal(*runs)


def test_best_validation_is_kept() -> None:
    state, discriminator_input = start_training()
    scores = iter([9.0, 3.0, 1.0, 2.0, 5.0])
    kept: list[dict[str, torch.Tensor]] = []

    def validate(gan: GAN) -> float:
        kept.append({k: v.clone() for k, v in gan.generator.state_dict().items()})
        return next(scores)

    gan, rows = training.train(state, discriminator_input, validation=watch(validate))
    assert state.best_step == 10
    assert_equal(dict(gan.generator.state_dict()), kept[2])
    assert [row["validation"] for row in rows if "validation" in row] == [9.0, 3.0, 1.0, 2.0, 5.0]


@pytest.mark.parametrize(
    "line", [b"\xff", b"[1]", b'{"step": "1"}', b'{"seconds": 1}', b"[" * 10**5]
)
def test_damaged_history_names_its_line(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "history.jsonl").write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 2}\n')
    with pytest.raises(CheckpointError, match=r"history.jsonl is damaged in line 2"):
        history.read(tmp_path)


def test_history_is_written_line_by_line(tmp_path: Path) -> None:
    state, discriminator_input = start_training()
    _, rows = training.train(state, discriminator_input, folder=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert lines == rows
    assert [row["step"] for row in lines] == [5, 10, 15, 20]


def test_only_the_last_checkpoints_are_kept(tmp_path: Path) -> None:
    train_settings = dataclasses.replace(QUICK, checkpoint_every=4, keep=2)
    state, discriminator_input = start_training(train_settings=train_settings)
    training.train(state, discriminator_input, folder=tmp_path)
    names = [p.name for p in sorted((tmp_path / "checkpoints").iterdir())]
    assert names == ["step-00000016.safetensors", "step-00000020.safetensors"]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_stop_training_with_a_checkpoint(tmp_path: Path, name: str) -> None:
    state, discriminator_input = start_training(
        train_settings=dataclasses.replace(QUICK, steps=10**6)
    )
    number = getattr(signal, name)
    before = signal.getsignal(number)

    def send(row: Row) -> None:
        if row["step"] == 5:
            os.kill(os.getpid(), number)

    with pytest.raises(
        training.TrainingStopped, match="stopped at step 6, .*step-00000006"
    ) as caught:
        training.train(state, discriminator_input, folder=tmp_path, on_row=send)
    assert caught.value.code == 128 + number
    assert (
        checkpoint.newest_checkpoint(tmp_path)
        == tmp_path / "checkpoints" / "step-00000006.safetensors"
    )
    assert signal.getsignal(number) is before


def test_a_signal_in_the_last_step_also_stops_training(tmp_path: Path) -> None:
    state, discriminator_input = start_training(
        train_settings=dataclasses.replace(QUICK, log_every=19)
    )

    def send(row: Row) -> None:
        if row["step"] == 19:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(training.TrainingStopped, match="stopped at step 20"):
        training.train(state, discriminator_input, folder=tmp_path, on_row=send)


def test_an_ignored_signal_stays_ignored() -> None:
    """As under nohup, which ignores SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        state, discriminator_input = start_training()
        training.train(
            state, discriminator_input, on_row=lambda row: os.kill(os.getpid(), signal.SIGHUP)
        )
    finally:
        signal.signal(signal.SIGHUP, before)
    assert state.step == 20


LOST = """
import fcntl, sys, termios, time
from pathlib import Path
from hepgan.gan.training.signals import stop_flag
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
with stop_flag() as stop:
    print("ready", flush=True)
    while not stop.number:
        time.sleep(0.01)
    print("a line of progress", flush=True)
Path(sys.argv[1]).write_text(str(stop.number))
"""


def test_a_lost_terminal_stops_training_but_not_the_program(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", LOST, str(tmp_path / "number")],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    assert b"ready" in os.read(ours, 99)
    os.close(ours)
    assert process.wait(timeout=30) == 0
    assert (tmp_path / "number").read_text() == str(int(signal.SIGHUP))


def test_nonfinite_loss_raises_with_network_step_and_checkpoint(tmp_path: Path) -> None:
    train_settings = dataclasses.replace(QUICK, steps=400, checkpoint_every=5, log_every=3)
    state, discriminator_input = start_training(train_settings=train_settings)

    def poison(row: Row) -> None:
        if row["step"] == 12:
            next(state.gan.discriminator.parameters()).data.fill_(float("nan"))

    with pytest.raises(HepganError, match=r"discriminator's loss is nan at step 15.*step-00000010"):
        training.train(state, discriminator_input, folder=tmp_path, on_row=poison)


def test_weights_that_became_nonfinite_in_the_last_step_are_not_saved(tmp_path: Path) -> None:
    """The losses of that step are those of the weights before it."""
    state, discriminator_input = start_training()

    def poison(row: Row) -> None:
        if row["step"] == 20:
            next(state.gan.generator.parameters()).data[0] = float("inf")

    message = r"a weight of the generator is not finite \('.*'\) at step 20.*step-00000010"
    with pytest.raises(HepganError, match=message):
        training.train(state, discriminator_input, folder=tmp_path, on_row=poison)
    assert (
        checkpoint.newest_checkpoint(tmp_path)
        == tmp_path / "checkpoints" / "step-00000010.safetensors"
    )


def test_saved_gan_generates_the_same(tmp_path: Path) -> None:
    state, discriminator_input = start_training(NORMED, QUICK, {"step": "standardize"})
    gan, _ = training.train(state, discriminator_input)
    gan.save(tmp_path)
    again = GAN.load(tmp_path)
    assert again.tree == "events"
    before, after = gan.sample(3000, seed=5), again.sample(3000, seed=5)
    np.testing.assert_allclose(ak.to_numpy(after["v"]), ak.to_numpy(before["v"]), rtol=1e-5)


def test_sample_depends_on_the_seed_and_not_on_the_number_of_events() -> None:
    state, _ = start_training()
    gan = state.gan
    many, few = gan.sample(2500, seed=5)["v"], gan.sample(1500, seed=5)["v"]
    np.testing.assert_allclose(ak.to_numpy(many[:1500]), ak.to_numpy(few), rtol=1e-5)
    assert not np.allclose(ak.to_numpy(gan.sample(1500, seed=6)["v"]), ak.to_numpy(few))


@pytest.mark.parametrize("damage", ["missing", "cut", "foreign", "version"])
def test_damaged_gan_raises_with_its_path(tmp_path: Path, damage: str) -> None:
    state, _ = start_training()
    state.gan.save(tmp_path)
    about, weights_ = tmp_path / "gan.json", tmp_path / "generator.safetensors"
    if damage == "missing":
        about.unlink()
    elif damage == "cut":
        weights_.write_bytes(weights_.read_bytes()[:-20])
    elif damage == "foreign":
        about.write_text(about.read_text().replace("DENSE|16|", "DENSE|17|"))
    else:
        about.write_text(about.read_text().replace(f'"version": {VERSION}', '"version": 99'))
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        GAN.load(tmp_path)


def test_checkpoint_of_other_networks_raises(tmp_path: Path) -> None:
    state, _ = start_training()
    path = checkpoint.save_checkpoint(state, tmp_path, keep=1)
    other, _ = start_training(dataclasses.replace(DENSE, latent=(4,)))
    with pytest.raises(CheckpointError, match="belongs to other networks"):
        checkpoint.load_checkpoint(other, path)


def test_number_of_parameters_equals_torchs() -> None:
    state, _ = start_training()
    expected = count_parameters(DENSE, state.gan.encoding)
    assert expected["generator"] == sum(p.numel() for p in state.gan.generator.parameters())
    assert expected["discriminator"] == sum(p.numel() for p in state.gan.discriminator.parameters())


def test_last_sigmoid_is_left_to_the_objective() -> None:
    with_sigmoid = dataclasses.replace(DENSE, discriminator="DENSE|16|LRELU, DENSE|1|SIGMOID")
    a, discriminator_input = start_training()
    b, _ = start_training(with_sigmoid)
    x, c = torch.randn(9, 2), torch.empty(9, 0)
    assert torch.equal(
        a.gan.discriminate(discriminator_input(x, c), c),
        b.gan.discriminate(discriminator_input(x, c), c),
    )


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"generator": "DENSE|5|LINEAR"}, LayoutError, "the generator has 5 outputs, but it should have 2, the number of values of an event"),
        ({"discriminator": "DENSE|3|LINEAR"}, LayoutError, "it should have 1;"),
        ({"generator": "DENS|2"}, LayoutError, "DENSE"),
        ({"input": (1, 28, 28)}, RunError, "should hold the 2 values of the discriminator's input"),
    ],
)  # fmt: skip
def test_networks_that_do_not_fit_the_events_raise(
    change: dict[str, Any], error: type[HepganError], message: str
) -> None:
    with pytest.raises(error, match=message):
        start_training(dataclasses.replace(DENSE, **change))


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": -1},
        {"ema": 1.0},
        {"keep": 0},
        {"r1": -1.0},
        {"final_lr_fraction": 0.0},
        {"final_transport_fraction": 1.5},
        {"penalty_fraction": 0.0},
        {"penalty_every": 0},
        {"penalty_step": 0.0},
        {"warmup_steps": -1},
        {"validate_every": -1},
        {"patience": 3, "validate_every": 0},
    ],
)
def test_invalid_training_settings_raise(wrong: dict[str, Any]) -> None:
    with pytest.raises(RunError, match=rf"\[train\] {next(iter(wrong))}"):
        dataclasses.replace(QUICK, **wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0.0},
        {"betas": (0.5, 1.0)},
        {"momentum": 1.0},
        {"epsilon": 0.0},
        {"l2": -1.0},
        {"weight_decay": -1.0},
        {"dropout": (0.0, 1.0)},
    ],
)
def test_invalid_network_settings_raise(wrong: dict[str, Any]) -> None:
    with pytest.raises(RunError, match=rf"^{next(iter(wrong))} = "):
        dataclasses.replace(RATE, **wrong)


PHASES = [
    dataclasses.replace(QUICK, steps=8, generator=NetworkSettings(1e-3, dropout=(0.0, 0.5))),
    dataclasses.replace(QUICK, steps=6, batch_size=64, final_lr_fraction=0.5, discriminator=NetworkSettings(1e-2, "sgd", momentum=0.9)),
    dataclasses.replace(QUICK, steps=4, generator=NetworkSettings(1e-4, "rmsprop", l1=1e-3, l2=1e-3)),
]  # fmt: skip


def in_phases(phases: Sequence[TrainSettings]) -> tuple[TrainingState, DiscriminatorInput]:
    state, discriminator_input = start_training(train_settings=phases[0])
    state.phases = tuple(phases)
    return state, discriminator_input


def test_a_phase_starts_with_the_weights_of_the_previous_one() -> None:
    """The same steps, phase by phase by hand."""
    state, discriminator_input = in_phases(PHASES)
    _, rows = training.train(state, discriminator_input)
    assert state.step == 18
    assert [row["phase"] for row in rows if row["step"] in (8, 14, 18)] == [0, 1, 2]
    first, _ = start_training(train_settings=PHASES[0])
    training.train(first, discriminator_input)
    lone = dataclasses.replace(first, phases=tuple(PHASES[:2]))
    start_phase(lone, 1, phase_start=8)
    assert_equal(weights(first), weights(lone))
    training.train(lone, discriminator_input)
    lone.phases = tuple(PHASES)
    start_phase(lone, 2, phase_start=14)
    training.train(lone, discriminator_input)
    assert_equal(weights(state), weights(lone))


@pytest.mark.parametrize("step", [4, 8, 12, 14])
def test_training_in_phases_resumes_bit_for_bit_in_any_phase(tmp_path: Path, step: int) -> None:
    whole, discriminator_input = in_phases(
        [dataclasses.replace(p, checkpoint_every=4, keep=9) for p in PHASES]
    )
    training.train(whole, discriminator_input, folder=tmp_path)
    again, discriminator_input = in_phases(PHASES)
    checkpoint.load_checkpoint(again, tmp_path / "checkpoints" / f"step-{step:08d}.safetensors")
    training.train(again, discriminator_input)
    assert_equal(weights(whole), weights(again))


def test_a_phase_ends_when_its_patience_does() -> None:
    scores = iter([9.0, 8.0, 8.5, 8.4, 7.0, 7.5, 7.6, 7.7])
    patient = dataclasses.replace(QUICK, steps=100, patience=2)
    state, discriminator_input = in_phases([patient, patient])
    _, rows = training.train(state, discriminator_input, validation=watch(lambda gan: next(scores)))
    assert [(r["step"], r.get("phase", 0)) for r in rows if "validation" in r] == [
        (0, 0), (5, 0), (10, 0), (15, 0), (20, 1), (25, 1), (30, 1),
    ]  # fmt: skip
    assert state.best_step == 20


@pytest.mark.parametrize(
    ("settings", "oracle"),
    [
        (NetworkSettings(0.1, "sgd"), lambda w: torch.optim.SGD(w, 0.1)),
        (NetworkSettings(0.1, "sgd", momentum=0.9), lambda w: torch.optim.SGD(w, 0.1, 0.9)),
        (NetworkSettings(0.1, "adam", (0.5, 0.9)), lambda w: torch.optim.Adam(w, 0.1, (0.5, 0.9))),
        (
            NetworkSettings(0.1, "adamw", (0.5, 0.9), weight_decay=0.3),
            lambda w: torch.optim.AdamW(w, 0.1, (0.5, 0.9), weight_decay=0.3),
        ),
        (NetworkSettings(0.1, "adagrad"), lambda w: torch.optim.Adagrad(w, 0.1, eps=1e-8)),
        (NetworkSettings(0.1, "rmsprop"), lambda w: torch.optim.RMSprop(w, 0.1, 0.9)),
        (NetworkSettings(0.1, "adadelta"), lambda w: torch.optim.Adadelta(w, 0.1, eps=1e-8)),
        (
            NetworkSettings(0.1, "sgd", l2=0.05),
            lambda w: torch.optim.SGD(w, 0.1, weight_decay=0.1),
        ),
    ],
    ids=["sgd", "momentum", "adam", "adamw", "adagrad", "rmsprop", "adadelta", "l2"],
)
def test_optimizers_step_like_torchs(settings: NetworkSettings, oracle: Any) -> None:
    ours, theirs = (torch.nn.Linear(3, 2, bias=False) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    own, other = make_optimizer(ours, settings), oracle(theirs.parameters())
    for step in range(5):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        optimizer_step(ours(x).square().mean(), Update(ours, own, settings))
        other.zero_grad()
        theirs(x).square().mean().backward()
        other.step()
    torch.testing.assert_close(ours.weight, theirs.weight)


def test_weight_decay_of_another_optimizer_raises() -> None:
    with pytest.raises(RunError, match="belongs to optimizer = 'adamw', not to 'adam'"):
        NetworkSettings(0.1, weight_decay=0.1)


def test_weight_penalties_equal_terms_of_the_loss_and_exclude_biases() -> None:
    network = torch.nn.Linear(3, 2)
    settings = NetworkSettings(0.1, "sgd", l1=0.2, l2=0.3)
    before, bias = network.weight.detach().clone(), network.bias.detach().clone()
    optimizer_step(
        0.0 * network(torch.ones(1, 3)).sum(),
        Update(network, make_optimizer(network, settings), settings),
    )
    weights = before.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(
        0.2 * weights.abs().sum() + 0.3 * weights.square().sum(), weights
    )
    torch.testing.assert_close(network.weight, before - 0.1 * gradient)
    assert torch.equal(network.bias, bias)


def test_gradients_are_clipped_to_the_largest_norm() -> None:
    network = torch.nn.Linear(3, 2)
    settings, before = NetworkSettings(1.0, "sgd", clip=0.5), torch.nn.Linear(3, 2)
    before.load_state_dict(network.state_dict())
    optimizer_step(
        1e6 * network(torch.ones(1, 3)).sum(),
        Update(network, make_optimizer(network, settings), settings),
    )
    moved = [a - b for a, b in zip(network.parameters(), before.parameters(), strict=True)]
    assert sum(m.square().sum() for m in moved).sqrt().item() == pytest.approx(0.5, rel=1e-4)


def test_dropout_drops_the_inputs_of_its_layer_only_in_training() -> None:
    state, _ = start_training(
        dataclasses.replace(DENSE, generator="DENSE|4000|LINEAR, DENSE|N|LINEAR")
    )
    g, c = state.gan.generator, torch.empty(1, 0)
    captured: list[torch.Tensor] = []
    g.layers.layers[1].register_forward_hook(
        lambda layer, inputs, output: captured.append(inputs[0])
    )
    z = torch.ones(1, 3)
    plain = g(z, c)
    with input_dropout(g, (0.0, 0.25)):
        g(z, c)
        g.eval()
        assert torch.equal(g(z, c), plain)
        g.train()
    assert torch.equal(g(z, c), plain)
    passed = captured[1] != 0
    assert passed.float().mean().item() == pytest.approx(0.75, abs=0.03)
    torch.testing.assert_close(captured[1][passed], captured[0][passed] / 0.75)
    with (
        pytest.raises(RunError, match=r"dropout has 3 rates.*the network has 2 layers"),
        input_dropout(g, (0.1, 0.1, 0.1)),
    ):
        pass


def test_the_generators_validation_loss_uses_held_out_events_and_changes_no_weight() -> None:
    state, discriminator_input = start_training(NORMED)
    held_out = watch(lambda gan: 0.0).events
    before = weights(state)
    first, again = (
        validation.generator_validation_loss(state, discriminator_input, held_out) for _ in range(2)
    )
    assert first == again
    assert_equal(before, weights(state))
    g, d = state.gan.generator.eval(), state.gan.discriminator.eval()
    z = torch.randn(100, 3, generator=torch_generator(1, "validation", "test loss"))
    with torch.no_grad():
        gap = d(held_out[0], held_out[1]) - d(g(z, held_out[1]), held_out[1])
    assert first == pytest.approx(torch.nn.functional.softplus(gap).mean().item(), rel=1e-5)


def test_divergence_between_logged_steps_leaves_no_checkpoint(tmp_path: Path) -> None:
    train_settings = dataclasses.replace(
        QUICK, steps=12, generator=NetworkSettings(1e30), log_every=50, validate_every=0
    )
    state, discriminator_input = start_training(train_settings=train_settings)
    with pytest.raises(HepganError, match=r"loss is (nan|inf|-inf) at step 1[02]"):
        training.train(state, discriminator_input, folder=tmp_path)
    assert checkpoint.newest_checkpoint(tmp_path) is None


def test_short_training_logs_its_last_step() -> None:
    train_settings = dataclasses.replace(QUICK, steps=3, log_every=50, validate_every=0)
    state, discriminator_input = start_training(train_settings=train_settings)
    _, rows = training.train(state, discriminator_input)
    assert [row["step"] for row in rows] == [3]


CLASSES = Schema.from_table({"fields": {"v": {}}, "conditions": {"label": {"dtype": "uint8"}}})


def test_unspecified_classes_are_drawn_uniformly() -> None:
    rng = np.random.default_rng(3)
    events = ak.zip(
        {"v": rng.normal(size=500).astype("f4"), "label": rng.integers(0, 4, 500).astype("u1")},
        depth_limit=1,
    )
    scale = ConditionScale((0.0, 3.0), "onehot")
    encoding = Encoding.fit(events, CLASSES, EncodingSettings((), {"label": scale}), seed=1)
    gan = GAN.build(DENSE, encoding, seed=1)
    labels = ak.to_numpy(gan.sample(8000, seed=1)["label"])
    assert labels.dtype == np.uint8
    assert np.bincount(labels) == pytest.approx([2000] * 4, abs=200)
    some = ak.to_numpy(gan.sample(4000, label=Choice((1, 2)), seed=1)["label"])
    assert np.bincount(some, minlength=4) == pytest.approx([0, 2000, 2000, 0], abs=150)
    with pytest.raises(DataError, match=r"label = 1.5 is not a class; it may be 0 to 3"):
        gan.sample(label=np.array([1.0, 1.5]), seed=1)


def test_the_largest_seed_works() -> None:
    state, _ = start_training()
    a, b = (ak.to_numpy(state.gan.sample(9, seed=2**63 - i)["v"]) for i in (1, 2))
    assert not np.array_equal(a, b)


def test_conditions_are_not_observables_of_the_discriminator() -> None:
    schema = Schema.from_table(
        {"fields": {"image": {"shape": [4, 4]}}, "conditions": {"label": {"dtype": "uint8"}}}
    )
    names = set(discriminator_observables(schema, {}))
    assert "image.mean" in names
    assert "label" not in names


def test_the_end_of_each_phase_is_validated_for_any_interval() -> None:
    """Steps after the last multiple of ``validate_every`` are validated too, even in a short training."""
    phases = [dataclasses.replace(QUICK, steps=n, validate_every=5, log_every=50) for n in (7, 3)]
    state, discriminator_input = in_phases(phases)
    scores = iter([9.0, 8.0, 7.0, 5.0])
    gan, rows = training.train(
        state, discriminator_input, validation=watch(lambda gan: next(scores))
    )
    assert [row["step"] for row in rows if "validation" in row] == [0, 5, 7, 10]
    assert gan.kept == KeptStep(step=10, steps=10, score=5.0)


def test_of_equal_scores_the_latest_step_is_kept() -> None:
    """A score that does not depend on the generator must not keep the untrained one."""
    state, discriminator_input = start_training()
    training.train(state, discriminator_input, validation=watch(lambda gan: 4.0))
    assert state.best_step == 20


def test_disabled_validation_stays_disabled_at_the_end() -> None:
    state, discriminator_input = start_training(
        train_settings=dataclasses.replace(QUICK, validate_every=0)
    )
    gan, rows = training.train(
        state, discriminator_input, validation=watch(lambda gan: pytest.fail("validated"))
    )
    assert not any("validation" in row for row in rows)
    assert gan.kept == KeptStep(step=20, steps=20)
    assert "without validation" in str(gan.kept)


def test_an_untrained_generator_that_was_kept_is_recorded(tmp_path: Path) -> None:
    state, discriminator_input = start_training()
    scores = iter([1.0, 2.0, 2.0, 2.0, 2.0])
    gan, _ = training.train(state, discriminator_input, validation=watch(lambda gan: next(scores)))
    gan.save(tmp_path)
    kept = serialization.read_kept_step(tmp_path)
    assert kept is not None
    assert kept.untrained
    assert "beat the untrained generator (validation score 1)" in str(kept)
    assert GAN.load(tmp_path).kept == kept


def test_the_kept_step_is_saved_in_gan_json_and_older_files_load_without_it(tmp_path: Path) -> None:
    state, discriminator_input = start_training()
    scores = iter([9.0, 3.0, 1.0, 2.0, 5.0])
    gan, _ = training.train(state, discriminator_input, validation=watch(lambda gan: next(scores)))
    gan.save(tmp_path)
    about = json.loads((tmp_path / "gan.json").read_text())
    assert (about["kept_step"], about["steps"], about["validation_score"]) == (10, 20, 1.0)
    for name in ("kept_step", "steps", "validation_score"):
        del about[name]
    (tmp_path / "gan.json").write_text(json.dumps(about))
    assert GAN.load(tmp_path).kept is None


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_nonfinite_validation_score_raises_with_the_step(score: float) -> None:
    state, discriminator_input = start_training()
    scores = iter([1.0, score])
    with pytest.raises(HepganError, match="validation score is not finite at step 5"):
        training.train(state, discriminator_input, validation=watch(lambda gan: next(scores)))
