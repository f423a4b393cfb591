"""Exported GANs have the contract of their host, and give the events of ``GAN.sample`` when they are called as the host calls them."""

import functools
import json
import math
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import awkward as ak
import numpy as np
import onnxruntime
import pytest
import scipy.special
import scipy.stats
import torch
from host_gans import COPULA, THRESHOLD, shower_gan

from hepgan.cli.export import HOSTS as CHOICES
from hepgan.data.cells import Cells
from hepgan.data.encoding.conditions import ConditionScale
from hepgan.data.encoding.encoding import Encoding, EncodingSettings
from hepgan.data.schema import Schema
from hepgan.errors import DataError, RunError
from hepgan.evaluation.observables.geometry import LayerGeometry
from hepgan.gan.export.accuracy import Accuracy, compare, sampled, thresholds
from hepgan.gan.export.ddml import Ddml, upper_quantile
from hepgan.gan.export.decoded import DecodedGenerator
from hepgan.gan.export.fastcalosim import FastCaloSim, Slice
from hepgan.gan.export.files import Exported, export
from hepgan.gan.export.hosts import HOSTS
from hepgan.gan.export.par04 import Par04
from hepgan.gan.export.sofie import Sofie
from hepgan.gan.model import GAN
from hepgan.gan.networks import EnergySettings, GANSettings

SIMPLE = ({"step": "log", "threshold": THRESHOLD}, {"step": "standardize"})
POLAR = LayerGeometry(r_edges=(0.0, 2.0, 4.0), threshold=THRESHOLD)
MESH = {"cells": (3, 4, 2)}
VOXELS = {"layer_12": (4, 2), "layer_1": (1, 2)}
SLICE = "neural_net_22_eta_20_25_High12.onnx"


def mesh_gan(*conditions: str) -> GAN:
    return shower_gan(MESH, *conditions, geometry={"cells": POLAR}, steps=SIMPLE)


def voxel_gan() -> GAN:
    return shower_gan(VOXELS, "energy", geometry=dict.fromkeys(VOXELS, POLAR), steps=SIMPLE)


GANS: dict[str, Callable[[], GAN]] = {
    "par04": lambda: mesh_gan("energy", "theta", "pdg"),
    "ddml": lambda: shower_gan({"cells": (3, 4, 5)}, "energy", steps=SIMPLE),
    "fastcalosim": voxel_gan,
    "sofie": lambda: shower_gan({"a": (2, 3), "b": (4,)}, "energy", "pdg", steps=SIMPLE),
}


def fields_of(gan: GAN, noise: np.ndarray, **conditions: float) -> dict[str, np.ndarray]:
    """The event of ``GAN.sample`` for one noise vector."""
    c = gan.encoding.encode_conditions({name: [value] for name, value in conditions.items()})
    with torch.no_grad():
        x = gan.generate(torch.from_numpy(noise.reshape(1, -1)), c)
    return {name: f[0].numpy() for name, f in gan.encoding.decode_tensors(x, c).items()}


Exports = Callable[[str], tuple[GAN, Exported]]


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """Returns the GAN and the file of a host, which is exported once."""
    folder = tmp_path_factory.mktemp("hosts")

    @functools.cache
    def exported(host: str) -> tuple[GAN, Exported]:
        gan = GANS[host]()
        name = SLICE if host == "fastcalosim" else f"{host}.onnx"
        fixed = {"pdg": 22.0} if host == "par04" else {}
        return gan, export(gan, folder / name, host=host, fixed=fixed, events=20)

    return exported


def session_of(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path)


def signature(session: onnxruntime.InferenceSession) -> dict[str, list[object]]:
    entries = (*session.get_inputs(), *session.get_outputs())
    assert {entry.type for entry in entries} == {"tensor(float)"}
    return {entry.name: entry.shape for entry in entries}


def test_a_par04_model_takes_one_vector_and_returns_fractions_with_z_fastest(
    exports: Exports,
) -> None:
    gan, written = exports("par04")
    assert written.accuracy.different == written.accuracy.alone == 0
    session = session_of(written.paths[0])
    assert signature(session) == {"input": [1, 28], "energies": [1, 24]}
    noise = np.random.default_rng(1).standard_normal(24, np.float32)
    # 20 GeV at 60 degrees; the example itself sets the last two numbers for the geometry.
    vector = np.concatenate([noise, [20_000 / 1_024_000, 60 / 90, 0, 1]]).astype("f4")
    (fractions,) = session.run(None, {"input": vector[None]})
    expected = fields_of(gan, noise, energy=20_000, theta=math.pi / 3, pdg=22)["cells"]
    flat = [expected[z, p, r] for r in range(2) for p in range(4) for z in range(3)]
    assert np.count_nonzero(flat) > 5
    np.testing.assert_allclose(fractions[0] * 20_000, flat, rtol=1e-4)
    assert written.paths[1].suffix == ".mac"
    macro = written.paths[1].read_text()
    for line in ("setSizeLatentVector 24", "setNbOfZCells 3", "setSizeOfRhoCells 2 mm"):
        assert f"/Par04/inference/{line}\n" in macro
    about = json.loads(session.get_modelmeta().custom_metadata_map["hepgan"])
    assert (about["host"], about["fixed"]) == ("par04", {"pdg": 22})


def test_a_ddml_model_takes_uniform_noise_and_gev_and_returns_mev(exports: Exports) -> None:
    gan, written = exports("ddml")
    assert written.accuracy.different == written.accuracy.alone == 0
    session = session_of(written.paths[0])
    assert signature(session) == {
        "noise": [1, 100, 1, 1, 1],
        "energy": [1, 1, 1, 1, 1],
        "energies": [1, 60],
    }
    drawn = np.random.default_rng(1).uniform(-1, 1, 100).astype("f4")
    feed = {
        "noise": drawn.reshape(1, -1, 1, 1, 1),
        "energy": np.full((1, 1, 1, 1, 1), 20, np.float32),
    }
    (cells,) = session.run(None, feed)
    normal = (math.sqrt(2) * scipy.special.erfinv(drawn[:60].astype(float))).astype("f4")
    expected = fields_of(gan, normal, energy=20_000)["cells"].ravel()
    assert np.count_nonzero(expected) > 20
    np.testing.assert_allclose(cells[0], expected, rtol=1e-3)
    assert written.paths[1].suffix == ".py"
    steering = written.paths[1].read_text()
    compile(steering, "gan.py", "exec")
    assert "NCellsX, model.NCellsY, model.NCellsZ = 4, 5, 3" in steering


def test_a_fastcalosim_model_has_the_hosts_names_noise_and_condition(exports: Exports) -> None:
    gan, written = exports("fastcalosim")
    assert written.accuracy.different == written.accuracy.alone == 0
    session = session_of(written.paths[0])
    assert signature(session) == {"Noise": [1, 10], "mycond": [1, 2], "out": [1, 10]}
    normal = np.random.default_rng(1).standard_normal(10, np.float32)
    # Photons of 2^15 MeV; the networks cover momenta of 2^12 to 2^22 MeV.
    feed = {
        "Noise": (0.5 + 0.5 * normal)[None],
        "mycond": np.array([[3 / 10, 0]], np.float32),
    }
    (fractions,) = session.run(None, feed)
    expected = fields_of(gan, normal, energy=2.0**15)
    # Layer 1 before layer 12; r is slowest.
    flat = np.concatenate([expected["layer_1"].T.ravel(), expected["layer_12"].T.ravel()])
    np.testing.assert_allclose(fractions[0] * 2.0**15, flat, rtol=1e-3)
    assert written.paths[1].suffix == ".xml"
    binning = written.paths[1].read_text()
    assert '<Layer id="12" r_edges="0,2,4" n_bin_alpha="4" />' in binning
    assert binning.index('id="1"') < binning.index('id="12"')


def test_a_sofie_model_has_only_operators_of_sofies_parser(exports: Exports) -> None:
    _, written = exports("sofie")
    assert written.accuracy.different == written.accuracy.alone == 0
    session = session_of(written.paths[0])
    assert signature(session) == {
        "noise": [1, 10], "condition_0": [1], "condition_1": [1], "event": [1, 10],
    }  # fmt: skip
    assert written.paths[1].suffix == ".C"
    macro = written.paths[1].read_text()
    assert "session.infer(noise.data(), condition_0, condition_1)" in macro


HEADER = "onnxruntime_c_api.h"
FOLDERS = [
    Path(folder)
    for folder in (os.environ.get("ONNXRUNTIME_INCLUDE"), "/usr/include/onnxruntime", "/usr/local/include/onnxruntime")
    if folder
]  # fmt: skip
"""Folders in which the header of ONNX Runtime may be; the wheel has the library, but not the header."""

INCLUDE = next((folder for folder in FOLDERS if (folder / HEADER).exists()), None)

LIBRARIES = list(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*"))


@pytest.mark.skipif(
    INCLUDE is None or not LIBRARIES or shutil.which("c++") is None,
    reason=f"needs c++, {HEADER} (folder in ONNXRUNTIME_INCLUDE) and its library",
)
@pytest.mark.parametrize(
    ("host", "arguments"),
    [("par04", ["1.1"]), ("ddml", []), ("fastcalosim", ["0", "12", "22"])],
)
def test_the_cpp_example_of_a_host_generates_the_showers_of_sample(
    host: str, arguments: list[str], exports: Exports, tmp_path: Path
) -> None:
    # The loader looks for the name that the library has inside, libonnxruntime.so.1.
    library = tmp_path / ".".join(LIBRARIES[0].name.split(".")[:3])
    library.symlink_to(LIBRARIES[0])
    source = Path(__file__).parents[2] / "examples" / "cpp" / f"{host}.cpp"
    subprocess.run(
        ["c++", "-std=c++20", "-Wall", "-Wextra", "-Werror", "-isystem", str(INCLUDE), str(source), str(library),
         f"-Wl,-rpath,{tmp_path}", "-o", str(tmp_path / host)],
        check=True,
    )  # fmt: skip
    gan, written = exports(host)
    model = HOSTS[host](gan, fixed=written.about.get("fixed", {}), path=written.paths[0])
    noise = model.draw(np.random.default_rng(3), 1)
    values = {"energy": np.array([30_000.0]), "theta": np.array([1.1])}
    result = subprocess.run(
        [str(tmp_path / host), str(written.paths[0]), "30000", *arguments],
        input=" ".join(map(repr, noise.ravel().tolist())), capture_output=True, text=True, check=True,
    )  # fmt: skip
    cells = np.array(result.stdout.split(), float)[None]
    # The programs print MeV; some models return fractions of the energy.
    found = model.read([cells if host == "ddml" else cells / 30_000], values)
    conditions = {name: values[name] for name in model.conditions}
    for name, expected in sampled(gan, model, noise, conditions).items():
        assert np.count_nonzero(expected)
        np.testing.assert_allclose(found[name], expected, rtol=1e-3)


def test_operators_that_sofie_lacks_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sofie, "operators", Sofie.operators - {"Exp", "Where"})
    gan = shower_gan({"a": (2, 3)}, "energy", steps=SIMPLE)
    with pytest.raises(RunError, match="it lacks Exp, Where; use ONNX Runtime"):
        export(gan, tmp_path / "gan.onnx", host="sofie")
    assert not list(tmp_path.iterdir())


def test_the_command_line_knows_all_hosts() -> None:
    assert set(CHOICES) == set(HOSTS)


@pytest.mark.parametrize(
    ("host", "gan", "name", "message"),
    [
        ("par04", mesh_gan("energy", "phi"), "a.onnx", "Par04 does not pass the condition 'phi'.*--fix phi=-3.2"),
        ("par04", mesh_gan("theta"), "a.onnx", "the GAN has no such condition to pass it to"),
        ("par04", voxel_gan(), "a.onnx", "the GAN's layers differ: layer_12 4 × 2, layer_1 1 × 2"),
        (
            "par04",
            shower_gan(MESH, "energy", steps=SIMPLE, geometry={"cells": LayerGeometry(cell=(1.0, 1.0))}),
            "a.onnx",
            "Par04 has a cylindrical mesh",
        ),
        ("ddml", mesh_gan("energy"), "a.onnx", "DDML has a grid in x and y"),
        ("fastcalosim", voxel_gan(), "a.onnx", "does not open a network called 'a.onnx'; name it neural_net_22_eta_20_25_High12"),
        ("fastcalosim", voxel_gan(), "neural_net_22_eta_20_25_UltraLow12.onnx", None),
        ("fastcalosim", voxel_gan(), "neural_net_211_eta_20_25_High12.onnx", "211: All"),
        ("fastcalosim", shower_gan(VOXELS, "energy", steps=SIMPLE), SLICE, "has no r_edges"),
        ("sofie", voxel_gan(), "a.pt2", "should end with .onnx"),
        ("geant4", voxel_gan(), "a.onnx", "unknown host 'geant4'"),
    ],
)  # fmt: skip
def test_a_gan_that_does_not_fit_a_host_raises_a_sentence(
    host: str, gan: GAN, name: str, message: str | None, tmp_path: Path
) -> None:
    if message is None:  # it covers 1 to 4 GeV
        FastCaloSim(gan, fixed={}, path=tmp_path / name)
        return
    with pytest.raises(RunError, match=message):
        export(gan, tmp_path / name, host=host)


def test_a_network_outside_the_trained_range_raises() -> None:
    gan = shower_gan(VOXELS, "energy", geometry=dict.fromkeys(VOXELS, POLAR), steps=SIMPLE)
    low = FastCaloSim(gan, fixed={}, path=Path(SLICE)).examples("energy", 2)
    np.testing.assert_allclose(low, [4096, 100_000])
    assert Slice.of(Path(SLICE)).kinetic == (4096, 2**22)


def test_layers_with_special_numbers_of_bins_raise() -> None:
    shapes = {"layer_1": (32, 2)}
    gan = shower_gan(shapes, "energy", geometry={"layer_1": POLAR}, steps=SIMPLE)
    with pytest.raises(RunError, match="takes 32 bins in α for a number that varies with r"):
        FastCaloSim(gan, fixed={}, path=Path(SLICE))


def test_fixed_conditions_are_constants() -> None:
    gan = mesh_gan("energy", "theta", "pdg")
    noise = torch.randn(3, 24, generator=torch.Generator().manual_seed(1))
    energy, theta = torch.tensor([2e3, 2e4, 9e4]), torch.full((3,), 1.25)
    with torch.no_grad():
        (free,) = DecodedGenerator(gan)(noise, energy, theta, torch.full((3,), -11.0))
        (fixed,) = DecodedGenerator(gan, fixed={"theta": 1.25, "pdg": -11})(noise, energy)
    torch.testing.assert_close(fixed, free)
    with pytest.raises(DataError, match="theta = 9 is outside the trained range"):
        DecodedGenerator(gan, fixed={"theta": 9})
    with pytest.raises(RunError, match="no condition 'eta' to fix"):
        DecodedGenerator(gan, fixed={"eta": 1})


def test_single_precision_quantiles_equal_scipys() -> None:
    tails = np.geomspace(2.0**-26, 0.5, 20_001).astype("f4")
    result = upper_quantile(torch.from_numpy(tails)).numpy()
    np.testing.assert_allclose(
        result, -scipy.special.ndtri(tails.astype(float)), rtol=5e-7, atol=2e-7
    )


def test_more_noise_than_ddml_draws_is_normal_and_independent() -> None:
    gan = shower_gan({"cells": (3, 6, 7)}, "energy", steps=SIMPLE)
    model = Ddml(gan, fixed={}, path=Path("a.onnx"))
    noise = model.normal(model.draw(np.random.default_rng(1), 20_000))
    assert noise.shape == (20_000, 126)
    assert scipy.stats.kstest(noise.ravel()[::7], "norm").pvalue > 1e-3
    correlations = np.corrcoef(noise.T)[np.triu_indices(126, 1)] * math.sqrt(20_000)
    squares = np.corrcoef((noise**2).T)[np.triu_indices(126, 1)] * math.sqrt(20_000)
    assert scipy.stats.kstest(correlations, "norm").pvalue > 1e-3
    assert abs(correlations).max() < 5.5
    assert abs(squares).max() < 6


def test_accuracy_counts_cells_that_differ_and_cells_in_one_alone() -> None:
    expected = {"a": np.array([[1.0, 2.0, 0.04, 0.0, 0.0]])}
    exported = {"a": np.array([[1.00005, 2.0004, 0.04, 0.0, 0.12]])}
    found = compare(exported, expected, {"a": 0.05})
    assert (found.events, found.cells, found.different, found.alone) == (1, 3, 1, 1)
    assert found.largest == pytest.approx(2e-4, rel=1e-6)
    assert found.largest_alone == pytest.approx(2.4)
    with pytest.raises(RunError, match="not accurate enough"):
        found.check()
    Accuracy(10, cells=10_000, different=1).check()


def test_thresholds_are_those_of_the_geometry_or_else_of_the_encoding() -> None:
    assert thresholds(mesh_gan("energy")) == {"cells": THRESHOLD}
    assert thresholds(shower_gan(MESH, "energy", steps=SIMPLE)) == {"cells": THRESHOLD}


def test_par04_sizes_are_commented_out_without_a_geometry() -> None:
    gan = shower_gan(MESH, "energy", steps=SIMPLE)
    text = Par04(gan, fixed={}, path=Path("a.onnx")).text()[1]
    assert "# /Par04/inference/setSizeOfRhoCells" in text


@pytest.mark.parametrize("host", ["par04", "ddml", "fastcalosim"])
def test_irregular_cells_images_and_tables_raise_for_hosts_with_a_mesh(host: str) -> None:
    names = {"fixed": {}, "path": Path(SLICE)}
    six = tuple(range(6))
    cells = Cells(six, six, six, (0,) * 6, (1.0,) * 6)
    geometry = {"cells": LayerGeometry(positions=cells)}
    irregular = shower_gan({"cells": (6,)}, "energy", geometry=geometry, steps=SIMPLE)
    with pytest.raises(RunError, match="has cells at irregular positions; export .* --for plain"):
        HOSTS[host](irregular, **names)
    for gan in (table_gan(), image_gan()):
        with pytest.raises(RunError, match="passes the energy of the incident particle, but the"):
            HOSTS[host](gan, **names)


def table_gan(*steps: dict[str, object]) -> GAN:
    """An untrained GAN of a table with an integer, given a momentum and a charge."""
    rng = np.random.default_rng(1)
    pt, charge = 10 ** rng.uniform(0, 1, 300), rng.choice([-1, 1], 300)
    values = {"mass": rng.normal(pt, 1), "hits": rng.poisson(pt).astype("i4")}
    schema = Schema.from_table(
        {
            "fields": {"mass": {"unit": "GeV"}, "hits": {"dtype": "int32"}},
            "conditions": {"pt": {"unit": "GeV"}, "charge": {"dtype": "int32"}},
        }
    )
    scales = {
        "pt": ConditionScale((1.0, 10.0), "log"),
        "charge": ConditionScale(scale="classes", values=(-1, 1)),
    }
    return untrained(values | {"pt": pt, "charge": charge}, schema, scales, steps)


def image_gan() -> GAN:
    """An untrained GAN of images with a label."""
    rng = np.random.default_rng(1)
    values = {"image": rng.integers(0, 255, (300, 4, 4)), "label": np.arange(300) % 3}
    schema = Schema.from_table(
        {
            "fields": {"image": {"shape": [4, 4], "dtype": "uint8"}},
            "conditions": {"label": {"dtype": "int32"}},
        }
    )
    scales = {"label": ConditionScale(scale="classes", values=(0, 1, 2))}
    return untrained(values, schema, scales, ({"step": "scale"},))


def untrained(
    values: dict[str, np.ndarray],
    schema: Schema,
    scales: dict[str, ConditionScale],
    steps: tuple[dict[str, object], ...],
) -> GAN:
    settings = EncodingSettings(steps, scales)
    encoding = Encoding.fit(ak.zip(values, depth_limit=1), schema, settings, seed=1)
    networks = GANSettings(
        (0,), generator="RES[COND, DENSE|8|LRELU, DENSE|N|LINEAR]", discriminator="DENSE|1|LINEAR"
    )
    return GAN.build(networks, encoding, seed=1)


TWO_STAGES = (
    {"step": "layer_sums", "incident": "energy", "threshold": THRESHOLD},
    {"step": "log", "threshold": THRESHOLD},
    {**COPULA[1], "censored_zeros": True, "condition_on_first": ["appended"]},
)
FIRST_STAGE = EnergySettings(generator="COND, DENSE|8|LRELU, DENSE|N|LINEAR", latent=(5,))
TREE = {"step": "energy_tree", "threshold": THRESHOLD, "incident": "energy", "steps": 9, "hidden": 4}  # fmt: skip


@pytest.mark.parametrize(
    ("make", "host", "fixed"),
    [
        (lambda: shower_gan(MESH, "energy", "theta", geometry={"cells": POLAR}, steps=TWO_STAGES, energies=FIRST_STAGE), "par04", {}),
        (lambda: table_gan({"step": "marginals"}), "sofie", {"charge": -1}),
        (image_gan, "plain", {}),
        pytest.param(lambda: table_gan({"step": "autoregressive", "steps": 9, "hidden": 4}), "plain", {}, marks=pytest.mark.slow),
        pytest.param(lambda: shower_gan({"cells": (3, 4, 5)}, "energy", "pdg", steps=(TREE,)), "ddml", {"pdg": 22}, marks=pytest.mark.slow),
    ],
    ids=["two stages", "table", "image", "autoregressive", "tree"],
)  # fmt: skip
def test_gans_of_other_kinds_are_exported_as_accurately(
    make: Callable[[], GAN], host: str, fixed: dict[str, float], tmp_path: Path
) -> None:
    written = export(make(), tmp_path / "model.onnx", host=host, fixed=fixed)
    assert written.accuracy.cells > 100
    assert written.accuracy.different <= 0.002 * written.accuracy.cells
    assert written.accuracy.largest_alone < 2
