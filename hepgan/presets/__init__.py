"""Run files that come with the package; ``hepgan presets`` lists them. Needs no torch, so that listing is fast."""

import json
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from hepgan.config import short_repr
from hepgan.errors import RunError, did_you_mean

PRESET_SCORES = Path(__file__).parent / "measured.json"
BASELINES = Path(__file__).parent / "baselines.json"


class Recipe(NamedTuple):
    """Training of a published GAN.

    Attributes:
        events: Number of steps times batch size; several critic steps count as one.
        recipe: The same in its own terms.
        source: Paper or code that says so.
    """

    events: int
    recipe: str
    source: str


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


def baselines() -> dict[str, Recipe]:
    """Returns the recipes of the published GANs, by the name of their preset."""
    entries = json.loads(BASELINES.read_text(encoding="utf-8"))
    return {name: Recipe(**entry) for name, entry in entries.items()}


def recipe_fraction(name: str) -> str:
    """Returns the mark of a baseline's scores, the fraction of its recipe that they were measured after; empty for other presets.

    >>> recipe_fraction("bologan"), recipe_fraction("showers")
    ('0.6 % of its recipe', '')
    """
    if name not in (known := baselines()):
        return ""
    figures = preset_scores().get(name, {"steps": 0, "batch": 0})
    fraction = figures["steps"] * figures["batch"] / known[name].events
    return f"{100 * min(1.0, fraction):.1g} % of its recipe"
