"""Reference against generated: observables, histograms, scores, plots and the report.

Nothing is imported until it is asked for: ``hepgan.evaluate.judge`` loads what ``judge`` needs. ``compare`` is in its module
of that name.
"""

import importlib
from typing import Any

_PLACES = {
    "LayerGeometry": "geometry",
    "Observable": "observables",
    "Score": "scores",
    "Verdict": "verdict",
    "digit_scores": "digits",
    "judge": "verdict",
    "observables_for": "observables",
    "score": "metrics",
    "validation_distance": "metrics",
    "write_report": "report",
}

__all__ = list(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
