"""Layout strings: networks written as one line, in TMVA's words and hepgan's.

What to use when: ``parse`` or ``parse_gan`` for a string, ``trace`` for its shapes and sizes, ``network.build`` for the
torch module, ``table.summary`` for what the command line shows, ``named.named`` for layouts that are published.
"""

from hepgan.layout.parser import parse, parse_gan
from hepgan.layout.shapes import LayerInfo, trace
from hepgan.layout.spec.base import Layout

__all__ = ["LayerInfo", "Layout", "parse", "parse_gan", "trace"]
