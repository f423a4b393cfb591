"""Plugins are imported when the user runs a run file or names them, never by opening a file."""

import dataclasses
import json
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import pytest
from click.testing import CliRunner

from hepgan.cli import main
from hepgan.errors import RunError
from hepgan.pipeline import load, train
from hepgan.plugins import import_plugins, plugins_of, require_plugins

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(autouse=True)
def clean_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forgets the modules that a test imports."""
    before, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.startswith("plugin_"):
            del sys.modules[name]


def write_plugin(folder: Path, name: str, text: str = "LOADED = True\n") -> Path:
    path = folder / f"{name}.py"
    path.write_text(text)
    return path


def test_a_module_beside_the_run_file_is_imported_and_may_import_another(tmp_path: Path) -> None:
    write_plugin(tmp_path, "plugin_one", "import plugin_two\n")
    write_plugin(tmp_path, "plugin_two")
    import_plugins(["plugin_one"], folder=tmp_path)
    assert sys.modules["plugin_two"].LOADED
    require_plugins(["plugin_one"], source="gan.json")
    import_plugins(["plugin_one"], folder=tmp_path)  # a second time does nothing


def test_a_missing_plugin_raises_with_the_nearest_name(tmp_path: Path) -> None:
    write_plugin(tmp_path, "plugin_near")
    with pytest.raises(
        RunError, match=r"no plugin 'plugin_neer' in .*; did you mean 'plugin_near'"
    ):
        import_plugins(["plugin_neer"], folder=tmp_path)
    with pytest.raises(
        RunError, match=r"no plugin .elsewhere_one. in .*, and none is installed; install"
    ):
        import_plugins(["elsewhere_one"], folder=tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import plugin_that_is_missing", "No module named 'plugin_that_is_missing'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def (", "SyntaxError"),
    ],
)
def test_errors_in_a_plugin_raise_a_short_error(tmp_path: Path, text: str, message: str) -> None:
    write_plugin(tmp_path, "plugin_bad", text)
    with pytest.raises(RunError, match=rf"the plugin 'plugin_bad' cannot be imported: .*{message}"):
        import_plugins(["plugin_bad"], folder=tmp_path)


@pytest.mark.parametrize("name", ["../evil", "a/b", "a.py/", "", "x y", "." * 3, "x" * 300, "0x"])
def test_names_that_are_not_modules_raise(name: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not the name of a module"):
        import_plugins([name], folder=tmp_path)


def test_a_plugin_does_not_shadow_an_imported_module(tmp_path: Path) -> None:
    write_plugin(tmp_path, "json")
    with pytest.raises(RunError, match="already imported from .*json"):
        import_plugins(["json"], folder=tmp_path)


def test_plugins_of_a_record_are_the_modules_of_its_classes(tmp_path: Path) -> None:
    text = (
        "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass Step:\n    width: float\n"
    )
    write_plugin(tmp_path, "plugin_step", text)
    import_plugins(["plugin_step"], folder=tmp_path)
    step = sys.modules["plugin_step"].Step(1.0)
    assert plugins_of({"steps": [(step,)]}, 3) == ("plugin_step",)

    @dataclasses.dataclass
    class Outer:
        inner: object

    assert plugins_of(Outer(step)) == ("plugin_step", __name__)


def test_opening_a_run_file_imports_nothing(tiny_run: Path) -> None:
    write_plugin(tiny_run.parent, "plugin_mark")
    tiny_run.write_text('plugins = ["plugin_mark"]\n' + tiny_run.read_text())
    with pytest.raises(
        RunError, match=r"tiny.*needs the plugin 'plugin_mark'.*--plugin plugin_mark"
    ):
        load(tiny_run)
    assert "plugin_mark" not in sys.modules
    run = load(tiny_run, import_plugins=True)
    assert run.plugins == ("plugin_mark",)
    assert "plugin_mark" in sys.modules


def test_train_imports_the_plugins_of_its_run_file(tiny_run: Path, tmp_path: Path) -> None:
    write_plugin(tiny_run.parent, "plugin_bad", "raise ValueError('on purpose')\n")
    tiny_run.write_text('plugins = ["plugin_bad"]\n' + tiny_run.read_text())
    result = CliRunner().invoke(main, ["train", str(tiny_run), "-o", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "the plugin 'plugin_bad' cannot be imported: ValueError: on purpose" in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["generate", "showers", "-n", "1", "-o", "x.root", "--seed", "1", "--condition", "energy=5"],
        ["evaluate", "a.root", "b.root", "-o", "out"],
        ["simulate", "showers", "a.root", "-o", "x.root", "--seed", "1"],
        ["export", "showers", "-o", "x.onnx"],
        ["layout", "DENSE|2", "--input", "4"],
    ],
)  # fmt: skip
def test_the_plugin_option_imports_a_module_first(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_plugin(tmp_path, "plugin_bad", "raise ValueError('on purpose')\n")
    for name in ("plugin_bad", "plugin_bad.py"):
        result = CliRunner().invoke(main, [*command, "--plugin", name])
        assert result.exit_code == 2
        assert "the plugin 'plugin_bad' cannot be imported: ValueError: on purpose" in result.output


def test_workers_import_the_plugins_of_an_embedded_gan(gan_folder: Path, tmp_path: Path) -> None:
    from hepgan.processors import embed
    from hepgan.processors.model_cache import load_cached

    folder = tmp_path / "run"
    shutil.copytree(gan_folder, folder)
    about = json.loads((folder / "gan.json").read_text())
    (folder / "gan.json").write_text(json.dumps(about | {"plugins": ["plugin_worker"]}))
    with pytest.raises(RunError, match="needs the plugin 'plugin_worker'"):
        embed(folder)
    write_plugin(tmp_path, "plugin_worker")
    import_plugins(["plugin_worker"], folder=tmp_path)
    embedded = embed(folder)
    assert embedded.plugins == ("plugin_worker",)
    del sys.modules["plugin_worker"]  # as in a worker, which has the path but not the module
    load_cached(embedded, "cpu")
    assert sys.modules["plugin_worker"].LOADED


def test_processors_take_the_plugins_of_a_folder_to_their_workers(
    gan_folder: Path, tmp_path: Path
) -> None:
    from hepgan.processors import Compare, GeneratorWrapper, ReturnFields, Simulate
    from hepgan.processors.model_cache import load_cached

    folder = tmp_path / "run"
    shutil.copytree(gan_folder, folder)
    metadata = json.loads((folder / "gan.json").read_text())
    (folder / "gan.json").write_text(json.dumps(metadata | {"plugins": ["plugin_folder"]}))
    makers = [
        lambda: Simulate(folder, output=ReturnFields("showers"), seed=1),
        lambda: GeneratorWrapper(folder, seed=1),
        lambda: Compare(load(gan_folder / "run.toml").schema, {}, axes={}, gan=folder, seed=1),
    ]
    for make in makers:
        with pytest.raises(RunError, match="needs the plugin 'plugin_folder'"):
            make()
    write_plugin(tmp_path, "plugin_folder")
    import_plugins(["plugin_folder"], folder=tmp_path)
    for make in makers:
        received = cloudpickle.loads(cloudpickle.dumps(make()))
        sys.modules.pop("plugin_folder", None)  # a worker has the path but not the module
        load_cached(received.gans[0] if hasattr(received, "gans") else received.gan, "cpu")
        assert sys.modules["plugin_folder"].LOADED


def test_a_folder_that_only_workers_can_read_is_no_error_in_the_parent() -> None:
    from hepgan.processors.model_cache import shipped

    assert shipped("/only/on/the/farm") == "/only/on/the/farm"
    assert shipped("showers") == "showers"


OBJECTIVE = """
import hepgan

SHAPES = []


@hepgan.register_objective("plugin-objective")
class Objective:
    @staticmethod
    def discriminator(batch):
        return batch.fake.mean() - batch.real.mean()

    @staticmethod
    def generator(batch):
        SHAPES.append([tuple(part.shape) for part in batch if part is not None])
        return -batch.fake.mean()
"""


def test_a_training_from_python_records_its_plugins_in_the_run_file(
    tiny_run: Path, tmp_path: Path
) -> None:
    """Registered in Python and not named in the run file; the objective receives events, noise and conditions."""
    from hepgan.gan.training.objectives import OBJECTIVES

    write_plugin(tmp_path, "plugin_objective", OBJECTIVE)
    import_plugins(["plugin_objective"], folder=tmp_path)
    try:
        changes = {"train.objective": "plugin-objective", "train.steps": 1, "gan.latent": [4]}
        changes["gan.generator"] = "DENSE|N|LINEAR"
        train(load(tiny_run, changes), tmp_path / "out", device="cpu")
    finally:
        del OBJECTIVES["plugin-objective"]
    written = tomllib.loads((tmp_path / "out" / "run.toml").read_text())
    assert written["plugins"] == ["plugin_objective"]
    # Logits, logits, discriminator inputs, noise, conditions; the last call is that of the held-out events.
    assert sys.modules["plugin_objective"].SHAPES[0] == [
        (64,), (64,), (64, 3), (64, 3), (64, 4), (64, 1)
    ]  # fmt: skip


def test_a_plugins_layer_word_is_used_in_a_tmva_option_string(
    tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hepgan.layout.spec.base import BUILDERS, LAYERS

    monkeypatch.chdir(tmp_path)
    text = (EXAMPLES / "own_layer.py").read_text().replace('"CENTER"', '"PLUGGED"')
    path = write_plugin(tmp_path, "plugin_layer", text)
    options = "Layout=DENSE|4|LRELU,DENSE|N|LINEAR##PLUGGED,DENSE|4|LRELU,DENSE|1|LINEAR:TrainingStrategy=MaxEpochs=1"
    command = ["train", "--tmva", options, "--files", str(tiny_file), "--variables", "b"]
    command += ["-o", "out", "--device", "cpu", "--plugin", str(path)]
    try:
        result = CliRunner().invoke(main, command)
    finally:
        spec = LAYERS.pop("PLUGGED")
        del BUILDERS[spec]
    assert result.exit_code == 0, result.output
    assert tomllib.loads(Path("out/run.toml").read_text())["plugins"] == ["plugin_layer"]
