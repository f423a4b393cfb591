"""Blocks of run files and of Python in the README and on the site are valid as they are.

Blocks of shell are checked in ``test_docs``, those of pages about plugins run in ``test_write_your_own``, and tutorials in
``test_tutorials``.
"""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
import pytest
import torch
import uproot

import hepgan
from hepgan import processors
from hepgan.config import to_table
from hepgan.data.io import reader
from hepgan.pipeline import load
from hepgan.pipeline.config import of_table

ROOT = Path(__file__).parents[1]


class Block(NamedTuple):
    """Block of code: its page, its number on the page among those of its language, and its text."""

    page: str
    number: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}-{self.number}"


def blocks(language: str) -> list[Block]:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [
        Block(path.name, number, text)
        for path in pages
        for number, text in enumerate(
            re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        )
    ]  # fmt: skip


def merged(table: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Returns ``table`` with the values of a block, which replace lists, and choices that exclude each other."""
    result = dict(table)
    for key, value in other.items():
        both = isinstance(value, dict) and isinstance(table.get(key), dict)
        result[key] = merged(table[key], value) if both else value
    if "candidates" in other:
        result.pop("steps", None)
    return result


PLUGINS = "plugins = "
"""The pages about plugins are run with their plugins."""


@pytest.mark.parametrize(
    "block", [b for b in blocks("toml") if not b.text.startswith(PLUGINS)], ids=str
)
def test_blocks_of_run_files_have_valid_keys_and_values(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with uproot.recreate("cells.root") as file:  # named by a geometry
        positions = {name: np.array([0.0, 10.0, 20.0]) for name in ("x", "y", "z")}
        file["cells"] = {**positions, "size": np.full(3, 10.0), "layer": np.zeros(3, int)}
    table = tomllib.loads(block.text)
    run = of_table(merged(base_of(block, table), {"gan": table} if "[" not in block.text else table))  # fmt: skip
    assert run.gan.layouts


def base_of(block: Block, table: dict[str, Any]) -> dict[str, Any]:
    """Returns the table of a preset that a block completes, without what the block replaces."""
    base = to_table(load("showers-angles" if "phi" in block.text else "showers-fast"))
    if "fields" in table.get("schema", {}):
        base["data"].pop("reflect", None)
    if isinstance(table.get("gan", {}).get("discriminator"), list):
        base["gan"].pop("discriminator_input", None)
    if "mmd" in block.text:
        base["train"] = {"batch_size": 64}
        base["gan"] = {}
    if "rotate" in table.get("data", {}):
        base["data"].pop("reflect", None)
        base["schema"]["fields"].pop("layer_0")
        base["geometry"] = {
            name: {"r_edges": list(range(size + 1))}
            for name, size in (("layer_1", 12), ("layer_2", 6))
        }
    for name, layer in table.get("geometry", {}).items():
        shape = [4, len(layer["r_edges"]) - 1] if "r_edges" in layer else [3]
        if "cell" not in layer:
            base["schema"]["fields"][name] = {"shape": shape, "unit": "MeV"}
            base["geometry"].pop(name, None)
            base["data"].pop("reflect", None)
    return base


def test_a_wrong_key_in_a_block_is_found() -> None:
    for text in ("[train]\nr3 = 1.0", "[gan]\ngenerator = 'DENS|N|LINEAR'"):
        with pytest.raises(hepgan.HepganError):
            of_table(merged(to_table(load("showers-fast")), tomllib.loads(text)))


def sampled(fields: tuple[str, ...]) -> dict[str, Any]:
    """Returns showers of the sample, generated ones, and their schema and geometry."""
    run = load("showers-fast")
    schema = reader.resolve(list(run.data.files), run.schema, tree=run.data.tree)
    schema = hepgan.Schema({name: schema.fields[name] for name in fields}, schema.conditions)
    reference = reader.read(list(run.data.files), schema, tree=run.data.tree)
    geometry = {name: run.geometry[name] for name in fields}
    return {
        "reference": reference[:300], "generated": reference[300:600],
        "schema": schema, "geometry": geometry,
    }  # fmt: skip


def coffea(scope: dict[str, Any]) -> None:
    class Counted(scope["MyProcessor"]):  # type: ignore[misc]
        def process(self, events: ak.Array) -> dict[str, int]:
            super().process(events)
            return {"events": len(events)}

        def postprocess(self, accumulator: Any) -> Any:
            return accumulator

    with uproot.recreate("events.root") as file:
        file["Events"] = {"GenPart_energy": np.array([10.0, 50.0])}
    with processors.open_runner() as run:
        assert run({"all": {"files": {"events.root": "Events"}}}, Counted())["events"] == 2


def objective(scope: dict[str, Any]) -> None:
    x = torch.randn(3, 50, 4)
    batch = hepgan.Batch(x[0, :, 0], x[1, :, 0], x[0], x[1], x[2], x[2, :, :1])
    assert scope["SlicedWasserstein"].generator(batch) > 0


class Page(NamedTuple):
    """Names that a page's code takes as given, what replaces text that the reader replaces, and a check afterwards."""

    names: Callable[[], dict[str, Any]] = dict
    replaced: tuple[str, str] = ("", "")
    check: Callable[[dict[str, Any]], None] = lambda scope: None


def processor_base() -> dict[str, Any]:
    module = pytest.importorskip("coffea.processor")
    return {"ProcessorABC": module.ProcessorABC}


PAGES = {
    "README.md": Page(),
    "index.md": Page(),
    "coffea.md": Page(processor_base, ("runs/showers", "showers-fast"), coffea),
    "ensembles.md": Page(lambda: {"hepgan": hepgan}, ('"runs/five", member=2', '"showers-fast"')),
    "report.md": Page(lambda: sampled(("layer_2",))),
    "own-objective.md": Page(check=objective),
}
"""Pages with Python. A member of an ensemble is loaded in ``test_ensemble``."""


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_blocks_of_python_run(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "hepgan.gan.training.objectives.OBJECTIVES",
        dict(hepgan.gan.training.objectives.OBJECTIVES),
    )
    page = PAGES[block.page]
    text = block.text.replace(*page.replaced) if page.replaced[0] else block.text
    if page.replaced[0]:
        assert text != block.text
    scope = {"__name__": "block", **page.names()}
    exec(compile(text, str(block), "exec"), scope)
    page.check(scope)
