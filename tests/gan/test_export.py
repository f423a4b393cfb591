"""Exported GANs give the same output as torch, in separate programs."""

import copy
import dataclasses
import json
from pathlib import Path

import awkward as ak
import numpy as np
import onnx
import onnxruntime
import pytest
import scipy.special
import torch
from click.testing import CliRunner
from tiny import TINY, tiny_events, write_tiny

import hepgan
from hepgan.cli import main
from hepgan.data.encoding import kernels
from hepgan.data.encoding.conditions import ConditionScale
from hepgan.data.encoding.density.tree import split_blocks
from hepgan.data.encoding.encoding import Encoding, EncodingSettings
from hepgan.data.encoding.energy_tree import EnergyTree
from hepgan.data.schema import Schema
from hepgan.errors import RunError
from hepgan.gan.export import files, level_functions, onnx_model
from hepgan.gan.export.decoded import DecodedGenerator
from hepgan.gan.export.files import export
from hepgan.gan.export.level_functions import LevelFunctions
from hepgan.gan.export.plain import Plain
from hepgan.gan.model import GAN
from hepgan.gan.networks import GANSettings
from hepgan.pipeline import load, prepare


@pytest.fixture(scope="module")
def gan() -> GAN:
    return GAN.load("showers-fast", device="cpu")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> GAN:
    """An untrained GAN of the small sample."""
    folder = tmp_path_factory.mktemp("small")
    write_tiny(folder / "tiny.root", tiny_events(3000, 1))
    (folder / "tiny.toml").write_text(TINY.format(path=folder / "tiny.root"))
    return prepare(load(folder / "tiny.toml"), device=torch.device("cpu")).state.gan


@pytest.fixture(scope="module")
def ensemble(small: GAN, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two members with other weights."""
    folder = tmp_path_factory.mktemp("ensemble")
    small.save(folder / "members" / "0")
    other = copy.deepcopy(small)
    with torch.no_grad():
        for weight in other.generator.parameters():
            weight.mul_(1.1)
    other.save(folder / "members" / "1")
    return folder


def test_onnx_output_equals_torchs(small: GAN, tmp_path: Path) -> None:
    export(small, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    noise, energy = inputs(small, 1000)
    energy = 1 + energy / 20
    with torch.no_grad():
        expected = DecodedGenerator(small).eval()(noise, energy)
    for stop in (1, 1000):
        result = session.run(None, {"noise": noise[:stop].numpy(), "energy": energy[:stop].numpy()})
        for one, other in zip(result, expected, strict=True):
            np.testing.assert_allclose(one, other[:stop].numpy(), rtol=1e-4, atol=0)


def inputs(gan: GAN, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(number, *gan.latent, generator=draw), 1 + 99 * torch.rand(
        number, generator=draw
    )


def test_each_member_of_an_ensemble_is_exported_with_its_weights(
    ensemble: Path, tmp_path: Path
) -> None:
    command = ["export", str(ensemble), "-o", str(tmp_path / "model.onnx"), "--member"]
    result = CliRunner().invoke(main, [*command, "all"])
    assert result.exit_code == 0, result.output
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.onnx"))
    assert written == ["members/0/model.onnx", "members/1/model.onnx"]
    assert result.output.count("accuracy: 0 of") == 2
    for member, path in enumerate(written):
        session = onnxruntime.InferenceSession(tmp_path / path)
        gan = GAN.load(ensemble, device="cpu", member=member)
        noise, energy = inputs(gan, 20)
        energy = 1 + energy / 20
        result = session.run(None, {"noise": noise.numpy(), "energy": energy.numpy()})
        with torch.no_grad():
            expected = DecodedGenerator(gan).eval()(noise, energy)
        for one, other in zip(result, expected, strict=True):
            np.testing.assert_allclose(one, other.numpy(), rtol=1e-4, atol=0)


def test_no_member_is_exported_if_one_cannot_be_written(ensemble: Path, tmp_path: Path) -> None:
    (tmp_path / "members").mkdir()
    (tmp_path / "members" / "1").write_text("a file instead of a folder")
    command = ["export", str(ensemble), "-o", str(tmp_path / "model.onnx"), "--member", "all"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert str(tmp_path / "members" / "1") in result.output.replace("\n", "")
    assert not list(tmp_path.rglob("*.onnx"))


def test_an_existing_file_of_a_member_raises_before_the_first_is_exported(
    ensemble: Path, tmp_path: Path
) -> None:
    (tmp_path / "members" / "1").mkdir(parents=True)
    (tmp_path / "members" / "1" / "model.onnx").touch()
    gans = [GAN.load(ensemble, device="cpu", member=member) for member in range(2)]
    with pytest.raises(RunError, match=r"members.1.model\.onnx' exists"):
        files.export_members(gans, tmp_path / "model.onnx")
    assert not (tmp_path / "members" / "0").exists()


@pytest.mark.slow
def test_exported_showers_equal_those_of_sample(gan: GAN, tmp_path: Path) -> None:
    written = export(gan, tmp_path / "model.onnx", events=10_000)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    about = json.loads(session.get_modelmeta().custom_metadata_map["hepgan"])
    assert about["version"] == hepgan.__version__
    assert about["inputs"]["energy"] == {"shape": [], "unit": "GeV", "range": [1.0, 100.0]}
    assert about["outputs"]["layer_1"] == {"shape": [12, 12], "unit": "MeV"}
    assert not {entry.type for entry in (*session.get_inputs(), *session.get_outputs())} - {
        "tensor(float)"
    }
    assert written.accuracy.cells > 2_000_000
    assert written.accuracy.different < 1e-5 * written.accuracy.cells
    assert written.accuracy.largest_alone <= 2


@pytest.mark.slow
def test_convolutions_are_exported(small: GAN, tmp_path: Path) -> None:
    settings = dataclasses.replace(
        small.settings, generator="DENSE|8|RELU, RESHAPE|2|2|2, CONV|2|3|3|1|1|1|1|GELU, RESHAPE|FLAT, DENSE|N|LINEAR"
    )  # fmt: skip
    gan = GAN.build(settings, small.encoding, seed=1)
    written = export(gan, tmp_path / "model.onnx")
    assert written.accuracy.largest < 1e-4


@pytest.mark.slow
def test_output_of_the_exported_program_equals_torchs(gan: GAN, tmp_path: Path) -> None:
    export(gan, tmp_path / "model.pt2")
    extra = {"hepgan.json": ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=extra).module()
    assert json.loads(extra["hepgan.json"])["outputs"]["layer_0"]["unit"] == "MeV"
    noise, energy = inputs(gan, 500)
    with torch.no_grad(), kernels.eager():  # kernels round differently
        for one, other in zip(
            program(noise, energy), DecodedGenerator(gan).eval()(noise, energy), strict=True
        ):
            assert torch.equal(one, other)  # single precision, as in GAN.sample


def test_other_suffixes_and_existing_files_raise(small: GAN, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"end with \.onnx or \.pt2"):
        export(small, tmp_path / "model.h5")
    (tmp_path / "model.pt2").touch()
    with pytest.raises(RunError, match="exists"):
        export(small, tmp_path / "model.pt2")


@pytest.mark.parametrize(("step", "ending"), [("copula", ".onnx"), ("marginals", ".pt2")])
def test_gans_without_conditions_are_exported_for_any_batch(
    step: str, ending: str, tmp_path: Path
) -> None:
    gan = unconditional(step)
    export(gan, path := tmp_path / f"model{ending}")
    for size in (1, 2, 3, 7, 500):
        noise = torch.randn(size, 3, generator=torch.Generator().manual_seed(size))
        with torch.no_grad():
            expected = DecodedGenerator(gan).eval()(noise)
            if ending == ".onnx":
                result = onnxruntime.InferenceSession(path).run(None, {"noise": noise.numpy()})
            else:
                result = torch.export.load(path).module()(noise)
        for one, other in zip(result, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def unconditional(step: str) -> GAN:
    """An untrained GAN of three numbers without conditions."""
    values = np.random.default_rng(1).normal(size=(500, 3))
    events = ak.zip({"a": values[:, 0], "b": values[:, 1:]}, depth_limit=1)
    schema = Schema.from_table({"fields": {"a": {}, "b": {"shape": [2]}}})
    encoding = Encoding.fit(events, schema, EncodingSettings(({"step": step},)), seed=1)
    settings = GANSettings((0,), generator="DENSE|N|TANH", discriminator="DENSE|1|LINEAR")
    return GAN.build(settings, encoding, seed=1)


def test_models_for_one_batch_size_raise() -> None:
    gan = unconditional("standardize")
    model = Plain(gan, fixed={}, path=Path("model.onnx")).eval()
    with torch.no_grad():
        of_three = [field.numpy() for field in model(torch.zeros(3, 3))]
    with pytest.raises(RunError, match="exported model and torch disagree on 'a' in a batch of 1"):
        files._check(model, lambda inputs: of_three)


class Branches(torch.nn.Module):
    """A network that torch cannot export."""

    def forward(self, noise: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return noise if noise.sum() > 0 else -noise


@pytest.mark.parametrize("ending", [".onnx", ".pt2"])
def test_a_network_that_torch_cannot_export_raises_a_one_line_error(
    ending: str, tmp_path: Path
) -> None:
    gan = dataclasses.replace(unconditional("standardize"), generator=Branches())
    with pytest.raises(RunError, match="torch cannot export this GAN to") as caught:
        export(gan, tmp_path / f"model{ending}")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


CONDITIONS = {"energy": ConditionScale((1.0, 10.0), "log"), "y": ConditionScale((-1.0, 1.0))}

TREE = {"step": "energy_tree", "threshold": 0.05, "incident": "energy", "steps": 20, "hidden": 4}

NETWORKS = {"step": "autoregressive", "steps": 20, "hidden": 4}


def conditional(*steps: dict[str, object]) -> GAN:
    """An untrained GAN of showers of 2 × 2 and 1 × 2 cells [MeV] with an energy [GeV] and a position; often, the second layer is empty."""
    rng = np.random.default_rng(2)
    energy, y = 10 ** rng.uniform(0, 1, 200), rng.uniform(-1, 1, 200)
    cells = rng.gamma(0.7, 1, (200, 6)) * np.exp(np.outer(y, [-1, 1, -1, 1, -1, 1]))
    cells[:, 4:] *= (rng.random(200) < 0.7)[:, None]
    cells *= (1000 * energy / cells.sum(1))[:, None]
    cells[cells < 0.05] = 0
    events = ak.zip(
        {"front": cells[:, :4].reshape(-1, 2, 2), "back": cells[:, 4:], "energy": energy, "y": y},
        depth_limit=1,
    )
    schema = Schema.from_table(
        {
            "fields": {
                "front": {"shape": [2, 2], "unit": "MeV"},
                "back": {"shape": [2], "unit": "MeV"},
            },
            "conditions": {"energy": {"unit": "GeV"}, "y": {"unit": "mm"}},
            "incident": "energy",
        }
    )
    encoding = Encoding.fit(events, schema, EncodingSettings(steps, CONDITIONS), seed=1)
    settings = GANSettings((0,), generator="DENSE|N|LINEAR", discriminator="DENSE|1|LINEAR")
    return GAN.build(settings, encoding, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".onnx", ".pt2"])
def test_steps_of_networks_are_exported_for_any_batch(ending: str, tmp_path: Path) -> None:
    gan = conditional(TREE, NETWORKS)
    export(gan, path := tmp_path / f"model{ending}")
    for size in (1, 500):
        noise = torch.randn(size, *gan.latent, generator=torch.Generator().manual_seed(size))
        values = [scale.examples(size) for scale in gan.encoding.scales.values()]
        names = ["noise", *gan.encoding.scales]
        with torch.no_grad():
            if ending == ".onnx":
                feed = {n: v.numpy() for n, v in zip(names, [noise, *values], strict=True)}
                result = onnxruntime.InferenceSession(path).run(None, feed)
            else:
                result = torch.export.load(path).module()(noise, *values)
            expected = DecodedGenerator(gan).eval()(noise, *values)
            conditions = dict(zip(gan.encoding.scales, (v.numpy() for v in values), strict=True))
            c = gan.encoding.encode_conditions(conditions)
            single = gan.encoding.decode_tensors(gan.generate(noise, c), c)
        for one, other, field in zip(result, expected, single.values(), strict=True):
            close = np.isclose(one, other, rtol=1e-3, atol=1e-3)
            assert close.mean() > 0.999
            close = np.isclose(one, field, rtol=1e-3, atol=1e-3)
            assert close.mean() > 0.999


@torch.no_grad()
def test_levels_of_trees_are_calls_of_one_function_per_tree() -> None:
    gan = conditional(TREE)
    step = next(s for s in gan.encoding.steps if isinstance(s, EnergyTree))
    functions = LevelFunctions()
    with functions.traced():
        step.decode(torch.zeros(3, 6), torch.zeros(3, 2))
    assert len(step.cells.levels) > 2
    assert list(functions.names.values()) == ["split_blocks_0", "split_blocks_1"]

    level, rng = step.cells.levels[1], torch.Generator().manual_seed(1)
    blocks = torch.rand(7, len(level.parent) + level.kept.shape[1], generator=rng)
    layers, expected = torch.rand(7, 2, generator=rng), torch.rand(7, 2, 2, generator=rng)
    context = torch.rand(7, len(level.network.context), generator=rng)
    scores = torch.randn(7, len(level.parent), generator=rng)
    inputs = blocks, layers, expected, context, scores
    tables = [getattr(level, name) for name in level_functions._TABLES]
    tables += [getattr(level.network, name) for name in level_functions._NETWORK]
    module = level_functions._Level(0.05)
    assert torch.equal(module(*inputs, *tables), split_blocks(level, *inputs, 0.05))


def test_operators_count_those_of_functions() -> None:
    node = onnx.helper.make_node
    body = [node("Add", ["a", "b"], ["c"]), node("Mul", ["c", "b"], ["d"])]
    function = onnx.helper.make_function(
        "hepgan", "split", ["a", "b"], ["d"], body, [onnx.helper.make_opsetid("", 18)]
    )
    calls = [node("split", ["x", "x"], ["y"], domain="hepgan"), node("Add", ["y", "y"], ["z"])]
    graph = onnx.helper.make_graph(calls, "graph", [], [])
    model = onnx.helper.make_model(graph, functions=[function])
    assert onnx_model.operators(model) == {"Add": 2, "Mul": 1}


@pytest.mark.parametrize("length", [1, 2, 3, 11, 512, 513])
@pytest.mark.parametrize("right", [False, True])
def test_translated_searches_equal_numpys(length: int, right: bool) -> None:
    rng = np.random.default_rng(length)
    values = np.sort(rng.integers(0, 300, length) / 7)
    x = np.concatenate([rng.choice(values, 30), rng.uniform(-5, 60, 30)]).reshape(20, 3)
    expected = np.searchsorted(values, x, side="right" if right else "left")
    np.testing.assert_array_equal(onnx_model._searchsorted(values, x, right=right).value, expected)
    np.testing.assert_array_equal(onnx_model._bucketize(x, values, right=right).value, expected)


def test_translated_functions_equal_scipys_and_numpys() -> None:
    x = np.linspace(-7.9, 7.9, 10_001)
    np.testing.assert_allclose(onnx_model._ndtr(x).value, scipy.special.ndtr(x), rtol=0, atol=2e-15)
    np.testing.assert_allclose(onnx_model._erfc(x).value, scipy.special.erfc(x), rtol=0, atol=4e-15)
    np.testing.assert_array_equal(onnx_model._copysign(x, x[::-1]).value, np.copysign(x, x[::-1]))


def test_translated_functions_are_accurate_in_single_precision_also_near_0_and_1() -> None:
    x = np.linspace(-7.9, 7.9, 100_001, dtype="f4")
    result, expected = onnx_model._ndtr(x).value, scipy.special.ndtr(x.astype("f8"))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    assert (result == expected.astype("f4"))[x > 2].mean() > 0.99
    np.testing.assert_allclose(onnx_model._sigmoid(x).value, scipy.special.expit(x), rtol=1e-6)
    x = np.linspace(-3.5, 3.5, 100_001, dtype="f4")
    expected = scipy.special.erfc(x.astype("f8"))
    np.testing.assert_allclose(onnx_model._erfc(x).value, expected, rtol=4e-6)
