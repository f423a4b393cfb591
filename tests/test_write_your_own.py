"""The pages "Write your own": their examples and run files, all five kinds of plugins in one run."""

import json
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import tomli_w
from click.testing import CliRunner

from hepgan.cli import main
from hepgan.data.encoding import base as steps
from hepgan.data.io.writer import write
from hepgan.data.schema import Field, Schema
from hepgan.errors import RunError
from hepgan.evaluation.metrics import scores
from hepgan.evaluation.observables import base as observables
from hepgan.gan.model import GAN
from hepgan.gan.training import history, objectives
from hepgan.layout.spec import base as layers

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("own-*.md"))
NAMES = [page.stem.replace("-", "_") for page in PAGES]

BASE = """
seed = 1

[data]
files = ["showers.root"]

[schema]
incident = "energy"

[schema.fields.layer_0]
shape = [3, 4]
unit = "MeV"

[schema.conditions.energy]
unit = "GeV"

[encoding.conditions.energy]
range = [1.0, 100.0]

[gan]
latent = [8]
generator = "DENSE|16|LRELU, DENSE|N|LINEAR"

[train]
steps = 4
batch_size = 64
generator = { learning_rate = 1e-3 }
discriminator = { learning_rate = 1e-3 }
r1 = 1.0
log_every = 2
validate_every = 2
checkpoint_every = 2
"""

REGISTRIES: list[Any] = [
    steps.STEPS, steps.NAMES, layers.LAYERS, layers.BUILDERS, observables.REGISTERED, scores.REGISTERED,
    scores.HIGHER_IS_BETTER, objectives.OBJECTIVES,
]  # fmt: skip


def forget() -> None:
    """Unregisters what the examples have registered, as in a process that has not imported them."""
    for name in NAMES:
        sys.modules.pop(name, None)
    for registry, before in zip(REGISTRIES, BEFORE, strict=True):
        for key in [key for key in registry if key not in before]:
            registry.discard(key) if isinstance(registry, set) else registry.pop(key)


BEFORE = [set(registry) for registry in REGISTRIES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of all pages' run files merged into one, beside the examples."""
    folder = tmp_path_factory.mktemp("own")
    for name in NAMES:
        shutil.copy(ROOT / "examples" / f"{name}.py", folder)
    rng = np.random.default_rng(1)
    energy = rng.uniform(1, 100, 800).astype("f4")
    cells = rng.gamma(2, 0.5, (800, 3, 4)) * energy[:, None, None] * 1000 / 12
    schema = Schema({"layer_0": Field((3, 4))}, {"energy": Field()})
    events = ak.zip({"layer_0": cells.astype("f4"), "energy": energy}, depth_limit=1)
    write(folder / "showers.root", events, schema, tree="showers")
    run = tomllib.loads(BASE)
    for page in PAGES:
        text, *_ = re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        merge(run, tomllib.loads(text))
    run["data"]["files"] = [str(folder / "showers.root")]
    (folder / "mine.toml").write_text(tomli_w.dumps(run))
    path = list(sys.path)
    forget()
    invoke("run", folder / "mine.toml", "-o", folder / "run", "--device", "cpu")
    yield folder
    forget()
    sys.path[:] = path


def merge(table: dict[str, Any], other: dict[str, Any]) -> None:
    """Adds the keys of ``other`` to ``table``; lists of plugins are joined."""
    for key, value in other.items():
        if isinstance(value, dict):
            merge(table.setdefault(key, {}), value)
        else:
            table[key] = [*table.get(key, ()), *value] if key == "plugins" else value


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.output


def computed(folder: Path) -> set[tuple[str, str]]:
    written = json.loads((folder / "scores.json").read_text())
    return {(score["metric"], score["observable"]) for score in written["scores"]}


def test_every_example_of_a_plugin_has_a_page() -> None:
    assert sorted(path.stem for path in (ROOT / "examples").glob("own_*.py")) == NAMES
    for page, name in zip(PAGES, NAMES, strict=True):
        assert f"<!-- example {name} -->" in page.read_text(encoding="utf-8")


def test_the_run_computes_the_metrics_of_the_observables_that_the_pages_ask_for(
    folder: Path,
) -> None:
    assert computed(folder / "run") == {
        ("median_shift", "all"),
        ("separation", "peak"),
        ("separation", "E_tot_over_E_inc"),
    }


def test_validation_is_the_metric_of_the_page(folder: Path) -> None:
    rows = [row for row in history.read(folder / "run") if "validation" in row]
    kept = GAN.load(folder / "run").kept
    assert [row["step"] for row in rows] == [0, 2, 4]
    assert kept is not None
    assert kept.score == min(row["validation"] for row in rows)


def test_the_discriminator_sees_the_registered_observable_and_a_saved_gan_keeps_its_size(
    folder: Path,
) -> None:
    metadata = json.loads((folder / "run" / "gan.json").read_text())
    names = observables_of(folder)
    assert "peak" in names
    assert metadata["discriminator_features"] == 12 + len(names)
    assert GAN.load(folder / "run").discriminator_features == 12 + len(names)


def observables_of(folder: Path) -> list[str]:
    from hepgan.gan.discriminator_input import discriminator_observables
    from hepgan.pipeline import load

    run = load(folder / "mine.toml", import_plugins=True)
    return list(discriminator_observables(run.schema, run.geometry))


def test_a_training_resumes_with_the_plugins_of_its_own_run_file(folder: Path) -> None:
    shutil.copytree(folder / "run", folder / "again")
    (folder / "again" / "generator.safetensors").unlink()
    shutil.rmtree(folder / "again" / "plots")
    forget()
    text = invoke(
        "train", folder / "again" / "run.toml", "-o", folder / "again", "--resume", "--device", "cpu"
    )  # fmt: skip
    assert "trained" in text
    files = [folder / part / "generator.safetensors" for part in ("run", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_saved_gan_names_the_plugins_that_it_needs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget()
    monkeypatch.chdir(folder)
    generate = ["generate", "run", "-n", "3", "--seed", "1", "--condition", "energy=50", "-o"]
    refused = CliRunner().invoke(main, [*generate, str(tmp_path / "no.root")])
    assert refused.exit_code == 2
    assert "needs the plugin 'own_layer'" in refused.output
    assert not (tmp_path / "no.root").exists()
    plugins = ["--plugin", "own_layer", "--plugin", "own_step"]
    invoke(*generate, tmp_path / "yes.root", *plugins)
    assert (tmp_path / "yes.root").is_file()
    forget()
    with pytest.raises(RunError, match="needs the plugin 'own_layer', which is not imported"):
        GAN.load(folder / "run")
    gan = GAN.load(folder / "run", plugins=["own_layer", "own_step"])
    assert len(gan.sample(3, energy=50.0, seed=1)) == 3


def test_hepgan_evaluate_takes_plugins_by_file(folder: Path, tmp_path: Path) -> None:
    forget()
    shutil.copy(folder / "run" / "generated.root", tmp_path)
    invoke(
        "evaluate", folder / "showers.root", tmp_path / "generated.root", "-o", tmp_path / "out",
        "--plugin", folder / "own_observable.py", "--observable", "peak", "--metric", "kolmogorov",
    )  # fmt: skip
    assert computed(tmp_path / "out") == {("kolmogorov", "peak")}
