"""Generative adversarial networks for high-energy physics, straight from ROOT files.

| to | use |
|---|---|
| train from a run file, end to end | ``load_run``, ``hepgan.pipeline.run`` |
| generate events with a trained GAN | ``load_gan``, ``GAN.sample`` |
| read and write ROOT | ``read``, ``write``, ``Schema`` |
| feed any network from ROOT | ``Encoding``, ``UnsupervisedLoader``, ``StreamingLoader`` |
| write networks as layouts | ``parse``, ``parse_gan``, ``build`` |
| compare samples | ``compare``, ``score``, ``evaluate`` |
"""

import importlib
from typing import Any

_PLACES = {
    "Encoding": ("hepgan.data.encoding.encoding", "Encoding"),
    "EncodingSettings": ("hepgan.data.encoding.encoding", "EncodingSettings"),
    "GAN": ("hepgan.gan.model", "GAN"),
    "GANSettings": ("hepgan.gan.networks", "GANSettings"),
    "HepganError": ("hepgan.errors", "HepganError"),
    "Layout": ("hepgan.layout", "Layout"),
    "RunConfig": ("hepgan.pipeline", "RunConfig"),
    "Schema": ("hepgan.data.schema", "Schema"),
    "Score": ("hepgan.evaluation", "Score"),
    "StreamingLoader": ("hepgan.data.loaders.in_memory", "StreamingLoader"),
    "TrainSettings": ("hepgan.gan.training.settings", "TrainSettings"),
    "UnsupervisedLoader": ("hepgan.data.loaders.in_memory", "UnsupervisedLoader"),
    "build": ("hepgan.layout.nn.network", "build"),
    "compare": ("hepgan.evaluation.histograms", "compare"),
    "evaluate": ("hepgan.evaluation", "evaluate"),
    "load_gan": ("hepgan.gan.serialization", "load_gan"),
    "load_run": ("hepgan.pipeline", "load"),
    "observables_for": ("hepgan.evaluation", "observables_for"),
    "parse": ("hepgan.layout", "parse"),
    "parse_gan": ("hepgan.layout", "parse_gan"),
    "read": ("hepgan.data.io.reader", "read"),
    "score": ("hepgan.evaluation", "score"),
    "write": ("hepgan.data.io.writer", "write"),
}

__all__ = list(_PLACES)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'hepgan' has no attribute '{name}'")
    module, attribute = _PLACES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
