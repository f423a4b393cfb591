"""Every object lives on one device, and training never waits for it between two rows of the history.

The device is that of ``fake_accelerator``, which needs no GPU: it rejects tensors of two devices in one operation, as CUDA does, and
records operations that would make the host wait.
"""

import copy
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
from fake_accelerator import DEVICE, Accelerator, pinned
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from hepgan.data.encoding import encoding as encodings
from hepgan.data.encoding import kernels
from hepgan.data.encoding.conditions import ConditionScale
from hepgan.data.encoding.density import network
from hepgan.data.encoding.encoding import Encoding, EncodingSettings
from hepgan.data.encoding.steps import STEPS
from hepgan.data.schema import Schema
from hepgan.errors import RunError
from hepgan.evaluation.observables.standard import Observable
from hepgan.gan import devices
from hepgan.gan.discriminator_input import DiscriminatorInput
from hepgan.gan.export.decoded import DecodedGenerator
from hepgan.gan.model import GAN
from hepgan.gan.networks import GANSettings
from hepgan.gan.training import checkpoint
from hepgan.gan.training import loop as training
from hepgan.gan.training.settings import NetworkSettings, TrainSettings
from hepgan.gan.training.state import TrainingState
from hepgan.pipeline import load, make_validation, prepare, presets
from hepgan.pipeline import training as running
from hepgan.pipeline import validation as validating
from hepgan.processors import model_cache

EVENTS = 12
"""Of each split: with batches of 6, an epoch ends within a training of 3 steps."""


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Accelerator]:
    """The fake device; fitting and encoding on the CPU are not checked, to save time."""
    monkeypatch.setattr(Tensor, "pin_memory", pinned)
    for name in ("fit_steps", "apply_steps"):
        monkeypatch.setattr(encodings, name, unwatched(getattr(encodings, name)))
    with Accelerator() as mode:
        yield mode


def unwatched(function: Any) -> Any:
    def plain(*inputs: Any, **options: Any) -> Any:
        with _disable_current_modes():
            return function(*inputs, **options)

    return plain


SHORT = {"steps": 3, "batch_size": 6, "log_every": 3, "validate_every": 3, "checkpoint_every": 3}


@pytest.mark.parametrize("preset", presets())
def test_presets_train_validate_and_sample_on_one_device_without_synchronizing(
    preset: str, accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = running.read_events
    monkeypatch.setattr(
        running, "read_events", lambda run: {k: v[:EVENTS] for k, v in read(run).items()}
    )
    monkeypatch.setattr(validating, "VALIDATED", EVENTS)
    monkeypatch.setattr(network, "LEAST_EVENTS", 1)
    run = load(preset, {f"train.{key}": value for key, value in SHORT.items()})
    steps = tuple(
        {**step, "steps": 2, "hidden": 4} if step["step"] in LEARNED else step
        for step in run.encoding.steps
    )
    run = dataclasses.replace(run, encoding=dataclasses.replace(run.encoding, steps=steps))
    prepared = prepare(run, device=DEVICE)
    watch = make_validation(run, prepared.splits["validation"], prepared.state.gan.encoding)
    assert {tensor.device for tensor in tensors_of(prepared)} == {DEVICE}
    waited = []
    history_row = training.history_row

    def noted(*inputs: Any) -> Any:
        waited.append(list(accelerator.waits))
        return history_row(*inputs)

    monkeypatch.setattr(training, "history_row", noted)
    gan, rows = training.train(
        prepared.state,
        prepared.discriminator_input,
        validation=watch,
        on_row=lambda row: accelerator.waits.clear(),
    )
    assert waited == [[]]
    assert [row["step"] for row in rows] == [0, 3]
    assert gan.device == DEVICE
    inputs = exporting(gan)
    exported = DecodedGenerator(gan.to("cpu")).eval().to(DEVICE)
    assert all(field.device == DEVICE for field in exported(*inputs))


def tensors_of(prepared: Any) -> list[Tensor]:
    gan, state = prepared.state.gan, prepared.state
    modules = (gan.generator, gan.discriminator, state.ema, prepared.discriminator_input)
    tensors = [t for module in modules for t in (*module.parameters(), *module.buffers())]
    return [*tensors, *state.loader.tensors, *gan.encoding.pack()[1].values()]


def exporting(gan: GAN) -> list[Tensor]:
    """Noise and conditions of two events, in the middle of their ranges."""
    middles = [sum(scale.range) // 2 for scale in gan.encoding.scales.values()]
    conditions = [torch.full((2,), float(middle), device=DEVICE) for middle in middles]
    return [torch.zeros(2, *gan.latent, device=DEVICE), *conditions]


LEARNED = {"energy_tree", "autoregressive"}
"""Steps that fit networks."""

STEP_SETTINGS: dict[str, dict[str, Any]] = {
    "energy_tree": {"incident": "energy", "threshold": 0.1, "steps": 2, "hidden": 4},
    "autoregressive": {"steps": 2, "hidden": 4},
    "power": {"exponent": 0.5},
    "threshold": {"threshold": 0.1},
    "log": {"threshold": 0.1},
    "logit": {"fields": ("share",)},
    "layer_sums": {"incident": "energy", "threshold": 0.1},
    "incident_fraction": {"incident": "energy", "fields": ("cells",)},
    "marginals": {"condition": "energy", "windows": 3, "per_window": 50, "knots": 9},
    "copula": {
        "condition": "energy",
        "windows": 3,
        "per_window": 50,
        "knots": 9,
        "censored_zeros": True,
    },
    "regress": {"condition": "energy", "condition_on_first": ("share",)},
}
SCHEMA = Schema.from_table(
    {
        "fields": {"cells": {"shape": [3], "unit": "GeV"}, "share": {"unit": "GeV"}},
        "conditions": {"energy": {"unit": "GeV"}},
        "incident": "energy",
    }
)
SCALES = {"energy": ConditionScale((1.0, 100.0), "log")}


def events(number: int = 120) -> ak.Array:
    rng = np.random.default_rng(1)
    energy = rng.uniform(20, 90, number)
    cells = energy[:, None] / 4 * rng.uniform(0.2, 1, (number, 3))
    columns = {"cells": cells, "share": rng.uniform(0.2, 0.8, number), "energy": energy}
    return ak.zip({name: v.astype("f4") for name, v in columns.items()}, depth_limit=1)


def fitted(*steps: dict[str, Any]) -> Encoding:
    return Encoding.fit(events(), SCHEMA, EncodingSettings(steps, SCALES), seed=1)


@pytest.mark.parametrize("name", STEPS)
def test_encodings_encode_and_decode_on_their_device(name: str, accelerator: Accelerator) -> None:
    encoding = fitted({"step": name, **STEP_SETTINGS.get(name, {})})
    moved = encoding.to(DEVICE)
    assert moved.device == DEVICE
    expected, encoded = encoding.encode(events(), seed=1), moved.encode(events(), seed=1)
    for one, other in zip(encoded, expected, strict=True):
        assert one.device == DEVICE
        assert torch.equal(one.cpu(), other)
    accelerator.waits.clear()
    decoded = moved.decode_tensors(*encoded) | moved.decode_conditions(encoded[1])
    assert accelerator.waits == []
    # Networks get other numbers of rows at once on the CPU, which round differently.
    tolerance = 1e-4 if name in LEARNED else 0.0
    with kernels.eager():  # kernels round differently
        on_cpu, cells = encoding.decode_tensors(*expected), encoding.decode(*expected)["cells"]
    for field, values in on_cpu.items():
        torch.testing.assert_close(
            decoded[field].cpu(), values, rtol=tolerance, atol=10 * tolerance
        )
    pair = moved.decode(*encoded)["cells"], cells
    np.testing.assert_allclose(*map(ak.to_numpy, pair), rtol=tolerance, atol=10 * tolerance)


SEES = {"sum": Observable("sum", lambda e: e["cells"].sum(1) / e["energy"], "sum")}
COPULA = {"step": "copula", **STEP_SETTINGS["copula"], "censored_zeros": False}


def test_a_discriminator_input_moves_as_a_whole(accelerator: Accelerator) -> None:
    encoding = fitted(COPULA)
    x, c = encoding.encode(events(), seed=1)
    discriminator_input = DiscriminatorInput(encoding, SEES, x, c)
    expected = discriminator_input(x, c)
    features = discriminator_input.to(DEVICE)(x.to(DEVICE), c.to(DEVICE))
    assert features.device == DEVICE
    torch.testing.assert_close(features.cpu(), expected)


def test_an_exported_gan_moves_as_a_whole(accelerator: Accelerator) -> None:
    gan = GAN.build(SETTINGS, fitted(COPULA), seed=1)
    decoded = DecodedGenerator(gan).eval()
    inputs = torch.zeros(2, 4), torch.tensor([30.0, 60.0])
    moved = copy.deepcopy(decoded).to(DEVICE)(*(tensor.to(DEVICE) for tensor in inputs))
    for one, other in zip(moved, decoded(*inputs), strict=True):
        assert one.device == DEVICE
        torch.testing.assert_close(one.cpu(), other)


@pytest.mark.parametrize("device", ["cpu", DEVICE])
def test_observables_of_one_energy_have_a_mean_and_a_width(
    device: torch.device, accelerator: Accelerator
) -> None:
    """Powers of a constant energy are collinear, which least squares on CUDA does not support."""
    encoding = fitted({"step": "standardize"}).to(device)
    one = ak.with_field(events(), np.full(120, 50.0, dtype="f4"), "energy")
    x, c = encoding.encode(one, seed=1)
    features = DiscriminatorInput(encoding, SEES, x, c, event=False)(x, c).cpu()
    assert abs(features.mean()) < 1e-3
    assert 0.5 < features.std() < 2


SETTINGS = GANSettings(
    (0,), generator="COND, DENSE|8|TANH, DENSE|N|LINEAR", discriminator="DENSE|1|LINEAR"
)
RATE = NetworkSettings(learning_rate=1e-2)
PHASE = TrainSettings(
    steps=4, batch_size=8, generator=RATE, discriminator=RATE, log_every=2, checkpoint_every=2, validate_every=0
)  # fmt: skip


def start_training(device: torch.device | str) -> tuple[TrainingState, DiscriminatorInput]:
    encoding = fitted({"step": "standardize"}).to(device)
    x, c = encoding.encode(events(), seed=1)
    discriminator_input = DiscriminatorInput(encoding, {}, x, c)
    gan = GAN.build(SETTINGS, encoding, seed=1, device=device)
    return training.initial_state(
        gan, discriminator_input, x, c, [PHASE], seed=1
    ), discriminator_input


@pytest.mark.parametrize(("first", "then"), [("cpu", DEVICE), (DEVICE, "cpu")])
def test_checkpoints_are_resumed_on_another_type_of_device(
    first: Any, then: Any, accelerator: Accelerator, tmp_path: Path
) -> None:
    whole, discriminator_input = start_training(first)
    training.train(whole, discriminator_input, folder=tmp_path)
    again, discriminator_input = start_training(then)
    checkpoint.load_checkpoint(again, tmp_path / "checkpoints" / "step-00000002.safetensors")
    training.train(again, discriminator_input)
    assert again.gan.device.type == torch.device(then).type
    for one, other in zip(
        again.gan.generator.parameters(), whole.gan.generator.parameters(), strict=True
    ):
        torch.testing.assert_close(one.cpu(), other.cpu())


FULL = [
    torch.OutOfMemoryError("CUDA out of memory"),
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
]


def failing(error: Exception) -> Any:
    def fail(*inputs: Any, **options: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("error", FULL, ids=["cuda", "python", "cpu"])
def test_running_out_of_memory_is_not_reported_as_damage(
    error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    state, discriminator_input = start_training("cpu")
    training.train(state, discriminator_input, folder=tmp_path)
    path = checkpoint.newest_checkpoint(tmp_path)
    assert path is not None
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_restore_optimizer", failing(error))
        with pytest.raises(RunError, match=r"does not fit into the memory of 'cpu'"):
            checkpoint.load_checkpoint(start_training("cpu")[0], path)
    with monkeypatch.context() as patch:
        patch.setattr(GAN, "to", failing(error))
        with pytest.raises(RunError, match=r"does not fit into the memory of 'cpu'"):
            GAN.load("mnist")
    with monkeypatch.context() as patch:
        patch.setattr(training, "train_step", failing(error))
        with pytest.raises(RunError, match=r"training does not fit .* smaller batch_size"):
            training.train(*start_training("cpu"))


def test_gans_load_on_the_auto_device() -> None:
    gan = GAN.load("mnist", device="auto")
    assert gan.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(RunError, match="the device 'cuda:99' does not exist"):
        GAN.load("mnist", device="cuda:99")


def test_looking_for_a_gpu_does_not_start_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise workers that are forked afterwards cannot use the GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", failing(AssertionError("starts CUDA")))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert (
        devices.resolve_device("auto").type
        == model_cache._device("auto", "torch").partition(":")[0]
        == "cuda"
    )
    monkeypatch.setattr(torch.cuda, "device_count", failing(AssertionError("not asked for")))
    assert model_cache._device("cpu", "torch") == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("preset", ["mnist", "showers", "showers-fast", "bologan", "calogan"])
def test_presets_train_validate_and_sample_on_a_gpu(
    preset: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    read = running.read_events
    monkeypatch.setattr(
        running, "read_events", lambda run: {k: v[:200] for k, v in read(run).items()}
    )
    monkeypatch.setattr(network, "LEAST_EVENTS", 1)
    run = load(preset, {f"train.{key}": value for key, value in SHORT.items()})
    steps = tuple(
        {**step, "steps": 2, "hidden": 4} if step["step"] in LEARNED else step
        for step in run.encoding.steps
    )
    run = dataclasses.replace(run, encoding=dataclasses.replace(run.encoding, steps=steps))
    prepared = prepare(run, device=torch.device("cuda"))
    gan, rows = training.train(
        prepared.state,
        prepared.discriminator_input,
        validation=make_validation(run, prepared.splits["validation"], prepared.state.gan.encoding),
        folder=tmp_path,
    )
    assert np.isfinite(rows[-1]["validation"])
    conditions = {name: prepared.splits["test"][name] for name in run.schema.conditions}
    assert len(gan.sample(len(prepared.splits["test"]), conditions=conditions, seed=1)) == 200
    state = prepare(run, device=torch.device("cpu")).state
    newest = checkpoint.newest_checkpoint(tmp_path)
    assert newest is not None
    checkpoint.load_checkpoint(state, newest)
    assert state.step == 3
