"""Generative adversarial networks for high-energy physics, straight from ROOT files.

| to | use |
|---|---|
| train from a run file, end to end | ``load_run``, ``hepgan.run.run`` |
| generate events with a trained GAN | ``load_gan``, ``GAN.sample`` |
| read and write ROOT | ``read``, ``write``, ``Schema`` |
| feed any network from ROOT | ``Encoding``, ``UnsupervisedLoader``, ``StreamingLoader`` |
| write networks as layouts | ``parse``, ``parse_gan``, ``build`` |
| compare samples | ``compare``, ``score``, ``judge`` |
"""

import importlib
from typing import Any

_PLACES = {
    "Encoding": ("hepgan.data.encoding", "Encoding"),
    "EncodingSettings": ("hepgan.data.encoding", "EncodingSettings"),
    "GAN": ("hepgan.gan.model", "GAN"),
    "GANSettings": ("hepgan.gan.networks", "GANSettings"),
    "HepganError": ("hepgan.errors", "HepganError"),
    "Layout": ("hepgan.layout", "Layout"),
    "Run": ("hepgan.run", "Run"),
    "Schema": ("hepgan.data.schema", "Schema"),
    "Score": ("hepgan.evaluate", "Score"),
    "StreamingLoader": ("hepgan.data.loader", "StreamingLoader"),
    "TrainSettings": ("hepgan.gan.settings", "TrainSettings"),
    "UnsupervisedLoader": ("hepgan.data.loader", "UnsupervisedLoader"),
    "build": ("hepgan.layout.network", "build"),
    "compare": ("hepgan.evaluate.compare", "compare"),
    "judge": ("hepgan.evaluate", "judge"),
    "load_gan": ("hepgan.gan.checkpoint", "load_gan"),
    "load_run": ("hepgan.run", "load"),
    "observables_for": ("hepgan.evaluate", "observables_for"),
    "parse": ("hepgan.layout", "parse"),
    "parse_gan": ("hepgan.layout", "parse_gan"),
    "read": ("hepgan.data.root", "read"),
    "score": ("hepgan.evaluate", "score"),
    "write": ("hepgan.data.root", "write"),
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
