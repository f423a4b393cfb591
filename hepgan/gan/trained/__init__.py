"""The trained generators that come with the package, a folder each: ``hepgan generate showers`` works after installing."""

import lzma
from pathlib import Path

PLACE = Path(__file__).parent


def trained() -> dict[str, Path]:
    """Name -> folder, with ``gan.json`` and ``generator.safetensors.xz``."""
    return {path.parent.name: path.parent for path in sorted(PLACE.glob("*/gan.json"))}


def weights(folder: Path) -> bytes:
    """The safetensors file of such a folder."""
    return lzma.decompress((folder / "generator.safetensors.xz").read_bytes())
