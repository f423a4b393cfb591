"""Plugins are imported when the user runs a run file or names them, never by opening a file."""

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from hepgan.cli import main
from hepgan.errors import RunError
from hepgan.pipeline import load
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


def test_a_plugin_step_is_trained_and_saved_and_loading_without_it_raises(
    tiny_run: Path, tmp_path: Path
) -> None:
    """The example's step, in a run file beside it; other processes have not imported it."""
    shutil.copy(EXAMPLES / "own_step.py", tiny_run.parent)
    text = tiny_run.read_text()
    steps = text[text.index("steps = [") : text.index("\n", text.index("steps = ["))]
    assert "copula" in steps
    tiny_run.write_text(
        'plugins = ["own_step"]\n'
        + text.replace(steps, 'steps = [{ step = "asinh", softness = 2.0 }]')
    )

    def hepgan(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hepgan", *map(str, arguments)],
            cwd=tiny_run.parent, capture_output=True, text=True, check=False, timeout=240,
        )  # fmt: skip

    out = tmp_path / "out"
    result = hepgan("train", tiny_run, "-o", out, "--device", "cpu", "--set", "train.steps=2")
    assert result.returncode == 0, result.stderr
    generate = ["generate", out, "-n", 5, "--seed", 1, "--condition", "energy=5", "-o"]
    refused = hepgan(*generate, tmp_path / "no.root")
    assert refused.returncode == 2
    assert "own_step" in refused.stderr
    assert not (tmp_path / "no.root").exists()
    result = hepgan(*generate, tmp_path / "yes.root", "--plugin", "own_step")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "yes.root").is_file()
