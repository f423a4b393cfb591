"""The site builds without warnings, and its reference pages agree with the code."""

import importlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Literal

import click
import pytest
import uproot

import hepgan
from hepgan.cli import main
from hepgan.gan.training.objectives import OBJECTIVES
from hepgan.layout import parse
from hepgan.layout.spec.base import LAYERS
from hepgan.pipeline import as_toml, load, presets

ROOT = Path(__file__).parents[1]
NUMBERS = {"rate": "0.5", "epsilon": "0.5", "factor": "0.5"}


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sections(page: str, mark: str) -> dict[str, str]:
    """Returns the text under each heading of one level."""
    parts = re.split(rf"^{mark} (.*)$", page, flags=re.MULTILINE)[1:]
    return {name.strip("`"): text for name, text in zip(parts[::2], parts[1::2], strict=True)}


def keys(text: str) -> set[str]:
    return set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))


def plain(table: dict[str, Any], where: str = "") -> dict[str, set[str]]:
    """Returns the keys of each table of a run file, without subtables."""
    keys_by_table = {where: {key for key, value in table.items() if not isinstance(value, dict)}}
    for key, value in table.items():
        if isinstance(value, dict):
            named = "<name>" if where in ("schema.fields", "schema.conditions") else key
            named = "<name>" if where in ("geometry", "encoding.conditions") else named
            keys_by_table |= plain(value, f"{where}.{named}" if where else named)
    return keys_by_table


@pytest.mark.parametrize("preset", presets())
def test_every_key_of_a_written_run_file_is_in_the_reference(
    reference: ModuleType, preset: str
) -> None:
    pages = sections(reference.run_file(), "##")
    for where, expected in plain(tomllib.loads(as_toml(load(preset)))).items():
        text = pages.get(f"[{where}]" if where else "Top-level keys", "")
        if same := re.search(r"As `(\[.*\])`", text):
            text = pages[same[1]]
        assert expected - {"phases"} <= keys(text), where


def test_every_form_of_a_word_in_the_reference_is_parsed(reference: ModuleType) -> None:
    shown = sections(reference.words(), "###")
    assert len(shown) == len(LAYERS)
    tried = 0
    for name, word in LAYERS.items():
        if not name or "network" in word.spellings()[0] or name in ("FROM", "ACT"):
            continue
        for form in re.findall(rf"^({name}\b.*)$", shown[name].split("```")[1], re.MULTILINE):
            head, *fields = form.removesuffix("[|activation]").split("|")
            text = "|".join([head, *(NUMBERS.get(field, "1") for field in fields)])
            assert isinstance(parse(text).words[0], word), text
            tried += 1
    assert tried > 40


def test_defaults_in_the_reference_are_those_of_the_parser(reference: ModuleType) -> None:
    text = sections(reference.words(), "###")["CONV"]
    rows = re.findall(r"^\| ([\w ]+) \| `(\d+)` \|", text, re.MULTILINE)
    assert dict(rows) == {"pad height": "0", "pad width": "0", "groups": "1"}
    (word,) = parse("CONV|4|3|3|1|1")
    assert (word.pad_height, word.pad_width, word.groups) == (0, 0, 1)


def test_every_objective_is_in_the_reference(reference: ModuleType) -> None:
    assert set(re.findall(r"^\| `([\w-]+)`", reference.objectives_table(), re.MULTILINE)) == set(
        OBJECTIVES
    )


def test_every_placeholder_for_generated_text_is_filled(reference: ModuleType) -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="page.md"))
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")]
    assert set(re.findall("<!-- (.*) -->", "\n".join(pages))) == set(reference.PAGES)
    config = {"repo_url": "https://example.org"}
    for markdown in pages:
        text = reference.on_page_markdown(markdown, config=config, page=page, files=None)
        assert "<!--" not in text
        assert "](../" not in text


def test_a_list_of_choices_names_them(reference: ModuleType) -> None:
    assert reference.kind(tuple[Literal["rows", "columns"], ...]) == "list of `rows` or `columns`"


@pytest.mark.parametrize("page", ["index.md", "tmva.md"])
def test_tutorials_are_notebooks_in_the_repository_and_pages_on_the_site(
    reference: ModuleType, page: str
) -> None:
    markdown = (ROOT / "docs" / page).read_text(encoding="utf-8")
    notebooks = re.findall(r"\]\((tutorials/[^)]*)\)", markdown)
    assert notebooks
    assert all((ROOT / "docs" / notebook).is_file() for notebook in notebooks)
    file = SimpleNamespace(file=SimpleNamespace(src_uri=page))
    text = reference.on_page_markdown(
        markdown, config={"repo_url": "https://example.org"}, page=file, files=None
    )
    assert text.count(".ipynb)") == 0
    assert all(f"]({notebook.removesuffix('.ipynb')}.md)" in text for notebook in notebooks)


def documented(page: str) -> list[str]:
    """Returns the objects of which a page has the reference, as the site's generator finds them."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"^::: (\S+)$", text, re.MULTILINE)


def objects(names: list[str]) -> list[Any]:
    return [
        getattr(importlib.import_module(module), attribute)
        for module, _, attribute in (name.rpartition(".") for name in names)
    ]


def test_every_public_name_is_in_the_reference_once() -> None:
    found = objects(documented("api.md"))
    assert len(found) == len(hepgan.__all__)
    for name in hepgan.__all__:
        assert any(getattr(hepgan, name) is one for one in found), name


@pytest.mark.parametrize("package", ["evaluation", "layout", "pipeline", "processors", "tmva"])
def test_every_public_function_and_class_of_a_package_is_in_the_reference(package: str) -> None:
    module = importlib.import_module(f"hepgan.{package}")
    found = objects(documented("api.md") + documented("api-packages.md"))
    for name in module.__all__:
        if callable(value := getattr(module, name)):
            assert any(value is one for one in found), name


def test_quick_start_python_runs_unchanged(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    block = page.split("```python\n")[1].split("```")[0]
    subprocess.run([sys.executable, "-c", block], check=True, cwd=tmp_path)
    with uproot.open(tmp_path / "fifty.root") as file:
        energy = file["showers"]["energy"].array(library="np")
    assert energy.tolist() == [50.0] * 1000


def test_minimal_run_file_is_valid(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "run-file.md").read_text(encoding="utf-8")
    path = tmp_path / "minimal.toml"
    path.write_text(page.split("```toml\n")[1].split("```")[0])
    assert load(path).schema.features == 784


def commands_of(page: str) -> list[str]:
    """Returns the commands of hepgan in blocks and lines of code."""
    blocks = re.findall(r"```(?:sh|bash|console)\n(.*?)```", page, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page, flags=re.DOTALL))
    found = [re.search(r"(?:^|[ /])(hepgan [a-z].*)", text) for text in (*lines, *inline)]
    return [match[1].replace(r"\|", "|") for match in found if match]


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_every_command_in_the_documentation_has_valid_options(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hepgan.plugins.import_plugins", lambda names, folder: None)
    for text in commands_of(path.read_text(encoding="utf-8")):
        name, *arguments = shlex.split(text, comments=True)[1:]
        assert name in main.commands, text
        try:
            main.commands[name].make_context(name, arguments)
        except click.MissingParameter:
            continue


def test_citation_names_the_version_of_the_package() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {hepgan.__version__}\n" in citation
    assert f"version = {{{hepgan.__version__}}}" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_site_builds_without_warnings(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == ""
    pages = list((tmp_path / "site").rglob("index.html"))
    sources = [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "tutorials").glob("*.ipynb")]
    assert len(pages) == len(sources)
    for page in pages:
        loaded = re.findall(
            r"<(?:script|link rel=.stylesheet.|img)[^>]*https?://", page.read_text()
        )
        assert not loaded, page
