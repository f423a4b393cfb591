"""The tutorials run from top to bottom, in a short form, and store what they show."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

TUTORIALS = Path(__file__).parents[1] / "docs" / "tutorials"
SHORT = {
    "calogan": "STEPS = 20\nSHOWERS = 200",
    "coffea": "EVENTS = 60\nWORKERS = 1",
    "digits": "EPOCHS = 1\nTEST = 500",
    "geant4": "EVENTS = 1000",
    "own-detector": "EVENTS = 300\nFIT = '4'",
    "published-sample": "EVENTS = 200",
    "weights": (
        "EVENTS = 1000\nOPTIONS = \"--set encoding.steps=[{step='autoregressive',steps=20}]\""
    ),
}
"""Parameters of each tutorial for a run of a few seconds."""

LARGEST = 250_000
"""Size of a notebook with its outputs [bytes]."""


def notebook(name: str) -> Any:
    return nbformat.read(TUTORIALS / f"{name}.ipynb", as_version=4)


def test_every_tutorial_has_a_short_form() -> None:
    assert set(SHORT) == {path.stem for path in TUTORIALS.glob("*.ipynb")}


@pytest.mark.parametrize("name", SHORT)
def test_tutorial_runs_from_top_to_bottom(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    book = notebook(name)
    (parameters,) = (c for c in book.cells if c.metadata.get("tags") == ["parameters"])
    parameters.source = SHORT[name]
    NotebookClient(book, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()


@pytest.mark.parametrize("name", SHORT)
def test_stored_outputs_are_small_complete_and_from_no_particular_machine(name: str) -> None:
    text = (TUTORIALS / f"{name}.ipynb").read_text(encoding="utf-8")
    assert len(text) < LARGEST
    assert not {"/home/", "/tmp/", "/root/", "/work/"} & set(text.replace('"', "/ ").split())
    for cell in json.loads(text)["cells"]:
        if cell["cell_type"] == "markdown":
            continue
        assert cell["execution_count"] is not None
        kinds = {key for output in cell["outputs"] for key in output.get("data", ())}
        assert "error" not in {output["output_type"] for output in cell["outputs"]}
        assert "image/png" not in kinds or cell["metadata"]["alt"]
