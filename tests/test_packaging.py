"""The version is stated once, and the conda recipe has the package's dependencies."""

import re
import tomllib
from pathlib import Path

import pytest

import hepgan

ROOT = Path(__file__).parents[1]
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}


@pytest.fixture(scope="module")
def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def recipe() -> str:
    return (ROOT / "conda" / "recipe.yaml").read_text(encoding="utf-8")


def test_conda_recipe_has_the_version_of_the_package(recipe: str) -> None:
    assert re.findall(r'^  version: "(.*)"$', recipe, re.MULTILINE) == [hepgan.__version__]


def test_conda_recipe_has_the_dependencies_of_the_package(
    project: dict[str, object], recipe: str
) -> None:
    requirements = recipe.partition("  run:\n")[2].partition("\n\n")[0]
    conda = [line.strip().removeprefix("- ") for line in requirements.splitlines()]
    dependencies = [
        re.fullmatch(r"([\w-]+)(.*)", text).groups()  # type: ignore[union-attr]
        for text in project["dependencies"]  # type: ignore[union-attr]
    ]
    assert conda[0] == "python >=${{ python_min }}"
    assert conda[1:] == [f"{CONDA_NAMES.get(name, name)} {bound}" for name, bound in dependencies]


def test_changelog_has_the_version_of_the_package() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(hepgan.__version__)}\b", text, re.MULTILINE)
