"""Layout strings: networks written as one line, in TMVA's words and hepgan's own.

``parse`` and ``parse_gan`` read a string, ``trace`` computes shapes and parameter counts, ``build`` returns the torch module,
``summary.summarize`` the table of the command line, ``zoo.look_up`` a published layout. ``LayerSpec``, ``register_layer`` and
``register_builder`` add a layer word.
"""

from typing import TYPE_CHECKING, Any

from hepgan.layout.parser import parse, parse_gan
from hepgan.layout.shapes import LayerInfo, trace
from hepgan.layout.spec.base import LayerSpec, Layout, register_builder, register_layer

if TYPE_CHECKING:
    from hepgan.layout.nn.network import build

__all__ = [
    "LayerInfo",
    "LayerSpec",
    "Layout",
    "build",
    "parse",
    "parse_gan",
    "register_builder",
    "register_layer",
    "trace",
]


def __getattr__(name: str) -> Any:
    if name == "build":  # on first use, since it imports torch
        from hepgan.layout.nn.network import build

        return build
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
