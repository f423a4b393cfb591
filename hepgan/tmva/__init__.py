"""TMVA's strings and words for a GAN: option strings of MethodGAN to a ``Run``, and a ``Factory`` to carry macros over.

| to | use |
|---|---|
| turn an option string into a run | ``book`` |
| carry a macro over line by line | ``Factory``, ``DataLoader``, ``Types`` |
| know what each option does here | ``help_text`` |
"""

from hepgan.tmva.booking import Booking, book, help_text
from hepgan.tmva.facade import DataLoader, Factory, Types

__all__ = ["Booking", "DataLoader", "Factory", "Types", "book", "help_text"]
