"""Run files that come with the package; ``hepgan presets`` lists them. Needs no torch, so that listing is fast."""

import json
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from hepgan.config import short_repr
from hepgan.errors import RunError, did_you_mean

PRESET_SCORES = Path(__file__).parent / "measured.json"


def presets() -> dict[str, str]:
    """Returns the descriptions of the run files that come with the package, by name."""
    return {
        name: str(tomllib.loads(preset_text(name)).get("description", ""))
        for name in preset_names()
    }


def preset_names() -> list[str]:
    """Returns the names of the run files that come with the package."""
    files = resources.files(__name__).iterdir()
    return sorted(p.name.removesuffix(".toml") for p in files if p.name.endswith(".toml"))


def preset_text(name: str) -> str:
    """Returns the run file of a preset.

    Raises:
        RunError: there is no such preset.
    """
    if name not in (known := preset_names()):
        hint = did_you_mean(name, known) or f"; the presets are {', '.join(known)}"
        raise RunError(f"there is no preset {short_repr(name)}{hint}")
    return resources.files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8")


def preset_scores() -> dict[str, Any]:
    """Returns the measured scores of the presets, by name, as written by ``benchmarks/presets.py --publish``."""
    scores: dict[str, Any] = json.loads(PRESET_SCORES.read_text(encoding="utf-8"))
    return scores
