"""TMVA's strings and words for a GAN: option strings of MethodGAN to a ``Run``, and a ``Factory`` to carry macros over.

| to | use |
|---|---|
| turn an option string into a run | ``book`` |
| carry a macro over line by line | ``Factory``, ``DataLoader``, ``Types``, ``Tools`` |
| know what each option does here | ``help_text`` |
"""

from typing import NoReturn

from hepgan.errors import RunError
from hepgan.tmva.booking import Booking, book, help_text
from hepgan.tmva.facade import DataLoader, Factory, Tools, Types

__all__ = ["Booking", "DataLoader", "Factory", "Tools", "Types", "book", "help_text"]

_ELSEWHERE = {
    "Reader": "hepgan.load_gan(RUN_FOLDER).sample(n=…) generates events, and hepgan.evaluation compares samples",
    "TMVAGui": "EvaluateAllMethods writes report.html, which a browser shows",
    "CrossValidation": "there is no cross validation; EvaluateAllMethods gives errors and a baseline",
    "PyMethodBase": "nothing has to be started; leave the line out",
    "Experimental": "hepgan.read and the loaders give batches of events",
}


def __getattr__(name: str) -> NoReturn:
    if name in _ELSEWHERE:
        raise RunError(f"TMVA.{name}: {_ELSEWHERE[name]}")
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
