"""ONNX Runtime gives the events of torch."""

import dataclasses
import sys
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import torch
import uproot
from click.testing import CliRunner
from host_gans import COPULA, shower_gan

import hepgan
from hepgan import processors
from hepgan.cli import main
from hepgan.data.encoding.encoding import Encoding, EncodingSettings
from hepgan.data.schema import Schema
from hepgan.errors import RunError
from hepgan.gan.export import onnx_engine
from hepgan.gan.model import GAN
from hepgan.gan.networks import GANSettings


@pytest.fixture(scope="module")
def gan() -> GAN:
    return shower_gan({"front": (2, 3), "back": (4,)}, "energy", "pdg", steps=COPULA)


def assert_close(one: ak.Array, other: ak.Array, rtol: float = 1e-4) -> None:
    assert one.fields == other.fields
    for name in one.fields:
        assert one[name].type == other[name].type
        np.testing.assert_allclose(ak.to_numpy(one[name]), ak.to_numpy(other[name]), rtol=rtol)


def test_samples_of_onnx_runtime_are_those_of_torch_with_classes_as_conditions(gan: GAN) -> None:
    values = {"energy": hepgan.Range(2000.0, 90_000.0), "pdg": hepgan.Choice((-11, 22))}
    one = gan.sample(1500, seed=3, engine="onnx", **values)
    assert_close(one, gan.sample(1500, seed=3, **values))
    assert set(ak.to_numpy(one.pdg)) == {-11, 22}
    again = gan.sample(1500, seed=3, engine="onnx", **values)
    assert all(ak.array_equal(one[name], again[name]) for name in one.fields)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_sampler_of_onnx_runtime_continues_the_events_of_torchs(gan: GAN, batch: int) -> None:
    samplers = [gan.sampler(batch, seed=2, engine=engine) for engine in ("torch", "onnx")]
    for energy in (2000.0, 50_000.0):
        expected, events = (sampler(energy=energy, pdg=22) for sampler in samplers)
        for name, values in events.items():
            assert values.shape == (batch, *gan.schema.fields[name].shape)
            np.testing.assert_allclose(values, expected[name], rtol=1e-4)


def test_integers_and_gans_without_conditions_run_in_onnx_runtime() -> None:
    rng = np.random.default_rng(1)
    events = ak.zip({"n": rng.integers(0, 9, 500), "b": rng.normal(size=(500, 2))}, depth_limit=1)
    schema = Schema.from_table({"fields": {"n": {"dtype": "int32"}, "b": {"shape": [2]}}})
    encoding = Encoding.fit(events, schema, EncodingSettings(({"step": "scale"},)), seed=1)
    networks = GANSettings((0,), generator="DENSE|N|TANH", discriminator="DENSE|1|LINEAR")
    gan = GAN.build(networks, encoding, seed=1)
    assert_close(gan.sample(50, seed=1, engine="onnx"), gan.sample(50, seed=1), rtol=1e-5)


def test_a_gan_is_exported_once_until_its_weights_change(
    gan: GAN, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports = []
    original = onnx_engine._exported
    monkeypatch.setattr(onnx_engine, "_exported", lambda gan: exports.append(1) or original(gan))
    gan = dataclasses.replace(gan)
    values = {"energy": 5000.0, "pdg": 22}
    before = gan.sample(5, seed=1, engine="onnx", **values)
    gan.sampler(seed=1, engine="onnx")
    assert len(exports) == 1
    with torch.no_grad():
        for weight in gan.generator.parameters():
            weight.add_(0.1)
    after = gan.sample(5, seed=1, engine="onnx", **values)
    assert len(exports) == 2
    assert not ak.array_equal(before.front, after.front)
    assert_close(after, gan.sample(5, seed=1, **values))


def test_a_missing_onnx_runtime_raises_with_its_extra(
    gan: GAN, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RunError, match=r"pip install 'hepgan\[onnx\]'"):
        dataclasses.replace(gan).sampler(seed=1, engine="onnx")


def test_unknown_engines_and_gpus_for_onnx_runtime_raise(gan: GAN) -> None:
    with pytest.raises(RunError, match="unknown engine 'onx'; did you mean 'onnx'"):
        gan.sampler(seed=1, engine="onx")
    on_gpu = dataclasses.replace(gan.encoding, device=torch.device("cuda"))
    with pytest.raises(RunError, match="runs on the CPU, but the GAN is on 'cuda'"):
        dataclasses.replace(gan, encoding=on_gpu).sampler(seed=1, engine="onnx")


def test_onnx_runtime_has_one_thread_unless_the_environment_says_more(
    gan: GAN, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    original = onnx_engine.onnx_runner
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    monkeypatch.setattr(
        onnx_engine, "onnx_runner", lambda *args, **options: threads.append(options["threads"]) or original(*args)
    )  # fmt: skip
    for setting in ({}, {"OMP_NUM_THREADS": "7"}):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        for name, value in setting.items():
            monkeypatch.setenv(name, value)
        dataclasses.replace(gan).sampler(seed=1, engine="onnx")
    assert threads == [1, 7]


@pytest.fixture(scope="module")
def ensemble(gan: GAN, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ensemble")
    gan.save(folder)
    for member in range(2):
        shower_gan(
            {"front": (2, 3), "back": (4,)}, "energy", "pdg", steps=COPULA, seed=member
        ).save(folder / "members" / str(member))
    return folder


@pytest.mark.parametrize("member", ["1", "all"])
def test_commands_write_the_same_showers_with_both_engines(
    ensemble: Path, tmp_path: Path, member: str
) -> None:
    particles = tmp_path / "particles.root"
    with uproot.recreate(particles) as file:
        file.mktree("events", {"E": "f4", "id": "i4"})
        file["events"].extend(
            {"E": np.linspace(2000, 9000, 20, dtype="f4"), "id": np.tile([22, -11], 10)}
        )
    commands = {
        "generate": ["-n", "20", "--condition", "energy=2000:9000"],
        "simulate": [str(particles), "--energy", "E", "--condition", "pdg=id"],
    }
    for command, options in commands.items():
        trees = []
        for engine in ("torch", "onnx"):
            path = tmp_path / f"{command}-{engine}.root"
            arguments = [command, str(ensemble), *options, "-o", str(path), "--seed", "1"]
            result = CliRunner().invoke(
                main, [*arguments, "--member", member, "--engine", engine, "--device", "cpu"]
            )
            assert result.exit_code == 0, result.output
            with uproot.open(path) as file:
                trees.append(file["events"].arrays())
        assert ("member" in trees[0].fields) == (member == "all")
        assert_close(*trees)


def test_a_wrapper_with_onnx_runtime_gives_the_showers_of_simulate(ensemble: Path) -> None:
    chunk = ("events", "photons.root", "events", "00ff", 0)
    entries, numbers = np.arange(4), np.zeros(4, dtype=np.int64)
    values = {"energy": np.linspace(2000, 9000, 4), "pdg": np.array([22, -11, 22, -11])}
    onnx, expected = (
        processors.GeneratorWrapper(
            str(ensemble), seed=1, device="cpu", engine=engine
        ).numpy_call(chunk, entries, numbers, **values)
        for engine in ("onnx", "torch")
    )  # fmt: skip
    for name, cells in expected.items():
        np.testing.assert_allclose(onnx[name], cells, rtol=1e-4)
