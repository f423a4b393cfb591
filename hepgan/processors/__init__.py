"""coffea processors that read, simulate and compare as the rest of hepgan does: on a laptop, on Dask or on a batch farm.

| to | use |
|---|---|
| simulate showers for the particles of events | ``Simulate`` |
| … inside your own processor | ``GeneratorWrapper`` |
| read a fileset into columns, for an ``UnsupervisedLoader`` | ``collect``, or ``Collect`` |
| fill histograms of reference and generated events | ``Compare`` |
| return, fill or write the events of ``Simulate`` and ``Collect`` | ``ReturnFields``, ``FillHistograms``, ``WriteFiles`` |
| ship the GAN with the job instead of installing it on every worker | ``embed`` |
| simulate a list of files into one, with an executor chosen by name | ``simulate``, ``open_runner`` |
| convert files of other formats on the workers of an executor | ``convert``, ``open_mapper`` |

Processors are stateless and their results add. For one seed the results are identical, bit for bit, on machines of one kind,
for every executor, chunk size, order of files and number of workers.

Names are imported on first use: coffea takes a second to import, and torch is needed only to simulate.
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
