"""Evaluation of generated events against a reference: observables, histograms, scores, plots and the report.

Names are imported on first use, so that importing this package loads neither torch nor matplotlib.
"""

import importlib
from typing import Any

_PLACES = {
    "LayerGeometry": "observables.geometry",
    "Observable": "observables.standard",
    "Score": "metrics.scores",
    "Evaluation": "report.evaluation",
    "digit_scores": "metrics.digits",
    "ensemble_bands": "metrics.ensembles",
    "evaluate": "report.evaluation",
    "observables_for": "observables.standard",
    "score": "metrics.compute",
    "register_metric": "metrics.scores",
    "register_observable": "observables.base",
    "validation_distance": "metrics.compute",
    "write_report": "report.page",
}

__all__ = list(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
