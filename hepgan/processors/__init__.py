"""coffea processors: the same reading, simulating and comparing as elsewhere in hepgan, on a laptop, on Dask, on a batch farm.

| to | use |
|---|---|
| have showers for the particles of events, in a job of its own | ``Simulate`` |
| … or inside your own processor | ``GeneratorWrapper`` |
| read a fileset into columns, for an ``UnsupervisedLoader`` | ``collect``, or ``Collect`` |
| histograms of reference and generated events | ``Compare`` |
| bring back, fill or write what ``Simulate`` and ``Collect`` make | ``Columns``, ``Histograms``, ``Parts`` |
| let a GAN travel with the job instead of lying on every worker | ``carry`` |
| simulate a list of files into one, with an executor by its name | ``simulate``, ``running`` |
| convert files of other formats on the workers of an executor | ``convert``, ``spreading`` |

Processors keep no state; results add. For one seed they are the same bit for bit on machines of one kind, whatever the
executor, the size of chunks, the order of files and the number of workers.

Nothing is imported until it is asked for: coffea takes a second, and torch is only needed where showers are made.
"""

import importlib
from typing import Any

from hepgan.errors import RunError

_PLACES = {
    "EmbeddedModel": "model_cache",
    "Collect": "collection",
    "ReturnFields": "outputs",
    "Compare": "comparison",
    "GeneratorWrapper": "generator_wrapper",
    "FillHistograms": "outputs",
    "WriteFiles": "outputs",
    "ChunkResults": "chunk_results",
    "Simulate": "simulation",
    "embed": "model_cache",
    "collect": "collection",
    "convert": "conversion",
    "fileset_of": "executors",
    "open_runner": "executors",
    "simulate": "simulate_files",
    "open_mapper": "executors",
}

__all__ = list(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("coffea"):
            raise RunError("processors need coffea: pip install 'hepgan[coffea]'") from error
        raise


def __dir__() -> list[str]:
    return __all__
