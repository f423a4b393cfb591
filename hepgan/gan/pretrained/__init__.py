"""Pretrained GANs that come with the package, one folder each: ``hepgan generate showers`` works after installation."""

import json
import lzma
import os
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def folders() -> dict[str, Path]:
    """Returns the folders by name; each holds ``gan.json`` and ``generator.safetensors.xz``."""
    return {path.parent.name: path.parent for path in sorted(FOLDER.glob("*/gan.json"))}


def find(folder: str | os.PathLike[str]) -> Path | None:
    """Returns the folder of the pretrained GAN called ``folder``; ``None`` if there is none, or if such a path exists."""
    return None if Path(folder).exists() else folders().get(os.fspath(folder))


def files(folder: Path) -> tuple[Path, Path]:
    """Returns the paths of ``gan.json`` and of the compressed weights."""
    return folder / "gan.json", folder / "generator.safetensors.xz"


def weights(folder: Path) -> bytes:
    """Returns the content of the safetensors file, decompressed."""
    return lzma.decompress(files(folder)[1].read_bytes())


def scores(name: str) -> dict[str, Any]:
    """Returns the ``scores.json`` of a GAN's run, with the parameter counts of its networks under ``parameters``."""
    content: dict[str, Any] = json.loads((folders()[name] / "scores.json").read_text("utf-8"))
    return content
