"""Layout strings: networks written as one line, in TMVA's words and hepgan's.

What to use when: ``parse`` or ``parse_gan`` for a string, ``trace`` for its shapes and sizes, ``build`` for the
torch module, ``summary.summarize`` for the table of the command line, ``zoo.look_up`` for published layouts.
"""

from typing import TYPE_CHECKING, Any

from hepgan.layout.parser import parse, parse_gan
from hepgan.layout.shapes import LayerInfo, trace
from hepgan.layout.spec.base import Layout

if TYPE_CHECKING:
    from hepgan.layout.nn.network import build

__all__ = ["LayerInfo", "Layout", "build", "parse", "parse_gan", "trace"]


def __getattr__(name: str) -> Any:
    if name == "build":  # on first use, since it imports torch
        from hepgan.layout.nn.network import build

        return build
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
