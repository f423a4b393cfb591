"""The public names are lazy at run time and typed for mypy and editors."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import hepgan

STUB = Path(hepgan.__file__).with_name("__init__.pyi")


def stub_names() -> dict[str, tuple[str, str]]:
    """Returns the module and the name in it of each public name of the stub."""
    return {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in ast.parse(STUB.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_stub_and_runtime_have_the_same_names() -> None:
    names = stub_names()
    assert set(names) | {"__version__"} == set(dir(hepgan))
    assert set(hepgan.__all__) <= set(names)
    tree = ast.parse(STUB.read_text(encoding="utf-8"))
    (listed,) = (n.value for n in tree.body if isinstance(n, ast.Assign))
    assert set(ast.literal_eval(listed)) == set(hepgan.__all__)


@pytest.mark.parametrize("name", hepgan.__all__)
def test_a_public_name_is_the_object_of_its_module(name: str) -> None:
    module, attribute = stub_names()[name]
    assert getattr(hepgan, name) is getattr(importlib.import_module(module), attribute)
    assert hepgan.__dict__[name] is getattr(hepgan, name)


def test_unknown_name_raises_with_the_nearest_name() -> None:
    with pytest.raises(
        AttributeError, match="'hepgan' has no attribute 'Scema'; did you mean 'Schema'"
    ):
        hepgan.Scema  # type: ignore[attr-defined]  # noqa: B018


def test_general_verbs_are_only_in_their_packages() -> None:
    assert not {"parse", "build", "load", "run"} & set(dir(hepgan))
    from hepgan.layout import build, parse

    assert str(parse("DENSE|2")) == "DENSE|2|TANH"
    assert callable(build)


def test_help_describes_the_package() -> None:
    text = subprocess.run(
        [sys.executable, "-c", "import hepgan, pydoc; print(pydoc.render_doc(hepgan, renderer=pydoc.plaintext))"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert "train from a run file, end to end" in text
    assert "class Schema" in text
    assert "read(files" in text


@pytest.mark.slow
def test_mypy_sees_real_types(tmp_path: Path) -> None:
    from mypy import api

    file = tmp_path / "use.py"
    file.write_text(
        "import hepgan\n"
        "reveal_type(hepgan.Schema)\n"
        "reveal_type(hepgan.load_run('showers'))\n"
        "reveal_type(hepgan.GAN.load)\n"
        "reveal_type(hepgan.pipeline.run)\n"
        "hepgan.read(1)\n"
    )
    out, _, _ = api.run(
        [
            str(file),
            "--cache-dir",
            str(tmp_path / "cache"),
            "--follow-imports=silent",
            "--ignore-missing-imports",
        ]
    )
    lines = [line for line in out.splitlines() if "use.py" in line]
    assert "hepgan.data.schema.Schema" in lines[0]
    assert "hepgan.pipeline.config.RunConfig" in lines[1]
    assert "hepgan.gan.model.GAN" in lines[2]
    assert "Evaluation" in lines[3]
    assert "error" in lines[4]
    assert "Any" not in "".join(lines[:3])
