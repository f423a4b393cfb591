"""TMVA's option strings and classes for a GAN: MethodGAN's options as a ``RunConfig``, and a ``Factory`` for macros.

| to | use |
|---|---|
| convert an option string to a run | ``book`` |
| port a macro line by line | ``Factory``, ``DataLoader``, ``Types``, ``Tools`` |
| list the options and what they do | ``help_text`` |
"""

from typing import NoReturn

from hepgan.errors import RunError
from hepgan.tmva.booking import Booking, asks_for_help, book, help_text
from hepgan.tmva.facade import DataLoader, Factory, Tools, Types

__all__ = [
    "Booking",
    "DataLoader",
    "Factory",
    "Tools",
    "Types",
    "asks_for_help",
    "book",
    "help_text",
]

_REPLACEMENTS = {
    "Reader": "hepgan.GAN.load(RUN_FOLDER).sample(…) generates events, and hepgan.evaluation compares samples",
    "TMVAGui": "EvaluateAllMethods writes report.html, which a browser shows",
    "CrossValidation": "there is no cross validation; EvaluateAllMethods gives errors and a baseline",
    "PyMethodBase": "no interpreter has to be started; remove the line",
    "Experimental": "hepgan.read and the loaders give batches of events",
}


def __getattr__(name: str) -> NoReturn:
    if name in _REPLACEMENTS:
        raise RunError(f"TMVA.{name}: {_REPLACEMENTS[name]}")
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
