"""Imports go one way, and ``import hepgan`` is light."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import hepgan

PACKAGE = Path(hepgan.__file__).parent
PACKAGES = [
    "errors", "processes", "progress", "random_streams", "threads", "atomic", "config", "plugins", "layout", "data", "evaluation", "gan",
    "processors", "presets", "pipeline", "tmva", "cli",
]  # fmt: skip
CIRCLES = {
    ("hepgan.data.schema", "hepgan.data.io.inspection"),  # Schema.infer
    ("hepgan.data.schema", "hepgan.data.io.files"),  # a type
    ("hepgan.gan.model", "hepgan.gan.serialization"),  # GAN.load and GAN.save
    ("hepgan.gan.engines", "hepgan.gan.model"),  # a type
    ("hepgan.gan.engines", "hepgan.gan.export.onnx_engine"),  # registered by the first use
}
"""Imports within a function, or for types only, of a module that imports the importing one."""
ONLY = {"uproot": "data", "h5py": "data", "coffea": "processors"}


def imports(path: Path) -> set[str]:
    """Returns all modules that a file imports, at any level."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def package_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "hepgan" and len(parts) > 1 and parts[1] in PACKAGES else None


def test_imports_never_go_up() -> None:
    count = 0
    for path in PACKAGE.rglob("*.py"):
        here = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if here not in PACKAGES:
            continue
        for module in imports(path):
            if (other := package_of(module)) and other != here:
                count += 1
                assert PACKAGES.index(other) < PACKAGES.index(here), f"{path} imports {module}"
    assert count > 20


def test_modules_import_each_other_in_circles_only_where_that_is_meant() -> None:
    modules = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph = {}
    for module, path in modules.items():
        others = imports(path) & set(modules)
        # `from package import module` names the package, but needs only the module.
        packages = {other for other in others if any(o.startswith(f"{other}.") for o in others)}
        graph[module] = others - packages - {other for m, other in CIRCLES if m == module}
    assert all(other in imports(modules[module]) for module, other in CIRCLES)
    graphlib.TopologicalSorter(graph).prepare()


def test_every_module_is_in_a_listed_package() -> None:
    names = {p.relative_to(PACKAGE).with_suffix("").parts[0] for p in PACKAGE.rglob("*.py")}
    assert names - {"__init__", "__main__"} <= set(PACKAGES)


@pytest.mark.parametrize(("library", "home"), ONLY.items())
def test_each_file_library_is_imported_by_one_package(library: str, home: str) -> None:
    users = {
        path.relative_to(PACKAGE).with_suffix("").parts[0]
        for path in PACKAGE.rglob("*.py")
        if any(name.split(".")[0] == library for name in imports(path))
    }
    assert users <= {home}


def test_only_plots_imports_matplotlib() -> None:
    users = {
        path.relative_to(PACKAGE).parts[:2]
        for path in PACKAGE.rglob("*.py")
        if any(name.split(".")[0] in {"matplotlib", "mplhep"} for name in imports(path))
    }
    assert users == {("evaluation", "plots")}


def test_evaluation_reads_no_event_files() -> None:
    readers = {f"hepgan.data.io.{name}" for name in ("chunks", "files", "fingerprint", "reader")}
    for path in (PACKAGE / "evaluation").rglob("*.py"):
        assert not readers & imports(path), path


def test_layouts_need_no_torch() -> None:
    code = "import sys, hepgan.layout.summary; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


HEAVY = {"awkward", "coffea", "matplotlib", "scipy", "torch", "uproot"}


def command(*arguments: str) -> str:
    return f"from hepgan.cli import main; main({list(arguments)}, standalone_mode=False)"


@pytest.mark.parametrize(
    "code",
    [
        "import hepgan",
        command("--help"),
        command("presets"),
        command("presets", "showers"),
        command("layout", "DENSE|64|RELU", "--input", "1|28|28"),
        command("layout", "--list"),
    ],
    ids=["import", "help", "presets", "preset", "layout", "layouts"],
)
def test_importing_hepgan_and_listing_load_no_heavy_library(code: str) -> None:
    report = f"import sys; print(sorted({HEAVY} & set(sys.modules)), len(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; {report}"], check=True, capture_output=True, text=True
    )
    heavy, _, number = done.stdout.splitlines()[-1].rpartition(" ")
    assert heavy == "[]"
    assert int(number) < 600


def test_every_public_name_exists() -> None:
    for name in hepgan.__all__:
        assert getattr(hepgan, name) is not None
