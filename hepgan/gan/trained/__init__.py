"""The trained generators that come with the package, a folder each: ``hepgan generate showers`` works after installing."""

import json
import lzma
from pathlib import Path
from typing import Any

PLACE = Path(__file__).parent


def trained() -> dict[str, Path]:
    """Name -> folder, with ``gan.json`` and ``generator.safetensors.xz``."""
    return {path.parent.name: path.parent for path in sorted(PLACE.glob("*/gan.json"))}


def weights(folder: Path) -> bytes:
    """The safetensors file of such a folder."""
    return lzma.decompress((folder / "generator.safetensors.xz").read_bytes())


def scores(name: str) -> dict[str, Any]:
    """The ``scores.json`` of the run that it comes from, and under ``parameters`` the sizes of its networks."""
    found: dict[str, Any] = json.loads((trained()[name] / "scores.json").read_text("utf-8"))
    return found
