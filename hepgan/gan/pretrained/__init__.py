"""The trained generators that come with the package, a folder each: ``hepgan generate showers`` works after installing."""

import json
import lzma
import os
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def folders() -> dict[str, Path]:
    """Name -> folder, with ``gan.json`` and ``generator.safetensors.xz``."""
    return {path.parent.name: path.parent for path in sorted(FOLDER.glob("*/gan.json"))}


def find(folder: str | os.PathLike[str]) -> Path | None:
    """The folder of the trained GAN that ``folder`` names, where there is no folder of that name here."""
    return None if Path(folder).exists() else folders().get(os.fspath(folder))


def files(folder: Path) -> tuple[Path, Path]:
    """The two files of such a folder: ``gan.json``, and the packed weights."""
    return folder / "gan.json", folder / "generator.safetensors.xz"


def weights(folder: Path) -> bytes:
    """The safetensors file of such a folder."""
    return lzma.decompress(files(folder)[1].read_bytes())


def scores(name: str) -> dict[str, Any]:
    """The ``scores.json`` of the run that it comes from, and under ``parameters`` the sizes of its networks."""
    found: dict[str, Any] = json.loads((folders()[name] / "scores.json").read_text("utf-8"))
    return found
